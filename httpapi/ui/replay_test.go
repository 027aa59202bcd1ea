package ui_test

import (
	"errors"
	"html"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

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
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","name":`+quoted(hostile)+`,"delay":0,"retry_schedule":[]}`)
		for i := range 3 {
			f.api("POST", "/v1/events", played(session(i)))
		}
		time.Sleep(time.Minute)
		page := f.wantPage("/webhooks/1/replay", `value="failed" checked`, ">Count</button>", "for=\"since\"", "for=\"until\"")
		wantEscaped(t, page)
		if strings.Contains(page, `id="count"`) {
			t.Error("something is counted that nobody has asked for")
		}
		f.wantPage("/webhooks/1/replay?status=failed", "3 deliveries</h2>", ">Send 3 deliveries again</button>", "They keep their ids and their bytes")
		f.wantPage("/webhooks/1/replay?status=missing", "1 delivery</h2>", ">Send 1 delivery</button>", `value="missing" checked`)
		f.wantPage("/webhooks/1/replay?status=failed&since=2000-01-01T00:02", "There are no such deliveries in that period.", `value="2000-01-01T00:02"`)
		for _, until := range []string{"2000-01-01T00:00:59.999Z", "2000-01-01 00:00", "1999-12-31T19:00:00.5-05:00", "0001-01-01"} {
			f.wantPage("/webhooks/1/replay?status=failed&until="+url.QueryEscape(until), "There are no such deliveries")
		}

		// What is wrong is said beside it, and nothing is sent.
		for query, parts := range map[string][]string{
			"status=nonsense":                              {`aria-describedby="status-error"`, "must be failed, failed-transform, filtered, any or missing (got &#34;nonsense&#34;)"},
			"status=any&since=x&until=y":                   {"since-error", "until-error", `value="x"`, `value="any" checked`},
			"status=any&since=2001&until=":                 {"since-error", "must be a time in UTC"},
			"status=any&since=2001-01-01&until=2000-01-01": {"until-error", "must not be before since"},
		} {
			form, err := url.ParseQuery(query)
			if err != nil {
				t.Fatal(err)
			}
			f.wantIn(f.get("/webhooks/1/replay?"+query), 400, parts...)
			f.wantIn(f.post("/webhooks/1/replay", form), 400, parts...)
		}
		f.wantIn(f.post("/webhooks/1/replay", nil), 400, "status-error")
		broken.Store(false)
		time.Sleep(time.Hour)
		f.wantPage("/webhooks/1", `<dt>Failed</dt><dd><span class="figure">3</span>`) // so far it was only counted

		page = f.wantPage("/webhooks/1/replay?status=failed")
		_, counted, _ := strings.Cut(page, `id="count"`)
		form := formOf(counted)
		if form.Get("until") == "" || form.Get("status") != "failed" {
			t.Errorf("what is sent may be something else than what was counted: %v", form)
		}
		if rec := f.post("/webhooks/1/replay", form); rec.Code != 303 || rec.Header().Get("Location") != "/webhooks/1?done=replayed" {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
		time.Sleep(time.Hour)
		f.wantPage("/webhooks/1?done=replayed", "The replay has begun.", `<dt>Delivered</dt><dd><span class="figure">3</span>`)
		form.Set("once", "of somebody else")
		if rec := f.post("/webhooks/1/replay", form); rec.Header().Get("Location") != "/webhooks/1?done=nothing" {
			t.Errorf("the second of two who press: %v", rec.Header())
		}
		f.wantPage("/webhooks/1?done=nothing", "There was nothing left to send again.")

		f.api("PATCH", "/v1/webhooks/1", `{"active":false}`)
		f.wantPage("/webhooks/1/replay", "The webhook is switched off, so nothing can be sent to it.")
		f.wantIn(f.get("/webhooks/1/replay?status=any"), 409, "The webhook is switched off")
		form.Set("once", "of a third")
		f.wantIn(f.post("/webhooks/1/replay", form), 409, "The webhook is switched off")
	})
}

// TestReplayProgress shows a replay on its way. Nothing works it off here, for the engine does not run.
func TestReplayProgress(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://other.example/"}`)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/events", played(sessionA))
	for _, id := range deliveryIDs(f.wantPage("/deliveries")) {
		f.wantIn(f.post("/deliveries/"+id+"/cancel", nil), 303)
	}
	f.wantIn(f.post("/webhooks/2/replay", url.Values{"status": {"any"}}), 303)
	for _, page := range []string{"/webhooks/2", "/webhooks/2/replay"} {
		f.wantPage(page, "A replay (any) is in progress: 0 of 1 queued.", `<progress max="1" value="0"`)
		if strings.Contains(f.wantPage(strings.Replace(page, "2", "1", 1)), "is in progress") {
			t.Error("another webhook's replay is shown")
		}
	}
}

func TestRotatePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","name":`+quoted(hostile)+`}`)
		before := f.webhook(1).Secret
		page := f.wantPage("/webhooks/1/rotate", `value="24h" checked`, `type="password"`)
		wantEscaped(t, page)
		if strings.Contains(page, "Earlier ones") {
			t.Error("there are none")
		}
		own := "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="
		for _, bad := range []struct {
			overlap, secret string
			parts           []string
		}{
			{"1h", "nonsense", []string{"secret-error", "whsec_", `value="1h" checked`, `aria-invalid="true"`}},
			{"1h", string(before), []string{"secret-error", "is the current secret already"}},
			{"soon", "", []string{"overlap-error", "must be a duration"}},
			{"", own, []string{"overlap-error"}},
			{"721h", own, []string{"overlap-error", "must be 0s to 720h"}},
		} {
			page := f.wantIn(f.post("/webhooks/1/rotate", url.Values{"overlap": {bad.overlap}, "secret": {bad.secret}}), 400, bad.parts...)
			if strings.Contains(page, own) || strings.Contains(page, string(before)) {
				t.Error("the page shows a secret")
			}
		}
		if w := f.webhook(1); w.Secret != before || len(w.PreviousSecrets) != 0 {
			t.Error("the secret has changed")
		}
		rotate := func(overlap, secret string) {
			t.Helper()
			rec := f.post("/webhooks/1/rotate", url.Values{"overlap": {overlap}, "secret": {secret}})
			if rec.Code != 303 || rec.Header().Get("Location") != "/webhooks/1/secret?done=rotated" {
				t.Fatalf("%d %v", rec.Code, rec.Header())
			}
			cookies := rec.Result().Cookies()
			if len(cookies) != 1 {
				t.Fatalf("%d cookies", len(cookies))
			}
			shown := f.wantIn(f.getWith(rec.Header().Get("Location"), cookies[0]), 200, "The secret is rotated.")
			if !strings.Contains(html.UnescapeString(shown), string(f.webhook(1).Secret)) {
				t.Error("the new secret is not shown")
			}
		}
		rotate("1h", " "+own+"\n")
		if w := f.webhook(1); w.Secret != engine.Secret(own) || w.PreviousSecrets[0].Secret != before || time.Until(w.PreviousSecrets[0].SignsUntil) != time.Hour {
			t.Errorf("%v", w.PreviousSecrets)
		}
		page = f.wantPage("/webhooks/1/rotate", "Earlier secrets also sign until <time", "2000-01-01 01:00:00")
		if strings.Contains(page, "No more than three") {
			t.Error("there is room for a third")
		}
		rotate("168h", "")
		f.wantPage("/webhooks/1/rotate", "2000-01-08 00:00:00</time> and <time", `if the current one goes on signing, the one until <time datetime="2000-01-01T01:00:00Z">`)
		f.wantPage("/webhooks/1", "An earlier secret also signs until <time", "2000-01-08 00:00:00", "2000-01-01 01:00:00")
		rotate("0s", "")
		f.wantPage("/webhooks/1", "2000-01-08 00:00:00", "2000-01-01 01:00:00") // the present one did not sign on
		time.Sleep(8 * 24 * time.Hour)
		if strings.Contains(f.wantPage("/webhooks/1"), "An earlier one") {
			t.Error("the overlaps have ended")
		}
	})
}
