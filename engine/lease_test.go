package engine_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// leaseWorld is a world whose store may take lanes away.
func leaseWorld(t *testing.T, configure ...func(*engine.Config)) (*world, *leaseStore) {
	t.Helper()
	w := newWorld(t, configure...)
	var s *leaseStore
	w.stop()
	w.wrap = func(store engine.Store) engine.Store {
		s = newLeaseStore(store)
		return s
	}
	w.start()
	synctest.Wait()
	return w, s
}

// A lane that is given up sends nothing more, and gives back what it has claimed; the attempt in flight is recorded. What comes in
// meanwhile waits for whoever owns the lane.
func TestYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := leaseWorld(t)
		w.net.answer = slow
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		other := w.webhook(`{"url":"https://b.example/","delay":0}`)
		lane := engine.Lane{WebhookID: hook.ID}
		w.sessions(5)
		synctest.Wait()
		if n := len(w.net.to("a.example")); n != 1 || s.held(lane) != 2 {
			t.Fatalf("%d attempts, %d claims; want one in flight and one behind it", n, s.held(lane))
		}
		s.yield(hook.ID)
		synctest.Wait()
		if n := s.held(lane); n != 1 {
			t.Errorf("%d claims after the lane was given up, want that of the attempt in flight", n)
		}
		w.session()
		if _, err := w.TestWebhook(t.Context(), hook.ID); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if n := len(w.net.to("a.example")); n != 1 || s.held(lane) != 0 {
			t.Errorf("%d attempts, %d claims of a lane that is somebody else's", n, s.held(lane))
		}
		if n := len(w.list(engine.DeliveryQuery{WebhookID: hook.ID, Status: engine.StatusDelivered})); n != 1 {
			t.Errorf("%d delivered, want the one that was in flight", n)
		}
		if n := len(w.list(engine.DeliveryQuery{WebhookID: other.ID, Status: engine.StatusDelivered})); n != 6 {
			t.Errorf("%d delivered of the webhook that is not concerned, want 6", n)
		}
		if err := s.own(hook.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := len(w.net.to("a.example")); n != 7 {
			t.Errorf("%d attempts after the lane has come back, want 7: each once, and the test", n)
		}
	})
}

// Health goes with the lane: its new owner has what the last one has stored.
func TestHealthGoesWithTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := leaseWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		w.sessions(6)
		time.Sleep(2 * time.Second)
		if h := w.health(hook.ID); !h.Failing() {
			t.Fatalf("%+v", h)
		}
		s.yield(hook.ID)
		synctest.Wait()
		if h := w.health(hook.ID); h != (engine.Health{}) {
			t.Errorf("of a lane of somebody else: %+v", h)
		}
		if err := s.own(hook.ID); err != nil {
			t.Fatal(err)
		}
		if h := w.health(hook.ID); !h.Failing() || h.Failures != 5 {
			t.Errorf("of a lane that came back: %+v", h)
		}
		n := len(w.net.all())
		time.Sleep(time.Second)
		if got := len(w.net.all()) - n; got != 0 {
			t.Errorf("%d attempts before the next probe", got)
		}
	})
}

// A new URL has no history, also if another process was told of it: while the lane was this process's own, and while it was given to it with the health of before.
func TestHealthIsResetElsewhere(t *testing.T) {
	for _, taken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w, s := leaseWorld(t)
			w.net.answer = func(_ received, r *http.Request) (*http.Response, error) {
				if r.URL.Host == "a.example" {
					return answer(500), nil
				}
				return answer(200), nil
			}
			hook := w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1,"retry_schedule":["1s"]}`)
			w.sessions(12)
			time.Sleep(time.Minute)
			failing := w.health(hook.ID)
			if !failing.Failing() || failing.NextProbeAt.Before(time.Now().Add(2*time.Second)) {
				t.Fatalf("%+v", failing)
			}
			before := s.Webhooks().Get(hook.ID)
			if taken {
				s.yield(hook.ID)
			}
			moved := *before
			moved.URL = "https://b.example/"
			if _, err := s.Store.PutWebhook(t.Context(), engine.WebhookChange{Webhook: moved}); err != nil {
				t.Fatal(err)
			}
			if taken {
				s.mu.Lock()
				delete(s.yielded, hook.ID)
				s.mu.Unlock()
				s.tell(engine.News{Own: map[uint32]engine.Owned{hook.ID: {Health: failing, Webhook: before}}})
			} else {
				s.tell(engine.News{Webhooks: []uint32{hook.ID}})
			}
			if h := w.health(hook.ID); !h.IsZero() {
				t.Errorf("taken %t: the health of the new URL is %+v", taken, h)
			}
			time.Sleep(time.Second)
			if n := len(w.net.to("b.example")); n == 0 {
				t.Errorf("taken %t: nothing was sent to the new URL", taken)
			}
		})
	}
}

// The attempt of a test counts for the health, too, though it is of another lane: it adds to what is stored when it ends after the lanes were
// given up.
func TestHealthGoesWithTheLastClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := leaseWorld(t)
		var slow atomic.Bool
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			if slow.Load() {
				time.Sleep(10 * time.Second)
			}
			return answer(500), nil
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		w.sessions(6)
		time.Sleep(2 * time.Second)
		before := w.health(hook.ID)
		slow.Store(true)
		if _, err := w.TestWebhook(t.Context(), hook.ID); err != nil || !before.Failing() {
			t.Fatalf("%v, %+v", err, before)
		}
		synctest.Wait()
		if s.held(engine.Lane{WebhookID: hook.ID}) != 0 || s.held(engine.Lane{WebhookID: hook.ID, Test: true}) != 1 {
			t.Fatal("want an attempt of a test in flight, and no other claim")
		}
		s.yield(hook.ID)
		time.Sleep(time.Minute)
		if h := w.health(hook.ID); h != (engine.Health{}) {
			t.Errorf("of a lane of somebody else: %+v", h)
		}
		if err := s.own(hook.ID); err != nil {
			t.Fatal(err)
		}
		if h := w.health(hook.ID); h.Failures != before.Failures+1 || !h.FirstFailedAt.Equal(before.FirstFailedAt) || !h.FailingSince.Equal(before.FailingSince) {
			t.Errorf("of a lane that came back: %+v, before the test %+v", h, before)
		}
	})
}

// A lost lease cuts off what is in flight and ends all claims; then the engine takes up anew what it comes to own. What was not
// recorded is sent again, what was is not.
func TestLostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := leaseWorld(t)
		w.net.answer = slow
		w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":2}`)
		w.sessions(4)
		time.Sleep(11 * time.Second) // two have been delivered, two are in flight
		resume := s.lose()
		synctest.Wait()
		sent := len(w.net.all())
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 2 || sent != 4 {
			t.Fatalf("%d delivered, %d sent", n, sent)
		}
		time.Sleep(time.Hour)
		if n := len(w.net.all()); n != sent {
			t.Errorf("%d attempts without a lease", n-sent)
		}
		if err := w.Ready(t.Context()); err == nil {
			t.Error("without a lease it is ready")
		}
		resume()
		time.Sleep(time.Minute)
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 4 || len(w.net.all()) != sent+2 {
			t.Errorf("%d delivered after %d attempts more, want 4 after 2", n, len(w.net.all())-sent)
		}
		if err := w.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		w.session()
		time.Sleep(time.Minute)
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 5 {
			t.Errorf("%d delivered, want the new one, too", n)
		}
		resume = s.lose() // and once more, at the end
		defer resume()
		synctest.Wait()
	})
}

// What others have cancelled or queued is known by news.
func TestNewsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := leaseWorld(t)
		w.net.answer = slow
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		w.sessions(2)
		synctest.Wait()
		second := w.list(engine.DeliveryQuery{})[0]
		if _, err := w.store.Reschedule(t.Context(), second.ID, engine.RescheduleNever, time.Now().UTC().Round(0)); err != nil {
			t.Fatal(err)
		}
		s.tell(engine.News{Ended: []engine.Delivery{second}})
		time.Sleep(time.Minute)
		if n := len(w.net.all()); n != 1 {
			t.Errorf("%d attempts, want none of what was cancelled elsewhere", n)
		}
		d, err := w.store.Enqueue(t.Context(), engine.Enqueue{WebhookID: hook.ID, Kind: engine.KindTest, Payload: []byte("{}"), At: time.Now().UTC().Round(0)})
		if err != nil {
			t.Fatal(err)
		}
		s.tell(engine.News{Queued: []engine.Queued{{Lane: d.Lane(), At: d.NextAttemptAt}}})
		time.Sleep(time.Minute)
		if n := len(w.net.all()); n != 2 {
			t.Errorf("%d attempts, want that of what was queued elsewhere, too", n)
		}
		// A webhook that is paused elsewhere.
		w.sessions(2)
		synctest.Wait()
		paused := *w.store.Webhooks().Get(hook.ID)
		paused.Paused = true
		if _, err := w.store.PutWebhook(t.Context(), engine.WebhookChange{Webhook: paused}); err != nil {
			t.Fatal(err)
		}
		s.tell(engine.News{Webhooks: []uint32{hook.ID}})
		time.Sleep(time.Minute)
		if n := len(w.net.all()); n != 3 {
			t.Errorf("%d attempts, want only the one more that was in flight", n)
		}
	})
}

// A store that fails for moments ends nothing: what is due waits, and what was sent is recorded when it can be, and not sent again.
func TestTransientErrors(t *testing.T) {
	for _, method := range []string{"ClaimDue", "Freeze", "RecordAttempt", "Release", "Maintain"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, s := leaseWorld(t)
				hook := w.webhook(`{"url":"https://a.example/","delay":1,"max_in_flight":1}`)
				s.breaks(true, method)
				w.sessions(3)
				time.Sleep(10 * time.Second)
				w.patch(hook.ID, `{"paused":true}`) // has something be released
				synctest.Wait()
				w.patch(hook.ID, `{"paused":false}`)
				time.Sleep(20 * time.Second)
				if n := s.called(method); method != "Release" && (n < 2 || n > 300) {
					t.Errorf("%d calls in half a minute", n)
				}
				s.breaks(false, method)
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 3 || len(w.net.all()) != 3 {
					t.Errorf("%d delivered by %d attempts, want 3 by 3", n, len(w.net.all()))
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w, s := leaseWorld(t)
		s.breaks(true, "AppendEvents")
		id := uuid.New()
		if _, err := w.Ingest(t.Context(), []byte(event("start", id))); !errors.Is(err, engine.ErrUnavailable) || !errors.Is(err, engine.ErrTransient) {
			t.Errorf("events: %v", err)
		}
		s.breaks(false, "AppendEvents")
		w.ingest(event("start", id))
	})
}

// twoMakers is a store where another process makes the operations webhook in the moment before this one does.
type twoMakers struct {
	engine.Store
	other *engine.Webhook
}

func (s *twoMakers) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
	if s.other != nil && c.Webhook.ID == 0 {
		w := *s.other
		s.other = nil
		if _, err := s.Store.PutWebhook(ctx, engine.WebhookChange{Webhook: w}); err != nil {
			return engine.WebhookChanged{}, err
		}
	}
	return s.Store.PutWebhook(ctx, c)
}

// There is one operations webhook, whoever makes it first, and it is what the configuration says.
func TestOneOperationsWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, withOperations)
		w.stop()
		other := engine.DefaultWebhook()
		other.URL, other.Operations, other.Secret = "https://old.example/", true, "whsec_MfKQ9r8GKYqTwjUPD8ILPZIo2LaLaSw4VXTqUm6qyHA="
		w.wrap = func(s engine.Store) engine.Store { return &twoMakers{s, &other} }
		w.start()
		if err := w.EnsureOperations(t.Context()); err != nil {
			t.Fatal(err)
		}
		hooks := w.Webhooks()
		if len(hooks) != 1 || hooks[0].URL != w.cfg.OperationsURL {
			t.Errorf("%d webhooks, the first %+v", len(hooks), hooks[0].URL)
		}
	})
}

// What is in flight when the lease may be over is cut off, and made again when the process is sure of its lanes. What was sent before that and could not be
// recorded yet is not sent again.
func TestCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := leaseWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":2}`)
		s.breaks(true, "RecordAttempt")
		w.session()
		synctest.Wait() // it was sent, and waits to be recorded
		w.net.answer = func(_ received, r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(10 * time.Second):
				return answer(200), nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}
		w.session()
		time.Sleep(2 * time.Second)
		if n := len(w.net.all()); n != 2 {
			t.Fatalf("%d attempts, want one that waits to be recorded and one in flight", n)
		}
		s.tell(engine.News{CutOff: true})
		time.Sleep(time.Second)
		s.breaks(false, "RecordAttempt")
		time.Sleep(time.Minute)
		if n := len(w.net.all()); n != 3 {
			t.Errorf("%d attempts, want one more, of what was cut off", n)
		}
		list := w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})
		if len(list) != 2 || list[0].Attempts != 1 || list[1].Attempts != 1 {
			t.Errorf("%d are delivered, want 2 with an attempt each: %+v", len(list), list)
		}
	})
}

// What others have caused the keeper carries out at once.
func TestWorkOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := leaseWorld(t)
		time.Sleep(time.Minute)
		before := s.called("Maintain")
		s.tell(engine.News{Work: true})
		synctest.Wait()
		time.Sleep(time.Millisecond)
		if n := s.called("Maintain") - before; n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// The slot of a rate goes with the lane, also if the attempt that took it ends after the lane was given up.
func TestSlotGoesWithTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := leaseWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answer(200), nil
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"rate_limit":0.1}`)
		w.session()
		synctest.Wait()
		began := time.Now()
		s.yield(hook.ID)
		time.Sleep(2 * time.Second)
		stats, err := w.store.Stats(t.Context(), time.Now().UTC(), false)
		if at := stats.Health[hook.ID].NextSlotAt; err != nil || !at.Equal(began.Add(10*time.Second)) {
			t.Errorf("%v, the next slot is at %s, want 10 s after the attempt began at %s", err, at, began.UTC())
		}
	})
}
