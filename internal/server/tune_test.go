package server

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// A server that needs more memory than the limit is not made to collect garbage all the time, and one in a container stays in it.
func TestMemoryLimit(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct{ live, most, want int64 }{
		{0, 0, 128}, {64, 0, 128}, {100, 0, 150}, {1024, 0, 1536},
		{0, 4096, 128}, {1024, 4096, 1536},
		{0, 128, 64}, {40, 128, 64}, {60, 128, 90}, {100, 128, 115}, // half of a small container, or what is needed
	} {
		if got := limitFor(tc.live*mib, tc.most*mib); got/mib != tc.want {
			t.Errorf("%d MiB in use, of %d: a limit of %d MiB, want %d", tc.live, tc.most, got/mib, tc.want)
		}
	}
}

// A busy server lets garbage pile up, and gives the memory back some seconds after it was busy.
func TestIdleServerGivesMemoryBack(t *testing.T) {
	for calm, want := range []int{0: 800, 4: 800, 5: 150, 6: 150} {
		if got := percentAfter(calm); want != 0 && got != want {
			t.Errorf("after %d calm intervals: %d, want %d", calm, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		t.Setenv("GOGC", "")
		t.Setenv("GOMEMLIMIT", "")
		ctx, stop := context.WithCancel(t.Context())
		go keepMemory(ctx)
		percent := func() int {
			now := debug.SetGCPercent(idlePercent) // returns the one before
			debug.SetGCPercent(now)
			return now
		}
		var kept []byte
		for range 3 {
			kept = make([]byte, 2*busyBytes*int(memoryInterval/time.Second))
			time.Sleep(memoryInterval)
			synctest.Wait()
		}
		runtime.KeepAlive(kept)
		if got := percent(); got != busyPercent {
			t.Errorf("busy: %d", got)
		}
		time.Sleep((calmIntervals + 1) * memoryInterval)
		synctest.Wait()
		if got := percent(); got != idlePercent {
			t.Errorf("idle again: %d", got)
		}
		stop()
		synctest.Wait()
	})
}
