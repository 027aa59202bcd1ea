package ui_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// TestFormsPostedTwice: a double click, or a page that is loaded again, makes nothing twice.
func TestFormsPostedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, transport(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}))
		defer f.run()()
		webhooks := func() int { return strings.Count(f.api("GET", "/v1/webhooks", ""), `"created_at"`) }
		twice := func(target string, form url.Values) {
			t.Helper()
			var both [2]http.Header
			var posts sync.WaitGroup
			for i := range both {
				posts.Go(func() {
					rec := f.post(target, form)
					both[i] = rec.Result().Header
					if rec.Code != 303 {
						t.Errorf("%s: %d", target, rec.Code)
					}
				})
			}
			posts.Wait()
			if both[0].Get("Location") != both[1].Get("Location") || both[0].Get("Set-Cookie") != both[1].Get("Set-Cookie") {
				t.Errorf("%s: %v, then %v", target, both[0], both[1])
			}
		}
		form := settingsOf(f.get("/new-webhook").Body.String())
		form.Set("url", "https://a.example/")
		form.Set("name", "a")
		form.Set("delay", "0")
		twice("/webhooks", form)
		if n := webhooks(); n != 1 {
			t.Errorf("a form posted twice has made %d webhooks", n)
		}
		// A form that was gone back to and changed is another one, and so is a new form.
		form.Set("name", "b")
		twice("/webhooks", form)
		form.Set("once", settingsOf(f.get("/new-webhook").Body.String()).Get("once"))
		twice("/webhooks", form)
		if n := webhooks(); n != 3 {
			t.Errorf("three forms have made %d webhooks", n)
		}
		// What was refused may be tried again.
		form.Set("url", "")
		for range 2 {
			f.wantIn(f.post("/webhooks", form), 400)
		}

		secret := func() string { return f.api("GET", "/v1/webhooks/1/secret", "") }
		rotate := settingsOf(f.get("/webhooks/1/rotate").Body.String())
		rotate.Set("overlap", "1h")
		before := secret()
		twice("/webhooks/1/rotate", rotate)
		if after := f.api("GET", "/v1/webhooks/1", ""); secret() == before || strings.Count(after, "signs_until") != 1 {
			t.Errorf("a form posted twice has rotated: %s", after)
		}

		for i := range 3 {
			f.api("POST", "/v1/events", played(session(i)))
		}
		time.Sleep(time.Minute)
		_, counted, _ := strings.Cut(f.get("/webhooks/2/replay?status=any").Body.String(), `id="count"`)
		twice("/webhooks/2/replay", formOf(counted)) // a second replay would find nothing left

		// What is remembered is bounded: a form of long ago has its effect again.
		form.Set("url", "https://b.example/")
		twice("/webhooks", form)
		time.Sleep(engine.OnceRetention)
		twice("/webhooks", form)
		if n := webhooks(); n != 5 {
			t.Errorf("a day later: %d webhooks, want 5", n)
		}
	})
}
