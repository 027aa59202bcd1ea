package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// everyPage is one request for each page, and for a path where none is.
func everyPage() []struct{ method, target string } {
	pages := []struct{ method, target string }{{"GET", "/nothing/here"}}
	for _, rt := range new(API).pageRoutes() {
		target := strings.Replace(rt.path, "/webhooks/:id", "/webhooks/7", 1)
		pages = append(pages, struct{ method, target string }{rt.method, strings.Replace(target, ":id", nobodys, 1)})
	}
	return pages
}

// pageRequest is a request as a browser makes it.
func (f *fixture) pageRequest(method, target string) *http.Request {
	r := f.request(method, target, "")
	r.Header.Set("Accept", "text/html,application/xhtml+xml")
	return r
}

// wantPage holds an answer against what all pages have in common.
func wantPage(t *testing.T, rec *httptest.ResponseRecorder, status int, parts ...string) {
	t.Helper()
	h := rec.Header()
	if rec.Code != status || h.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("got %d %s, want a page with %d\n%.300s", rec.Code, h.Get("Content-Type"), status, rec.Body)
	}
	if policy := h.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("Content-Security-Policy %q", policy)
	}
	for _, part := range parts {
		if !strings.Contains(rec.Body.String(), part) {
			t.Errorf("the page does not have %q\n%s", part, rec.Body)
		}
	}
}

// signIn signs a browser in and returns its cookie; "" if no token is asked for.
func (f *fixture) signIn(token string) string {
	f.t.Helper()
	rec := f.postForm("/sign-in", url.Values{"token": {token}}.Encode())
	if rec.Code != http.StatusSeeOther {
		f.t.Fatalf("signing in: %d %s", rec.Code, rec.Body)
	}
	cookie, _, _ := strings.Cut(rec.Header().Get("Set-Cookie"), ";")
	return cookie
}

// postForm sends a form, with pairs of header names and values.
func (f *fixture) postForm(target, form string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", target, strings.NewReader(form))
	r.Host = "localhost:8080"
	r.Header.Set("Accept", "text/html")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return f.serve(r)
}

// oldCookie is the cookie of earlier versions, which held a token.
func oldCookie(token string) string {
	return oldTokenCookie + "=" + base64.RawURLEncoding.EncodeToString([]byte(token))
}

// TestPageTokens sends every kind of token to every page, in the header and in the cookie.
func TestPageTokens(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, IngestTokens: []string{"ingest"}, MetricsTokens: []string{"metrics"}})
	admin, wrong := f.signIn("admin"), signInCookie+"="+strings.Repeat("A", 43)
	for i, page := range everyPage() {
		if page.target == "/sign-in" || page.target == "/sign-out" {
			continue
		}
		for _, c := range []struct {
			header, value string
			status        int // 0: comes in
		}{
			{"", "", 401},
			{"Authorization", "Bearer admin", 0}, {"Authorization", "Bearer ingest", 403}, {"Authorization", "Bearer wrong", 401},
			{"Cookie", admin, 0}, {"Cookie", "__Host-" + admin, 0}, {"Cookie", wrong, 401}, {"Cookie", admin[:len(admin)-1], 401}, {"Cookie", admin + "A", 401},
			{"Cookie", oldCookie("admin"), 401}, {"Cookie", signInCookie + "=admin", 401}, {"Cookie", signInCookie + "=", 401}, {"Cookie", "token=admin", 401},
			// Another program on this host may have set one, too.
			{"Cookie", signInCookie + "=x; " + admin, 0}, {"Cookie", wrong + "; " + admin, 0}, {"Cookie", wrong + "; " + wrong, 401},
		} {
			r := f.pageRequest(page.method, page.target)
			r.Host = "hooks.example.com"
			r.RemoteAddr = fmt.Sprintf("203.0.113.%d:80", i) // a few wrong tokens from each
			if c.header != "" {
				r.Header.Set(c.header, c.value)
			}
			rec := f.serve(r)
			switch {
			case c.status == 0 && (rec.Code == 401 || rec.Code == 403):
				t.Errorf("%s %s with %s %q is kept out: %d", page.method, page.target, c.header, c.value, rec.Code)
			case c.status == 401:
				wantPage(t, rec, 401, `name="token"`)
			case c.status == 403:
				wantPage(t, rec, 403, "this token does not open this")
			}
		}
	}
	// What a browser sends on its own opens no API.
	for _, route := range everyRoute {
		r := f.request(route.method, route.target, route.body)
		r.Header.Set("Cookie", admin)
		if rec := f.serve(r); !route.anybody() && rec.Code != 401 {
			t.Errorf("%s %s takes the cookie: %d", route.method, route.target, rec.Code)
		}
	}
}

// TestForgedForms shows that with a browser that is signed in, pages of other origins change nothing, with and without tokens.
func TestForgedForms(t *testing.T) {
	for _, cfg := range []Config{{}, {AdminTokens: []string{"admin"}}} {
		f := newFixture(t, cfg)
		for _, page := range everyPage() {
			if page.method == "GET" && cfg.AdminTokens == nil { // for TestForeignPagesReadNothing
				continue
			}
			for _, c := range []struct {
				site, origin string
				in           bool
			}{
				{"same-origin", "http://localhost:8080", true},
				{"cross-site", "https://evil.example", false},
				{"same-site", "http://localhost:9000", false}, // SameSite=Strict lets this one through
				{"", "http://localhost:9000", false},
				{"", "null", false},
				{"", "http://localhost:8080", true},
			} {
				r := f.pageRequest(page.method, page.target)
				r.Header.Set("Cookie", f.signIn("admin"))
				r.Header.Set("Origin", c.origin)
				if c.site != "" {
					r.Header.Set("Sec-Fetch-Site", c.site)
				}
				if refused := f.serve(r).Code == 403; refused != (page.method == "POST" && !c.in) {
					t.Errorf("%s %s from %+v: refused %v", page.method, page.target, c, refused)
				}
			}
		}
	}
}

// TestPagesOnOtherHosts shows that without admin tokens pages are shown to loopback names only.
func TestPagesOnOtherHosts(t *testing.T) {
	f := newFixture(t, Config{})
	for _, page := range everyPage() {
		r := f.pageRequest(page.method, page.target)
		r.Host = "evil.example"
		wantPage(t, f.serve(r), 403, "DNS rebinding")
	}
}

// TestForeignPagesReadNothing: without tokens a link of another site leads to a page, and nothing else of that site does.
func TestForeignPagesReadNothing(t *testing.T) {
	f := newFixture(t, Config{})
	for _, page := range everyPage() {
		if page.method != "GET" || page.target == "/nothing/here" {
			continue
		}
		for _, c := range []struct {
			site, mode, dest string
			in               bool
		}{
			{"cross-site", "navigate", "document", true}, {"same-site", "navigate", "document", true}, {"same-origin", "cors", "empty", true},
			{"cross-site", "navigate", "iframe", false}, {"cross-site", "no-cors", "image", false}, {"cross-site", "cors", "empty", false}, {"same-site", "no-cors", "script", false},
			{"cross-site", "", "", false},
		} {
			r := f.pageRequest("GET", page.target)
			for name, value := range map[string]string{"Sec-Fetch-Site": c.site, "Sec-Fetch-Mode": c.mode, "Sec-Fetch-Dest": c.dest} {
				r.Header.Set(name, value)
			}
			if refused := f.serve(r).Code == 403; refused == c.in {
				t.Errorf("%s from %+v: refused %v", page.target, c, refused)
			}
		}
	}
}

// TestSignIn signs in, looks at a page, and signs out.
func TestSignIn(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"an admin's; \"token\""}, IngestTokens: []string{"ingest"}})
	post := f.postForm
	// The page that was asked for comes after the sign-in.
	wantPage(t, f.serve(f.pageRequest("GET", "/webhooks?a=b&c=<d>")), 401, `value="/webhooks?a=b&amp;c=&lt;d&gt;"`)
	for _, token := range []string{"", "wrong", "ingest", "an admin's"} {
		rec := post("/sign-in", url.Values{"token": {token}, "next": {"/webhooks"}}.Encode())
		wantPage(t, rec, 401, "neither an admin token nor a read token", `value="/webhooks"`)
		if rec.Header().Get("Set-Cookie") != "" || strings.Contains(rec.Body.String(), "an admin's") {
			t.Errorf("token %q: %v", token, rec.Header())
		}
	}
	for size, want := range map[int]int{15 << 10: 401, 17 << 10: 413, 900 << 10: 413} { // far below http.max_body
		if rec := post("/sign-in", url.Values{"token": {strings.Repeat("x", size)}}.Encode()); rec.Code != want {
			t.Errorf("a form of %d bytes: %d, want %d", size, rec.Code, want)
		}
	}
	form := url.Values{"token": {" an admin's; \"token\"\n"}, "next": {"/webhooks?x=y"}}.Encode()
	rec := post("/sign-in", form)
	cookies := rec.Result().Cookies()
	if rec.Code != 303 || rec.Header().Get("Location") != "/webhooks?x=y" || len(cookies) != 1 {
		t.Fatalf("%d %v", rec.Code, rec.Header())
	}
	c := cookies[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" || c.MaxAge <= 0 {
		t.Errorf("cookie %v", c)
	}
	r := f.pageRequest("GET", "/webhooks")
	r.AddCookie(c)
	wantPage(t, f.serve(r), 200, "Sign out")
	out := post("/sign-out", "", "Cookie", c.Name+"="+c.Value).Result().Cookies()
	if len(out) != 1 || out[0].Name != c.Name || out[0].MaxAge >= 0 || out[0].Value != "" {
		t.Errorf("cookies %v", out)
	}
	// A link of another site is followed without the cookie; the browser is told to ask once more, and once only.
	r = f.pageRequest("GET", "/webhooks")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	wantPage(t, f.serve(r), 401, `http-equiv="refresh"`)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if rec := f.serve(r); strings.Contains(rec.Body.String(), `http-equiv="refresh"`) {
		t.Error("the sign-in goes on asking")
	}
}

func TestLocalPath(t *testing.T) {
	for next, want := range map[string]string{
		"/": "/", "/webhooks/7?a=b": "/webhooks/7?a=b", "": "/", "https://evil.example/": "/", "//evil.example/": "/", `/\evil.example`: "/", `\/evil.example`: "/",
		"javascript:alert(1)": "/", "webhooks": "/", "///evil.example": "/", "/%zz": "/",
		"%2f%2fevil.example": "/", "/%2f%2fevil.example": "/%2f%2fevil.example", "/\t/evil.example": "/", "\t//evil.example": "/", "/\n/evil.example": "/",
		"/%09/evil.example": "/%09/evil.example", "/a\r\nSet-Cookie: a=b": "/", "https:evil.example": "/", "?a=b": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q: got %q, want %q", next, got, want)
		}
	}
}

// TestTypedAddresses asks for what only takes forms, as somebody does who presses Enter in the address bar of what a form has led to.
func TestTypedAddresses(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}})
	admin := f.signIn("admin")
	for _, target := range []string{"/webhooks/7/pause", "/sign-out", "/deliveries/" + nobodys + "/retry"} {
		wantPage(t, f.serve(f.pageRequest("GET", target)), 401, `name="token"`)
		r := f.pageRequest("GET", target)
		r.Header.Set("Cookie", admin)
		rec := f.serve(r)
		wantPage(t, rec, 405, "does not take this method")
		if allow := rec.Header().Get("Allow"); allow != "POST" {
			t.Errorf("%s: Allow %q", target, allow)
		}
	}
	// The sign-in itself leads on.
	wantPage(t, f.serve(f.pageRequest("GET", "/sign-in")), 401, `name="token"`)
	r := f.pageRequest("GET", "/sign-in")
	r.Header.Set("Cookie", admin)
	if rec := f.serve(r); rec.Code != 303 || rec.Header().Get("Location") != "/" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}
