package engine

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestProbeWaitsOnce: an attempt that was in flight when the endpoint became failing does not put the next probe off, though the clock was set
// back since the probe's time was fixed.
func TestProbeWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer SetWallClock(0)
		now := utcNow()
		failing := Health{Failures: 9, FirstFailedAt: now, FailingSince: now, Probes: 6, NextProbeAt: now.Add(5 * time.Minute)}
		var h endpointHealth
		h.set(failing)
		probeAt := h.probeAt
		if got := time.Until(probeAt); got != 5*time.Minute {
			t.Fatalf("the probe is in %v", got)
		}
		time.Sleep(4 * time.Minute)
		SetWallClock(-time.Hour)
		failing.Failures++
		h.attempted(failing)
		if !h.probeAt.Equal(probeAt) {
			t.Errorf("the probe was put off by %v", h.probeAt.Sub(probeAt))
		}
	})
}

// TestRefusalOfAnotherURL: refusals of the URL before do not make an attempt late that had its turn then, and was sent to the URL of now.
func TestRefusalOfAnotherURL(t *testing.T) {
	l := newLanes(func(Lane) laneLimits { return laneLimits{inFlight: 1} }, 0)
	w := &Webhook{ID: 1, URL: "https://a.example/"}
	refused := &Attempt{Outcome: Outcome{Status: http.StatusTooManyRequests, Error: ErrorStatus}}
	ln := l.laneLocked(Lane{WebhookID: 1})
	for range 3 {
		l.attempted(w, &claim{lane: ln, round: ln.round}, refused, utcNow())
	}
	c := &claim{lane: ln, round: ln.round}
	w.URL = "https://b.example/"
	l.resetHealth(w)
	if _, h, _ := l.attempted(w, c, refused, utcNow()); h.Throttle.Refusals != 1 {
		t.Errorf("%d refusals, want that of the new URL: %+v", h.Throttle.Refusals, h)
	}
}

// ended records an attempt of a claim that has ended with that status, and returns the health after it.
func ended(l *lanes, w *Webhook, c *claim, status int, retryAfter time.Duration) Health {
	a := &Attempt{Outcome: Outcome{Status: status, RetryAfter: retryAfter}}
	if status != http.StatusOK {
		a.Error = ErrorStatus
	}
	_, h, _ := l.attempted(w, c, a, utcNow())
	return h
}

// TestRefusalAfterThrottle: an attempt that the throttle has slowed down, and that is refused once the throttle has ended, says nothing about
// how much the endpoint takes: the lane does not fall to the lowest rate.
func TestRefusalAfterThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(func(Lane) laneLimits { return laneLimits{inFlight: 100} }, 100)
		w := &Webhook{ID: 1, URL: "https://a.example/"}
		ln := l.laneLocked(Lane{WebhookID: 1})
		ln.health.url = w.URL
		ln.health.set(Health{Throttle: Throttle{HeldUntil: utcNow(), Ceiling: 50, Known: true}})
		for range 10 * manyAccepted {
			time.Sleep(100 * time.Millisecond)
			ended(l, w, &claim{lane: ln, throttled: 50}, http.StatusOK, 0)
		}
		slow := &claim{lane: ln, throttled: 200}
		time.Sleep(throttlePeriods * minCeilingTime)
		if h := ended(l, w, &claim{lane: ln}, http.StatusOK, 0); h.Throttle != (Throttle{}) {
			t.Fatalf("the throttle has not ended: %+v", h)
		}
		if h := ended(l, w, slow, http.StatusTooManyRequests, 0); h.Throttle.Ceiling != 0 && h.Throttle.Ceiling < 1 {
			t.Errorf("the lane is slowed down to %v a second", h.Throttle.Ceiling)
		}
	})
}

// TestLateSuccessKeepsGuess: an attempt that is accepted after the refusal of others is counted, and what was a guess at the refusal stays one.
func TestLateSuccessKeepsGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(func(Lane) laneLimits { return laneLimits{inFlight: 100} }, 100)
		w := &Webhook{ID: 1, URL: "https://a.example/"}
		ln := l.laneLocked(Lane{WebhookID: 1})
		ln.health.url = w.URL
		ln.health.set(Health{Throttle: Throttle{HeldUntil: utcNow(), Ceiling: 2}})
		late := &claim{lane: ln, throttled: 100}
		for range 10 {
			time.Sleep(time.Second)
			ended(l, w, &claim{lane: ln, throttled: 100}, http.StatusOK, 0)
		}
		before := ended(l, w, &claim{lane: ln, throttled: 100}, http.StatusTooManyRequests, 0).Throttle.Ceiling
		if after := ended(l, w, late, http.StatusOK, 0).Throttle.Ceiling; after < before || after > 2*before {
			t.Errorf("the ceiling was %v, and is %v after a late success", before, after)
		}
	})
}

// TestTestDuringHold: a test that is refused during a hold does not shorten it, and one that is accepted does not end it.
func TestTestDuringHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(func(Lane) laneLimits { return laneLimits{inFlight: 1} }, 1)
		w := &Webhook{ID: 1, URL: "https://a.example/"}
		ln := l.laneLocked(Lane{WebhookID: 1})
		held := ended(l, w, &claim{lane: ln}, http.StatusServiceUnavailable, time.Hour).Throttle
		time.Sleep(time.Minute)
		for _, status := range []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusOK} {
			test := &claim{lane: l.laneLocked(Lane{1, true}), round: ln.round}
			if got := ended(l, w, test, status, 0).Throttle; !got.HeldUntil.Equal(held.HeldUntil) || got.Ceiling != held.Ceiling {
				t.Errorf("after a test answered %d: %+v, want %+v", status, got, held)
			}
		}
	})
}

// TestEarlierSlot: a claim that waits for the slot of a throttle is sent at that of the rate limit once the throttle has ended.
func TestEarlierSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(func(Lane) laneLimits { return laneLimits{inFlight: 2, rate: 1} }, 2)
		ln := l.laneLocked(Lane{WebhookID: 1})
		ln.health.set(Health{Throttle: Throttle{HeldUntil: utcNow(), Ceiling: minRate, Known: true}})
		first, second := &claim{lane: ln, turn: make(chan bool, 1)}, &claim{lane: ln, turn: make(chan bool, 1)}
		ln.readyQueue = []*claim{first, second}
		ln.claimed = 2
		for _, c := range []*claim{first, second} {
			go l.acquire(t.Context(), c)
		}
		synctest.Wait()
		if ln.sending != 1 {
			t.Fatalf("%d are sent", ln.sending)
		}
		l.mu.Lock()
		l.setHealthLocked(ln, Health{})
		l.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		if ln.sending != 2 {
			t.Error("the claim waits for a slot of the throttle that has ended")
		}
	})
}

// TestTestOfThrottled: a test that is refused while the lane is slowed down leaves what is known of the endpoint's ceiling.
func TestTestOfThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(func(Lane) laneLimits { return laneLimits{inFlight: 1} }, 1)
		w := &Webhook{ID: 1, URL: "https://a.example/"}
		ln := l.laneLocked(Lane{WebhookID: 1})
		ln.health.url = w.URL
		ln.health.set(Health{Throttle: Throttle{HeldUntil: utcNow(), Ceiling: 10, Known: true}})
		time.Sleep(time.Second)
		tests := l.laneLocked(Lane{1, true})
		c := &claim{lane: tests, turn: make(chan bool, 1)}
		tests.readyQueue, tests.claimed = []*claim{c}, 1
		if !l.acquire(t.Context(), c) {
			t.Fatal("the test is not sent")
		}
		if got := ended(l, w, c, http.StatusTooManyRequests, 0).Throttle; !got.Known || got.Ceiling < 5 {
			t.Errorf("the ceiling is %v, known %t", got.Ceiling, got.Known)
		}
	})
}

// TestNoRecoveryUnannounced: an endpoint that takes the first attempt after a long hold was never said to be failing, so it does not recover.
func TestNoRecoveryUnannounced(t *testing.T) {
	e := new(Engine)
	e.snapshot.Store(&snapshot{cfg: DefaultConfig()})
	w := &Webhook{ID: 1, URL: "https://a.example/"}
	now := utcNow()
	refused := Health{}.After(&Attempt{Outcome: Outcome{Status: http.StatusTooManyRequests, Error: ErrorStatus}}, now.Add(-2*e.config().FailingAfter))
	ok := &Attempt{Outcome: Outcome{Status: http.StatusOK}}
	if notice := e.healthNotice(w, refused, refused.After(ok, now), ok, now); notice != nil {
		t.Errorf("got %s", notice)
	}
	refused.Notified = true
	if e.healthNotice(w, refused, refused.After(ok, now), ok, now) == nil {
		t.Error("the end of what was announced is not told")
	}
}
