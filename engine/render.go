package engine

import (
	"errors"
	"time"
)

// Render renders the payload of a session for a webhook, for a delivery of kind complete, incomplete or update. Every payload of a session that is
// sent, previewed or tested is rendered here. at becomes event_time, in whole seconds. Render is pure. It must not be called within a
// transaction of a Store, which would hold up other changes.
func Render(s Session, w *Webhook, kind Kind, at time.Time) ([]byte, error) {
	p := newPayload(s, w, kind != KindIncomplete)
	p.EventTime = new(at.Unix())
	return encode(p)
}

// renderTriggered renders the payload that a delivery's trigger asks for. It returns nil if there is nothing to send: the session of an
// incomplete trigger has finished by its instant.
func renderTriggered(d *Delivery, events []Event, w *Webhook, now time.Time) ([]byte, error) {
	if len(events) == 0 {
		return nil, errors.New("the session has no events")
	}
	if d.Kind != KindIncomplete {
		return Render(Fold(events, time.Time{}), w, d.Kind, now)
	}
	s := Fold(events, d.AsOf)
	if !s.FinishedAt.IsZero() {
		return nil, nil
	}
	return Render(s, w, d.Kind, now)
}
