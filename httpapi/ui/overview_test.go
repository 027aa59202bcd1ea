package ui_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestFirstStart shows that somebody who has nothing yet is told where to begin.
func TestFirstStart(t *testing.T) {
	f := newFixture(t, nil)
	f.wantPage("/", "<title>Overview · hookbolt</title>", `aria-current="page">Overview`, "Get started", `href="/new-webhook"`, "there is room")
}

// run runs the engine's loop until the test ends.
func (f *fixture) run() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error)
	go func() { ended <- f.engine.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Error(err)
		}
	}
}

// api makes a call of the API, which must succeed.
func (f *fixture) api(method, target, body string) string {
	f.t.Helper()
	rec := f.do(method, target, strings.NewReader(body))
	if rec.Code/100 != 2 {
		f.t.Fatalf("%s %s: %d %s", method, target, rec.Code, rec.Body)
	}
	return rec.Body.String()
}

const (
	sessionA = "22ffdf18-1035-4e56-baa2-8327e3af5242"
	sessionB = "22ffdf18-1035-4e56-baa2-8327e3af5243"
	contentA = "6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"
)

// played is a session's events, whole.
func played(session string) string {
	return `{"type":"start","session_id":"` + session + `","content_id":"` + contentA + `","content_type":"quiz","poltio_user_id":7}
{"type":"finish","session_id":"` + session + `"}`
}

// TestOverview lets one webhook get through and another fail, and looks at what is told of it.
func TestOverview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "broken.example" {
				return nil, errors.New("broken")
			}
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://good.example/","name":"good <b>one</b>","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://broken.example/?token=sekret","delay":0,"retry_schedule":["5s"]}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://paused.example/","name":"held","delay":0,"paused":true}`)
		f.api("POST", "/v1/events", played(sessionA))
		time.Sleep(time.Minute)
		page := f.wantPage("/", `<dt>Accepted</dt><dd><span class="figure">2</span>`, `<dt>Delivered</dt><dd><span class="figure">1</span>`,
			`<dt>Failed</dt><dd><span class="figure">1</span><span class="dim">in the last hour, 1 attempt retried`,
			`<dt>Waiting now</dt><dd><span class="figure">1</span><span class="dim">0 scheduled, 0 due, 0 in flight, 1 held`,
			"broken.example/</a>", "1 delivery has failed", "paused by hand; 1 held", "Latest failed deliveries",
			"1 delivered, 1 failed attempt, retried, 1 failed for good, 0 cancelled", "Counting began")
		if strings.Contains(page, "sekret") || strings.Contains(page, "good &lt;b&gt;") {
			t.Error("the page shows a URL's query, or a webhook that needs no attention")
		}
		f.wantPage("/?span=day", `href="/?span=day" aria-current="true"`, "in the last day", "1 delivered")
		f.wantPage("/?span=nonsense", `href="/?span=hour" aria-current="true"`)
	})
}

// transport takes the place of the network.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
