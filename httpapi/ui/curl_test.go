package ui_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
)

// TestCurlCommand runs the command of a delivery's page in a shell, against an endpoint that verifies what comes: with text that means
// something to shells and to curl, and with more than an argument may have.
func TestCurlCommand(t *testing.T) {
	shell := tool(t, "sh")
	tool(t, "curl")
	secret := engine.Secret("whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE=")
	for name, c := range map[string]struct {
		path, comment string
		leads         int
		method        string
	}{
		"hostile": {`/a'b$(c)[1-3]{x,y}?q=%22`, "it's $(exit 7) `id` \\\"!! %0A \\n \\u2028 <b>", 1, "POST"},
		"long":    {"/", strings.Repeat("it's 100 %s ", 2000), 10, "PATCH"},
		"PUT":     {"/", "short", 1, "PUT"},
		"GET":     {"/", "not sent", 1, "GET"},
	} {
		t.Run(name, func(t *testing.T) {
			bodies, verified := make(chan string, 1), make(chan error, 1)
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				bodies <- r.Method + " " + r.Header.Get("Content-Type") + " " + string(body)
				verified <- engine.Verify(r.Header, secret, body, time.Now())
			}))
			defer server.Close()
			f := newFixture(t, server.Client().Transport)
			defer f.run()()
			f.api("POST", "/v1/webhooks", `{"url":"`+server.URL+c.path+`","delay":0,"allow_networks":["127.0.0.1"],"method":"`+c.method+`","secret":"`+string(secret)+`"}`)
			lead := `{"type":"lead","session_id":"` + sessionA + `","time":"2020-01-01T00:00:00Z","lead":{"comment":"` + c.comment + `"}}`
			f.api("POST", "/v1/events", played(sessionA)+strings.Repeat(lead, c.leads))
			sent := <-bodies
			if err := <-verified; err != nil {
				t.Fatalf("%d bytes: %v", len(sent), err)
			}
			sentBody, isSent := strings.CutPrefix(sent, c.method+" application/json ")
			if isSent == (c.method == "GET") || !isSent && sent != "GET  " {
				t.Fatalf("sent %.100q", sent)
			}
			page := f.wantPage("/deliveries/" + f.onlyDelivery(""))
			run := exec.Command(shell)
			run.Stdin = strings.NewReader(block(page, "the curl command"))
			if out, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got, err := <-bodies, <-verified; err != nil || got != sent {
				t.Errorf("%d bytes were sent, and by the command %d: %v", len(sent), len(got), err)
			}
			// What is shown as bytes is what was sent.
			if got := block(page, "the bytes as sent"); isSent && got != sentBody {
				t.Errorf("the bytes as sent: %.200q", got)
			}
		})
	}
}
