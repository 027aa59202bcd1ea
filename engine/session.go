package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Kind is what a delivery is for.
type Kind uint8

// The kinds of delivery.
const (
	KindComplete   Kind = 1 // the session has finished
	KindIncomplete Kind = 2 // the session had not finished some time after its start
	KindTest       Kind = 3 // somebody asked for a sample
	KindOperation  Kind = 4 // an operational event; see SystemEventType
)

func (k Kind) String() string {
	switch k {
	case KindComplete:
		return "complete"
	case KindIncomplete:
		return "incomplete"
	case KindTest:
		return "test"
	case KindOperation:
		return "operation"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// OfSession tells whether a delivery of that kind is about a session.
func (k Kind) OfSession() bool { return k == KindComplete || k == KindIncomplete }

// MarshalText gives the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// SessionHead is what is kept of a session beside its events: enough to decide what a new event means without reading them.
type SessionHead struct {
	ID       uuid.UUID
	Identity Identity
	// Events is how many events are stored; 0 for a session that is not stored yet.
	Events int
	// Bytes is how much JSON they have together; it may be less for a session from before it was counted.
	Bytes int64
	// FirstReceivedAt and LastReceivedAt are when the first and the last event came in.
	FirstReceivedAt, LastReceivedAt time.Time
	// FinishedAt is the time of the earliest finish or result_view; zero while there is none.
	FinishedAt time.Time
	// Deliveries are those that the session has led to: the proof that there is no second one for a webhook and kind.
	Deliveries []DeliveryRef
}

// DeliveryRef names a delivery that a session has led to.
type DeliveryRef struct {
	WebhookID uint32
	Kind      Kind
	ID        uuid.UUID
}

// Led tells whether the session has led to a delivery of that kind for that webhook.
func (h *SessionHead) Led(webhookID uint32, kind Kind) bool {
	return h.DeliveryOf(webhookID, kind) != uuid.Nil
}

// DeliveryOf returns the delivery of that kind that the session has led to for a webhook; uuid.Nil if there is none.
func (h *SessionHead) DeliveryOf(webhookID uint32, kind Kind) uuid.UUID {
	for i := range h.Deliveries {
		if r := &h.Deliveries[i]; r.WebhookID == webhookID && r.Kind == kind {
			return r.ID
		}
	}
	return uuid.Nil
}

// Session is the state of a session, folded from its events.
type Session struct {
	ID       uuid.UUID
	Identity Identity
	// StartedAt is the earliest start or vote, else the earliest event.
	StartedAt time.Time
	// FinishedAt is the earliest finish or result_view; zero while there is none.
	FinishedAt time.Time
	// EndedAt is when the visitor saw the first result, else FinishedAt.
	EndedAt time.Time
	// Questions are in the order of their first vote, each with at least one answer, in the order of the votes.
	Questions []Question
	// Result is the first result that was seen; nil if there is none.
	Result *Result
	// Leads are in the order in which they were sent in, CreatedAt always set.
	Leads []Lead
}

// Question is a question with the answers that were voted and not taken back.
type Question struct {
	ID      int64    `json:"question_id"`
	Title   *string  `json:"question"`
	Answers []Answer `json:"answers"`
}

// Fold makes the state of a session out of its events, which are given in the order of their arrival and folded in the order
// of their times, then of arrival. asOf leaves out what happened after it; zero leaves out nothing. The session's identity is
// no happening: it is taken from all events. Fold is pure and changes nothing that it is given.
func Fold(events []Event, asOf time.Time) Session {
	var s Session
	ordered := make([]*Event, 0, len(events))
	for i := range events {
		ev := &events[i]
		s.ID = ev.SessionID
		s.Identity.fill(ev.Identity)
		if asOf.IsZero() || !ev.Time.After(asOf) {
			ordered = append(ordered, ev)
		}
	}
	slices.SortStableFunc(ordered, func(a, b *Event) int { return a.Time.Compare(b.Time) })

	b := ballot{places: make(map[int64]int), cast: make(map[vote]bool)}
	for _, ev := range ordered {
		switch ev.Type {
		case EventStart:
			s.start(ev.Time)
		case EventVote:
			s.start(ev.Time)
			b.vote(ev)
		case EventUndo:
			b.undo(ev)
		case EventLead:
			lead := *ev.Lead
			if lead.CreatedAt == nil {
				lead.CreatedAt = new(FormatTime(ev.Time))
			}
			s.Leads = append(s.Leads, lead)
		case EventResultView:
			s.finish(ev.Time)
			if s.Result == nil {
				s.Result, s.EndedAt = ev.Result, ev.Time
			}
		case EventFinish:
			s.finish(ev.Time)
		}
	}
	if s.StartedAt.IsZero() && len(ordered) > 0 {
		s.StartedAt = ordered[0].Time
	}
	if s.EndedAt.IsZero() {
		s.EndedAt = s.FinishedAt
	}
	s.Questions = b.questions()
	return s
}

func (s *Session) start(at time.Time) {
	if s.StartedAt.IsZero() {
		s.StartedAt = at
	}
}

func (s *Session) finish(at time.Time) {
	if s.FinishedAt.IsZero() {
		s.FinishedAt = at
	}
}

// ballot counts a session's votes.
type ballot struct {
	asked  []Question    // in the order of their first vote; may have no answers left
	places map[int64]int // question id to its place in asked
	cast   map[vote]bool // what stands in asked
}

type vote struct{ question, answer int64 }

// vote adds answers; the same answer twice counts once. A question keeps the place of its first vote, even when all of its
// answers were taken back in between.
func (b *ballot) vote(ev *Event) {
	at, ok := b.places[ev.QuestionID]
	if !ok {
		at = len(b.asked)
		b.places[ev.QuestionID] = at
		b.asked = append(b.asked, Question{ID: ev.QuestionID})
	}
	q := &b.asked[at]
	if q.Title == nil {
		q.Title = ev.Question
	}
	for _, a := range ev.Answers {
		if v := (vote{ev.QuestionID, a.ID}); !b.cast[v] {
			b.cast[v] = true
			q.Answers = append(q.Answers, a)
		}
	}
}

// undo takes back one answer to a question, or all of them.
func (b *ballot) undo(ev *Event) {
	at, ok := b.places[ev.QuestionID]
	if !ok {
		return
	}
	q := &b.asked[at]
	q.Answers = slices.DeleteFunc(q.Answers, func(a Answer) bool {
		if ev.AnswerID != nil && a.ID != *ev.AnswerID {
			return false
		}
		delete(b.cast, vote{q.ID, a.ID})
		return true
	})
}

// questions returns those that have an answer.
func (b *ballot) questions() []Question {
	return slices.DeleteFunc(b.asked, func(q Question) bool { return len(q.Answers) == 0 })
}
