package browser

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// anyValues has kinds of values that a page may pass, as JavaScript, by what becomes of them in the place of text.
var anyValues = map[string][]string{
	// These are sent. Whether hookbolt takes them depends on the field.
	"sent": {`true`, `false`, `0`, `-0`, `1e21`, `0.1`, `1n`, `2n ** 64n`, `""`, `"text"`, `"\ud83d"`, `"\ude00x"`, `"\u0000"`, `new Date(0)`, `new String("a")`,
		`new Number(7)`, `new Boolean(false)`, `new URL("https://example.com/")`, `({ toJSON: () => "text" })`},
	// These are as if nothing had been given.
	"absent": {`null`, `undefined`},
	// These are dropped, with a message.
	"dropped": {`NaN`, `Infinity`, `-Infinity`, `new Number(NaN)`, `Object(3n)`, `new Date(NaN)`, `() => 1`, `class {}`, `function* () {}`, `Symbol("s")`, `Object(Symbol.iterator)`, `new Map([[1, 2]])`,
		`new Set([1])`, `new WeakMap`, `new Uint8Array(8)`, `new BigInt64Array(8)`, `new ArrayBuffer(8)`, `new DataView(new ArrayBuffer(8))`, `Promise.resolve(1)`, `new Error("x")`, `/x/g`,
		`window`, `document`, `document.body`, `document.querySelectorAll("*")`, `location`, `localStorage`, `new FormData`, `new Blob(["x"])`, `new Event("x")`, `JSON`,
		`new Proxy({}, { get() { throw new Error("trap"); }, ownKeys() { throw new Error("trap"); } })`, `new Proxy([], { get() { throw new Error("trap"); } })`,
		`(() => { const p = Proxy.revocable({}, {}); p.revoke(); return p.proxy; })()`, `({ toJSON() { throw new Error("no JSON"); } })`, `({ get toJSON() { throw null; } })`,
		`({ get [Symbol.toStringTag]() { throw { toString() { throw 1; } }; } })`, `({ toJSON: () => 1n })`, `({ toJSON() { return this; } })`, `({ [Symbol.toStringTag]: Symbol() , valueOf() { throw 1; }, toJSON: 1, x: 1n })`},
	// Objects and lists are no text, but some fields are objects or lists. What is in them is dropped or sent for itself.
	"objects": {`({})`, `[]`, `Object.freeze({ a: 1 })`, `Object.create(null)`, `[, , 1]`, `new Array(1e9)`, `[1n, NaN, [Symbol()]]`, `({ get email() { throw new Error("getter"); } })`,
		`(() => { const o = {}; o.o = o; o.list = [o]; return o; })()`, `(() => { const l = []; l.push(l, l); return l; })()`,
		`(() => { let o = {}; for (let i = 0; i < 1e5; i++) o = { o, l: [o] }; return o; })()`, `(() => { let l = []; for (let i = 0; i < 1e5; i++) l = [l]; return l; })()`,
		`({ __proto__: null, constructor: 1, toString: 2, length: 3 })`, `({ "": 1, "ä.[]": 2 })`, `(function () { return arguments; })(1, 2)`},
}

// anyPlaces has a call for each argument and each kind of field, with the value v, and the path by which a message names it. A place without a
// path takes objects.
var anyPlaces = []struct{ call, path string }{
	{`s.start(v)`, ""},
	{`s.start({ custom_id: v })`, "start.custom_id"},
	{`s.vote(v, 1)`, "vote.question_id"},
	{`s.vote(1, v)`, "vote.answer_id"},
	{`s.vote(1, 2, v)`, ""},
	{`s.vote(1, 2, { question: v })`, "vote.question"},
	{`s.vote(1, 2, { answer: v, parent: v, addon: v })`, "vote.parent"},
	{`s.vote(1, null, { answers: v })`, ""},
	{`s.vote(1, null, { answers: [{ answer_id: 2 }, v] })`, ""},
	{`s.vote(1, null, { answers: [{ answer_id: 2, answer: v }] })`, "vote.answers.0.answer"},
	{`s.undo(v)`, "undo.question_id"},
	{`s.undo(1, v)`, "undo.answer_id"},
	{`s.undo(1, 2, v)`, ""},
	{`s.lead(v)`, ""},
	{`s.lead({ name: "Ada", email: v })`, "lead.lead.email"},
	{`s.lead({ name: "Ada" }, v)`, ""},
	{`s.result(v)`, ""},
	{`s.result({ result_id: v })`, "result_view.result.result_id"},
	{`s.result({ result_id: 3, time_spent: v })`, "result_view.result.time_spent"},
	{`s.result({ result_id: 3 }, v)`, ""},
	{`s.finish(v)`, ""},
	{`s.finish({ id: v, time: v })`, "finish.time"},
}

// tryValues is a function for the page: it passes each value at a place, and a vote with the number of the value after it. It resolves to the
// id of the session, and the first two words that are logged at once for each value.
const tryValues = `window.tryValues = async (values, place) => {
	const said = [], error = console.error, s = begin(), call = new Function("s", "v", place);
	console.error = (...words) => said.at(-1)?.push(words.slice(1, 3).join(" "));
	s.start();
	values.forEach((value, i) => {
		said.push([]);
		call(s, value);
		s.vote(1000 + i, 1);
	});
	said.push([]);
	s.lead({ email: "ada@example.com" });
	s.result({ result_id: 3, result_title: "The last" });
	await s.flush();
	console.error = error;
	return { id: s.session_id, said, left: localStorage.length };
};`

// TestAnyValue shows that a page can pass anything at all at any place. All other events arrive, in their order, and the console names what
// does not. Others stopped for good: datalust/seq-logging#24 (a circle), PostHog/posthog-js#1440 and segmentio/analytics-node#375 (BigInt),
// matomo-org/matomo#21367 (a window).
func TestAnyValue(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	var kinds, values []string
	for _, kind := range slices.Sorted(maps.Keys(anyValues)) {
		for _, value := range anyValues[kind] {
			kinds, values = append(kinds, kind), append(values, value)
		}
	}
	eval[bool](w.page, tryValues+"window.values = ["+strings.Join(values, ",\n")+"], true")
	for _, place := range anyPlaces {
		got := eval[struct {
			ID   string
			Said [][]string
			Left int
		}](w.page, fmt.Sprintf("tryValues(values, %q)", place.call))
		if got.Left != 0 {
			t.Errorf("%s: %d entries are left in the storage", place.call, got.Left)
		}
		w.checkOthers(place.call, got.ID, values)
		for i, value := range values {
			said := slices.Contains(got.Said[i], "dropped "+place.path)
			// A field that takes no list says so here or, if it could be an answer, in hookbolt's response.
			if want := kinds[i] == "dropped"; place.path != "" && kinds[i] != "objects" && said != want {
				t.Errorf("%s with %s: the console has %q, want that it is dropped: %t", place.call, value, got.Said[i], want)
			}
			if place.path == "" && kinds[i] == "dropped" && len(got.Said[i]) == 0 {
				t.Errorf("%s with %s: the console says nothing", place.call, value)
			}
		}
	}
}

// checkOthers checks that a session has its start, all votes of tryValues in their order, and then the lead and the result.
func (w *widget) checkOthers(place, id string, values []string) {
	w.t.Helper()
	s := w.session(id)
	types := strings.Split(s.types(), ", ")
	for i, value := range values {
		at := slices.Index(types, fmt.Sprintf("vote %d/1", 1000+i))
		if at < 0 {
			w.t.Errorf("%s with %s: the next vote is lost: %s", place, value, types)
			return
		}
		types = types[at+1:]
	}
	if !slices.Equal(types, []string{"lead", "result_view"}) {
		w.t.Errorf("%s: at the end, the session has %s, want the lead and the result", place, types)
	}
}

// TestAnyOption is TestAnyValue for the options of hookbolt(). A value that cannot be sent is dropped, and the session goes on without it. With a
// wrong URL or token, no call throws.
func TestAnyOption(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	values := slices.Concat(anyValues["absent"], anyValues["dropped"], anyValues["objects"])
	w.expect("hookbolt:")
	w.expect("status 401")
	ids := eval[[]string](w.page, `(async () => {
		const ids = [], values = [`+strings.Join(values, ",\n")+`];
		for (const value of values) {
			const s = begin({ session_id: value, poltio_user_id: value, publisher_uuid: value, custom_id: value, cookieless: value });
			s.start();
			s.finish();
			ids.push(s.session_id);
			await s.flush();
		}
		for (const value of [...values, "", "text", "\ud83d", 1n]) {
			hookbolt(value).start();
			hookbolt({ url: value ?? "" }).lead({ email: "ada@example.com" });
			hookbolt({ token: "ä\n" + typeof value, content_id: value }).finish();
		}
		return ids;
	})()`)
	w.awaitExpected("status 401")
	if len(ids) != len(values) {
		t.Fatalf("%d sessions for %d values", len(ids), len(values))
	}
	for _, id := range ids {
		s := w.session(id)
		if types := s.types(); types != "start, finish" {
			t.Errorf("the session has %s", types)
		}
	}
}

// TestWrongIds gives options values that are no ids, as in segmentio/analytics-next#834 and amplitude/Amplitude-Node#63. Every event carries them, so
// each would be refused: the script makes up others, and says so.
func TestWrongIds(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("hookbolt:")
	ids := eval[[]string](w.page, `(async () => {
		const ids = [];
		for (const option of [{ poltio_user_id: "user-77" }, { poltio_user_id: 1.5 }, { poltio_user_id: true }, { poltio_user_id: new Date }, { custom_id: 5 },
			{ custom_id: 1e300 }, { publisher_uuid: true }, { session_id: "mine" }, { session_id: 7 }, { poltio_user_id: "12345678901234567890" }]) {
			const s = begin(option);
			s.start();
			s.lead({ email: "ada@example.com" });
			s.finish();
			ids.push(s.session_id);
			await s.flush();
		}
		return ids;
	})()`)
	if len(ids) != 10 {
		t.Fatalf("%d sessions", len(ids))
	}
	for _, id := range ids {
		s := w.session(id)
		if types := s.types(); types != "start, lead, finish" {
			t.Errorf("the session has %s", types)
		}
	}
}

// TestLeadArrives shows that a page's mistake in one field costs neither the lead nor the vote: what means one thing only is taken, the rest is left
// out, and the console names it once. Other tools refused all of it: airjp73/rvf#331 ("on"), ansible/aap-mcp-server#114 (one field too many).
func TestLeadArrives(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	for _, tt := range []struct{ call, want, said string }{
		{`s.lead({ name: "Ada", tc_checked: "on" })`, `"tc_checked":true,`, ``},
		{`s.lead(Object.fromEntries(new FormData(document.querySelector("form"))))`, `"tc_checked":true,`, ``},
		{`s.lead({ name: "Ada", email: {} })`, `"email":null,"name":"Ada"`, `dropped lead.email must be a string (got an object); the field was left out, and the event was stored`},
		{`s.lead({ name: "Ada", mail: "ada@example.com", tc_checked: "yes" })`, `"tc_checked":null,`,
			`dropped lead.mail unknown field; the field was left out, and the event was stored, ` +
				`dropped lead.tc_checked must be true or false, 1 or 0, on or off (got "yes"); the field was left out, and the event was stored`},
		{`s.lead({ phone: 491700000000, name: 7 })`, `"phone":"491700000000","email":null,"name":"7"`, ``},
		{`s.lead({ email: [] })`, `"leads":[]`, `dropped lead.email must be a string (got a list); nothing else is in the lead`},
		{`s.vote(1n, 2n)`, `"answers":[{"question_id":1,"question":null,"answers":[{"answer_id":2,`, ``},
		{`s.vote(9007199254740993n, 2, { answer: 42 })`, `"question_id":9007199254740993,"question":null,"answers":[{"answer_id":2,"answer":"42"`, ``},
		{`s.vote(1, 2, { question: {}, lead: { name: "Ada" } })`, `"answers":[{"question_id":1,"question":null,"answers":[{"answer_id":2,`,
			`dropped question must be a string (got an object); the field was left out, and the event was stored, ` +
				`dropped lead does not belong to an event of type vote; the field was left out, and the event was stored`},
		{`s.result({ result_id: 3, time_spent: "16789.5", right_answer: {} })`, `"time_spent":16790,"right_answer":null`,
			`dropped result.right_answer must be an integer (got an object); the field was left out, and the event was stored`},
	} {
		got := eval[struct {
			ID, Said    string
			Stored, Now bool
			Left        int
		}](w.page, `(async () => {
			document.body.innerHTML = '<form><input name="email" value="ada@example.com"><input type="checkbox" name="tc_checked" checked></form>';
			const said = [], error = console.error, s = begin();
			console.error = (...words) => said.push(words.slice(1).join(" "));
			s.start();
			`+tt.call+`;
			const stored = await s.flush();
			s.finish();
			const now = await s.flush();
			console.error = error;
			return { id: s.session_id, said: said.join(", "), stored, now, left: localStorage.length };
		})()`)
		if got.Said != tt.said || got.Stored != (tt.said == "") || !got.Now || got.Left != 0 {
			t.Errorf("%s: the console has %q, want %q; flush() is %t, then %t; %d entries are left", tt.call, got.Said, tt.said, got.Stored, got.Now, got.Left)
		}
		var session struct{ Session json.RawMessage }
		if w.server.read(&session, "GET", "/v1/sessions/"+got.ID, ""); !strings.Contains(string(session.Session), tt.want) ||
			strings.Contains(tt.call, "FormData") && !strings.Contains(string(session.Session), `"email":"ada@example.com"`) {
			t.Errorf("%s: the session is %s, want %s in it", tt.call, session.Session, tt.want)
		}
	}
}

// TestSentExactly shows how a page's values are in the request: a BigInt in digits, as in mixpanel/mixpanel-node#236; an object that occurs twice as
// it is, which Financial-Times/origami#1862 took for a circle; text without half an emoji.
func TestSentExactly(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("no name")
	w.expect("HTMLBodyElement")
	w.expect("[object Number]")
	body := eval[string](w.page, `(async () => {
		let body;
		const send = fetch;
		window.fetch = (url, options) => { body = options.body; return send(url, options); };
		const s = begin({ custom_id: 9007199254740993n }), answer = Object.freeze({ answer_id: 1, answer: "\u{1f9c2}\ud83e", parent: null });
		s.vote(2, null, { answers: [answer, answer, { answer_id: 2, answer: new Date(0), addon: NaN, parent: undefined }] });
		s.lead({ email: new String("ada@example.com"), phone: document.body, get name() { throw new Error("no name"); } });
		await s.flush();
		return body;
	})()`)
	for _, want := range []string{
		`"custom_id":"9007199254740993"`,
		`"answers":[{"parent":null,"answer_id":1,"answer":"🧂�"},{"parent":null,"answer_id":1,"answer":"🧂�"},{"parent":"` + w.site + `/","answer_id":2,"answer":"1970-01-01T00:00:00.000Z"}]`,
		`"lead":{"email":"ada@example.com"}`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has sent\n%s\nwithout %s", body, want)
		}
	}
}

// TestVeryLarge has an event of 5 MB among others. It is dropped, and the others arrive.
func TestVeryLarge(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("status 413")
	w.expect("http.max_body")
	w.allow(w.server.url)
	id := eval[string](w.page, `(window.s = begin({ url: "`+w.server.url+`/" }), s.start(), s.vote(1, 11, { question: "x".repeat(5e6) }), s.vote(1, 12), s.lead({ email: "ada@example.com" }), s.finish(), s.session_id)`)
	if eval[bool](w.page, `s.flush()`) {
		t.Error("everything is said to be stored")
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/12, lead, finish" {
		t.Errorf("the session has %s", types)
	}
}

// TestVeryLargeAtTheEnd closes a page with an event that no browser sends for a closed page. The events after it arrive all the same.
func TestVeryLargeAtTheEnd(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	eval[bool](w.page, ends[0].open)
	id := eval[string](w.page, `(window.s = quiz.begin(), s.start(), s.session_id)`)
	eval[bool](w.page, `s.flush()`)
	// No timer sends anything before the end.
	eval[bool](w.page, `(quiz.setTimeout = () => 1, s.vote(1, 11, { question: "x".repeat(1e5) }), s.vote(1, 12), s.finish(), `+ends[0].end+`, true)`)
	if got := w.webhook(); !got.Complete {
		t.Errorf("the webhook has %s", compact(got))
	}
	// The next visit sends it late.
	if !eval[bool](w.page, `begin().flush()`) {
		t.Error("something is not stored")
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/12, finish, vote 1/11" {
		t.Errorf("the session has %s", types)
	}
}

// TestVeryLargeInStorage shows that what hookbolt will not take uses up no storage, neither the page's nor that of the other events, as in
// snowplow/snowplow-javascript-tracker#764 and segmentio/analytics-next#1200.
func TestVeryLargeInStorage(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.expect("ERR_EMPTY_RESPONSE")
	w.gateway.set(down)
	sizes := eval[[]int](w.page, `(window.s = begin(), s.start(), s.vote(1, 11, { question: "x".repeat(4e6) }), s.vote(1, 12, { question: "x".repeat(5e6) }),
		localStorage.page = "x".repeat(3e6), s.lead({ email: "ada@example.com" }), Object.values(localStorage).map((text) => text.length).sort((a, b) => a - b))`)
	if len(sizes) != 3 || sizes[1] > 1000 || sizes[2] != 3e6 {
		t.Errorf("the storage has entries of %d characters, want those of the start, the lead and the page", sizes)
	}
	w.awaitExpected("ERR_EMPTY_RESPONSE")
}

// TestBrokenConsole has a page whose console.error throws, as tests and error trackers make it. Events that are dropped stop nothing.
func TestBrokenConsole(t *testing.T) {
	t.Parallel()
	w := newWidget(t, `http.max_body = "64KiB"`)
	w.expect("status 413")
	w.allow(w.server.url)
	id := eval[string](w.page, `(console.error = () => { throw new Error("no console"); }, window.s = begin({ url: "`+w.server.url+`/", custom_id: NaN }), s.start(), s.vote(1, Symbol()),
		s.vote(1, "x".repeat(70000)), s.vote(1, 12), s.finish(), s.session_id)`)
	if eval[bool](w.page, `s.flush()`) {
		t.Error("everything is said to be stored")
	}
	session := w.session(id)
	if types := session.types(); types != "start, vote 1/12, finish" {
		t.Errorf("the session has %s", types)
	}
}
