package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// A token that is refused has its delivery tried again at once with a new one, once, as an attempt of its own that uses no step of the
// schedule and says nothing of the endpoint's health. A token is kept until it expires.
func TestRefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var issued, valid atomic.Int32
		valid.Store(1)
		w.net.answer = func(r received, req *http.Request) (*http.Response, error) {
			if r.host == "auth.example" {
				a := answer(200, "Content-Type", "application/json")
				a.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"access_token":"t%d","expires_in":3600}`, issued.Add(1))))
				return a, nil
			}
			if r.header.Get("Authorization") != fmt.Sprintf("Bearer t%d", valid.Load()) {
				return answer(401), nil
			}
			return answer(200), nil
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["5s"],"oauth2":{"token_url":"https://auth.example/","body":"x"}}`)
		play := func() (engine.Delivery, []engine.Attempt) {
			t.Helper()
			before := time.Now()
			w.session()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			page, err := w.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 1, Since: before})
			if err != nil || len(page.Items) != 1 {
				t.Fatalf("%+v, %v", page, err)
			}
			d, _, attempts, err := w.Delivery(t.Context(), page.Items[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			return d, attempts
		}
		wantIssued := func(n int32) {
			t.Helper()
			if issued.Load() != n {
				t.Errorf("%d tokens were asked for, want %d", issued.Load(), n)
			}
		}
		for range 3 {
			if d, attempts := play(); d.Status != engine.StatusDelivered || len(attempts) != 1 {
				t.Fatalf("%+v", attempts)
			}
		}
		wantIssued(1)

		valid.Store(2) // the first is revoked
		d, attempts := play()
		if d.Status != engine.StatusDelivered || d.Tries != 0 || len(attempts) != 2 || attempts[0].Status != 401 || attempts[0].NextReason != engine.NextByToken ||
			!attempts[0].NextAt.Equal(attempts[0].StartedAt) || !attempts[1].StartedAt.Equal(attempts[0].StartedAt) || attempts[1].NextReason != "" {
			t.Errorf("%+v, %+v", d, attempts)
		}
		wantIssued(2)

		valid.Store(-1) // nobody is let in
		d, attempts = play()
		var reasons []engine.NextReason
		for _, a := range attempts {
			reasons = append(reasons, a.NextReason)
		}
		// A step of the schedule each time the new token is refused as well; the other 401s are from tokens that were there.
		if d.Status != engine.StatusFailed || fmt.Sprint(reasons) != "[token_refreshed retry_schedule token_refreshed schedule_ended]" {
			t.Errorf("%s: %v", d.Status, reasons)
		}
		if h := w.health(hook.ID); h.Failures != 2 {
			t.Errorf("%d failures counted, want 2", h.Failures)
		}
		wantIssued(4)

		valid.Store(4)
		play()
		wantIssued(4)
		time.Sleep(time.Hour)
		valid.Store(5)
		if d, attempts := play(); d.Status != engine.StatusDelivered || len(attempts) != 1 {
			t.Errorf("after it expired: %+v", attempts)
		}
		wantIssued(5)
	})
}

// A token endpoint that asks for a wait has its deliveries tried again after it, and is asked once until then, however many deliveries wait.
// The wait has the bound of endpoints.
func TestTokenEndpointRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var asked atomic.Int32
		w.net.answer = func(r received, _ *http.Request) (*http.Response, error) {
			if r.host != "auth.example" {
				return answer(200), nil
			}
			if asked.Add(1) == 1 {
				return answer(429, "Retry-After", "600000"), nil // beyond the default of delivery.retry_after_max
			}
			a := answer(200)
			a.Body = io.NopCloser(strings.NewReader(`{"access_token":"t"}`))
			return a, nil
		}
		w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["5s","5s"],"oauth2":{"token_url":"https://auth.example/","client_id":"c","client_secret":"s"}}`)
		start := time.Now()
		for range 5 {
			w.session()
			time.Sleep(time.Minute)
		}
		if asked.Load() != 1 {
			t.Errorf("asked %d times within the wait", asked.Load())
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		page, err := w.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 10, Since: start})
		if err != nil || len(page.Items) != 5 || asked.Load() != 2 {
			t.Fatalf("asked %d times: %+v, %v", asked.Load(), page, err)
		}
		for _, item := range page.Items {
			d, _, attempts, err := w.Delivery(t.Context(), item.ID)
			if err != nil || d.Status != engine.StatusDelivered || len(attempts) != 2 || attempts[0].Error != engine.ErrorOAuth || attempts[0].NextReason != engine.NextByRetryAfter ||
				attempts[0].NextAt.Sub(start).Round(time.Second) != 24*time.Hour || !strings.HasPrefix(attempts[0].ErrorDetail, "the token endpoint answered 429, and asked not to be called before ") {
				t.Errorf("%+v, %v", attempts, err)
			}
		}
	})
}

// One delivery that is refused whatever the token, among many that are not: it is tried again at once no more than once for each step of
// its schedule, although the others always have a token ready.
func TestRefusedAmongOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var issued, poisoned atomic.Int32
		var id atomic.Value
		id.Store("")
		w.net.answer = func(r received, req *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Millisecond)
			switch {
			case r.host == "auth.example":
				a := answer(200, "Content-Type", "application/json")
				a.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"access_token":"t%d","expires_in":3600}`, issued.Add(1))))
				return a, nil
			case id.CompareAndSwap("", r.id) || id.Load() == r.id:
				poisoned.Add(1)
				return answer(401), nil
			}
			return answer(200), nil
		}
		w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["5s","5s"],"oauth2":{"token_url":"https://auth.example/","body":"x"}}`)
		for range 2000 {
			w.session()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := poisoned.Load(); n > 6 || n < 3 {
			t.Errorf("%d attempts at one delivery with three tries", n)
		}
		if n := issued.Load(); n > 7 {
			t.Errorf("%d tokens", n)
		}
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 1999 {
			t.Errorf("%d of the others were delivered", n)
		}
	})
}
