package engine_test

import (
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// noDescriptors fails all dials to a host until it is told otherwise, as the system does when no descriptor is left.
func noDescriptors(host string, over *atomic.Bool) func(received, *http.Request) (*http.Response, error) {
	return func(r received, _ *http.Request) (*http.Response, error) {
		if r.host != host || over.Load() {
			return answer(200), nil
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}
}

// An hour without descriptors uses no try, stores nothing, and touches no health; it is shown, and it does not make the lane spin. Other
// lanes go on, and what waits is sent soon after its end, in order.
func TestTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["1s"]}`)
		w.webhook(`{"url":"https://b.example/","delay":0}`)
		var over atomic.Bool
		w.net.answer = noDescriptors("a.example", &over)
		began := time.Now()
		sessions := w.sessions(100)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.net.to("b.example")); n != 100 {
			t.Errorf("%d were sent to another endpoint, want 100", n)
		}
		if n := len(w.net.to("a.example")); n < 120 || n > 180 {
			t.Errorf("%d attempts within an hour, want one every 30 s", n)
		}
		for _, d := range w.list(engine.DeliveryQuery{WebhookID: hook.ID}) {
			if d.Status != engine.StatusPending && d.Status != engine.StatusScheduled || d.Attempts != 0 || d.Tries != 0 || d.LastError != "" {
				t.Fatalf("an attempt was counted: %+v", d)
			}
		}
		if h := w.health(hook.ID); h.Failures != 0 || h.Failing() {
			t.Errorf("the endpoint's health: %+v", h)
		}
		if got := w.Troubles(); !slices.Equal(got, []engine.Trouble{"descriptors"}) {
			t.Errorf("troubles: %q", got)
		}
		if got := w.metric("hookbolt_trouble_webhooks", "descriptors"); got != 1 {
			t.Errorf("hookbolt_trouble_webhooks is %v, want 1", got)
		}
		if n := w.metric("hookbolt_attempts_unmade_total", "descriptors"); n != float64(len(w.net.to("a.example"))) {
			t.Errorf("hookbolt_attempts_unmade_total is %v", n)
		}
		if s := w.metric("hookbolt_queue_stalled_seconds", ""); s > 31 {
			t.Errorf("the queue counts as stalled for %v s", s)
		}

		over.Store(true)
		before := len(w.net.to("a.example"))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		sent := w.net.to("a.example")[before:]
		if len(sent) != len(sessions) {
			t.Fatalf("%d of %d were sent once the trouble was over", len(sent), len(sessions))
		}
		for _, d := range w.list(engine.DeliveryQuery{WebhookID: hook.ID}) {
			if d.Status != engine.StatusDelivered || d.Attempts != 1 {
				t.Errorf("%+v", d)
			}
		}
		if got := w.Troubles(); got != nil {
			t.Errorf("troubles after the end: %q", got)
		}
		if time.Since(began) > time.Hour+32*time.Second {
			t.Error("it took too long")
		}
	})
}

// A trouble that a probe of a failing endpoint meets does not make the endpoint's wait longer.
func TestTroubleOfProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":0}`)
		var began, over atomic.Bool
		trouble := noDescriptors("a.example", &over)
		w.net.answer = func(r received, req *http.Request) (*http.Response, error) {
			if began.Load() {
				return trouble(r, req)
			}
			return answer(500), nil
		}
		w.sessions(5)
		synctest.Wait()
		before := w.health(hook.ID)
		if !before.Failing() {
			t.Fatal("the endpoint is not failing")
		}
		began.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if h := w.health(hook.ID); h.Failures != before.Failures || h.Probes != 0 {
			t.Errorf("health before the trouble %+v, after it %+v", before, h)
		}
		over.Store(true)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if h := w.health(hook.ID); h.Failing() {
			t.Errorf("after the trouble: %+v", h)
		}
	})
}

// A test delivery and a lane with a rate limit wait in the same way.
func TestTroubleOfOtherLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"rate_limit":1}`)
		var over atomic.Bool
		w.net.answer = noDescriptors("a.example", &over)
		w.sessions(3)
		if _, err := w.TestWebhook(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := len(w.net.all()); n < 30 || n > 60 {
			t.Errorf("%d attempts of two lanes within ten minutes", n)
		}
		over.Store(true)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 4 {
			t.Errorf("%d were delivered, want 4", n)
		}
	})
}
