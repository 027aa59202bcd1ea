//go:build !race

package httpapi

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"hookbolt/internal/teststore"
)

// goodCalls is one request for each described route that is taken while webhook 1, session A and its delivery are there. DELIVERY stands for
// the latter's id. Those that take away what others need come last.
var goodCalls = []call{
	{"POST", "/v1/events", finish(sessionA)},
	{"OPTIONS", "/v1/events", ""},
	{"POST", "/v1/webhooks", `{"url":"https://example.com/"}`},
	{"GET", "/v1/webhooks", ""},
	{"GET", "/v1/webhooks/1", ""},
	{"PATCH", "/v1/webhooks/1", `{"delay":7}`},
	{"GET", "/v1/webhooks/1/secret", ""},
	{"GET", "/v1/webhooks/1/public-key", ""},
	{"POST", "/v1/webhooks/1/rotate-secret", ""},
	{"POST", "/v1/webhooks/1/test", ""},
	{"POST", "/v1/webhooks/1/replay", `{"status":"any"}`},
	{"GET", "/v1/webhooks/1/preview?session_id=" + sessionA, ""},
	{"POST", "/v1/preview", `{"webhook_id":1,"session_id":"` + sessionA + `"}`},
	{"GET", "/v1/sessions?email=jane@example.com", ""},
	{"GET", "/v1/sessions/" + sessionA, ""},
	{"POST", "/v1/erase", `{"email":"jane@example.com"}`},
	{"GET", "/v1/deliveries", ""},
	{"GET", "/v1/deliveries/DELIVERY", ""},
	{"POST", "/v1/deliveries/DELIVERY/retry", ""},
	{"POST", "/v1/deliveries/DELIVERY/cancel", ""},
	{"GET", "/hookbolt.js", ""},
	{"GET", "/v1/payload.schema.json", ""},
	{"GET", "/openapi.yaml", ""},
	{"GET", "/healthz", ""},
	{"GET", "/metrics", ""},
	{"GET", "/platform/account/profile", ""},
	{"GET", "/platform/hooks/web", ""},
	{"POST", "/platform/hooks/web", `{"url":"https://example.com/"}`},
	{"GET", "/platform/hooks/web/1", ""},
	{"PUT", "/platform/hooks/web/1", `{"url":null,"is_active":null,"delay":"08"}`},
	{"GET", "/platform/hooks/web/1/logs", ""},
	{"DELETE", "/v1/sessions/" + sessionA, ""},
	{"DELETE", "/v1/visitors/7", ""},
	{"DELETE", "/v1/webhooks/1", ""},
	{"DELETE", "/platform/hooks/web/2", ""},
}

// described returns what the description has of a call's route.
func (c call) described(t *testing.T) tree {
	t.Helper()
	path, _, _ := strings.Cut(c.target, "?")
	segments := strings.Split(path, "/")
	for pattern, item := range at(described, "paths") {
		parts := strings.Split(pattern, "/")
		fits := len(parts) == len(segments)
		for i := range parts {
			fits = fits && (parts[i] == segments[i] || strings.HasPrefix(parts[i], "{"))
		}
		if op := at(item.(tree), strings.ToLower(c.method)); fits && op != nil {
			return op
		}
	}
	t.Fatalf("%s %s is not described", c.method, c.target)
	return nil
}

// TestDescriptionHasTheErrors brings each route into each kind of trouble that routes share: it must answer with the status of that exactly if it is
// described to. Whether the answer then is as described is for the observer of all exchanges.
func TestDescriptionHasTheErrors(t *testing.T) {
	if want := len(everyRoute) - 4 - 6; len(goodCalls) != want { // /readyz, /v1/backup, /v1/drain and /v1/members have tests of their own
		t.Fatalf("%d calls for %d routes", len(goodCalls), want)
	}
	calls := func(f *fixture) []call {
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","signature":{"v1a":true}}`)
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
		f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
		var list listOf[shownDelivery]
		f.wantJSON(&list, 200, "GET", "/v1/deliveries", "")
		filled := make([]call, len(goodCalls))
		for i, c := range goodCalls {
			filled[i] = call{c.method, strings.Replace(c.target, "DELIVERY", list.Items[0].ID, 1), c.body}
		}
		return filled
	}
	none := func(*http.Request) {}
	for _, trouble := range []struct {
		name   string
		status int
		cfg    Config
		spoil  func(r *http.Request)
	}{
		{"nothing", 0, Config{}, none},
		{"no token", 401, Config{AdminTokens: []string{"admin"}}, func(r *http.Request) { r.Header.Del("Authorization") }},
		{"many wrong tokens", 429, Config{AdminTokens: []string{"admin"}}, func(r *http.Request) { r.Header.Set("Authorization", "Bearer wrong") }},
		{"another host", 403, Config{}, func(r *http.Request) { r.Host = "example.com" }},
		{"a slow body", 408, Config{}, func(r *http.Request) { r.Body = io.NopCloser(failing{os.ErrDeadlineExceeded}) }},
		{"a large body", 413, Config{}, func(r *http.Request) { r.ContentLength = DefaultMaxBodyBytes + 1 }},
		{"a packed body", 415, Config{}, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }},
		{"a closed database", 503, Config{}, none},
	} {
		f := newFixture(t, trouble.cfg)
		if trouble.cfg.AdminTokens != nil {
			f.token = trouble.cfg.AdminTokens[0]
		}
		list := calls(f)
		if trouble.status == http.StatusTooManyRequests {
			f.spendGuesses("192.0.2.1") // the address of httptest's requests
		}
		if trouble.status == http.StatusServiceUnavailable {
			teststore.Close(t, f.store)
		}
		for _, c := range list {
			r := f.request(c.method, c.target, c.body)
			trouble.spoil(r)
			rec := f.serve(r)
			isDescribed := at(c.described(t), "responses", strconv.Itoa(trouble.status)) != nil
			if (rec.Code == trouble.status) != isDescribed || !isDescribed && rec.Code >= 400 {
				t.Errorf("%s %s, %s: got %d, described is %d: %t\n%s", c.method, c.target, trouble.name, rec.Code, trouble.status, isDescribed, rec.Body)
			}
		}
	}
	f := newFixture(t, Config{})
	for _, c := range calls(f) {
		sign := map[bool]string{true: "&", false: "?"}[strings.Contains(c.target, "?")]
		rec := f.do(c.method, c.target+sign+"no_such_parameter=1", c.body)
		if (rec.Code == 400) != strings.HasPrefix(c.target, "/v1/") {
			t.Errorf("%s %s with a parameter that there is not: %d", c.method, c.target, rec.Code)
		}
	}
}
