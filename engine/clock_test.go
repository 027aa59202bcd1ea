package engine_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var clockSeeds = flag.Int("clock.seeds", 2, "how many seeds TestClockIsSet runs")

// setClock sets the wall clock until the test ends.
func setClock(t *testing.T, by time.Duration) {
	engine.SetWallClock(by)
	t.Cleanup(func() { engine.SetWallClock(0) })
}

// clockless takes in sessions whose events have no time, so that they happen when the server says.
func (w *world) clockless(n int) {
	w.t.Helper()
	var b strings.Builder
	for range n {
		fmt.Fprintf(&b, `{"type":"start","session_id":%[1]q,"content_id":%[2]q,"content_type":"quiz","poltio_user_id":7}{"type":"finish","session_id":%[1]q}`, uuid.New(), contentID)
	}
	w.ingest(b.String())
}

// slack is how long the loop may take to notice that something is due: it looks at the clock every 4 s.
const slack = 5 * time.Second

// TestClockIsSet sets the wall clock forth and back by up to an hour while an engine runs, again and again, and measures by the other clock:
// what is due by the wall clock is sent, limits of rate hold and are used, a failing endpoint is probed every five minutes at least, its
// health is kept after a resumption, and in the end everything was sent once.
func TestClockIsSet(t *testing.T) {
	for seed := range *clockSeeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClockSim(t, uint64(seed))
				for range 40 {
					c.act()
					c.rest()
				}
				c.finish()
			})
		})
	}
}

type clockSim struct {
	*world
	rng                            *rand.Rand
	offset                         time.Duration
	plain, delayed, paced, failing engine.Webhook
	broken                         atomic.Bool // the endpoint of failing
}

func newClockSim(t *testing.T, seed uint64) *clockSim {
	time.Sleep(24 * time.Hour) // events may not be from before 2000
	setClock(t, 0)
	c := &clockSim{world: newWorld(t), rng: rand.New(rand.NewPCG(seed, 2))}
	c.net.answer = func(r received, _ *http.Request) (*http.Response, error) {
		if strings.HasPrefix(r.host, "failing") && c.broken.Load() {
			return answer(503), nil
		}
		return answer(200), nil
	}
	c.plain = c.webhook(`{"url":"https://plain.example/","delay":5}`)
	c.delayed = c.webhook(`{"url":"https://delayed.example/","delay":1800}`) // less than the clock is set by
	c.paced = c.webhook(`{"url":"https://paced.example/","delay":0,"rate_limit":2}`)
	c.failing = c.webhook(`{"url":"https://failing.example/","delay":0,"retry_schedule":["1s","1s","1s","5m","1h","1h","1h","1h","1h","1h","1h","1h","1h","1h","1h","1h","1h","1h","1h"]}`)
	return c
}

func (c *clockSim) act() {
	switch c.rng.IntN(6) {
	case 0, 1:
		c.offset = time.Duration(c.rng.Int64N(int64(2*time.Hour))) - time.Hour
		engine.SetWallClock(c.offset)
		time.Sleep(slack)
	case 2:
		c.broken.Store(!c.broken.Load())
	case 3:
		c.patch(c.failing.ID, `{"paused":true}`)
		c.patch(c.failing.ID, `{"paused":false}`)
	}
	c.clockless(1 + c.rng.IntN(20))
}

// due is how many deliveries of a webhook are due by the wall clock.
func (c *clockSim) due(w engine.Webhook) (n int) {
	for _, status := range []engine.Status{engine.StatusScheduled, engine.StatusPending} {
		for _, d := range c.list(engine.DeliveryQuery{WebhookID: w.ID, Status: status}) {
			if !d.NextAttemptAt.After(engine.WallClock()) {
				n++
			}
		}
	}
	return n
}

// rest lets some time pass, and checks what happened in it.
func (c *clockSim) rest() {
	span := 10*time.Second + time.Duration(c.rng.Int64N(int64(20*time.Second)))
	if c.rng.IntN(4) == 0 {
		span = 6 * time.Minute
	}
	synctest.Wait()
	health := c.health(c.failing.ID)
	dueBefore, failingBefore, probes := c.due(c.paced), health.Failing() && c.due(c.failing) > 0, len(c.net.to("failing.example"))
	sent := len(c.net.to("paced.example"))
	time.Sleep(span)
	synctest.Wait()
	now := c.offset
	sent = len(c.net.to("paced.example")) - sent
	if least := min(dueBefore, int((span-slack)/(500*time.Millisecond))); sent < least || sent > int(span/(500*time.Millisecond))+1 {
		c.t.Errorf("clock %v: %d attempts in %v with a limit of two a second, and %d were due", now, sent, span, dueBefore)
	}
	if failingBefore && span > 5*time.Minute+slack && len(c.net.to("failing.example")) == probes {
		c.t.Errorf("clock %v: no probe of a failing endpoint in %v", now, span)
	}
	for _, w := range []engine.Webhook{c.plain, c.delayed} {
		if c.due(w) == 0 {
			continue
		}
		time.Sleep(slack) // they may have become due just now
		synctest.Wait()
		if late := c.due(w); late > 0 {
			c.t.Errorf("clock %v: %d deliveries for %s are due and not sent", now, late, w.URL)
		}
	}
}

// finish mends what is broken, sets the clock right and waits: everything was sent, and nothing twice.
func (c *clockSim) finish() {
	c.broken.Store(false)
	engine.SetWallClock(0)
	c.patch(c.failing.ID, `{"paused":true}`)
	c.patch(c.failing.ID, `{"paused":false}`)
	time.Sleep(4 * time.Hour)
	synctest.Wait()
	all := c.list(engine.DeliveryQuery{})
	for _, d := range all {
		if d.Status != engine.StatusDelivered {
			c.t.Errorf("delivery %s of webhook %d is %v, next at %v", d.ID, d.WebhookID, d.Status, d.NextAttemptAt)
		}
	}
	once := make(map[string]int)
	for _, r := range append(c.net.to("plain.example"), c.net.to("paced.example")...) {
		if once[r.id]++; once[r.id] > 1 {
			c.t.Errorf("delivery %s was sent twice", r.id)
		}
	}
	c.t.Logf("%d deliveries, %d attempts", len(all), len(c.net.all()))
}

// TestResumedBeforeClockWentBack: an attempt is about the endpoint as it is, though it seems to have begun before the webhook was resumed.
func TestResumedBeforeClockWentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		w := newWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"paused":true}`)
		w.patch(hook.ID, `{"paused":false}`)
		setClock(t, -time.Hour)
		w.clockless(10)
		time.Sleep(10 * time.Minute)
		if h := w.health(hook.ID); !h.Failing() {
			t.Errorf("after ten failures: %+v", h)
		}
		// A probe is no later than its interval, and a restart does not change that.
		for _, by := range []time.Duration{-3 * time.Hour, -10 * time.Hour} {
			engine.SetWallClock(by)
			if by < -3*time.Hour {
				w.restart()
			}
			before := len(w.net.all())
			w.clockless(1)
			time.Sleep(5*time.Minute + slack)
			if len(w.net.all()) == before {
				t.Errorf("clock %v: no probe in more than five minutes", by)
			}
		}
		// A clock that was set right by days is no reason to pause.
		engine.SetWallClock(30 * 24 * time.Hour)
		w.clockless(1)
		time.Sleep(10 * time.Minute)
		if now, _ := w.Webhook(hook.ID); now.Paused {
			t.Errorf("paused because the clock was set: %s", now.PauseReason)
		}
	})
}

// TestSilenceDoesNotPause: the days of failing are days of attempts. A webhook without deliveries shows nothing.
func TestSilenceDoesNotPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		hook := w.webhook(`{"url":"https://rare.example/","delay":0,"retry_schedule":["1s","1s","1s","1s"]}`)
		w.session()
		time.Sleep(3 * 24 * time.Hour)
		w.restart() // it is not forgotten how long it was silent
		time.Sleep(3 * 24 * time.Hour)
		w.session()
		time.Sleep(time.Hour)
		if got, _ := w.Webhook(hook.ID); got.Paused {
			t.Errorf("paused after six days without deliveries: %s", got.PauseReason)
		}
	})
}
