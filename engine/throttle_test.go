package engine_test

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
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

// counts returns how many requests were taken and refused so far.
func (q *quota) counts() (taken, refused int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.taken, q.refused
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

// liar asks for a wait of one second, whatever the quota is.
func liar(allow func(time.Time) (bool, float64)) func(time.Time) (bool, float64) {
	return func(now time.Time) (bool, float64) {
		ok, _ := allow(now)
		return ok, 1
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
		{"5 a second, evenly", func() func(time.Time) (bool, float64) { return bucket(5, 1) }, 20 * ms, false, 1600, 5 * time.Minute, 1500},
		{"5 in each second", func() func(time.Time) (bool, float64) { return fixedWindow(5, time.Second) }, 20 * ms, false, 300, 45 * time.Second, 225},
		{"5 in any second", func() func(time.Time) (bool, float64) { return slidingWindow(5, time.Second) }, 20 * ms, false, 300, 45 * time.Second, 225},
		{"1 a second", func() func(time.Time) (bool, float64) { return bucket(1, 1) }, 100 * ms, false, 700, 10 * time.Minute, 600},
		{"0.2 a second", func() func(time.Time) (bool, float64) { return liar(bucket(0.2, 1)) }, 20 * ms, false, 900, time.Hour, 720},
		{"60 in each minute", func() func(time.Time) (bool, float64) { return fixedWindow(60, time.Minute) }, 20 * ms, false, 1300, 20 * time.Minute, 1200},
		{"10 in each minute", func() func(time.Time) (bool, float64) { return fixedWindow(10, time.Minute) }, 20 * ms, false, 700, time.Hour, 600},
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
				taken, refused := q.counts()
				t.Logf("%d taken of %d, %d refused", taken, tt.allowed, refused)
				if used := float64(taken) / float64(tt.allowed); used < 0.9 {
					t.Errorf("%.0f %% of the quota were used, want 90", used*100)
				}
				// The goal is 10. Which of several attempts of one instant comes first differs from run to run.
				if share := float64(refused) / float64(taken+refused); share > 0.12 {
					t.Errorf("%.0f %% of the attempts were refused, want 12 at most", share*100)
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

// refusing answers the first n requests with a refusal of load, and all others with 200.
func refusing(n int, status int, header ...string) func(received, *http.Request) (*http.Response, error) {
	var mu sync.Mutex
	return func(received, *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if n--; n >= 0 {
			return answer(status, header...), nil
		}
		return answer(200), nil
	}
}

// A refusal holds the whole lane, across a restart, too, and nobody loses a try. Tests are sent all the same, and a retry by hand ends the hold.
func TestHeldLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://busy.example/","delay":0,"max_in_flight":1}`)
		w.webhook(`{"url":"https://free.example/","delay":0}`)
		w.net.answer = func(r received, req *http.Request) (*http.Response, error) {
			if r.host == "free.example" {
				return answer(200), nil
			}
			return answer(503, "Retry-After", "600"), nil
		}
		began := time.Now()
		w.sessions(5)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n, free := len(w.net.to("busy.example")), len(w.net.to("free.example")); n != 1 || free != 5 {
			t.Fatalf("%d sent to the endpoint that refuses load, %d to another one; want 1 and 5", n, free)
		}
		health := w.health(hook.ID)
		if rate, throttled := health.Throttled(time.Now()); !throttled || rate != 0 || !health.Throttle.HeldUntil.Equal(began.Add(600*time.Second)) || health.Failing() {
			t.Errorf("health %+v", health)
		}
		o, err := w.Overview(t.Context())
		if err != nil || o.Webhooks.Throttled != 1 || o.Webhooks.Active != 1 || o.StalledFor > 0 {
			t.Errorf("overview %+v, %v", o, err)
		}
		if n := w.metric("hookbolt_attempts_refused_total", ""); n != 1 {
			t.Errorf("%v refused attempts are counted", n)
		}
		test, err := w.TestWebhook(t.Context(), hook.ID)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(w.net.to("busy.example")); n != 2 {
			t.Errorf("%d sent after a test", n)
		}
		if _, err := w.Cancel(t.Context(), test.ID); err != nil {
			t.Fatal(err)
		}
		w.restart()
		time.Sleep(8 * time.Minute)
		synctest.Wait()
		if n := len(w.net.to("busy.example")); n != 2 {
			t.Errorf("%d sent during the hold", n)
		}
		w.net.answer = nil
		waiting := w.list(engine.DeliveryQuery{WebhookID: hook.ID, Status: engine.StatusPending})
		if len(waiting) == 0 {
			t.Fatal("nothing waits")
		}
		if _, err := w.Retry(t.Context(), waiting[0].ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, d := range w.list(engine.DeliveryQuery{WebhookID: hook.ID}) {
			if d.Kind != engine.KindTest && (d.Status != engine.StatusDelivered && d.NextAttemptAt.Before(time.Now()) || d.Tries > 0 && d.Attempts > 1) {
				t.Errorf("after a retry by hand: %+v", d)
			}
		}
	})
}

// An endpoint that refuses one delivery only gets all others, and the one ends by the retry schedule.
func TestOneDeliveryIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) { c.Retry.Schedule = []engine.Duration{engine.Duration(time.Minute)} })
		w.webhook(`{"url":"https://picky.example/","delay":0}`)
		var mu sync.Mutex
		refused := ""
		w.net.answer = func(r received, _ *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if refused == "" {
				refused = r.id
			}
			if r.id == refused {
				return answer(429, "Retry-After", "1"), nil
			}
			return answer(200), nil
		}
		w.sessions(50)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 49 {
			t.Errorf("%d of 49 others are delivered after two minutes", n)
		}
		for range 48 { // others come in meanwhile, so that the endpoint works
			time.Sleep(30 * time.Minute)
			w.session()
		}
		synctest.Wait()
		d := w.only(engine.DeliveryQuery{Status: engine.StatusFailed})
		if d.ID.String() != refused || d.Attempts < 102 || d.Attempts > 160 || d.Tries != 1 {
			t.Errorf("got %+v", d)
		}
	})
}

// An endpoint that refuses everything is left alone for longer and longer, and its webhook is paused in the end; nothing is lost.
func TestEverythingIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://full.example/","delay":0}`)
		w.net.answer = refusing(1<<30, 429, "Retry-After", "1")
		w.sessions(3)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.net.all()); n > 30 {
			t.Errorf("%d attempts in an hour", n)
		}
		if h := w.health(hook.ID); h.Failing() {
			t.Error("it is failing")
		}
		time.Sleep(121 * time.Hour)
		synctest.Wait()
		paused, err := w.Webhook(hook.ID)
		if err != nil || !paused.Paused {
			t.Fatalf("it is not paused: %+v, %v", paused, err)
		}
		w.net.answer = nil
		w.patch(hook.ID, `{"paused":false}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 3 {
			t.Errorf("%d of 3 are delivered once it works", n)
		}
	})
}

// 502 and 504 use a try, as any failure does, and slow the lane down: after one of them there is less in flight.
func TestGatewayUnderLoad(t *testing.T) {
	for _, status := range []int{502, 504} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.webhook(`{"url":"https://gateway.example/","delay":0}`)
			var mu sync.Mutex
			sent, inFlight, most := 0, 0, 0
			w.net.answer = func(received, *http.Request) (*http.Response, error) {
				mu.Lock()
				sent++
				n := sent
				if inFlight++; n > 165 && n < 190 {
					most = max(most, inFlight)
				}
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				inFlight--
				if n == 100 {
					return answer(status), nil
				}
				return answer(200), nil
			}
			w.sessions(300)
			time.Sleep(4 * time.Second)
			synctest.Wait()
			time.Sleep(time.Minute)
			synctest.Wait()
			if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 300 {
				t.Errorf("%d: %d of 300 are delivered", status, n)
			}
			if most > 20 {
				t.Errorf("%d: %d in flight afterwards", status, most)
			}
			tries := 0
			for _, d := range w.list(engine.DeliveryQuery{}) {
				tries += d.Tries
			}
			if tries != 1 {
				t.Errorf("%d: %d tries were used, want 1", status, tries)
			}
		})
	}
}

// A share of 502 from one of many servers makes a webhook a little slower, not slower and slower.
func TestSomeServersAreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) {
			c.Retry.Schedule = []engine.Duration{engine.Duration(time.Second), engine.Duration(time.Second), engine.Duration(time.Second)}
		})
		var mu sync.Mutex
		sent := 0
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			mu.Lock()
			sent++
			bad := sent%20 == 0
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			if bad {
				return answer(502), nil
			}
			return answer(200), nil
		}
		w.webhook(`{"url":"https://many.example/","delay":0}`)
		w.sessions(1000)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 1000 {
			t.Errorf("%d of 1000 are delivered in 10 s", n)
		}
	})
}

// A quota that is raised is found out.
func TestQuotaIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		low, high, began := bucket(5, 5), bucket(50, 50), time.Now()
		q := &quota{latency: 20 * time.Millisecond, allow: func(now time.Time) (bool, float64) {
			if now.Sub(began) < 40*time.Second {
				return low(now)
			}
			return high(now)
		}}
		w.net.answer = q.answer
		w.webhook(`{"url":"https://quota.example/","delay":0}`)
		w.sessions(1000)
		time.Sleep(150 * time.Second)
		synctest.Wait()
		if taken, _ := q.counts(); taken < 1000 { // 5 a second for 40 s, and 7 for the rest
			t.Errorf("%d are taken 110 s after the quota rose from 5 to 50 a second", taken)
		}
	})
}

// The beat of a rate limit survives a restart, also one after a kill.
func TestRateLimitAcrossRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://slow.example/","delay":0,"rate_limit":0.01}`)
		w.webhook(`{"url":"https://fast.example/","delay":0,"rate_limit":5}`)
		began := time.Now()
		w.sessions(4)
		for range 19 {
			time.Sleep(17 * time.Second)
			synctest.Wait()
			w.restart()
		}
		synctest.Wait()
		got := w.net.to("slow.example")
		if len(got) != 4 {
			t.Fatalf("%d of 4 sent", len(got))
		}
		for i, r := range got {
			if early := time.Duration(i)*100*time.Second - r.at.Sub(began); early > 20*time.Millisecond || early < -time.Second {
				t.Errorf("number %d at %v", i, r.at.Sub(began))
			}
		}
		if n := len(w.net.to("fast.example")); n != 4 {
			t.Errorf("%d of 4 sent to another one", n)
		}
	})
}

// The slots of a throttle end with it: the first attempt after the next sign of load waits for none.
func TestThrottleLeavesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const slow, probe = 10, 10 + 5
		sent := 0
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			n := sent
			sent++
			latency := time.Millisecond
			if n < slow {
				latency = time.Second // so that the lane is slowed down to about one attempt a second
			}
			time.Sleep(latency)
			switch {
			case n == slow, n == probe+1:
				return answer(502), nil
			case n > slow && n < probe: // with the 502 they make the endpoint failing
				return answer(500), nil
			}
			return answer(200), nil
		}
		w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1,"retry_schedule":["10h"]}`)
		w.sessions(40)
		time.Sleep(10 * time.Minute)
		all := w.net.all()
		if wait := all[probe].at.Sub(all[probe-1].at); wait < 5*time.Second {
			t.Fatalf("the probe began after %v", wait)
		}
		if wait := all[probe+2].at.Sub(all[probe+1].at); wait != time.Millisecond {
			t.Errorf("the attempt after the second 502 began %v after it, want it as soon as that one had ended", wait)
		}
	})
}

// A delivery that is cancelled at its turn leaves its slot to the next one.
func TestThrottledSlotIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sent := 0
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			if sent++; sent <= 6 {
				time.Sleep(2 * time.Second)
			}
			if sent == 6 {
				return answer(429, "Retry-After", "5"), nil
			}
			return answer(200), nil
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		w.sessions(20)
		for len(w.net.all()) < 8 { // the sixth was refused, two have followed at the pace that this has led to
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		last := w.net.all()[7].at
		health := w.health(hook.ID)
		rate, _ := health.Throttled(last)
		slot := last.Add(time.Duration(float64(time.Second) / rate))
		time.Sleep(time.Until(slot.Add(-100 * time.Millisecond)))
		synctest.Wait() // the next one is claimed
		waiting := w.list(engine.DeliveryQuery{Status: engine.StatusPending})
		next := slices.MinFunc(waiting, func(a, b engine.Delivery) int {
			return cmp.Or(a.NextAttemptAt.Compare(b.NextAttemptAt), cmp.Compare(a.ID.String(), b.ID.String()))
		})
		if _, err := w.Cancel(t.Context(), next.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		all := w.net.all()
		if late := all[8].at.Sub(slot); rate == 0 || late < -time.Millisecond || late > 10*time.Millisecond || all[8].id == next.ID.String() {
			t.Errorf("at %v a second, the attempt after a cancelled one began %v after the slot", rate, late)
		}
	})
}

// Time in which there was little to send says nothing about how much the endpoint takes.
func TestQuotaAfterQuietTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		q := &quota{latency: 20 * time.Millisecond, allow: bucket(5, 5)}
		w.net.answer = q.answer
		w.webhook(`{"url":"https://quota.example/","delay":0}`)
		w.sessions(150)
		time.Sleep(40 * time.Second)
		for range 25 {
			time.Sleep(3 * time.Second)
			w.session()
		}
		before, _ := q.counts()
		w.sessions(300)
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if taken, _ := q.counts(); taken-before < 150 {
			t.Errorf("%d are taken in 100 s", taken-before)
		}
	})
}
