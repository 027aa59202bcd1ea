package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

// TestHistory counts over two minutes and looks back in steps of both lengths.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		time.Sleep(30 * time.Second) // into 00:00:30
		h.accepted(3)
		h.finished(StatusDelivered, 1)
		d := &Delivery{ID: uuid.New(), WebhookID: 7}
		for range 99 {
			h.attempted(d, &Attempt{Outcome: Outcome{Status: 200}}, 7*time.Millisecond)
		}
		h.attempted(d, &Attempt{Outcome: Outcome{Status: 503, Error: ErrorStatus}}, 20*time.Second)
		time.Sleep(time.Minute)
		h.accepted(2)
		h.finished(StatusFailed, 1)
		h.finished(StatusCancelled, 4)
		h.retried()
		h.attempted(d, &Attempt{Outcome: Outcome{Status: 503, Error: ErrorStatus}}, -1)

		now := utcNow()
		list, _ := h.intervalsLocked(now, time.Minute, 60, nil)
		if len(list) != 60 || !list[59].Start.Equal(now.Truncate(time.Minute)) || !list[0].Start.Equal(list[59].Start.Add(-59*time.Minute)) {
			t.Fatalf("%d intervals from %v to %v", len(list), list[0].Start, list[59].Start)
		}
		first, second := list[58], list[59]
		if first.Accepted != 3 || first.Delivered != 1 || first.Attempted != 100 || first.LagMax != 20*time.Second {
			t.Errorf("first minute %+v", first)
		}
		// 7 ms lies between 5 and 10, 20 s between 10 and the greatest.
		if first.LagP50 < 5*time.Millisecond || first.LagP50 > 10*time.Millisecond || first.LagP99 > 10*time.Millisecond {
			t.Errorf("p50 %v, p99 %v", first.LagP50, first.LagP99)
		}
		if want := (Interval{Start: second.Start, Accepted: 2, Failed: 1, Cancelled: 4, Retried: 1}); second != want {
			t.Errorf("second minute %+v, want %+v", second, want)
		}
		for _, in := range list[:58] {
			if in != (Interval{Start: in.Start}) {
				t.Errorf("something at %v: %+v", in.Start, in)
			}
		}
		day, _ := h.intervalsLocked(now, 10*time.Minute, 144, nil)
		if got := day[143]; got.Accepted != 5 || got.Attempted != 100 {
			t.Errorf("the day's last ten minutes: %+v", got)
		}

		// A day later nothing of it is seen, and what is counted then does not mix with it.
		time.Sleep(HistoryMinutes * time.Minute)
		h.accepted(1)
		sum := int64(0)
		day, _ = h.intervalsLocked(utcNow(), 10*time.Minute, 144, nil)
		for _, in := range day {
			sum += in.Accepted
		}
		if sum != 1 {
			t.Errorf("%d accepted in the last day, want 1", sum)
		}
	})
}

// TestHistoryClocks asks at times that a clock may be set to.
func TestHistoryClocks(t *testing.T) {
	h := newHistory()
	h.accepted(1)
	for _, now := range []time.Time{time.Unix(0, 0), time.Unix(-1e6, 0), time.Now().AddDate(100, 0, 0)} {
		day, _ := h.intervalsLocked(now, 10*time.Minute, 144, nil)
		for _, in := range day {
			if in.Accepted != 0 {
				t.Errorf("at %v: %+v", now, in)
			}
		}
	}
}

// TestHistoryClockSetBack shows that what was counted under a clock that was ahead does not come up as new when the time has come.
func TestHistoryClockSetBack(t *testing.T) {
	sum := func(h *history, now time.Time) (n int64) {
		list, since := h.intervalsLocked(now, 10*time.Minute, 144, nil)
		for _, in := range list {
			n += in.Accepted
		}
		if since.After(now) {
			t.Errorf("at %v it has counted since %v", now, since)
		}
		return n
	}
	// Between five past an hour and eight past it, in one interval; and from an hour to the one before.
	for _, back := range []time.Duration{3 * time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory()
			right := utcNow().Add(5 * time.Minute)
			h.since = right.Add(back)
			time.Sleep(right.Add(back).Sub(utcNow()))
			h.accepted(100)
			if n := sum(h, right.Add(back)); n != 100 {
				t.Fatalf("%d before the clock is set back", n)
			}
			if n := sum(h, right); n != 0 {
				t.Errorf("%d after it", n)
			}
			if n := sum(h, right.Add(back)); n != 0 {
				t.Errorf("%d when the time has come", n)
			}
		})
	}
	// What was counted before stays.
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		h.accepted(1)
		time.Sleep(time.Hour)
		h.accepted(100)
		if n := sum(h, utcNow().Add(-30*time.Minute)); n != 1 {
			t.Errorf("%d, want what was counted an hour ago", n)
		}
	})
}

func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory()
		a, b := &Delivery{ID: uuid.New(), WebhookID: 1}, &Delivery{ID: uuid.New(), WebhookID: 1}
		at := utcNow()
		h.attempted(a, &Attempt{Outcome: Outcome{Status: 204}}, 3*time.Millisecond)
		time.Sleep(time.Second)
		h.attempted(b, &Attempt{Outcome: Outcome{Error: ErrorTimeout}}, -1)
		want := Recent{AttemptedAt: at.Add(time.Second), DeliveryID: b.ID, Error: ErrorTimeout, DeliveredAt: at, Lag: 3 * time.Millisecond, LagAt: at}
		if got := *h.recent[1]; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		h.attempted(&Delivery{ID: a.ID, WebhookID: 1, Kind: KindTest}, &Attempt{Outcome: Outcome{Status: 204}}, time.Millisecond)
		want.DeliveryID, want.Status, want.Error, want.DeliveredAt = a.ID, 204, "", want.AttemptedAt
		if got := *h.recent[1]; got != want {
			t.Errorf("after a test: got %+v, want %+v", got, want)
		}
		h.forget(1)
		if h.recent[1] != nil {
			t.Error("it is not forgotten")
		}
	})
}

func TestLagQuantile(t *testing.T) {
	var l LagCounts
	if l.quantile(.5) != 0 {
		t.Error("none has a median")
	}
	l.Counts[len(lagBounds)], l.Longest = 10, 4*time.Hour // beyond the last bound
	for q, want := range map[float64]time.Duration{.5: 3 * time.Hour, 1: 4 * time.Hour} {
		if got := l.quantile(q); got != want {
			t.Errorf("%v: got %v, want %v", q, got, want)
		}
	}
}
