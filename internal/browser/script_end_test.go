package browser

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// ends are the ways in which a visitor's page ends, as JavaScript in the page that has opened it. quiz is the window of the visitor's page.
var ends = []struct{ name, open, end string }{
	{"tab closed", `(window.quiz = open("/quiz"), new Promise((done) => quiz.onload = () => done(true)))`, `quiz.close()`},
	{"another page", `(window.quiz = open("/quiz"), new Promise((done) => quiz.onload = () => done(true)))`, `quiz.location = "/elsewhere"`},
	{"frame removed", `new Promise((done) => {
		const frame = document.createElement("iframe");
		frame.src = "/quiz";
		frame.onload = () => { window.quiz = frame.contentWindow; done(true); };
		document.body.append(frame);
	})`, `document.querySelector("iframe").remove()`},
}

// TestPageEnds checks that the last events of a page arrive although the page is closed at once. No later page can send them, and nothing is
// sent twice.
func TestPageEnds(t *testing.T) {
	t.Parallel()
	for _, c := range ends {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			eval[bool](w.page, c.open)
			id := eval[string](w.page, `(window.s = quiz.begin(), s.start(), s.session_id)`)
			if !eval[bool](w.page, `s.flush()`) {
				t.Error("the start is not stored")
			}
			eval[bool](w.page, fmt.Sprintf(`(s.vote(1, 11), s.vote(1, 12), s.undo(1, 11), s.result({ result_id: 3 }), %s, true)`, c.end))
			got := w.webhook()
			if len(got.Answers) != 1 || len(got.Answers[0].Answers) != 1 || got.Answers[0].Answers[0].ID != 12 || got.Result == nil {
				t.Errorf("the webhook has %s", compact(got))
			}
			session := w.session(id)
			if types := session.types(); types != "start, vote 1/11, vote 1/12, undo 1/11, result_view" {
				t.Errorf("the session has %s", types)
			}
		})
	}
}

// quizSettles makes window.settled count the requests of quiz whose outcome is known to it.
const quizSettles = `(window.settled = 0, quiz.fetch = ((fetch) => (...call) => fetch(...call).finally(() => settled++))(quiz.fetch), true)`

// TestHiddenTwice is a page that is hidden without a network, shown again, and ends when there is one: what failed first goes out then. Its
// timers do not run, as in a tab that the browser has throttled.
func TestHiddenTwice(t *testing.T) {
	t.Parallel()
	for _, c := range ends {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			if c.name == "frame removed" {
				w.expect("ERR_EMPTY_RESPONSE")
			}
			eval[bool](w.page, c.open)
			eval[bool](w.page, `(window.s = quiz.begin(), s.start(), s.flush())`)
			w.gateway.set(down)
			eval[bool](w.page, quizSettles)
			eval[bool](w.page, `(quiz.setTimeout = () => 1, s.vote(1, 11), s.finish(), quiz.document.dispatchEvent(new Event("visibilitychange", { bubbles: true })))`)
			w.wait(`settled > 0`)
			w.gateway.set(works)
			eval[bool](w.page, fmt.Sprintf(`(%s, true)`, c.end))
			if got := w.webhook(); len(got.Answers) != 1 || !got.Complete {
				t.Errorf("the webhook has %s", compact(got))
			}
		})
	}
}

// TestPageEndsInOrder has a page end with more than a browser sends in one request, and the requests overtake each other.
func TestPageEndsInOrder(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	eval[bool](w.page, ends[0].open)
	id := eval[string](w.page, `(window.s = quiz.begin(), s.start(), s.session_id)`)
	eval[bool](w.page, `s.flush()`)
	const votes = 200
	release := w.gateway.hold()
	eval[bool](w.page, fmt.Sprintf(`((() => { for (let i = 1; i <= %d; i++) s.vote(1, i) })(), %s, true)`, votes, ends[0].end))
	w.gateway.awaitPosts(2)
	w.wait(`quiz.closed`)
	release()
	if !eval[bool](w.page, `begin().flush()`) {
		t.Error("something is not stored")
	}
	session := w.session(id)
	var want strings.Builder
	want.WriteString("start")
	for i := 1; i <= votes; i++ {
		fmt.Fprintf(&want, ", vote 1/%d", i)
	}
	if types := session.types(); types != want.String() {
		t.Errorf("the session has %s", types)
	}
}

// TestFrozen is a page that the browser hides and freezes while hookbolt takes nothing, as phones do, and shows again.
func TestFrozen(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("status 503")
	id := eval[string](w.page, `(window.s = begin(), s.start(), s.session_id)`)
	eval[bool](w.page, `s.flush()`)
	w.gateway.set(busy)
	eval[bool](w.page, `(window.hidden = 0, addEventListener("visibilitychange", () => hidden += document.hidden), s.vote(1, 11), s.finish(), true)`)
	w.lifecycle("frozen")
	w.gateway.awaitPosts(2)
	w.gateway.set(works)
	w.lifecycle("active")
	if got := w.webhook(); len(got.Answers) != 1 || !got.Complete {
		t.Errorf("the webhook has %s", compact(got))
	}
	if n := eval[int](w.page, `hidden`); n != 1 {
		t.Errorf("the page was hidden %d times", n)
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/11, finish" {
		t.Errorf("the session has %s", types)
	}
}

// TestBack is a page that is left without a network and to which the visitor comes back, be it as it was or anew. PostHog/posthog-js#4927 tells of
// events that were not tried again then.
func TestBack(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("ERR_")
	id := eval[string](w.page, `(window.s = begin(), s.start(), s.session_id)`)
	eval[bool](w.page, `s.flush()`)
	w.gateway.set(down)
	eval[bool](w.page, `(s.vote(1, 11), true)`)
	w.awaitExpected("ERR_")
	w.open("/elsewhere")
	w.gateway.set(works)
	eval[bool](w.page, `(setTimeout(() => history.back()), true)`) // a page that is restored loads nothing that could be waited for
	w.wait(`location.pathname === "/" && window.begin`)
	if !eval[bool](w.page, fmt.Sprintf(`(window.s ||= begin({ session_id: %q }), s.vote(1, 12), s.finish(), s.flush())`, id)) {
		t.Error("something is not stored")
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/11, vote 1/12, finish" {
		t.Errorf("the session has %s", types)
	}
}

// TestLastWords has pages that add events in their own handlers for the end, after those of the script.
func TestLastWords(t *testing.T) {
	t.Parallel()
	for _, c := range ends {
		for _, event := range []string{"visibilitychange", "pagehide"} {
			t.Run(c.name+"/"+event, func(t *testing.T) {
				t.Parallel()
				w := newWidget(t)
				eval[bool](w.page, c.open)
				eval[bool](w.page, `(window.s = quiz.begin(), s.start(), s.flush())`)
				eval[bool](w.page, fmt.Sprintf(`(quiz.addEventListener(%q, () => s.finish()), %s, true)`, event, c.end))
				if got := w.webhook(); !got.Complete {
					t.Errorf("the webhook has %s", compact(got))
				}
			})
		}
	}
}

// TestPageIsHidden checks that pending events are sent when the page is hidden. On a phone, a page may get no later event.
func TestPageIsHidden(t *testing.T) {
	t.Parallel()
	for _, event := range []string{"visibilitychange", "pagehide"} {
		t.Run(event, func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			id := eval[string](w.page, `(window.s = begin(), s.start(), s.session_id)`)
			eval[bool](w.page, `s.flush()`)
			// No timer is left that would send the events anyway.
			eval[bool](w.page, `(window.setTimeout = () => 1, s.vote(1, 11), s.vote(2, 21), document.dispatchEvent(new Event("`+event+`", { bubbles: true })))`)
			w.gateway.awaitPosts(2)
			w.wait(`localStorage.length === 0`)
			session := w.session(id)
			if types := session.types(); types != "start, vote 1/11, vote 2/21" {
				t.Errorf("the session has %s", types)
			}
		})
	}
}

// TestPageEndsAtOnce closes a page right after its first events. The browser sends the preflight request and the events for a closed page.
func TestPageEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, c := range ends {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			eval[bool](w.page, c.open)
			eval[bool](w.page, fmt.Sprintf(`(window.s = quiz.begin(), s.start(), s.vote(1, 11), s.finish(), %s, true)`, c.end))
			if got := w.webhook(); len(got.Answers) != 1 || !got.Complete {
				t.Errorf("the webhook has %s", compact(got))
			}
		})
	}
}

// TestPageEndsWithBadEvent shows that a bad event among the last ones does not keep hookbolt from storing the others, although the page is no longer
// there to send them again. PostHog/posthog#15575 tells of batches that were lost as a whole.
func TestPageEndsWithBadEvent(t *testing.T) {
	t.Parallel()
	for _, c := range ends {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			eval[bool](w.page, c.open)
			id := eval[string](w.page, `(window.s = quiz.begin(), s.start(), s.session_id)`)
			eval[bool](w.page, `s.flush()`)
			eval[bool](w.page, fmt.Sprintf(`(s.vote(1, 11), s.vote(1, "twelve"), s.vote(1, 13, { colour: "red" }), s.finish(), %s, true)`, c.end))
			if got := w.webhook(); len(got.Answers) != 1 || len(got.Answers[0].Answers) != 2 || !got.Complete {
				t.Errorf("the webhook has %s", compact(got))
			}
			session := w.session(id)
			if types := session.types(); types != "start, vote 1/11, vote 1/13, finish" {
				t.Errorf("the session has %s", types)
			}
		})
	}
}

// TestKeepaliveIsUsedUp has a page end after another script has used up what browsers send for a page that has ended, as in PostHog/posthog-js#4140. The
// next page sends what the browser has refused.
func TestKeepaliveIsUsedUp(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	eval[bool](w.page, ends[0].open)
	id := eval[string](w.page, `(window.s = quiz.begin(), s.start(), s.session_id)`)
	eval[bool](w.page, `s.flush()`)
	release := w.gateway.hold()
	eval[bool](w.page, fmt.Sprintf(`(quiz.fetch(%q, { method: "POST", mode: "no-cors", keepalive: true, body: "x".repeat(65000) }).catch(() => 0), true)`, w.gateway.url+"/v1/events"))
	w.gateway.awaitPosts(2)
	eval[bool](w.page, fmt.Sprintf(`(s.vote(1, 11, { question: "x".repeat(1000) }), s.finish(), %s, true)`, ends[0].end))
	w.wait(`quiz.closed`)
	release()
	if !eval[bool](w.page, `begin().flush()`) {
		t.Error("something is not stored")
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/11, finish" {
		t.Errorf("the session has %s", types)
	}
}

// TestPageEndsWithoutNetwork checks that the visitor's next page sends the events that the last page could not send, and then deletes them.
func TestPageEndsWithoutNetwork(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("ERR_")
	id := eval[string](w.page, `(window.s = begin(), s.start(), s.session_id)`)
	eval[bool](w.page, `s.flush()`)
	w.gateway.set(down)
	eval[bool](w.page, `(s.vote(1, 11), s.lead({ email: "ada@example.com" }), s.finish(), true)`)
	w.awaitExpected("ERR_")
	w.open("/elsewhere")
	if left := eval[int](w.page, `localStorage.length`); left != 3 {
		t.Fatalf("%d entries are left in the storage, want 3", left)
	}
	w.gateway.set(works)
	if !eval[bool](w.page, `(window.s = begin(), s.flush())`) {
		t.Error("something is not stored")
	}
	if got := w.webhook(); got.SessionID != id || len(got.Answers) != 1 || len(got.Leads) != 1 {
		t.Errorf("the webhook has %s", compact(got))
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/11, lead, finish" {
		t.Errorf("the session has %s", types)
	}
	if left := eval[int](w.page, `localStorage.length`); left != 0 {
		t.Errorf("%d entries are left in the storage", left)
	}
}

// TestLeftBehind checks how a page handles leftovers in the storage: those older than a day are not sent, and broken or foreign ones do no harm.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	const young, old = "22ffdf18-1035-4e56-baa2-8327e3af5242", "22ffdf18-1035-4e56-baa2-8327e3af5243"
	eval[bool](w.page, fmt.Sprintf(`(() => {
		const prefix = "hookbolt %s/v1/events ";
		const event = (session_id, age) => ({ session_id, content_id: %q, content_type: "quiz", poltio_user_id: 1, type: "start", id: Date.now() - age + "-0.5" });
		localStorage.setItem("another's", "[");
		localStorage.setItem("hookbolt https://hooks.example.com/v1/events 1", "[{}]");
		localStorage.setItem(prefix + 1, JSON.stringify([event(%q, 80000000), event(%q, 90000000)]));
		return true;
	})()`, w.gateway.url, quizID, young, old))
	if !eval[bool](w.page, `begin().flush()`) {
		t.Error("something is not stored")
	}
	w.session(young)
	if status := w.status("/v1/sessions/" + old); status != 404 {
		t.Errorf("what is older than a day is sent: %d", status)
	}
	if left := eval[int](w.page, `localStorage.length`); left != 2 {
		t.Errorf("%d entries are left in the storage, want the two that are not ours", left)
	}
	eval[bool](w.page, fmt.Sprintf(`(localStorage.setItem("hookbolt %s/v1/events 2", "[{"), true)`, w.gateway.url))
	if !eval[bool](w.page, `(window.s = begin(), s.start(), s.flush())`) {
		t.Error("something broken in the storage is in the way")
	}
}

// TestMuchIsLeft closes a page with more pending events than browsers send for a closed page. The next page sends the rest.
func TestMuchIsLeft(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	id := eval[string](w.page, `(window.s = begin(), s.start(), s.session_id)`)
	eval[bool](w.page, `s.flush()`)
	const votes = 300
	eval[bool](w.page, fmt.Sprintf(`((() => { for (let i = 1; i <= %d; i++) s.vote(i, 1, { question: "ü".repeat(200) }) })(), true)`, votes))
	w.open("/elsewhere")
	if !eval[bool](w.page, `begin().flush()`) {
		t.Error("something is not stored")
	}
	if n := len(w.session(id).Events); n != 1+votes {
		t.Errorf("the session has %d events, want %d", n, 1+votes)
	}
}

// lifecycle has the browser hide the page and freeze it ("frozen"), or show it again ("active").
func (w *widget) lifecycle(state cdppage.SetWebLifecycleStateState) {
	w.t.Helper()
	do(w.page, "make the page "+string(state), chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, cdppage.SetWebLifecycleState, cdppage.SetWebLifecycleStateParams{State: state})
		return err
	}))
}
