package engine_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// hooked is a store with places where a test can make something happen at a given moment.
type hooked struct {
	engine.Store
	beforeFreeze func(engine.Freeze)
	afterClaim   func([]engine.ClaimResult)
	afterRelease func()
	beforeErase  func() error
	afterErase   func(step *engine.ErasedStep)
	damaged      []error // what each step of an erasure names
}

func (h *hooked) Freeze(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
	if h.beforeFreeze != nil {
		h.beforeFreeze(f)
	}
	return h.Store.Freeze(ctx, f)
}

func (h *hooked) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	results, err := h.Store.ClaimDue(ctx, now, requests)
	if h.afterClaim != nil && err == nil {
		h.afterClaim(results)
	}
	return results, err
}

func (h *hooked) Release(ctx context.Context, d []engine.Delivery) error {
	err := h.Store.Release(ctx, d)
	if h.afterRelease != nil {
		h.afterRelease()
	}
	return err
}

func (h *hooked) Erase(ctx context.Context, what engine.Erasure, place string) (engine.ErasedStep, error) {
	if h.beforeErase != nil {
		if err := h.beforeErase(); err != nil {
			return engine.ErasedStep{}, err
		}
	}
	step, err := h.Store.Erase(ctx, what, place)
	if h.afterErase != nil && err == nil {
		h.afterErase(&step)
	}
	step.Damaged = append(step.Damaged, h.damaged...)
	return step, err
}

// restartHooked starts the world anew, its engine on a hooked store.
func (w *world) restartHooked(h *hooked) {
	w.t.Helper()
	w.wrap = func(s engine.Store) engine.Store { h.Store = s; return h }
	w.restart()
}

func slow(received, *http.Request) (*http.Response, error) {
	time.Sleep(10 * time.Second)
	return answer(200), nil
}

// The job of a cancellation may end while a covered delivery waits, frozen, for a free place: it must not be sent all the same.
func TestCancellationJobEndsBeforeTurn(t *testing.T) {
	for _, change := range []string{`{"send_incomplete":false}`, `{"content_id":"11111111-2222-4333-8444-555555555555"}`} {
		t.Run(change, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.net.answer = slow
				hook := w.webhook(`{"url":"https://slow.example/","max_in_flight":1,"send_incomplete":true,"incomplete_delay":0}`)
				w.ingest(event("start", uuid.New()) + event("start", uuid.New()))
				time.Sleep(time.Second)
				w.patch(hook.ID, change)
				time.Sleep(time.Hour)
				if n := len(w.net.all()); n != 1 {
					t.Errorf("%d requests, want only the one that was in flight when the change was answered", n)
				}
			})
		})
	}
	t.Run("test delivery, switched off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.net.answer = slow
			hook := w.webhook(`{"url":"https://slow.example/"}`)
			for range 2 {
				if _, err := w.TestWebhook(t.Context(), hook.ID); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			w.patch(hook.ID, `{"active":false}`)
			time.Sleep(time.Hour)
			if n := len(w.net.all()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	})
}

// A delivery may be sent again by hand after its session was erased: it has its payload.
func TestRetryAfterSessionExpired(t *testing.T) {
	for _, then := range []string{"", `{"send_incomplete":false}`} {
		t.Run(then, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				hook := w.webhook(`{"url":"https://a.example/","delay":0,"paused":true,"send_incomplete":true}`)
				w.session()
				time.Sleep(29 * 24 * time.Hour)
				w.patch(hook.ID, `{"paused":false}`)
				time.Sleep(2 * 24 * time.Hour) // the session goes, its delivery stays
				synctest.Wait()
				w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
				if _, err := w.Retry(t.Context(), w.only(engine.DeliveryQuery{}).ID); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if then != "" {
					w.patch(hook.ID, then)
					w.restart()
				}
				time.Sleep(4 * 24 * time.Hour)
				d := w.only(engine.DeliveryQuery{})
				if d.Status != engine.StatusFailed || d.Attempts != 11 || len(w.net.all()) != 11 {
					t.Errorf("%s, %d attempts, %d requests; want failed, 11, 11", d.Status, d.Attempts, len(w.net.all()))
				}
			})
		})
	}
}

// A delivery may be cancelled by hand after the store has given it out and before its claim is known.
func TestCancelDuringClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["60s"]}`)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		w.session()
		time.Sleep(time.Second)
		w.restartHooked(&hooked{afterClaim: func(results []engine.ClaimResult) {
			for _, result := range results {
				for _, claimed := range result.Claimed {
					if _, err := w.Cancel(context.Background(), claimed.Delivery.ID); err != nil {
						t.Error(err)
					}
				}
			}
		}})
		time.Sleep(time.Hour)
		if n := len(w.net.all()); n != 1 {
			t.Errorf("%d requests, want 1: the second one began after the cancellation was answered", n)
		}
	})
}

// A delivery that is sent again by hand while its payload is being built must not be forgotten.
func TestRetryWhileFreezing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":60}`)
		var once sync.Once
		w.restartHooked(&hooked{beforeFreeze: func(f engine.Freeze) {
			once.Do(func() {
				time.Sleep(time.Millisecond)
				if _, err := w.Retry(context.Background(), f.Delivery.ID); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond) // the loop has its turn
			})
		}})
		w.session()
		time.Sleep(24 * time.Hour)
		if n := len(w.net.all()); n != 1 {
			t.Errorf("%d requests after a day, want 1", n)
		}
	})
}

// The end of an old claim must leave a newer claim of the same delivery alone, or its cancellation goes unnoticed.
func TestEndOfOldClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://slow.example/","delay":0,"max_in_flight":2}`)
		w.net.answer = slow
		w.restartHooked(&hooked{afterRelease: func() { time.Sleep(time.Second) }})
		w.sessions(3)
		time.Sleep(time.Second)
		w.patch(hook.ID, `{"paused":true}`)
		synctest.Wait() // the second one is given back to the store; its claim's end takes a second
		w.patch(hook.ID, `{"paused":false}`)
		w.session() // makes the loop look at the lane; it takes the third one again
		time.Sleep(3 * time.Second)
		waiting := w.list(engine.DeliveryQuery{Status: engine.StatusPending})
		got := w.net.all()
		for _, d := range waiting {
			if id := d.ID.String(); id != got[0].id && id != got[1].id {
				if _, err := w.Cancel(t.Context(), d.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Hour)
		if n := len(w.net.all()); n != 2 {
			t.Errorf("%d requests, want 2: those in flight when the others were cancelled", n)
		}
	})
}

// What lanes with one attempt at once prefetch must not take up the global limit: another lane gets the places that are free.
func TestPrefetchTakesUpTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.MaxInFlight = 4 })
		for range 8 {
			w.webhook(`{"url":"https://dead.example/","delay":0,"max_in_flight":1}`)
		}
		w.net.answer = func(r received, req *http.Request) (*http.Response, error) {
			if r.host == "dead.example" {
				return hang(r, req)
			}
			return slow(r, req)
		}
		w.sessions(50)
		time.Sleep(time.Second)
		w.webhook(`{"url":"https://good.example/","delay":0}`)
		w.sessions(50)
		time.Sleep(time.Second)
		if n := len(w.net.to("good.example")); n != 5 {
			t.Errorf("%d attempts under way, want 5: its own and the 4 beyond that nobody else uses", n)
		}
	})
}
