package engine

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// How a delivery moves from state to state. These functions are pure. A Store calls them in its transaction, with the stored records.

// claimedAs reports whether a stored delivery is waiting as it was when it was claimed: it has neither ended nor been queued again since.
// Both instants were read from the store, so they are equal to the last digit.
func (d *Delivery) claimedAs(claimed *Delivery) bool {
	return d.Status.Waiting() && d.NextAttemptAt.Equal(claimed.NextAttemptAt)
}

// Fits reports whether the payload may be frozen: the stored delivery is scheduled as it was claimed, and no cancellation covers it.
func (f *Freeze) Fits(stored *Delivery, covered bool) bool {
	return stored.Status == StatusScheduled && stored.claimedAs(&f.Delivery) && stored.AsOf.Equal(f.Delivery.AsOf) && !covered
}

// Ends reports whether the claimed delivery ends without a body: its session was filtered, or the webhook's programs have failed.
func (f *Freeze) Ends() bool { return f.Filtered || f.BuildError != "" }

// Apply returns what a Freeze that fits makes of the stored delivery, and the payloads of system events, which are queued as those of an
// attempt. A Freeze that drops the trigger has no such effect.
func (f *Freeze) Apply(stored *Delivery) (after Delivery, notices [][]byte) {
	after = *stored
	if after.Attempts == 0 {
		after.LastError = ""
	}
	after.BuildError, after.ContentType, after.URLValues, after.Shaped = "", "", "", false
	switch {
	case f.Filtered:
		after.Finish(StatusFiltered, f.At)
		after.BuiltFrom = f.Events
	case f.BuildError != "":
		after.BuildError, after.LastError = f.BuildError, ErrorTransform
		after.Finish(StatusFailed, f.At)
		if notice := f.Failure.notice(f.Webhook, &after, f.At); notice != nil {
			notices = append(notices, notice)
		}
	default:
		after.Status, after.FrozenAt, after.BuiltFrom = StatusPending, f.At, f.Events
		after.Shaped, after.ContentType, after.URLValues = f.Shaped, f.ContentType, f.URLValues
	}
	return after, notices
}

// EvaluateAgain queues a filtered delivery for the evaluation of late events, due at that time.
func (d *Delivery) EvaluateAgain(w *Webhook, at time.Time) {
	d.Status, d.WebhookRevision, d.Tries = StatusScheduled, w.Revision, 0
	d.DueAt, d.NextAttemptAt, d.FinishedAt = at, at, time.Time{}
}

// AttemptRecord is an attempt that has ended, with its consequences.
type AttemptRecord struct {
	// Delivery is the delivery as it was claimed.
	Delivery Delivery
	Attempt  Attempt
	Next     Next
	At       time.Time
	// Webhook is the webhook as it was when the attempt was made; nil if no attempt was made at an endpoint.
	Webhook *Webhook
	// Health is the health of the endpoint after the attempt; see KeepsHealth.
	Health Health
	// HealthNotice is the payload of the system event about the endpoint; nil for none.
	HealthNotice []byte
	// Failure is about the system event if the delivery has failed for good.
	Failure Failure
}

// AttemptEffect is what an attempt changes.
type AttemptEffect struct {
	// Delivery is the delivery after the attempt.
	Delivery Delivery
	// Attempt is the attempt to store, with NextAt and NextReason set.
	Attempt Attempt
	// Moved reports whether the attempt has moved a waiting delivery on. It is false if a change made during the attempt stands, and if the
	// delivery was cancelled during an attempt that succeeded: it had reached a final state already, and is delivered all the same.
	Moved bool
	// Notices are the payloads of system events. They are queued for the operations webhook if there is one and it is active.
	Notices [][]byte
}

// Apply decides what the attempt does to its stored delivery. covered says whether a cancellation covers the delivery. A change that was
// made during the attempt stands, unless the endpoint answered 2xx: then the delivery is delivered.
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
		if notice := r.Failure.notice(r.Webhook, d, r.At); notice != nil {
			e.Notices = append(e.Notices, notice)
		}
	}
	e.Moved = e.Moved && stored.Status.Waiting()
	return e
}

// ApplyErased is Apply for a delivery that was erased meanwhile. It returns the system events about the endpoint, which are still true.
func (r *AttemptRecord) ApplyErased() [][]byte { return r.notices() }

// notices returns the system events about the endpoint.
func (r *AttemptRecord) notices() [][]byte {
	if r.HealthNotice == nil {
		return nil
	}
	return [][]byte{r.HealthNotice}
}

// KeepsHealth reports whether Health must be stored. current is the webhook as the transaction sees it, nil if it was deleted; kept is the
// stored health.
func (r *AttemptRecord) KeepsHealth(current *Webhook, kept Health) bool {
	return r.Health.Order > kept.Order && current != nil && r.Webhook != nil && !ResetsHealth(r.Webhook, current)
}

// ResetsHealth reports whether a change of a webhook resets the health of its endpoint. A new URL has no history, and whoever resumes a
// webhook says that its endpoint works: they knew more than an attempt that was made for the webhook before. It compares no clocks, because
// the clock may have been set between an attempt and the change.
func ResetsHealth(before, after *Webhook) bool {
	return before.URL != after.URL || !before.ResumedAt.Equal(after.ResumedAt)
}

// moveTo moves a waiting delivery to its next state.
func (d *Delivery) moveTo(next *Next, at time.Time) {
	if next.Status != StatusPending {
		d.Finish(next.Status, at)
		return
	}
	if next.Counts() {
		d.Tries++
	}
	d.NextAttemptAt = next.At // a delivery whose payload could not be rendered stays scheduled
}

// Finish puts a delivery into a final state. at is in UTC.
func (d *Delivery) Finish(s Status, at time.Time) {
	d.Status, d.FinishedAt, d.NextAttemptAt = s, at, time.Time{}
}

// Cancel cancels a waiting delivery. ErrConflict means that the delivery is not waiting.
func (d *Delivery) Cancel(at time.Time) error {
	if !d.Status.Waiting() {
		return fmt.Errorf("%w: it is %s; only a scheduled or pending delivery can be cancelled", ErrConflict, d.Status)
	}
	d.Finish(StatusCancelled, at)
	return nil
}

// Source says what the next attempt of a delivery can be made from.
type Source struct {
	// Frozen says that its body is built and stored, Session that what it is built from is stored: its session, or its system event.
	Frozen, Session bool
	// Overtaken says that the payload of a delivery that overtakes it is frozen. Only a replay asks.
	Overtaken bool
}

// Requeue makes a delivery due at now, at the start of its retry schedule. w is its webhook, nil if it was deleted. ErrConflict says why
// the delivery cannot be sent again.
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
	d.WebhookRevision, d.Tries, d.FinishedAt, d.NextAttemptAt, d.SupersededBy = w.Revision, 0, time.Time{}, now, uuid.Nil
	return nil
}
