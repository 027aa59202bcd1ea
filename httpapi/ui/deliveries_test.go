package ui_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// deliveryIDs returns the ids of the deliveries that a page lists.
func deliveryIDs(page string) []string {
	var ids []string
	for _, m := range regexp.MustCompile(`<tr id="d-([0-9a-f-]{36})"`).FindAllStringSubmatch(page, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

// TestDeliveryList filters and pages through deliveries.
func TestDeliveryList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Host, "broken") {
				return nil, errors.New("broken")
			}
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.wantPage("/deliveries", "No deliveries yet")
		f.api("POST", "/v1/webhooks", `{"url":"https://good.example/","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://broken.example/","name":"<i>broken</i>","delay":0,"retry_schedule":[]}`)
		for i := range 60 {
			f.api("POST", "/v1/events", played(fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012x", i)))
		}
		time.Sleep(10 * time.Hour) // the broken one gets one attempt in five minutes
		f.api("POST", "/v1/events", played(sessionA))
		time.Sleep(time.Hour)

		seen := make(map[string]bool)
		pages := 0
		for link := "/deliveries"; link != ""; pages++ {
			page := f.wantPage(link, "&lt;i&gt;broken&lt;/i&gt;")
			for _, id := range deliveryIDs(page) {
				if seen[id] {
					t.Errorf("%s is listed twice", id)
				}
				seen[id] = true
			}
			if polls := strings.Contains(page, "data-poll"); polls != (link == "/deliveries") {
				t.Errorf("%s: live %v", link, polls)
			}
			if link == "/deliveries" == strings.Contains(page, ">Newest</a>") {
				t.Errorf("%s: the way back to the newest", link)
			}
			link = ""
			if m := regexp.MustCompile(`href="([^"]*)" rel="next">Older`).FindStringSubmatch(page); m != nil {
				link = html.UnescapeString(m[1])
			}
		}
		if len(seen) != 122 || pages != 3 {
			t.Errorf("%d deliveries on %d pages", len(seen), pages)
		}
		for query, want := range map[string]int{
			"status=failed&webhook_id=2": 50, "status=failed&webhook_id=1": 0, "status=delivered&session_id=" + sessionA: 1, "session_id=" + sessionA: 2,
			"session_id=" + sessionB: 0, "since=2000-01-01T00:30": 2, "since=2000-01-01+09:30:00&until=2000-01-01T10:00:30Z": 2, "until=1999-12-31": 0, "until=0001-01-01": 0, "until=0001-01-01T00:00:00Z": 0, "webhook_id=99": 0,
		} {
			page := f.wantPage("/deliveries?" + query)
			if got := len(deliveryIDs(page)); got != want {
				t.Errorf("%s: %d deliveries, want %d", query, got, want)
			}
			if want == 0 && !strings.Contains(page, "No matches.") {
				t.Errorf("%s: the page is empty", query)
			}
		}
		f.wantPage("/deliveries?webhook_id=2", `<option value="2" selected>`, `failed <span class="count">61</span>`, "/deliveries?status=failed&amp;webhook_id=2")
		f.wantPage("/deliveries?webhook_id=99", `<option value="99" selected>webhook 99 (deleted)`)
		for query, message := range map[string]string{
			"webhook_id=x": "must be a webhook&#39;s id", "session_id=x": "session_id-error", "since=x": "since-error", "until=x": "must be a time in UTC",
			"since=2001-01-01&until=2000-01-01": "must not be before since", "status=x": "status must be scheduled, pending", "cursor=x": "",
		} {
			page := f.wantIn(f.get("/deliveries?"+query), 400, message)
			if len(deliveryIDs(page)) > 0 || strings.Contains(page, "data-poll") {
				t.Errorf("%s lists something", query)
			}
		}
	})
}

// onlyDelivery is the id of the one delivery that a list has.
func (f *fixture) onlyDelivery(query string) string {
	f.t.Helper()
	ids := deliveryIDs(f.wantPage("/deliveries?" + query))
	if len(ids) != 1 {
		f.t.Fatalf("%s: %d deliveries", query, len(ids))
	}
	return ids[0]
}

// TestDeliveryLife follows one delivery from page to page: scheduled, failed attempts, held, failed, sent again, delivered.
func TestDeliveryLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer atomic.Value
		answer.Store(func() (*http.Response, error) { return nil, errors.New("the wire is cut") })
		f := newFixture(t, transport(func(r *http.Request) (*http.Response, error) {
			httptrace.ContextClientTrace(r.Context()).WroteHeaders()
			time.Sleep(20 * time.Millisecond)
			return answer.Load().(func() (*http.Response, error))()
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":3600,"retry_schedule":["1m","1h"],"headers":{"X-Key":"sekret"}}`)
		f.api("POST", "/v1/events", played(sessionA))
		id := f.onlyDelivery("status=scheduled")
		link := "/deliveries/" + id
		page := f.wantPage(link, "The payload is built when the delivery is due. It is sent", "in 1 h", "Send now", "Cancel", "session started", "<strong>due</strong>",
			"Preview the payload", "None yet.")
		if strings.Contains(page, "noscript") {
			t.Error("a page on which nothing happens for an hour loads itself again")
		}
		time.Sleep(time.Hour + time.Second)
		f.wantPage(link, "1 attempt failed:", "The next attempt starts", "Retry now", "by the retry schedule", "<strong>next try</strong>",
			"<noscript><meta http-equiv=\"refresh\"", "&#34;complete_session&#34;: true", "no response", "X-Key: …", "webhook-signature: v1,", "X-Key: FILL-IN")
		f.api("PATCH", "/v1/webhooks/1", `{"paused":true}`)
		f.wantPage(link, "The webhook is paused. Resume it to send this delivery.")
		f.api("PATCH", "/v1/webhooks/1", `{"paused":false}`)
		answer.Store(func() (*http.Response, error) {
			return &http.Response{StatusCode: 503, Proto: "HTTP/1.1", Header: http.Header{"Retry-After": {"7200"}, "X-Hostile": {hostile}},
				Body: io.NopCloser(strings.NewReader(hostile + "\x1b[31m\xff"))}, nil
		})
		time.Sleep(2 * time.Minute)
		page = f.wantPage(link, "2 attempts failed", "The endpoint refused load, which uses up no attempt.", "when the endpoint takes load again", "The endpoint answered 503 Service Unavailable.")
		wantEscaped(t, page)
		if strings.Contains(page, "\x1b") || strings.Contains(page, "\xff") || strings.Contains(page, "sekret") {
			t.Error("the page has control characters, or a credential")
		}
		answer.Store(func() (*http.Response, error) {
			return &http.Response{StatusCode: 503, Proto: "HTTP/1.1", Body: http.NoBody}, nil
		})
		time.Sleep(4 * time.Hour)
		f.wantPage(link, "4 attempts failed. The last error: the endpoint answered 503 Service Unavailable. No further attempts, unless you send it again.", "Send again", "<strong>failed</strong> <bdi>the retry schedule has ended")
		f.wantIn(f.post(link+"/cancel", nil), 409, "only a scheduled or pending delivery can be cancelled.", "4 attempts failed")

		answer.Store(func() (*http.Response, error) { return &http.Response{StatusCode: 204, Body: http.NoBody}, nil })
		rec := f.post(link+"/retry", nil)
		if rec.Code != 303 || rec.Header().Get("Location") != link+"?done=retried" {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
		time.Sleep(time.Second)
		page = f.wantPage(link+"?done=retried", "It is due now.", "Delivered: the endpoint answered 204 after 5 attempts.", "<strong>delivered</strong>")
		if last, first := strings.Index(page, `id="attempt-4"`), strings.Index(page, `id="attempt-1"`); last < 0 || first < last {
			t.Error("the newest attempt does not come first")
		}
		// Deliveries outlive their webhook.
		f.do("DELETE", "/v1/webhooks/1", nil)
		page = f.wantPage(link, "webhook 1 (deleted)")
		if strings.Contains(page, "Send again") || strings.Contains(page, "As a curl command") {
			t.Error("a button that can only fail is shown")
		}
		f.wantIn(f.post(link+"/retry", nil), 409, "Webhook 1 was deleted.")
		f.wantIn(f.get("/deliveries/"+sessionA), 404)
		f.wantIn(f.get("/deliveries/nonsense"), 404)
	})
}

// TestCancelOnPage cancels one that waits.
func TestCancelOnPage(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/events", hostileSession())
	link := "/deliveries/" + f.onlyDelivery("")
	wantEscaped(t, f.wantPage(link))
	if rec := f.post(link+"/cancel", nil); rec.Code != 303 {
		t.Fatal(rec.Code)
	}
	f.wantPage(link+"?done=cancelled", "It was cancelled. Nothing more is sent.", "<strong>cancelled</strong>")
}

// TestLateEvents shows that the pages tell what is not in the payload, and was not sent.
func TestLateEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":10}`)
		f.api("POST", "/v1/events", played(sessionA))
		lead := func(name string) string {
			return `{"type":"lead","session_id":"` + sessionA + `","lead":{"name":"` + name + `"}}`
		}
		time.Sleep(5 * time.Second)
		f.api("POST", "/v1/events", lead("in time"))
		time.Sleep(time.Minute)
		f.api("POST", "/v1/events", lead("late"))
		var votes strings.Builder
		for range 30 {
			votes.WriteString(`{"type":"vote","session_id":"` + sessionA + `","question_id":1,"answer_id":2}`)
		}
		f.api("POST", "/v1/events", votes.String())
		id := f.onlyDelivery("")
		page := f.wantPage("/deliveries/"+id, `<li class="warn"><span class="offset">&#43;1 min 5 s</span><div><strong>lead</strong> <bdi>late (not sent: it came after the payload was built)`,
			"<strong>lead</strong> <bdi>in time<", "<strong>later votes</strong> <bdi>20 more", "<dt>Lacks</dt><dd>31 late events that came after the payload was built, and not sent:")
		if n := strings.Count(page, "<strong>vote</strong>"); n != 10 {
			t.Errorf("%d votes on the line", n)
		}
		f.wantPage("/sessions/"+sessionA, "lacks 31 late events")
		page = f.wantPage("/webhooks/1", "1 delivery lacks events</a> that came after the payload was built", "Turn on “Send updates”", "lacks 31 late events")
		link := html.UnescapeString(regexp.MustCompile(`/deliveries\?webhook_id=1&amp;late_events=on`).FindString(page))
		f.api("POST", "/v1/webhooks/1/test", "")
		page = f.wantPage(link, `<input type="checkbox" id="late_events" name="late_events" value="on" checked>`, "late_events=on&amp;status=failed")
		if ids := deliveryIDs(page); len(ids) != 1 || ids[0] != id {
			t.Errorf("the list of those that lack events has %v, want %s", ids, id)
		}
		if ids := deliveryIDs(f.wantPage("/deliveries", `value="on">`)); len(ids) != 2 {
			t.Errorf("the list of all has %v", ids)
		}

		// An update tells of them.
		f.api("PATCH", "/v1/webhooks/1", `{"send_updates":true}`)
		if page := f.wantPage("/webhooks/1", "1 delivery lacks events</a>"); strings.Contains(page, "Turn on") {
			t.Error("the page asks to turn on what is on")
		}
		f.api("POST", "/v1/events", lead("last"))
		time.Sleep(time.Minute)
		page = f.wantPage("/deliveries/"+id, "<strong>lead</strong> <bdi>late (not in the payload: it came later)")
		if strings.Contains(page, "Lacks") || strings.Contains(f.wantPage("/webhooks/1"), "lack events") || strings.Contains(f.wantPage("/deliveries"), "late_events") {
			t.Error("the pages tell of events that an update has told of")
		}
		var updates struct{ Items []struct{ ID, Kind string } }
		if err := json.Unmarshal([]byte(f.api("GET", "/v1/deliveries?session_id="+sessionA, "")), &updates); err != nil || len(updates.Items) != 2 || updates.Items[0].Kind != "update" {
			t.Fatalf("%+v: %v", updates, err)
		}
		page = f.wantPage("/deliveries/"+updates.Items[0].ID, "<dd>update: late events have changed the payload since the complete one was built</dd>",
			"<strong>due</strong> <bdi>10 s after late events came</bdi>", "<strong>lead</strong> <bdi>late</bdi>", "<strong>lead</strong> <bdi>last</bdi>")
		if strings.Contains(page, "not in the payload") {
			t.Error("the update lacks something")
		}
		f.api("PATCH", "/v1/webhooks/1", `{"send_updates":false}`)
		f.api("POST", "/v1/events", lead("after the update"))
		f.wantPage("/deliveries/"+id, "<bdi>last (not in the payload: it came later)", "<bdi>after the update (not sent: it came after the payload was built)", "Lacks")
	})
}

// TestSupersededOnPage follows a session whose events settle, until its complete payload supersedes the incomplete one.
func TestSupersededOnPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status atomic.Int64
		status.Store(500)
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: int(status.Load()), Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":10,"send_incomplete":true,"incomplete_delay":5,"retry_schedule":["1h"]}`)
		began := time.Now()
		time.Sleep(9 * time.Second) // the page was offline: its start comes late
		f.api("POST", "/v1/events", `{"type":"start","time":"`+began.UTC().Format(time.RFC3339)+`",`+strings.TrimPrefix(started(sessionA), `{"type":"start",`))
		id := f.onlyDelivery("")
		f.wantPage("/deliveries/"+id, "<strong>due</strong> <bdi>5 s after the session&#39;s start; built no earlier than 2 s after its events came</bdi>")
		time.Sleep(3 * time.Second) // refused
		status.Store(204)
		f.api("POST", "/v1/events", `{"type":"finish","session_id":"`+sessionA+`","time":"`+began.Add(3*time.Second).UTC().Format(time.RFC3339)+`"}`)
		time.Sleep(time.Minute)
		newer := f.onlyDelivery("status=delivered")
		f.wantPage("/deliveries/"+newer, "<strong>due</strong> <bdi>11 s after the session&#39;s finish; built no earlier than 2 s after its events came</bdi>")
		f.wantPage("/deliveries/"+id, `<dt>Superseded by</dt><dd><a class="mono" href="/deliveries/`+newer+`">`+newer+`</a></dd>`,
			"A newer delivery of the session has superseded it: that one has all that this one would tell.", "Send again")
		f.wantPage("/sessions/"+sessionA, `</span> <span class="dim">superseded</span>`)
		f.wantPage("/deliveries?status=cancelled", "superseded")
		f.api("PATCH", "/v1/webhooks/1", `{"delay":1}`) // what put it off is not known any more, but it was not this delay
		if page := f.wantPage("/deliveries/"+newer, "<bdi>11 s after the session&#39;s finish</bdi>"); strings.Contains(page, "no earlier") {
			t.Error("the page tells of a delay that is another one")
		}
	})
}
