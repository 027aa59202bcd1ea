package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

type call struct{ method, target, body string }

// anybody tells that no token is asked for.
func (c call) anybody() bool {
	open := []string{"/hookbolt.js", "/v1/payload.schema.json", "/openapi.yaml", "/healthz", "/readyz"}
	return c.method == "OPTIONS" && c.target == "/v1/events" || c.method == "GET" && slices.Contains(open, c.target)
}

// everyRoute is one request for each route but the pages, and for what is no route.
var everyRoute = []call{
	{"POST", "/v1/events", "nonsense"},
	{"OPTIONS", "/v1/events", ""},
	{"POST", "/v1/webhooks", "nonsense"},
	{"GET", "/v1/webhooks", ""},
	{"GET", "/v1/webhooks/7", ""},
	{"PATCH", "/v1/webhooks/7", "nonsense"},
	{"DELETE", "/v1/webhooks/7", ""},
	{"GET", "/v1/webhooks/7/secret", ""},
	{"GET", "/v1/webhooks/7/public-key", ""},
	{"POST", "/v1/webhooks/7/rotate-secret", "nonsense"},
	{"POST", "/v1/webhooks/7/test", ""},
	{"POST", "/v1/webhooks/7/replay", "nonsense"},
	{"GET", "/v1/webhooks/7/preview", ""},
	{"POST", "/v1/preview", "nonsense"},
	{"GET", "/v1/sessions", ""},
	{"GET", "/v1/sessions/" + nobodys, ""},
	{"DELETE", "/v1/sessions/" + nobodys, ""},
	{"DELETE", "/v1/visitors/-7", ""},
	{"POST", "/v1/erase", "nonsense"},
	{"GET", "/v1/deliveries", ""},
	{"GET", "/v1/deliveries/" + nobodys, ""},
	{"POST", "/v1/deliveries/" + nobodys + "/retry", ""},
	{"POST", "/v1/deliveries/" + nobodys + "/cancel", ""},
	{"GET", "/v1/members", ""},
	{"GET", "/v1/backup", ""},
	{"GET", "/v1/drain", ""},
	{"POST", "/v1/drain", ""},
	{"DELETE", "/v1/drain", ""},
	{"GET", "/hookbolt.js", ""},
	{"GET", "/v1/payload.schema.json", ""},
	{"GET", "/openapi.yaml", ""},
	{"GET", "/healthz", ""},
	{"GET", "/readyz", ""},
	{"GET", "/metrics", ""},
	{"GET", "/platform/account/profile", ""},
	{"GET", "/platform/hooks/web", ""},
	{"POST", "/platform/hooks/web", "nonsense"},
	{"GET", "/platform/hooks/web/7", ""},
	{"PUT", "/platform/hooks/web/7", "nonsense"},
	{"DELETE", "/platform/hooks/web/7", ""},
	{"GET", "/platform/hooks/web/7/logs", ""},
	{"GET", "/nothing/here", ""},
	{"PUT", "/v1/events", ""},
	{"GET", "/v1/events", ""},
	{"POST", "/metrics", ""},
}

// TestTokens sends every kind of token to every route. Requests are such that one that comes in is answered neither with 401 nor 403.
func TestTokens(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin-old", "admin-new"}, ReadTokens: []string{"read"}, IngestTokens: []string{"ingest", "both"}, MetricsTokens: []string{"metrics", "both"}})
	if len(everyRoute)-4 != len(new(API).routes())-len(new(API).pageRoutes()) {
		t.Errorf("everyRoute does not have every route")
	}
	opens := func(authorization string, route call) int { // 0: comes in
		method, target, probe := route.method, route.target, route.anybody()
		ingest, metrics := method == "POST" && target == "/v1/events", method == "GET" && target == "/metrics"
		switch authorization {
		case "Bearer admin-old", "Bearer admin-new", "bearer admin-old", "BEARER  admin-new":
			return 0
		case "Bearer read":
			secret := strings.HasSuffix(target, "/secret") || target == "/v1/backup"
			if method == "GET" && !secret && target != "/v1/events" && target != "/nothing/here" || probe {
				return 0
			}
			return 403
		case "Bearer ingest":
			if ingest || probe {
				return 0
			}
			return 403
		case "Bearer metrics":
			if metrics || probe {
				return 0
			}
			return 403
		case "Bearer both":
			if ingest || metrics || probe {
				return 0
			}
			return 403
		}
		if probe {
			return 0
		}
		return 401
	}
	sent := 0
	for _, route := range everyRoute {
		methods := []string{route.method}
		if route.method == "GET" {
			methods = append(methods, "HEAD")
		}
		for _, method := range methods {
			for _, authorization := range []string{"", "Bearer admin-old", "Bearer admin-new", "bearer admin-old", "BEARER  admin-new", "Bearer read", "Bearer ingest", "Bearer metrics",
				"Bearer both", "Bearer wrong", "Bearer admin-ol", "Bearer admin-old2", "Bearer Admin-Old", "Bearer ", "Bearer", "admin-old", "Basic admin-old",
				"Bearer admin-old,admin-new", "Bearer\tadmin-old"} {
				r := f.request(method, route.target, route.body)
				r.Host = "hooks.example.com" // with tokens, any Host will do
				sent++
				r.RemoteAddr = fmt.Sprintf("203.0.%d.%d:80", sent/256, sent%256) // one wrong token from each
				r.Header.Set("Sec-Fetch-Site", "cross-site")
				if authorization != "" {
					r.Header.Set("Authorization", authorization)
				}
				rec := f.serve(r)
				want := opens(authorization, route)
				switch {
				case want == 0 && (rec.Code == 401 || rec.Code == 403):
					t.Errorf("%s %s with %q is kept out: %d", method, route.target, authorization, rec.Code)
				case want != 0:
					wantProblem(t, rec, want)
					if challenge := rec.Header().Get("WWW-Authenticate"); (want == 401) != strings.HasPrefix(challenge, "Bearer") {
						t.Errorf("%d with WWW-Authenticate %q", want, challenge)
					}
				}
			}
		}
	}
	if got := f.log.withoutAudit(); got != "" {
		t.Errorf("logged: %s", got)
	}
}

// TestRefusedChangesNothing shows that a request is refused before anything of it is done.
func TestRefusedChangesNothing(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, IngestTokens: []string{"ingest"}})
	wantProblem(t, f.do("POST", "/v1/events", start(sessionA)), 401)
	wantProblem(t, f.do("POST", "/v1/webhooks", `{"url":"https://example.com/"}`), 401)
	f.token = "ingest"
	wantProblem(t, f.do("POST", "/v1/webhooks", `{"url":"https://example.com/"}`), 403)
	body := &endless{}
	r := f.request("PATCH", "/v1/webhooks/1", "")
	r.Body, r.ContentLength = nopReader{body}, -1
	wantProblem(t, f.serve(r), 403)
	if body.read != 0 {
		t.Errorf("%d bytes of a refused body were read", body.read)
	}
	f.token = "admin"
	nothingStored(t, f)
	if got := f.want(200, "GET", "/v1/webhooks", ""); !strings.HasPrefix(got, `{"items":[],`) {
		t.Error(got)
	}
	f.token = "ingest"
	f.want(202, "POST", "/v1/events", start(sessionA))
	f.token = "admin"
	f.want(200, "GET", "/v1/sessions/"+sessionA, "")
}

type nopReader struct{ *endless }

func (nopReader) Close() error { return nil }

// TestEmptyToken shows that a token that was configured as "" opens nothing, and does not count as none either.
func TestEmptyToken(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{""}})
	for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer  "} {
		r := f.request("GET", "/v1/webhooks", "")
		r.Header.Set("Authorization", authorization)
		wantProblem(t, f.serve(r), 401)
	}
}

// TestHost shows that without admin tokens only requests to loopback names are answered, on every route.
func TestHost(t *testing.T) {
	for _, cfg := range []Config{{}, {IngestTokens: []string{"ingest"}, MetricsTokens: []string{"metrics"}}} {
		f := newFixture(t, cfg)
		for _, route := range everyRoute {
			for host, in := range map[string]bool{
				"localhost": true, "localhost:8080": true, "LocalHost:1": true, "127.0.0.1": true, "127.0.0.1:8080": true, "127.9.9.9": true, "[::1]": true,
				"[::1]:8080": true, "[::ffff:127.0.0.1]:8080": true,
				"": false, "example.com": false, "evil.localhost": false, "localhost.evil.com": false, "127.0.0.1.nip.io": false, "localhost.": false,
				"0.0.0.0": false, "10.0.0.1:8080": false, "[::]": false, "[fe80::1]": false, "2130706433": false, "127.1": false, "0x7f.0.0.1": false,
				"localhost@evil.com": false, "evil.com:127.0.0.1": false, "[localhost": false, "localhost:80:80": false,
			} {
				r := f.request(route.method, route.target, route.body)
				r.Host = host
				rec := f.serve(r)
				if in && rec.Code == http.StatusForbidden {
					t.Errorf("%s %s on Host %q is kept out", route.method, route.target, host)
				}
				if !in {
					if p := wantProblem(t, rec, http.StatusForbidden); !strings.Contains(p.Detail, "DNS rebinding") || !strings.Contains(p.Detail, "http.admin_tokens") {
						t.Errorf("detail %q", p.Detail)
					}
				}
			}
		}
	}
}

// TestCrossOrigin shows that without admin tokens the pages of other sites can change nothing.
func TestCrossOrigin(t *testing.T) {
	f := newFixture(t, Config{})
	for _, c := range []struct {
		name, method string
		header       map[string]string
		in           bool
	}{
		{"curl", "POST", nil, true},
		{"own page", "POST", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8080"}, true},
		{"typed by hand", "POST", map[string]string{"Sec-Fetch-Site": "none"}, true},
		{"other site", "POST", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.com"}, false},
		{"other port", "POST", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}, false},
		{"old browser", "POST", map[string]string{"Origin": "https://evil.com"}, false},
		{"old browser, sandboxed", "POST", map[string]string{"Origin": "null"}, false},
		{"old browser, own page", "POST", map[string]string{"Origin": "http://localhost:8080"}, true},
		{"curl", "GET", nil, true},
		{"own page", "GET", map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		{"typed by hand", "GET", map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, true},
		{"other site's image", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, false},
		{"other site's link to the API", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, false},
		{"other port's fetch", "GET", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Origin": "http://localhost:3000"}, false},
		{"old browser's fetch", "GET", map[string]string{"Origin": "https://evil.com"}, false},
		{"old browser's fetch, sandboxed", "GET", map[string]string{"Origin": "null"}, false},
		{"other site's PATCH", "PATCH", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		{"other site's DELETE", "DELETE", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
	} {
		for _, route := range everyRoute {
			if route.method != c.method {
				continue
			}
			r := f.request(route.method, route.target, route.body)
			for name, value := range c.header {
				r.Header.Set(name, value)
			}
			rec := f.serve(r)
			in := c.in || c.method == "GET" && route.anybody() // which costs little, and /hookbolt.js is for pages of other origins
			if in && rec.Code == http.StatusForbidden {
				t.Errorf("%s: %s %s is kept out", c.name, route.method, route.target)
			}
			if !in {
				if p := wantProblem(t, rec, http.StatusForbidden); !strings.Contains(p.Detail, "another origin") {
					t.Errorf("detail %q", p.Detail)
				}
			}
		}
	}
	// No answer may let another origin read it.
	r := f.request("GET", "/v1/webhooks", "")
	r.Header.Set("Origin", "https://evil.com")
	if rec := f.serve(r); rec.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("Access-Control-Allow-Origin is set")
	}
}

// TestTokenNames: a caller is named by the name of its token, or by the token's kind and place.
func TestTokenNames(t *testing.T) {
	g := newGate(Config{AdminTokens: []string{"a", "b", "both"}, IngestTokens: []string{"c", "both"}, MetricsTokens: []string{"d"}, TokenNames: map[string]string{"b": "bob", "d": "dora"}})
	for token, want := range map[string]string{"a": "admin 1", "b": "bob", "both": "admin 3", "c": "ingest 1", "d": "dora", "e": "", "": "", "bob": ""} {
		if got := g.holder(token).token; got != want {
			t.Errorf("%q is %q, want %q", token, got, want)
		}
	}
}
