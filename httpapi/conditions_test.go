package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"hookbolt/engine"
)

// doIf makes a call with an If-Match of these lines.
func (f *fixture) doIf(method, target, body string, lines ...string) *httptest.ResponseRecorder {
	r := f.request(method, target, body)
	r.Header["If-Match"] = lines
	return f.serve(r)
}

// etag returns the webhook's tag. It must be a strong one.
func (f *fixture) etag(target string) string {
	f.t.Helper()
	tag := f.do("GET", target, "").Header().Get("ETag")
	if len(tag) < 4 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		f.t.Fatalf("the ETag of %s is %s", target, tag)
	}
	return tag
}

func TestIfMatchParsing(t *testing.T) {
	for _, c := range []struct {
		lines      []string
		tags, weak string
	}{
		{nil, "<nil>", "[]"},
		{[]string{"*"}, "<nil>", "[]"},
		{[]string{` * `}, "<nil>", "[]"},
		{[]string{`"a"`}, "[a]", "[]"},
		{[]string{`""`}, "[]", "[]"},
		{[]string{`"a","b"`, `W/"c" , "d,e"`}, "[a b d,e]", "[c]"},
		{[]string{`, "a" ,, `}, "[a]", "[]"},
		{[]string{`"ä\"`}, `[ä\]`, "[]"},
		{[]string{`W/"a"`}, "[]", "[a]"},
		{[]string{``}, "error", ""},
		{[]string{`,`}, "error", ""},
		{[]string{`a`}, "error", ""},
		{[]string{`"a`}, "error", ""},
		{[]string{`"a"b`}, "error", ""},
		{[]string{`"a" "b"`}, "error", ""},
		{[]string{`"a b"`}, "error", ""},
		{[]string{`w/"a"`}, "error", ""},
		{[]string{`W/ "a"`}, "error", ""},
		{[]string{`W/a`}, "error", ""},
		{[]string{`*`, `"a"`}, "error", ""},
		{[]string{`'"a"'`}, "error", ""},
	} {
		got, err := ifMatch(&http.Request{Header: http.Header{"If-Match": c.lines}})
		tags := fmt.Sprint(got.tags)
		if got.tags == nil {
			tags = "<nil>"
		}
		if err != nil {
			tags = "error"
		}
		if tags != c.tags || err == nil && fmt.Sprint(got.weak) != c.weak {
			t.Errorf("%q: tags %s, weak %v, %v", c.lines, tags, got.weak, err)
		}
	}
}

// The tag is another one after each change, and stays while only what is measured changes.
func TestETag(t *testing.T) {
	f := newFixture(t, Config{})
	made := f.do("POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	tag := made.Header().Get("ETag")
	if got := f.etag("/v1/webhooks/1"); got != tag || made.Header().Get("Location") != "/v1/webhooks/1" {
		t.Errorf("created with %s at %s, it has %s", tag, made.Header().Get("Location"), got)
	}
	f.want(202, "POST", "/v1/webhooks/1/test", "")
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	f.want(200, "PATCH", "/v1/webhooks/1", `{"delay":10}`) // changes nothing
	if head := f.do("HEAD", "/v1/webhooks/1", "").Header().Get("ETag"); head != tag || f.etag("/v1/webhooks/1") != tag {
		t.Errorf("it has %s, for HEAD %s; it had %s", f.etag("/v1/webhooks/1"), head, tag)
	}
	seen := map[string]bool{tag: true}
	for _, c := range []call{{"PATCH", "/v1/webhooks/1", `{"delay":7}`}, {"PATCH", "/v1/webhooks/1", `{"delay":10}`}, {"POST", "/v1/webhooks/1/rotate-secret", ""}} {
		answer := f.do(c.method, c.target, c.body).Header().Get("ETag")
		if got := f.etag("/v1/webhooks/1"); got != answer || seen[got] {
			t.Errorf("after %s the answer has %s, the webhook %s", c.body, answer, got)
		}
		seen[answer] = true
	}
	r := f.request("GET", "/v1/webhooks/1", "")
	r.Header.Set("If-None-Match", f.etag("/v1/webhooks/1"))
	if rec := f.serve(r); rec.Code != 200 { // the health may have changed
		t.Errorf("If-None-Match is answered with %d", rec.Code)
	}
}

func TestIfMatch(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	stale := f.etag("/v1/webhooks/1")
	f.want(200, "PATCH", "/v1/webhooks/1", `{"delay":5}`)
	calls := []call{{"PATCH", "/v1/webhooks/1", `{"delay":6}`}, {"POST", "/v1/webhooks/1/rotate-secret", `{}`}, {"DELETE", "/v1/webhooks/1", ""}}
	tag := f.etag("/v1/webhooks/1")
	for _, c := range calls {
		for _, refused := range []struct {
			line, detail string
			status       int
		}{
			{stale, "was changed since", 412},
			{`"other", ` + stale, "was changed since", 412},
			{`W/` + stale, "was changed since", 412},
			{`W/` + tag, "a proxy that compresses responses has put W/ before it", 412},
			{strings.TrimSuffix(tag, `"`) + `-gzip"`, "a proxy that compresses", 412},
			{strings.Trim(tag, `"`), "with their quotes", 400},
		} {
			p := wantProblem(t, f.doIf(c.method, c.target, c.body, refused.line), refused.status)
			if !strings.Contains(p.Detail, refused.detail) {
				t.Errorf("%s %s with If-Match %s: %s", c.method, c.target, refused.line, p.Detail)
			}
		}
	}
	if got := f.etag("/v1/webhooks/1"); got != tag {
		t.Errorf("a refused request has changed the webhook from %s to %s", tag, got)
	}
	for _, c := range calls {
		if rec := f.doIf(c.method, c.target, c.body, `"other"`, f.etag("/v1/webhooks/1")); rec.Code >= 300 {
			t.Errorf("%s with the present tag: %d %s", c.method, rec.Code, rec.Body)
		}
	}
	for _, c := range calls {
		if rec := f.doIf(c.method, c.target, c.body, "*"); rec.Code != 404 {
			t.Errorf("%s of a webhook that is not there: %d", c.method, rec.Code)
		}
	}
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://a.example/"}`)
	for _, c := range calls {
		if rec := f.doIf(c.method, strings.Replace(c.target, "/1", "/2", 1), c.body, "*"); rec.Code >= 300 {
			t.Errorf("%s with *: %d %s", c.method, rec.Code, rec.Body)
		}
	}
}

// Of many who change what they have read, each without loss, none overwrites another one.
func TestIfMatchRace(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://a.example/","delay":0}`)
	var wg sync.WaitGroup
	const callers, each = 4, 5
	for range callers {
		wg.Go(func() {
			for done := 0; done < each; {
				rec := f.do("GET", "/v1/webhooks/1", "")
				var w shownWebhook
				if err := json.Unmarshal(rec.Body.Bytes(), &w); err != nil {
					t.Error(err)
					return
				}
				if f.doIf("PATCH", "/v1/webhooks/1", fmt.Sprintf(`{"delay":%d}`, w.Delay+1), rec.Header().Get("ETag")).Code == 200 {
					done++
				}
			}
		})
	}
	wg.Wait()
	if w, err := f.engine.Webhook(1); err != nil || w.Delay != callers*each {
		t.Errorf("the delay is %d after %d additions, %v", w.Delay, callers*each, err)
	}
	// A deletion is no exception: the change that was made meanwhile wins.
	stale := strings.Trim(f.etag("/v1/webhooks/1"), `"`)
	f.want(200, "PATCH", "/v1/webhooks/1", `{"delay":1}`)
	if err := f.engine.DeleteWebhookIfTag(t.Context(), 1, []string{stale}); !strings.Contains(fmt.Sprint(err), engine.ErrPrecondition.Error()) {
		t.Errorf("deleted by a stale tag: %v", err)
	}
}
