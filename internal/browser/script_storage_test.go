package browser

import (
	"fmt"
	"strings"
	"testing"
)

// leave puts a value into the storage of the page, under a key of the script that ends in name.
func (w *widget) leave(name, value string) {
	w.t.Helper()
	eval[bool](w.page, fmt.Sprintf(`(localStorage.setItem("hookbolt %s/v1/events " + %q, %s), true)`, w.gateway.url, name, value))
}

// left is JavaScript for the events of a session as a page leaves them behind, the first of them just now.
func left(session string, types ...string) string {
	var list []string
	for i, typ := range types {
		list = append(list, fmt.Sprintf(`{ session_id: %q, content_id: %q, content_type: "quiz", poltio_user_id: 1, type: %q, id: Date.now() + "-%d." + Math.random() }`, session, quizID, typ, i))
	}
	return "JSON.stringify([" + strings.Join(list, ", ") + "])"
}

// TestGarbageInStorage shows that nothing in the storage is in the way of what a page has left there, whatever it is and wherever: other people's
// values, as segmentio/analytics.js#626 tells of, and more of that.
func TestGarbageInStorage(t *testing.T) {
	t.Parallel()
	const session = "22ffdf18-1035-4e56-baa2-8327e3af5242"
	w := newWidget(t)
	for i, garbage := range []string{``, `[{`, `null`, `0`, `"text"`, `true`, `{}`, `{"length":3}`, `[]`, `[null,[],0,"",{},{"id":null},{"id":{"toString":0}}]`, `undefined`} {
		for _, place := range []string{"0", "2", "5"} {
			w.leave(fmt.Sprint(place, ".", i), "`"+garbage+"`")
		}
	}
	w.leave("1", left(session, "start"))
	w.leave("3", left(session, "finish"))
	w.leave("4", `JSON.stringify([null, { id: { toString: 0 } }, 7, ...JSON.parse(`+left(session, "start", "finish")+`)])`)
	if !eval[bool](w.page, `begin().flush()`) {
		t.Error("something is not stored")
	}
	s := w.session(session)
	if types := s.types(); types != "start, finish, start, finish" {
		t.Errorf("the session has %s", types)
	}
	if left := eval[int](w.page, `localStorage.length`); left != 0 {
		t.Errorf("%d entries are left in the storage", left)
	}
}

// TestStorageFails shows that a page sends all that it has, whatever fails of the storage. Of what an earlier page has left, it sends what it can read.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, fails string }{
		{"null", `Object.defineProperty(window, "localStorage", { value: null })`},
		{"full", `(() => { // to the last character, as in segmentio/localstorage-retry#20
			for (let text = "x".repeat(1 << 20), n = 0; text; ) {
				try { localStorage.setItem("full" + n++, text); } catch { text = text.slice(0, text.length / 2); }
			}
		})()`},
		{"busy", `Storage.prototype.removeItem = () => { throw new Error("busy"); }`}, // as in rudderlabs/rudder-sdk-js#3211
		{"unreadable", `Object.keys = ((keys) => (of) => {
			if (of === localStorage) throw new Error("busy");
			return keys(of);
		})(Object.keys)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			const earlier = "22ffdf18-1035-4e56-baa2-8327e3af5242"
			w.leave("1", left(earlier, "start", "finish"))
			id := eval[string](w.page, `(`+c.fails+`, window.s = begin(), s.start(), s.vote(1, 11), s.finish(), s.session_id)`)
			if !eval[bool](w.page, `s.flush()`) {
				t.Error("something is not stored")
			}
			session := w.session(id)
			if types := session.types(); types != "start, vote 1/11, finish" {
				t.Errorf("the session has %s", types)
			}
			if c.name == "full" || c.name == "busy" {
				session = w.session(earlier)
				if types := session.types(); types != "start, finish" {
					t.Errorf("the earlier session has %s", types)
				}
			}
		})
	}
}

// TestHugeEventIsLeft has an event in the storage that no request takes, before good ones. It is dropped, and blocks nothing as it did in
// snowplow/snowplow-javascript-tracker#362.
func TestHugeEventIsLeft(t *testing.T) {
	t.Parallel()
	w := newWidget(t, `http.max_body = "64KiB"`)
	w.expect("status 413")
	w.expect("http.max_body")
	w.allow(w.server.url)
	const session = "22ffdf18-1035-4e56-baa2-8327e3af5242"
	eval[bool](w.page, fmt.Sprintf(`((() => {
		const list = JSON.parse(%s);
		list[1].session_id = "x".repeat(70000);
		localStorage.setItem("hookbolt %s/v1/events 1", JSON.stringify(list));
	})(), true)`, left(session, "start", "start", "finish"), w.server.url))
	if eval[bool](w.page, fmt.Sprintf(`(window.s = begin({ url: %q }), s.flush())`, w.server.url+"/")) {
		t.Error("everything is said to be stored")
	}
	s := w.session(session)
	if types := s.types(); types != "start, finish" {
		t.Errorf("the session has %s", types)
	}
	if left := eval[int](w.page, `localStorage.length`); left != 0 {
		t.Errorf("%d entries are left in the storage", left)
	}
}

// TestTwoTabs has two pages at once that share the storage, without a network at first: each event arrives once and in order, whichever page is
// there longer. Others sent such events twice (snowplow/snowplow-javascript-tracker#349, ankane/ahoy.js#16).
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, end, first string }{
		{"both stay", `0`, "start, vote 1/11, vote 1/12, finish"},
		{"the first ends", `quiz.close()`, "start, vote 1/11, vote 1/12"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWidget(t)
			w.expect("ERR_EMPTY_RESPONSE")
			eval[bool](w.page, ends[0].open)
			w.gateway.set(down)
			first := eval[string](w.page, `(window.first = quiz.begin(), first.start(), first.vote(1, 11), first.session_id)`)
			second := eval[string](w.page, `(window.second = begin(), second.start(), second.session_id)`)
			eval[bool](w.page, `(first.vote(1, 12), second.vote(2, 21), true)`)
			w.awaitExpected("ERR_EMPTY_RESPONSE")
			eval[bool](w.page, `(`+c.end+`, true)`)
			if c.end != "0" {
				w.wait(`quiz.closed`)
			}
			w.gateway.set(works)
			if c.end == "0" && !eval[bool](w.page, `(first.finish(), first.flush())`) {
				t.Error("something of the first page is not stored")
			}
			if !eval[bool](w.page, `(second.finish(), second.flush())`) || !eval[bool](w.page, `begin().flush()`) {
				t.Error("something is not stored")
			}
			session := w.session(first)
			if types := session.types(); types != c.first {
				t.Errorf("the first session has %s", types)
			}
			session = w.session(second)
			if types := session.types(); types != "start, vote 2/21, finish" {
				t.Errorf("the second session has %s", types)
			}
			if left := eval[int](w.page, `localStorage.length`); left != 0 {
				t.Errorf("%d entries are left in the storage", left)
			}
		})
	}
}
