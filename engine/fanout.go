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

// FanOut says what the events of a request have led to in a session, whatever webhooks there are.
type FanOut struct {
	// StartedAt is set if the events began the session, or have its first start or vote: it is when the session started, as far as is
	// known now.
	StartedAt time.Time
	// FinishedAt is set if the events finished the session.
	FinishedAt time.Time
	// Continued reports that the session had earlier events. They had a start of their own: StartedAt moves what that has led to.
	Continued bool
	// WasFinished reports that the session had finished before these events.
	WasFinished bool
	// ReceivedAt is when the request arrived, in UTC. It is zero if the session was posted whole: then triggers do not settle.
	ReceivedAt time.Time
	// Settle is Append.Settle.
	Settle time.Duration
	// Late is what the events have changed, if the session had finished before.
	Late Late
}

// IsZero reports whether the events lead to no trigger.
func (f FanOut) IsZero() bool {
	return f.StartedAt.IsZero() && f.FinishedAt.IsZero() && f.Late.IsZero()
}

// onlyIncomplete reports whether all triggers are incomplete ones.
func (f *FanOut) onlyIncomplete() bool { return f.FinishedAt.IsZero() && f.Late.IsZero() }

// AppendTriggers appends the triggers for an active webhook, without those that have led to a delivery. head is the session's head as it is now.
func (f FanOut) AppendTriggers(list []Trigger, head *SessionHead, w *Webhook) []Trigger {
	if w.ContentID != nil && *w.ContentID != head.Identity.ContentID {
		return list
	}
	if !f.StartedAt.IsZero() && w.SendIncomplete && (f.Continued || !head.Led(w.ID, KindIncomplete)) {
		instant := f.StartedAt.Add(seconds(w.IncompleteDelay))
		// No new trigger for a session that is known to finish by the instant: it would be removed without a trace. A session whose finish
		// came before its start has its complete trigger already, which tells more.
		none := f.WasFinished || !head.FinishedAt.IsZero() && !head.FinishedAt.After(instant)
		if f.Continued || !none {
			list = append(list, Trigger{WebhookID: w.ID, Kind: KindIncomplete, DueAt: f.dueAt(instant, w.IncompleteDelay), AsOf: instant,
				Moves: f.Continued, MovesOnly: none})
		}
	}
	if !f.FinishedAt.IsZero() && !head.Led(w.ID, KindComplete) {
		list = append(list, Trigger{WebhookID: w.ID, Kind: KindComplete, DueAt: f.dueAt(f.FinishedAt.Add(seconds(w.Delay)), w.Delay)})
	}
	return f.appendLate(list, w)
}

// dueAt returns when a trigger fires whose delay ends at that time. Unless the session was posted whole, it does not fire before late events
// had time to come, because the next request may hold the lead, or the finish; but no longer than the delay that the webhook asks for.
func (f *FanOut) dueAt(at time.Time, delay int64) time.Time {
	if f.ReceivedAt.IsZero() {
		return at
	}
	return later(at, f.ReceivedAt.Add(min(seconds(delay), f.Settle)))
}

// FannedOut is a session with deliveries that are still to be made.
type FannedOut struct {
	FanOut
	ContentID uuid.UUID
}

// NextInFanOut returns the webhooks that deliveries of the sessions are made for next: those with an id above after and up to last, in the
// order of the ids. They match at least one of the sessions. matches is how many sessions each of them matches, together; it is at most most.
// done reports that there are no more. If the first one matches more, and it is not done, it returns none.
func (s *WebhookSet) NextInFanOut(sessions []FannedOut, after, last uint32, most int) (hooks []*Webhook, matches int, done bool) {
	type list struct {
		contentID          uuid.UUID
		unfinished, forAll bool
	}
	looked := make(map[list]bool)
	of := make(map[uuid.UUID]int) // sessions by content
	var found []*Webhook
	for _, session := range sessions {
		of[session.ContentID]++
		one := list{contentID: session.ContentID, unfinished: session.onlyIncomplete()}
		for i, l := range s.matching(one.contentID, one.unfinished) {
			if i == 1 {
				one = list{unfinished: one.unfinished, forAll: true}
			}
			if looked[one] {
				continue
			}
			looked[one] = true
			from, _ := slices.BinarySearchFunc(l, after+1, func(w *Webhook, id uint32) int { return cmp.Compare(w.ID, id) })
			found = append(found, l[from:min(len(l), from+most+1)]...)
		}
	}
	slices.SortFunc(found, byID)
	for _, w := range slices.Compact(found) {
		if w.ID > last {
			break
		}
		n := len(sessions)
		if w.ContentID != nil {
			n = of[*w.ContentID]
		}
		if matches+n > most {
			return hooks, matches, false
		}
		hooks, matches = append(hooks, w), matches+n
	}
	return hooks, matches, true
}
