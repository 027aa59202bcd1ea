package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// maxClaimOnArrivalBytes bounds the JSON of a session's events for its deliveries to be claimed on arrival: the transaction would read all
// of them. Larger sessions go through the queue.
const maxClaimOnArrivalBytes = 32 << 10

// Append is the events of a request, grouped by session, with the inputs that decide what they mean. A Store calls [Append.Admit] for each
// session.
type Append struct {
	// Now is when the request arrived, in UTC.
	Now time.Time
	// Open has the webhooks whose lanes send a due delivery at once. It must not be changed.
	Open map[uint32]bool
	// Settle is Config.Settle.
	Settle time.Duration
	// Partial reports that an event which its session refuses does not refuse the other events.
	Partial bool
	// Sessions are in the order of their first events. There is at least one.
	Sessions []PostedSession
}

// PostedSession is the events of one session in a request.
type PostedSession struct {
	// Events are in the order of their arrival. There is at least one.
	Events []Event
	// Payloads were rendered from Events before the transaction, for lanes that send at once. They are used only if these are all events of the session.
	Payloads []RenderedPayload
}

// RenderedPayload is a complete payload for a webhook.
type RenderedPayload struct {
	WebhookID uint32
	// Revision is that of the webhook whose settings it was rendered with.
	Revision uint64
	Body     []byte
}

// NewAppend groups the events of a request by session. There must be at least one event. It moves the events within their slice: a copy of all
// of them would take more memory than the body of the request.
func NewAppend(events []Event, now time.Time) Append {
	a := Append{Now: now}
	first := events[0].SessionID
	if !slices.ContainsFunc(events, func(ev Event) bool { return ev.SessionID != first }) {
		a.Sessions = []PostedSession{{Events: events}}
		return a
	}
	places := make(map[uuid.UUID]int32)
	var counts []int32
	sessions := make([]int32, len(events)) // the session of each event
	for i := range events {
		at, ok := places[events[i].SessionID]
		if !ok {
			at = int32(len(counts))
			places[events[i].SessionID] = at
			counts = append(counts, 0)
		}
		sessions[i] = at
		counts[at]++
	}
	a.Sessions = make([]PostedSession, len(counts))
	next := make([]int32, len(counts)) // where the next event of a session belongs
	begin := int32(0)
	for i, n := range counts {
		next[i] = begin
		a.Sessions[i].Events = events[begin : begin+n : begin+n]
		begin += n
	}
	targets := sessions
	for i, at := range sessions {
		targets[i] = next[at]
		next[at]++
	}
	permute(events, targets)
	return a
}

// permute moves each event to its target.
func permute(events []Event, targets []int32) {
	for i := range events {
		for to := targets[i]; int(to) != i; to = targets[i] {
			events[i], events[to] = events[to], events[i]
			targets[i], targets[to] = targets[to], to
		}
	}
}

// Size returns about how many bytes the request writes.
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

// HasIDs reports whether one of the events has an id, so that it may be a repeat.
func (p *PostedSession) HasIDs() bool {
	return slices.ContainsFunc(p.Events, func(ev Event) bool { return ev.ID != "" })
}

// fresh returns the events that are no repeats: their ids are not in stored, and have not come before in the request.
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

// acceptable returns the events that are no repeats and that the session accepts, and the errors of those that it refuses. The identity of a
// new session may be in any of the accepted events.
func (p *PostedSession) acceptable(head SessionHead, stored map[string]bool) (fresh []Event, refused InputErrors) {
	if head.Events == 0 {
		known := head
		known.Identity.fillAll(p.Events)
		fresh, refused = p.acceptEach(known, stored)
		if len(fresh) > 0 && checkFirst(Identity{}, fresh) == nil {
			return fresh, refused
		}
	}
	return p.acceptEach(head, stored)
}

// acceptEach decides event by event, as if each was posted alone. So an event whose id only a refused one had is no repeat.
func (p *PostedSession) acceptEach(head SessionHead, stored map[string]bool) (fresh []Event, refused InputErrors) {
	seen := make(map[string]bool)
	for _, ev := range p.Events {
		if ev.ID != "" && (stored[ev.ID] || seen[ev.ID]) {
			continue
		}
		next := head
		if err := next.addEvents([]Event{ev}); err != nil {
			refused = append(refused, err...)
			continue
		}
		head = next
		seen[ev.ID] = true
		fresh = append(fresh, ev)
	}
	return fresh, refused
}

// payload returns the payload that was rendered for a webhook; nil if there is none, or if the webhook was changed since.
func (p *PostedSession) payload(w *Webhook) []byte {
	for i := range p.Payloads {
		if r := &p.Payloads[i]; r.WebhookID == w.ID && r.Revision == w.Revision {
			return r.Body
		}
	}
	return nil
}

// Trigger asks for the payload of a session for a webhook. The Store makes a delivery for it.
type Trigger struct {
	WebhookID uint32
	Kind      Kind
	// DueAt is when it fires, in UTC.
	DueAt time.Time
	// AsOf is the instant of an incomplete trigger, in UTC: its payload holds what has happened up to then.
	AsOf time.Time
	// Moves reports that the session may have a delivery of that kind for the webhook already. Then Move moves that one, and none is made.
	// MovesOnly reports that none is made if there is none.
	Moves, MovesOnly bool
	// Late and Before are, for kind update, how many late events it is for, and how many events the session had before them.
	Late, Before int
	// Claim reports that the delivery is due on arrival and must be claimed in the transaction that stores it. It does not go through the
	// queue.
	Claim bool
	// Payload is frozen with the delivery in the same transaction. Nil means that the payload is rendered later.
	Payload []byte
	// dueOnArrival reports that Claim is set if the lane is open.
	dueOnArrival bool
}

// Move moves a delivery that an earlier trigger of the session has made. It returns false if the delivery has been taken up, or has ended.
func (t *Trigger) Move(d *Delivery) bool {
	if d.Status != StatusScheduled {
		return false
	}
	if d.NextAttemptAt.Equal(d.DueAt) { // else it was queued by hand
		d.NextAttemptAt = t.DueAt
	}
	d.DueAt, d.AsOf = t.DueAt, t.AsOf
	return true
}

// Decision is what the events of a request change in a session.
type Decision struct {
	// Fresh are the events to store. If there are none, nothing changes.
	Fresh []Event
	// Duplicates is how many events are left out because they are repeats.
	Duplicates int
	// Refused says what is wrong with the events that are left out. It is empty unless Append.Partial is true.
	Refused InputErrors
	// Head is the session's head after these events. The Store adds a DeliveryRef for each trigger.
	Head     SessionHead
	Triggers []Trigger
	// Late reports that the session had finished before the fresh events. They may change payloads that were built already: AdmitLate
	// decides what they lead to.
	Late bool
	// FanOut is set in place of Triggers if there are too many to list.
	FanOut FanOut
}

// Admit decides what the events of a.Sessions[i] change. head is the head of the stored session, zero if the session is not stored yet.
// stored has the ids of its stored events; it may be nil if there are none, or if PostedSession.HasIDs returns false. The error is an
// InputErrors that names the refused events; with a.Partial, they are in Decision.Refused instead. room is how many triggers it may list:
// MaxTriggers for all sessions of a request together. Admit is pure, so a Store may call it again.
func (a *Append) Admit(i int, head SessionHead, stored map[string]bool, hooks *WebhookSet, room int) (Decision, error) {
	p := &a.Sessions[i]
	var d Decision
	if a.Partial {
		d.Fresh, d.Refused = p.acceptable(head, stored)
	} else {
		d.Fresh = p.fresh(stored)
	}
	d.Duplicates = len(p.Events) - len(d.Fresh) - len(d.Refused)
	if len(d.Fresh) == 0 {
		return d, nil
	}
	before := head
	if refused := head.addEvents(d.Fresh); refused != nil {
		return Decision{}, refused
	}
	d.Head, d.Late = head, !before.FinishedAt.IsZero()
	fanOut := a.fanOut(&before, &head, d.Fresh)
	if fanOut.IsZero() {
		return d, nil
	}
	if hooks.mostTriggers(head.Identity.ContentID, fanOut) > room {
		d.FanOut = fanOut
		return d, nil
	}
	if fanOut.Continued || len(d.Fresh) != len(p.Events) {
		p = nil // its payloads are not those of the whole session
	}
	for _, list := range hooks.matching(head.Identity.ContentID, fanOut.onlyIncomplete()) {
		for _, w := range list {
			n := len(d.Triggers)
			d.Triggers = fanOut.AppendTriggers(d.Triggers, &head, w)
			if len(d.Triggers) == n+1 { // a complete delivery comes behind the incomplete one: both go through the queue
				a.claimOnArrival(&d.Triggers[n], &head, w, p)
			}
		}
	}
	return d, nil
}

// fanOut returns what fresh events lead to, by the session's head before and after them.
func (a *Append) fanOut(before, after *SessionHead, fresh []Event) FanOut {
	f := FanOut{Continued: before.Events > 0, WasFinished: !before.FinishedAt.IsZero(), ReceivedAt: a.Now, Settle: a.Settle}
	switch {
	case before.StartedAt.IsZero() && !after.StartedAt.IsZero():
		f.StartedAt = after.StartedAt
	case !f.Continued: // until there is a start, the earliest event stands in: a lead on a cover screen must not be lost
		f.StartedAt = earliest(fresh)
	}
	if !f.WasFinished {
		f.FinishedAt = after.FinishedAt
	}
	if !f.StartedAt.IsZero() && !f.FinishedAt.IsZero() && slices.ContainsFunc(fresh, func(ev Event) bool { return !ev.finishes() }) {
		f.ReceivedAt = time.Time{} // it was posted whole. A finish alone was not: an import may begin with it
	}
	return f
}

// earliest returns the time of the earliest event.
func earliest(events []Event) time.Time {
	at := events[0].Time
	for i := range events {
		if events[i].Time.Before(at) {
			at = events[i].Time
		}
	}
	return at
}

// claimOnArrival decides whether a complete delivery is claimed in the transaction that makes it, and which payload is frozen there. whole is nil unless
// the request has all events of the session.
func (a *Append) claimOnArrival(t *Trigger, head *SessionHead, w *Webhook, whole *PostedSession) {
	t.dueOnArrival = t.Kind == KindComplete && !t.DueAt.After(a.Now) && head.Bytes <= maxClaimOnArrivalBytes
	t.Claim = t.dueOnArrival && a.Open[w.ID]
	if t.dueOnArrival && whole != nil {
		t.Payload = whole.payload(w)
	}
}

// addEvents adds fresh events to a session's head. It returns what is wrong with them.
func (h *SessionHead) addEvents(fresh []Event) InputErrors {
	first := fresh[0]
	if h.Events == 0 {
		if refused := checkFirst(h.Identity, fresh); refused != nil {
			return refused
		}
		h.ID = first.SessionID
		h.FirstReceivedAt = first.ReceivedAt
	}
	if refused := h.addSizes(fresh); refused != nil {
		return refused
	}
	for _, ev := range fresh {
		h.Identity.fill(ev.Identity)
		if ev.ReceivedAt.After(h.LastReceivedAt) {
			h.LastReceivedAt = ev.ReceivedAt
		}
		switch {
		case ev.starts() && (h.StartedAt.IsZero() || ev.Time.Before(h.StartedAt)):
			h.StartedAt = ev.Time
		case ev.finishes() && (h.FinishedAt.IsZero() || ev.Time.Before(h.FinishedAt)):
			h.FinishedAt = ev.Time
		}
	}
	return nil
}

// addSizes counts fresh events. It refuses those that exceed the limits of a session.
func (h *SessionHead) addSizes(fresh []Event) InputErrors {
	if room := MaxSessionEvents - h.Events; len(fresh) > room {
		var bad InputErrors
		for _, ev := range fresh[room:] {
			bad = append(bad, InputError{Index: ev.Index, Field: "session_id",
				Detail: fmt.Sprintf("a session can have at most %d events", MaxSessionEvents)})
		}
		return bad
	}
	h.Events += len(fresh)
	for i := range fresh {
		if h.Bytes += int64(len(fresh[i].JSON)); h.Bytes > MaxSessionBytes {
			return InputErrors{{Index: fresh[i].Index, Field: "session_id",
				Detail: fmt.Sprintf("a session can have at most %d MiB of events", MaxSessionBytes>>20)}}
		}
	}
	return nil
}

// checkFirst refuses the first events of a session if none of them says which content and which visitor the session belongs to. known is what is
// known of it already.
func checkFirst(known Identity, fresh []Event) InputErrors {
	known.fillAll(fresh)
	missing := ""
	switch {
	case known.ContentID == uuid.Nil:
		missing = "content_id"
	case known.ContentType == "":
		missing = "content_type"
	case known.PoltioUserID == nil:
		missing = "poltio_user_id"
	default:
		return nil
	}
	return InputErrors{{Index: fresh[0].Index, Field: missing, Detail: "is required in the first request of a session, in any of its events"}}
}
