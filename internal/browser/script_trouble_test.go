package browser

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// status makes a call with the admin token and returns its status.
func (w *widget) status(path string) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", w.server.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestPageRetries checks that a session arrives in order and without repeats once hookbolt works again, after a time in which it could not be
// reached, refused events, or its responses were lost.
func TestPageRetries(t *testing.T) {
	t.Parallel()
	for _, fault := range []fault{down, busy, unheard, throttle} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			switch fault {
			case busy:
				w.expect("status 503")
			case throttle:
				w.expect("ERR_FAILED") // not readable
				w.expect("CorsIssue")
				w.expect("blocked by CORS policy")
			default:
				w.expect("ERR_EMPTY_RESPONSE")
			}
			w.gateway.set(fault)
			id := eval[string](w.page, `(window.s = begin(), s.start(), window.stored = s.flush(), s.session_id)`)
			if fault == down {
				if !await(func() bool {
					return w.gateway.count("OPTIONS", "/v1/events")+w.gateway.count("POST", "/v1/events") >= 2
				}) {
					t.Fatal("it is not tried again")
				}
			} else {
				w.gateway.awaitPosts(2)
			}
			eval[bool](w.page, `(s.vote(1, 11), s.undo(1, 11), s.vote(1, 12), s.finish(), true)`)
			w.gateway.set(works)
			if !eval[bool](w.page, `stored`) || !eval[bool](w.page, `s.flush()`) {
				t.Error("something is not stored")
			}
			if got := w.webhook(); len(got.Answers) != 1 || len(got.Answers[0].Answers) != 1 || got.Answers[0].Answers[0].ID != 12 {
				t.Errorf("the webhook has %s", compact(got))
			}
			session := w.session(id)
			if types := session.types(); types != "start, vote 1/11, undo 1/11, vote 1/12, finish" {
				t.Errorf("the session has %s", types)
			}
		})
	}
}

// TestTriesAtOnce shows what a page does not wait for its timers for, which may be half a minute away.
func TestTriesAtOnce(t *testing.T) {
	t.Parallel()
	for _, event := range []string{"online", "visibilitychange"} {
		t.Run(event, func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			w.expect("status 503")
			w.gateway.set(busy)
			eval[bool](w.page, `(window.setTimeout = (_, ms) => window.waits = ms, window.s = begin(), s.start(), window.stored = s.flush(), true)`)
			w.wait(`waits > 0`)
			w.gateway.set(works)
			if !eval[bool](w.page, `(dispatchEvent(new Event("`+event+`")), stored)`) {
				t.Error("something is not stored")
			}
		})
	}
}

// TestBadEventAmongGood checks that a bad event is reported on the console, with hookbolt's reason, and that the other events arrive.
func TestBadEventAmongGood(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("must be an integer, or its decimal digits as a string (got")
	id := eval[string](w.page, `(window.s = begin(), s.start(), s.vote(1, 11), s.vote(1, "twelve"), s.vote(1, 13), s.finish(), s.session_id)`)
	if eval[bool](w.page, `s.flush()`) {
		t.Error("everything is said to be stored")
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/11, vote 1/13, finish" {
		t.Errorf("the session has %s", types)
	}
	posts := w.gateway.count("POST", "/v1/events")
	if !eval[bool](w.page, `(s.vote(2, 21), s.vote(2, 22), s.flush())`) {
		t.Error("what was refused before is held against good events")
	}
	if again := w.gateway.count("POST", "/v1/events"); posts != 1 || again != posts+1 {
		t.Errorf("%d requests for five events and %d for two more, want one each", posts, again-posts)
	}
	if left := eval[int](w.page, `localStorage.length`); left != 0 {
		t.Errorf("%d entries are left in the storage", left)
	}
}

// TestTooLarge checks that an event that is too large for hookbolt is dropped, and the other events arrive.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	w := newWidget(t, `http.max_body = "64KiB"`)
	w.expect("status 413")
	w.expect("http.max_body")
	// Without the gateway: hookbolt responds before it has read the whole body, which Go's reverse proxy sometimes reports as a broken connection.
	w.allow(w.server.url)
	id := eval[string](w.page, `(window.s = begin({ url: "`+w.server.url+`/" }), s.start(), s.vote(1, 11, { question: "x".repeat(60000) }), s.vote(1, 12, { question: "x".repeat(70000) }), s.finish(), s.session_id)`)
	if eval[bool](w.page, `s.flush()`) {
		t.Error("everything is said to be stored")
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/11, finish" {
		t.Errorf("the session has %s", types)
	}
}

// TestAnyOrder checks that the calls of the script work in any order.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	id := eval[string](w.page, `(window.s = begin(), s.lead({ name: "Ada" }), s.undo(1), s.vote(1, 11), s.result({ result_id: 3 }), s.start(), s.finish(), s.result({ result_id: 4 }), s.session_id)`)
	if !eval[bool](w.page, `s.flush()`) {
		t.Error("something is not stored")
	}
	session := w.session(id)
	if types := session.types(); types != "lead, undo 1/0, vote 1/11, result_view, start, finish, result_view" {
		t.Errorf("the session has %s", types)
	}
	if got := w.webhook(); got.Result == nil || got.Result.ID != 3 || len(got.Answers) != 1 {
		t.Errorf("the webhook has %s", compact(got))
	}
}

// TestPageStops checks that a page with a bad token reports this once and stops, and keeps its events for a page with a valid token.
func TestPageStops(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("status 401")
	w.expect("a known token is needed")
	id := eval[string](w.page, `(window.s = begin({ token: "another-token-altogether" }), s.start(), s.vote(1, 11), s.session_id)`)
	if eval[bool](w.page, `s.flush()`) {
		t.Error("everything is said to be stored")
	}
	if eval[bool](w.page, `(s.finish(), s.flush())`) {
		t.Error("everything is said to be stored")
	}
	if posts := w.gateway.count("POST", "/v1/events"); posts != 1 {
		t.Errorf("%d requests with events, want one", posts)
	}
	if !eval[bool](w.page, `begin().flush()`) {
		t.Error("something is not stored")
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/11, finish" {
		t.Errorf("the session has %s", types)
	}
}

// TestAdminTokenInPage checks that the page's author gets a message on the console.
func TestAdminTokenInPage(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("status 403")
	w.expect("this is an admin token in a page of another origin")
	if eval[bool](w.page, fmt.Sprintf(`(window.s = begin({ token: %q }), s.start(), s.flush())`, adminToken)) {
		t.Error("everything is said to be stored")
	}
}

// TestForeignOrigin checks that a page of an origin that is not listed can send nothing, even with a valid token, or without tokens on hookbolt's
// own machine.
func TestForeignOrigin(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"another origin": {withTokens, `http.ingest_tokens = ["` + ingestToken + `"]`, `http.cors_origins = ["https://quiz.example.com"]`},
		"none":           {withTokens, `http.ingest_tokens = ["` + ingestToken + `"]`},
		"no tokens":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, settings...)
			g := newGateway(t, s)
			site := servePage(t, `<script nonce="ours" src="`+g.url+`/hookbolt.js"></script>`)
			p := newPage(t, site, look{})
			p.allow(g.url)
			p.expect("CorsIssue")
			p.expect("ERR_FAILED")
			p.expect("blocked by CORS policy")
			p.expect("status 403")
			p.open("/")
			id := eval[string](p, `(window.s = hookbolt({ token: "`+ingestToken+`", content_id: "`+quizID+`", content_type: "quiz", poltio_user_id: 1 }), s.start(), s.session_id)`)
			if !await(func() bool { return g.count("OPTIONS", "/v1/events") >= 2 }) {
				t.Fatal("the page does not try")
			}
			w := &widget{page: p, server: s}
			if status := w.status("/v1/sessions/" + id); status != 404 {
				t.Errorf("the session is there: %d", status)
			}
			if n := g.count("POST", "/v1/events"); n != 0 {
				t.Errorf("%d requests with events", n)
			}
		})
	}
}

// TestPlainHTTP uses a page that was loaded by plain HTTP under the name of another machine. Browsers give such pages fewer functions.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	// Chromium treats 127.0.0.1 like HTTPS, so the test removes the functions that are missing with plain HTTP.
	id := eval[string](w.page, `(delete Crypto.prototype.randomUUID, begin().session_id)`)
	if len(id) != 36 || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Errorf("the session's id is %s", id)
	}
	if other := eval[string](w.page, `begin().session_id`); other == id {
		t.Error("two sessions have one id")
	}
}

// TestNoStorage uses a browser that refuses to store anything.
func TestNoStorage(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	id := eval[string](w.page, `(Object.defineProperty(window, "localStorage", { get() { throw new DOMException("no", "SecurityError"); } }),
		window.s = begin(), s.start(), s.finish(), s.session_id)`)
	if !eval[bool](w.page, `s.flush()`) {
		t.Error("something is not stored")
	}
	w.session(id)
}
