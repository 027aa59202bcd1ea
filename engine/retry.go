package engine

import (
	"fmt"
	"time"
)

// DefaultRetrySchedule has the waits after each failed attempt: the schedule of Standard Webhooks, "Deliverability and reliability", with
// one more step at the end. With the first attempt it makes ten attempts in about three days.
var DefaultRetrySchedule = []Duration{
	Duration(5 * time.Second), Duration(5 * time.Minute), Duration(30 * time.Minute), Duration(2 * time.Hour), Duration(5 * time.Hour),
	Duration(10 * time.Hour), Duration(14 * time.Hour), Duration(20 * time.Hour), Duration(24 * time.Hour),
}

// CheckRetrySchedule returns what is wrong with a retry schedule, the waits after each failed attempt. An empty schedule is valid and means
// no retries.
func CheckRetrySchedule(steps []Duration) error {
	if len(steps) > maxRetrySteps {
		return fmt.Errorf("must have at most %d steps (got %d)", maxRetrySteps, len(steps))
	}
	for _, d := range steps {
		if time.Duration(d) < minRetryStep || time.Duration(d) > maxRetryStep {
			return fmt.Errorf("each step must be %s (got %s)", spans(minRetryStep, maxRetryStep), d)
		}
	}
	return nil
}

// RetryPolicy says when a failed delivery is tried again.
type RetryPolicy struct {
	Schedule []Duration
	// Jitter is the fraction of each step, 0 to 1, by which the step may be longer or shorter. It keeps deliveries that failed together
	// from being retried together.
	Jitter float64
	// RetryAfterMax bounds the wait that an endpoint may ask for with Retry-After.
	RetryAfterMax time.Duration
}

// Next is what happens to a delivery after an attempt.
type Next struct {
	// Status is StatusDelivered, StatusFailed, or StatusPending for another try.
	Status Status
	// At is when the next attempt is due, in UTC, for StatusPending; otherwise zero.
	At time.Time
	// Reason says why; "" for StatusDelivered.
	Reason NextReason
}

// Counts reports whether the attempt was a step of the retry schedule.
func (n *Next) Counts() bool { return n.Reason != NextByToken && n.Reason != NextByThrottle }

// After decides what happens to a delivery after an attempt that ended at now. d is the delivery before it. draw, from 0 to 1, chooses the wait
// within the jitter. After is pure.
func (p RetryPolicy) After(a *Attempt, d *Delivery, now time.Time, draw float64) Next {
	if a.Delivered() {
		return Next{Status: StatusDelivered}
	}
	if a.TokenRejected {
		// Due before the new token is fetched, so that a 401 to the new token counts as a failure; see Outcome.TokenRejected.
		return Next{StatusPending, a.StartedAt, NextByToken}
	}
	if a.refusesLoad() && (a.refusedAgain || d.Attempts-d.Tries < maxRefusals) {
		if d.Kind == KindTest { // whose lane is not held
			return Next{StatusPending, later(a.heldUntil, now.Add(min(a.RetryAfter, p.RetryAfterMax))), NextByThrottle}
		}
		// The lane is held. What was due before goes first then, so that an endpoint that refuses just this delivery gets the others.
		return Next{StatusPending, now, NextByThrottle}
	}
	tries := d.Tries + 1
	if tries > len(p.Schedule) {
		return Next{Status: StatusFailed, Reason: NextExhausted}
	}
	wait := time.Duration(p.Schedule[tries-1])
	wait += time.Duration((draw*2 - 1) * p.Jitter * float64(wait))
	// Retry-After may delay a retry, never bring it forward.
	if asked := min(a.RetryAfter, p.RetryAfterMax); asked > wait {
		return Next{StatusPending, now.Add(asked), NextByRetryAfter}
	}
	return Next{StatusPending, now.Add(wait), NextBySchedule}
}
