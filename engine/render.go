package engine

import (
	"errors"
	"time"
)

// Render makes the payload that a webhook gets of a session, for a delivery of kind complete or incomplete: whatever is sent, previewed or
// tested goes through here. at becomes event_time, in whole seconds. It is pure. No transaction of a Store is open meanwhile.
func Render(s Session, w *Webhook, kind Kind, at time.Time) ([]byte, error) {
	p := newPayload(s, w, kind == KindComplete)
	p.EventTime = new(at.Unix())
	return encode(p)
}

// renderTriggered renders the payload that a delivery's trigger asks for; nil if there is nothing to send: an incomplete one whose
// session has finished by its instant.
func renderTriggered(d *Delivery, events []Event, w *Webhook, now time.Time) ([]byte, error) {
	if len(events) == 0 {
		return nil, errors.New("the session has no events")
	}
	if d.Kind == KindComplete {
		return Render(Fold(events, time.Time{}), w, d.Kind, now)
	}
	s := Fold(events, d.DueAt)
	if !s.FinishedAt.IsZero() {
		return nil, nil
	}
	return Render(s, w, d.Kind, now)
}
