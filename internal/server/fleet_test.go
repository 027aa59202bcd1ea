package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
)

// balanced are two servers on one database, behind a balancer that sends each request to the next one.
type balanced struct {
	t     *testing.T
	urls  []string
	token string
	mu    sync.Mutex
	next  int
}

func startBalanced(t *testing.T) *balanced {
	b := &balanced{t: t, token: "admin-token-number-1"}
	config, _ := writePostgresConfig(t)
	t.Setenv("HOOKBOLT_HTTP_ADMIN_TOKENS", b.token)
	t.Setenv("HOOKBOLT_TOKEN", b.token)
	for range 2 {
		b.urls = append(b.urls, hookbolttest.Start(t, "serve", "-config", config).URL(t))
	}
	for _, api := range b.urls { // they have seen each other
		b.await(func() bool {
			_, answer := b.call(api, "GET", "/v1/drain", "")
			return strings.Contains(answer, `"others":1`)
		}, "the servers do not see each other")
	}
	return b
}

func (b *balanced) await(is func() bool, otherwise string) {
	b.t.Helper()
	for end := time.Now().Add(hookbolttest.Timeout); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatal(otherwise)
		}
	}
}

func (b *balanced) turn() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	return b.urls[b.next%len(b.urls)]
}

// send sends a request to a server as a browser with cookies, or with a token, and returns the response with its body.
func (b *balanced) send(api, method, path, body string, header ...string) (*http.Response, string) {
	b.t.Helper()
	r, err := http.NewRequest(method, api+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r) // follows no redirects
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(answer)
}

func (b *balanced) call(api, method, path, body string, header ...string) (*http.Response, string) {
	b.t.Helper()
	return b.send(api, method, path, body, append(header, "Authorization", "Bearer "+b.token)...)
}

func (b *balanced) want(status int, method, path, body string, header ...string) (*http.Response, string) {
	b.t.Helper()
	resp, answer := b.call(b.turn(), method, path, body, header...)
	hookbolttest.WantStatus(b.t, status, resp.StatusCode, answer)
	return resp, answer
}

const form = "application/x-www-form-urlencoded"

// TestBehindABalancer: a person, and a program, whose requests go to one server and then to the other do not notice.
func TestBehindABalancer(t *testing.T) {
	arrived := make(chan string, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- r.Header.Get("webhook-id") }))
	defer endpoint.Close()
	b := startBalanced(t)

	// Who has signed in at one is signed in at the other one.
	resp, answer := b.send(b.turn(), "POST", "/sign-in", url.Values{"token": {b.token}}.Encode(), "Content-Type", form)
	if resp.StatusCode != 303 || len(resp.Cookies()) != 1 {
		t.Fatalf("%d %v %s", resp.StatusCode, resp.Cookies(), answer)
	}
	cookie := resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
	for range 4 {
		if resp, _ := b.send(b.turn(), "GET", "/", "", "Cookie", cookie); resp.StatusCode != 200 {
			t.Errorf("a browser that has signed in gets %d", resp.StatusCode)
		}
	}

	// A form of one is posted to the other one, and by a double click to both.
	_, page := b.send(b.turn(), "GET", "/new-webhook", "", "Cookie", cookie)
	once := regexp.MustCompile(`name="once" value="([^"]+)"`).FindStringSubmatch(page)
	if once == nil {
		t.Fatal("the form has no key")
	}
	values := url.Values{"once": {once[1]}, "url": {endpoint.URL}, "name": {"a"}, "delay": {"0"}, "active": {"on"}}.Encode()
	var both [2]string
	var clicks sync.WaitGroup
	for i, api := range b.urls {
		clicks.Go(func() {
			resp, answer := b.send(api, "POST", "/webhooks", values, "Cookie", cookie, "Content-Type", form)
			if both[i] = resp.Header.Get("Location"); resp.StatusCode != 303 {
				t.Errorf("%d %s", resp.StatusCode, answer)
			}
		})
	}
	clicks.Wait()
	var hooks struct{ Items []struct{ ID int } }
	_, answer = b.want(200, "GET", "/v1/webhooks", "")
	if err := json.Unmarshal([]byte(answer), &hooks); err != nil || len(hooks.Items) != 1 || both[0] != both[1] {
		t.Fatalf("a double click has made %d webhooks, at %v (%v)", len(hooks.Items), both, err)
	}
	hook := fmt.Sprintf("/v1/webhooks/%d", hooks.Items[0].ID)

	// What was changed at one is known at the other one when the call returns, and so is its tag.
	for i := range 10 {
		resp, _ := b.want(200, "PATCH", hook, fmt.Sprintf(`{"name":"name %d"}`, i))
		if _, answer := b.want(200, "GET", hook, ""); !strings.Contains(answer, fmt.Sprintf("name %d", i)) {
			t.Errorf("the other server answers with an older name than name %d", i)
		}
		b.turn() // so that the next one is the other one
		resp, _ = b.want(200, "PATCH", hook, fmt.Sprintf(`{"delay":%d}`, i), "If-Match", resp.Header.Get("ETag"))
		b.want(200, "POST", hook+"/rotate-secret", "", "If-Match", resp.Header.Get("ETag"))
	}
	b.want(200, "PATCH", hook, `{"delay":0}`)

	// The result of a test is seen at both.
	_, answer = b.want(202, "POST", hook+"/test", "")
	var test struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &test); err != nil {
		t.Fatal(err)
	}
	<-arrived
	for _, api := range b.urls {
		b.await(func() bool {
			_, answer := b.call(api, "GET", "/v1/deliveries/"+test.ID, "")
			return strings.Contains(answer, `"status":"delivered"`)
		}, "a server does not know that the test was delivered")
	}

	// Together they let as many guesses through as one does.
	free, first := 0, time.Now()
	for waited := false; !waited && free <= 30; free++ {
		begun := time.Now()
		b.send(b.turn(), "GET", "/v1/webhooks", "", "Authorization", "Bearer a-wrong-token-of-somebody")
		waited = time.Since(begun) >= 2*time.Second
	}
	more := int(time.Since(first) / (6 * time.Second)) // ten in a minute: on a slow machine
	if free--; free < 8 || free > 12+more {            // without the last one, which has waited
		t.Errorf("%d guesses came without a wait, want about 10, and %d more", free, more)
	}

	// Who signs out at one has signed out at the other one.
	b.send(b.urls[0], "POST", "/sign-out", "", "Cookie", cookie, "Content-Type", form)
	for _, api := range b.urls {
		if resp, _ := b.send(api, "GET", "/", "", "Cookie", cookie); resp.StatusCode != 401 {
			t.Errorf("after the sign-out %d", resp.StatusCode)
		}
	}
}

// TestDrainCommand: a server gives its webhooks away and is not ready, until that is undone. The last one does not.
func TestDrainCommand(t *testing.T) {
	arrived := make(chan string, 100)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- r.Header.Get("webhook-id") }))
	defer endpoint.Close()
	b := startBalanced(t)
	const n = 6
	for range n {
		b.want(201, "POST", "/v1/webhooks", fmt.Sprintf(`{"url":%q,"delay":0}`, endpoint.URL))
	}
	lanes := func(api string) (state struct{ Lanes, Free int }) {
		_, answer := b.call(api, "GET", "/v1/drain", "")
		if err := json.Unmarshal([]byte(answer), &state); err != nil {
			t.Fatal(answer)
		}
		return state
	}
	b.await(func() bool { return lanes(b.urls[0]).Lanes+lanes(b.urls[1]).Lanes == n }, "webhooks have no owner")
	drain := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := hookbolttest.Run(t, append([]string{"drain"}, args...)...)
		if code != want {
			t.Errorf("drain %v: exit code %d, want %d: %s%s", args, code, want, stdout, stderr)
		}
		return stdout + stderr
	}
	had := lanes(b.urls[0]).Lanes
	if out := drain(0, "-url", b.urls[0]); out != fmt.Sprintf("drained: it gave away the lanes of %d webhooks; other servers: 1\n", had) {
		t.Errorf("with %d webhooks: %s", had, out)
	}
	if a, other := lanes(b.urls[0]), lanes(b.urls[1]); a.Lanes != 0 || other.Lanes != n {
		t.Errorf("drained: %+v and %+v", a, other)
	}
	for i, want := range []int{503, 200} {
		if resp, answer := b.call(b.urls[i], "GET", "/readyz", ""); resp.StatusCode != want {
			t.Errorf("/readyz of server %d: %d %s", i, resp.StatusCode, answer)
		}
	}
	if out := drain(0, "-url", b.urls[0]); !strings.Contains(out, "of 0 webhooks") {
		t.Errorf("once more: %s", out)
	}
	if out := drain(1, "-url", b.urls[1]); !strings.Contains(out, "there is no other process") {
		t.Errorf("the last one: %s", out)
	}
	// It takes what still comes to it.
	resp, answer := b.call(b.urls[0], "POST", "/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, resp.StatusCode, answer)
	for range n {
		select {
		case <-arrived:
		case <-time.After(hookbolttest.Timeout):
			t.Fatal("an event that was sent to a drained server is not delivered")
		}
	}
	if out := drain(0, "-undo", "-url", b.urls[0]); out != "it takes part again\n" {
		t.Error(out)
	}
	b.await(func() bool { return lanes(b.urls[0]).Lanes == had && lanes(b.urls[0]).Free == 0 }, "it got no webhooks back")
	if resp, answer := b.call(b.urls[0], "GET", "/readyz", ""); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d %s", resp.StatusCode, answer)
	}
}
