package browser

import (
	"fmt"
	"strings"
	"testing"
)

// sent returns the events of a session as the page has sent them.
func (w *widget) sent(id string) (events []map[string]any) {
	w.t.Helper()
	var s struct {
		Events []struct{ Event map[string]any }
	}
	w.server.read(&s, "GET", "/v1/sessions/"+id, "")
	for _, e := range s.Events {
		events = append(events, e.Event)
	}
	return events
}

// TestPageAddress shows what a page sends of its URL, unless it gives the values itself.
func TestPageAddress(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	long := strings.Repeat("x", 3000)
	for _, c := range []struct{ path, options, more, want string }{
		{"/", `{}`, `{}`, `[null,null,"SITE/"]`},
		{"/quiz?puid=shop%2042&custom_id=spr%C3%BCng#access_token=secret", `{}`, `{}`, `["shop 42","sprüng","SITE/quiz?puid=shop%2042&custom_id=spr%C3%BCng"]`},
		{"/?uuid=one&puid=two&puid=three", `{}`, `{}`, `["two",null,"SITE/?uuid=one&puid=two&puid=three"]`},
		{"/?uuid=one&puid=", `{}`, `{}`, `["one",null,"SITE/?uuid=one&puid="]`},
		{"/?puid=%E0%A4%A&custom_id=a%", `{}`, `{}`, `["�%A","a%","SITE/?puid=%E0%A4%A&custom_id=a%"]`},
		{"/?puid=url&custom_id=url", `{ publisher_uuid: "page", custom_id: 7n }`, `{ parent: "https://example.com/" }`, `["page","7","https://example.com/"]`},
		{"/?puid=url&custom_id=url", `{ publisher_uuid: null, custom_id: null }`, `{ parent: null }`, `[null,null,null]`},
		{"/?puid=url&custom_id=url", `{ publisher_uuid: undefined, custom_id: Symbol() }`, `{ parent: undefined }`, `["url","url","SITE/?puid=url&custom_id=url"]`},
		{"/?puid=a&x=" + long + "&custom_id=b", `{}`, `{}`, `["a",null,"LONG"]`},
	} {
		w.open(c.path)
		if strings.Contains(c.options, "Symbol") {
			w.expect("[object Symbol]")
		}
		id := eval[string](w.page, fmt.Sprintf(`(window.s = begin(%s), s.vote(1, 11, %s), s.session_id)`, c.options, c.more))
		if !eval[bool](w.page, `s.flush()`) && !strings.Contains(c.options, "Symbol") {
			t.Error("something is not stored")
		}
		vote := w.sent(id)[0]
		got := strings.ReplaceAll(compact([]any{vote["publisher_uuid"], vote["custom_id"], vote["parent"]}), `\u0026`, "&")
		cut := (w.site + c.path)[:min(2000, len(w.site+c.path))]
		if want := strings.NewReplacer("SITE", w.site, "LONG", cut).Replace(c.want); got != want {
			t.Errorf("%.60s with %s and %s: the vote has\n%s, want\n%s", c.path, c.options, c.more, got, want)
		}
	}
}

// TestParentOfAnswers shows which URL each answer of a vote has when the page's changes without a load.
func TestParentOfAnswers(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	id := eval[string](w.page, `(window.s = begin(), s.undo(1, 9), s.vote(1, null, { answers: [{ answer_id: 1 }, { answer_id: 2, parent: null }, { answer_id: 3, parent: "own" }] }),
		history.replaceState(0, "", "/next"), s.vote(2, 4), s.vote(3, null, { parent: "all", answers: [{ answer_id: 5 }, { answer_id: 6, parent: "own" }] }), s.session_id)`)
	if !eval[bool](w.page, `s.flush()`) {
		t.Error("something is not stored")
	}
	var got []any
	for _, event := range w.sent(id) {
		got = append(got, event["parent"])
		for _, answer := range append([]any{}, asList(event["answers"])...) {
			got = append(got, answer.(map[string]any)["parent"])
		}
	}
	if want := fmt.Sprintf(`[null,null,"%[1]s/",null,"own","%[1]s/next",null,"all","own"]`, w.site); compact(got) != want {
		t.Errorf("the parents are %s, want %s", compact(got), want)
	}
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

// TestFrameWithoutURL has a quiz in an iframe's srcdoc, which sees about:srcdoc as its URL. Others sent that (boostorg/website-v2#1579) or threw
// (Mikhus/domurl#51).
func TestFrameWithoutURL(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	w.open("/?puid=shop-42#top")
	id := eval[string](w.page, fmt.Sprintf(`new Promise((done) => {
		const frame = document.createElement("iframe");
		frame.srcdoc = '<script src="%s/hookbolt.js"></script><script src="/quiz.js"></script>';
		frame.onload = () => { window.s = frame.contentWindow.begin(); s.vote(1, 11); done(s.session_id); };
		document.body.append(frame);
	})`, w.gateway.url))
	if !eval[bool](w.page, `s.flush()`) {
		t.Error("something is not stored")
	}
	vote := w.sent(id)[0]
	if vote["publisher_uuid"] != "shop-42" || vote["parent"] != w.site+"/?puid=shop-42" {
		t.Errorf("the vote has %s", compact(vote))
	}
}

// TestVisitor shows which number a visitor has whom the page does not know, and when the browser keeps it. segmentio/analytics.js#439 tells of
// pages without an id where storage is off, and DavidWells/analytics#345 of ids that were stored before there was consent.
func TestVisitor(t *testing.T) {
	t.Parallel()
	w := newWidget(t)
	// visitor returns the number of a session with these options, and what the browser keeps.
	visitor := func(options string) (number float64, kept string) {
		t.Helper()
		id := eval[string](w.page, `(window.s = begin({ poltio_user_id: undefined, ...`+options+` }), s.start(), s.session_id)`)
		if !eval[bool](w.page, `s.flush()`) {
			t.Errorf("%s: something is not stored", options)
		}
		number, _ = w.sent(id)[0]["poltio_user_id"].(float64)
		if number < 1 || number >= 1<<53 || number != float64(int64(number)) {
			t.Errorf("%s: the visitor is %f", options, number)
		}
		return number, eval[string](w.page, `JSON.stringify(Object.entries(localStorage))`)
	}
	known := func(number float64) string { return fmt.Sprintf(`[["hookbolt id","%d"]]`, int64(number)) }

	if number, kept := visitor(`{ poltio_user_id: 4711 }`); number != 4711 || kept != `[]` {
		t.Errorf("a visitor whom the page knows is %f, and the browser keeps %s", number, kept)
	}
	if first, kept := visitor(`{ cookieless: true }`); kept != `[]` {
		t.Errorf("without cookies the browser keeps %s", kept)
	} else if second, _ := visitor(`{ cookieless: true }`); first == second {
		t.Error("without cookies, the visitor of two sessions is one")
	}
	number, kept := visitor(`{}`)
	if kept != known(number) {
		t.Errorf("the visitor is %f, and the browser keeps %s", number, kept)
	}
	w.open("/another")
	for _, options := range []string{`{}`, `{ poltio_user_id: null }`, `{ poltio_user_id: "" }`, `{ url: "` + w.gateway.url + `" }`} {
		if again, kept := visitor(options); again != number || kept != known(number) {
			t.Errorf("%s: the visitor was %f and is %f, and the browser keeps %s", options, number, again, kept)
		}
	}
	if other, kept := visitor(`{ cookieless: true }`); other == number || kept != `[]` {
		t.Errorf("after a change of mind, the visitor was %f and is %f, and the browser keeps %s", number, other, kept)
	}
	eval[bool](w.page, `(localStorage["hookbolt id"] = "junk", true)`)
	visitor(`{}`)
	eval[bool](w.page, `(Storage.prototype.setItem = () => { throw 1; }, delete localStorage["hookbolt id"], Object.defineProperty(window, "localStorage", { get() { throw new DOMException("no", "SecurityError"); } }), true)`)
	id := eval[string](w.page, `(window.s = begin({ poltio_user_id: undefined }), s.start(), s.session_id)`)
	if eval[bool](w.page, `s.flush()`); len(w.sent(id)) != 1 {
		t.Error("without storage, nothing arrives")
	}
}
