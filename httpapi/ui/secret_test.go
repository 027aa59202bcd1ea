package ui_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// getWith asks for a page with a cookie.
func (f *fixture) getWith(target string, c *http.Cookie) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	r.Host = "localhost:8080"
	r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	rec := httptest.NewRecorder()
	f.h.ServeHTTP(rec, r)
	return rec
}

// TestSecretShownOnce follows the browser of somebody who has created a webhook.
func TestSecretShownOnce(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://other.example/"}`)
	rec := f.post("/webhooks", url.Values{"url": {"https://example.com/<hook>"}})
	f.wantIn(rec, 303)
	secret := string(f.webhook(2).Secret)
	cookies := rec.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	c := cookies[0]
	if c.Value != "2" || c.Path != "/webhooks/2/secret" || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.MaxAge != 60 {
		t.Errorf("the cookie is %s", c)
	}
	target := rec.Header().Get("Location")

	rec = f.getWith(target, c)
	page := f.wantIn(rec, 200, "The webhook is created.", `href="/webhooks/2"`,
		`<details name="code">`, `data-copy="the Python code"`, "This page shows it once")
	if !strings.Contains(html.UnescapeString(page), `data-copy="the secret">`+secret+"<") {
		t.Error("the secret cannot be copied")
	}
	if n := strings.Count(html.UnescapeString(page), secret); n != 6 {
		t.Errorf("the secret stands on the page %d times, want it alone and in each of the 5 snippets", n)
	}
	if got := rec.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("the page may be kept: %q", got)
	}
	if cleared := rec.Result().Cookies(); len(cleared) != 1 || cleared[0].MaxAge >= 0 || cleared[0].Path != c.Path || cleared[0].Name != c.Name {
		t.Errorf("the cookie stays: %v", cleared)
	}

	hidden := func(page string) {
		t.Helper()
		if strings.Contains(html.UnescapeString(page), secret) || strings.Contains(page, "The webhook is created") {
			t.Error("the secret is shown without being asked for")
		}
	}
	hidden(f.wantPage(target, "The secret was shown.", "Show the secret", `action="/webhooks/2/secret"`, "secret = &#34;whsec_...&#34;;"))
	hidden(f.wantPage("/webhooks/2/secret", "The secret is hidden."))
	// The cookie is for one webhook.
	other := f.getWith("/webhooks/1/secret", c)
	if strings.Contains(html.UnescapeString(f.wantIn(other, 200)), string(f.webhook(1).Secret)) {
		t.Error("the cookie of a webhook shows the secret of another")
	}

	shown := f.post("/webhooks/2/secret", nil)
	if page := f.wantIn(shown, 200, "until you leave it"); !strings.Contains(html.UnescapeString(page), secret) {
		t.Error("the secret is not shown to who asks for it")
	}
	if got := shown.Header().Get("Cache-Control"); got != "no-store" || len(shown.Result().Cookies()) != 0 {
		t.Errorf("Cache-Control %q, cookies %v", got, shown.Result().Cookies())
	}
	hidden(f.wantPage("/webhooks/2/edit"))
	hidden(f.wantPage("/webhooks"))
}
