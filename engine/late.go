package engine

import (
	"reflect"
	"time"
)

// Late is what events have changed of a session's payload that had finished before they came. Where the complete payload was built already,
// they lead to an update, or are counted; see Trigger.LateEffect. The zero value is no change.
type Late struct {
	// Events is how many events the request has for the session, Before how many the session had.
	Events, Before int
	// Answers, Leads and Rest say what has changed: rest is all but answers and leads.
	Answers, Leads, Rest bool
}

// IsZero reports whether nothing has changed.
func (l *Late) IsZero() bool { return !l.Answers && !l.Leads && !l.Rest }

// concerns reports whether the payload for a webhook has changed.
func (l *Late) concerns(w *Webhook) bool {
	return l.Rest || l.Answers && w.SendAnswers || l.Leads && w.SendLeads
}

// appendLate is FanOut.AppendTriggers for late events.
func (f *FanOut) appendLate(list []Trigger, w *Webhook) []Trigger {
	if !f.Late.concerns(w) {
		return list
	}
	return append(list, Trigger{WebhookID: w.ID, Kind: KindUpdate, DueAt: f.ReceivedAt.Add(seconds(w.Delay)), Late: f.Late.Events, Before: f.Late.Before})
}

// MaxCompared bounds the JSON of the stored events that the transaction which stores a request reads to compare payloads, of all sessions
// together. Other changes wait for it, and a small request may have an event for thousands of finished sessions.
const MaxCompared = 1 << 20

// WantsEvents reports whether AdmitLate needs the stored events of the session. Those of a large one are not read in a transaction: there
// any event counts as a change. room is how many bytes may be read: MaxCompared for all sessions of a request together, by Head.Bytes.
func (d *Decision) WantsEvents(room int64) bool {
	return d.Late && d.Head.Bytes <= min(maxClaimOnArrivalBytes, room)
}

// AdmitLate adds to a decision what late events lead to; see Decision.Late. stored are the events that the session had, nil if they are not
// known. hooks and room are those of Admit. It is pure.
func (a *Append) AdmitLate(d *Decision, stored []Event, hooks *WebhookSet, room int) {
	late := Late{Events: len(d.Fresh), Before: d.Head.Events - len(d.Fresh), Answers: true, Leads: true, Rest: true}
	if stored != nil {
		late.compare(stored, d.Fresh)
	}
	if late.IsZero() {
		return
	}
	f := FanOut{Continued: true, WasFinished: true, ReceivedAt: a.Now, Settle: a.Settle, Late: late}
	content := d.Head.Identity.ContentID
	switch {
	case !d.FanOut.IsZero():
		d.FanOut.Late = late
	case hooks.mostTriggers(content, f) > room-len(d.Triggers):
		d.FanOut = f
	default:
		for _, list := range hooks.matching(content, false) {
			for _, w := range list {
				d.Triggers = f.appendLate(d.Triggers, w)
			}
		}
	}
}

// compare finds out what fresh events change of the payload.
func (l *Late) compare(stored, fresh []Event) {
	all := &Webhook{SendAnswers: true, SendLeads: true}
	before := newPayload(Fold(stored, time.Time{}), all, true)
	after := newPayload(Fold(append(stored[:len(stored):len(stored)], fresh...), time.Time{}), all, true)
	l.Answers, l.Leads = !reflect.DeepEqual(before.Answers, after.Answers), !reflect.DeepEqual(before.Leads, after.Leads)
	before.Answers, before.Leads = after.Answers, after.Leads
	l.Rest = !reflect.DeepEqual(before, after)
}

// LateEffect is what late events lead to for a webhook.
type LateEffect uint8

// The effects.
const (
	LateNothing LateEffect = iota // the payload holds the events, or will
	LateCounted                   // Trigger.Late is added to Delivery.LateEvents of the complete delivery
	LateUpdate                    // an update, unless one that HasLate says so has them
	LateAgain                     // the complete delivery was filtered: Delivery.EvaluateAgain
)

// LateEffect decides what the late events of a trigger of kind update lead to. complete is the complete delivery of the session for the webhook w,
// nil if its retention has ended.
func (t *Trigger) LateEffect(w *Webhook, complete *Delivery) LateEffect {
	filtered := complete != nil && complete.Status == StatusFiltered
	switch {
	case complete != nil && (complete.FrozenAt.IsZero() && !filtered || complete.BuiltFrom > t.Before):
		return LateNothing
	case filtered:
		return LateAgain
	case !w.SendUpdates:
		return LateCounted
	}
	return LateUpdate
}

// HasLate reports whether an update of the session for the webhook has the late events of a trigger, or will: it is not built yet.
func (t *Trigger) HasLate(update *Delivery) bool {
	return update.Status == StatusScheduled || update.BuiltFrom > t.Before
}
