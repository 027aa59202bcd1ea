package engine

import (
	"fmt"
	"time"
)

// DefaultRetrySchedule is the spans after each failed attempt: that of Standard Webhooks, "Deliverability and reliability",
// with a step more at its end. With the first attempt it makes ten over three days.
var DefaultRetrySchedule = []Duration{
	Duration(5 * time.Second), Duration(5 * time.Minute), Duration(30 * time.Minute), Duration(2 * time.Hour), Duration(5 * time.Hour),
	Duration(10 * time.Hour), Duration(14 * time.Hour), Duration(20 * time.Hour), Duration(24 * time.Hour),
}

// CheckRetrySchedule says what is wrong with a retry schedule: the spans after each failed attempt. An empty one means no
// retries.
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
	// Jitter is the share of each step by which it may be longer or shorter, 0 to 1, so that what failed together does not
	// come back together.
	Jitter float64
	// RetryAfterMax bounds what an endpoint may ask for.
	RetryAfterMax time.Duration
}

// Next is what becomes of a delivery after an attempt.
type Next struct {
	// Status is StatusDelivered, StatusFailed, or StatusPending for another try.
	Status Status
	// At is when the next try is due, for StatusPending.
	At time.Time
	// Reason says why; "" for StatusDelivered.
	Reason NextReason
}

// Counts tells whether the attempt was a step of the retry schedule.
func (n *Next) Counts() bool { return n.Reason != NextByToken }

// After decides what becomes of a delivery after an attempt that ended at now; tries is how many attempts of the present run
// through the schedule have ended, with this one. draw, from 0 to 1, is where within the jitter the wait falls.
func (p RetryPolicy) After(a *Attempt, tries int, now time.Time, draw float64) Next {
	if a.Delivered() {
		return Next{Status: StatusDelivered}
	}
	if a.TokenRejected {
		// Due since before the new token is got: a 401 to that is a failure like any other; see Attempt.TokenRejected.
		return Next{StatusPending, a.StartedAt, NextByToken}
	}
	if tries > len(p.Schedule) {
		return Next{Status: StatusFailed, Reason: NextExhausted}
	}
	wait := time.Duration(p.Schedule[tries-1])
	wait += time.Duration((draw*2 - 1) * p.Jitter * float64(wait))
	// An endpoint may put a retry off, never bring it forward.
	if asked := min(a.RetryAfter, p.RetryAfterMax); asked > wait {
		return Next{StatusPending, now.Add(asked), NextByRetryAfter}
	}
	return Next{StatusPending, now.Add(wait), NextBySchedule}
}
