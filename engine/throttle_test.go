package engine_test

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// quota is an endpoint that takes a number of requests in a time, and refuses what is more with 429.
type quota struct {
	latency time.Duration
	// allow reports whether a request is taken, and else after how many seconds one may be.
	allow func(now time.Time) (ok bool, wait float64)
	// silent leaves Retry-After out.
	silent bool

	mu             sync.Mutex
	taken, refused int
}

func (q *quota) answer(received, *http.Request) (*http.Response, error) {
	q.mu.Lock()
	ok, wait := q.allow(time.Now())
	if ok {
		q.taken++
	} else {
		q.refused++
	}
	q.mu.Unlock()
	time.Sleep(q.latency)
	switch {
	case ok:
		return answer(200), nil
	case q.silent:
		return answer(429), nil
	}
	return answer(429, "Retry-After", fmt.Sprint(max(1, int(math.Ceil(wait))))), nil
}

// bucket is a token bucket, full at first.
func bucket(rate, burst float64) func(time.Time) (bool, float64) {
	tokens, at := burst, time.Now()
	return func(now time.Time) (bool, float64) {
		tokens, at = min(burst, tokens+rate*now.Sub(at).Seconds()), now
		if tokens < 1 {
			return false, (1 - tokens) / rate
		}
		tokens--
		return true, 0
	}
}

// fixedWindow takes n requests in each span.
func fixedWindow(n int, span time.Duration) func(time.Time) (bool, float64) {
	start, used := time.Now(), 0
	return func(now time.Time) (bool, float64) {
		if passed := now.Sub(start); passed >= span {
			start, used = start.Add(passed/span*span), 0
		}
		if used == n {
			return false, start.Add(span).Sub(now).Seconds()
		}
		used++
		return true, 0
	}
}

// slidingWindow takes n requests in any span of that length.
func slidingWindow(n int, span time.Duration) func(time.Time) (bool, float64) {
	var taken []time.Time
	return func(now time.Time) (bool, float64) {
		for len(taken) > 0 && now.Sub(taken[0]) >= span {
			taken = taken[1:]
		}
		if len(taken) == n {
			return false, taken[0].Add(span).Sub(now).Seconds()
		}
		taken = append(taken, now)
		return true, 0
	}
}

// An endpoint with a quota, and more waiting than it takes: most of the quota is used, few attempts are refused, and none of them uses a try.
func TestQuota(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name    string
		allow   func() func(time.Time) (bool, float64)
		latency time.Duration
		silent  bool
		waiting int
		span    time.Duration
		allowed int // in span
	}{
		{"5 a second", func() func(time.Time) (bool, float64) { return bucket(5, 5) }, 20 * ms, false, 300, 45 * time.Second, 225},
		{"5 a second without Retry-After", func() func(time.Time) (bool, float64) { return bucket(5, 5) }, 20 * ms, true, 300, 45 * time.Second, 225},
		{"5 a second and slow", func() func(time.Time) (bool, float64) { return bucket(5, 5) }, 700 * ms, false, 300, 45 * time.Second, 225},
		{"5 a second, evenly", func() func(time.Time) (bool, float64) { return bucket(5, 1) }, 20 * ms, false, 1000, 190 * time.Second, 950},
		{"5 in each second", func() func(time.Time) (bool, float64) { return fixedWindow(5, time.Second) }, 20 * ms, false, 300, 45 * time.Second, 225},
		{"5 in any second", func() func(time.Time) (bool, float64) { return slidingWindow(5, time.Second) }, 20 * ms, false, 300, 45 * time.Second, 225},
		{"1 a second", func() func(time.Time) (bool, float64) { return bucket(1, 1) }, 100 * ms, false, 700, 10 * time.Minute, 600},
		{"60 in each minute", func() func(time.Time) (bool, float64) { return fixedWindow(60, time.Minute) }, 20 * ms, false, 700, 10 * time.Minute, 600},
		{"10 in each minute", func() func(time.Time) (bool, float64) { return fixedWindow(10, time.Minute) }, 20 * ms, false, 400, 30 * time.Minute, 300},
		{"50 a second", func() func(time.Time) (bool, float64) { return bucket(50, 50) }, 20 * ms, false, 800, 15 * time.Second, 750},
		{"600 in each hour", func() func(time.Time) (bool, float64) { return fixedWindow(600, time.Hour) }, 20 * ms, false, 1300, 2 * time.Hour, 1200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				q := &quota{latency: tt.latency, silent: tt.silent, allow: tt.allow()}
				w.net.answer = q.answer
				w.webhook(`{"url":"https://quota.example/","delay":0}`)
				w.sessions(tt.waiting)
				time.Sleep(tt.span)
				synctest.Wait()
				q.mu.Lock()
				taken, refused := q.taken, q.refused
				q.mu.Unlock()
				t.Logf("%d taken of %d, %d refused", taken, tt.allowed, refused)
				if used := float64(taken) / float64(tt.allowed); used < 0.9 {
					t.Errorf("%.0f %% of the quota were used, want 90", used*100)
				}
				if share := float64(refused) / float64(taken+refused); share > 0.1 {
					t.Errorf("%.0f %% of the attempts were refused, want 10 at most", share*100)
				}
				for _, d := range w.list(engine.DeliveryQuery{}) {
					if d.Tries > 0 && d.Status.Waiting() {
						t.Fatalf("a delivery has used %d tries: %+v", d.Tries, d)
					}
				}
			})
		})
	}
}
