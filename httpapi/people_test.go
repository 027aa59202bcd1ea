package httpapi

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// lead is a lead event of a session, with fields as they stand.
func lead(session, fields string) string {
	return fmt.Sprintf(`{"type":"lead","session_id":%q,"lead":{%s}}`, session, fields) + "\n"
}

// listed returns the ids of all sessions that a query lists, page by page.
func (f *fixture) listed(query string, limit int) (ids []string) {
	f.t.Helper()
	cursor := ""
	for range 100 {
		var got struct {
			Items []struct {
				ID string `json:"session_id"`
			}
			NextCursor *string `json:"next_cursor"`
		}
		f.wantJSON(&got, 200, "GET", fmt.Sprintf("/v1/sessions?limit=%d%s%s", limit, query, cursor), "")
		for _, item := range got.Items {
			ids = append(ids, item.ID)
		}
		if got.NextCursor == nil {
			return ids
		}
		cursor = "&cursor=" + url.QueryEscape(*got.NextCursor)
	}
	f.t.Fatal("the pages come to no end")
	return nil
}

func TestListSessions(t *testing.T) {
	f := newFixture(t, Config{})
	if got := f.want(200, "GET", "/v1/sessions", ""); got != `{"items":[],"next_cursor":null}`+"\n" {
		t.Errorf("got %s", got)
	}
	f.want(202, "POST", "/v1/events", start(sessionA)+lead(sessionA, `"email":" Jane+x@Example.com","phone":"+90 532","user_id":9`)+finish(sessionA))
	f.want(202, "POST", "/v1/events", start(sessionB))
	for query, want := range map[string]string{
		"": sessionB + " " + sessionA, "&state=complete": sessionA, "&state=incomplete": sessionB, "&poltio_user_id=7": sessionB + " " + sessionA,
		"&poltio_user_id=9": sessionA, "&poltio_user_id=8": "", "&email=jane%2Bx@example.COM%20": sessionA, "&email=jane@example.com": "",
		"&phone=0090532": sessionA, "&phone=%2B90-532": sessionA, "&phone=+90+532": sessionA, "&phone=0532": "",
		"&poltio_user_id=7&phone=90532": sessionA, "&poltio_user_id=8&phone=90532": "", "&state=incomplete&poltio_user_id=9": "",
		"&content_id=6caaa000-2bd8-4b28-8b9b-bfe1fca94f39": sessionB + " " + sessionA, "&content_id=" + sessionA: "",
		"&since=2000-01-01T00:00:00Z": sessionB + " " + sessionA, "&until=2000-01-01T00:00:00Z": "", "&since=2999-01-01T00:00:00Z": "",
	} {
		for _, limit := range []int{1, 2, 200} {
			if got := strings.Join(f.listed(query, limit), " "); got != want {
				t.Errorf("%s, %d a page: %q, want %q", query, limit, got, want)
			}
		}
	}
	got := f.want(200, "GET", "/v1/sessions?state=complete", "")
	for _, part := range []string{`"session_id":"` + sessionA + `","state":"complete","content_id":"`, `"content_type":"quiz","poltio_user_id":7,"publisher_uuid":null,"custom_id":null,"events":3,`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s lacks %s", got, part)
		}
	}
	if strings.Contains(got, "ane") {
		t.Errorf("a list has a lead: %s", got)
	}
}

// What is wrong with a search is said, with the name of the parameter: a filter that is not understood must not list everybody.
func TestListSessionsRefuses(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(202, "POST", "/v1/events", start(sessionA))
	for query, want := range map[string][2]string{
		"email=": {"email", "must not be empty"}, "email=%20": {"email", "must not be empty"}, "email=jane+x@example.com": {"email", "a plus is written %2B"},
		"phone=none": {"phone", "must have a digit"}, "poltio_user_id=": {"poltio_user_id", "must be an integer of 64 bits"}, "poltio_user_id=07": {"poltio_user_id", "4711"},
		"state=finished": {"state", "must be complete or incomplete"}, "content_id=7": {"content_id", "must be a UUID"}, "since=yesterday": {"since", "RFC 3339"},
		"since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z": {"until", "must not be before since"}, "limit=0": {"limit", "must be 1 to 200"},
		"cursor=": {"cursor", "must be the next_cursor"}, "cursor=AAAAAAAAAAE": {"cursor", "must be the next_cursor"}, "e-mail=jane@example.com": {"e-mail", "unknown query parameter"},
		"email=a@b.c&email=b@b.c": {"email", "stands twice"},
	} {
		wantInputProblem(t, f.do("GET", "/v1/sessions?"+query, ""), 0, want[0], want[1])
	}
}

func TestErasePerson(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, ReadTokens: []string{"read"}})
	f.token = "admin"
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	f.want(202, "POST", "/v1/events", start(sessionA)+lead(sessionA, `"email":"Jane@Example.com"`)+finish(sessionA)+start(sessionB))
	f.token = "read"
	wantProblem(t, f.do("POST", "/v1/erase", `{"email":"jane@example.com","dry_run":true}`), 403)
	f.token = "admin"
	const counts = `"sessions":1,"events":3,"deliveries":1,"attempts":0,"damaged":0}` + "\n"
	for body, want := range map[string]string{
		`{"email":" JANE@example.com","dry_run":true}`: `{"dry_run":true,` + counts, `{"session_id":"` + sessionA + `","dry_run":true}`: `{"dry_run":true,` + counts,
		`{"session_id":"22ffdf18-1035-4e56-baa2-000000000000"}`: `{"dry_run":false,"sessions":0,"events":0,"deliveries":0,"attempts":0,"damaged":0}` + "\n",
		`{"phone":"+90"}`: `{"dry_run":false,"sessions":0,"events":0,"deliveries":0,"attempts":0,"damaged":0}` + "\n",
	} {
		if got := f.want(200, "POST", "/v1/erase", body); got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
	f.want(200, "GET", "/v1/sessions/"+sessionA, "")
	for body, want := range map[string][2]string{
		`{}`: {"", "exactly one of"}, `{"email":"a@b.c","phone":"1"}`: {"", "got 2 of them"}, `{"email":""}`: {"email", "must not be empty"},
		`{"mail":"a@b.c"}`: {"mail", "unknown"}, `{"poltio_user_id":"x"}`: {"poltio_user_id", "must be an integer"},
	} {
		wantInputProblem(t, f.do("POST", "/v1/erase", body), 0, want[0], want[1])
	}
	if got := f.want(200, "POST", "/v1/erase", `{"email":"jane@EXAMPLE.com"}`); got != `{"dry_run":false,`+counts {
		t.Errorf("got %s", got)
	}
	f.want(404, "GET", "/v1/sessions/"+sessionA, "")
	f.want(200, "GET", "/v1/sessions/"+sessionB, "")
	log := f.log.String()
	for _, private := range []string{"ane@", "JANE", sessionA, "phone"} {
		if strings.Contains(log, private) {
			t.Errorf("the log has %s: %s", private, log)
		}
	}
	audited := f.log.audited()
	if last := audited[len(audited)-1]; !strings.HasPrefix(last, `by="admin 1" operation="POST /v1/erase" status=200`) {
		t.Errorf("audited: %s", last)
	}
}

// A client that has no response sends the request again, with the same key, and gets the numbers of the first one.
func TestEraseOnce(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(202, "POST", "/v1/events", start(sessionA)+lead(sessionA, `"email":"jane@example.com"`))
	const body, want = `{"email":"jane@example.com"}`, `{"dry_run":false,"sessions":1,"events":2,"deliveries":0,"attempts":0,"damaged":0}` + "\n"
	for i := range 3 {
		rec := f.doOnce("k", "POST", "/v1/erase", body)
		if rec.Code != 200 || rec.Body.String() != want || (rec.Header().Get("Idempotency-Replayed") == "true") != (i > 0) {
			t.Errorf("call %d: %d %s %v", i, rec.Code, rec.Body, rec.Header())
		}
	}
	wantProblem(t, f.doOnce("k", "POST", "/v1/erase", `{"email":"john@example.com"}`), 422)
}
