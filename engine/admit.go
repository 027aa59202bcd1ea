package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// maxClaimOnArrivalBytes is how much JSON the events of a session may have for its deliveries to be claimed as they are stored: others wait for
// a look at the queue.
const maxClaimOnArrivalBytes = 32 << 10

// Append is a request's events, by session, and what it takes to decide what they mean. A Store calls [Append.Admit] for each session.
type Append struct {
	// Now is when the request arrived.
	Now time.Time
	// Open are the webhooks whose lanes send at once what is due. It is not changed any more.
	Open map[uint32]bool
	// Sessions are in the order of their first events, at least one.
	Sessions []PostedSession
}

// PostedSession is the events of one session in a request.
type PostedSession struct {
	// Events are in the order of their arrival, at least one.
	Events []Event
	// Payloads were rendered from all of Events, before it was known whether there is more of the session: they are used where there is
	// not.
	Payloads []RenderedPayload
}

// RenderedPayload is a complete payload for a webhook.
type RenderedPayload struct {
	WebhookID uint32
	// Revision is that of the webhook whose settings have shaped it.
	Revision uint64
	Body     []byte
}

// NewAppend groups a request's events by session.
func NewAppend(events []Event, now time.Time) Append {
	a := Append{Now: now}
	first := events[0].SessionID
	if !slices.ContainsFunc(events, func(ev Event) bool { return ev.SessionID != first }) {
		a.Sessions = []PostedSession{{Events: events}}
		return a
	}
	places := make(map[uuid.UUID]int)
	for _, ev := range events {
		at, ok := places[ev.SessionID]
		if !ok {
			at = len(a.Sessions)
			places[ev.SessionID] = at
			a.Sessions = append(a.Sessions, PostedSession{})
		}
		p := &a.Sessions[at]
		p.Events = append(p.Events, ev)
	}
	return a
}

// Size is about how many bytes the request writes.
func (a *Append) Size() int {
	size := 0
	for i := range a.Sessions {
		p := &a.Sessions[i]
		for j := range p.Events {
			size += len(p.Events[j].JSON)
		}
		for j := range p.Payloads {
			size += len(p.Payloads[j].Body)
		}
	}
	return size
}

// HasIDs tells whether one of the events has an id, by which it may be a repeat.
func (p *PostedSession) HasIDs() bool {
	return slices.ContainsFunc(p.Events, func(ev Event) bool { return ev.ID != "" })
}

// fresh returns the events that are no repeats: those whose id is not stored with the session, and has not come before in the request.
func (p *PostedSession) fresh(stored map[string]bool) []Event {
	if !p.HasIDs() {
		return p.Events
	}
	seen := make(map[string]bool)
	fresh := make([]Event, 0, len(p.Events))
	for _, ev := range p.Events {
		if ev.ID != "" {
			if stored[ev.ID] || seen[ev.ID] {
				continue
			}
			seen[ev.ID] = true
		}
		fresh = append(fresh, ev)
	}
	return fresh
}

// payload returns what was rendered for a webhook, if its settings are still the same; else nil.
func (p *PostedSession) payload(w *Webhook) []byte {
	for i := range p.Payloads {
		if r := &p.Payloads[i]; r.WebhookID == w.ID && r.Revision == w.Revision {
			return r.Body
		}
	}
	return nil
}

// Trigger asks for the payload of a session for a webhook.
type Trigger struct {
	WebhookID uint32
	Kind      Kind
	// DueAt is when it fires. It does not move. For an incomplete trigger it is also the instant up to which the payload
	// holds what has happened.
	DueAt time.Time
	// Claim tells that its delivery is due, and is to be claimed as it is stored, which saves it the way through the queue.
	Claim bool
	// Payload is what its delivery is to be frozen with as it is stored; nil if that is to be rendered later.
	Payload []byte
}

// Decision is what a request's events mean for a session.
type Decision struct {
	// Fresh are the events to store. If there are none, the request changes nothing of the session.
	Fresh []Event
	// Head is the session's head with the events in it. The Store adds a DeliveryRef for each trigger.
	Head     SessionHead
	Triggers []Trigger
}

// Admit decides what the events of a.Sessions[i] mean. head is the session's, zero if it is not stored yet. stored has the ids of the
// session's stored events; it may be nil where there are none, or where PostedSession.HasIDs says no. The error is an InputErrors that
// names the bad events. Admit is pure: a Store may call it again.
func (a *Append) Admit(i int, head SessionHead, stored map[string]bool, hooks *WebhookSet) (Decision, error) {
	p := &a.Sessions[i]
	d := Decision{Fresh: p.fresh(stored)}
	if len(d.Fresh) == 0 {
		return d, nil
	}
	isNew, wasFinished := head.Events == 0, !head.FinishedAt.IsZero()
	started, err := head.addEvents(d.Fresh)
	if err != nil {
		return Decision{}, err
	}
	d.Head = head
	finishes := !wasFinished && !head.FinishedAt.IsZero()
	if !isNew && !finishes {
		return d, nil
	}
	whole := isNew && len(d.Fresh) == len(p.Events)
	hooks.EachMatching(head.Identity.ContentID, func(w *Webhook) {
		if isNew && w.SendIncomplete {
			// A session that comes with its finish inside the instant would lead to a trigger that goes without a trace.
			instant := started.Add(seconds(w.IncompleteDelay))
			if head.FinishedAt.IsZero() || head.FinishedAt.After(instant) {
				d.Triggers = append(d.Triggers, Trigger{WebhookID: w.ID, Kind: KindIncomplete, DueAt: instant})
			}
		}
		if finishes && !head.Led(w.ID, KindComplete) {
			t := Trigger{WebhookID: w.ID, Kind: KindComplete, DueAt: head.FinishedAt.Add(seconds(w.Delay))}
			if t.Claim = !t.DueAt.After(a.Now) && head.Bytes <= maxClaimOnArrivalBytes && a.Open[w.ID]; t.Claim && whole {
				t.Payload = p.payload(w)
			}
			d.Triggers = append(d.Triggers, t)
		}
	})
	return d, nil
}

// take adds fresh events to a session's head, and returns when these say that the session has started. The error is an InputErrors.
func (h *SessionHead) addEvents(fresh []Event) (started time.Time, err error) {
	first := fresh[0]
	if h.Events == 0 {
		if err := checkFirst(first); err != nil {
			return started, err
		}
		h.ID = first.SessionID
		h.FirstReceivedAt = first.ReceivedAt
	}
	if err := h.addSizes(fresh); err != nil {
		return started, err
	}
	earliest := first.Time
	for _, ev := range fresh {
		h.Identity.fill(ev.Identity)
		if ev.ReceivedAt.After(h.LastReceivedAt) {
			h.LastReceivedAt = ev.ReceivedAt
		}
		if ev.Time.Before(earliest) {
			earliest = ev.Time
		}
		switch ev.Type {
		case EventStart, EventVote:
			if started.IsZero() || ev.Time.Before(started) {
				started = ev.Time
			}
		case EventFinish, EventResultView:
			if h.FinishedAt.IsZero() || ev.Time.Before(h.FinishedAt) {
				h.FinishedAt = ev.Time
			}
		}
	}
	if started.IsZero() {
		started = earliest
	}
	return started, nil
}

// addSizes counts fresh events, and refuses those that would be too many or too large for one session.
func (h *SessionHead) addSizes(fresh []Event) error {
	if room := MaxSessionEvents - h.Events; len(fresh) > room {
		var bad InputErrors
		for _, ev := range fresh[room:] {
			bad = append(bad, InputError{Index: ev.Index, Field: "session_id",
				Detail: fmt.Sprintf("the session has %d events already, which is the most that one may have", MaxSessionEvents)})
		}
		return bad
	}
	h.Events += len(fresh)
	for i := range fresh {
		if h.Bytes += int64(len(fresh[i].JSON)); h.Bytes > MaxSessionBytes {
			return InputErrors{{Index: fresh[i].Index, Field: "session_id",
				Detail: fmt.Sprintf("with this event the session has more than %d MiB of events, which is the most that one may have", MaxSessionBytes>>20)}}
		}
	}
	return nil
}

// checkFirst refuses a first event that does not say whose session it is.
func checkFirst(ev Event) error {
	missing := ""
	switch {
	case ev.Identity.ContentID == uuid.Nil:
		missing = "content_id"
	case ev.Identity.ContentType == "":
		missing = "content_type"
	case ev.Identity.PoltioUserID == nil:
		missing = "poltio_user_id"
	default:
		return nil
	}
	return InputErrors{{Index: ev.Index, Field: missing, Detail: "is required in the first event of a session"}}
}
