package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/engine/transform"
	"hookbolt/internal/teststore"
)

const (
	sessionA = "22ffdf18-1035-4e56-baa2-8327e3af5242"
	sessionB = "22ffdf18-1035-4e56-baa2-8327e3af5243"
	contentA = "6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"
	contentB = "6caaa000-2bd8-4b28-8b9b-bfe1fca94f40"
	nobodys  = "018f4e9a-3b7c-7d21-9c65-0a1b2c3d4e18"
)

// fixture is the API on a real engine and a real database. The engine's loop does not run unless a test runs it, so deliveries stay
// where the calls have put them.
type fixture struct {
	t      testing.TB
	h      http.Handler
	engine *engine.Engine
	store  teststore.Store
	reg    *prometheus.Registry
	log    *logBuffer
	token  string // sent with each request, if it is not ""
}

// roundTripper takes the place of the network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newFixture(t testing.TB, cfg Config) *fixture {
	return newFixtureOn(t, cfg, func(*http.Request) (*http.Response, error) { return nil, errors.New("this test sends nothing") })
}

// newFixtureOn is newFixture with something in place of the network; nil means the network.
func newFixtureOn(t testing.TB, cfg Config, network roundTripper) *fixture {
	t.Helper()
	f := &fixture{t: t, reg: prometheus.NewRegistry(), log: &logBuffer{tee: t.Output()}}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.store = teststore.Open(t)
	ecfg := engine.DefaultConfig()
	if network != nil {
		ecfg.Transport = network
	}
	ecfg.Retry.Jitter = 0
	ecfg.RunPrograms = func(_ context.Context, job transform.Job) (transform.Result, error) { return transform.Eval(job) } // this program is no worker
	f.engine = engine.New(f.store, ecfg, f.reg, log)
	f.h = observed{t: t, h: New(f.engine, cfg, f.reg, log)}
	return f
}

// logBuffer keeps what is logged, for tests that look at it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
	tee io.Writer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tee.Write(p)
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// withoutAudit is what is logged, without the lines about changes.
func (b *logBuffer) withoutAudit() string {
	return regexp.MustCompile(`(?m)^.* msg=audit .*\n`).ReplaceAllString(b.String(), "")
}

// audited are the lines about changes, without their time, level and message.
func (b *logBuffer) audited() (lines []string) {
	for _, m := range regexp.MustCompile(`(?m)^.* level=INFO msg=audit (.*)$`).FindAllStringSubmatch(b.String(), -1) {
		lines = append(lines, m[1])
	}
	return lines
}

// request makes a request as curl on the same machine would.
func (f *fixture) request(method, target, body string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "localhost:8080"
	if f.token != "" {
		r.Header.Set("Authorization", "Bearer "+f.token)
	}
	return r
}

func (f *fixture) serve(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	f.h.ServeHTTP(rec, r)
	return rec
}

func (f *fixture) do(method, target, body string) *httptest.ResponseRecorder {
	return f.serve(f.request(method, target, body))
}

// want makes a call that must have the given status and returns the body.
func (f *fixture) want(status int, method, target, body string) string {
	f.t.Helper()
	rec := f.do(method, target, body)
	if rec.Code != status {
		f.t.Fatalf("%s %s: got %d, want %d\n%s", method, target, rec.Code, status, rec.Body)
	}
	return rec.Body.String()
}

// wantJSON is want, read into a value. That the answer has no other fields is for TestDescriptionHasTheAnswers to say.
func (f *fixture) wantJSON(into any, status int, method, target, body string) {
	f.t.Helper()
	got := f.want(status, method, target, body)
	if err := json.Unmarshal([]byte(got), into); err != nil {
		f.t.Fatalf("%s %s: %v\n%s", method, target, err, got)
	}
}

// shownDelivery, shownWebhook and listOf are the answers as a client reads them.
type shownDelivery struct {
	ID            string  `json:"id"`
	WebhookID     uint32  `json:"webhook_id"`
	SessionID     *string `json:"session_id"`
	Kind          string  `json:"kind"`
	Status        string  `json:"status"`
	CreatedAt     *string `json:"created_at"`
	DueAt         *string `json:"due_at"`
	NextAttemptAt *string `json:"next_attempt_at"`
	FrozenAt      *string `json:"frozen_at"`
	FinishedAt    *string `json:"finished_at"`
	AttemptsMade  int     `json:"attempts_made"`
	LastStatus    *int    `json:"last_status"`
	LastError     *string `json:"last_error"`
	AsOf          *string `json:"as_of"`
	LateEvents    int     `json:"late_events"`
	SupersededBy  *string `json:"superseded_by"`
}

type shownWebhook struct {
	ID              uint32    `json:"id"`
	URL             string    `json:"url"`
	ContentID       *string   `json:"content_id"`
	Name            string    `json:"name"`
	Operations      bool      `json:"operations"`
	Active          bool      `json:"active"`
	Paused          bool      `json:"paused"`
	PauseReason     *string   `json:"pause_reason"`
	Delay           int64     `json:"delay"`
	SendAnswers     bool      `json:"send_answers"`
	SendLeads       bool      `json:"send_leads"`
	SendIncomplete  bool      `json:"send_incomplete"`
	IncompleteDelay int64     `json:"incomplete_delay"`
	Timeout         *string   `json:"timeout"`
	MaxInFlight     *int      `json:"max_in_flight"`
	RetrySchedule   *[]string `json:"retry_schedule"`
	RateLimit       *float64  `json:"rate_limit"`
	HTTP2           bool      `json:"http2"`
	Method          string    `json:"method"`
	Success         []int     `json:"success"`
	TLS             any       `json:"tls"`
	AllowNetworks   []string  `json:"allow_networks"`

	Headers   map[string]bool `json:"headers"`
	BasicAuth *bool           `json:"basic_auth"`
	OAuth2    *bool           `json:"oauth2"`
	Health    struct {
		State         string  `json:"state"`
		Failures      int     `json:"failures"`
		FirstFailedAt *string `json:"first_failed_at"`
		FailingSince  *string `json:"failing_since"`
		NextProbeAt   *string `json:"next_probe_at"`
		Throttle      *struct {
			HeldUntil string   `json:"held_until"`
			Rate      *float64 `json:"rate"`
		} `json:"throttle"`
	} `json:"health"`
	Signature       *shownSignature `json:"signature"`
	PreviousSecrets []struct {
		Which      string `json:"which"`
		SignsUntil string `json:"signs_until"`
	} `json:"previous_secrets"`
	CreatedAt string `json:"created_at"`
	UpdatedAt string `json:"updated_at"`
}

// shownSignature is the setting signature as a client reads it.
type shownSignature struct {
	Header   *string `json:"header"`
	Prefix   *string `json:"prefix"`
	Encoding *string `json:"encoding"`
	Secret   *bool   `json:"secret"`
	V1a      bool    `json:"v1a"`
}

type listOf[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// shownProblem is an error answer as a client reads it.
type shownProblem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Errors []struct {
		Index  *int    `json:"index"`
		Field  *string `json:"field"`
		Detail string  `json:"detail"`
	} `json:"errors"`
}

// wantProblem holds an answer against the shape that every error has, and returns it.
func wantProblem(t testing.TB, rec *httptest.ResponseRecorder, status int) shownProblem {
	t.Helper()
	if rec.Header().Get("Content-Type") == "application/json" { // at /platform
		var p platformProblem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Message == "" || rec.Code != status {
			t.Fatalf("got %d, want %d: %.300s", rec.Code, status, rec.Body)
		}
		return shownProblem{Detail: p.Message}
	}
	var p shownProblem
	dec := json.NewDecoder(bytes.NewReader(rec.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatalf("got %d with a body that is no problem: %v\n%.300s", rec.Code, err, rec.Body)
	}
	if rec.Code != status {
		t.Fatalf("got %d, want %d: %.300s", rec.Code, status, rec.Body)
	}
	if got := rec.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	if p.Type != "about:blank" || p.Status != status || p.Title == "" || p.Detail == "" {
		t.Errorf("incomplete problem %+v", p)
	}
	for _, e := range p.Errors {
		if e.Index == nil || e.Field == nil || e.Detail == "" {
			t.Errorf("an entry of errors is incomplete: %.300s", rec.Body)
		}
	}
	return p
}

// wantInputProblem is wantProblem for refused input whose first error is at a place.
func wantInputProblem(t testing.TB, rec *httptest.ResponseRecorder, index int, field, detail string) {
	t.Helper()
	p := wantProblem(t, rec, http.StatusBadRequest)
	if len(p.Errors) == 0 {
		t.Fatalf("no errors in %.300s", rec.Body)
	}
	e := p.Errors[0]
	if *e.Index != index || *e.Field != field || !strings.Contains(e.Detail, detail) {
		t.Errorf("got index %d, field %q, detail %q; want %d, %q, %q", *e.Index, *e.Field, e.Detail, index, field, detail)
	}
	if !strings.Contains(p.Detail, e.Detail) {
		t.Errorf("detail %q does not tell the first error %q", p.Detail, e.Detail)
	}
}

// start is an event that begins a session.
func start(session string) string {
	return `{"type":"start","session_id":"` + session + `","content_id":"` + contentA + `","content_type":"quiz","poltio_user_id":7}`
}

// run runs the engine's loop until the test ends.
func (f *fixture) run(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.engine.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// finish is an event that ends a session.
func finish(session string) string { return `{"type":"finish","session_id":"` + session + `"}` }

// jsonOf writes a value in the one way that encoding/json writes it.
func jsonOf(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
