package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Kind says what a delivery is for.
type Kind uint8

// The kinds of delivery.
const (
	KindComplete   Kind = 1 // the session has finished
	KindIncomplete Kind = 2 // the session had not finished by some time after its start
	KindTest       Kind = 3 // a test, sent by hand
	KindOperation  Kind = 4 // a system event; see SystemEventType
	KindUpdate     Kind = 5 // something of the payload has changed since the complete one was built
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
	case KindUpdate:
		return "update"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// OfSession reports whether a delivery of that kind is for a session.
func (k Kind) OfSession() bool { return k == KindComplete || k == KindIncomplete || k == KindUpdate }

// MarshalText returns the name of the kind.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// SessionHead is what is stored of a session beside its events: enough to decide what a new event changes without reading the others. All
// times are in UTC.
type SessionHead struct {
	ID       uuid.UUID
	Identity Identity
	// Events is how many events are stored; 0 for a session that is not stored yet.
	Events int
	// Bytes is the total length of their JSON. It may be less for a session from before hookbolt counted it.
	Bytes int64
	// FirstReceivedAt and LastReceivedAt are when the first and the last event were received.
	FirstReceivedAt, LastReceivedAt time.Time
	// StartedAt is the time of the earliest start or vote event; zero if there is none. Of a session from before hookbolt stored it, it is
	// FirstReceivedAt.
	StartedAt time.Time
	// FinishedAt is the time of the earliest finish or result_view event; zero if there is none.
	FinishedAt time.Time
	// Deliveries are the deliveries of the session. They guarantee that there is at most one for each webhook and kind, but of updates.
	Deliveries []DeliveryRef
}

// DeliveryRef refers to a delivery of a session.
type DeliveryRef struct {
	WebhookID uint32
	Kind      Kind
	ID        uuid.UUID
}

// Led reports whether the session has a delivery of that kind for that webhook.
func (h *SessionHead) Led(webhookID uint32, kind Kind) bool {
	return h.DeliveryOf(webhookID, kind) != uuid.Nil
}

// DeliveryOf returns the id of the session's delivery of that kind for a webhook; uuid.Nil if there is none.
func (h *SessionHead) DeliveryOf(webhookID uint32, kind Kind) uuid.UUID {
	for i := range h.Deliveries {
		if r := &h.Deliveries[i]; r.WebhookID == webhookID && r.Kind == kind {
			return r.ID
		}
	}
	return uuid.Nil
}

// Session is the state of a session, folded from its events. All times are in UTC.
type Session struct {
	ID       uuid.UUID
	Identity Identity
	// StartedAt is the time of the earliest start or vote, or of the earliest event if there is neither.
	StartedAt time.Time
	// FinishedAt is the time of the earliest finish or result_view; zero if there is none.
	FinishedAt time.Time
	// EndedAt is when the visitor saw the first result, or FinishedAt if there was no result. It may lie before StartedAt, as FinishedAt may, if the
	// times of the events say so; payloads never do.
	EndedAt time.Time
	// Questions are in the order of their first vote. Each has at least one answer, in the order of the votes.
	Questions []Question
	// Result is the first result that the visitor saw; nil if there is none.
	Result *Result
	// Leads are in the order in which they were submitted. CreatedAt is always set.
	Leads []Lead
}

// Question is a question with the answers that were voted and not undone.
type Question struct {
	ID      int64    `json:"question_id"`
	Title   *string  `json:"question"`
	Answers []Answer `json:"answers"`
}

// Fold returns the state of a session from its events, which must be in the order of their arrival. It applies them in the order of their
// times; events with equal times stay in the order of their arrival. asOf leaves out events after it; zero leaves out none. The identity is
// taken from all events. Fold is pure and does not change its arguments.
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

// ballot collects a session's votes.
type ballot struct {
	asked  []Question    // in the order of their first vote; a question may have no answers left
	places map[int64]int // by question id, its index in asked
	cast   map[vote]bool // the answers in asked
}

type vote struct{ question, answer int64 }

// vote adds answers; a repeated answer counts once. A question keeps the position of its first vote, even if all its answers were undone in
// between.
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

// undo removes one answer to a question, or all of them.
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

// questions returns the questions that have an answer.
func (b *ballot) questions() []Question {
	return slices.DeleteFunc(b.asked, func(q Question) bool { return len(q.Answers) == 0 })
}
