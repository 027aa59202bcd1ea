package ui_test

import (
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
{"type":"lead","session_id":"`+sessionA+`","lead":{"phone":"H","email":"H","name":"H","comment":"H","content_type":"H","created_at":"H"}}`, "H", h)
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
	f.wantPage("/sessions", "Nothing has been sent yet")
	f.wantIn(f.get("/sessions/"+sessionA), 404, "Nothing is kept of")
	f.wantIn(f.get("/sessions/nonsense"), 404)
	f.wantIn(f.get("/sessions?id=nonsense"), 400, `value="nonsense"`, `aria-invalid="true"`, "id-error")
	if rec := f.get("/sessions?id=+" + strings.ToUpper(sessionA) + "%0A"); rec.Code != 303 || rec.Header().Get("Location") != "/sessions/"+sessionA {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/webhooks", `{"url":"https://b.example/","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f40"}`)
	f.api("POST", "/v1/events", hostileSession())
	page := f.wantPage("/sessions/"+sessionA, "6 events", "complete", "answer 9 to question 3", "(for another content)")
	wantEscaped(t, page)
	if n := strings.Count(page, `<tr id="d-`); n != 1 {
		t.Errorf("%d deliveries", n)
	}
	f.wantPage("/sessions", "a.example/, scheduled", "/sessions/"+sessionA)

	wantEscaped(t, f.wantPage("/sessions/"+sessionA+"?webhook_id=1", "&#34;complete_session&#34;: true"))
	f.wantIn(f.get("/sessions/"+sessionA+"?webhook_id=1&as_of=yesterday"), 400, "must be a time in UTC", "as_of-error")
	f.wantIn(f.get("/sessions/"+sessionA+"?webhook_id=1&as_of=2001-02-03"), 400, "nothing of the session had happened by then")
	f.wantIn(f.get("/sessions/"+sessionA+"?webhook_id=2"), 400, "for another content: the session is not sent there")
	f.wantIn(f.get("/sessions/"+sessionA+"?webhook_id=3"), 400, "There is no such webhook")
}

// TestEraseSession erases one, after it was asked for.
func TestEraseSession(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	f.api("POST", "/v1/events", played(sessionA))
	f.wantPage("/sessions/"+sessionA+"/erase", "2 events and 1 delivery", "1 still waits and is not sent any more")
	f.wantPage("/sessions/" + sessionA) // it was only asked
	if rec := f.post("/sessions/"+sessionA+"/erase", nil); rec.Code != 303 || rec.Header().Get("Location") != "/sessions?done=erased" {
		t.Fatalf("%d %v", rec.Code, rec.Header())
	}
	f.wantPage("/sessions?done=erased", "The session was erased")
	for _, method := range []string{"GET", "POST"} {
		f.wantIn(f.do(method, "/sessions/"+sessionA+"/erase", nil), 404)
	}
}

// TestLongSession shows the ends of a session of many events, and all of it on demand.
func TestLongSession(t *testing.T) {
	f := newFixture(t, nil)
	var b strings.Builder
	b.WriteString(played(sessionA))
	for range 300 {
		b.WriteString(`{"type":"vote","session_id":"` + sessionA + `","question_id":1,"answer_id":2}`)
	}
	f.api("POST", "/v1/events", b.String())
	if n := strings.Count(f.wantPage("/sessions/"+sessionA, "302 events", "102 more in between"), "<strong>vote</strong>"); n != 198 {
		t.Errorf("%d votes", n)
	}
	if n := strings.Count(f.wantPage("/sessions/"+sessionA+"?events=all"), "<strong>vote</strong>"); n != 300 {
		t.Errorf("%d votes of all", n)
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
		if session, ok = strings.CutPrefix(rec.Header().Get("Location"), "/sessions/"); !ok || rec.Code != 303 {
			t.Fatalf("%d %v\n%s", rec.Code, rec.Header(), mainOf(rec.Body.String()))
		}
	}
	page = f.wantPage("/sessions/"+session, "Every event was accepted", "5 events", "Salt &amp; pepper?", "Only salt", "ada@example.com")
	wantEscaped(t, page)
	if n := strings.Count(page, `<tr id="d-`); n != 2 {
		t.Errorf("%d deliveries", n)
	}

	form.Set("session_id", sessionA)
	form.Set("unfinished", "on")
	f.post("/play", form)
	f.wantPage("/sessions/"+sessionA, "not finished", "3 events")

	for field, bad := range map[string]string{"content_id": "nonsense", "poltio_user_id": "4.5"} {
		form := formOf(f.wantPage("/play"))
		form.Set(field, bad)
		f.wantIn(f.post("/play", form), 400, `value="`+bad+`"`, field+"-error", "<details open>")
		f.wantIn(f.get("/sessions/"+form.Get("session_id")), 404)
	}
}

// TestPlayEvents plays the recorded sessions through the page.
func TestPlayEvents(t *testing.T) {
	f := newFixture(t, nil)
	names, err := filepath.Glob("../../testdata/sessions/*.ndjson")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d sessions: %v", len(names), err)
	}
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
		f.wantIn(f.get(rec.Header().Get("Location")), 200, "Every event was accepted")
	}
	f.wantIn(f.post("/play", url.Values{"events": {played(sessionB) + `{"type":"vote","session_id":"` + sessionB + `","nonsense":"<>"}`}}), 400,
		"None of them was stored", "Event 2, <code>nonsense</code>: ", `<details class="card" id="own" open>`, "&#34;type&#34;:&#34;vote&#34;")
	f.wantIn(f.post("/play", url.Values{"events": {"  "}}), 400, "the body is empty")
	f.wantIn(f.post("/play", url.Values{"events": {"[]"}}), 400, "there is no event")
	f.wantIn(f.get("/sessions/"+sessionB), 404)
}
