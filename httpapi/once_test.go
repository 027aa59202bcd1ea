package httpapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
)

// doOnce makes a call with an Idempotency-Key.
func (f *fixture) doOnce(key, method, target, body string) *httptest.ResponseRecorder {
	r := f.request(method, target, body)
	r.Header.Set("Idempotency-Key", key)
	return f.serve(r)
}

func TestIdempotencyKeyParsing(t *testing.T) {
	long := strings.Repeat("k", 255)
	for _, c := range []struct {
		lines []string
		want  string // "" for none, "error"
	}{
		{nil, ""},
		{[]string{"8e03978e-40d5-43dd-bc93-6894a57f9324"}, "8e03978e-40d5-43dd-bc93-6894a57f9324"},
		{[]string{`"8e03978e"`}, "8e03978e"},
		{[]string{` "a b" `}, "a b"},
		{[]string{`"a\"b\\c"`}, `a"b\c`},
		{[]string{`a"b\c`}, `a"b\c`},
		{[]string{`a, b`}, "a, b"},
		{[]string{long}, long},
		{[]string{`"` + long + `"`}, long},
		{[]string{long + "k"}, "error"},
		{[]string{`"` + long + `k"`}, "error"},
		{[]string{""}, "error"},
		{[]string{`""`}, "error"},
		{[]string{`"`}, "error"},
		{[]string{`"a`}, "error"},
		{[]string{`"a\`}, "error"},
		{[]string{`"a\b"`}, "error"},
		{[]string{`"a";x=1`}, "error"},
		{[]string{`"a", "b"`}, "error"},
		{[]string{"a", "b"}, "error"},
		{[]string{"a", "a"}, "error"},
		{[]string{"schlüssel"}, "error"},
		{[]string{"a\tb"}, "error"},
		{[]string{"a\x7f"}, "error"},
	} {
		got, err := idempotencyKey(&http.Request{Header: http.Header{"Idempotency-Key": c.lines}})
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%q is %q, %v; want %q", c.lines, got, err, c.want)
		}
	}
}

// onceCalls are the calls that have their effect once, while webhook 1 is there, and what else would be another request.
var onceCalls = []struct{ target, body, other string }{
	{"/v1/webhooks", `{"url":"https://a.example/","headers":{"X-Key":"hunter2"}}`, `{"url":"https://b.example/"}`},
	{"/v1/webhooks/1/rotate-secret", `{"overlap":"1h"}`, `{"overlap":"2h"}`},
	{"/v1/webhooks/1/test", ``, ``},
	{"/v1/webhooks/1/replay", `{"status":"missing"}`, `{"status":"failed"}`},
}

// counts counts what the calls have made.
func (f *fixture) counts() string {
	f.t.Helper()
	w, err := f.engine.Webhook(1)
	if err != nil {
		f.t.Fatal(err)
	}
	o, err := f.engine.Overview(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return fmt.Sprintf("%d webhooks, %d old secrets, %d deliveries, %d replays", len(f.engine.Webhooks()), len(w.PreviousSecrets), o.PerWebhook[1].Scheduled+o.PerWebhook[1].Pending, len(o.Replays))
}

// A repeated request gets the same response, says that it is one, and has no effect; nor after a restart.
func TestIdempotencyKey(t *testing.T) {
	for _, c := range onceCalls {
		f := newFixture(t, Config{})
		f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA)) // what a replay finds missing
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
		first := f.doOnce("k-1", "POST", c.target, c.body)
		if first.Code >= 300 || first.Header().Get("Idempotency-Replayed") != "" {
			t.Fatalf("%s: %d %v %s", c.target, first.Code, first.Header(), first.Body)
		}
		after := f.counts()
		for _, key := range []string{"k-1", `"k-1"`, "restart", "k-1"} {
			if key == "restart" { // what is kept in memory is gone
				log := slog.New(slog.NewTextHandler(f.log, nil))
				reg := prometheus.NewRegistry()
				f.engine = engine.New(f.store, f.engine.Config(), reg, log)
				f.h = observed{t: t, h: New(f.engine, Config{}, reg, log)}
				continue
			}
			again := f.doOnce(key, "POST", c.target, c.body)
			if again.Code != first.Code || again.Body.String() != first.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
				t.Errorf("%s, repeated: %d %s\nwant %d %s", c.target, again.Code, again.Body, first.Code, first.Body)
			}
			for _, name := range []string{"Location", "ETag", "Content-Type"} {
				if got, want := again.Header().Get(name), first.Header().Get(name); got != want {
					t.Errorf("%s, repeated: %s is %q, want %q", c.target, name, got, want)
				}
			}
			lines := f.log.audited()
			if last := lines[len(lines)-1]; !strings.Contains(last, "repeated=true") || strings.Contains(last, "settings=") {
				t.Errorf("%s, repeated, is told as %s", c.target, last)
			}
		}
		if got := f.counts(); got != after {
			t.Errorf("%s: there are %s, want %s", c.target, got, after)
		}
		if c.other != c.body {
			if p := wantProblem(t, f.doOnce("k-1", "POST", c.target, c.other), 422); !strings.Contains(p.Detail, "belongs to another request") {
				t.Errorf("%s with another body: %s", c.target, p.Detail)
			}
		}
		for _, other := range onceCalls {
			if other.target != c.target {
				wantProblem(t, f.doOnce("k-1", "POST", other.target, other.body), 422)
			}
		}
		if got := f.counts(); got != after {
			t.Errorf("%s: there are %s, want %s", c.target, got, after)
		}
		f.doOnce("k-2", "POST", c.target, c.body)
		f.do("POST", c.target, c.body)
		if got := f.counts(); got == after && !strings.Contains(c.target, "rotate") {
			t.Errorf("%s with another key, and with none: there are %s still", c.target, got)
		}
		if strings.Contains(f.log.String(), "k-1") || strings.Contains(f.log.String(), "hunter2") {
			t.Error("the log shows the key")
		}
	}
}

// What was refused or failed is not remembered.
func TestIdempotencyKeyOfFailures(t *testing.T) {
	f := newFixture(t, Config{})
	for range 2 {
		wantInputProblem(t, f.doOnce("k", "POST", "/v1/webhooks", `{"url":"nowhere"}`), 0, "url", "http or https")
	}
	wantProblem(t, f.doOnce("k", "POST", "/v1/webhooks/1/test", ""), 404)
	if rec := f.doOnce("k", "POST", "/v1/webhooks", `{"url":"https://a.example/"}`); rec.Code != 201 {
		t.Errorf("after failures: %d %s", rec.Code, rec.Body)
	}
	p := wantProblem(t, f.doOnce("schlüssel", "POST", "/v1/webhooks", `{"url":"https://a.example/"}`), 400)
	if !strings.Contains(p.Detail, "1 to 255 printable") || len(f.engine.Webhooks()) != 1 {
		t.Errorf("a malformed key: %s", p.Detail)
	}
	// A dry run has no effect to be remembered.
	for _, body := range []string{`{"status":"any","dry_run":true}`, `{"status":"any"}`} {
		if rec := f.doOnce("dry", "POST", "/v1/webhooks/1/replay", body); rec.Code >= 300 || rec.Header().Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	// Other calls have no use for a key.
	for range 2 {
		if rec := f.doOnce("k", "PATCH", "/v1/webhooks/1", `{"delay":7}`); rec.Code != 200 || rec.Header().Get("Idempotency-Replayed") != "" {
			t.Errorf("PATCH: %d %s", rec.Code, rec.Body)
		}
	}
}

// While the first request is carried out, a second one is told to wait, and another one with its key that it is another one.
func TestIdempotencyKeyInUse(t *testing.T) {
	f := newFixture(t, Config{})
	const body = `{"url":"https://a.example/"}`
	_, end, err := f.engine.BeginOnce(t.Context(), newOnce(f.request("POST", "/v1/webhooks", ""), "k", []byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	rec := f.doOnce("k", "POST", "/v1/webhooks", body)
	if wantProblem(t, rec, 409); rec.Header().Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	wantProblem(t, f.doOnce("k", "POST", "/v1/webhooks", `{"url":"https://b.example/"}`), 422)
	if rec := f.doOnce("other", "POST", "/v1/webhooks", body); rec.Code != 201 {
		t.Errorf("another key: %d", rec.Code)
	}
	end()
	if rec := f.doOnce("k", "POST", "/v1/webhooks", body); rec.Code != 201 || rec.Header().Get("Idempotency-Replayed") != "" {
		t.Errorf("after the first one has ended without an effect: %d", rec.Code)
	}
}

// Of many at once one has an effect, whoever comes first.
func TestIdempotencyKeyRace(t *testing.T) {
	f := newFixture(t, Config{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				rec := f.doOnce("k", "POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
				if rec.Code == 201 {
					return
				}
				if rec.Code != 409 {
					t.Errorf("%d %s", rec.Code, rec.Body)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := len(f.engine.Webhooks()); n != 1 {
		t.Errorf("there are %d webhooks", n)
	}
}

// A key is of the token that it came with.
func TestIdempotencyKeyOfTokens(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"first", "second"}, ReadTokens: []string{"reader"}})
	for i, token := range []string{"first", "second", "first", "second"} {
		f.token = token
		rec := f.doOnce("k", "POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
		if want := fmt.Sprintf("/v1/webhooks/%d", i%2+1); rec.Code != 201 || rec.Header().Get("Location") != want {
			t.Errorf("%s: %d at %s, want %s", token, rec.Code, rec.Header().Get("Location"), want)
		}
	}
	f.token = "second"
	if rec := f.doOnce("k", "POST", "/v1/webhooks", `{"url":"https://other.example/"}`); rec.Code != 422 {
		t.Errorf("another body: %d", rec.Code)
	}
	f.token = "reader"
	wantProblem(t, f.doOnce("k", "POST", "/v1/webhooks", `{"url":"https://a.example/"}`), 403)
}

// A response is made anew: it has the settings of now, and where there is nothing left, it says so and makes nothing.
func TestIdempotencyKeyLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		create := func() *httptest.ResponseRecorder {
			return f.doOnce("k", "POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
		}
		create()
		f.want(200, "PATCH", "/v1/webhooks/1", `{"name":"by now"}`)
		time.Sleep(24*time.Hour - 1)
		if rec := create(); rec.Code != 201 || !strings.Contains(rec.Body.String(), `"name":"by now"`) {
			t.Errorf("after a change: %d %s", rec.Code, rec.Body)
		}
		f.want(204, "DELETE", "/v1/webhooks/1", "")
		rec := create()
		if p := wantProblem(t, rec, 410); !strings.Contains(p.Detail, "was deleted since") || rec.Header().Get("Idempotency-Replayed") != "true" {
			t.Errorf("after the deletion: %s", p.Detail)
		}
		time.Sleep(time.Nanosecond)
		if rec := create(); rec.Code != 201 || rec.Header().Get("Location") != "/v1/webhooks/2" || rec.Header().Get("Idempotency-Replayed") != "" {
			t.Errorf("after a day: %d %s", rec.Code, rec.Body)
		}
		// The condition was that of the first request.
		r := f.request("POST", "/v1/webhooks/2/rotate-secret", "")
		r.Header.Set("Idempotency-Key", "r")
		r.Header.Set("If-Match", f.etag("/v1/webhooks/2"))
		for _, replayed := range []string{"", "true"} {
			again := r.Clone(t.Context())
			again.Body = http.NoBody
			if rec := f.serve(again); rec.Code != 200 || rec.Header().Get("Idempotency-Replayed") != replayed {
				t.Errorf("rotated with If-Match: %d %s", rec.Code, rec.Body)
			}
		}
	})
}
