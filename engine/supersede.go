package engine

import "time"

// Deliveries of one session to one webhook tell of states of the session, each of a later one than the one before: incomplete, complete,
// updates. An endpoint that keeps the newest state must not get an older one after it. So two of them are never in flight together (see
// [turnstile]), and the one whose payload is frozen supersedes those that still wait.

// Overtakes reports whether a delivery tells of a later state than another one of the same session and webhook. Of two updates it is
// the one whose payload was built from more events, or that is not built yet.
func (d *Delivery) Overtakes(o *Delivery) bool {
	switch mine, others := d.Kind.stage(), o.Kind.stage(); {
	case mine == 0 || others == 0 || mine < others:
		return false
	case mine > others:
		return true
	}
	return !o.FrozenAt.IsZero() && (d.FrozenAt.IsZero() || d.BuiltFrom > o.BuiltFrom)
}

// stage is the place of a kind in the life of a session; 0 for a kind that has none.
func (k Kind) stage() int {
	switch k {
	case KindIncomplete:
		return 1
	case KindComplete:
		return 2
	case KindUpdate:
		return 3
	}
	return 0
}

// SupersedeEffect is what a frozen payload does to another delivery of the same session and webhook.
type SupersedeEffect uint8

// The effects.
const (
	SupersedeNothing SupersedeEffect = iota // it stays as it is
	SupersedeCancels                        // it was cancelled
	SupersedeDrops                          // its trigger is removed, without a trace
	SupersedeTells                          // it has ended, and the payload tells the late events that it lacked
)

// Supersede decides about a delivery of the same session and webhook as the payload that is frozen now, and changes it. It is superseded if it
// still waits and tells of an earlier state. finishedAt is when the session finished, as its head says: an incomplete trigger that would
// have nothing to send is dropped, as it would be when it is due. A session that was filtered supersedes nothing: nothing newer arrives.
func (f *Freeze) Supersede(o *Delivery, finishedAt time.Time) SupersedeEffect {
	newer := f.Delivery
	newer.BuiltFrom, newer.FrozenAt = f.Events, f.At
	switch {
	case f.Ends() || !newer.Overtakes(o):
		return SupersedeNothing
	case !o.Status.Waiting():
		if o.LateEvents == 0 {
			return SupersedeNothing
		}
		o.LateEvents = 0
		return SupersedeTells
	case o.Status == StatusScheduled && o.Kind == KindIncomplete && !finishedAt.IsZero() && !finishedAt.After(o.AsOf):
		return SupersedeDrops
	}
	o.Finish(StatusCancelled, f.At)
	o.SupersededBy, o.LateEvents = newer.ID, 0
	return SupersedeCancels
}
