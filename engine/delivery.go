package engine

import (
	"fmt"
	"time"

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

// ErrorClass says what kept an attempt from being a success; "" for a 2xx.
type ErrorClass string

// The classes of failed attempts.
const (
	ErrorStatus         ErrorClass = "status"          // an answer that is not 2xx
	ErrorTimeout        ErrorClass = "timeout"         // no answer in time
	ErrorDNS            ErrorClass = "dns"             // the host's name did not resolve
	ErrorAddressRefused ErrorClass = "address_refused" // the address guard said no
	ErrorRefused        ErrorClass = "refused"         // nobody listens there
	ErrorReset          ErrorClass = "reset"           // the connection broke
	ErrorTLS            ErrorClass = "tls"             // handshake or certificate
	ErrorProtocol       ErrorClass = "protocol"        // not HTTP
	ErrorTooLarge       ErrorClass = "too_large"       // a header, or interim answers, without end
	ErrorOAuth          ErrorClass = "oauth2"          // the token endpoint gave no token
	ErrorInternal       ErrorClass = "internal"        // the request could not be made
)

// ErrorClasses are all classes.
var ErrorClasses = []ErrorClass{ErrorStatus, ErrorTimeout, ErrorDNS, ErrorAddressRefused, ErrorRefused, ErrorReset, ErrorTLS,
	ErrorProtocol, ErrorTooLarge, ErrorOAuth, ErrorInternal}

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
	// StartedAt is when it began; webhook-timestamp is its Unix second.
	StartedAt time.Time
	// Duration is the span until the answer was read, as far as it is kept, or until the attempt failed.
	Duration time.Duration
	Phases   Phases
	// Address is the address and port that was connected to, or tried last; "" if it did not come to that.
	Address string
	// Reused tells that the connection was there already.
	Reused bool
	// Protocol is that of the answer, such as "HTTP/1.1" or "HTTP/2.0".
	Protocol string
	// Status is the answer's; 0 if there was none.
	Status int
	// Error is "" for a 2xx; ErrorDetail tells more, for people.
	Error       ErrorClass
	ErrorDetail string
	// ResponseHeader is the answer's header, at most maxResponseHeaderKept of it, sorted by name.
	ResponseHeader []HeaderField
	// Response is the beginning of the answer's body, at most maxResponseBytes of it.
	Response []byte
	// Sent is what it sent beside the payload; zero if nothing was sent, or by a version that did not keep it.
	Sent Sent
	// NextAt is when the delivery's next try was set to, zero if there is none; NextReason says why.
	NextAt     time.Time
	NextReason NextReason

	// RetryAfter is what the answer asked for on 429 and 503; 0 if nothing. It is not stored: the next try's time is.
	RetryAfter time.Duration
	// TokenRejected tells that the answer was 401 to an OAuth token from before this try was due, which may have been revoked since:
	// the delivery is tried again at once, with a new one. It is not stored.
	TokenRejected bool
	// Probe tells that the endpoint was failing when the attempt had its turn. It is not stored.
	Probe bool
}

// Sent is what differs from attempt to attempt in the header of the request.
type Sent struct {
	// Signature is the value of webhook-signature, UserAgent that of User-Agent.
	Signature, UserAgent string
	// Credentials are the names of the header fields that the webhook's settings have filled, sorted. What they held is not kept.
	Credentials []string
}

// hidden stands for what is not shown.
const hidden = "…"

// RequestHeader returns the header of the attempt's request as far as it is hookbolt's or the webhook's own, with "…" for credentials;
// nil if nothing was sent, or by a version that did not keep it. d is the attempt's delivery.
func (a *Attempt) RequestHeader(d *Delivery) []HeaderField {
	if a.Sent.Signature == "" {
		return nil
	}
	return a.Sent.header(d, a.StartedAt)
}

func (s *Sent) header(d *Delivery, at time.Time) []HeaderField {
	h := []HeaderField{
		{"Content-Type", payloadType}, {"User-Agent", s.UserAgent}, {HeaderID, d.ID.String()}, {HeaderTimestamp, unixSecond(at)}, {HeaderSignature, s.Signature},
	}
	for _, name := range s.Credentials {
		h = append(h, HeaderField{name, hidden})
	}
	return h
}

// Phases are the parts of an attempt that it took time for; 0 where there was none, as on a connection that was there already.
type Phases struct {
	// Token is the span for getting an OAuth token.
	Token time.Duration
	// DNS, Connect and TLS are the spans of the look-up, of the connection (to the address that answered, or was tried last), and of
	// the handshake.
	DNS, Connect, TLS time.Duration
	// FirstByte is the span from the start of the attempt to the first byte of the answer.
	FirstByte time.Duration
}

// HeaderField is a line of a header.
type HeaderField struct{ Name, Value string }

const (
	// maxResponseBytes is how much of an endpoint's answer is kept.
	maxResponseBytes = 1024
	// maxResponseHeaderKept is how many bytes of its header are, names and values.
	maxResponseHeaderKept = 4096
)

// Delivered tells whether the attempt was a success.
func (a *Attempt) Delivered() bool { return a.Error == "" }
