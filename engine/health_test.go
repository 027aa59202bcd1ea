package engine_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

func TestHealthAfter(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := start
	var h engine.Health
	fail := func(probe bool) {
		h = h.After(&engine.Attempt{Outcome: engine.Outcome{StartedAt: at, Error: engine.ErrorTimeout}, Probe: probe}, at)
	}
	for i := range 4 {
		at = start.Add(time.Duration(i) * time.Minute)
		fail(false)
	}
	if h.Failing() || h.Failures != 4 || !h.FirstFailedAt.Equal(start) {
		t.Fatalf("after four failures: %+v", h)
	}
	if h.After(&engine.Attempt{Outcome: engine.Outcome{Status: 200}}, at) != (engine.Health{}) {
		t.Error("a success is not the end of the failures")
	}
	for _, a := range []engine.Attempt{{Outcome: engine.Outcome{Error: engine.ErrorInternal}}, {Outcome: engine.Outcome{Status: 401, Error: engine.ErrorStatus, TokenRejected: true}}} {
		if h.After(&a, at) != h {
			t.Errorf("%+v says nothing of the endpoint, and counts", a)
		}
	}
	fail(false)
	if !h.Failing() || !h.FailingSince.Equal(at) || !h.NextProbeAt.Equal(at.Add(5*time.Second)) {
		t.Fatalf("after the fifth: %+v", h)
	}
	// What was under way when it became failing makes no probe.
	since := at
	at = at.Add(3 * time.Second)
	fail(false)
	if h.Probes != 0 || h.Failures != 6 || !h.NextProbeAt.Equal(since.Add(5*time.Second)) {
		t.Errorf("a straggler is taken for a probe: %+v", h)
	}
	for _, wait := range []int{10, 20, 40, 80, 160, 300, 300, 300} {
		at = h.NextProbeAt.Add(time.Second)
		fail(true)
		if got := h.NextProbeAt.Sub(at); got != time.Duration(wait)*time.Second {
			t.Errorf("probe %d: the next one in %v, want %ds", h.Probes, got, wait)
		}
	}
	// A probe that could not be made shows nothing, but the next one waits as long.
	failures, probes := h.Failures, h.Probes
	at = h.NextProbeAt.Add(time.Second)
	h = h.After(&engine.Attempt{Outcome: engine.Outcome{Error: engine.ErrorInternal}, Probe: true}, at)
	if got := h.NextProbeAt.Sub(at); got != 5*time.Minute || h.Failures != failures || h.Probes != probes {
		t.Errorf("after a probe that could not be made: the next one in %v, %+v", got, h)
	}
	if !h.FirstFailedAt.Equal(start) || !h.FailingSince.Equal(since) {
		t.Errorf("the beginnings have moved: %+v", h)
	}
	if h.After(&engine.Attempt{Outcome: engine.Outcome{Status: 204}}, at) != (engine.Health{}) {
		t.Error("the first success does not end it")
	}
}

// failUntil answers 500 until it is told otherwise.
func failUntil(mended *atomic.Bool) func(received, *http.Request) (*http.Response, error) {
	return func(received, *http.Request) (*http.Response, error) {
		if mended.Load() {
			return answer(200), nil
		}
		return answer(500), nil
	}
}

// A failing endpoint gets one attempt at a time, at growing intervals, of the oldest that is due; the others wait and use none of
// theirs. The first success opens the lane at full rate.
func TestFailingLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mended atomic.Bool
		w.net.answer = failUntil(&mended)
		hook := w.webhook(`{"url":"https://bad.example/","delay":0,"max_in_flight":2,"retry_schedule":["24h","24h"]}`)
		begin := time.Now()
		w.sessions(100)
		time.Sleep(time.Hour)
		synctest.Wait()

		// Five, or one more that was under way beside the fifth; then the probes.
		got := w.net.all()
		first := 0
		for first < len(got) && got[first].at.Equal(begin) {
			first++
		}
		if first < 5 || first > 6 {
			t.Errorf("%d attempts before it was failing, want 5, and at most one that was under way", first)
		}
		at := begin
		for i, wait := range []int{5, 10, 20, 40, 80, 160, 300, 300, 300} {
			at = at.Add(time.Duration(wait) * time.Second)
			if n := first + i; n >= len(got) || !got[n].at.Equal(at) {
				t.Fatalf("probe %d is not made %v after the beginning: %d requests", i, at.Sub(begin), len(got))
			}
		}
		seen := map[string]bool{}
		for _, r := range got {
			if seen[r.id] {
				t.Errorf("%s was probed twice, though others were due", r.id)
			}
			seen[r.id] = true
		}
		attempts := 0
		for _, d := range w.list(engine.DeliveryQuery{}) {
			attempts += d.Attempts
		}
		if attempts != len(got) {
			t.Errorf("%d attempts are counted, %d requests were made", attempts, len(got))
		}
		h := w.health(hook.ID)
		if !h.Failing() || h.Failures != len(got) || !h.FirstFailedAt.Equal(begin) {
			t.Errorf("health: %+v", h)
		}
		if w.metric("hookbolt_webhooks", "failing") != 1 || w.metric("hookbolt_webhooks", "active") != 0 {
			t.Error("the metrics do not show it as failing")
		}
		if n := w.metric("hookbolt_probes_total", "failure"); n != float64(len(got)-first) {
			t.Errorf("%v probes counted, %d made", n, len(got)-first)
		}

		// It stays so over a restart.
		w.restart()
		synctest.Wait()
		if after := w.health(hook.ID); !after.NextProbeAt.Equal(h.NextProbeAt) || after.Failures != h.Failures {
			t.Errorf("after a restart: %+v, before %+v", after, h)
		}
		mended.Store(true)
		before := len(w.net.all())
		time.Sleep(time.Until(h.NextProbeAt) - time.Millisecond)
		if n := len(w.net.all()); n != before {
			t.Fatalf("%d attempts before the next probe", n-before)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		// Those that were not tried yet go out at once; the others at their time.
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 100-before {
			t.Errorf("%d delivered when it worked again, want %d", n, 100-before)
		}
		if w.health(hook.ID).Failures != 0 || w.metric("hookbolt_webhooks", "active") != 1 || w.metric("hookbolt_probes_total", "success") != 1 {
			t.Errorf("it is not healthy again: %+v", w.health(hook.ID))
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 100 {
			t.Errorf("%d delivered in the end, want 100", n)
		}
	})
}

// untried returns the deliveries that wait and were never attempted.
func (w *world) untried() []engine.Delivery {
	w.t.Helper()
	waiting := append(w.list(engine.DeliveryQuery{Status: engine.StatusScheduled}), w.list(engine.DeliveryQuery{Status: engine.StatusPending})...)
	return slices.DeleteFunc(waiting, func(d engine.Delivery) bool { return d.Attempts > 0 })
}

// What somebody does about a failing endpoint brings the next probe forward; another endpoint begins anew.
func TestProbeNow(t *testing.T) {
	for name, act := range map[string]func(w *world, hook uint32, d engine.Delivery){
		"retry by hand": func(w *world, _ uint32, d engine.Delivery) {
			if _, err := w.Retry(w.t.Context(), d.ID); err != nil {
				w.t.Error(err)
			}
		},
		"a setting": func(w *world, hook uint32, _ engine.Delivery) { w.patch(hook, `{"headers":{"X-Key":"right"}}`) },
		"a new URL": func(w *world, hook uint32, _ engine.Delivery) { w.patch(hook, `{"url":"https://other.example/"}`) },
		"a test":    func(w *world, hook uint32, _ engine.Delivery) { _, _ = w.TestWebhook(w.t.Context(), hook) },
		"off and on": func(w *world, hook uint32, _ engine.Delivery) {
			w.patch(hook, `{"paused":true}`)
			w.patch(hook, `{"paused":false}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var mended atomic.Bool
				w.net.answer = failUntil(&mended)
				hook := w.webhook(`{"url":"https://bad.example/","delay":0,"retry_schedule":["24h"]}`)
				w.sessions(100)
				time.Sleep(30 * time.Minute)
				synctest.Wait()
				waiting := w.untried()
				if len(waiting) < 20 || w.health(hook.ID).Probes < 5 {
					t.Fatalf("%d wait, %+v", len(waiting), w.health(hook.ID))
				}
				mended.Store(true)
				act(w, hook.ID, waiting[0])
				time.Sleep(time.Millisecond)
				synctest.Wait()
				if left := w.untried(); len(left) != 0 {
					t.Errorf("%d still wait", len(left))
				}
			})
		})
	}
}

// A webhook of which every attempt has failed for five days is paused; what waits for it stays. Resumed, it has another five days.
func TestPausedAfterFiveDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mended atomic.Bool
		w.net.answer = failUntil(&mended)
		hook := w.webhook(`{"url":"https://bad.example/","delay":0}`)
		firstFailure := time.Now().UTC()
		for range 130 {
			w.session()
			time.Sleep(time.Hour)
		}
		got, err := w.Webhook(hook.ID)
		if err != nil || !got.Paused || got.PauseReason != "every attempt has failed since "+firstFailure.Format(time.RFC3339) {
			t.Fatalf("%+v, %v", got, err)
		}
		last := w.net.all()[len(w.net.all())-1].at
		if after := last.Sub(firstFailure); after < 120*time.Hour || after > 120*time.Hour+10*time.Minute {
			t.Errorf("paused after %v", after)
		}
		if w.metric("hookbolt_webhook_pauses_total", "failing") != 1 || w.metric("hookbolt_webhooks", "paused") != 1 {
			t.Error("the metrics do not show it")
		}
		w.patch(hook.ID, `{"paused":false}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got, _ := w.Webhook(hook.ID); got.Paused {
			t.Error("paused again at once")
		}
		waiting := len(w.list(engine.DeliveryQuery{Status: engine.StatusPending})) + len(w.list(engine.DeliveryQuery{Status: engine.StatusScheduled}))
		mended.Store(true)
		time.Sleep(72 * time.Hour)
		synctest.Wait()
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); waiting == 0 || n != waiting {
			t.Errorf("%d delivered of %d that waited", n, waiting)
		}
	})
}

// Two failures that lie days apart are no reason. The time between two attempts counts as a day at the most.
func TestRareFailuresDoNotPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		hook := w.webhook(`{"url":"https://rare.example/","delay":0,"retry_schedule":[]}`)
		for range 5 {
			w.session()
			time.Sleep(3 * 24 * time.Hour)
		}
		if got, _ := w.Webhook(hook.ID); got.Paused {
			t.Errorf("paused after five failures: %s", got.PauseReason)
		}
		w.session()
		time.Sleep(time.Minute)
		if got, _ := w.Webhook(hook.ID); !got.Paused {
			t.Error("not paused after six failures in fifteen days, with no success")
		}
	})
}

// 410 pauses the webhook, with the reason, and nothing else is sent; what waits goes out, oldest first, when it is resumed.
func TestGonePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		status := atomic.Int32{}
		status.Store(410)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(int(status.Load())), nil }
		hook := w.webhook(`{"url":"https://gone.example/","delay":0,"max_in_flight":1}`)
		at := time.Now().UTC()
		ids := w.sessions(20)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := len(w.net.all()); n != 1 {
			t.Errorf("%d attempts, want the one that was answered 410", n)
		}
		got, _ := w.Webhook(hook.ID)
		if !got.Paused || got.PauseReason != "the endpoint answered 410 Gone at "+at.Format(time.RFC3339) {
			t.Fatalf("%+v", got)
		}
		if o, _ := w.Overview(t.Context()); o.Held != 20 || o.Webhooks.Paused != 1 {
			t.Errorf("what waits does not show: %+v", o)
		}
		if w.metric("hookbolt_webhook_pauses_total", "gone") != 1 {
			t.Error("the pause is not counted")
		}
		w.restart()
		status.Store(200)
		w.patch(hook.ID, `{"paused":false}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		got20 := w.net.all()[1:]
		if len(got20) != 20 {
			t.Fatalf("%d sent after the hold, want 20", len(got20))
		}
		// The first has a later time since its attempt, and comes last.
		for i, id := range append(ids[1:], ids[0]) {
			if !strings.Contains(string(got20[i].body), id.String()) {
				t.Errorf("number %d is not the %d. oldest", i, i)
			}
		}
	})
}

// TestSuccessIsHealth: statuses of success deliver, whatever else they mean: 410 does not pause the webhook, 429 does not hold its lane, and
// 502 is no sign of load. Without them, each does.
func TestSuccessIsHealth(t *testing.T) {
	for _, status := range []int{302, 410, 429, 502} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(status), nil }
				hook := w.webhook(fmt.Sprintf(`{"url":"https://odd.example/","delay":0,"success":[%d,599]}`, status))
				w.sessions(3)
				time.Sleep(time.Hour)
				synctest.Wait()
				got, _ := w.Webhook(hook.ID)
				troubled := func() bool {
					h := w.health(hook.ID)
					return h.Failures > 0 || h.Throttle != (engine.Throttle{})
				}
				if got.Paused || len(w.net.all()) != 3 || troubled() {
					t.Errorf("paused %t, %d requests, %+v", got.Paused, len(w.net.all()), w.health(hook.ID))
				}
				page, err := w.Deliveries(t.Context(), engine.DeliveryQuery{WebhookID: hook.ID, Limit: 9})
				if err != nil || len(page.Items) != 3 {
					t.Fatalf("%v, %d deliveries", err, len(page.Items))
				}
				for _, d := range page.Items {
					if d.Status != engine.StatusDelivered || d.LastStatus != status || d.LastError != "" || d.Attempts != 1 {
						t.Errorf("%+v", d)
					}
				}
				// The setting is read by each attempt: without it the same answer fails.
				w.patch(hook.ID, `{"success":null}`)
				w.sessions(1)
				time.Sleep(time.Hour)
				synctest.Wait()
				if got, _ := w.Webhook(hook.ID); !troubled() && !got.Paused {
					t.Error("it is a success without being listed")
				}
			})
		})
	}
}

// A 410 that was on its way when the webhook got another URL is not about that.
func TestGoneOfAnotherURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net.answer = func(r received, _ *http.Request) (*http.Response, error) {
			if r.host == "new.example" {
				return answer(200), nil
			}
			time.Sleep(10 * time.Second)
			return answer(410), nil
		}
		hook := w.webhook(`{"url":"https://old.example/","delay":0}`)
		w.session()
		time.Sleep(time.Second)
		w.patch(hook.ID, `{"url":"https://new.example/"}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, _ := w.Webhook(hook.ID); got.Paused {
			t.Errorf("paused: %s", got.PauseReason)
		}
		w.only(engine.DeliveryQuery{Status: engine.StatusDelivered})
	})
}

// rate_limit is kept at even spans, whatever waits, also when it is changed on the way; max_in_flight holds beside it.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"rate_limit":10}`)
		w.webhook(`{"url":"https://free.example/","delay":0}`)
		begin := time.Now()
		w.sessions(100)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := len(w.net.to("free.example")); n != 100 {
			t.Errorf("another webhook got %d of 100", n)
		}
		got := w.net.to("a.example")
		for i, r := range got {
			if want := begin.Add(time.Duration(i) * 100 * time.Millisecond); !r.at.Equal(want) {
				t.Fatalf("number %d at %v, want %v", i, r.at.Sub(begin), want.Sub(begin))
			}
		}
		if len(got) < 30 || len(got) > 31 {
			t.Fatalf("%d in three seconds", len(got))
		}
		// Payloads are not built long before they are sent.
		built := 0
		for _, d := range w.list(engine.DeliveryQuery{WebhookID: hook.ID}) {
			if !d.FrozenAt.IsZero() {
				built++
			}
		}
		if ahead := built - len(got); ahead > 4 {
			t.Errorf("%d are built ahead", ahead)
		}
		w.patch(hook.ID, `{"rate_limit":0.5}`)
		changed := time.Now()
		before := len(w.net.to("a.example"))
		time.Sleep(9 * time.Second)
		if n := len(w.net.to("a.example")) - before; n < 4 || n > 5 {
			t.Errorf("%d in 9 s at 0.5 a second", n)
		}
		w.patch(hook.ID, `{"rate_limit":1000}`)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if n := len(w.net.to("a.example")); n != 100 {
			t.Errorf("%d of 100 sent, %v after the change", n, time.Since(changed))
		}
	})
}

// A rate limit and slow answers: the limit of attempts at once holds, and the rate is not exceeded when they come back together.
func TestRateLimitOfSlowEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(2 * time.Second)
			return answer(200), nil
		}
		w.webhook(`{"url":"https://slow.example/","delay":0,"rate_limit":5,"max_in_flight":4}`)
		w.sessions(60)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		got := w.net.all()
		if len(got) != 60 {
			t.Fatalf("%d of 60 sent: four at a time, two seconds each", len(got))
		}
		for i := range got {
			if i >= 1 && got[i].at.Sub(got[i-1].at) < 180*time.Millisecond {
				t.Errorf("%v between two", got[i].at.Sub(got[i-1].at))
			}
			if i >= 4 && got[i].at.Sub(got[i-4].at) < 2*time.Second {
				t.Errorf("more than four at once")
			}
		}
	})
}

// A failing endpoint costs no more turns and no more memory for what comes in meanwhile.
func TestFailingClaimResultsInEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var mended atomic.Bool
		w.net.answer = failUntil(&mended)
		hook := w.webhook(`{"url":"https://bad.example/","delay":0,"retry_schedule":["1s"]}`)
		for range 300 {
			w.sessions(3)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := len(w.net.all()); n > 20 {
			t.Errorf("%d attempts in five minutes", n)
		}
		// What comes in meanwhile does not bring a probe forward.
		got := w.net.all()
		for i := 8; i < len(got); i++ {
			if gap := got[i].at.Sub(got[i-1].at); gap < 5*time.Second {
				t.Errorf("two attempts %v apart: %v", gap, fmt.Sprint(i))
			}
		}
		mended.Store(true)
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if w.health(hook.ID).Failures != 0 || len(w.untried()) != 0 {
			t.Error("it does not come back")
		}
	})
}

// A 410 to a request from before somebody has let the webhook go on does not undo that.
func TestGoneFromBeforeTheResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var requests atomic.Int32
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			n := requests.Add(1)
			if n > 2 {
				return answer(200), nil
			}
			time.Sleep(time.Duration(n*n*n) * time.Second) // 1 s and 8 s
			return answer(410), nil
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0}`)
		w.sessions(2)
		time.Sleep(3 * time.Second)
		if got, _ := w.Webhook(hook.ID); !got.Paused {
			t.Fatal("not paused by the first")
		}
		w.patch(hook.ID, `{"paused":false}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got, _ := w.Webhook(hook.ID); got.Paused {
			t.Errorf("paused again: %s", got.PauseReason)
		}
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 2 {
			t.Errorf("%d delivered", n)
		}
	})
}
