package main

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hookbolt/engine"
)

//go:embed testdata/sessions/*.ndjson
var sessionFiles embed.FS

// demoPace is how fast the demo plays. Tests play faster.
type demoPace struct {
	// factor is by how much sessions, and the delays of the webhooks, are shortened.
	factor int64
	// between is the span from the start of a session to that of the next one.
	between time.Duration
	// ahead is how long before its time an event is posted, so that a slow machine does not change what was known at an instant.
	ahead time.Duration
	// patience is how long the webhooks may take after the last event.
	patience time.Duration
}

var defaultPace = demoPace{factor: 10, between: 300 * time.Millisecond, ahead: 250 * time.Millisecond, patience: 10 * time.Second}

// demo shows the whole at work: the real server on a database of its own, endpoints beside it, and sessions that are played
// through the API.
func demo(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	keep := fs.Bool("keep", false, "stay up afterwards, to be tried in a browser or with curl, until Ctrl-C")
	if err := parseFlags(fs, args, stdout, "Plays sessions through a server of its own and shows the webhooks that come of them. Leaves nothing behind."); err != nil {
		return err
	}
	return runDemo(ctx, defaultPace, *keep, stdout, stderr)
}

func runDemo(ctx context.Context, pace demoPace, keep bool, stdout, stderr io.Writer) error {
	sessions, err := loadSessions()
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

	a, err := newDemoApp(filepath.Join(dir, "hookbolt.db"), keep, stderr)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	stopped := make(chan error, 1)
	go func() { stopped <- a.run(serving) }()

	d := &demonstration{
		pace: pace, sessions: sessions, api: a.url(), endpoints: "http://" + listener.Addr().String(), mux: mux,
		client: &http.Client{Timeout: 10 * time.Second}, out: &lockedWriter{w: stdout}, arrived: make(map[arrival]*tally),
	}
	err = d.run(ctx)
	if err == nil && keep {
		d.invite()
		<-ctx.Done()
	}
	stop()
	if stopErr := <-stopped; stopErr != nil {
		return stopErr
	}
	return err
}

// newDemoApp starts the server as serve does without a configuration, but on a database of its own, and on a free port unless
// somebody wants to try it.
func newDemoApp(database string, keep bool, stderr io.Writer) (*app, error) {
	cfg := DefaultConfig()
	cfg.Storage.Path = database
	cfg.Storage.MinFree = 0 // a few sessions on whatever disk there is
	cfg.Delivery.AllowNetworks = []Network{Network(netip.MustParsePrefix("127.0.0.0/8"))}
	cfg.Log.Level = "warn"
	log, _ := cfg.Log.logger(stderr)
	if keep {
		if a, err := newApp(cfg, log); err == nil {
			return a, nil
		}
	}
	cfg.HTTP.Listen = "127.0.0.1:0"
	return newApp(cfg, log)
}

// demonstration is one run of the demo. Its fields are set before it runs.
type demonstration struct {
	pace           demoPace
	sessions       []*demoSession
	api, endpoints string // base URLs
	mux            *http.ServeMux
	client         *http.Client
	out            io.Writer
	hooks          []*demoHook

	mu      sync.Mutex
	arrived map[arrival]*tally // guarded by mu
}

// demoHook is a webhook of the demo. Settings are its JSON for POST /v1/webhooks.
type demoHook struct {
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

// arrival is what may arrive once: a kind of payload of a session at a webhook.
type arrival struct {
	hook    *demoHook
	session string
	kind    string
}

func (a arrival) String() string { return fmt.Sprintf("%s %s for %q", a.session, a.kind, a.hook.Name) }

// tally is what did arrive.
type tally struct {
	id        string // the webhook-id of the first attempt
	body      []byte // its body
	attempts  int
	delivered int // attempts that were answered 200
	wrong     int // attempts with a wrong signature
	changed   int // attempts with another id or body than the first
}

// run plays everything, waits for what must come of it, and returns what was wrong.
func (d *demonstration) run(ctx context.Context) error {
	fmt.Fprintf(d.out, "hookbolt listens on %s, with a new database; the endpoints of its webhooks are at %s.\n", d.api, d.endpoints)
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

// subscribe makes the webhooks, each with an endpoint of its own.
func (d *demonstration) subscribe(ctx context.Context) error {
	d.hooks = []*demoHook{
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
			at := slices.IndexFunc(d.sessions, func(s *demoSession) bool { return s.name == h.contentOfSession })
			if at < 0 {
				return fmt.Errorf("demo: there is no session %s", h.contentOfSession)
			}
			h.ContentID = d.sessions[at].contentID
		}
		var made struct {
			ID     int64         `json:"id"`
			Secret engine.Secret `json:"secret"`
		}
		if err := d.call(ctx, "POST", "/v1/webhooks", h, &made); err != nil {
			return err
		}
		h.id = made.ID
		rec := newReceiver(d.out)
		rec.secret, rec.fail = made.Secret, h.failFirst
		rec.name = func(got receipt) string { return d.arrival(h, got.Body).String() }
		rec.received = func(got receipt) { d.record(h, got) }
		d.mux.Handle(endpoint, rec)
		fmt.Fprintf(d.out, "Webhook %d, %q: %s after a session's finish.\n", h.id, h.Name, engine.Duration(h.Delay*int64(time.Second)))
	}
	fmt.Fprintln(d.out)
	return nil
}

// arrival says what a payload is.
func (d *demonstration) arrival(h *demoHook, body []byte) arrival {
	var p struct {
		SessionID string `json:"session_id"`
		Complete  bool   `json:"complete_session"`
	}
	json.Unmarshal(body, &p) // what is no payload of ours is an arrival that nobody expects
	a := arrival{h, cmp.Or(p.SessionID, "unknown"), "incomplete"}
	if p.Complete {
		a.kind = "complete"
	}
	for _, s := range d.sessions {
		if s.id == p.SessionID {
			a.session = s.name
		}
	}
	return a
}

// record notes a request that an endpoint got.
func (d *demonstration) record(h *demoHook, got receipt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	what := d.arrival(h, got.Body)
	t := d.arrived[what]
	if t == nil {
		t = &tally{id: got.ID, body: got.Body}
		d.arrived[what] = t
	}
	t.attempts++
	if got.Status == http.StatusOK {
		t.delivered++
	}
	if got.Verdict != nil {
		t.wrong++
	}
	if got.ID != t.id || !bytes.Equal(got.Body, t.body) {
		t.changed++
	}
}

// demoSession is a session of the demo, its events in the order in which they are posted.
type demoSession struct {
	name, id, contentID string
	events              []*demoEvent
}

type demoEvent struct {
	fields   map[string]json.RawMessage
	finishes bool
	// after is the span from the earliest event of its session, at the recorded speed.
	after time.Duration
	// at is the time that it is given when it is played, acceptedAt when it was acknowledged.
	at, acceptedAt time.Time
}

// loadSessions reads the embedded sessions, in the order of their names.
func loadSessions() ([]*demoSession, error) {
	names, err := sessionFiles.ReadDir("testdata/sessions")
	if err != nil {
		return nil, err
	}
	var sessions []*demoSession
	for _, file := range names {
		text, err := sessionFiles.ReadFile(path.Join("testdata/sessions", file.Name()))
		if err != nil {
			return nil, err
		}
		events, err := engine.ParseEvents(text, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)) // no time in them is too late
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		s := &demoSession{name: strings.TrimSuffix(file.Name(), ".ndjson"), id: events[0].SessionID.String()}
		s.contentID = events[0].Identity.ContentID.String()
		earliest := slices.MinFunc(events, func(a, b engine.Event) int { return a.Time.Compare(b.Time) }).Time
		for _, ev := range events {
			de := &demoEvent{after: ev.Time.Sub(earliest), finishes: ev.Type == engine.EventFinish || ev.Type == engine.EventResultView}
			if err := json.Unmarshal(ev.JSON, &de.fields); err != nil {
				return nil, fmt.Errorf("%s: %w", file.Name(), err)
			}
			s.events = append(s.events, de)
		}
		sessions = append(sessions, s)
	}
	return sessions, nil
}

// play posts the events of all sessions, each at its time, and returns how many there were.
func (d *demonstration) play(ctx context.Context) (events int, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var playing sync.WaitGroup
	for i, s := range d.sessions {
		events += len(s.events)
		start := time.Now().Add(time.Duration(i) * d.pace.between)
		playing.Go(func() {
			if err := d.playSession(ctx, s, start); err != nil {
				fail(fmt.Errorf("session %s: %w", s.name, err))
			}
		})
	}
	playing.Wait()
	return events, context.Cause(ctx)
}

// playSession posts the events of a session in their order: each a little before its time, or as soon as those before it are
// posted, for some of them come late.
func (d *demonstration) playSession(ctx context.Context, s *demoSession, start time.Time) error {
	for _, ev := range s.events {
		ev.at = start.Add(d.pace.ahead + ev.after/time.Duration(d.pace.factor))
		select {
		case <-time.After(time.Until(ev.at.Add(-d.pace.ahead))):
		case <-ctx.Done():
			return ctx.Err()
		}
		ev.fields["time"] = ev.at.UTC().AppendFormat(nil, `"`+time.RFC3339Nano+`"`)
		if err := d.call(ctx, "POST", "/v1/events", ev.fields, nil); err != nil {
			return err
		}
		ev.acceptedAt = time.Now()
	}
	return nil
}

// expected says what must arrive (true) and what may (false).
func (d *demonstration) expected() map[arrival]bool {
	list := make(map[arrival]bool)
	for _, s := range d.sessions {
		for _, h := range d.hooks {
			if h.ContentID != "" && h.ContentID != s.contentID {
				continue
			}
			// The instant is set by the first event that comes in.
			instant := s.events[0].at.Add(time.Duration(h.IncompleteDelay) * time.Second)
			complete, inTime, known := false, false, false
			for _, ev := range s.events {
				if !ev.finishes {
					continue
				}
				complete = true
				if !ev.at.After(instant) {
					inTime = true
					// On a machine that is busy with something else the finish may be acknowledged after the instant for all the
					// time that it was posted ahead: then both outcomes are right.
					known = known || ev.acceptedAt.Before(instant)
				}
			}
			if h.SendIncomplete && !known {
				list[arrival{h, s.name, "incomplete"}] = !inTime
			}
			if complete {
				list[arrival{h, s.name, "complete"}] = true
			}
		}
	}
	return list
}

// demoDelivery is what the demo reads of a delivery.
type demoDelivery struct {
	ID       string    `json:"id"`
	Status   string    `json:"status"`
	DueAt    time.Time `json:"due_at"`
	Attempts []struct {
		StartedAt time.Time `json:"started_at"`
	} `json:"attempts"`
}

// settle waits until no delivery waits any more, as far as patience goes.
func (d *demonstration) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.pace.patience)
	defer cancel()
	for {
		waiting := 0
		for _, status := range []string{"scheduled", "pending"} {
			list, err := d.deliveries(ctx, status)
			if err != nil {
				return // the summary tells
			}
			waiting += len(list)
		}
		if waiting == 0 {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// deliveries lists the deliveries with a status; "" means all.
func (d *demonstration) deliveries(ctx context.Context, status string) ([]demoDelivery, error) {
	var all []demoDelivery
	query := "?limit=200"
	if status != "" {
		query += "&status=" + status
	}
	for cursor := ""; ; {
		var page struct {
			Items      []demoDelivery `json:"items"`
			NextCursor string         `json:"next_cursor"`
		}
		if err := d.call(ctx, "GET", "/v1/deliveries"+query+cursor, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextCursor == "" {
			return all, nil
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

// summary prints what was done and returns what was wrong with it.
func (d *demonstration) summary(ctx context.Context, events int, took time.Duration) error {
	deliveries, err := d.deliveries(ctx, "")
	if err != nil {
		return err
	}
	var lags []time.Duration
	for _, listed := range deliveries {
		var one demoDelivery
		if err := d.call(ctx, "GET", "/v1/deliveries/"+listed.ID, nil, &one); err != nil {
			return err
		}
		if len(one.Attempts) > 0 {
			lags = append(lags, one.Attempts[0].StartedAt.Sub(one.DueAt))
		}
	}
	slices.Sort(lags)

	kinds := make(map[string]int)
	attempts := 0
	d.mu.Lock()
	for a, t := range d.arrived {
		kinds[a.kind] += t.delivered
		attempts += t.attempts
	}
	d.mu.Unlock()
	fmt.Fprintf(d.out, "%d sessions played, %d events posted, in %s (everything %d times faster than it happened)\n",
		len(d.sessions), events, took.Round(100*time.Millisecond), d.pace.factor)
	fmt.Fprintf(d.out, "%d webhooks delivered in %d attempts: %d complete, %d incomplete\n",
		kinds["complete"]+kinds["incomplete"], attempts, kinds["complete"], kinds["incomplete"])
	if len(lags) > 0 {
		fmt.Fprintf(d.out, "From due to the first attempt: %s in the middle, %s at most\n",
			lags[len(lags)/2].Round(10*time.Microsecond), lags[len(lags)-1].Round(10*time.Microsecond))
	}
	if wrong := d.verdict(); len(wrong) > 0 {
		return fmt.Errorf("demo: %s", strings.Join(wrong, "; "))
	}
	fmt.Fprintln(d.out, "Every signature was good, nothing was missing, nothing came twice.")
	return nil
}

// verdict says what was wrong with what has arrived.
func (d *demonstration) verdict() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var wrong []string
	expected := d.expected()
	for a, must := range expected {
		if t := d.arrived[a]; must && (t == nil || t.delivered == 0) {
			wrong = append(wrong, a.String()+" did not arrive")
		}
	}
	for a, t := range d.arrived {
		if _, ok := expected[a]; !ok {
			wrong = append(wrong, a.String()+" was not expected")
		}
		if t.wrong > 0 {
			wrong = append(wrong, a.String()+" had a wrong signature")
		}
		if t.changed > 0 {
			wrong = append(wrong, a.String()+" was not the same in each attempt")
		}
		if t.delivered > 1 {
			wrong = append(wrong, a.String()+" came twice")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// sampleSecret is a secret for people to play with.
const sampleSecret = "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="

// invite tells what to try while the demo stays up.
func (d *demonstration) invite() {
	rec := newReceiver(d.out)
	rec.secret = sampleSecret
	d.mux.Handle("/mine", rec)
	fmt.Fprintf(d.out, `
It stays up until Ctrl-C. Open %[1]s/ in a browser, or try in another terminal:

curl -s %[1]s/v1/webhooks -d '{"name": "mine", "url": "%[2]s/mine", "secret": "%[3]s", "delay": 1}'

curl -s %[1]s/v1/events -d '
{"session_id": "5f0c7d3e-8a51-4c7e-9d5b-0a1b2c3d4e5f", "type": "start", "content_id": "0b7e6a52-3f0d-4a53-8f0e-6f2b9c1d7a10", "content_type": "quiz", "poltio_user_id": 7}
{"session_id": "5f0c7d3e-8a51-4c7e-9d5b-0a1b2c3d4e5f", "type": "vote", "question_id": 1, "question": "Which way?", "answer_id": 11, "answer": "This way"}
{"session_id": "5f0c7d3e-8a51-4c7e-9d5b-0a1b2c3d4e5f", "type": "finish"}'

curl -s '%[1]s/v1/deliveries?limit=3'
`, d.api, d.endpoints, sampleSecret)
}

// call makes a call of the API; in and out are JSON, nil for none.
func (d *demonstration) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.api+path, body)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
