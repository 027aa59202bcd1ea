package ui_test

import (
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// leadOf is a session with a lead.
func leadOf(session, fields string) string {
	return fmt.Sprintf(`{"type":"start","session_id":%q,"content_id":%q,"content_type":"quiz","poltio_user_id":7}
{"type":"lead","session_id":%[1]q,"lead":{%[3]s}}`, session, contentA, fields)
}

// listedSessions are the ids in the list of a page.
func listedSessions(page string) (ids []string) {
	for _, m := range regexp.MustCompile(`<tr id="s-([0-9a-f-]{36})">`).FindAllStringSubmatch(page, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

const sessionOther = "22ffdf18-1035-4e56-baa2-8327e3af5299"

func TestFindPerson(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/events", leadOf(sessionA, `"email":"Jane+x@Example.com","phone":"+90 532"`))
	f.api("POST", "/v1/events", leadOf(sessionOther, `"user_id":9`))
	for query, want := range map[string]string{
		"": sessionOther + " " + sessionA, "?email=+jane%2Bx@example.COM": sessionA, "?phone=0090532": sessionA, "?poltio_user_id=9": sessionOther,
		"?poltio_user_id=7": sessionOther + " " + sessionA, "?email=nobody@example.com": "", "?state=complete": "", "?state=incomplete&poltio_user_id=9": sessionOther,
		"?email=jane%2Bx@example.com&poltio_user_id=9": "",
	} {
		page := f.wantPage("/sessions" + query)
		if got := strings.Join(listedSessions(page), " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
		if polls := strings.Contains(page, "data-poll"); polls != (query == "" || query == "?state=complete") {
			t.Errorf("%s: the page asks for itself: %t", query, polls)
		}
		if offers := strings.Contains(page, `href="/erase?`); offers != (strings.HasPrefix(query, "?email") || strings.Contains(query, "phone") || strings.Contains(query, "user_id")) && !strings.Contains(query, "&poltio_user_id") {
			t.Errorf("%s: the page offers to erase: %t", query, offers)
		}
	}
	f.wantPage("/sessions?email=nobody@example.com", "No matches", `value="nobody@example.com"`)
	for query, want := range map[string]string{"phone=none": "phone-error", "poltio_user_id=x": "poltio_user_id-error", "email=%E2%80%8B": "email-error", "state=done": "must be complete or incomplete"} {
		page := f.wantIn(f.get("/sessions?"+query), 400, want, "Correct the search")
		if len(listedSessions(page)) > 0 || strings.Contains(page, `href="/erase?`) {
			t.Errorf("%s lists sessions, or offers to erase", query)
		}
	}
	wantEscaped(t, f.wantPage("/sessions?email="+hostileQuery))
}

// A page has 50 sessions, and leads to the older ones.
func TestSessionPages(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 120 {
		f.api("POST", "/v1/events", leadOf(fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012d", i), `"email":"jane@example.com"`))
	}
	for _, query := range []string{"", "?email=jane@example.com"} {
		var sizes []int
		seen := make(map[string]bool)
		for link := "/sessions" + query; link != ""; {
			page := f.wantPage(link)
			ids := listedSessions(page)
			for _, id := range ids {
				seen[id] = true
			}
			sizes = append(sizes, len(ids))
			link = ""
			if m := regexp.MustCompile(`href="([^"]*)" rel="next">Older<`).FindStringSubmatch(page); m != nil {
				link = html.UnescapeString(m[1])
			}
		}
		if fmt.Sprint(sizes) != "[50 50 20]" || len(seen) != 120 {
			t.Errorf("%s: pages of %v sessions, %d in all", query, sizes, len(seen))
		}
	}
}

func TestErasePerson(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://a.example/","send_incomplete":true}`)
	f.api("POST", "/v1/events", leadOf(sessionA, `"email":"Jane+x@Example.com"`))
	f.api("POST", "/v1/events", leadOf(sessionOther, `"email":"john@example.com"`))
	page := f.wantPage("/sessions?email=jane%2Bx@example.com")
	m := regexp.MustCompile(`href="(/erase\?[^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatal("the page does not offer to erase")
	}
	f.wantPage(html.UnescapeString(m[1]), "Erase this person?", "e-mail", "jane&#43;x@example.com", "1 session with 2 events, and 1 delivery with payloads and 0 attempts", `action="/erase"`)
	f.wantPage("/sessions/"+sessionA, "2 events") // nothing has happened
	f.wantPage("/erase?poltio_user_id=8", "Nothing is stored about the visitor")
	for _, query := range []string{"", "?email=", "?email=a@b.c&phone=1", "?poltio_user_id=x", "?phone=none"} {
		f.wantIn(f.get("/erase"+query), 400, "Bad Request")
	}
	rec := f.post("/erase", url.Values{"email": {"JANE+x@example.com "}})
	if to := rec.Header().Get("Location"); rec.Code != 303 || to != "/sessions?done=erased&events=2&deliveries=1&sessions=1" {
		t.Fatalf("%d %s %s", rec.Code, to, rec.Body)
	}
	f.wantPage(rec.Header().Get("Location"), "Erased: 1 session with 2 events, and 1 delivery. Nothing more is sent for them.", sessionOther)
	f.wantIn(f.get("/sessions/"+sessionA), 404)
	f.wantIn(f.post("/erase", url.Values{}), 400)
	f.wantPage("/sessions/"+sessionOther, "2 events")
}
