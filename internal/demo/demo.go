// Package demo demonstrates hookbolt: it starts a server with a temporary database and some endpoints, posts recorded sessions to the API,
// and checks that the expected webhooks arrive.
//
// It uses the server only through the API. It does not know commands and flags.
package demo

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"hookbolt/internal/client"
	"hookbolt/internal/config"
	"hookbolt/internal/receiver"
	"hookbolt/internal/server"
)

// pace is the speed of the demo. Tests use a faster one.
type pace struct {
	// factor is how many times faster than recorded the events are posted, and how many times shorter the delays of webhooks are.
	factor int64
	// between is the time from the start of one session to the start of the next.
	between time.Duration
	// ahead is how long before its time an event is posted. So on a slow machine, too, the same events are stored when a webhook is due.
	ahead time.Duration
	// arrivalTimeout is how long to wait for webhooks after the last event.
	arrivalTimeout time.Duration
}

var defaultPace = pace{factor: 10, between: 300 * time.Millisecond, ahead: 250 * time.Millisecond, arrivalTimeout: 10 * time.Second}

// Options are the settings of a demo.
type Options struct {
	// Sessions has the recorded sessions, as files NAME.ndjson.
	Sessions fs.FS
	// Keep keeps the server running afterwards, until the context ends.
	Keep           bool
	Stdout, Stderr io.Writer

	pace pace
}

// Run plays the sessions and returns an error if a webhook was missing, wrong or unexpected.
func Run(ctx context.Context, o Options) error {
	if o.pace == (pace{}) {
		o.pace = defaultPace
	}
	sessions, err := loadSessions(o.Sessions)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hookbolt-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	endpoints := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go endpoints.Serve(listener)
	defer endpoints.Close()

	s, err := newServer(filepath.Join(dir, "hookbolt.db"), &o)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Run(serving) }()

	d := &demonstration{
		pace: o.pace, sessions: sessions, endpoints: "http://" + listener.Addr().String(), mux: mux,
		client: client.New(s.URL(), ""), out: receiver.NewSharedWriter(o.Stdout), arrived: make(map[arrival]*tally),
	}
	defer d.client.Close()
	err = d.run(ctx)
	if err == nil && o.Keep {
		d.invite()
		<-ctx.Done()
	}
	stop()
	if stopErr := <-stopped; stopErr != nil {
		return stopErr
	}
	return err
}

// newServer returns a server with default settings and a temporary database. With Keep it listens on the default port if that is free.
func newServer(database string, o *Options) (*server.Server, error) {
	cfg := config.Default()
	cfg.Storage.Path = database
	cfg.Storage.MinFree = 0 // a few sessions fit on any disk
	cfg.Delivery.AllowNetworks = []config.Network{config.Network(netip.MustParsePrefix("127.0.0.0/8"))}
	cfg.Log.Level = "warn"
	log, _ := server.NewLog(cfg.Log, o.Stderr)
	if o.Keep {
		if s, err := server.New(server.Options{Config: cfg, Log: log}); err == nil {
			return s, nil
		}
	}
	cfg.HTTP.Listen = "127.0.0.1:0"
	return server.New(server.Options{Config: cfg, Log: log})
}

// demonstration is one run of the demo. Its fields are set before it runs.
type demonstration struct {
	pace      pace
	sessions  []*session
	endpoints string // their base URL
	mux       *http.ServeMux
	client    *client.Client
	out       io.Writer
	hooks     []*hook

	mu      sync.Mutex
	arrived map[arrival]*tally // guarded by mu
}

// hook is a webhook of the demo. Settings are its JSON for POST /v1/webhooks.
type hook struct {
	Name             string   `json:"name"`
	URL              string   `json:"url"`
	Secret           string   `json:"secret,omitempty"`
	ContentID        string   `json:"content_id,omitempty"`
	Delay            int64    `json:"delay"`
	SendAnswers      bool     `json:"send_answers"`
	SendIncomplete   bool     `json:"send_incomplete"`
	IncompleteDelay  int64    `json:"incomplete_delay"`
	RetrySchedule    []string `json:"retry_schedule,omitempty"`
	id               int64
	failFirst        int
	contentOfSession string
}

// run posts all sessions, waits for their webhooks, and returns an error if a webhook was missing, wrong or unexpected.
func (d *demonstration) run(ctx context.Context) error {
	fmt.Fprintf(d.out, "hookbolt listens on %s, with a new database. The endpoints of its webhooks are at %s.\n", d.client.Base(), d.endpoints)
	if err := d.subscribe(ctx); err != nil {
		return err
	}
	began := time.Now()
	events, err := d.play(ctx)
	if err != nil {
		return err
	}
	d.settle(ctx)
	return d.summary(ctx, events, time.Since(began))
}

// subscribe creates the webhooks, each with its own endpoint.
func (d *demonstration) subscribe(ctx context.Context) error {
	d.hooks = []*hook{
		{Name: "everything", SendAnswers: true, SendIncomplete: true},
		{Name: "a quiz, no answers", contentOfSession: "quiz-istanbul"},
		{Name: "a poll, fails once", SendAnswers: true, contentOfSession: "content-poll", failFirst: 1,
			RetrySchedule: []string{fmt.Sprintf("%ds", max(1, 20/d.pace.factor)), "5s"}},
	}
	for i, h := range d.hooks {
		endpoint := fmt.Sprintf("/%d", i+1)
		h.URL = d.endpoints + endpoint
		h.Delay, h.IncompleteDelay = 10/d.pace.factor, 60/d.pace.factor
		if h.contentOfSession != "" {
			at := slices.IndexFunc(d.sessions, func(s *session) bool { return s.name == h.contentOfSession })
			if at < 0 {
				return fmt.Errorf("demo: no recorded session is named %s", h.contentOfSession)
			}
			h.ContentID = d.sessions[at].contentID
		}
		var created struct {
			ID     int64  `json:"id"`
			Secret string `json:"secret"`
		}
		if err := d.client.Call(ctx, http.MethodPost, "/v1/webhooks", h, &created); err != nil {
			return err
		}
		h.id = created.ID
		d.mux.Handle(endpoint, receiver.New(d.out, receiver.Options{
			Secret: created.Secret, Fail: h.failFirst,
			Name:     func(got receiver.Receipt) string { return d.arrival(h, got.Body).String() },
			Received: func(got receiver.Receipt) { d.record(h, got) },
		}))
		fmt.Fprintf(d.out, "Webhook %d, %q: due %s after a session's finish.\n", h.id, h.Name, time.Duration(h.Delay)*time.Second)
	}
	fmt.Fprintln(d.out)
	return nil
}
