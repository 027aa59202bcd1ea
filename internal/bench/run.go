package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// quietTimeout is how long a run waits without an arrival before sessions count as missing. The webhooks' delay is added.
const quietTimeout = 30 * time.Second

// run is one run of the command.
type run struct {
	opts         *Options
	out          io.Writer
	progress     *progress
	report       *Report
	nonce        string
	quietTimeout time.Duration

	sink     *sink
	folder   string // directory of the child's database and configuration; "" with a URL
	caFile   string // the certificate of the endpoints; "" if they speak HTTP
	server   subject
	webhooks []int64 // ids of those that the run has created
}

// Run measures a server according to opts. It prints the figures of each stage to stdout when the stage ends, or one JSON document at the
// end. It returns an error if something could not be measured, or if deliveries were missing or repeated. If ctx ends, it prints the figures
// so far and returns the errors so far.
func Run(ctx context.Context, opts *Options, stdout, stderr io.Writer) error {
	return newRun(opts, stdout, stderr).run(ctx)
}

func newRun(opts *Options, stdout, stderr io.Writer) *run {
	return &run{opts: opts, out: stdout, progress: newProgress(stderr), nonce: newNonce(), quietTimeout: quietTimeout + opts.Delay,
		report: &Report{StartedAt: time.Now().UTC(), Command: opts.Command, Problems: []string{}}}
}

func (r *run) run(ctx context.Context) error {
	err := r.prepare()
	if err == nil {
		err = r.stages(ctx)
	}
	if r.report.Interrupted = ctx.Err() != nil; r.report.Interrupted && errors.Is(err, ctx.Err()) {
		err = nil // the interruption is no error
	}
	if r.sink != nil && r.sink.unknown.Load() > 0 {
		r.problem("%d requests at the endpoints were not for sessions of this run", r.sink.unknown.Load())
	}
	err = errors.Join(err, r.server.ended(), r.cleanUp(context.WithoutCancel(ctx)))
	if r.opts.JSON {
		encoder := json.NewEncoder(r.out)
		encoder.SetIndent("", "  ")
		err = errors.Join(err, encoder.Encode(r.report))
	}
	if len(r.report.Problems) > 0 {
		err = errors.Join(err, errors.New(strings.Join(r.report.Problems, "; ")))
	}
	return err
}

// problem adds a problem to the report.
func (r *run) problem(format string, args ...any) {
	r.report.Problems = append(r.report.Problems, fmt.Sprintf(format, args...))
}

// prepare opens the sink and, unless a running server is measured, creates the directory of the server.
func (r *run) prepare() (err error) {
	if r.sink, err = newSink(r.nonce, r.opts.Endpoint, r.opts.TLS); err != nil {
		return err
	}
	if r.opts.URL == "" {
		if err := r.writeFiles(); err != nil {
			return err
		}
	}
	r.report.Machine = thisMachine(r.folder, r.opts.Version)
	r.report.Machine.Database = r.opts.Database
	if r.opts.RelayURL != "" {
		r.report.Machine.Database = "another program: whether it syncs what it acknowledges is not known here"
	}
	if !r.opts.JSON {
		r.report.Machine.print(r.out, r.opts.Command)
	}
	return nil
}

// writeFiles creates the directory of the child processes, with their configuration and the certificate that they trust.
func (r *run) writeFiles() (err error) {
	if r.folder, err = os.MkdirTemp(r.opts.Dir, "hookbolt-bench-"); err != nil {
		return err
	}
	if r.folder, err = filepath.Abs(r.folder); err != nil {
		return err
	}
	if r.opts.TLS != "" {
		r.caFile = filepath.Join(r.folder, "ca.pem")
		if err := os.WriteFile(r.caFile, r.sink.certificate, 0o600); err != nil {
			return err
		}
	}
	text, err := r.opts.Config(filepath.Join(r.folder, "hookbolt.db"), r.caFile)
	if err != nil {
		return err
	}
	return os.WriteFile(r.configFile(), []byte(text), 0o600)
}

func (r *run) configFile() string { return filepath.Join(r.folder, "config.toml") }

// cleanUp deletes the webhooks and the files of the run, and stops the server if the run has started it.
func (r *run) cleanUp(ctx context.Context) (err error) {
	if r.opts.URL != "" {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		for _, id := range r.webhooks {
			if _, e := r.server.api().call(ctx, http.MethodDelete, fmt.Sprintf("/v1/webhooks/%d", id), nil); e != nil {
				err = errors.Join(err, fmt.Errorf("webhook %d could not be deleted: %w", id, e))
			}
		}
	}
	r.server.end((*process).kill) // its database is not needed any more
	if r.sink != nil {
		r.sink.close()
	}
	switch {
	case r.folder == "":
	case r.opts.Keep:
		fmt.Fprintf(r.progress.w, "the database is in %s\n", cmp.Or(r.opts.Database, r.folder))
	default:
		err = errors.Join(err, os.RemoveAll(r.folder))
		if r.opts.Drop != nil {
			err = errors.Join(err, r.opts.Drop(ctx))
		}
	}
	return err
}

// stages runs the stages of the options one after another.
func (r *run) stages(ctx context.Context) error {
	if r.opts.URL == "" && r.opts.Relay > 0 {
		if err := r.relays(ctx); err != nil {
			return err
		}
	}
	if r.opts.RelayURL != "" {
		return r.otherSender(ctx)
	}
	if err := r.startServer(ctx); err != nil {
		return err
	}
	if r.opts.Scheduled > 0 {
		if err := r.fillScheduled(ctx); err != nil {
			return err
		}
	}
	if r.opts.Idle > 0 {
		r.idle(ctx)
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	if r.opts.Outage > 0 && ctx.Err() == nil {
		return r.outage(ctx)
	}
	return ctx.Err()
}

// relays measures the bare relay as it is, and with the settings of the server's runtime.
func (r *run) relays(ctx context.Context) (err error) {
	if r.report.Relay, err = r.relay(ctx, "bare relay", nil); err != nil {
		return err
	}
	if len(r.opts.TunedEnviron) > 0 {
		r.report.TunedRelay, err = r.relay(ctx, "tuned relay", r.opts.TunedEnviron)
	}
	return err
}

// relay measures a relay.
func (r *run) relay(ctx context.Context, name string, environ []string) (*Measured, error) {
	endpoint := r.sink.newEndpoint(0, 0)
	p, err := startProcess(ctx, r.opts, environ, "bench-relay", "-ca", r.caFile, endpoint.url)
	if err != nil {
		return nil, err
	}
	defer p.kill()
	g := r.generator([]string{p.url}, []target{{newUUID(), true}})
	defer g.client.CloseIdleConnections()
	g.batch = 1
	g.header.Del("Authorization")
	s := &subject{processes: []*process{p}}
	m := r.measure(ctx, stage{name: name, subject: s, source: g, span: window{min(r.opts.Warmup, time.Second), r.opts.Relay}})
	if !r.opts.JSON {
		m.printRelay(r.out, name)
	}
	return m, errors.Join(ctx.Err(), s.ended())
}

// generator returns one that posts events to servers, by their base URLs.
func (r *run) generator(servers []string, targets []target) *generator {
	g := &generator{header: http.Header{"Content-Type": {"application/x-ndjson"}}, client: newClient(r.opts.Connections), connections: r.opts.Connections,
		batch: r.opts.Batch, nonce: r.nonce, targets: targets, sessions: usualSession}
	for _, url := range servers {
		g.urls = append(g.urls, url+"/v1/events")
	}
	if r.opts.Token != "" {
		g.header.Set("Authorization", "Bearer "+r.opts.Token)
	}
	return g
}

// startServer starts the processes of the server, unless a running one is measured, and waits until all are ready.
func (r *run) startServer(ctx context.Context) error {
	urls := []string{strings.TrimSuffix(r.opts.URL, "/")}
	if r.opts.URL == "" {
		urls = nil
		for range r.opts.Processes {
			p, err := startProcess(ctx, r.opts, nil, "serve", "-config", r.configFile())
			if err != nil {
				return err
			}
			r.server.processes, urls = append(r.server.processes, p), append(urls, p.url)
		}
	}
	for _, url := range urls {
		a := &api{url: url, token: r.opts.Token, client: newClient(2)}
		r.server.apis = append(r.server.apis, a)
		if err := a.awaitReady(ctx); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
	}
	return nil
}

// idle measures the idle server.
func (r *run) idle(ctx context.Context) {
	began, from := time.Now(), r.server.read(ctx)
	stopProgress := r.progress.follow("idle")
	sleep(ctx, r.opts.Idle)
	stopProgress()
	to, seconds := r.server.read(context.WithoutCancel(ctx)), time.Since(began).Seconds()
	r.report.Idle = &Idle{Seconds: seconds, CPU: ratio(to.since(from, cpuSeconds), seconds/100), AnonymousMemory: to.get(anonymous), Heap: to.get(heapBytes)}
	if !r.opts.JSON {
		r.report.Idle.print(r.out)
	}
}

// subscribe creates n webhooks, each with its own content and its own endpoint. If retries is not nil, it is their retry schedule; otherwise
// they use the server's.
func (r *run) subscribe(ctx context.Context, n int, open func(i int) (e *endpoint, expected bool), retries []string) (ids []int64, targets []target, err error) {
	for i := range n {
		e, expected := open(i)
		t := target{newUUID(), expected}
		settings := map[string]any{"name": "bench " + r.nonce, "url": e.url, "content_id": t.contentID, "delay": int64(e.delay / time.Second),
			"allow_networks": []string{"127.0.0.0/8"}}
		if r.opts.Transform != "" { // the endpoints need two fields
			settings["transform"] = ". as $payload | (" + r.opts.Transform + "\n) + ($payload | {custom_id, session_end_date})"
		}
		if retries != nil {
			settings["retry_schedule"] = retries
		}
		id, err := r.server.api().createWebhook(ctx, settings)
		if err != nil {
			return nil, nil, err
		}
		r.webhooks = append(r.webhooks, id)
		ids, targets = append(ids, id), append(targets, t)
	}
	return ids, targets, nil
}

// load measures full speed and half of it, or only the rate of the options.
func (r *run) load(ctx context.Context) error {
	failing, slow := r.opts.share(r.opts.Failing), r.opts.share(r.opts.Slow)
	_, targets, err := r.subscribe(ctx, r.opts.Webhooks, func(i int) (*endpoint, bool) {
		slowBy := time.Duration(0)
		if i >= failing && i < failing+slow {
			slowBy = r.opts.SlowBy
		}
		e := r.sink.newEndpoint(r.opts.Delay, slowBy)
		if i < failing {
			e.status.Store(http.StatusInternalServerError)
		}
		return e, i >= failing
	}, nil)
	if err != nil {
		return err
	}
	g := r.generator(r.server.urls(), targets)
	defer g.client.CloseIdleConnections()
	return r.loads(ctx, g, float64(r.opts.Webhooks-failing)/float64(r.opts.Webhooks))
}

// loads measures full speed and half of it, or only the rate of the options. expected is the share of the sessions whose deliveries are to arrive.
func (r *run) loads(ctx context.Context, g *generator, expected float64) error {
	span := window{r.opts.Warmup, r.opts.Duration}
	rate := r.opts.Rate
	if rate == 0 {
		r.report.FullSpeed = r.measure(ctx, stage{name: "full speed", subject: &r.server, source: g, span: span})
		if !r.opts.JSON {
			r.report.FullSpeed.print(r.out, "full speed")
		}
		if ctx.Err() != nil || r.server.ended() != nil {
			return ctx.Err()
		}
		// A server can accept more than it delivers only for a while: use the rate that it can keep.
		rate = r.report.FullSpeed.AcceptedSessions / 2
		if expected > 0 {
			rate = min(rate, r.report.FullSpeed.Sustained/2/expected)
		}
		if rate == 0 {
			return errors.New("nothing was delivered at full speed, so half of it cannot be measured")
		}
	}
	title := "steady rate"
	if r.opts.Rate == 0 {
		title = "half of full speed"
	}
	r.report.Steady = r.measure(ctx, stage{title, &r.server, g, rate, span})
	if !r.opts.JSON {
		r.report.Steady.print(r.out, title)
	}
	return nil
}
