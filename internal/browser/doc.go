// Package browser tests hookbolt's pages in a real Chromium, which it drives over the DevTools protocol. The server is the real binary, in a
// child process. The package has tests only, and is not part of the binary.
//
//	go test ./internal/browser
//	go test ./internal/browser -browser.shots /tmp/shots      also takes screenshots of every page
//
// It needs Chromium, and axe-core for the accessibility checks (cd internal/browser/testdata/axe && npm ci --ignore-scripts). Tests that need a
// missing program are skipped; with HOOKBOLT_REQUIRE_CHROMIUM=1 they fail instead. Requests go to loopback addresses only.
//
// A test starts its own server and endpoints, which it can make fail, and opens tabs. Each tab has its own cookies and a look: its width, its
// colour scheme, and whether JavaScript is on. A test fails if one of its tabs does something that no page may do: errors on the console,
// violations of the Content-Security-Policy, failed requests, requests to other servers, dialogs. A test excuses what it provokes with expect.
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
// /hookbolt.js, the script that pages of publishers load, is tested in the same way. A widget is a page of another origin that loads it. hookbolt
// is behind a gateway, in which a test can set a fault.
//
// Elements are found by what a person sees of them (button, field), or by css if they have no name. A wait polls until its condition holds. It
// fails after a timeout that is far longer than needed, and then prints the text of the page.
package browser
