package browser

import (
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestLive checks that the updates of a page do not disturb its user: the focus, open sections and a selection stay. Updates can be stopped.
func TestLive(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	s := startServer(t)
	s.call("POST", "/v1/webhooks", `{"url":"`+e.url+`","name":"Till","delay":0}`)
	p := newPage(t, s, look{})
	count := func(n string) {
		t.Helper()
		p.wait(`[...document.querySelectorAll(".tile")].some((tile) => tile.innerText.includes("Delivered") && tile.querySelector(".figure").innerText === "` + n + `")`)
	}
	p.open("/webhooks/1")
	p.waitFor("This page updates by itself.")
	count("0")
	visitor := newPage(t, s, look{})
	visitor.play("Ada")
	count("1")

	// The button with the focus and the row of a delivery are still the same elements, although new rows were inserted.
	eval[bool](p, `(window.button = document.querySelector("#pause button"), window.row = document.querySelector("tbody tr"), window.button.focus(), true)`)
	visitor.play("Grace")
	count("2")
	p.wait(`document.querySelectorAll("tbody tr").length === 2`)
	if !eval[bool](p, `document.activeElement === window.button && window.button.isConnected`) {
		t.Error("the focus is lost")
	}
	if !eval[bool](p, `document.querySelectorAll("tbody tr")[1] === window.row`) {
		t.Error("a row was made anew when another one came before it")
	}
	p.press(kb.Enter)
	p.waitFor("It is paused: everything waits in its queue.")
	if query := eval[string](p, "location.search"); query != "" {
		t.Errorf("what was done would be said again: %s", query)
	}

	// A delivery's page: open sections and the copy button.
	p.open("/deliveries")
	p.follow(css("tbody th a"))
	p.click(button("The bytes as sent"))
	p.click(button("Copy the bytes as sent"))
	p.wait(`document.querySelector("#raw").open`)
	eval[bool](p, `(window.copies = document.querySelectorAll("button.copy").length, getSelection().selectAllChildren(document.querySelector("#raw pre")), true)`)
	selected := eval[string](p, "getSelection().toString()")
	polls, _ := p.requests()
	if !await(func() bool { now, _ := p.requests(); return len(now) > len(polls)+1 }) {
		t.Fatal("the page does not ask for itself")
	}
	if !eval[bool](p, `document.querySelector("#raw").open && document.querySelectorAll("button.copy").length === window.copies`) {
		t.Error("what was unfolded is folded, or the copy buttons are others")
	}
	if now := eval[string](p, "getSelection().toString()"); now != selected || now == "" {
		t.Errorf("the selection was %q and is %q", selected, now)
	}

	p.open("/webhooks/1")
	p.follow(button("Resume"))
	p.click(button("Stop updates"))
	p.waitFor("This page is as it was when you stopped it.")
	visitor.play("Edsger")
	e.await(3)
	other := newPage(t, s, look{})
	other.open("/webhooks/1")
	other.wait(`document.body.innerText.includes("100 %")`)
	count("2")
	p.click(button("Go on"))
	count("3")
}

// TestLiveTrouble checks that a page reports failed updates, and does not show what no longer exists.
func TestLiveTrouble(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.call("POST", "/v1/webhooks", `{"url":"https://example.com/","name":"Till"}`)
	p := newPage(t, s, look{})
	p.expect("status 404")
	p.open("/webhooks/1")
	p.waitFor("This page updates by itself.")
	s.call("DELETE", "/v1/webhooks/1", "")
	p.waitFor("webhook 1: not found")

	p.open("/webhooks")
	p.waitFor("This page updates by itself.")
	p.wait(`(window.fetch = async () => new Response("<p>A proxy has had enough.</p>", {status: 429}), true)`)
	p.waitFor("hookbolt does not answer; what you see may be old.")

	p.expect("ERR_CONNECTION_REFUSED")
	p.open("/webhooks")
	p.waitFor("This page updates by itself.")
	s.stop()
	p.waitFor("hookbolt does not answer; what you see may be old.")
}
