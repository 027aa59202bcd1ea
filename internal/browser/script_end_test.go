package browser

import (
	"fmt"
	"testing"
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
	if left := eval[int](w.page, `localStorage.length`); left != 1 {
		t.Fatalf("%d entries are left in the storage, want 1", left)
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
