package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// tabTo presses Tab until the focus is on an element.
func (p *page) tabTo(selector string) {
	p.t.Helper()
	focused := "document.activeElement.matches(" + compact(selector) + ")"
	for range 30 {
		if eval[bool](p, focused) {
			return
		}
		p.press(kb.Tab)
	}
	p.t.Fatalf("Tab does not lead to %s: the focus is on %s", selector, eval[string](p, "document.activeElement.outerHTML"))
}

// A webhook is created with the keyboard alone: past the navigation, through the form, over an error in it, to the secret and on.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	p := newPage(t, startServer(t), look{})
	p.open("/")
	p.press(kb.Tab)
	p.waitFor("Skip to the content")
	p.press(kb.Enter)
	p.wait(`document.activeElement.id === "main"`)
	p.tabTo("a[href='/new-webhook']")
	p.press(kb.Enter)
	p.wait(`document.querySelector("#url")`)

	p.expect("status 400")
	p.tabTo("#url")
	p.press("ftp://example.com/" + kb.Enter)
	p.wait(`document.activeElement.matches("[role=alert]")`) // the error has the focus
	p.tabTo("[href='#url']")
	p.press(kb.Enter)
	p.wait(`document.activeElement.id === "url" && document.activeElement.ariaInvalid === "true"`)
	p.press(kb.End + strings.Repeat(kb.Backspace, len("ftp://example.com/")) + e.url + kb.Enter)

	secret := p.secretOnPage()
	p.tabTo("main a[href='/webhooks/1']")
	p.press(kb.Enter)
	p.wait(`document.querySelector("form[action$='/test']")`)
	p.tabTo("form[action$='/test'] button")
	p.press(" ")
	p.waitFor("Delivered: the endpoint answered 200")
	if err := e.await(1)[0].verify(secret); err != nil {
		t.Error(err)
	}
}
