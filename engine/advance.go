package engine

import (
	"fmt"
	"time"
)

// How a delivery moves on. These functions are pure: a Store calls them in its transaction, with what is stored.

// claimedAs tells whether a stored delivery still waits as it was claimed: it has neither ended nor been queued again since. Both are
// read from what is stored, so the instants are equal to the last digit.
func (d *Delivery) claimedAs(claimed *Delivery) bool {
	return d.Status.Waiting() && d.NextAttemptAt.Equal(claimed.NextAttemptAt)
}

// Fits tells whether the payload still is the one to freeze: the delivery is scheduled as it was claimed. covered tells whether a
// cancellation covers it.
func (f *Freeze) Fits(stored *Delivery, covered bool) bool {
	return stored.Status == StatusScheduled && stored.claimedAs(&f.Delivery) && !covered
}

// AttemptRecord is an attempt that has ended and what it leads to.
type AttemptRecord struct {
	// Delivery is the delivery as it was claimed.
	Delivery Delivery
	Attempt  Attempt
	Next     Next
	At       time.Time
	// Webhook is the one that the attempt was made for, as it was then; nil if there was no attempt at an endpoint.
	Webhook *Webhook
	// Health is that of the webhook's endpoint since the attempt; see KeepsHealth.
	Health Health
	// HealthNotice is the system event about the endpoint; nil for none.
	HealthNotice []byte
}

// AttemptEffect is what an attempt does.
type AttemptEffect struct {
	// Delivery is the delivery after it.
	Delivery Delivery
	// Attempt is to be stored with NextAt and NextReason.
	Attempt Attempt
	// Moved tells that the attempt has moved the delivery, and not what was done to it meanwhile.
	Moved bool
	// Notices are the system events to queue for the operations webhook, if there is one that is active.
	Notices [][]byte
}

// Apply decides what the attempt does to its delivery. covered tells whether a cancellation covers it. What was done to the delivery while
// the attempt was under way stands, but for a 2xx: what the endpoint has taken is delivered.
func (r *AttemptRecord) Apply(stored *Delivery, covered bool) AttemptEffect {
	e := AttemptEffect{Delivery: *stored, Attempt: r.Attempt, Moved: true, Notices: r.notices()}
	d := &e.Delivery
	d.Attempts++
	d.LastStatus, d.LastError = r.Attempt.Status, r.Attempt.Error
	next := r.Next
	switch {
	case next.Status == StatusDelivered:
	case !d.Status.Waiting():
		next.Reason, e.Moved = NextCancelled, false
	case !d.claimedAs(&r.Delivery):
		next.Reason, e.Moved = NextQueuedAgain, false
	case covered:
		next = Next{Status: StatusCancelled, Reason: NextCancelled}
	}
	if e.Moved {
		d.moveTo(&next, r.At)
	}
	e.Attempt.NextAt, e.Attempt.NextReason = d.NextAttemptAt, next.Reason
	if e.Moved && d.Status == StatusFailed {
		if notice := failedNotice(r.Webhook, d, r.At); notice != nil {
			e.Notices = append(e.Notices, notice)
		}
	}
	return e
}

// ApplyErased is Apply for a delivery that was erased meanwhile. It returns the system events: of the endpoint there may be something to
// tell.
func (r *AttemptRecord) ApplyErased() [][]byte { return r.notices() }

func (r *AttemptRecord) notices() [][]byte {
	if r.HealthNotice == nil {
		return nil
	}
	return [][]byte{r.HealthNotice}
}

// KeepsHealth tells whether the health that the attempt brings is to be stored. current is the webhook as the transaction sees it, nil if
// it was deleted; kept is the health that is stored.
func (r *AttemptRecord) KeepsHealth(current *Webhook, kept Health) bool {
	return r.Health.Order > kept.Order && current != nil && r.Webhook != nil && !outdated(current, r.Webhook, &r.Attempt)
}

// outdated tells whether an attempt that was made for a webhook says nothing of what the webhook is now: it has got another URL since, or
// somebody has let it go on, who knows better than an answer to a request from before.
func outdated(current, sentTo *Webhook, a *Attempt) bool {
	return current.URL != sentTo.URL || a.StartedAt.Before(current.ResumedAt)
}

// ResetsHealth tells whether a change of a webhook ends what is known of its endpoint: another endpoint has no past, and who lets one go
// on says that it works.
func ResetsHealth(before, after *Webhook) bool {
	return before.URL != after.URL || !before.ResumedAt.Equal(after.ResumedAt)
}

// moveTo moves a waiting delivery on.
func (d *Delivery) moveTo(next *Next, at time.Time) {
	if next.Status != StatusPending {
		d.Finish(next.Status, at)
		return
	}
	if next.Counts() {
		d.Tries++
	}
	d.NextAttemptAt = next.At // still scheduled, if its payload could not be rendered
}

// Finish puts a delivery into a final state.
func (d *Delivery) Finish(s Status, at time.Time) {
	d.Status, d.FinishedAt, d.NextAttemptAt = s, at, time.Time{}
}

// Cancel ends a delivery that waits; ErrConflict means that it does not.
func (d *Delivery) Cancel(at time.Time) error {
	if !d.Status.Waiting() {
		return fmt.Errorf("%w: it is %s; only a scheduled or pending delivery can be cancelled", ErrConflict, d.Status)
	}
	d.Finish(StatusCancelled, at)
	return nil
}

// Source tells what a delivery's next attempt can be made from.
type Source struct {
	// Frozen tells that the delivery has its payload, Session that its session is stored.
	Frozen, Session bool
}

// Requeue makes a delivery due now, with a fresh schedule. w is its webhook, nil if it was deleted. ErrConflict says why it cannot be
// sent again.
func (d *Delivery) Requeue(w *Webhook, from Source, now time.Time) error {
	switch {
	case w == nil:
		return fmt.Errorf("%w: webhook %d was deleted", ErrConflict, d.WebhookID)
	case !w.Active && d.Kind != KindTest:
		return fmt.Errorf("%w: webhook %d is inactive", ErrConflict, d.WebhookID)
	case !from.Frozen && !from.Session:
		return fmt.Errorf("%w: it has no payload, and its session is no longer stored", ErrConflict)
	}
	d.Status = StatusPending
	if !from.Frozen {
		d.Status = StatusScheduled
	}
	d.WebhookRevision, d.Tries, d.FinishedAt, d.NextAttemptAt = w.Revision, 0, time.Time{}, now
	return nil
}
