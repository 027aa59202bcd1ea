package ui_test

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/internal/teststore"
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

// session is the id of the n-th session of a test.
func session(n int) string { return fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012x", n) }

// quoted is text as a JSON string has it.
func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// endpoints answer by their host: broken.… not at all, gone.… with 410, all others with 204.
var endpoints = transport(func(r *http.Request) (*http.Response, error) {
	switch name, _, _ := strings.Cut(r.URL.Host, "."); name {
	case "broken":
		return nil, errors.New("broken")
	case "gone":
		return &http.Response{StatusCode: 410, Body: http.NoBody}, nil
	}
	return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
})

// rowOf is a webhook's row of the list.
func rowOf(t *testing.T, page string, id int) string {
	t.Helper()
	_, row, ok := strings.Cut(page, fmt.Sprintf(`<tr id="webhook-%d"`, id))
	if !ok {
		t.Fatalf("no webhook %d\n%s", id, mainOf(page))
	}
	row, _, _ = strings.Cut(row, "</tr>")
	return row
}

// TestWebhookList shows webhooks in each state.
func TestWebhookList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, endpoints)
		defer f.run()()
		f.wantPage("/webhooks", "There is no webhook yet.", "/new-webhook")
		f.api("POST", "/v1/webhooks", `{"url":"https://good.example/in?token=sekret","name":`+quoted(hostile)+`,"delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://broken.example/in?token=sekret","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://gone.example/","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://off.example/<b>","active":false,"content_id":"`+contentA+`"}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://broken.example/","name":"gives up","delay":0,"retry_schedule":[]}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://good.example/","name":"slow","delay":0,"rate_limit":0.01}`)
		for i := range 6 {
			f.api("POST", "/v1/events", played(session(i)))
		}
		time.Sleep(2 * time.Minute)
		page := f.wantPage("/webhooks", `data-poll="2000"`)
		wantEscaped(t, page)
		for _, after := range []string{"99999999999999999999", "4294967296", "-1", "x"} { // no webhook's id: from the beginning
			if rowOf(t, f.wantPage("/webhooks?after="+after), 1) == "" {
				t.Errorf("after=%s leaves out the first", after)
			}
		}
		for _, bad := range []string{"sekret", "off.example/<b>"} {
			if strings.Contains(page, bad) {
				t.Errorf("the page has %q", bad)
			}
		}
		for id, want := range map[int][]string{
			1: {`<span class="dim">good.example/in</span>`, "for every content", `>active</span>`, `data-label="Success">100 %<`, `2 min ago</time></a> <span class="badge ok">204</span>`, `data-label="Lag">0 s<`, `data-label="Waiting">0<`},
			2: {` class="bad"`, ">broken.example/in</a>", ">failing</span>", "since <time", `data-label="Success">–<`, `<span class="badge bad">`, `data-label="Waiting">6 <span class="dim">`, " due, the oldest for "},
			3: {` class="warn"`, ">paused</span>", "the endpoint answered 410 Gone at", `<span class="badge bad">410</span>`, `data-label="Waiting">6 <span class="dim">`, " due</span>"},
			4: {`for <span class="mono">` + contentA, ">inactive</span>", `data-label="Success">–<`, `data-label="Last attempt">–<`, `data-label="Lag">–<`},
			5: {`data-label="Success">0 % <span class="dim"><a href="/deliveries?webhook_id=5&amp;status=failed">6 failed</a>`},
			6: {` class="warn"`, ">active</span>", "due, the oldest for"},
		} {
			row := rowOf(t, page, id)
			for _, part := range want {
				if !strings.Contains(row, part) {
					t.Errorf("webhook %d: no %q in %s", id, part, row)
				}
			}
			if (id == 1 || id == 4) && strings.HasPrefix(row, " class=") {
				t.Errorf("webhook %d is marked", id)
			}
		}
		f.wantPage("/deliveries/" + regexp.MustCompile(`/deliveries/([0-9a-f-]{36})`).FindStringSubmatch(rowOf(t, page, 2))[1])
	})
}

// TestManyWebhooks pages through the list.
func TestManyWebhooks(t *testing.T) {
	f := newFixture(t, nil)
	for range 104 {
		f.api("POST", "/v1/webhooks", `{"url":"https://many.example/"}`)
	}
	f.api("DELETE", "/v1/webhooks/50", "")
	listed := 0
	for i, link := range []string{"/webhooks", "/webhooks?after=51", "/webhooks?after=101"} {
		page := f.wantPage(link, "103 webhooks")
		listed += strings.Count(page, `<tr id="webhook-`)
		next := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(page)
		if i < 2 && (next == nil || html.UnescapeString(next[1]) != []string{"/webhooks?after=51", "/webhooks?after=101"}[i]) || i == 2 && next != nil {
			t.Errorf("%s leads on to %q", link, next)
		}
		if i > 0 != strings.Contains(page, `href="/webhooks">First</a>`) {
			t.Errorf("%s: the way back", link)
		}
	}
	if listed != 103 {
		t.Errorf("%d webhooks are listed", listed)
	}
	for _, after := range []string{"104", "4294967295"} {
		f.wantPage("/webhooks?after="+after, "There is no webhook beyond", ">First</a>")
	}
	for _, after := range []string{"nonsense", "-1", ""} {
		f.wantPage("/webhooks?after="+after, `<tr id="webhook-1"`)
	}
}

// TestLastAttemptAfterRestart shows that the last attempt is found in the store when nobody remembers one.
func TestLastAttemptAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := teststore.Open(t) // a second engine on it stands for one after a restart
		f := newFixtureOn(t, store, endpoints)
		stop := f.run()
		f.api("POST", "/v1/webhooks", `{"url":"https://broken.example/","delay":0,"retry_schedule":["5s","10h"]}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://good.example/","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://late.example/","delay":3600}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://gone.example/","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://broken.example/","delay":0,"retry_schedule":[]}`)
		f.api("POST", "/v1/events", played(sessionA))
		time.Sleep(time.Minute)
		f.api("PATCH", "/v1/webhooks/5", `{"paused":true}`)
		f.api("PATCH", "/v1/webhooks/1", `{"content_id":"`+sessionB+`"}`) // what waits is cancelled
		f.api("PATCH", "/v1/webhooks/2", `{"content_id":"`+sessionB+`"}`)
		for i := range 30 { // held back, all of them
			f.api("POST", "/v1/events", played(session(i)))
		}
		stop()
		f = newFixtureOn(t, store, endpoints)
		page := f.wantPage("/webhooks")
		for id, want := range map[int]string{1: `55 s ago</time></a> <span class="badge bad">`, 2: `1 min ago</time></a> <span class="badge ok">204`, 5: `1 min ago</time></a> <span class="badge bad">`, 4: `1 min ago</time></a> <span class="badge bad">410`, 3: `data-label="Last attempt">–`} {
			lag := "–" // it was in memory, or, where several processes share a database, is there
			if teststore.Postgres() && id != 3 {
				lag = "0 s"
			}
			if row := rowOf(t, page, id); !strings.Contains(row, want) || !strings.Contains(row, `data-label="Lag">`+lag+`<`) {
				t.Errorf("webhook %d: no %q, or not the lag %q, in %s", id, want, lag, row)
			}
		}
	})
}

// TestWebhookPage looks at all that a webhook may be set to.
func TestWebhookPage(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.wantPage("/webhooks/1", "<h1>a.example/</h1>", "None yet. Send a test", `href="/play"`, "Deliveries are sent when they are due.", "none has finished", "nothing is due", "none known",
		"<dt>Content</dt><dd>every content <span class=\"dim\">(default)", "<dt>Delay</dt><dd>10s after the finish <span class=\"dim\">(default)", "<dt>Send incomplete</dt><dd>no <span class=\"dim\">(default)",
		"<dt>Timeout</dt><dd>15s <span class=\"dim\">(default)", "<dt>In flight at once</dt><dd>32 <span class=\"dim\">(default)", "<dt>Rate limit</dt><dd>no limit <span class=\"dim\">(default)",
		"<dt>Retry schedule</dt><dd>5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h <span class=\"dim\">(default)")

	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/?key=x&y=<b>","name":`+quoted(hostile)+`,"content_id":"`+contentA+`","delay":3601,"send_answers":false,"send_leads":false,"send_incomplete":true,
		"incomplete_delay":90,"timeout":"1500ms","max_in_flight":7,"rate_limit":0.5,"retry_schedule":[],"allow_networks":["10.0.0.0/8","192.168.0.1"],
		"headers":{"X-Key":"sekret-1","X-Other":"sekret-2"},"basic_auth":{"username":"sekret-3","password":"sekret-4"}}`)
	page := f.wantPage("/webhooks/2", "<dt>URL</dt><dd>https://a.example/?key=x&amp;y=%3Cb%3E</dd>", "<dt>Content</dt><dd>"+contentA+"</dd>", "<dt>Delay</dt><dd>1h0m1s after the finish</dd>",
		"<dt>Send answers</dt><dd>no</dd>", "<dt>Send leads</dt><dd>no</dd>", "<dt>Send incomplete</dt><dd>yes</dd>", "<dt>Incomplete delay</dt><dd>1m30s after the start</dd>", "<dt>Timeout</dt><dd>1.5s</dd>",
		"<dt>In flight at once</dt><dd>7</dd>", "<dt>Rate limit</dt><dd>0.5 deliveries a second</dd>", "<dt>Retry schedule</dt><dd>none</dd>", "<dt>Allowed networks</dt><dd>10.0.0.0/8, 192.168.0.1/32</dd>",
		"<dt>Headers</dt><dd>X-Key, X-Other (values are not shown)</dd>", "<dt>Basic authentication</dt><dd>set</dd>", "/play?content_id="+contentA)
	wantEscaped(t, page)
	if strings.Contains(page, "sekret") || strings.Contains(page, "whsec_") {
		t.Error("the page shows a credential")
	}
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","oauth2":{"token_url":"https://sekret.example/","client_id":"sekret","client_secret":"sekret"}}`)
	if page := f.wantPage("/webhooks/3", "<dt>OAuth 2</dt><dd>set</dd>"); strings.Contains(page, "sekret") {
		t.Error("the page shows a credential")
	}
	for _, id := range []string{"4", "0", "-1", "nonsense", "4294967297"} {
		f.wantIn(f.get("/webhooks/"+id), 404)
	}
}

// TestWebhookStates looks at one webhook in each state, and presses its buttons.
func TestWebhookStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer atomic.Int64
		answer.Store(204)
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			status := int(answer.Load())
			if status == 0 {
				return nil, errors.New("broken")
			}
			return &http.Response{StatusCode: status, Body: http.NoBody}, nil
		}))
		defer f.run()()
		press := func(action string) {
			t.Helper()
			for range 2 { // the second one is somebody who has pressed at the same time
				f.wantIn(f.post("/webhooks/1/"+action, nil), 303)
			}
		}
		n := 0
		send := func() {
			t.Helper()
			n++
			f.api("POST", "/v1/events", played(session(n)))
			time.Sleep(time.Second)
		}
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":0}`)
		send()
		f.wantPage("/webhooks/1", "100 % of the finished ones", ">204</a>", "1 s ago</time>, lag 0 s", `<tr id="d-`, ">All of them</a>", ">Pause</button>")

		press("pause")
		send()
		f.wantPage("/webhooks/1?done=paused", "It is paused: everything waits", "Paused by hand. Nothing is sent, and nothing is lost", ">Resume</button>",
			`<dt>Waiting</dt><dd><span class="figure">1</span><span class="dim">1 held`, `<dt>Oldest due</dt><dd><span class="figure">1 s</span>`)
		press("resume")
		time.Sleep(time.Second)
		f.wantPage("/webhooks/1?done=resumed", "It is resumed", `<dt>Delivered</dt><dd><span class="figure">2</span>`, ">Pause</button>")

		answer.Store(0)
		for range 5 {
			send()
		}
		f.wantPage("/webhooks/1", "Its last 5 attempts have failed, the first of them <time", "; the last success was <time", "the next one is <time", "See the last attempt",
			"The webhook is paused if no attempt succeeds until", `<dt>Waiting</dt><dd><span class="figure">5</span>`, `<time datetime="2000-01-06T`)

		answer.Store(410)
		time.Sleep(time.Minute)
		f.wantPage("/webhooks/1", "The endpoint answered 410 Gone at 2000-01-01T", "edit the URL first", "5 held", ">Resume</button>")
		answer.Store(204)
		press("resume")
		time.Sleep(time.Hour)
		f.wantPage("/webhooks/1", "Deliveries are sent when they are due.", `<dt>Delivered</dt><dd><span class="figure">7</span>`)
		press("pause")
		send()
		f.wantPage("/webhooks/1/deactivate", "<h1>Switch off a.example/?</h1>", "pause it instead.", "<strong>1 delivery</strong> is waiting and will be cancelled.")
		press("deactivate")
		time.Sleep(time.Second)
		page := f.wantPage("/webhooks/1?done=deactivated", "Switched off: it gets no new deliveries.", "replay what is missing", ">Switch on</button>", `<dt>Waiting</dt><dd><span class="figure">0</span>`)
		if strings.Contains(page, "Switch off</a>") || strings.Contains(page, "/webhooks/1/replay") {
			t.Error("the page offers what can only fail")
		}
		press("activate")
		f.wantPage("/webhooks/1?done=activated", "It is switched on.", "Paused by hand.")

		for _, paused := range []string{"true", "false"} { // a sample goes out all the same
			f.api("PATCH", "/v1/webhooks/1", `{"paused":`+paused+`}`)
			rec := f.post("/webhooks/1/test", nil)
			link := rec.Header().Get("Location")
			if rec.Code != 303 || !regexp.MustCompile(`^/deliveries/[0-9a-f-]{36}\?done=tested$`).MatchString(link) {
				t.Fatalf("%d %v", rec.Code, rec.Header())
			}
			time.Sleep(time.Second)
			f.wantPage(link, "A sample was queued.", "Delivered: the endpoint answered 204", "<dd>test</dd>")
		}
	})
}

// TestConfirmations shows that what cannot be taken back is asked for first, with figures.
func TestConfirmations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, endpoints)
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://good.example/","name":`+quoted(hostile)+`,"delay":3600}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://broken.example/","delay":0}`)
		f.api("POST", "/v1/webhooks", `{"url":"https://idle.example/","content_id":"`+sessionA+`"}`)
		for i := range 3 {
			f.api("POST", "/v1/events", played(session(i)))
		}
		time.Sleep(time.Minute)
		for _, ask := range []string{"deactivate", "delete"} {
			wantEscaped(t, f.wantPage("/webhooks/1/"+ask, "<strong>3 deliveries</strong> are waiting and will be cancelled."))
			f.wantPage("/webhooks/2/"+ask, "<strong>3 deliveries</strong> are waiting and will be cancelled.")
			f.wantPage("/webhooks/3/"+ask, "No deliveries are waiting.")
		}
		f.wantPage("/webhooks/1/delete", "Its settings and its secret are deleted for good", "Its deliveries can be viewed", ">Keep it</a>")
		f.wantPage("/webhooks", `id="webhook-1"`, `id="webhook-2"`, `id="webhook-3"`) // it was only asked
		f.post("/deliveries/"+deliveryIDs(f.wantPage("/deliveries?webhook_id=1"))[0]+"/cancel", nil)
		f.post("/deliveries/"+deliveryIDs(f.wantPage("/deliveries?webhook_id=1&status=scheduled"))[0]+"/cancel", nil)
		f.wantPage("/webhooks/1/delete", "<strong>1 delivery</strong> is waiting and will be cancelled.")

		if rec := f.post("/webhooks/1/delete", nil); rec.Code != 303 || rec.Header().Get("Location") != "/webhooks?done=deleted" {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
		f.post("/webhooks/2/deactivate", nil)
		time.Sleep(time.Second)
		page := f.wantPage("/webhooks?done=deleted", "The webhook was deleted.")
		if strings.Contains(page, `id="webhook-1"`) {
			t.Error("the webhook is there")
		}
		for _, id := range []string{"1", "2"} {
			if n := len(deliveryIDs(f.wantPage("/deliveries?status=cancelled&webhook_id=" + id))); n != 3 {
				t.Errorf("webhook %s: %d cancelled", id, n)
			}
		}
		// Who has the page of a webhook that somebody else has deleted may press whatever is there.
		for _, id := range []string{"1", "nonsense"} {
			for _, page := range []string{"", "/deactivate", "/delete", "/rotate", "/replay"} {
				f.wantIn(f.get("/webhooks/"+id+page), 404, "not found")
			}
			for _, action := range []string{"test", "pause", "resume", "activate", "deactivate", "delete", "rotate", "replay"} {
				f.wantIn(f.post("/webhooks/"+id+"/"+action, nil), 404, "not found")
			}
		}
	})
}

// TestLookingChangesNothing follows every link that a webhook's page may have, and some that are for forms only.
func TestLookingChangesNothing(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/webhooks", `{"url":"https://b.example/","active":false,"paused":true}`)
	f.api("POST", "/v1/events", played(sessionA))
	f.wantIn(f.post("/deliveries/"+f.onlyDelivery("")+"/cancel", nil), 303)
	state := func() string {
		return f.api("GET", "/v1/webhooks", "") + f.api("GET", "/v1/webhooks/1/secret", "") + f.api("GET", "/v1/deliveries", "")
	}
	before := state()
	for _, id := range []string{"1", "2"} {
		for _, page := range []string{"", "/deactivate", "/delete", "/rotate", "/replay", "/secret", "/edit"} {
			f.wantPage("/webhooks/" + id + page)
		}
		for _, action := range []string{"/test", "/pause", "/resume", "/activate"} {
			f.wantIn(f.get("/webhooks/"+id+action), 405)
		}
	}
	f.wantPage("/webhooks/1/replay?status=missing", "1 delivery</h2>")
	f.wantPage("/webhooks/1/replay?status=any", "1 delivery</h2>")
	if after := state(); after != before {
		t.Errorf("before %s\nafter %s", before, after)
	}
}
