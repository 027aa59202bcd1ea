package httpapi

import (
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// opens reports whether a cookie opens the pages.
func (f *fixture) opens(cookie string) bool {
	f.t.Helper()
	r := f.pageRequest("GET", "/webhooks")
	r.Header.Set("Cookie", cookie)
	rec := f.serve(r)
	if rec.Code != 200 && rec.Code != 401 {
		f.t.Fatalf("got %d", rec.Code)
	}
	return rec.Code == 200
}

// TestSignInEnds: a sign-in ends after its time, with its sign-out, and with its token; others go on.
func TestSignInEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{AdminTokens: []string{"admin", "other"}})
		api := f.h.(observed).h.(*API)
		first, second, other := f.signIn("admin"), f.signIn("admin"), f.signIn("other")
		if first == second || !f.opens(first) || !f.opens(second) || !f.opens(other) {
			t.Fatal(first, second, other)
		}
		f.postForm("/sign-out", "", "Cookie", first)
		if f.opens(first) || !f.opens(second) {
			t.Error("a sign-out ends another sign-in than its own")
		}
		api.Configure(Config{AdminTokens: []string{"other"}})
		if f.opens(second) || !f.opens(other) {
			t.Error("a removed token ends another sign-in than its own")
		}
		api.Configure(Config{AdminTokens: []string{"admin", "other"}})
		if f.opens(second) {
			t.Error("a sign-in comes back with its token")
		}
		// A token that is no admin token any more opens nothing, though it is known.
		api.Configure(Config{AdminTokens: []string{"admin"}, IngestTokens: []string{"other"}})
		if f.opens(other) {
			t.Error("an ingest token opens the pages")
		}
		api.Configure(Config{AdminTokens: []string{"admin", "other"}})
		if f.opens(other) {
			t.Error("a sign-in comes back with the rights of its token")
		}
		late := f.signIn("admin")
		time.Sleep(signInAge - time.Second)
		if !f.opens(late) {
			t.Error("it ends too early")
		}
		time.Sleep(time.Second)
		if f.opens(late) {
			t.Error("it does not end")
		}
	})
}

// TestSignInsBounded: whoever has a token cannot fill the memory with sign-ins, nor end those of other tokens.
func TestSignInsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{AdminTokens: []string{"admin", "other"}})
		other, first := f.signIn("other"), f.signIn("admin")
		time.Sleep(time.Second)
		second := f.signIn("admin")
		for range engine.MaxSignIns - 1 {
			time.Sleep(time.Millisecond)
			f.signIn("admin")
		}
		if f.opens(first) || !f.opens(second) || !f.opens(other) {
			t.Errorf("first %t, second %t, other %t", f.opens(first), f.opens(second), f.opens(other))
		}
		s := f.h.(observed).h.(*API).signIns.(*signInsHere)
		if got := len(s.kept); got != engine.MaxSignIns+1 {
			t.Errorf("%d are kept", got)
		}
		time.Sleep(signInAge)
		f.signIn("admin")
		if got := len(s.kept); got != 1 {
			t.Errorf("%d are kept after all but one have ended", got)
		}
	})
}

// TestCookieIsNoToken: what a browser keeps, and what hookbolt keeps, lead to no token and to no id.
func TestCookieIsNoToken(t *testing.T) {
	const token = "an-admin-token-of-mine"
	f := newFixture(t, Config{AdminTokens: []string{token}})
	cookie := f.signIn(token)
	if !strings.HasPrefix(cookie, signInCookie+"=") || len(cookie) != len(signInCookie)+1+43 || strings.Contains(cookie, oldCookie(token)[len(oldTokenCookie)+1:]) {
		t.Error(cookie)
	}
	kept := f.h.(observed).h.(*API).signIns.(*signInsHere).kept
	if one, ok := kept[sha256.Sum256([]byte(cookie[len(signInCookie)+1:]))]; len(kept) != 1 || !ok || one.Token != sha256.Sum256([]byte(token)) {
		t.Errorf("kept: %v", kept)
	}
	// A browser that still has the cookie of an earlier version is told to forget it.
	r := f.pageRequest("GET", "/")
	r.Header.Set("Cookie", oldCookie(token))
	rec := f.serve(r)
	gone := rec.Result().Cookies()
	if rec.Code != 401 || len(gone) != 1 || gone[0].Name != oldTokenCookie || gone[0].MaxAge >= 0 {
		t.Errorf("%d %v", rec.Code, gone)
	}
}

// TestSecureCookie: where the browser uses HTTPS, its cookie has the name that browsers protect, and only that name counts.
func TestSecureCookie(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}})
	plain := f.signIn("admin")
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		secure bool // the cookie is
		known  bool // hookbolt knows with each request that it comes over HTTPS
	}{
		{"plain HTTP", func(*http.Request) {}, false, false},
		{"TLS", func(r *http.Request) { r.TLS = new(tls.ConnectionState) }, true, true},
		{"a trusted proxy", func(r *http.Request) { r.RemoteAddr = "10.0.0.1:80"; r.Header.Set("X-Forwarded-Proto", "https") }, true, true},
		{"a trusted proxy without TLS", func(r *http.Request) { r.RemoteAddr = "10.0.0.1:80"; r.Header.Set("X-Forwarded-Proto", "http") }, false, false},
		{"another proxy", func(r *http.Request) { r.RemoteAddr = "10.0.0.2:80"; r.Header.Set("X-Forwarded-Proto", "https") }, false, false},
		{"another proxy, and an origin", func(r *http.Request) { r.Header.Set("Origin", "https://hooks.example.com") }, true, false},
		{"an origin without TLS", func(r *http.Request) { r.Header.Set("Origin", "http://hooks.example.com") }, false, false},
	} {
		r := httptest.NewRequest("POST", "/sign-in", strings.NewReader(url.Values{"token": {"admin"}}.Encode()))
		r.Host = "hooks.example.com"
		c.change(r)
		rec := f.serve(r)
		cookies := rec.Result().Cookies()
		if len(cookies) != 1 {
			t.Fatalf("%s: %d %v", c.name, rec.Code, cookies)
		}
		got := cookies[0]
		if got.Secure != c.secure || strings.HasPrefix(got.Name, "__Host-") != c.secure || got.Path != "/" || got.Domain != "" || !got.HttpOnly || got.MaxAge != 12*60*60 {
			t.Errorf("%s: %v", c.name, got)
		}
		// Its own cookie counts; one under the other name only where hookbolt cannot know of HTTPS.
		for cookie, want := range map[string]int{got.Name + "=" + got.Value: 200, plain: map[bool]int{true: 401, false: 200}[c.known]} {
			r := f.pageRequest("GET", "/webhooks")
			r.Header.Set("Cookie", cookie)
			c.change(r)
			if rec := f.serve(r); rec.Code != want {
				t.Errorf("%s: %s gives %d, want %d", c.name, cookie, rec.Code, want)
			}
		}
	}
}
