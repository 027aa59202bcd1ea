package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/julienschmidt/httprouter"
)

// TestAuditOfEveryRoute walks all routes: each that changes something or reveals secrets leaves a line, whatever its handler does, and no
// other one does. Previews change nothing.
func TestAuditOfEveryRoute(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, TokenNames: map[string]string{"admin": "alice"}})
	api := f.h.(observed).h.(*API)
	changing := 0
	for _, rt := range api.routes() {
		if rt.path == "/sign-in" || rt.path == "/sign-out" { // they say themselves who it is: see TestAuditOfSignIns
			continue
		}
		rt.handle = func(*http.Request, httprouter.Params) (any, error) { return nil, nil }
		rt.status = 200
		before := len(f.log.audited())
		r := f.request(rt.method, "/", "")
		r.Header.Set("Authorization", "Bearer admin")
		api.serve(rt)(httptest.NewRecorder(), r, httprouter.Params{{Key: "id", Value: "7"}, {Key: "poltio_user_id", Value: "4711"}})
		lines := f.log.audited()[before:]
		preview := rt.path == "/v1/preview" || rt.method == "POST" && (rt.path == "/new-webhook" || rt.path == "/webhooks/:id/edit")
		want := rt.method != "GET" && rt.path != "/v1/events" && !preview || rt.path == "/v1/backup" || rt.path == "/v1/webhooks/:id/secret"
		if want {
			changing++
		}
		if len(lines) == 1 != want || want && !strings.HasPrefix(lines[0], `by=alice operation="`+rt.method+" "+rt.path+`" `) {
			t.Errorf("%s %s leaves %q", rt.method, rt.path, lines)
		}
	}
	if changing < 20 {
		t.Errorf("only %d routes change something", changing)
	}
}

// TestAuditOfOutcomes: what was refused has changed nothing. What has failed, or was answered to nobody, may have.
func TestAuditOfOutcomes(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}})
	api := f.h.(observed).h.(*API)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"done", t.Context(), nil, 1},
		{"refused", t.Context(), &problem{Status: 409}, 0},
		{"no such path", t.Context(), errNoSuchPath, 0},
		{"failed", t.Context(), errors.New("an error"), 1},
		{"the client has gone", gone, context.Canceled, 1},
	} {
		before := len(f.log.audited())
		rt := route{method: "POST", path: "/v1/x", status: 200, allowedRoles: adminToken,
			handle: func(*http.Request, httprouter.Params) (any, error) { return nil, c.err }}
		r := f.request("POST", "/v1/x", "").WithContext(c.ctx)
		r.Header.Set("Authorization", "Bearer admin")
		api.serve(rt)(httptest.NewRecorder(), r, nil)
		if got := len(f.log.audited()) - before; got != c.want {
			t.Errorf("%s: %d lines", c.name, got)
		}
	}
}

// TestAuditLines makes changes in each way that there is, and reads what is told of them: never a value, nor an id of a session or visitor.
func TestAuditLines(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin", "second"}, TokenNames: map[string]string{"admin": "alice"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}) // the address of httptest's requests
	secret := "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="
	f.token = "admin"
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/hidden-path","secret":"`+secret+`","headers":{"x-key":"hidden-key"},"delay":10}`)
	f.want(200, "PATCH", "/v1/webhooks/1", `{"url":"https://example.com/hidden-too","delay":10,"active":true}`)
	f.want(200, "PATCH", "/v1/webhooks/1", `{"delay":10}`)
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	var list listOf[shownDelivery]
	f.wantJSON(&list, 200, "GET", "/v1/deliveries", "")
	f.want(200, "POST", "/v1/deliveries/"+list.Items[0].ID+"/cancel", "")
	f.want(200, "DELETE", "/v1/sessions/"+sessionA, "")
	f.want(200, "DELETE", "/v1/visitors/4711", "")
	f.token = "second"
	f.want(201, "POST", "/platform/hooks/web", `{"url":"https://example.com/hidden","account_wide":true}`)
	f.want(200, "PUT", "/platform/hooks/web/2", `{"name":"hidden-name"}`)
	f.want(200, "DELETE", "/platform/hooks/web/2", "")
	f.want(404, "DELETE", "/v1/webhooks/99", "")
	f.token = ""
	cookie := f.signIn("admin")
	created := f.postForm("/webhooks", url.Values{"url": {"https://example.com/hidden"}, "delay": {"10"}, "active": {"on"}, "secret": {secret}}.Encode(),
		"Cookie", cookie, "Content-Type", "application/x-www-form-urlencoded", "X-Forwarded-For", "198.51.100.9, 203.0.113.7")
	if created.Code != 303 {
		t.Fatal(created.Code, created.Body)
	}
	f.postForm("/webhooks/3/pause", "", "Cookie", cookie)
	f.postForm("/sign-out", "", "Cookie", cookie)
	f.postForm("/sign-out", "", "Cookie", cookie) // nobody is signed in any more

	want := []string{
		`by=alice operation="POST /v1/webhooks" webhook=1 settings="[url secret headers]" status=201`,
		`by=alice operation="PATCH /v1/webhooks/:id" webhook=1 settings=[url] status=200`,
		`by=alice operation="PATCH /v1/webhooks/:id" webhook=1 status=200`,
		`by=alice operation="POST /v1/deliveries/:id/cancel" delivery=` + list.Items[0].ID + ` status=200`,
		`by=alice operation="DELETE /v1/sessions/:id" status=200`,
		`by=alice operation="DELETE /v1/visitors/:poltio_user_id" status=200`,
		`by="admin 2" operation="POST /platform/hooks/web" webhook=2 settings=[url] status=201`,
		`by="admin 2" operation="PUT /platform/hooks/web/:id" webhook=2 settings=[name] status=200`,
		`by="admin 2" operation="DELETE /platform/hooks/web/:id" webhook=2 status=200`,
		`by=alice operation="POST /sign-in" status=303`,
		`by=alice operation="POST /webhooks" webhook=3 settings=`,
		`by=alice operation="POST /webhooks/:id/pause" webhook=3 settings=[paused] status=303`,
		`by=alice operation="POST /sign-out" status=303`,
	}
	got := f.log.audited()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("line %d: got\n%s\nwant\n%s", i, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if !strings.HasSuffix(got[0], " address=192.0.2.1") || !strings.HasSuffix(got[10], " address=203.0.113.7") {
		t.Errorf("addresses: %s; %s", got[0], got[10])
	}
	for _, hidden := range []string{"hidden", secret, sessionA, "4711", `"second"`, cookie[len(signInCookie)+1:]} {
		if strings.Contains(f.log.String(), hidden) {
			t.Errorf("the log has %q", hidden)
		}
	}
}

// TestAuditWithoutTokens: where no token is asked for, it is not known who makes a change, but it is told all the same.
func TestAuditWithoutTokens(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	if got := f.log.audited(); !slices.Equal(got, []string{`by="no token" operation="POST /v1/webhooks" webhook=1 settings=[url] status=201 address=192.0.2.1`}) {
		t.Errorf("%q", got)
	}
}

// TestAuditOfSignIns: who has signed in or out is told. Who has not leaves no line, whatever comes of the request: strangers must not fill the
// log, nor appear in it as somebody who needed no token.
func TestAuditOfSignIns(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, TokenNames: map[string]string{"admin": "alice"}})
	post := func(path, token string, ctx context.Context) {
		r := f.request("POST", path, url.Values{"token": {token}}.Encode()).WithContext(ctx)
		f.h.(observed).h.ServeHTTP(httptest.NewRecorder(), r)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range clientGuesses {
		post("/sign-in", "wrong", t.Context())
	}
	post("/sign-in", "wrong", gone) // it does not wait for its answer
	post("/sign-in", "admin", gone)
	post("/sign-out", "", t.Context())
	if !apiOf(f).bodies.signIn.take(netip.Prefix{}, signInBudget, 0) {
		t.Fatal("the budget is used already")
	}
	post("/sign-in", "wrong", t.Context()) // 503
	if got := f.log.audited(); len(got) != 0 {
		t.Errorf("strangers leave %q", got)
	}
}
