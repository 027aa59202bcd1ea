package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzAPI sends requests of every kind to one server and asserts that none of them is an error of ours (5xx, which a panic becomes too), and
// that every answer is as it is described.
// DELIVERY in a path stands for the id of a delivery that there is.
//
// What a request covers depends on those before it, so minimizing leads nowhere: go test -fuzz FuzzAPI -fuzzminimizetime 10x.
func FuzzAPI(f *testing.F) {
	for _, route := range everyRoute {
		f.Add(route.method, route.target, route.body)
	}
	for _, seed := range [][3]string{
		{"POST", "/v1/events", "[" + start(sessionA) + "," + finish(sessionA) + "]"},
		{"POST", "/v1/webhooks", `{"url":"https://example.com/","send_incomplete":true,"delay":0}`},
		{"PATCH", "/v1/webhooks/1", `{"name":"x","active":true,"paused":false,"retry_schedule":["1s"],"timeout":"1s"}`},
		{"POST", "/v1/webhooks/1/rotate-secret", ""},
		{"POST", "/v1/webhooks/1/rotate-secret", `{"overlap":"1h30m","secret":"` + knownSecret + `"}`},
		{"POST", "/v1/webhooks/1/test", ""},
		{"PATCH", "/v1/webhooks/1", `{"headers":{"X-A":"b"},"basic_auth":{"username":"a","password":"b"},"rate_limit":0.5,"allow_networks":["10.0.0.0/8"]}`},
		{"PATCH", "/v1/webhooks/1", `{"oauth2":{"token_url":"https://a.example/","body":{"a":1},"headers":{"X":"y"}},"basic_auth":null}`},
		{"POST", "/v1/webhooks/1/replay", `{"status":"missing","since":"2024-01-01T00:00:00Z","until":"2030-01-01T00:00:00Z","dry_run":false}`},
		{"POST", "/v1/webhooks/1/replay", `{"status":"any","dry_run":true}`},
		{"GET", "/v1/webhooks/1/preview?session_id=" + sessionA + "&as_of=2024-01-01T00:00:00Z", ""},
		{"GET", "/v1/webhooks?limit=1&cursor=1&content_id=" + contentA, ""},
		{"GET", "/v1/deliveries?webhook_id=1&status=pending&since=2024-01-01T00:00:00Z&until=2030-01-01T00:00:00%2B01:00&limit=3", ""},
		{"GET", "/v1/deliveries?session_id=" + sessionA + "&cursor=AAAAAAAAAAA", ""},
		{"GET", "/v1/deliveries?status=scheduled&cursor=AAAAAAAAAAAAAAAAAAAAAA", ""},
		{"GET", "/v1/deliveries/DELIVERY", ""},
		{"POST", "/v1/deliveries/DELIVERY/retry", ""},
		{"POST", "/v1/deliveries/DELIVERY/cancel", ""},
		{"GET", "/v1/sessions/" + sessionA, ""},
		{"OPTIONS", "*", ""},
		{"CONNECT", "example.com:443", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	sessions, err := filepath.Glob("../testdata/sessions/*.ndjson")
	if err != nil || len(sessions) == 0 {
		f.Fatal("no sessions to start from", err)
	}
	for _, path := range sessions {
		body, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("POST", "/v1/events", string(body))
	}

	fix := newFixtureOn(f, Config{MaxBodyBytes: 64 << 10}, func(r *http.Request) (*http.Response, error) {
		io.Copy(io.Discard, r.Body)
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- fix.engine.Run(ctx) }()
	f.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	for fix.engine.Ready(ctx) != nil {
	}
	api := fix.h.(observed).h
	fix.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","delay":0,"send_incomplete":true}`)
	var d shownDelivery
	fix.wantJSON(&d, 202, "POST", "/v1/webhooks/1/test", "")

	f.Fuzz(func(t *testing.T, method, target, body string) {
		// What net/http makes of a request line, without its checks: more gets through here than could over a wire.
		u, err := url.ParseRequestURI(strings.ReplaceAll(target, "DELIVERY", d.ID))
		if err != nil {
			u = &url.URL{Path: target}
		}
		r := &http.Request{Method: method, URL: u, Host: "localhost", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), RequestURI: target}
		rec := httptest.NewRecorder()
		observed{t: t, h: api, answersOnly: true}.ServeHTTP(rec, r)
		if rec.Code >= 500 {
			t.Fatalf("%s %q: %d %s\n%s", method, target, rec.Code, rec.Body, fix.log.String())
		}
		if rec.Code >= 400 {
			wantProblem(t, rec, rec.Code)
		}
	})
}

// FuzzGate: without tokens no Host comes in that stands in a URL of another machine, and no page of another origin; with tokens only
// the right one does.
func FuzzGate(f *testing.F) {
	const token = "an-admin-token-of-mine"
	for _, seed := range [][4]string{
		{"localhost:8080", "Bearer TOKEN", "", ""}, {"127.0.0.1", "bearer  TOKEN", "http://127.0.0.1", "same-origin"}, {"[::1]:80", "Basic TOKEN", "null", "none"},
		{"LOCALHOST", "BearerTOKEN", "http://evil.example", "cross-site"}, {"127.0.0.1.evil.example", "Bearer", "", "same-site"}, {"[::1", "TOKEN", "", ""},
		{"[::ffff:127.0.0.1]:1", "Bearer TOKENx", "", ""}, {"localhost:80:80", "Bearer\tTOKEN", "", ""}, {"[localhost]", "Bearer TOKEN TOKEN", "", ""},
		{"127.1", "Bearer TOKEN ", "", ""}, {"[::1%lo]:80", "Bearer x, Bearer TOKEN", "", ""}, {"a@localhost", "", "", ""}, {"localhost/x", "", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	open, closed := newGate(Config{}), newGate(Config{AdminTokens: []string{token}})
	events := &route{method: "POST", path: "/v1/events", allowedRoles: ingestToken}
	f.Fuzz(func(t *testing.T, host, authorization, origin, site string) {
		authorization = strings.ReplaceAll(authorization, "TOKEN", token)
		r := httptest.NewRequest("POST", "/v1/events", nil)
		r.Host = host
		for name, value := range map[string]string{"Authorization": authorization, "Origin": origin, "Sec-Fetch-Site": site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if open.check(r, events, noToken) == nil {
			u, err := url.Parse("http://" + host + "/")
			if err != nil || u.Host != host {
				return // no browser has such a page
			}
			addr, err := netip.ParseAddr(u.Hostname())
			if !strings.EqualFold(u.Hostname(), "localhost") && (err != nil || !addr.IsLoopback()) {
				t.Fatalf("Host %q comes in, which is %q", host, u.Hostname())
			}
			if site != "" && site != "same-origin" && site != "none" {
				t.Fatalf("a page comes in whose request is %q", site)
			}
			if o, err := url.Parse(origin); site == "" && origin != "" && (err != nil || o.Host != host) {
				t.Fatalf("a page from %q comes in on %q", origin, host)
			}
		}
		scheme, value, _ := strings.Cut(authorization, " ")
		right := strings.EqualFold(scheme, "bearer") && strings.TrimLeft(value, " ") == token
		if in := closed.check(r, events, closed.holder(bearerToken(r))) == nil; in != right {
			t.Fatalf("%q comes in: %t", authorization, in)
		}
	})
}
