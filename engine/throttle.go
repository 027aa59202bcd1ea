package engine

import (
	"cmp"
	"math"
	"net/http"
	"time"
)

// An endpoint refuses load with 429, or with 503 and Retry-After (RFC 6585, section 4; RFC 9110, sections 10.2.3 and 15.6.4). That is about
// the endpoint, not about the delivery: the lane is held until then, and no delivery loses a try. A 502 or 504 halves the attempts that may
// be in flight, which then rise by one for each round of successes: Standard Webhooks, "Delivery success and failure", takes both as signs of load. They are no
// sign of a quota: they may come at any rate, from one of many servers behind a load balancer.
//
// After a hold the lane rises slowly. How depends on how many attempts the endpoint takes between two refusals. If they are many, as with a quota for an hour, the lane uses the quota up as fast as before, with few attempts at once, so that
// few are refused together. If they are few, the lane sends at even spans, at the rate that the endpoint has taken, holds included. That is a
// guess: the rate doubles until the endpoint refuses again. Then the ceiling is known, and the rate follows CUBIC (RFC 9438, section 4.2): it
// stays near the ceiling for long, and then looks for a new one with growing steps. A straight rise would be refused more often, or take
// hours to find out that a quota was raised.
const (
	minHold = 250 * time.Millisecond // of an endpoint that names no time, as maxHold
	maxHold = 5 * time.Minute

	// throttleStart is the fraction of the ceiling with which a lane begins after a refusal.
	throttleStart = 0.95
	// throttleBackoff is the fraction of its rate that a lane keeps if it is refused after few attempts.
	throttleBackoff = 0.85
	// A guess doubles in as long as guessAttempts attempts take at its rate, and minGuessTime at least. In the end it is at most maxGuessError
	// times what the endpoint has accepted meanwhile.
	guessAttempts = 2
	minGuessTime  = 2 * time.Second
	maxGuessError = 2.5
	// A ceiling is reached after as long as ceilingAttempts attempts take at its rate, and minCeilingTime at least.
	ceilingAttempts = 100
	minCeilingTime  = 10 * time.Second
	// throttlePeriods is how many of these times a lane stays throttled after its last refusal.
	throttlePeriods = 8

	// manyAccepted is how many accepted attempts between two refusals are so many that the refused ones do not matter.
	manyAccepted = 20

	// acceptanceTime is over how long the accepted attempts are averaged, and minAccepted is how many it takes to go by them.
	acceptanceTime = 30 * time.Second
	minAccepted    = 4
	// maxIdle is the longest time between two attempts that counts as time in which an endpoint could have taken more.
	maxIdle = time.Second
	// countedHold is how much of a hold counts like that. A quota for an hour or a day is no rate to send at.
	countedHold = time.Minute
	// minRate is the lowest ceiling, in attempts a second.
	minRate = 1.0 / 60
)

// maxRefusals is how many attempts of a delivery may use no try while the endpoint takes others: it may refuse just this one, for ever. An endpoint
// that takes nothing uses up no try at all; its webhook is paused in the end.
const maxRefusals = 100

// Throttle is what an endpoint's refusals of load have led to. The zero value is an endpoint that has refused none lately.
type Throttle struct {
	// Refusals is how often the endpoint has refused load since its last success. Attempts that were in flight together count once.
	Refusals int
	// HeldUntil is when the lane may send again, in UTC; after that the rate rises from there. Zero means that there is no throttle.
	HeldUntil time.Time
	// Ceiling is the rate that the endpoint takes, in attempts a second; 0 for no limit. It is a guess until the endpoint has refused load at a
	// rate that was limited: then Known is set.
	Ceiling float64
	Known   bool
}

// refusesLoad reports whether the endpoint has refused the attempt because of load.
func (a *Attempt) refusesLoad() bool {
	return !a.Delivered() && (a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable && a.RetryAfter > 0)
}

// showsLoad reports whether the attempt's failure is a sign of load, though not a request to wait.
func (a *Attempt) showsLoad() bool {
	return !a.Delivered() && (a.Status == http.StatusBadGateway || a.Status == http.StatusGatewayTimeout)
}

// holdFor returns for how long the endpoint is left alone after the refusal with that number in a row. An endpoint that asks for a second
// again and again, and takes nothing, is asked less and less often.
func holdFor(asked time.Duration, refusals int) time.Duration {
	hold := minHold
	for range refusals - 1 {
		if hold *= 2; hold >= maxHold {
			hold = maxHold
			break
		}
	}
	return max(hold, asked)
}

// period returns how long a guess takes to double, and how long the rate takes to reach a known ceiling.
func (t *Throttle) period() time.Duration {
	attempts, shortest := float64(guessAttempts), minGuessTime
	if t.Known {
		attempts, shortest = ceilingAttempts, minCeilingTime
	}
	if t.Ceiling == 0 {
		return shortest
	}
	return max(shortest, time.Duration(attempts/t.Ceiling*float64(time.Second)))
}

// interval returns the time between two attempts at the end of the hold; 0 for no limit.
func (t *Throttle) interval() time.Duration {
	if t.Ceiling == 0 {
		return 0
	}
	return rateInterval(throttleStart * t.Ceiling)
}

// rate returns the rate at that time after the end of the hold, in attempts a second; 0 means no limit.
func (t *Throttle) rate(since time.Duration) float64 {
	if t.Ceiling == 0 || t.over(since) {
		return 0
	}
	x := since.Seconds() / t.period().Seconds()
	if !t.Known {
		return t.Ceiling * throttleStart * math.Exp2(x)
	}
	x--
	return t.Ceiling * (1 + (1-throttleStart)*x*x*x)
}

// over reports whether the throttle has ended at that time after the end of the hold.
func (t *Throttle) over(since time.Duration) bool {
	return t.HeldUntil.IsZero() || since >= throttlePeriods*t.period()
}

// load is what a lane knows of the load that its endpoint takes, beside the Throttle.
type load struct {
	window   window
	accepted acceptance
	// sinceRefusal counts the accepted attempts since the last refusal, round the refusals. Attempts that began before one of them belong to it.
	sinceRefusal, round int
	// shrinks counts the signs of load that have halved the window.
	shrinks int
	refusal refusal // the last one
	// ran is for how long the lane has been sending since the end of the hold that the last refusal has led to. Time in which it had nothing to
	// send does not count.
	ran time.Duration
}

func newLoad() load { return load{window: window{size: firstWindow, threshold: freeWindow}} }

// refusal is what is known of the last refusal of a lane.
type refusal struct {
	accepted int           // attempts since the refusal before it
	rate     float64       // to which the lane was limited as the refused attempt was sent, in attempts a second; 0 for no limit
	ran      time.Duration // load.ran as it came
	hold     time.Duration // that it has led to
	guessed  bool          // the ceiling was a guess then
}

// apply sets the ceiling, and returns the window that goes with it. accepted is the rate that the endpoint has accepted of late, 0 if too
// little is known.
func (t *Throttle) apply(r refusal, accepted float64) window {
	t.Known = r.rate > 0
	sent := float64(r.accepted) / max(r.ran, time.Millisecond).Seconds()
	switch {
	case r.rate == 0 && r.accepted >= manyAccepted:
		t.Ceiling = 0
		return window{size: 1, threshold: r.accepted / manyAccepted, step: windowStep}
	case r.rate == 0:
		t.Ceiling = accepted
	case r.guessed:
		t.Ceiling = min(r.rate, maxGuessError*sent, max(1.1*sent, 0.9*r.rate))
	case r.accepted >= manyAccepted:
		t.Ceiling = min(r.rate, 1.1*sent) // the lane may have sent less than it was allowed to
	default:
		t.Ceiling = max(throttleBackoff*r.rate, float64(r.accepted)/(r.ran+r.hold).Seconds())
	}
	if t.Ceiling == 0 {
		return window{size: 1, threshold: freeWindow}
	}
	t.Ceiling = max(minRate, t.Ceiling)
	return window{} // the rate is the limit
}

// acceptance is the rate at which an endpoint has accepted attempts of late: a count and the time that it took, both forgotten by and by.
// Time in which the lane had nothing to send does not count.
type acceptance struct {
	count float64
	span  float64 // seconds
	at    time.Time
}

// pass lets the time from the last attempt to now pass. All of it counts up to longest.
func (c *acceptance) pass(now time.Time, longest time.Duration) {
	if !c.at.IsZero() {
		passed := min(now.Sub(c.at), longest).Seconds()
		keep := math.Exp(-passed / acceptanceTime.Seconds())
		c.count *= keep
		c.span = acceptanceTime.Seconds() - (acceptanceTime.Seconds()-c.span)*keep
	}
	c.at = now
}

// rate returns the rate as it will be after a hold, in which nothing is accepted; 0 if there were too few attempts.
func (c *acceptance) rate(hold time.Duration) float64 {
	if c.count < minAccepted {
		return 0
	}
	return c.count / (c.span + min(hold, countedHold).Seconds())
}

// window is how many attempts a lane may have in flight, so that an endpoint that refuses load refuses few at once. It grows as TCP's
// congestion window does (RFC 5681, section 3.1). The zero value is no limit.
type window struct {
	size      int
	threshold int // up to it each success adds one, above it each step successes do
	step      int // 0 means as many as the window's size
	successes int // since the last addition, above the threshold
}

// halve halves the window after a sign of load. most is what the lane may have in flight without one.
func (w *window) halve(most int) {
	half := max(1, cmp.Or(w.size, most)/2)
	*w = window{size: half, threshold: half}
}

const (
	// firstWindow is the window of a lane of whose endpoint nothing is known: TCP's initial window (RFC 6928).
	firstWindow = 10
	freeWindow  = math.MaxInt
	windowStep  = 2 * manyAccepted
)

// grow widens the window after a success, until it has reached most: then there is no limit.
func (w *window) grow(most int) {
	if w.size == 0 {
		return
	}
	w.successes++
	if w.size < w.threshold || w.successes >= cmp.Or(w.step, w.size) {
		w.size, w.successes = w.size+1, 0
	}
	if w.size >= most {
		*w = window{}
	}
}
