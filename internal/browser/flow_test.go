package browser

import (
	"net/http"
	"strings"
	"testing"
)

// secretOnPage matches the secret that a page shows.
func (p *page) secretOnPage() string {
	p.t.Helper()
	p.waitFor("whsec_")
	return eval[string](p, `document.querySelector("[data-copy='the secret']").textContent`)
}

// createWebhook creates a webhook in the browser, on a server that allows no private addresses, and returns its secret.
func createWebhook(p *page, name, url string) (secret string) {
	p.t.Helper()
	p.expect("status 400")
	p.open("/")
	p.follow(button("Create webhook"))
	p.fill(field("URL"), url)
	p.fill(field("Name"), name)
	p.fill(field("Delay"), "0")
	if status := p.follow(button("Create webhook")); status != http.StatusBadRequest {
		p.t.Errorf("status %d for an endpoint on this machine, want 400", status)
	}
	p.waitFor("is not a public address")
	p.examine("webhook-refused")
	p.click(field("Allow 127.0.0.1/32 for this webhook"))
	p.follow(button("Create webhook"))
	secret = p.secretOnPage()
	p.examine("webhook-made")
	p.follow(button("Go on to the webhook"))
	p.waitFor(name)
	return secret
}

// play plays a session in the browser, as the visitor of that name. Afterwards the tab shows the session's page.
func (p *page) play(visitor string) {
	p.t.Helper()
	p.open("/play")
	p.fill(field("Name"), visitor)
	p.click(field("Both"))
	p.follow(button("Finish"))
	p.waitFor("Every event was accepted")
}

// TestMainJob does a newcomer's whole main job by clicking: create a webhook, send a test, play a session and watch it arrive, see why another
// one fails, and send it again once the endpoint works. Without JavaScript it is the same, but pages have to be reloaded.
func TestMainJob(t *testing.T) {
	t.Parallel()
	for _, l := range []look{{}, {width: phone, noScript: true}} {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t)
			p := newPage(t, startServer(t, allowNothing), l)
			// settle waits until a page shows text. Without JavaScript it reloads the page.
			settle := func(text string) {
				t.Helper()
				if !l.noScript {
					p.wait("window.mark === 1 && document.body.innerText.includes(" + compact(text) + ")")
					return
				}
				if !await(func() bool {
					p.open(eval[string](p, "location.pathname + location.search"))
					return strings.Contains(p.text(), text)
				}) {
					t.Fatalf("%q does not come:\n%s", text, p.text())
				}
			}
			mark := func() { eval[int](p, "window.mark = 1") } // a page load removes it

			secret := createWebhook(p, "The till", e.url+"/in")
			p.follow(button("Send a test"))
			mark()
			settle("Delivered: the endpoint answered 200")
			if err := e.await(1)[0].verify(secret); err != nil {
				t.Errorf("the test: %v", err)
			}

			// An open list shows new deliveries.
			visitor := p
			p.open("/deliveries")
			mark()
			if !l.noScript {
				visitor = newPage(t, &server{url: p.url}, l)
			}
			visitor.play("Ada <script>alert(1)</script>")
			if l.noScript {
				p.open("/deliveries")
			}
			settle("complete")
			got := e.await(2)[1]
			if err := got.verify(secret); err != nil || !strings.Contains(string(got.body), "Ada <script>alert(1)</script>") {
				t.Errorf("the session: %v\n%s", err, got.body)
			}

			// The endpoint fails: the page shows the failure and its reason.
			e.answer(http.StatusInternalServerError, "the drawer is stuck")
			visitor.play("Grace")
			e.await(3)
			p.open("/deliveries?status=pending")
			p.follow(css("tbody th a"))
			mark()
			settle("the endpoint answered 500 Internal Server Error")
			settle("the drawer is stuck")
			settle("The next attempt starts")

			// The endpoint works again, and the delivery is sent again.
			e.answer(http.StatusOK, "")
			p.follow(button("Retry now"))
			mark()
			settle("Delivered: the endpoint answered 200 after 2 attempts.")
			requests := e.await(4)
			if first, again := requests[2], requests[3]; string(first.body) != string(again.body) || first.header.Get("webhook-id") != again.header.Get("webhook-id") {
				t.Errorf("sent again, it was another one:\n%s\n%s", first.body, again.body)
			}
			p.open("/")
			if !eval[bool](p, `[...document.querySelectorAll(".tile")].some((tile) => tile.innerText.includes("Delivered") && tile.querySelector(".figure").innerText === "3")`) {
				t.Errorf("the overview does not count three deliveries:\n%s", p.text())
			}
		})
	}
}

// TestHostileText opens every page with text that would run as a script if a page did not escape it. The tab reports any script that runs, and
// any request.
func TestHostileText(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t)
	e.answer(http.StatusInternalServerError, hostile)
	s := startServer(t)
	name := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(hostile)
	s.call("POST", "/v1/webhooks", `{"url":"`+e.url+`","name":"`+name+`","delay":0,"allow_networks":["127.0.0.1"]}`)
	const session = "22ffdf18-1035-4e56-baa2-8327e3af5242"
	s.call("POST", "/v1/events", strings.ReplaceAll(`{"type":"start","session_id":"`+session+`","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","publisher_uuid":"H","custom_id":"H","id":"H","poltio_user_id":1}
		{"type":"vote","session_id":"`+session+`","question_id":1,"question":"H","answer_id":2,"answer":"H","parent":"H","addon":"H"}
		{"type":"result_view","session_id":"`+session+`","result":{"result_id":3,"result_title":"H","result_image":"H","result_desc":"H","calculator_result":"H"}}
		{"type":"lead","session_id":"`+session+`","lead":{"phone":"H","email":"H","name":"H","comment":"H","content_type":"H","created_at":"H"}}`, "H", name))
	e.await(1)
	var list struct{ Items []struct{ ID string } }
	s.read(&list, "GET", "/v1/deliveries", "")
	p := newPage(t, s, look{})
	for _, path := range []string{"/", "/webhooks", "/webhooks/1", "/webhooks/1/edit", "/webhooks/1/secret", "/webhooks/1/delete", "/webhooks/1/deactivate", "/webhooks/1/rotate",
		"/webhooks/1/replay", "/deliveries", "/deliveries/" + list.Items[0].ID, "/sessions", "/sessions/" + session + "?webhook_id=1", "/sessions/" + session + "/erase"} {
		p.open(path)
		if n := eval[int](p, `document.querySelectorAll("img, iframe, object, embed, base, script:not(:last-of-type)").length`); n != 0 {
			t.Errorf("%s has %d elements that text has made", path, n)
		}
		if eval[bool](p, `"ran" in window`) {
			t.Errorf("%s: the text has run", path)
		}
		if strings.HasPrefix(path, "/sessions/"+session+"?") || strings.Contains(path, list.Items[0].ID) {
			p.waitFor(hostile)
		}
	}
}

// hostile is text that would run a script or send a request if it were not escaped, anywhere in a page.
const hostile = `"'></title></pre></textarea><script>window.ran=1</script><img src=x onerror=window.ran=2><a href="javascript:window.ran=3">{{.}}`
