package bolt

import (
	"testing"
	"time"
)

// The writer waits where many come, though not many at once, and not for callers that wait for it themselves.
func TestPatience(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		n      int
		period time.Duration
		want   bool
	}{
		{1, 100 * time.Microsecond, false}, // one caller after another
		{2, 100 * time.Microsecond, false},
		{6, 10 * time.Millisecond, false}, // few a second
		{3, time.Hour, false},             // a first burst
		{6, 6 * time.Millisecond, true},
		{6, 6*time.Millisecond + time.Microsecond, false},
		{23, 4 * time.Millisecond, true},
		{24, 4 * time.Millisecond, false}, // enough
	} {
		if p := (patience{began: now.Add(-tc.period), took: quickCommit - 1}); p.waits(tc.n, now) {
			t.Errorf("%d in %v: it waits, though commits take no time", tc.n, tc.period)
		}
		p := patience{began: now.Add(-tc.period), took: quickCommit}
		if got := p.waits(tc.n, now); got != tc.want {
			t.Errorf("%d in %v: waits %t, want %t", tc.n, tc.period, got, tc.want)
		}
	}
}

// Eight callers that each wait for their commit are all there is: after waits that brought nothing it waits ever more seldom, and again when
// a wait brings something.
func TestPatienceLearns(t *testing.T) {
	now := time.Now()
	p := patience{began: now, took: time.Millisecond}
	waits := 0
	for range 1000 {
		p.began = now.Add(-time.Millisecond)
		if p.waits(8, now) {
			waits++
			p.waited(1)
		}
	}
	if waits < 10 || waits > 25 { // after 1, 2, 4 … 64 batches, and then each 65th
		t.Errorf("it waited in vain %d times in 1,000 batches", waits)
	}
	for !p.waits(8, now) {
	}
	p.waited(5)
	for range 10 {
		if !p.waits(8, now) {
			t.Error("it does not wait, though that brings something")
		}
		p.waited(5)
	}
}
