package browser

import "testing"

// TestReadingLivePage checks that updates of a page do not disturb its reader: closed sections stay closed, open ones stay open, and the curl
// command, which may be selected, does not change, although each response has a newer one.
func TestReadingLivePage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := newPage(t, s.server, look{})
	p.open("/deliveries/" + s.refused)
	answer, command := `document.querySelector("#attempt-1 details[id^=answer]")`, `document.querySelector("#curl-card pre").textContent`
	if !eval[bool](p, answer+".open") {
		t.Error("the answer of the last attempt is not open")
	}
	p.click(button("Response"))
	p.click(button("As a curl command"))
	p.click(button("The bytes as sent"))
	before := eval[string](p, command)
	// The second update starts after the first one was applied.
	looks, _ := p.requests()
	if !await(func() bool { now, _ := p.requests(); return len(now) > len(looks)+1 }) {
		t.Fatal("the page does not ask for itself")
	}
	if eval[bool](p, answer+".open") {
		t.Error("what was closed is open again")
	}
	if open := eval[int](p, `document.querySelectorAll("#curl-card details[open], #raw[open]").length`); open != 2 {
		t.Errorf("%d of the 2 that were opened are", open)
	}
	if after := eval[string](p, command); after != before {
		t.Errorf("the command has changed\nfrom %s\nto %s", before, after)
	}
}
