package engine

import (
	"cmp"
	"fmt"
	"time"

	"hookbolt/engine/send"

	"github.com/google/uuid"
)

// Status is the state of a delivery.
type Status uint8

// The states of a delivery; see the package comment for the transitions.
const (
	StatusScheduled Status = 1 // the trigger waits for its due time
	StatusPending   Status = 2 // the payload is frozen and not delivered yet
	StatusDelivered Status = 3 // an attempt succeeded
	StatusFailed    Status = 4 // the last retry has failed: a dead letter
	StatusCancelled Status = 5 // cancelled by hand, by a change of the webhook, or for a newer delivery of its session
	StatusFiltered  Status = 6 // the webhook's filter did not let it through
)

// Statuses are all states, in the order of a delivery's life.
var Statuses = []Status{StatusScheduled, StatusPending, StatusDelivered, StatusFailed, StatusCancelled, StatusFiltered}

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
	case StatusFiltered:
		return "filtered"
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// MarshalText returns the name of the state.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseStatus returns the state with the given name.
func ParseStatus(name string) (Status, error) {
	for _, s := range Statuses {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("must be scheduled, pending, delivered, failed, cancelled or filtered (got %q)", Excerpt(name))
}

// Waiting reports whether a delivery in this state waits in its lane.
func (s Status) Waiting() bool { return s == StatusScheduled || s == StatusPending }

// Delivery is the result of one trigger, of one test or of one system event. It keeps its id for its whole life; every attempt sends it as
// webhook-id. All times are in UTC.
type Delivery struct {
	// ID is a UUIDv7 that the Store assigns.
	ID        uuid.UUID
	WebhookID uint32
	// WebhookRevision is the webhook's revision when the delivery was last queued.
	WebhookRevision uint64
	// SessionID and the session's ContentID are uuid.Nil for a test and for a system event.
	SessionID uuid.UUID
	ContentID uuid.UUID
	Kind      Kind
	Status    Status

	CreatedAt time.Time
	// DueAt is when the trigger fires; see Trigger.
	DueAt time.Time
	// AsOf is the instant of an incomplete delivery: its payload holds what has happened up to then. Zero for the other kinds.
	AsOf time.Time
	// NextAttemptAt is when the next attempt is due: the delivery's place in its lane. Zero in a final state.
	NextAttemptAt time.Time
	// FrozenAt is when the body was built; zero while scheduled, and if it never was.
	FrozenAt time.Time
	// FinishedAt is when the final state was reached; zero before.
	FinishedAt time.Time

	// Attempts is how many attempts are recorded.
	Attempts int
	// Tries is how many of them count in the current pass through the retry schedule.
	Tries int
	// LastStatus and LastError are those of the last attempt; zero before the first. LastError is ErrorTransform, too, while BuildError is set.
	LastStatus int
	LastError  ErrorClass

	// BuildError says why the programs of the webhook could not build the body of a failed delivery; "" if they did not fail. It may quote data of
	// the session. There was no attempt then.
	BuildError string
	// Shaped reports that a program has made the body: it is not the payload, and may be no JSON.
	Shaped bool
	// ContentType and URLValues are frozen with the body: its Content-Type, "" for that of every payload, and the values for the names in the
	// webhook's URL, "" for none.
	ContentType string
	URLValues   URLValues

	// BuiltFrom is how many events the session had when the payload was built, or filtered. It is 0 before, and where it is not known:
	// hookbolt did not always store it.
	BuiltFrom int
	// LateEvents is how many events have changed the session's payload since, without an update.
	LateEvents int
	// SupersededBy is the newer delivery of the session for which a cancelled one was cancelled; uuid.Nil if it was not.
	SupersededBy uuid.UUID
}

// Lane is the queue of a webhook. Test deliveries have a lane of their own, because they are sent even while the webhook is paused or
// inactive.
type Lane struct {
	WebhookID uint32
	Test      bool
}

// Lane returns the lane that the delivery waits in.
func (d *Delivery) Lane() Lane { return Lane{d.WebhookID, d.Kind == KindTest} }

// dueSince returns since when a waiting delivery has been due, or when it will be: an old session's delivery is due at once, and not before
// it was created.
func (d *Delivery) dueSince() time.Time { return later(d.NextAttemptAt, d.CreatedAt) }

// FrozenType returns the Content-Type of the body.
func (d *Delivery) FrozenType() string { return cmp.Or(d.ContentType, payloadType) }

// Parked reports whether the delivery waits for the programs of its webhook to be mended: they could not build its body.
func (d *Delivery) Parked() bool { return d.Status == StatusFailed && d.BuildError != "" }

// NextReason says why a delivery's next attempt is due when it is, or why there is none; "" after a success.
type NextReason string

// The reasons.
const (
	NextBySchedule   NextReason = "retry_schedule"  // the next step of the retry schedule
	NextByRetryAfter NextReason = "retry_after"     // the endpoint asked for it
	NextByThrottle   NextReason = "throttled"       // the endpoint refused load; not a step of the schedule
	NextByToken      NextReason = "token_refreshed" // at once, with a new OAuth token; not a step of the schedule
	NextExhausted    NextReason = "schedule_ended"  // none: the delivery has failed
	NextCancelled    NextReason = "cancelled"       // none: it was cancelled during the attempt
	NextQueuedAgain  NextReason = "queued_again"    // it was queued again by hand during the attempt
)

// Attempt is one request of a delivery, with its outcome.
type Attempt struct {
	Outcome

	// NextAt is when the next attempt was due after this one, zero if none was; NextReason says why.
	NextAt     time.Time
	NextReason NextReason

	// Probe reports that the endpoint was failing when the attempt began. It is not stored, nor are RetryAfter and TokenRejected of the
	// outcome: NextAt and NextReason are. An attempt with a Trouble is not stored at all.
	Probe bool
	// heldUntil is until when the endpoint's lane is held if the attempt was refused because of load, in UTC. refusedAgain reports that the endpoint has
	// taken nothing since the refusal before.
	heldUntil    time.Time
	refusedAgain bool
}

// RequestMethod returns the method of the attempt's request; "" where RequestHeader returns nil.
func (a *Attempt) RequestMethod() string {
	if a.Sent.Signature == "" {
		return ""
	}
	return cmp.Or(a.Sent.Method, Methods[0])
}

// RequestHeader returns the header of the attempt's request, with "…" for credentials, without the fields that the HTTP protocol itself
// adds. It is nil if nothing was sent, or if the attempt was stored by a version that did not keep it. d is the attempt's delivery.
func (a *Attempt) RequestHeader(d *Delivery) []HeaderField {
	return a.Sent.Header(&send.Request{ID: d.ID.String(), ContentType: d.FrozenType(), Kind: d.Kind.String()}, a.StartedAt)
}
