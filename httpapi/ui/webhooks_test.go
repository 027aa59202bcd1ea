package ui_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestFirstPageIsSmall holds the page that everybody sees first to what a phone loads at once.
func TestFirstPageIsSmall(t *testing.T) {
	f := newFixture(t, nil)
	page := f.wantPage("/")
	if len(page) > 100_000 {
		t.Errorf("%d bytes", len(page))
	}
	for _, loads := range []string{"<link rel=\"stylesheet", "src=", "@import", "url("} {
		if strings.Contains(page, loads) {
			t.Errorf("the page loads something: %s", loads)
		}
	}
}

// TestWebhookList shows webhooks in each state, and pages through many.
func TestWebhookList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(r *http.Request) (*http.Response, error) {
			switch r.URL.Host {
			case "broken.example":
				return nil, errors.New("broken")
			case "gone.example":
				return &http.Response{StatusCode: 410, Body: http.NoBody}, nil
			}
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.wantPage("/webhooks", "There is no webhook yet.", "/new-webhook")
		f.api("POST", "/v1/webhooks", `{"url":"https://good.example/","name":"<script>alert(1)</script>","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://broken.example/in?token=sekret","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://gone.example/","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://off.example/","active":false,"content_id":"`+contentA+`"}`)
		for i := range 6 {
			f.api("POST", "/v1/events", played(fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012x", i)))
		}
		time.Sleep(2 * time.Minute)
		page := f.wantPage("/webhooks", "&lt;script&gt;alert(1)&lt;/script&gt;", "100 %", `<span class="badge ok">204</span>`, ">broken.example/in</a>",
			`<span class="badge failing">failing</span>`, "next try", "the endpoint answered 410 Gone", `<span class="badge inactive">inactive</span>`, "for <span class=\"mono\">"+contentA)
		if strings.Contains(page, "sekret") || strings.Contains(page, "<script>alert") {
			t.Error("the page shows a URL's query, or a name as HTML")
		}
		for range 60 {
			f.api("POST", "/v1/webhooks", `{"url":"https://many.example/"}`)
		}
		page = f.wantPage("/webhooks", `href="/webhooks?after=50" rel="next"`)
		if n := strings.Count(page, `<tr id="webhook-`); n != 50 {
			t.Errorf("%d webhooks on the first page", n)
		}
		page = f.wantPage("/webhooks?after=50", `<tr id="webhook-51"`, ">First</a>")
		if n := strings.Count(page, `<tr id="webhook-`); n != 14 || strings.Contains(page, ">Next</a>") {
			t.Errorf("%d webhooks on the last page", n)
		}
		f.wantPage("/webhooks?after=64", "There is no webhook beyond")
		f.wantPage("/webhooks?after=nonsense", `<tr id="webhook-1"`)
	})
}

// TestWebhookStates looks at the page of one webhook in each state, and presses its buttons.
func TestWebhookStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			if broken.Load() {
				return nil, errors.New("broken")
			}
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		press := func(action string) {
			t.Helper()
			if rec := f.post("/webhooks/1/"+action, nil); rec.Code != 303 {
				t.Fatalf("%s: %d\n%s", action, rec.Code, mainOf(rec.Body.String()))
			}
		}
		n := 0
		send := func() {
			t.Helper()
			n++
			f.api("POST", "/v1/events", played(fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012x", n)))
			time.Sleep(time.Second)
		}
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/?key=x","delay":0,"headers":{"X-Key":"sekret"},"basic_auth":{"username":"ada","password":"sekret"},"rate_limit":5,
			"send_incomplete":true,"incomplete_delay":90}`)
		page := f.wantPage("/webhooks/1", "What is due is sent.", "None yet. Send it a test", "https://a.example/?key=x", "X-Key", "Basic authentication", "5 a second",
			"sent 1 min 30 s after the start", "every content <span class=\"dim\">(default)</span>", ">Pause</button>", "/webhooks/1/deactivate")
		if strings.Contains(page, "sekret") || strings.Contains(page, "whsec_") {
			t.Error("the page shows a credential")
		}
		send()
		f.wantPage("/webhooks/1", "100 % of what has ended", ">204</a>", "lag ", `<tr id="d-`)

		press("pause")
		f.wantPage("/webhooks/1?done=paused", "It is paused: everything waits", "paused by hand. Nothing is sent, and nothing is lost", ">Resume</button>")
		send()
		f.wantPage("/webhooks/1", `<dt>Waiting</dt><dd><span class="figure">1</span>`, "1 due")
		press("resume")
		time.Sleep(time.Second)
		f.wantPage("/webhooks/1?done=resumed", "It is resumed", `<dt>Delivered</dt><dd><span class="figure">2</span>`)

		broken.Store(true)
		for range 5 {
			send()
		}
		f.wantPage("/webhooks/1", "Its last 5 attempts have failed", "It gets one attempt at a time until one succeeds, the next one")

		f.wantPage("/webhooks/1/deactivate", "<strong>5 deliveries</strong> that wait are cancelled.", "pause it instead")
		f.wantPage("/webhooks/1", `<span class="badge failing">`) // it was only asked
		press("deactivate")
		time.Sleep(time.Second)
		f.wantPage("/webhooks/1?done=deactivated", "Switched off: it gets nothing new.", ">Switch on</button>", `<dt>Waiting</dt><dd><span class="figure">0</span>`)
		f.wantPage("/webhooks/1/deactivate", "Nothing waits for it now.")
		press("activate")
		f.wantPage("/webhooks/1?done=activated", "It is switched on.")

		broken.Store(false)
		rec := f.post("/webhooks/1/test", nil)
		if link := rec.Header().Get("Location"); rec.Code != 303 || !strings.HasPrefix(link, "/deliveries/") {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
		time.Sleep(time.Second)
		f.wantPage(rec.Header().Get("Location"), "A sample was queued.", "The endpoint has taken it (204)", "<dd>test</dd>")

		f.wantPage("/webhooks/1/delete", "Nothing waits for it now.", "its secret and settings are gone for good")
		press("delete")
		f.wantPage("/webhooks?done=deleted", "The webhook was deleted.", "There is no webhook yet")
		for _, target := range []string{"", "/delete", "/deactivate", "/rotate", "/replay"} {
			f.wantIn(f.get("/webhooks/1"+target), 404, "not found")
		}
		for _, action := range []string{"test", "pause", "resume", "activate", "deactivate", "delete", "rotate", "replay"} {
			f.wantIn(f.post("/webhooks/1/"+action, nil), 404)
			f.wantIn(f.post("/webhooks/nonsense/"+action, nil), 404)
		}
	})
}

func TestRotate(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	before := f.api("GET", "/v1/webhooks/1/secret", "")
	f.wantPage("/webhooks/1/rotate", `value="24h" checked`)
	f.wantIn(f.post("/webhooks/1/rotate", url.Values{"overlap": {"1h"}, "secret": {"nonsense"}}), 400, "secret-error", "must be whsec_", `value="1h" checked`)
	f.wantIn(f.post("/webhooks/1/rotate", url.Values{"overlap": {"soon"}}), 400, "overlap ")
	if got := f.api("GET", "/v1/webhooks/1/secret", ""); got != before {
		t.Error("the secret has changed")
	}
	for range 2 {
		if rec := f.post("/webhooks/1/rotate", url.Values{"overlap": {"1h"}}); rec.Code != 303 || !strings.HasPrefix(rec.Header().Get("Location"), "/webhooks/1/secret") {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
	}
	if got := f.api("GET", "/v1/webhooks/1/secret", ""); got == before {
		t.Error("the secret has not changed")
	}
	f.wantPage("/webhooks/1", "An earlier one signs, too, until")
	f.wantPage("/webhooks/1/rotate", ", and an earlier one signs until", "one more ends the oldest")
}

// TestReplayPage counts first and then sends.
func TestReplayPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			if broken.Load() {
				return nil, errors.New("broken")
			}
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/events", played(sessionB))
		time.Sleep(time.Minute)
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":0,"retry_schedule":[]}`)
		for i := range 3 {
			f.api("POST", "/v1/events", played(fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012x", i)))
		}
		time.Sleep(time.Hour)
		f.wantPage("/webhooks/1/replay", `value="failed" checked`, ">Count</button>")
		f.wantPage("/webhooks/1/replay?status=failed", "<strong>3 deliveries</strong> would be sent", "Send 3 deliveries")
		f.wantPage("/webhooks/1/replay?status=missing", "<strong>1 delivery</strong> would be sent", `value="missing" checked`)
		f.wantPage("/webhooks/1/replay?status=failed&since=2000-01-01T00:30", "There is none.", `value="2000-01-01T00:30"`)
		f.wantPage("/webhooks/1/replay?status=nonsense", `value="failed" checked`)
		f.wantIn(f.get("/webhooks/1/replay?status=any&since=x&until=y"), 400, "since-error", "until-error", `value="any" checked`)
		f.wantIn(f.get("/webhooks/1/replay?status=any&since=2001-01-01&until=2000-01-01"), 400, "must not be before since")
		broken.Store(false)
		f.wantIn(f.post("/webhooks/1/replay", url.Values{"status": {"failed"}, "since": {"x"}}), 400, "since-error")
		f.wantPage("/webhooks/1", `<dt>Failed</dt><dd><span class="figure">3</span>`) // so far it was only counted
		form := formOf(mainOf(f.get("/webhooks/1/replay?status=failed").Body.String())[len("<form"):])
		form.Set("status", "failed")
		if rec := f.post("/webhooks/1/replay", form); rec.Code != 303 || rec.Header().Get("Location") != "/webhooks/1?done=replayed" {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
		time.Sleep(time.Hour)
		f.wantPage("/webhooks/1?done=replayed", "The replay was begun.", `<dt>Delivered</dt><dd><span class="figure">3</span>`)
		f.api("PATCH", "/v1/webhooks/1", `{"active":false}`)
		f.wantIn(f.get("/webhooks/1/replay?status=any"), 409, "Webhook 1 is inactive.")
		f.wantIn(f.post("/webhooks/1/replay", url.Values{"status": {"any"}}), 409, "Webhook 1 is inactive.")
	})
}
