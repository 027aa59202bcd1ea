package ui_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"hookbolt/engine"
	"hookbolt/engine/transform"
	"hookbolt/httpapi"
	"hookbolt/internal/teststore"
)

// TestMain fails the package if its tests leave a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(teststore.Main{M: m}) }

// fixture is the pages as httpapi serves them, on a real engine and a real database. The engine's loop does not run unless a test runs
// it, so deliveries stay where the calls have put them.
type fixture struct {
	t      testing.TB
	h      http.Handler
	engine *engine.Engine
}

// newFixture makes one without tokens. network takes the place of the network; nil where a test sends nothing.
func newFixture(t testing.TB, network http.RoundTripper) *fixture {
	t.Helper()
	return newFixtureOn(t, teststore.Open(t), network)
}

// newFixtureOn is newFixture on a store of the test's own.
func newFixtureOn(t testing.TB, store engine.Store, network http.RoundTripper) *fixture {
	t.Helper()
	reg := prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg := engine.DefaultConfig()
	cfg.Transport = network
	cfg.Retry.Jitter = 0
	cfg.RunPrograms = func(_ context.Context, job transform.Job) (transform.Result, error) { return transform.Eval(job) } // this program is no worker
	f := &fixture{t: t, engine: engine.New(store, cfg, reg, log)}
	f.h = httpapi.New(f.engine, httpapi.Config{}, reg, log)
	return f
}

// get asks for a page as a browser does.
func (f *fixture) get(target string) *httptest.ResponseRecorder { return f.do("GET", target, nil) }

// post sends a form as a page of hookbolt does.
func (f *fixture) post(target string, form url.Values) *httptest.ResponseRecorder {
	return f.do("POST", target, strings.NewReader(form.Encode()))
}

// do makes any call, of the API too.
func (f *fixture) do(method, target string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, body)
	r.Host = "localhost:8080"
	r.Header.Set("Accept", "text/html")
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://localhost:8080")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	rec := httptest.NewRecorder()
	f.h.ServeHTTP(rec, r)
	return rec
}

// wantPage asks for a page, which must have the given parts, and returns it.
func (f *fixture) wantPage(target string, parts ...string) string {
	f.t.Helper()
	return f.wantIn(f.get(target), 200, parts...)
}

// wantIn holds a page against its status and the parts that it must have, and returns it.
func (f *fixture) wantIn(rec *httptest.ResponseRecorder, status int, parts ...string) string {
	f.t.Helper()
	page := rec.Body.String()
	if rec.Code != status {
		f.t.Fatalf("got %d, want %d\n%s", rec.Code, status, mainOf(page))
	}
	for _, part := range parts {
		if !strings.Contains(page, part) {
			f.t.Errorf("the page does not have %q\n%s", part, mainOf(page))
		}
	}
	return page
}

// mainOf is what differs from page to page.
func mainOf(page string) string {
	_, page, _ = strings.Cut(page, "<main")
	page, _, _ = strings.Cut(page, "</main>")
	return page
}
