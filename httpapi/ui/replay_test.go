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
		f.wantPage("/webhooks/1?done=replayed", "The replay has begun.", `<dt>Delivered</dt><dd><span class="figure">3</span>`)
		f.api("PATCH", "/v1/webhooks/1", `{"active":false}`)
		f.wantIn(f.get("/webhooks/1/replay?status=any"), 409, "Webhook 1 is inactive.")
		f.wantIn(f.post("/webhooks/1/replay", url.Values{"status": {"any"}}), 409, "Webhook 1 is inactive.")
	})
}
