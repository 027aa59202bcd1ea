package ui_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// reloads tells whether a page without script asks for itself again.
func reloads(page string) bool { return strings.Contains(page, `http-equiv="refresh"`) }

// TestStandings holds the sentence at the head of a delivery's page, and whether that page loads itself again, against each state.
func TestStandings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type answering func() (*http.Response, error)
		var now atomic.Value // the answering
		says := func(status int, header http.Header) answering {
			return func() (*http.Response, error) {
				return &http.Response{StatusCode: status, Proto: "HTTP/1.1", Header: header, Body: http.NoBody}, nil
			}
		}
		now.Store(says(204, nil))
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return now.Load().(answering)()
		}))
		defer f.run()()
		want := func(link, sentence string, reload bool) {
			t.Helper()
			page := f.wantPage(link)
			m := regexp.MustCompile(`(?s)<span class="delivery-summary">(.*?)</span>`).FindStringSubmatch(page)
			if m == nil {
				t.Fatalf("no summary\n%s", mainOf(page))
			}
			if got := html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(m[1], "")); got != sentence {
				t.Errorf("got  %q\nwant %q", got, sentence)
			}
			if reloads(page) != reload {
				t.Errorf("%s: it reloads itself: %v", sentence, !reload)
			}
		}
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":3600,"retry_schedule":["30s","1h"],"send_incomplete":true,"incomplete_delay":120}`)
		f.api("POST", "/v1/events", started(sessionB))
		incomplete := "/deliveries/" + f.onlyDelivery("")
		want(incomplete, "If the session does not finish, it is sent in 2 min.", false)
		time.Sleep(90 * time.Second)
		want(incomplete, "If the session does not finish, it is sent in 30 s.", true)
		time.Sleep(35 * time.Second) // its attempt is under way
		want(incomplete, "The payload is frozen. It is due: an attempt is in progress or starts soon.", true)
		time.Sleep(time.Minute)
		want(incomplete, "Delivered: the endpoint answered 204 after 1 attempt.", false)

		f.api("POST", "/v1/events", played(sessionA))
		link := "/deliveries/" + f.onlyDelivery("status=scheduled")
		want(link, "The payload is built when the delivery is due. It is sent in 1 h.", false)
		f.api("PATCH", "/v1/webhooks/1", `{"paused":true}`)
		time.Sleep(time.Hour)
		want(link, "The payload is built when the delivery is due. The webhook is paused. Resume it to send this delivery.", false)
		now.Store(says(503, http.Header{"Retry-After": {"240"}}))
		f.api("PATCH", "/v1/webhooks/1", `{"paused":false}`)
		time.Sleep(11 * time.Second)
		want(link, "1 attempt failed: the endpoint answered 503 Service Unavailable. The endpoint refused load, which uses up no attempt. The webhook's deliveries wait as the endpoint asked. The next attempt starts in 3 min 59 s.", false)
		now.Store(answering(func() (*http.Response, error) { return nil, errors.New("the wire is cut") }))
		f.post(link+"/retry", nil)
		want(link, "1 attempt failed: the endpoint answered 503 Service Unavailable. It is due: an attempt is in progress or starts soon.", true)
		time.Sleep(11 * time.Second)
		want(link, "2 attempts failed. The last error: the response is not HTTP: the wire is cut. The next attempt starts in 29 s.", true)
		// The endpoint fails, and gets probes.
		var tests []string
		for range 3 {
			tests = append(tests, f.post("/webhooks/1/test", nil).Header().Get("Location"))
			time.Sleep(15 * time.Second)
		}
		want(tests[0], "1 attempt failed: the response is not HTTP: the wire is cut. It is due: an attempt is in progress or starts soon.", true)
		time.Sleep(time.Minute)
		want(link, "3 attempts failed. The last error: the response is not HTTP: the wire is cut. The next attempt starts in 58 min.", false)
		f.post(link+"/retry", nil)
		time.Sleep(5 * time.Second) // the probe is under way
		want(link, "3 attempts failed. The last error: the response is not HTTP: the wire is cut. It is due: an attempt is in progress or starts soon.", true)
		time.Sleep(6 * time.Second)
		want(link, "4 attempts failed. The last error: the response is not HTTP: the wire is cut. The endpoint is failing and gets one attempt at a time. The next one starts in 1 min 19 s.", false)
		time.Sleep(84 * time.Second) // that one is under way
		want(link, "4 attempts failed. The last error: the response is not HTTP: the wire is cut. It is due: an attempt is in progress or starts soon.", true)
		// To its end.
		time.Sleep(3 * time.Hour)
		want(link, "6 attempts failed. The last error: the response is not HTTP: the wire is cut. No further attempts, unless you send it again.", false)
		now.Store(says(200, nil))
		f.post(link+"/retry", nil)
		time.Sleep(time.Minute)
		want(link, "Delivered: the endpoint answered 200 after 7 attempts.", false)
		f.post(link+"/retry", nil)
		want(link, "It was delivered before and was sent again by hand. It is due: an attempt is in progress or starts soon.", true)
		f.post(link+"/cancel", nil)
		want(link, "It was cancelled by hand or by a change of the webhook. Nothing more is sent.", false)

		// A webhook that is gone cannot be sent to again.
		now.Store(says(404, nil))
		f.api("POST", "/v1/webhooks", `{"url":"https://b.example/","retry_schedule":[]}`)
		link = f.post("/webhooks/2/test", nil).Header().Get("Location")
		time.Sleep(time.Minute)
		want(link, "1 attempt failed: the endpoint answered 404 Not Found. No further attempts, unless you send it again.", false)
		f.do("DELETE", "/v1/webhooks/2", nil)
		want(link, "1 attempt failed: the endpoint answered 404 Not Found. No further attempts.", false)
	})
}

// started is the beginning of a session.
func started(session string) string {
	return `{"type":"start","session_id":"` + session + `","content_id":"` + contentA + `","content_type":"quiz","poltio_user_id":7}`
}

// TestRefusedPage shows a button's conflict on the page itself. Its address is the button's, so it must not ask for itself again.
func TestRefusedPage(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":0}`)
	f.api("POST", "/v1/events", played(sessionA))
	link := "/deliveries/" + f.onlyDelivery("")
	if page := f.wantPage(link, "data-poll", "data-live"); !reloads(page) {
		t.Error("a page on which something is about to happen does not load itself again")
	}
	f.api("POST", "/v1/deliveries/"+strings.TrimPrefix(link, "/deliveries/")+"/cancel", "")
	page := f.wantIn(f.post(link+"/cancel", nil), 409, `role="alert"`, "only a scheduled or pending delivery can be cancelled.", "It was cancelled before its payload was built.", "Send again")
	if strings.Contains(page, "data-poll") || reloads(page) {
		t.Error("it asks for the address of the button")
	}
	if strings.Contains(page, "/cancel\"") {
		t.Error("the button is shown that can only be refused")
	}
}

// TestCurlStays holds that the command is no part of what is live, which would change it every other second, but appears with the payload.
func TestCurlStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":5}`)
		f.api("POST", "/v1/events", played(sessionA))
		link := "/deliveries/" + f.onlyDelivery("")
		f.wantPage(link, `id="curl-card" data-live hidden>`)
		time.Sleep(10 * time.Second)
		f.wantPage(link, `id="curl-card">`, "Signed at <time datetime=\""+time.Now().UTC().Format(time.RFC3339)+"\">", "webhook-timestamp: "+fmt.Sprint(time.Now().Unix()))
	})
}

// TestLineOfLife holds the time line's entries, in their order, against what has happened.
func TestLineOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status atomic.Int64
		status.Store(500)
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			time.Sleep(50 * time.Millisecond)
			return &http.Response{StatusCode: int(status.Load()), Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":10,"retry_schedule":["1m"]}`)
		event := func(what string) {
			f.api("POST", "/v1/events", strings.Replace(what, "{", `{"session_id":"`+sessionA+`",`, 1))
		}
		event(`{"type":"start","content_id":"` + contentA + `","content_type":"quiz","poltio_user_id":7}`)
		time.Sleep(3 * time.Second)
		event(`{"type":"vote","question_id":1,"question":"Which?","answer_id":2,"answer":"This"}`)
		time.Sleep(3 * time.Second)
		event(`{"type":"result_view","result":{"result_id":3,"result_title":"It"}}`)
		time.Sleep(3 * time.Second)
		event(`{"type":"finish"}`)
		time.Sleep(7*time.Second + 400*time.Millisecond) // frozen at +16 s, and the attempt has ended
		event(`{"type":"lead","lead":{"name":"Ada"}}`)
		event(`{"type":"lead","lead":{"name":"Bob"},"time":"2000-01-01T00:00:15.9Z"}`) // half a second on its way
		line := func() (entries []string) {
			page := f.wantPage("/deliveries/" + f.onlyDelivery(""))
			_, list, _ := strings.Cut(page, `<ol class="timeline">`)
			list, _, _ = strings.Cut(list, "</ol>")
			for _, m := range regexp.MustCompile(`(?s)<li.*?</li>`).FindAllString(list, -1) {
				m = regexp.MustCompile(`<span class="dim">.*?</span>|<[^>]*>`).ReplaceAllString(m, " ")
				entries = append(entries, html.UnescapeString(strings.Join(strings.Fields(m), " ")))
			}
			return entries
		}
		begun := []string{
			"+0 s session started", "+3 s vote Which? (#1) → This (#2)", "+6 s session finished It (#3)", "+9 s finish", "+15 s lead Bob (not sent: it came after the payload was built)", "+16 s due 10 s after the session's finish",
			"+16 s frozen the payload was built; every attempt sends these bytes", "+16 s attempt 1 the endpoint answered 500 Internal Server Error, after 50 ms",
			"+16 s lead Ada (not sent: it came after the payload was built)",
		}
		if got, want := strings.Join(line(), "\n"), strings.Join(append(begun, "+1 min 16 s next try"), "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		status.Store(204)
		time.Sleep(2 * time.Minute)
		if got, want := strings.Join(line(), "\n"), strings.Join(append(begun, "+1 min 16 s attempt 2 the endpoint answered 204, after 50 ms", "+1 min 16 s delivered"), "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// TestManyAttempts shows the newest ones of a delivery that was sent again and again.
func TestManyAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204, Header: http.Header{"X-Odd": {"caf\xe9 \u202egnp"}}, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":0}`)
		f.api("POST", "/v1/events", played(sessionA))
		id := f.onlyDelivery("")
		for range 40 {
			time.Sleep(time.Second)
			f.post("/deliveries/"+id+"/retry", nil)
		}
		time.Sleep(time.Second)
		page := f.wantPage("/deliveries/"+id, "after 41 attempts", "The first 11 attempts are not shown.", `id="attempt-41"`, `id="attempt-12"`, "<strong>attempt 12</strong>", "X-Odd: caf\uFFFD ·gnp")
		if strings.Contains(page, `id="attempt-11"`) || strings.Contains(page, "<strong>attempt 11</strong>") {
			t.Error("all are shown")
		}
		if strings.ToValidUTF8(page, "") != page {
			t.Error("the page is not UTF-8")
		}
	})
}

// TestPayloadOnPage shows numbers and text as they are in the bytes.
func TestPayloadOnPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bodies := make(chan string, 1)
		f := newFixture(t, transport(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			bodies <- string(body)
			return &http.Response{StatusCode: 204, Body: http.NoBody}, err
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":0}`)
		f.api("POST", "/v1/events", played(sessionA)+`{"type":"vote","session_id":"`+sessionA+`","question_id":9007199254740993,"question":"a & b <c> é \u00e9 \u2028","answer_id":1}`)
		sent := <-bodies
		page := f.wantPage("/deliveries/" + f.onlyDelivery(""))
		shown := regexp.MustCompile(`(?s)<pre data-copy="the (?:payload|bytes as sent)"[^>]*>(.*?)</pre>`).FindAllStringSubmatch(page, -1)
		if len(shown) != 2 || html.UnescapeString(shown[1][1]) != sent || !strings.Contains(sent, "9007199254740993") {
			t.Fatalf("sent %s\nshown %q", sent, shown)
		}
		// Without what lies between the tokens both are the same.
		outside := regexp.MustCompile(`("(?:[^"\\]|\\.)*")|\s+`)
		if pretty := outside.ReplaceAllString(html.UnescapeString(shown[0][1]), "$1"); pretty != sent {
			t.Errorf("sent  %s\nshown %s", sent, pretty)
		}
	})
}

// TestLargeDelivery holds that the page of a delivery stays small, however much a visitor has done and whatever he did.
func TestLargeDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","delay":5}`)
		f.api("POST", "/v1/events", played(sessionA))
		var more strings.Builder
		for i := range 3000 {
			fmt.Fprintf(&more, `{"type":"lead","session_id":"%s","lead":{"name":"lead %d"}}{"type":"result_view","session_id":"%[1]s","result":{"result_id":%[2]d}}`+
				`{"type":"start","session_id":"%[1]s"}`, sessionA, i)
		}
		f.api("POST", "/v1/events", more.String())
		link := "/deliveries/" + f.onlyDelivery("")
		time.Sleep(10 * time.Second)
		var sent struct{ Payload json.RawMessage }
		if err := json.Unmarshal([]byte(f.api("GET", "/v1"+link, "")), &sent); err != nil || len(sent.Payload) < 1<<19 {
			t.Fatalf("%d bytes: %v", len(sent.Payload), err)
		}
		page := f.wantPage(link, fmt.Sprintf("Only the beginning is shown. The payload has %d KiB.", (len(sent.Payload)+512)>>10), "<code>GET /v1"+link+"</code>", "<strong>leads</strong> <bdi>2990 more",
			"<bdi>lead 4<", "<bdi>lead 2995<")
		if len(page) > 450<<10 || strings.Contains(page, "the bytes as sent") || strings.Contains(page, "curl -i") {
			t.Errorf("a page of %d bytes", len(page))
		}
		for entry, want := range map[string]int{"lead": 10, "leads": 1, "session started": 1, "session finished": 1, "result seen": 1} {
			if n := strings.Count(page, "<strong>"+entry+"</strong>"); n != want {
				t.Errorf("%d times %q on the line, want %d", n, entry, want)
			}
		}
	})
}
