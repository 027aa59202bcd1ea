package browser

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// previewSession posts a session that has finished, with a lead, and returns its id.
func previewSession(s *server, email string) string {
	const id = "7c0f2f8e-9a8e-4d0b-8f3e-0c6f4b1f9e55"
	s.call("POST", "/v1/events", fmt.Sprintf(`{"type":"start","session_id":%[1]q,"content_id":"3ad77bb4-0d7a-4660-a89e-caf32466ef10","content_type":"quiz","poltio_user_id":7}
		{"type":"lead","session_id":%[1]q,"lead":{"email":%[2]q}} {"type":"finish","session_id":%[1]q}`, id, email))
	return id
}

// previewStatus is what the preview says.
const previewStatus = `document.querySelector("#sent-status")?.textContent ?? ""`

// awaitPreview waits until the preview says a text.
func (p *page) awaitPreview(text string) {
	p.t.Helper()
	p.wait("(" + previewStatus + ").includes(" + compact(text) + ")")
}

// A program is written while the preview shows what it makes, for the sample and for a stored session; a mistake is marked in its line; and what
// is saved then sends what was shown.
func TestPreviewWhileTyping(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	s := startServer(t)
	session := previewSession(s, "ada@example.com")
	for _, l := range []look{{}, {width: phone, dark: true}} {
		t.Run(l.String(), func(t *testing.T) {
			p := newPage(t, s, l)
			p.open("/new-webhook")
			p.awaitPreview("This would be sent")
			p.fill(field("URL"), e.url+"/{mail}")
			p.click(css("#shaping summary"))
			p.fill(field("Transform"), "{text: .leads[0].email}")
			p.awaitPreview("steps")
			p.wait(`document.querySelector("#sent-text").textContent.includes('"text": "test@example.com"')`)
			p.fill(field("Values for the URL"), "{mail: .leads[0].email}")
			p.wait(`document.querySelector("#sent-url").textContent.endsWith("/test%40example.com")`)
			p.examine("preview")

			p.fill(field("Transform"), "{\n  text: .leads[0].email,\n  more: ][\n}")
			p.awaitPreview("transform fails in line 3, column 9")
			p.wait(`document.querySelector("#transform-caret").textContent === "3 |   more: ][\n            ^"`)
			p.wait(`document.querySelector("#transform").ariaInvalid === "true"`)
			p.examine("preview-error")
			if got := eval[string](p, `document.activeElement.id`); got != "transform" {
				t.Errorf("the focus is on %s", got)
			}

			p.fill(field("Transform"), "{\n  text: .leads[0].email\n}")
			p.awaitPreview("This would be sent")
			p.wait(`!document.querySelector("#transform-caret") && document.querySelector("#transform").ariaInvalid === null`)
			eval[bool](p, `(() => { const s = document.querySelector("#preview_session"); s.value = `+compact(session)+`; return s.dispatchEvent(new Event("input", {bubbles: true})); })()`)
			p.wait(`document.querySelector("#sent-text").textContent.includes("ada@example.com")`)
			p.fill(field("Filter"), ".leads == []")
			p.awaitPreview("the filter does not let this session through")
			p.fill(field("Filter"), "true")
			p.awaitPreview("This would be sent")
			shown := eval[string](p, `JSON.stringify(JSON.parse(document.querySelector("#sent-text").textContent))`)
			p.follow(button("Create webhook"))
			p.waitFor("whsec_")
			var w struct{ Items []struct{ ID int } }
			s.read(&w, "GET", "/v1/webhooks", "")
			s.call("POST", fmt.Sprintf("/v1/webhooks/%d/replay", w.Items[len(w.Items)-1].ID), `{"status":"missing"}`)
			got := e.await(1)
			if last := got[len(got)-1]; string(last.body) != shown || last.header.Get("Content-Type") != "application/json" {
				t.Errorf("sent %s, shown was %s", last.body, shown)
			}
		})
	}
}

// Without JavaScript a button shows the same, and nothing is lost or saved.
func TestPreviewWithoutScript(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	previewSession(s, "ada@example.com")
	p := newPage(t, s, look{width: phone, noScript: true})
	p.open("/new-webhook")
	p.fill(field("URL"), "https://example.com/in")
	p.click(css("#shaping summary"))
	p.fill(field("Transform"), "{text: .leads[0].emial | ascii_downcase}")
	if status := p.follow(button("Preview")); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	p.awaitPreview("transform fails")
	p.examine("preview-noscript")
	if got := eval[string](p, `document.querySelector("#transform").value + " " + document.querySelector("#url").value`); got != "{text: .leads[0].emial | ascii_downcase} https://example.com/in" {
		t.Errorf("the form has %q", got)
	}
	p.fill(field("Transform"), "{text: .leads[0].email | ascii_downcase}")
	p.follow(button("Preview"))
	p.awaitPreview("This would be sent")
	p.waitFor("test@example.com")
	p.follow(button("Create webhook"))
	p.waitFor("whsec_")
	var w struct{ Items []struct{ Transform string } }
	s.read(&w, "GET", "/v1/webhooks", "")
	if len(w.Items) != 1 || w.Items[0].Transform != "{text: .leads[0].email | ascii_downcase}" {
		t.Errorf("%+v", w)
	}
}

// A recipe fills in the form, shows what it would send, and says what is to be filled in.
func TestRecipe(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, l := range []look{{dark: true}, {width: phone}} {
		t.Run(l.String(), func(t *testing.T) {
			p := newPage(t, s, l)
			p.open("/new-webhook")
			p.click(css(".recipes summary"))
			p.follow(css(`a[href="/new-webhook?recipe=slack"]`))
			p.waitFor("The webhook URL of your Slack app")
			p.awaitPreview("This would be sent")
			p.waitFor("mrkdwn")
			p.examine("recipe-slack")
			p.open("/new-webhook?recipe=sheets")
			p.awaitPreview("This would be sent")
			p.examine("recipe-sheets")
		})
	}
}

// What comes late does not take the place of what was typed since, and a program that does not end does not hold up the page.
func TestPreviewOrder(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := newPage(t, s, look{})
	p.open("/new-webhook")
	p.awaitPreview("This would be sent")
	p.click(css("#shaping summary"))
	p.fill(field("Transform"), "def f: f; f")
	p.awaitPreview("transform fails")
	for i := range 5 {
		p.fill(field("Transform"), fmt.Sprintf("[range(1e9)] | %d", i))
		p.wait(`document.querySelector("#preview").dataset.stale === ""`)
	}
	p.fill(field("Transform"), `"the last"`)
	p.awaitPreview("This would be sent")
	p.wait(`document.querySelector("#sent-text").textContent === '"the last"'`)
	if got := eval[string](p, `document.querySelector("#transform").value`); !strings.Contains(got, "the last") {
		t.Errorf("the form has %q", got)
	}
}
