package engine

import (
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
