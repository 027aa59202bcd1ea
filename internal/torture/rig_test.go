package torture

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbolt/engine"
)

// rig is a hookbolt under test: its binary, its database, the process that runs now if any, an endpoint, a ledger of what was
// acknowledged, and the books of what was repeated. An experiment starts servers on it and cuts them off in its way, calls afterCut
// each time before the next start, and finish at the end.
type rig struct {
	t        *testing.T
	opts     rigOptions
	dir      string // for the configuration and copies of the database
	store    store
	database string // the path of its file; "" for one that is no file
	config   string
	ledger   *ledger
	receiver *receiver
	books    *books
	latency  *latencies
	slowest  time.Duration     // of the starts
	paths    map[uint32]string // of the webhooks, by id

	mu         sync.Mutex
	urls       []string      // of the running servers; empty while there is none
	generation int           // counts the servers
	changed    chan struct{} // closed, and replaced, at each change of urls
	over       chan struct{} // closed when there will be no server any more
	parts      int
}

// rigOptions are what an experiment chooses.
type rigOptions struct {
	binary string
	// databaseDir is where the database lies; "" for a temporary directory.
	databaseDir string
	// schema is the database in PostgreSQL; nil for a file.
	schema *schema
	// env is added to the environment of the servers.
	env []string
	// http, storage and delivery are lines added to these sections of the configuration.
	http, storage, delivery string
	hooks                   []hook
	manner                  manner
	// patience is how long producers wait for an answer; 0 for 30 s.
	patience time.Duration
	// backlog is how many deliveries may be owed before the producers wait; 0 for 4,000.
	backlog int
	// forgets tells that retention may end what has arrived.
	forgets bool
	// draft invents what a producer sends next; nil for (*rig).draft.
	draft func(*rig, *rand.Rand) []*request
}

// standardHooks fire at once, after some time, and for sessions that do not finish.
var standardHooks = []hook{
	{path: "/now", answers: true, leads: true},
	{path: "/later", delay: 2, answers: true},
	{path: "/unfinished", delay: 1, incomplete: true, incompleteDelay: 1, answers: true, leads: true},
}

// The limits that rigs run with, and what they allow to be claimed, and so unrecorded, at once: two for each attempt that may be under
// way (the next one is prepared while one is sent).
const (
	maxInFlight        = 16
	webhookMaxInFlight = 8
)

func claimable(hooks int) int { return 2 * (maxInFlight + hooks) }

func newRig(t *testing.T, opts rigOptions) *rig {
	t.Helper()
	if opts.backlog == 0 {
		opts.backlog = 4000
	}
	if opts.draft == nil {
		opts.draft = (*rig).draft
	}
	if opts.hooks == nil {
		opts.hooks = standardHooks
	}
	g := &rig{t: t, opts: opts, dir: t.TempDir(), changed: make(chan struct{}), over: make(chan struct{}), ledger: newLedger(), latency: &latencies{}, paths: make(map[uint32]string)}
	if g.opts.databaseDir == "" {
		g.opts.databaseDir = g.dir
	}
	if g.store = opts.schema; opts.schema == nil {
		g.database = filepath.Join(g.opts.databaseDir, "hookbolt.db")
		g.store = file{g.database}
	}
	g.config = filepath.Join(g.dir, "config.toml")
	g.receiver = newReceiver(t, g.ledger, opts.manner)
	g.books = newBooks(claimable(len(opts.hooks)))
	g.books.forgets = opts.forgets
	config := fmt.Sprintf("[http]\nlisten = \"127.0.0.1:0\"\nshutdown_timeout = \"10s\"\n%s\n[storage]\n%s\n%s\n[delivery]\n"+
		"allow_networks = [\"127.0.0.0/8\"]\nmax_in_flight = %d\nwebhook_max_in_flight = %d\n%s\n", opts.http, g.store.settings(),
		opts.storage, maxInFlight, webhookMaxInFlight, opts.delivery)
	if !strings.Contains(opts.delivery, "retry_schedule") {
		config += "retry_schedule = [" + strings.Repeat(`"1s", `, 50) + "]\n"
	}
	if err := os.WriteFile(g.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// launch starts a server and does not wait for it. Producers do not learn of it.
func (g *rig) launch() *server {
	g.t.Helper()
	return launch(g.t, g.opts.binary, g.opts.env, "serve", "-config", g.config)
}

// start starts a server, waits until it is ready, and tells the producers.
func (g *rig) start() (*server, error) {
	s := g.launch()
	return s, g.open(s)
}

// startPatience is how long a start may take before it counts as none.
const startPatience = 30 * time.Second

// startLimit is how long a start may take: machines are noisy, most so those that run the short form. How long the slowest took is in the
// figures. Where the database is not on an ordinary file system, each page that a start reads is two switches between processes, and how
// long it takes says nothing.
func (g *rig) startLimit() time.Duration {
	if g.opts.databaseDir != g.dir {
		return startPatience
	}
	return scale(20*time.Second, 5*time.Second)
}

// open waits until a server is ready and tells the producers.
func (g *rig) open(s *server) error {
	took, err := s.awaitReady(startPatience)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if g.slowest = max(g.slowest, took); took > g.startLimit() {
		g.books.complain("cut %d: the next start took %v, at most %v are allowed", g.books.Cuts, took.Round(time.Millisecond), g.startLimit())
	}
	g.announce(s.url())
	return nil
}

// announce tells the producers where the servers are; nothing tells that there is none.
func (g *rig) announce(urls ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.urls = urls
	if len(urls) > 0 {
		g.generation++
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// setUp starts a first server and makes the webhooks.
func (g *rig) setUp() *server {
	g.t.Helper()
	s := g.launch()
	if _, err := s.awaitReady(startPatience); err != nil {
		g.t.Fatal(err)
	}
	g.makeHooks(s)
	g.announce(s.url())
	return s
}

// makeHooks makes the webhooks.
func (g *rig) makeHooks(s *server) {
	g.t.Helper()
	for _, h := range g.opts.hooks {
		g.makeHook(s, h)
	}
}

func (g *rig) makeHook(s *server, h hook) {
	g.t.Helper()
	in := map[string]any{"url": g.receiver.url + h.path + h.end, "delay": h.delay, "send_incomplete": h.incomplete,
		"incomplete_delay": h.incompleteDelay, "send_answers": h.answers, "send_leads": h.leads}
	maps.Copy(in, h.settings)
	var made struct{ ID uint32 }
	if err := call(g.t.Context(), "POST", s.url()+"/v1/webhooks", in, &made); err != nil {
		g.t.Fatal(err)
	}
	g.paths[made.ID] = h.path
}

// await waits for servers and returns their URLs and which ones they are; none if stop is closed first, unless it is to go on even then.
func (g *rig) await(stop <-chan struct{}, goOn bool) (urls []string, generation int) {
	if goOn {
		stop = nil
	}
	for {
		g.mu.Lock()
		urls, generation, changed := g.urls, g.generation, g.changed
		g.mu.Unlock()
		if len(urls) > 0 {
			return urls, generation
		}
		select {
		case <-changed:
		case <-stop:
			return nil, 0
		case <-g.over:
			return nil, 0
		}
	}
}

// awaitNext waits for another server than that one, but not for longer than patience: it may be the same that answers again.
func (g *rig) awaitNext(generation int, patience time.Duration) {
	g.mu.Lock()
	now, changed := g.generation, g.changed
	g.mu.Unlock()
	if now == generation {
		pass(patience, changed)
	}
}

func (g *rig) nextPart() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parts++
	return g.parts
}

// abandon ends an experiment early: its server cannot be started, or enough was seen. Producers give up what they are at. It returns the
// verdict so far.
func (g *rig) abandon(load *producers) *verdict {
	g.giveUp()
	load.halt()
	return g.verdict()
}

// giveUp tells producers that there will be no server any more.
func (g *rig) giveUp() {
	g.announce()
	close(g.over)
}

// afterCut closes the books after a server has ended, however that was done, and before the next start. The database is at its place
// and holds what has survived. clean tells that the server had the time to record all that it had sent.
func (g *rig) afterCut(clean bool) {
	g.announce()
	if err := g.receiver.quiesce(10 * time.Second); err != nil {
		g.books.complain("%v", err)
	}
	requests := g.receiver.counts()
	found, err := g.store.inspect(context.WithoutCancel(g.t.Context()), g.dir, requests)
	if err != nil {
		g.books.complain("cut %d: %v", g.books.Cuts+1, err)
		return
	}
	allowed := g.books.bound
	if clean {
		allowed = 0
	}
	g.books.broken = g.receiver.broken()
	g.books.cut(found, requests, allowed)
	g.ledger.audit(g.stored(found), g.opts.forgets)
	if !g.opts.forgets {
		g.ledger.count(found.Sessions)
	}
}

// stored are the deliveries that a database holds, by what they are about.
func (g *rig) stored(found inspection) map[key]bool {
	stored := make(map[key]bool, len(found.Deliveries))
	for _, d := range found.Deliveries {
		stored[key{g.paths[d.WebhookID], d.Session, d.Kind == engine.KindComplete}] = true
	}
	return stored
}

// settle waits until nothing waits in the lanes of a server any more: what has not arrived by then is lost. It loses patience when no
// request has come for so long.
func (g *rig) settle(s *server, patience time.Duration) error {
	came, at := g.receiver.total(), time.Now()
	for {
		waiting, err := g.waiting(s)
		if err == nil && waiting == 0 || !s.running() {
			return err
		}
		if now := g.receiver.total(); now > came {
			came, at = now, time.Now()
		}
		if time.Since(at) > patience {
			return fmt.Errorf("no request has come for %v, and %d or more deliveries wait (error: %v)", patience, waiting, err)
		}
		pass(50*time.Millisecond, s.exited)
	}
}

// waiting counts what waits in the lanes of a server, up to some. An error may pass: a database that was struck takes its time.
func (g *rig) waiting(s *server) (n int, err error) {
	for _, status := range []string{"scheduled", "pending"} {
		var page struct {
			Items []struct{ ID string }
		}
		if err := call(g.t.Context(), "GET", s.url()+"/v1/deliveries?limit=10&status="+status, nil, &page); err != nil {
			return 0, err
		}
		n += len(page.Items)
	}
	return n, nil
}

// state tells what a server knows of its lanes: why something does not arrive.
func (g *rig) state(s *server) string {
	var text strings.Builder
	for _, path := range []string{"/v1/webhooks", "/v1/deliveries?limit=3&status=scheduled", "/v1/deliveries?limit=3&status=pending", "/metrics"} {
		resp, err := http.Get(s.url() + path)
		if err != nil {
			return err.Error()
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(body)) {
			if path != "/metrics" || strings.HasPrefix(line, "hookbolt_queue_") || strings.HasPrefix(line, "hookbolt_probes") {
				text.WriteString(line)
			}
		}
	}
	return text.String()
}

// finish lets everything arrive, stops the server as it should be stopped, closes the books and returns the verdict. The producers
// have halted.
func (g *rig) finish(s *server) *verdict {
	if err := g.settle(s, 30*time.Second); err != nil {
		g.books.complain("at the end: %v; %s", err, g.state(s))
	}
	g.ledger.close()
	s.terminate()
	code, err := s.wait(20 * time.Second)
	switch {
	case err != nil:
		g.books.complain("SIGTERM: %v", err)
		s.kill()
	case code != 0:
		g.books.complain("SIGTERM: exit code %d, want 0:\n%s", code, s.log)
	}
	g.afterCut(err == nil)
	v := g.verdict()
	if v.Repeated > v.Unrecorded {
		v.trouble = append(v.trouble, fmt.Sprintf("%d requests, %d attempts in the log: %d repeated, at most %d may be", v.Requests,
			v.Attempts, v.Repeated, v.Unrecorded))
	}
	return v
}

// verdict is what came of an experiment.
type verdict struct {
	Due        int // deliveries whose cause was acknowledged
	Lost       int // of them, those that did not arrive
	Resent     int // requests for what was recorded as delivered before a cut
	Requests   int
	Attempts   int // in the log
	Repeats    int // requests that were sent once more, in the log
	Again      int // of them, those whose first one has arrived, too
	Repeated   int // requests that the log does not have
	Unrecorded int // what was unrecorded at the cuts: B
	Cuts       int
	Slowest    time.Duration // start
	Latest     time.Duration // attempt after it was due; only where it is measured

	trouble []string // everything that must not be
}

func (g *rig) verdict() *verdict {
	v := &verdict{Due: g.ledger.due(), Lost: g.ledger.losses(), Resent: g.books.Resent, Attempts: g.books.attempts(),
		Repeats: g.books.repeats(), Again: g.books.Again, Unrecorded: g.books.Unrecorded, Cuts: g.books.Cuts, Slowest: g.slowest}
	for _, n := range g.receiver.counts() {
		v.Requests += n
	}
	v.Repeated = v.Requests - v.Attempts - v.Again
	if v.Lost > 0 {
		v.trouble = append(v.trouble, fmt.Sprintf("%d deliveries are lost: their events were acknowledged", v.Lost))
	}
	g.ledger.mu.Lock()
	defer g.ledger.mu.Unlock()
	v.trouble = slices.Concat(v.trouble, g.books.trouble, g.ledger.trouble)
	return v
}

// add puts the verdicts of several rigs together.
func (v *verdict) add(w *verdict) {
	v.Due, v.Lost, v.Resent = v.Due+w.Due, v.Lost+w.Lost, v.Resent+w.Resent
	v.Requests, v.Attempts, v.Repeated = v.Requests+w.Requests, v.Attempts+w.Attempts, v.Repeated+w.Repeated
	v.Repeats, v.Again = v.Repeats+w.Repeats, v.Again+w.Again
	v.Unrecorded, v.Cuts, v.Slowest = v.Unrecorded+w.Unrecorded, v.Cuts+w.Cuts, max(v.Slowest, w.Slowest)
	v.Latest = max(v.Latest, w.Latest)
	v.trouble = append(v.trouble, w.trouble...)
}

// hold fails the test for everything that must not be, with the first of its kind.
func (v *verdict) hold(t *testing.T) {
	t.Helper()
	for i, line := range v.trouble {
		if i == 10 {
			t.Errorf("and %d more", len(v.trouble)-i)
			return
		}
		t.Error(line)
	}
}

// controlRounds is how often a control is played at most. What the adversary draws, and how the processes take turns, may hide a mutant for a round.
const controlRounds = 4

// caught plays a control until the verdict on its mutant is that something is wrong, and returns what that is. It fails the test, and returns "", if no round
// shows anything: the harness would be blind then.
func caught(t *testing.T, what string, play func(r *rand.Rand) *verdict) string {
	t.Helper()
	var seen verdict
	for round := range controlRounds {
		v := play(random(t, what, round))
		if len(v.trouble) > 0 {
			return v.trouble[0]
		}
		seen.add(v)
	}
	t.Errorf("control %s: not caught in %d rounds, %d cuts, %d deliveries", what, controlRounds, seen.Cuts, seen.Due)
	return ""
}

func (v *verdict) String() string {
	return fmt.Sprintf("%d cuts, %d deliveries acknowledged, lost %d, re %d, %d requests, repeated %d of at most %d, slowest start %v",
		v.Cuts, v.Due, v.Lost, v.Resent, v.Requests, v.Repeated, v.Unrecorded, v.Slowest.Round(time.Millisecond))
}

// latencies are the times that something took.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

// reset forgets what there is, and returns it.
func (l *latencies) reset() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

// percentile is a high percentile of times; 0 of none.
func percentile(all []time.Duration, p float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
