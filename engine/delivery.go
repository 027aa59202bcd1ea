package engine

import (
	"fmt"
	"time"

	"hookbolt/engine/send"

	"github.com/google/uuid"
)

// Status is the state that a delivery is in.
type Status uint8

// The states of a delivery; see the package's documentation for the ways between them.
const (
	StatusScheduled Status = 1 // the trigger waits for its time
	StatusPending   Status = 2 // the payload is frozen and on its way
	StatusDelivered Status = 3 // the endpoint said 2xx
	StatusFailed    Status = 4 // the retry schedule has ended: the dead letter
	StatusCancelled Status = 5 // ended by hand or by a change of the webhook
)

// Statuses are all states, in the order of a delivery's life.
var Statuses = []Status{StatusScheduled, StatusPending, StatusDelivered, StatusFailed, StatusCancelled}

func (s Status) String() string {
	switch s {
	case StatusScheduled:
		return "scheduled"
	case StatusPending:
		return "pending"
	case StatusDelivered:
		return "delivered"
	case StatusFailed:
		return "failed"
	case StatusCancelled:
		return "cancelled"
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// MarshalText gives the state's name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseStatus is the reverse of String.
func ParseStatus(name string) (Status, error) {
	for _, s := range Statuses {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("must be scheduled, pending, delivered, failed or cancelled (got %q)", Excerpt(name))
}

// Waiting tells whether a delivery in this state stands in its lane.
func (s Status) Waiting() bool { return s == StatusScheduled || s == StatusPending }

// Delivery is what one trigger leads to. It has one id from beginning to end, which is the webhook-id of every attempt.
type Delivery struct {
	// ID is a UUIDv7 that the Store gives.
	ID        uuid.UUID
	WebhookID uint32
	// WebhookRevision is the webhook's revision when the delivery was queued, or last queued again.
	WebhookRevision uint64
	// SessionID and ContentID, that of its session, are uuid.Nil for a test delivery.
	SessionID uuid.UUID
	ContentID uuid.UUID
	Kind      Kind
	Status    Status

	CreatedAt time.Time
	// DueAt is when the trigger fires; see Trigger.
	DueAt time.Time
	// NextAttemptAt is when the delivery is taken up next: its place in the lane. Zero in a final state.
	NextAttemptAt time.Time
	// FrozenAt is when the payload was built; zero while scheduled.
	FrozenAt time.Time
	// FinishedAt is when the final state was reached; zero before.
	FinishedAt time.Time

	// Attempts is how many attempts are recorded.
	Attempts int
	// Tries is how many of them count for the present run through the retry schedule.
	Tries int
	// LastStatus and LastError are those of the last attempt; zero before the first.
	LastStatus int
	LastError  ErrorClass
}

// Lane is a webhook's own queue. What somebody asked for as a test has a lane beside it, for it is sent even while the webhook
// is paused or inactive.
type Lane struct {
	WebhookID uint32
	Test      bool
}

// Lane tells in which lane the delivery stands while it waits.
func (d *Delivery) Lane() Lane { return Lane{d.WebhookID, d.Kind == KindTest} }

// NextReason says why a delivery's next try after an attempt is when it is, or why there is none; "" after a success.
type NextReason string

// The reasons.
const (
	NextBySchedule   NextReason = "retry_schedule"  // the next step of the retry schedule
	NextByRetryAfter NextReason = "retry_after"     // the endpoint asked for it
	NextByToken      NextReason = "token_refreshed" // at once, with a new OAuth token
	NextExhausted    NextReason = "schedule_ended"  // none: the delivery has failed
	NextCancelled    NextReason = "cancelled"       // none: it was cancelled while the attempt was under way
	NextQueuedAgain  NextReason = "queued_again"    // it was queued again by hand while the attempt was under way
)

// Attempt is one POST of a delivery, with its outcome.
type Attempt struct {
	Outcome

	// NextAt is when the delivery's next try was set to, zero if there is none; NextReason says why.
	NextAt     time.Time
	NextReason NextReason

	// Probe says that the endpoint was failing when the attempt had its turn. It is not stored, as RetryAfter and TokenRejected of the
	// outcome are not: the next try's time and reason are.
	Probe bool
}

// RequestHeader returns the header of the attempt's request as far as it is hookbolt's or the webhook's own, with "…" for credentials;
// nil if nothing was sent, or by a version that did not keep it. d is the attempt's delivery.
func (a *Attempt) RequestHeader(d *Delivery) []HeaderField {
	return a.Sent.Header(&send.Request{ID: d.ID.String(), ContentType: payloadType}, a.StartedAt)
}
