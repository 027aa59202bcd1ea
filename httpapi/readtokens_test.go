package httpapi

import (
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// adminOnlyReads are the GETs that take an admin token: what reveals secrets, and the forms of changes.
var adminOnlyReads = []string{"/v1/webhooks/:id/secret", "/v1/backup", "/webhooks/:id/deactivate", "/webhooks/:id/delete", "/new-webhook", "/webhooks/:id/edit",
	"/webhooks/:id/secret", "/webhooks/:id/rotate", "/webhooks/:id/replay", "/sessions/:id/erase", "/erase", "/play"}

// TestReadTokensChangeNothing walks all routes: a read token opens no other method than GET, and every GET but those above.
func TestReadTokensChangeNothing(t *testing.T) {
	var adminOnly []string
	for _, rt := range new(API).routes() {
		switch reads := rt.allowedRoles&readToken != 0; {
		case reads && rt.method != "GET":
			t.Errorf("a read token opens %s %s", rt.method, rt.path)
		case !reads && rt.method == "GET" && rt.allowedRoles&anybody == 0:
			adminOnly = append(adminOnly, rt.path)
		}
	}
	slices.Sort(adminOnly)
	if want := slices.Sorted(slices.Values(adminOnlyReads)); !slices.Equal(adminOnly, want) {
		t.Errorf("only admins may GET %q, want %q", adminOnly, want)
	}
}

// TestReadTokenRefused: a caller with a read token is told which one is needed, in the API, on the page and at the platform's paths, and
// nothing has happened.
func TestReadTokenRefused(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, ReadTokens: []string{"read"}})
	f.token = "admin"
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","delay":10}`)
	f.token = "read"
	for _, c := range []call{{"PATCH", "/v1/webhooks/1", `{"delay":11}`}, {"DELETE", "/v1/webhooks/1", ""}, {"GET", "/v1/webhooks/1/secret", ""}, {"GET", "/v1/backup", ""},
		{"POST", "/v1/events", start(sessionA)}, {"PUT", "/platform/hooks/web/1", `{"delay":11}`}, {"DELETE", "/platform/hooks/web/1", ""}} {
		if p := wantProblem(t, f.do(c.method, c.target, c.body), 403); !strings.Contains(p.Detail, "read token") || !strings.Contains(p.Detail, "http.admin_tokens") {
			t.Errorf("%s %s: %s", c.method, c.target, p.Detail)
		}
	}
	f.token = ""
	cookie := f.signIn("read")
	for _, target := range []string{"/webhooks/1/pause", "/webhooks/1/secret", "/webhooks/1", "/webhooks/1/delete"} {
		wantPage(t, f.postForm(target, "delay=11", "Cookie", cookie, "Content-Type", "application/x-www-form-urlencoded"), 403, "read token", "http.admin_tokens")
	}
	// The cookie that shows a new secret once may be invented.
	r := f.pageRequest("GET", "/webhooks/1/secret")
	r.Header.Set("Cookie", cookie+"; hookbolt_secret=1")
	if rec := f.serve(r); rec.Code != 403 || strings.Contains(rec.Body.String(), "whsec_") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	f.token = "read"
	if got := f.want(200, "GET", "/v1/webhooks/1", ""); !strings.Contains(got, `"delay":10,`) || !strings.Contains(got, `"paused":false`) {
		t.Error(got)
	}
	if got := f.log.audited(); len(got) != 2 || !strings.HasPrefix(got[1], `by="read 1" operation="POST /sign-in"`) {
		t.Errorf("%q", got)
	}
}

// TestSecretsAreAudited: what only an admin may read is told in the log.
func TestSecretsAreAudited(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}})
	f.token = "admin"
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	f.want(200, "GET", "/v1/webhooks/1/secret", "")
	f.want(200, "GET", "/v1/webhooks/1", "")
	got := f.log.audited()
	if len(got) != 2 || !strings.HasPrefix(got[1], `by="admin 1" operation="GET /v1/webhooks/:id/secret" webhook=1 status=200 `) {
		t.Errorf("%q", got)
	}
}

// TestReadOnlyPages walks the pages from the overview on, along all links, as somebody does who has signed in with a read token: no link is
// refused, there is no form for a change, and no secret.
func TestReadOnlyPages(t *testing.T) {
	link := regexp.MustCompile(`(?:href|action)="(/[^"]*)"`)
	form := regexp.MustCompile(`<form[^>]* method="post"[^>]* action="([^"]*)"`)
	for _, empty := range []bool{true, false} {
		f := newFixture(t, Config{AdminTokens: []string{"admin"}, ReadTokens: []string{"read"}})
		if !empty {
			f.token = "admin"
			f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","name":"first"}`)
			f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
			f.want(200, "PATCH", "/v1/webhooks/2", `{"active":false}`)
			f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
			f.want(200, "PATCH", "/v1/webhooks/3", `{"paused":true}`)
			f.want(202, "POST", "/v1/webhooks/1/test", "")
			f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
			f.token = ""
		}
		cookie := f.signIn("read")
		seen := map[string]bool{"/sign-out": true}
		for todo := []string{"/"}; len(todo) > 0; todo = todo[1:] {
			if seen[todo[0]] {
				continue
			}
			seen[todo[0]] = true
			r := f.pageRequest("GET", todo[0])
			r.Header.Set("Cookie", cookie)
			rec := f.serve(r)
			page := rec.Body.String()
			if rec.Code != http.StatusOK {
				t.Errorf("a link leads to %s: %d", todo[0], rec.Code)
			}
			if strings.Contains(page, "whsec_") || !strings.Contains(page, "Read only") {
				t.Errorf("%s has a secret, or does not say that it is read-only", todo[0])
			}
			for _, m := range form.FindAllStringSubmatch(page, -1) {
				if m[1] != "/sign-out" {
					t.Errorf("%s has a form for %s", todo[0], m[1])
				}
			}
			for _, m := range link.FindAllStringSubmatch(page, -1) {
				target, _, _ := strings.Cut(html.UnescapeString(m[1]), "#")
				todo = append(todo, target)
			}
		}
		if want := map[bool]int{true: 5, false: 12}[empty]; len(seen) < want {
			t.Errorf("only %d pages were found", len(seen))
		}
	}
	// An admin gets the whole page.
	f := newFixture(t, Config{AdminTokens: []string{"admin"}})
	r := f.pageRequest("GET", "/")
	r.Header.Set("Cookie", f.signIn("admin"))
	if page := f.serve(r).Body.String(); strings.Contains(page, "Read only") || !strings.Contains(page, "/new-webhook") {
		t.Error(page)
	}
}
