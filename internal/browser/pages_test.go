package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"hookbolt/httpapi/ui"
)

// site is a server with content for every page.
type site struct {
	*server
	webhook, session   string // ids of one of each
	delivered, refused string // ids of deliveries: a delivered one, which lacks a late event, and one whose endpoint responds with an error
}

// everyPage maps the route of each page to paths of the site.
var everyPage = map[string]func(site) []string{
	"/":                        func(site) []string { return []string{"/", "/?span=day"} },
	"/webhooks":                func(site) []string { return []string{"/webhooks"} },
	"/new-webhook":             func(site) []string { return []string{"/new-webhook"} },
	"/webhooks/:id":            func(s site) []string { return []string{"/webhooks/" + s.webhook, "/webhooks/2"} },
	"/webhooks/:id/edit":       func(s site) []string { return []string{"/webhooks/" + s.webhook + "/edit"} },
	"/webhooks/:id/secret":     func(s site) []string { return []string{"/webhooks/" + s.webhook + "/secret"} },
	"/webhooks/:id/rotate":     func(s site) []string { return []string{"/webhooks/" + s.webhook + "/rotate"} },
	"/webhooks/:id/replay":     func(s site) []string { return []string{"/webhooks/" + s.webhook + "/replay?status=any"} },
	"/webhooks/:id/deactivate": func(s site) []string { return []string{"/webhooks/" + s.webhook + "/deactivate"} },
	"/webhooks/:id/delete":     func(s site) []string { return []string{"/webhooks/" + s.webhook + "/delete"} },
	"/deliveries": func(site) []string {
		return []string{"/deliveries", "/deliveries?status=failed", "/deliveries?late_events=on"}
	},
	"/deliveries/:id":     func(s site) []string { return []string{"/deliveries/" + s.delivered, "/deliveries/" + s.refused} },
	"/sessions":           func(site) []string { return []string{"/sessions", "/sessions?poltio_user_id=42&state=complete"} },
	"/sessions/:id":       func(s site) []string { return []string{"/sessions/" + s.session + "?webhook_id=" + s.webhook} },
	"/sessions/:id/erase": func(s site) []string { return []string{"/sessions/" + s.session + "/erase"} },
	"/erase":              func(site) []string { return []string{"/erase?poltio_user_id=42", "/erase?email=nobody@example.com"} },
	"/play":               func(site) []string { return []string{"/play"} },
}

// newSite starts a server and posts sessions for three webhooks: one whose endpoint works, one whose endpoint fails, and one with a delay of an
// hour.
func newSite(t *testing.T, settings ...string) site {
	s := site{server: startServer(t, settings...)}
	works, broken := newEndpoint(t), newEndpoint(t)
	broken.answer(http.StatusInternalServerError, `{"error": "the till is out of order"}`)
	var webhook struct{ ID json.Number }
	for _, body := range []string{
		fmt.Sprintf(`{"url": %q, "name": "Late", "delay": 3600, "send_incomplete": true}`, works.url+"/late"),
		fmt.Sprintf(`{"url": %q, "name": "Till", "delay": 0, "retry_schedule": ["1h"], "max_in_flight": 1}`, broken.url+"/till"),
		fmt.Sprintf(`{"url": %q, "name": "Orders", "delay": 0}`, works.url+"/orders"),
	} {
		s.read(&webhook, "POST", "/v1/webhooks", body)
	}
	s.webhook = webhook.ID.String()
	recorded, err := filepath.Glob(filepath.Join("..", "..", "testdata", "sessions", "*.ndjson"))
	if err != nil || len(recorded) == 0 {
		t.Fatalf("no recorded sessions: %v", err)
	}
	// The recorded sessions are old, so their deliveries are due at once. This one finishes now.
	s.call("POST", "/v1/events", `{"type": "start", "session_id": "6a1f6a52-9f43-4a7c-8d0e-3f1c5b7f0a11", "content_id": "3ad77bb4-0d7a-4660-a89e-caf32466ef10",
		"content_type": "quiz", "poltio_user_id": 42} {"type": "finish", "session_id": "6a1f6a52-9f43-4a7c-8d0e-3f1c5b7f0a11"}`)
	for _, name := range recorded {
		events, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s.call("POST", "/v1/events", string(events))
	}
	broken.await(1)
	s.delivered, s.session = s.delivery("status=delivered&webhook_id=" + s.webhook)
	s.refused, _ = s.delivery("status=pending&webhook_id=2")
	s.call("POST", "/v1/events", fmt.Sprintf(`{"type": "lead", "session_id": %q, "lead": {"name": "Too late"}}`, s.session))
	return s
}

// delivery waits until GET /v1/deliveries with that query lists a delivery that was attempted, and returns the ids of it and of its session.
func (s site) delivery(query string) (id, session string) {
	s.t.Helper()
	if !await(func() bool {
		var list struct {
			Items []struct {
				ID        string
				SessionID string `json:"session_id"`
				Attempts  int    `json:"attempts_made"`
			}
		}
		s.read(&list, "GET", "/v1/deliveries?"+query, "")
		for _, d := range list.Items {
			if d.Attempts > 0 {
				id, session = d.ID, d.SessionID
			}
		}
		return id != ""
	}) {
		s.t.Fatalf("there is no delivery with %s after %v", query, patience)
	}
	return id, session
}

// TestEveryPage opens every page. Each must pass axe-core and fit the screen. Colours depend only on the scheme and the layout only on the
// width, so two looks are enough. With -browser.shots DIR it also takes screenshots, in all four looks.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	looks := []look{{}, {width: phone, dark: true}}
	if *shotsDir != "" {
		looks = append(looks, look{dark: true}, look{width: phone})
	}
	s := newSite(t)
	for _, l := range looks {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			p := newPage(t, s.server, l)
			for _, route := range new(ui.Pages).Routes() {
				if route.Method != http.MethodGet {
					continue
				}
				where := everyPage[route.Path]
				if where == nil {
					t.Errorf("%s is missing in everyPage", route.Path)
					continue
				}
				for i, path := range where(s) {
					if status := p.open(path); status != http.StatusOK {
						t.Errorf("%s: status %d", path, status)
					}
					p.examine(fmt.Sprintf("%s-%d", pictureName(route.Path), i+1))
				}
			}
		})
	}
}

// pictureName returns a file name for a route, such as webhooks-id-edit for /webhooks/:id/edit.
func pictureName(route string) string {
	if route == "/" {
		return "overview"
	}
	return strings.ReplaceAll(strings.ReplaceAll(route[1:], "/", "-"), ":", "")
}

// examine checks the page with axe-core, and fails the test if the page is wider than the screen. With -browser.shots it takes a screenshot.
func (p *page) examine(name string) {
	p.t.Helper()
	if *shotsDir != "" {
		p.picture(filepath.Join(*shotsDir, name+"-"+p.look.String()+".png"))
	}
	if !p.look.noScript { // axe-core is a script
		axe(p.t, p)
	}
	if wide := eval[int](p, "document.documentElement.scrollWidth") - p.look.pixels(); wide > 0 {
		p.t.Errorf("%s: it is %d pixels wider than the screen", name, wide)
	}
}

// The first page needs one request, and is small.
func TestFirstPage(t *testing.T) {
	t.Parallel()
	p := newPage(t, newSite(t).server, look{})
	p.open("/")
	p.wait(`document.readyState === "complete"`)
	requests, bytes := p.requests()
	if len(requests) != 1 || bytes == 0 || bytes >= 100_000 {
		t.Errorf("it took the requests %q and %d bytes, want one, and less than 100 KB", requests, bytes)
	}
}

func cookies(ctx context.Context, tab *chromedp.Target) (network.GetCookiesResult, error) {
	return cdp.Call(ctx, tab, network.GetCookies, network.GetCookiesParams{})
}

// One signs in with an admin token, and out again. Scripts of the page cannot read the token. It works without JavaScript.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s := startServer(t, withTokens)
	for _, l := range []look{{}, {width: phone, dark: true}, {noScript: true}} {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			p := newPage(t, s, l)
			p.expect("status 401")
			if status := p.open("/webhooks?after=1"); status != http.StatusUnauthorized {
				t.Errorf("status %d without a token", status)
			}
			p.examine("sign-in")
			p.fill(field("Token"), "another-token-that-is-none")
			if status := p.follow(button("Sign in")); status != http.StatusUnauthorized {
				t.Errorf("status %d with a wrong token", status)
			}
			p.waitFor("This is neither an admin token nor a read token.")
			p.fill(field("Token"), adminToken)
			if status := p.follow(button("Sign in")); status != http.StatusOK {
				t.Errorf("status %d with the token", status)
			}
			p.wait(`location.pathname + location.search === "/webhooks?after=1"`)
			for _, c := range do(p, "read cookies", cookies).Cookies {
				if !c.HTTPOnly || c.SameSite != network.CookieSameSiteStrict {
					t.Errorf("scripts or other sites can use the cookie: %+v", c)
				}
			}
			p.follow(button("Sign out"))
			p.waitFor("One of http.admin_tokens")
		})
	}
}

// One signs in with a read token, and finds the pages without what changes anything.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, withTokens, `http.read_tokens = ["reader a-read-token-of-mine"]`)
	for _, l := range []look{{}, {width: phone, dark: true}, {noScript: true}} {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			p := newPage(t, s.server, l)
			p.expect("status 401")
			p.open("/")
			p.fill(field("Token"), "a-read-token-of-mine")
			if status := p.follow(button("Sign in")); status != http.StatusOK {
				t.Errorf("status %d with a read token", status)
			}
			for _, path := range []string{"/", "/webhooks", "/webhooks/" + s.webhook, "/deliveries/" + s.delivered, "/sessions/" + s.session, "/sessions"} {
				if status := p.open(path); status != http.StatusOK {
					t.Errorf("%s: status %d", path, status)
				}
				p.waitFor("Read only")
				p.examine(path)
				if n := eval[int](p, `document.querySelectorAll("form[method=post]:not(.signout)").length`); n != 0 {
					t.Errorf("%s has %d forms", path, n)
				}
			}
			p.expect("status 403")
			if status := p.open("/webhooks/" + s.webhook + "/edit"); status != http.StatusForbidden {
				t.Errorf("status %d for a form", status)
			}
			p.waitFor("use one of http.admin_tokens")
		})
	}
}
