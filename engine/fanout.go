package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// MaxTriggers is how many deliveries the transaction that stores a request makes at most. Where a session's events lead to more, its
// [Decision] has a FanOut in place of triggers, and the Store makes the deliveries in bounded steps afterwards.
const MaxTriggers = 1000

// FanOut says which triggers the events of a request have led to in a session, whatever webhooks there are.
type FanOut struct {
	// StartedAt is set if the events began the session: it is when the session started.
	StartedAt time.Time
	// FinishedAt is set if the events finished the session.
	FinishedAt time.Time
}

// IsZero reports whether the events lead to no trigger.
func (f FanOut) IsZero() bool { return f.StartedAt.IsZero() && f.FinishedAt.IsZero() }

// AppendTriggers appends the triggers for an active webhook, without those that have led to a delivery. head is the session's head as it is now.
func (f FanOut) AppendTriggers(list []Trigger, head *SessionHead, w *Webhook) []Trigger {
	if w.ContentID != nil && *w.ContentID != head.Identity.ContentID {
		return list
	}
	if !f.StartedAt.IsZero() && w.SendIncomplete && !head.Led(w.ID, KindIncomplete) {
		// No trigger for a session that is known to finish by the instant: it would be removed without a trace.
		instant := f.StartedAt.Add(seconds(w.IncompleteDelay))
		if head.FinishedAt.IsZero() || head.FinishedAt.After(instant) {
			list = append(list, Trigger{WebhookID: w.ID, Kind: KindIncomplete, DueAt: instant})
		}
	}
	if !f.FinishedAt.IsZero() && !head.Led(w.ID, KindComplete) {
		list = append(list, Trigger{WebhookID: w.ID, Kind: KindComplete, DueAt: f.FinishedAt.Add(seconds(w.Delay))})
	}
	return list
}

// FannedOut is a session with deliveries that are still to be made.
type FannedOut struct {
	FanOut
	ContentID uuid.UUID
}

// NextInFanOut returns the webhooks that deliveries of the sessions are made for next: those with an id above after and up to last, in the
// order of the ids, at most so many. They match at least one of the sessions.
func (s *WebhookSet) NextInFanOut(sessions []FannedOut, after, last uint32, most int) []*Webhook {
	type lists struct {
		contentID  uuid.UUID
		unfinished bool
	}
	looked := make(map[lists]bool)
	var found []*Webhook
	for _, session := range sessions {
		of := lists{session.ContentID, session.FinishedAt.IsZero()}
		if looked[of] {
			continue
		}
		looked[of] = true
		for _, list := range s.matching(of.contentID, of.unfinished) {
			from, _ := slices.BinarySearchFunc(list, after+1, func(w *Webhook, id uint32) int { return cmp.Compare(w.ID, id) })
			found = append(found, list[from:min(len(list), from+most)]...)
		}
	}
	slices.SortFunc(found, func(a, b *Webhook) int { return cmp.Compare(a.ID, b.ID) })
	found = slices.Compact(found)
	beyond := slices.IndexFunc(found, func(w *Webhook) bool { return w.ID > last })
	if beyond >= 0 {
		found = found[:beyond]
	}
	return found[:min(len(found), most)]
}
