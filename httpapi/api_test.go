package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/julienschmidt/httprouter"
	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/internal/teststore"
	"hookbolt/storage/bolt"
)

// TestRouteTable holds the table in the package documentation against the routes.
func TestRouteTable(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var documented, real []string
	for _, m := range regexp.MustCompile(`(?m)^//\t([A-Z]+) +(/\S*) +(.*)$`).FindAllStringSubmatch(string(doc), -1) {
		params := regexp.MustCompile(`\(\?(.*)\)`).FindStringSubmatch(m[3])
		line := m[1] + " " + m[2]
		if params != nil {
			names := strings.Split(strings.ReplaceAll(params[1], "=", ""), "&")
			slices.Sort(names)
			line += " " + strings.Join(names, " ")
		}
		documented = append(documented, line)
	}
	for _, rt := range new(API).routes() {
		if rt.page { // these are in ui's documentation
			continue
		}
		line := rt.method + " " + rt.path
		if rt.params != nil {
			line += " " + strings.Join(slices.Sorted(slices.Values(rt.params)), " ")
		}
		real = append(real, line)
	}
	if !slices.Equal(documented, real) {
		t.Errorf("documented\n%s\nreal\n%s", strings.Join(documented, "\n"), strings.Join(real, "\n"))
	}
}

func TestNotFoundAndNotAllowed(t *testing.T) {
	f := newFixture(t, Config{})
	for _, target := range []string{"/v1", "/v1/", "/v1/webhooks/", "/V1/webhooks", "/v1//webhooks", "/v1/webhooks/1/2/3", "/v1/webhooks/1%2Fsecret/x",
		"/favicon.ico", "/v1/webhooks/../events", "//", "/%00"} {
		p := wantProblem(t, f.do("GET", target, ""), http.StatusNotFound)
		if p.Title != "Not Found" {
			t.Errorf("title %q", p.Title)
		}
	}
	for _, c := range []struct{ method, target, allow string }{
		{"GET", "/v1/events", "OPTIONS, POST"},
		{"OPTIONS", "/v1/webhooks", "GET, HEAD, POST"},
		{"PUT", "/v1/webhooks", "GET, HEAD, POST"},
		{"POST", "/v1/webhooks/1", "DELETE, GET, HEAD, PATCH"},
		{"DELETE", "/v1/deliveries/" + nobodys + "/retry", "POST"},
		{"POST", "/healthz", "GET, HEAD"},
		{"TRACE", "/", "GET, HEAD"},
		{"BREW", "/metrics", "GET, HEAD"},
	} {
		rec := f.do(c.method, c.target, "")
		wantProblem(t, rec, http.StatusMethodNotAllowed)
		if got := rec.Header().Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.target, got, c.allow)
		}
	}
	// The two forms of a request target that are no path.
	for _, r := range []*http.Request{f.request("OPTIONS", "/", ""), f.request("CONNECT", "/", "")} {
		if r.URL.Path = "*"; r.Method == "CONNECT" {
			r.URL.Path = ""
		}
		if rec := f.serve(r); rec.Code != http.StatusNotFound && rec.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s %q: got %d", r.Method, r.URL.Path, rec.Code)
		}
	}
}

func TestProbes(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(200, "GET", "/healthz?cache=buster", "")
	rec := f.do("GET", "/readyz", "")
	wantProblem(t, rec, http.StatusServiceUnavailable) // nobody runs the engine
	if rec.Header().Get("Retry-After") == "" {
		t.Error("/readyz: no Retry-After")
	}

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.engine.Run(ctx) }()
	for f.engine.Ready(t.Context()) != nil { // Run says so as soon as it begins
	}
	if got := f.want(200, "GET", "/readyz", ""); got != "{\"status\":\"ready\"}\n" {
		t.Errorf("/readyz: %s", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	wantProblem(t, f.do("GET", "/readyz", ""), http.StatusServiceUnavailable)
}

// TestNoRoom shows that a full disk leads to 503 with the reason, for events and readiness alone.
func TestNoRoom(t *testing.T) {
	f := newFixture(t, Config{})
	full, err := bolt.Open(filepath.Join(t.TempDir(), "full.db"), bolt.Options{MaxBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	reg := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(f.log, nil))
	f.engine = engine.New(full, engine.DefaultConfig(), reg, log)
	f.h = observed{t: t, h: New(f.engine, Config{}, reg, log)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.engine.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for strings.Contains(f.do("GET", "/readyz", "").Body.String(), "not running") { // Run says so as soon as it begins
	}
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	for range 2 {
		for _, call := range [][3]string{{"POST", "/v1/events", start(sessionA)}, {"GET", "/readyz", ""}} {
			rec := f.do(call[0], call[1], call[2])
			p := wantProblem(t, rec, http.StatusServiceUnavailable)
			if !strings.Contains(p.Detail, "storage.max_bytes") || rec.Header().Get("Retry-After") == "" {
				t.Errorf("%s: %q, Retry-After %q; want the reason", call[1], p.Detail, rec.Header().Get("Retry-After"))
			}
		}
	}
	f.want(202, "POST", "/v1/webhooks/1/test", "")
	f.want(200, "PATCH", "/v1/webhooks/1", `{"name":"b"}`)
	if body := f.want(200, "GET", "/metrics", ""); !strings.Contains(body, "\nhookbolt_storage_full 1\n") {
		t.Error("the metrics do not say that it is full")
	}
	if n := strings.Count(f.log.String(), "events are refused with 503"); n != 1 {
		t.Errorf("the log says %d times that events are refused, want once\n%s", n, f.log)
	}
}

// TestStoreGone shows that a database that is closed or has failed leads to 503, not to 500, and not to a line in the log for each request.
func TestStoreGone(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	teststore.Close(t, f.store)
	for _, c := range []struct{ method, target, body string }{
		{"POST", "/v1/events", start(sessionA)},
		{"POST", "/v1/webhooks", `{"url":"https://example.com/"}`},
		{"GET", "/v1/webhooks/1", ""},
		{"PATCH", "/v1/webhooks/1", `{"delay":1}`},
		{"DELETE", "/v1/webhooks/1", ""},
		{"POST", "/v1/webhooks/1/rotate-secret", ""},
		{"POST", "/v1/webhooks/1/test", ""},
		{"GET", "/v1/sessions/" + sessionA, ""},
		{"GET", "/v1/deliveries", ""},
		{"GET", "/v1/deliveries/" + nobodys, ""},
		{"POST", "/v1/deliveries/" + nobodys + "/retry", ""},
		{"POST", "/v1/deliveries/" + nobodys + "/cancel", ""},
		{"GET", "/readyz", ""},
	} {
		rec := f.do(c.method, c.target, c.body)
		wantProblem(t, rec, http.StatusServiceUnavailable)
		if rec.Header().Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", c.method, c.target)
		}
	}
	f.want(200, "GET", "/healthz", "")
	if got := f.log.withoutAudit(); got != "" {
		t.Errorf("logged: %s", got)
	}
	// One failing collector does not take /metrics with it. (This one is logged: nobody else would tell.)
	if got := f.want(200, "GET", "/metrics", ""); !strings.Contains(got, "hookbolt_http_requests_total") || strings.Contains(got, "hookbolt_queue_deliveries") {
		t.Errorf("/metrics:\n%s", got)
	}
}

// TestProblemOf is the mapping of errors to answers.
func TestProblemOf(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx    context.Context
		err    error
		status int
		detail string
	}{
		{t.Context(), engine.InputErrors{{Detail: "is empty"}}, 400, "is empty"},
		{t.Context(), engine.InputErrors{{Index: 3, Field: "type", Detail: "is required"}, {}, {}}, 400, "event 3: type: is required (and 2 more in errors)"},
		{t.Context(), fmt.Errorf("ingest: %w", engine.InputErrors{{Field: "url", Detail: "is required"}}), 400, "url: is required"},
		{t.Context(), &http.MaxBytesError{Limit: 77}, 413, "the body has more than 77 bytes, which is the limit of this call (of events, http.max_body sets it)"},
		{t.Context(), fmt.Errorf("webhook 7: %w", engine.ErrNotFound), 404, "webhook 7: not found"},
		{t.Context(), fmt.Errorf("%w: it is delivered", engine.ErrConflict), 409, "it is delivered"},
		{t.Context(), fmt.Errorf("%w: webhook 7", engine.ErrPrecondition), 412, "the webhook was changed since"},
		{t.Context(), fmt.Errorf("%w: closed", engine.ErrUnavailable), 503, "the database takes no work"},
		{gone, fmt.Errorf("read: %w", context.Canceled), 499, "the client went away"},
		{t.Context(), context.Canceled, 500, "something went wrong inside hookbolt"}, // not the client's doing
		{t.Context(), errors.New("bucket 7 of ann@example.com is torn"), 500, "something went wrong inside hookbolt"},
		{t.Context(), &problem{Status: 415, Detail: "no gzip"}, 415, "no gzip"},
	} {
		p := problemOf(c.ctx, c.err)
		if p.Status != c.status || !strings.HasPrefix(p.Detail, c.detail) {
			t.Errorf("%v: got %d %q, want %d %q", c.err, p.Status, p.Detail, c.status, c.detail)
		}
	}
}

// A store that works and refuses requests for the moment is told of in the log, once a minute.
func TestTransientIsLogged(t *testing.T) {
	log := &logBuffer{tee: t.Output()}
	a := &API{engine: newFixture(t, Config{}).engine, log: slog.New(slog.NewTextHandler(log, nil)),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests"}, []string{"route", "method", "code"})}
	a.Configure(Config{})
	call := func(err error) {
		t.Helper()
		r := httptest.NewRequest("GET", "/v1/things", nil)
		r.Host = "localhost"
		rec := httptest.NewRecorder()
		handle := func(*http.Request, httprouter.Params) (any, error) { return nil, err }
		a.serve(route{method: "GET", path: "/v1/things", status: 200, allowedRoles: readToken, handle: handle})(rec, r, nil)
		wantProblem(t, rec, http.StatusServiceUnavailable)
	}
	locked := fmt.Errorf("%w: a lock is in the way", engine.ErrTransient)
	for _, c := range []struct {
		err  error
		want int
	}{{engine.ErrAway, 0}, {locked, 1}, {locked, 1}} {
		call(c.err)
		if n := strings.Count(log.String(), "a lock is in the way"); n != c.want || strings.Count(log.String(), "\n") != c.want {
			t.Errorf("after %v: logged %d times, want %d\n%s", c.err, n, c.want, log)
		}
	}
	a.transientLogged.Add(-int64(time.Minute)) // a minute later
	if call(locked); strings.Count(log.String(), "\n") != 2 {
		t.Errorf("a minute later:\n%s", log)
	}
}

// TestFailingHandler shows what callers and the log get when a handler fails inside or panics.
func TestFailingHandler(t *testing.T) {
	for _, c := range []struct {
		name   string
		handle handler
		logs   []string // all in the only line of the log
	}{
		{"error", func(*http.Request, httprouter.Params) (any, error) { return nil, errors.New("torn page") },
			[]string{"a request failed", "method=GET", "route=/v1/things/:id", "torn page"}},
		{"panic", func(*http.Request, httprouter.Params) (any, error) { panic("boom") },
			[]string{"panicked", "route=/v1/things/:id", "boom", "TestFailingHandler"}},
		{"unencodable", func(*http.Request, httprouter.Params) (any, error) { return make(chan int), nil }, []string{"a request failed", "json"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &logBuffer{tee: t.Output()}
			reg := prometheus.NewRegistry()
			a := &API{engine: newFixture(t, Config{}).engine, log: slog.New(slog.NewTextHandler(log, nil)),
				requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests"}, []string{"route", "method", "code"})}
			a.Configure(Config{})
			reg.MustRegister(a.requests)
			r := httptest.NewRequest("GET", "/v1/things/private-name", strings.NewReader("private body"))
			r.Host = "localhost"
			rec := httptest.NewRecorder()
			a.serve(route{method: "GET", path: "/v1/things/:id", status: 200, allowedRoles: readToken, handle: c.handle})(rec, r, nil)

			p := wantProblem(t, rec, http.StatusInternalServerError)
			if strings.Contains(rec.Body.String(), "torn") || strings.Contains(rec.Body.String(), "boom") || p.Errors != nil {
				t.Errorf("the answer tells of the inside: %s", rec.Body)
			}
			got := log.String()
			if strings.Count(got, "\n") != 1 || strings.Contains(got, "private") {
				t.Errorf("logged: %s", got)
			}
			for _, part := range c.logs {
				if !strings.Contains(got, part) {
					t.Errorf("not in the log: %q\n%s", part, got)
				}
			}
			if got := gathered(t, reg, "requests"); got["/v1/things/:id GET 500"] != 1 || len(got) != 1 {
				t.Errorf("metrics %v", got)
			}
		})
	}
}

// TestAbortedHandler shows that a deliberate abort is passed on: net/http then cuts the connection.
func TestAbortedHandler(t *testing.T) {
	f := newFixture(t, Config{})
	a := &API{bodies: newBodyBudgets(), requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests"}, []string{"route", "method", "code"})}
	a.Configure(Config{})
	h := a.serve(route{path: "/", status: 200, handle: func(*http.Request, httprouter.Params) (any, error) { panic(http.ErrAbortHandler) }})
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("recovered %v", v)
		}
	}()
	h(httptest.NewRecorder(), f.request("GET", "/", ""), nil)
}

// gathered returns a counter's values by "route method code".
func gathered(t testing.TB, reg *prometheus.Registry, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.Metric {
			labels := make(map[string]string)
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if len(labels) != 3 {
				t.Errorf("labels %v", labels)
			}
			values[labels["route"]+" "+labels["method"]+" "+labels["code"]] = m.Counter.GetValue()
		}
	}
	return values
}

func TestRequestMetrics(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(202, "POST", "/v1/events", start(sessionA))
	f.want(202, "POST", "/v1/events", start(sessionB))
	f.want(400, "POST", "/v1/events", "nonsense")
	f.want(200, "GET", "/v1/sessions/"+sessionA, "")
	f.want(200, "HEAD", "/v1/sessions/"+sessionA, "")
	f.want(404, "GET", "/v1/sessions/"+nobodys, "")
	f.want(404, "GET", "/v1/some-secret-path", "")
	f.want(405, "BREW", "/v1/events", "")
	f.want(404, "WHEN", "/teapot", "")
	f.want(200, "GET", "/metrics", "")
	text := f.want(200, "GET", "/metrics", "")

	got := gathered(t, f.reg, "hookbolt_http_requests_total")
	for key, want := range map[string]float64{
		"/v1/events POST 202": 2, "/v1/events POST 400": 1, "/v1/sessions/:id GET 200": 1, "/v1/sessions/:id HEAD 200": 1,
		"/v1/sessions/:id GET 404": 1, "other GET 404": 1, "other other 405": 1, "other other 404": 1, "/metrics GET 200": 2,
	} {
		if got[key] != want {
			t.Errorf("%s: got %v, want %v", key, got[key], want)
		}
		delete(got, key)
	}
	for key, n := range got {
		if n != 0 {
			t.Errorf("unexpected %s: %v", key, n)
		}
	}
	for _, part := range []string{`hookbolt_http_requests_total{code="202",method="POST",route="/v1/events"} 2`, "hookbolt_events_accepted_total 2",
		"hookbolt_queue_deliveries", "hookbolt_storage_size_bytes"} {
		if !strings.Contains(text, part) {
			t.Errorf("/metrics does not have %s", part)
		}
	}
	for _, part := range []string{sessionA, "secret-path", "teapot", "BREW"} {
		if strings.Contains(text, part) {
			t.Errorf("/metrics shows %s", part)
		}
	}
}

// TestHeaders holds every kind of answer against the headers that all of them have.
func TestHeaders(t *testing.T) {
	f := newFixture(t, Config{})
	for _, c := range []struct{ method, target, body, contentType string }{
		{"GET", "/", "", "text/html; charset=utf-8"},
		{"POST", "/v1/events", start(sessionA), "application/json"},
		{"GET", "/v1/webhooks", "", "application/json"},
		{"GET", "/nothing", "", "application/problem+json"},
		{"GET", "/v1/events", "", "application/problem+json"},
		{"GET", "/metrics", "", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"},
	} {
		h := f.do(c.method, c.target, c.body).Header()
		if h.Get("Content-Type") != c.contentType || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %v", c.method, c.target, h)
		}
	}
}

func TestInstant(t *testing.T) {
	east := time.FixedZone("east", 2*3600)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Time{}, `null`},
		{time.Date(2024, 1, 23, 13, 59, 33, 0, east), `"2024-01-23T11:59:33Z"`},
		{time.Date(2024, 1, 23, 11, 59, 33, 120_000_000, time.UTC), `"2024-01-23T11:59:33.12Z"`},
		{time.Date(2024, 1, 23, 11, 59, 33, 123_456_789, time.UTC), `"2024-01-23T11:59:33.123456Z"`},
	} {
		got, err := instant(c.at).MarshalJSON()
		if err != nil || string(got) != c.want {
			t.Errorf("%v: got %s, %v; want %s", c.at, got, err, c.want)
		}
	}
}

// nothingWriter takes an answer and keeps nothing, so that a benchmark measures the API and not the recorder.
type nothingWriter struct{ header http.Header }

func (w nothingWriter) Header() http.Header         { return w.header }
func (w nothingWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w nothingWriter) WriteHeader(int)             {}

// BenchmarkAdapter is what a request costs around its handler: router, gate, body, answer, metric.
func BenchmarkAdapter(b *testing.B) {
	a := &API{requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests"}, []string{"route", "method", "code"})}
	a.Configure(Config{AdminTokens: []string{"admin"}, IngestTokens: []string{"ingest"}})
	router := httprouter.New()
	router.Handle("POST", "/v1/events", a.serve(route{path: "/v1/events", status: 202, allowedRoles: ingestToken,
		handle: func(r *http.Request, _ httprouter.Params) (any, error) {
			res := a.reserve(r, a.bodies.small, a.bodies.large)
			defer res.release()
			_, err := readBody(r, a.settings.Load().maxBody, &res)
			return rawJSON("{\"accepted\":1}\n"), err
		}}))
	body := start(sessionA)
	r := httptest.NewRequest("POST", "/v1/events", nil)
	r.Header.Set("Authorization", "Bearer ingest")
	r.ContentLength = int64(len(body))
	w := nothingWriter{http.Header{}}
	reader := strings.NewReader("")
	closer := nopCloser{reader}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		r.Body = closer
		router.ServeHTTP(w, r)
	}
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }
