package engine_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// putStore is a store with a function around a change of a webhook, and one before the record of an attempt.
type putStore struct {
	engine.Store
	put    func(put func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error)
	record func()

	slow    atomic.Bool // the endpoint answers what comes from answers, in place of 500 at once
	answers chan int
}

func (s *putStore) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
	put := func() (engine.WebhookChanged, error) { return s.Store.PutWebhook(ctx, c) }
	if s.put == nil {
		return put()
	}
	return s.put(put)
}

func (s *putStore) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
	if s.record != nil {
		s.record()
	}
	return s.Store.RecordAttempt(ctx, r)
}

// failingWorld has a webhook whose endpoint has been failing for a minute, with deliveries that wait.
func failingWorld(t *testing.T, settings string) (*world, *putStore, engine.Webhook) {
	t.Helper()
	s := &putStore{answers: make(chan int)}
	w := newWorld(t)
	w.stop()
	w.wrap = func(store engine.Store) engine.Store { s.Store = store; return s }
	w.start()
	w.net.answer = func(received, *http.Request) (*http.Response, error) {
		if s.slow.Load() {
			return answer(<-s.answers), nil
		}
		return answer(500), nil
	}
	hook := w.webhook(settings)
	w.sessions(20)
	time.Sleep(time.Minute)
	synctest.Wait()
	if h := w.health(hook.ID); !h.Failing() {
		t.Fatalf("it should be failing: %+v", h)
	}
	return w, s, hook
}

// healthOf is the health of a webhook as memory has it and, since both must be the same, as the next start finds it.
func (w *world) healthOf(id uint32) engine.Health {
	w.t.Helper()
	known := w.health(id)
	stats, err := w.store.Stats(w.t.Context(), time.Now(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	stored := stats.Health[id]
	known.Order, known.Notified, stored.Order, stored.Notified = 0, false, 0, false
	if known != stored {
		w.t.Errorf("the lane goes by %+v, and %+v is stored", known, stored)
	}
	return known
}

// A change that the store does not take leaves the health of the endpoint as it was, and what comes of later attempts is kept.
func TestRefusedChangeKeepsHealth(t *testing.T) {
	const settings = `{"url":"https://bad.example/","delay":0,"max_in_flight":1,"retry_schedule":["24h"]}`
	broken := errors.New("no answer")
	for name, tt := range map[string]struct {
		put  func(w *world, s *putStore, put func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error)
		want error
	}{
		"no room": {func(*world, *putStore, func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error) {
			return engine.WebhookChanged{}, errNoRoom
		}, engine.ErrFull},
		"changed meanwhile": {func(w *world, s *putStore, put func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error) {
			s.put = nil
			w.patch(1, `{"name":"of somebody else"}`)
			return put() // which is ErrRevision, and then ErrConflict
		}, engine.ErrConflict},
		"removed meanwhile": {func(w *world, s *putStore, put func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error) {
			return engine.WebhookChanged{}, engine.ErrNotFound
		}, engine.ErrNotFound},
		"an error": {func(w *world, s *putStore, put func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error) {
			return engine.WebhookChanged{}, broken
		}, broken},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, s, hook := failingWorld(t, settings)
				before, requests := w.healthOf(hook.ID), len(w.net.all())
				s.put = func(put func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error) {
					return tt.put(w, s, put)
				}
				p, err := engine.ParseWebhookPatch([]byte(`{"url":"https://new.example/"}`))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.UpdateWebhook(t.Context(), hook.ID, p.IfRevision(hook.Revision)); !errors.Is(err, tt.want) {
					t.Fatalf("%v, want %v", err, tt.want)
				}
				synctest.Wait()
				probes := len(w.net.all()) - requests // one, if somebody else has changed the webhook
				after := w.healthOf(hook.ID)
				if !after.FailingSince.Equal(before.FailingSince) || after.Failures != before.Failures+probes || probes > 1 {
					t.Errorf("after %d probes the health is %+v, it was %+v", probes, after, before)
				}
				time.Sleep(10 * time.Minute)
				if later := w.healthOf(hook.ID); later.Failures <= after.Failures {
					t.Errorf("later attempts are not counted: %+v", later)
				}
			})
		})
	}
}

// An attempt that ends while the store takes another URL says nothing of the endpoint there, whichever of the two is stored first.
func TestChangeForgetsAttemptsBeforeIt(t *testing.T) {
	for _, recordedFirst := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w, s, hook := failingWorld(t, `{"url":"https://bad.example/","delay":0,"max_in_flight":1,"retry_schedule":["24h"]}`)
			changed := make(chan struct{})
			s.slow.Store(true)
			time.Sleep(5 * time.Minute) // a probe is under way
			failures := w.health(hook.ID).Failures
			if !recordedFirst {
				s.record = func() { <-changed }
			}
			s.put = func(put func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error) {
				s.answers <- 500
				synctest.Wait()
				if h := w.health(hook.ID); h.Failures != failures+1 {
					t.Errorf("before the change is stored the lane goes by %+v", h)
				}
				return put()
			}
			w.patch(hook.ID, `{"url":"https://new.example/"}`)
			close(changed)
			synctest.Wait()
			if h := w.healthOf(hook.ID); h != (engine.Health{}) {
				t.Errorf("recorded first %t: after the change it is %+v", recordedFirst, h)
			}
			s.answers <- 500
			synctest.Wait()
			if h := w.healthOf(hook.ID); h.Failures != 1 {
				t.Errorf("recorded first %t: after an attempt at the new URL it is %+v", recordedFirst, h)
			}
			close(s.answers) // what follows gets no status
		})
	}
}

// A change may be stored and its answer lost. The attempts after it are newer all the same.
func TestAttemptsAfterAnUnclearAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, hook := failingWorld(t, `{"url":"https://bad.example/","delay":0,"max_in_flight":1,"retry_schedule":["24h"]}`)
		lost := errors.New("the answer is lost")
		s.put = func(put func() (engine.WebhookChanged, error)) (engine.WebhookChanged, error) {
			_, err := put()
			return engine.WebhookChanged{}, errors.Join(lost, err)
		}
		p, err := engine.ParseWebhookPatch([]byte(`{"url":"https://new.example/"}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.UpdateWebhook(t.Context(), hook.ID, p); !errors.Is(err, lost) {
			t.Fatalf("%v, want %v", err, lost)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if h := w.healthOf(hook.ID); !h.Failing() {
			t.Errorf("after more failures it is %+v", h)
		}
	})
}
