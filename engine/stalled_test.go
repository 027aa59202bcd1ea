package engine_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// forgetfulStore claims nothing for a webhook, and says that nothing of it waits: its lane is never asked again.
type forgetfulStore struct {
	engine.Store
	webhookID uint32
}

func (s forgetfulStore) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	results := make([]engine.ClaimResult, len(requests))
	for i, r := range requests {
		if r.Lane.WebhookID == s.webhookID {
			continue
		}
		one, err := s.Store.ClaimDue(ctx, now, requests[i:i+1])
		if err != nil {
			return nil, err
		}
		results[i] = one[0]
	}
	return results, nil
}

// A lane that sends nothing shows in hookbolt_queue_stalled_seconds, whatever other webhooks do. What a webhook waits for on purpose does
// not: a probe, a slot of its rate limit, the end of a pause.
func TestStalledQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net.answer = func(_ received, req *http.Request) (*http.Response, error) {
			switch req.URL.Host {
			case "failing.example":
				return answer(500), nil
			case "busy.example":
				time.Sleep(100 * time.Second)
			}
			return answer(200), nil
		}
		stalled := func() time.Duration {
			t.Helper()
			synctest.Wait()
			return time.Duration(w.metric("hookbolt_queue_stalled_seconds", "") * float64(time.Second))
		}
		failing := w.webhook(`{"url":"https://failing.example/","delay":0}`)
		w.webhook(`{"url":"https://paused.example/","delay":0,"paused":true}`)
		w.webhook(`{"url":"https://slow.example/","delay":0,"rate_limit":0.001}`)
		w.webhook(`{"url":"https://busy.example/","delay":0,"max_in_flight":1,"timeout":"120s"}`)
		w.sessions(50)
		for range 12 {
			time.Sleep(10 * time.Minute)
			if got := stalled(); got > 2*time.Minute {
				t.Fatalf("stalled for %v; each webhook does what it may", got)
			}
		}
		if o, err := w.Overview(t.Context()); err != nil || o.Webhooks.Failing == 0 || o.OldestDueAge < time.Hour {
			t.Fatalf("%+v; want a failing webhook and old deliveries: %v", o, err)
		}

		stuck := w.webhook(`{"url":"https://stuck.example/","delay":60}`)
		w.wrap = func(s engine.Store) engine.Store { return forgetfulStore{s, stuck.ID} }
		w.restart()
		w.sessions(1)
		time.Sleep(time.Minute + 20*time.Minute)
		if got := stalled(); got != 20*time.Minute {
			t.Errorf("stalled for %v, want 20m", got)
		}
		if h := w.healthOf(failing.ID); !h.Failing() {
			t.Errorf("the other webhook works: %+v", h)
		}
		for _, paused := range []string{"true", "false"} { // the time starts again when it is resumed
			w.patch(stuck.ID, `{"paused":`+paused+`}`)
			if got := stalled(); got > 2*time.Minute {
				t.Errorf("stalled for %v with paused %s", got, paused)
			}
			time.Sleep(10 * time.Minute)
		}
		if got := stalled(); got != 10*time.Minute {
			t.Errorf("stalled for %v, want 10m", got)
		}
		w.wrap = nil
		w.restart()
		if got := stalled(); got > 2*time.Minute {
			t.Errorf("stalled for %v after a start that sends", got)
		}
	})
}

// The wait for an endpoint that failed, and for a webhook that was paused, is no lag of hookbolt's own: neither that of the probes nor that
// of the deliveries that are sent afterwards.
func TestLagOfSuspendedDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mended atomic.Bool
		w.net.answer = failUntil(&mended)
		w.webhook(`{"url":"https://failing.example/","delay":0}`)
		paused := w.webhook(`{"url":"https://paused.example/","delay":0,"paused":true}`)
		for range 60 {
			w.session()
			time.Sleep(time.Minute)
		}
		lag := func(suspended string) time.Duration {
			t.Helper()
			synctest.Wait()
			return time.Duration(w.metric("hookbolt_delivery_lag_seconds", suspended) * float64(time.Second))
		}
		if own, probes := lag("false"), lag("true"); own > time.Second || probes < 10*time.Minute {
			t.Errorf("a lag of %v, and of %v in probes, while an endpoint fails", own, probes)
		}
		mended.Store(true)
		w.patch(paused.ID, `{"paused":false}`)
		time.Sleep(10 * time.Minute)
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n < 110 { // a few wait for their next attempt
			t.Fatalf("%d of 120 delivered", n)
		}
		if own, suspended := lag("false"), lag("true"); own > time.Second || suspended < 24*time.Hour {
			t.Errorf("a lag of %v, and of %v in suspended deliveries, after the endpoint works again", own, suspended)
		}
		before := lag("true")
		w.session()
		time.Sleep(time.Second)
		if lag("true") != before {
			t.Error("a delivery of a webhook that works counts as suspended")
		}
	})
}
