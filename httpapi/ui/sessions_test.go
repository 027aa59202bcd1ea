package ui_test

import (
	"fmt"
	"html"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// hostile is text that would do something if it were taken for HTML, in any place of a page.
const hostile = `"'></script><script>alert(1)</script><img src=x onerror=alert(2)>{{.}}&amp;`

// hostileSession has it wherever a visitor or a publisher can put text.
func hostileSession() string {
	h := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(hostile)
	return strings.ReplaceAll(`{"type":"start","session_id":"`+sessionA+`","content_id":"`+contentA+`","content_type":"quiz","poltio_user_id":7,"publisher_uuid":"H","custom_id":"H","id":"H"}
{"type":"vote","session_id":"`+sessionA+`","question_id":1,"question":"H","answer_id":2,"answer":"H","parent":"H"}
{"type":"vote","session_id":"`+sessionA+`","question_id":3,"answers":[{"answer_id":4,"answer":"H","addon":"H"}]}
{"type":"undo","session_id":"`+sessionA+`","question_id":3,"answer_id":9}
{"type":"result_view","session_id":"`+sessionA+`","result":{"result_id":3,"result_title":"H","result_image":"H","result_desc":"H","calculator_result":"H"}}
{"type":"lead","session_id":"`+sessionA+`","lead":{"phone":"H","email":"H","name":"H","comment":"H","content_type":"H","created_at":"H","addon":"H"}}`, "H", h)
}

// wantEscaped fails if the hostile text stands in a page as HTML, or not at all.
func wantEscaped(t *testing.T, page string) {
	t.Helper()
	for _, part := range []string{"<script>alert", "<img src=x"} {
		if strings.Contains(page, part) {
			t.Errorf("the page has %s", part)
		}
	}
	if !strings.Contains(html.UnescapeString(page), hostile) {
		t.Error("the page does not show the text")
	}
}

func TestSessionPage(t *testing.T) {
	f := newFixture(t, nil)
	f.wantPage("/sessions", "No sessions yet", `href="/play"`)
	f.wantIn(f.get("/sessions/"+sessionA), 404, "There is no session", `action="/sessions"`, `value="`+sessionA+`"`)
	f.wantIn(f.get("/sessions/nonsense"), 404, `action="/sessions"`, `value="nonsense"`, "must be a UUID")
	f.wantIn(f.get("/sessions?id=nonsense"), 400, `value="nonsense"`, `aria-invalid="true"`, "id-error")
	if rec := f.get("/sessions?id=+" + strings.ToUpper(sessionA) + "%0A"); rec.Code != 303 || rec.Header().Get("Location") != "/sessions/"+sessionA {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/webhooks", `{"url":"https://b.example/","name":"<b>two</b>","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f40"}`)
	f.api("POST", "/v1/events", hostileSession())
	page := f.wantPage("/sessions/"+sessionA, "6 events", "complete", "answer 9 to question 3",
		`<optgroup label="For another content"><option value="2">&lt;b&gt;two&lt;/b&gt;</option></optgroup>`)
	wantEscaped(t, page)
	if n := strings.Count(page, `<tr id="d-`); n != 1 {
		t.Errorf("%d deliveries", n)
	}
	f.wantPage("/sessions", "/sessions/"+sessionA, `<span class="badge ok">complete</span>`, `<td data-label="Events">6</td>`, `data-poll`)

	if page := f.wantIn(f.get("/sessions/"+sessionA+"?webhook_id=1&as_of=yesterday"), 400); strings.Contains(page, "data-poll") {
		t.Error("a page with something wrong in it asks for itself")
	}
	wantEscaped(t, f.wantPage("/sessions/"+sessionA+"?webhook_id=1", "&#34;complete_session&#34;: true"))
	for query, wants := range map[string][]string{
		"?webhook_id=1&as_of=yesterday":          {"must be a time in UTC", `value="yesterday"`, "as_of-error"},
		"?webhook_id=1&as_of=2001-02-03":         {"nothing of the session had happened by then", "as_of-error"},
		"?webhook_id=2":                          {"for another content: the session is not sent there", `<option value="2" selected>`, "webhook_id-error"},
		"?webhook_id=3":                          {"There is no such webhook", "webhook_id-error"},
		"?webhook_id=none&as_of=" + hostileQuery: {"There is no such webhook", "webhook_id-error", "as_of-error"},
	} {
		page := f.wantIn(f.get("/sessions/"+sessionA+query), 400, wants...)
		if strings.Contains(page, "<pre data-copy=\"the payload\"") {
			t.Errorf("%s: there is a payload", query)
		}
		wantEscaped(t, page)
	}
}

// hostileQuery is the hostile text as a parameter.
var hostileQuery = url.QueryEscape(hostile)

// TestHostileParameters has the pages show what a link has brought along.
func TestHostileParameters(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/events", played(sessionA))
	wantEscaped(t, f.wantIn(f.get("/sessions?id="+hostileQuery), 400))
	f.wantIn(f.get("/sessions/"+url.PathEscape("\"><script>")), 404, "value=\"&#34;&gt;&lt;script&gt;\"")
	wantEscaped(t, f.wantPage("/play?content_id="+hostileQuery))
	for target, none := range map[string]string{
		"/sessions?done=" + hostileQuery:                                             `class="note`,
		"/sessions?done=erased&events=" + hostileQuery + "&deliveries=-1":            "alert",
		"/sessions/" + sessionA + "?done=played&events=all&accepted=" + hostileQuery: "alert",
	} {
		if page := mainOf(f.wantPage(target)); strings.Contains(page, none) {
			t.Errorf("%s: the page has %s", target, none)
		}
	}
}

// TestPreviewAsOf previews a session on its way.
func TestPreviewAsOf(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/events", `{"type":"start","time":"2026-01-23T11:59:33.5Z","session_id":"`+sessionA+`","content_id":"`+contentA+`","content_type":"quiz","poltio_user_id":7}
		{"type":"vote","time":"2026-01-23T11:59:40Z","session_id":"`+sessionA+`","question_id":1,"answer_id":2}
		{"type":"finish","time":"2026-01-23T11:59:50Z","session_id":"`+sessionA+`"}
		{"type":"vote","time":"2026-01-23T11:59:35Z","session_id":"`+sessionA+`","question_id":8,"answer_id":9}`)
	// Events stand in the order of their times, and are named by that of their arrival: what comes in late moves nobody's place.
	page := f.wantPage("/sessions/"+sessionA, "such as 2026-01-23 11:59:34. Empty", "&#43;1.5 s", "received <time")
	var order []string
	for _, m := range regexp.MustCompile(`<li id="event-(\d)">`).FindAllStringSubmatch(page, -1) {
		order = append(order, m[1])
	}
	if got := strings.Join(order, " "); got != "0 3 1 2" {
		t.Errorf("events %s", got)
	}
	for asOf, want := range map[string]string{
		"2026-01-23 11:59:34":           "started",
		"2026-01-23T11:59:39":           "8",
		"2026-01-23T12:59:40.5%2B01:00": "8 1",
		"2026-01-23T11:59:50Z":          "8 1 complete",
		"2026-01-23t11:59:34z":          "started",
		"":                              "8 1 complete",
	} {
		page := f.wantPage("/sessions/" + sessionA + "?webhook_id=1&as_of=" + strings.ReplaceAll(asOf, " ", "+"))
		_, payload, _ := strings.Cut(page, `data-copy="the body"`)
		got := "started"
		for i, m := range regexp.MustCompile(`&#34;question_id&#34;: (\d)`).FindAllStringSubmatch(payload, -1) {
			if got += " " + m[1]; i == 0 {
				got = m[1]
			}
		}
		if strings.Contains(payload, "&#34;complete_session&#34;: true") {
			got += " complete"
		}
		if got != want {
			t.Errorf("as of %q: got %s, want %s", asOf, got, want)
		}
	}
}

// TestPreviewAmongMany has the webhook's id typed where there are too many to choose from.
func TestPreviewAmongMany(t *testing.T) {
	f := newFixture(t, nil)
	for range 301 {
		f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	}
	f.api("POST", "/v1/events", played(sessionA))
	f.wantPage("/sessions/"+sessionA, `<input class="short" id="webhook_id"`)
	f.wantPage("/sessions/"+sessionA+"?webhook_id=301", `value="301"`, "&#34;complete_session&#34;: true")
	f.wantIn(f.get("/sessions/"+sessionA+"?webhook_id=302"), 400, "There is no such webhook", "webhook_id-error")
}

// TestEraseSession erases one, after it was asked for.
func TestEraseSession(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/events", played(sessionA))
	f.wantPage("/sessions/"+sessionA+"/erase", "2 events and 1 delivery", "1 delivery is waiting and will not be sent")
	f.wantPage("/sessions/" + sessionA) // it was only asked
	if rec := f.post("/sessions/"+sessionA+"/erase", nil); rec.Code != 303 || rec.Header().Get("Location") != "/sessions?done=erased&events=2&deliveries=1" {
		t.Fatalf("%d %v", rec.Code, rec.Header())
	}
	f.wantPage("/sessions?done=erased&events=2&deliveries=1", "The session was erased: 2 events and 1 delivery.", "No sessions yet")
	f.wantPage("/sessions?done=erased&events=2&deliveries=1&damaged=1", "1 record could not be read")
	for _, method := range []string{"GET", "POST"} {
		f.wantIn(f.do(method, "/sessions/"+sessionA+"/erase", nil), 404, "There is no session", `action="/sessions"`)
	}
	f.wantIn(f.get("/sessions/"+sessionA), 404)
}

// TestLongSession shows the ends of a session of many events, and all of it on demand.
func TestLongSession(t *testing.T) {
	f := newFixture(t, nil)
	var b strings.Builder
	b.WriteString(played(sessionA))
	for i := range 300 {
		fmt.Fprintf(&b, `{"type":"vote","session_id":"%s","question_id":%d,"question":"Question %d","answer_id":2}`, sessionA, i, i)
	}
	f.api("POST", "/v1/events", b.String())
	page := f.wantPage("/sessions/"+sessionA, "302 events", "102 more in between", "Only the first are shown here", "All of it, and as JSON", "data-poll")
	if votes, questions := strings.Count(page, "<strong>vote</strong>"), strings.Count(page, "<dt><bdi>Question"); votes != 198 || questions != 20 {
		t.Errorf("%d votes, %d questions", votes, questions)
	}
	// What did not happen in between is not shown as if it had.
	if strings.Contains(page, "Question 150") || !strings.Contains(page, "Question 299") {
		t.Error("not the ends are shown")
	}
	page = f.wantPage("/sessions/"+sessionA+"?events=all", "the session as JSON", "Only the first and the last")
	if votes, questions := strings.Count(page, "<strong>vote</strong>"), strings.Count(page, "<dt><bdi>Question"); votes != 300 || questions != 300 {
		t.Errorf("%d votes, %d questions of all", votes, questions)
	}
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	for _, page := range []string{page, f.wantPage("/sessions/"+sessionA+"?webhook_id=1", "the body")} {
		if strings.Contains(page, "data-poll") {
			t.Error("all of a long session comes again and again")
		}
	}
}

// form returns the fields of a page's first form, as a browser would send them.
func formOf(page string) url.Values {
	page, _, _ = strings.Cut(page[strings.Index(page, "<form"):], "</form>")
	values := make(url.Values)
	for _, tag := range regexp.MustCompile(`<(?:input|textarea)[^>]*>`).FindAllString(page, -1) {
		attribute := func(name string) string {
			m := regexp.MustCompile(` ` + name + `="([^"]*)"`).FindStringSubmatch(tag)
			if m == nil {
				return ""
			}
			return html.UnescapeString(m[1])
		}
		if kind := attribute("type"); kind == "checkbox" || kind == "radio" {
			if !strings.Contains(tag, " checked") {
				continue
			}
		}
		values.Add(attribute("name"), attribute("value"))
	}
	if m := regexp.MustCompile(`(?s)<option selected>(.*?)</option>`).FindStringSubmatch(page); m != nil {
		values.Set("content_type", m[1])
	}
	return values
}

func TestPlay(t *testing.T) {
	f := newFixture(t, nil)
	f.wantPage("/play", "There is no webhook yet")
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/webhooks", `{"url":"https://b.example/","content_id":"`+contentA+`"}`)
	page := f.wantPage("/play?content_id="+contentA, `href="/play?content_id=`+contentA)
	form := formOf(page)
	form.Set("name", hostile)
	var session string
	for range 2 { // a double click
		rec := f.post("/play", form)
		var ok bool
		if session, ok = strings.CutPrefix(rec.Header().Get("Location"), "/sessions/"); !ok || rec.Code != 303 || !strings.HasSuffix(session, "?done=played&accepted=5") {
			t.Fatalf("%d %v\n%s", rec.Code, rec.Header(), mainOf(rec.Body.String()))
		}
	}
	page = f.wantPage("/sessions/"+session, "Every event was accepted, 5 in all", "5 events", "Salt &amp; pepper?", "Only salt", "ada@example.com")
	wantEscaped(t, page)
	if n := strings.Count(page, `<tr id="d-`); n != 2 {
		t.Errorf("%d deliveries", n)
	}

	form.Set("session_id", sessionA)
	form.Set("unfinished", "on")
	f.post("/play", form)
	f.wantPage("/sessions/"+sessionA, "not finished", "3 events")

	// Who goes back and finishes it has one session that is finished.
	form.Del("unfinished")
	form.Del("q1") // which is answered already
	f.post("/play", form)
	f.wantPage("/sessions/"+sessionA, "complete", "5 events")

	for field, bad := range map[string]string{"content_id": "nonsense", "poltio_user_id": "4.5"} {
		form := formOf(f.wantPage("/play"))
		form.Set(field, bad)
		f.wantIn(f.post("/play", form), 400, `value="`+bad+`"`, field+"-error", "<details open>")
		f.wantIn(f.get("/sessions/"+form.Get("session_id")), 404)
	}
}

// TestPlayContent begins with a content of which a webhook gets the sessions.
func TestPlayContent(t *testing.T) {
	f := newFixture(t, nil)
	of := func() string { return formOf(f.wantPage("/play")).Get("content_id") }
	unbound := of()
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","content_id":"`+contentA+`","active":false}`)
	f.wantPage("/play", "All webhooks are switched off")
	if got := of(); got != unbound {
		t.Errorf("with a webhook that is switched off: %s", got)
	}
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","content_id":"`+contentA+`"}`)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f40"}`)
	if got := of(); got != contentA {
		t.Errorf("with webhooks for one content: %s", got)
	}
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","content_id":"`+contentA+`"}`)
	if got := of(); got != unbound {
		t.Errorf("with one for every content: %s", got)
	}
}

// block returns the text of a page's block that can be copied.
func block(page, name string) string {
	m := regexp.MustCompile(`(?s)<pre data-copy="` + name + `"[^>]*>(.*?)</pre>`).FindStringSubmatch(page)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// TestPlayEvents plays the recorded sessions through the page, and holds what they come to against the payloads beside them.
func TestPlayEvents(t *testing.T) {
	f := newFixture(t, nil)
	names, err := filepath.Glob("../../testdata/sessions/*.ndjson")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d sessions: %v", len(names), err)
	}
	compared := 0
	for _, name := range names {
		events, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		rec := f.post("/play", url.Values{"events": {string(events)}})
		if rec.Code != 303 {
			t.Errorf("%s: %d\n%s", name, rec.Code, mainOf(rec.Body.String()))
			continue
		}
		page := f.wantIn(f.get(rec.Header().Get("Location")), 200, "Every event was accepted")
		golden, err := os.ReadFile(strings.TrimSuffix(name, "ndjson") + "complete.json")
		if os.IsNotExist(err) { // it never finished
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSpace(regexp.MustCompile(`(?m)^  "event_time": .*\n`).ReplaceAllString(string(golden), ""))
		got := block(page, "the session as JSON")
		if filepath.Base(name) == "leads-after-delay.ndjson" { // one came when the payload was made already
			cut := len(strings.TrimSuffix(want, "\n  ]\n}"))
			if !strings.Contains(got[cut:], "Sam Late") {
				t.Errorf("%s: got %s", name, got)
			}
			got, want = got[:cut], want[:cut]
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
		compared++
	}
	if compared == 0 {
		t.Error("no session was compared")
	}
	// Nothing is stored of events of which one is wrong, and what was typed stays.
	h := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(hostile)
	typed := played(sessionB) + `{"type":"vote","session_id":"` + sessionB + `","nonsense":"` + h + `","question":"</textarea><script>alert(3)</script>"}`
	page := f.wantIn(f.post("/play", url.Values{"events": {typed}}), 400,
		"None of them was stored", "Event 3, <code>nonsense</code>: ", `<details class="card" id="own" open>`, html.EscapeString(typed))
	if strings.Contains(page, "<script>alert") {
		t.Error("the page has the script")
	}
	// The quiz beside them can be played all the same.
	f.wantIn(f.get(f.post("/play", formOf(page)).Header().Get("Location")), 200, "Every event was accepted, 5 in all")
	f.wantIn(f.post("/play", url.Values{"events": {"  "}}), 400, "events-error", "there is no event", `id="own" open`)
	f.wantIn(f.post("/play", url.Values{"events": {"[]"}}), 400, "there is no event")
	f.wantIn(f.get("/sessions/"+sessionB), 404)

	// The sample is a session as it stands.
	sample := regexp.MustCompile(`(?s)<textarea[^>]*>(.*?)</textarea>`).FindStringSubmatch(f.wantPage("/play"))
	rec := f.post("/play", url.Values{"events": {html.UnescapeString(sample[1])}})
	f.wantIn(f.get(rec.Header().Get("Location")), 200, "Every event was accepted, 4 in all", "Only pepper", "grace@example.com")
}
