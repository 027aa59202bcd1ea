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
