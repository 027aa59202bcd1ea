package engine

import (
	"time"

	"github.com/google/uuid"
)

// EventType says what an event reports about its session.
type EventType string

// The event types of spec.md, "Events".
const (
	EventStart      EventType = "start"
	EventVote       EventType = "vote"
	EventUndo       EventType = "undo"
	EventLead       EventType = "lead"
	EventResultView EventType = "result_view"
	EventFinish     EventType = "finish"
)

var eventTypes = []EventType{EventStart, EventVote, EventUndo, EventLead, EventResultView, EventFinish}

// ContentType is the type of content that a session runs through: set, quiz, test, survey or content.
type ContentType string

// ContentTypes are all content types.
var ContentTypes = []ContentType{"set", "quiz", "test", "survey", "content"}

const (
	// MaxSessionEvents is how many events a session may have.
	MaxSessionEvents = 10_000
	// MaxSessionBytes bounds the JSON of all events of a session: a session is read and sent as a whole.
	MaxSessionBytes = 16 << 20
	// maxEventID is the maximum length of an event's id, in bytes.
	maxEventID = 128
	// maxAhead is how far the time of an event may be ahead of the server's clock.
	maxAhead = 5 * time.Minute
)

// minTime is the earliest valid time of an event. Earlier ones come from clocks that were never set.
var minTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Event is one fact about a session. It never changes once it is accepted.
type Event struct {
	Type      EventType
	SessionID uuid.UUID
	// ID is the client's idempotency key, unique within the session; "" if there is none.
	ID string
	// Time is when it happened, by the client's clock, in UTC. If the client gave no time, it is ReceivedAt, or that of an event that came before, if it is later.
	Time time.Time
	// ReceivedAt is when hookbolt received it, in UTC.
	ReceivedAt time.Time
	// Identity has the session's identity fields, as far as this event carries them.
	Identity Identity

	QuestionID int64    // vote, undo
	Question   *string  // vote
	Answers    []Answer // vote: at least one
	AnswerID   *int64   // undo: nil undoes all answers to the question
	Lead       *Lead    // lead
	Result     *Result  // result_view

	// Index is the event's position in its request, from 0.
	Index int
	// JSON is the event as it was received. It shares memory with the body of the request.
	JSON []byte
}

// starts reports whether the event starts its session.
func (ev *Event) starts() bool { return ev.Type == EventStart || ev.Type == EventVote }

// finishes reports whether the event finishes its session.
func (ev *Event) finishes() bool { return ev.Type == EventFinish || ev.Type == EventResultView }

// Identity has the fields that identify a session, apart from its id. The first accepted value of each field is kept. A zero field was not in
// any event yet.
type Identity struct {
	ContentID     uuid.UUID
	ContentType   ContentType
	PoltioUserID  *int64
	PublisherUUID *string
	CustomID      *string
}

// fill sets the fields that i lacks from later.
func (i *Identity) fill(later Identity) {
	if i.ContentType == "" {
		i.ContentType = later.ContentType
	}
	if i.ContentID == uuid.Nil {
		i.ContentID = later.ContentID
	}
	if i.PoltioUserID == nil {
		i.PoltioUserID = later.PoltioUserID
	}
	if i.PublisherUUID == nil {
		i.PublisherUUID = later.PublisherUUID
	}
	if i.CustomID == nil {
		i.CustomID = later.CustomID
	}
}

// fillAll sets the fields that i lacks from the first event that has them.
func (i *Identity) fillAll(events []Event) {
	for j := range events {
		i.fill(events[j].Identity)
	}
}

// Answer is one answer of a vote, with its JSON form in the payload.
type Answer struct {
	ID     int64   `json:"answer_id"`
	Answer *string `json:"answer"`
	Parent *string `json:"parent"`
	Addon  *string `json:"addon,omitempty"`
}

// Lead is a submitted lead form, with its JSON form in the payload.
type Lead struct {
	UserID      *int64  `json:"user_id"`
	Phone       *string `json:"phone"`
	Email       *string `json:"email"`
	Name        *string `json:"name"`
	Comment     *string `json:"comment"`
	CreatedAt   *string `json:"created_at"`
	TCChecked   *bool   `json:"tc_checked"`
	ContentType *string `json:"content_type"`
	ContentID   *int64  `json:"content_id"`
	Addon       *string `json:"addon,omitempty"`
}

// Result is the result that a visitor saw, with its JSON form in the payload.
type Result struct {
	ID               int64   `json:"result_id"`
	Title            *string `json:"result_title"`
	Image            *string `json:"result_image"`
	Desc             *string `json:"result_desc"`
	TimeSpent        *int64  `json:"time_spent"`
	RightAnswer      *int64  `json:"right_answer"`
	CalculatorResult *string `json:"calculator_result"`
}
