// Package browser uses hookbolt's pages as people do: in a real Chromium, driven over the DevTools protocol, with the real binary as a
// child process behind it. It has tests only, and is no part of the binary.
//
//	go test ./internal/browser
//	go test ./internal/browser -browser.shots /tmp/shots      with pictures of every page
//
// It takes chromium, and axe-core for one question: can everybody use the page? (cd internal/browser/testdata/axe && npm ci --ignore-scripts).
// What is missing is skipped, and said; with HOOKBOLT_REQUIRE_CHROMIUM=1 it fails instead. Nothing is sent but to loopback.
//
// A test starts a server of its own, and endpoints that it can break and mend, and opens tabs. Tabs have cookies of their own and a
// look: a width, a scheme, JavaScript or none. Whatever a tab does that none may do fails the test: errors on the console, breaches of
// the Content-Security-Policy, requests that fail or lead to elsewhere, dialogs. What a test provokes itself it excuses by expect.
//
//	func TestCreateWebhook(t *testing.T) {
//		s, e := startServer(t), newEndpoint(t)
//		p := newPage(t, s, look{noScript: true})
//		p.open("/new-webhook")
//		p.fill(field("URL"), e.url)
//		p.follow(button("Create webhook"))
//		p.waitFor("whsec_")
//		p.follow(button("Go on to the webhook"))
//		p.follow(button("Send a test"))
//		e.await(1)
//	}
//
// The same is done for the script that other people's pages load, /hookbolt.js: a widget is a page of another origin that has it, with
// hookbolt behind a gateway that a test breaks and mends.
//
// Elements are found by what a person sees of them (button, field), and by css where they have no name. Waits look again until
// what they wait for has come, or fail with the text of the page after a while that is far longer than it ever takes.
package browser
