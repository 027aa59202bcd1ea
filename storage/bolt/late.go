package bolt

import (
	"github.com/google/uuid"

	"hookbolt/engine"
)

// late does what late events lead to for a webhook. It returns the delivery that they have queued, if there is one, and how many events were
// counted. The caller stores the session's head.
func (b *batch) late(r *sessionRecord, t *engine.Trigger) (update deliveryRecord, counted int, err error) {
	w := b.hooks.Get(t.WebhookID)
	id, err := deliveryOf(b.marks, r, t.WebhookID, engine.KindComplete)
	if b.s.passes(err) {
		id, err = uuid.Nil, nil
	}
	if err != nil || id == uuid.Nil || w == nil {
		return update, 0, err
	}
	old, err := b.s.readDelivery(b.deliveries, b.s.numberOf(b.tx, id))
	if b.s.passes(err) {
		return update, 0, nil
	}
	if err != nil {
		return update, 0, err
	}
	var complete *engine.Delivery
	if old.number != 0 {
		complete = &old.Delivery
	}
	switch t.LateEffect(w, complete) {
	case engine.LateCounted:
		if complete == nil {
			return update, t.Late, nil
		}
		d := old
		d.LateEvents += t.Late
		return update, t.Late, b.saveDelivery(&old, &d)
	case engine.LateAgain:
		update = old
		update.EvaluateAgain(w, t.DueAt)
		return update, 0, b.saveDelivery(&old, &update)
	case engine.LateUpdate:
		if has, err := b.hasLate(r, t); err != nil || has {
			return update, 0, err
		}
		update, err = b.makeTriggered(r, t)
		return update, 0, err
	}
	return update, 0, nil
}

// anyBuilt reports whether the payload of a complete delivery of a session may have been built, or filtered. It is false for the usual late event,
// a lead that comes between the finish and the delivery.
func (b *batch) anyBuilt(r *sessionRecord) (bool, error) {
	if r.marks > 0 {
		return true, nil // too many to look at each
	}
	for _, ref := range r.Deliveries {
		if ref.Kind != engine.KindComplete {
			continue
		}
		d, err := b.s.readMarked(b.tx, ref)
		switch {
		case b.s.passes(err):
		case err != nil:
			return false, err
		case d.number == 0 || !d.FrozenAt.IsZero() || d.Status == engine.StatusFiltered:
			return true, nil
		}
	}
	return false, nil
}

// toldByUpdate reports whether an update of a session has told a webhook of it, or will. One that was cancelled has not.
func (b *batch) toldByUpdate(r *sessionRecord, webhookID uint32) (bool, error) {
	for ref := range b.s.refsTo(b.tx, r, webhookID) {
		if ref.Kind != engine.KindUpdate {
			continue
		}
		d, err := b.s.readMarked(b.tx, ref)
		if err != nil && !b.s.passes(err) {
			return false, err
		}
		if err != nil || d.Status != engine.StatusCancelled { // also if its retention has ended
			return true, nil
		}
	}
	return false, nil
}

// hasLate reports whether an update has the late events of a trigger, or will. One that is about to be cancelled has not.
func (b *batch) hasLate(r *sessionRecord, t *engine.Trigger) (bool, error) {
	has := false
	err := b.s.eachStored(b.tx, b.s.newestRefsTo(b.tx, r, t.WebhookID), func(d *deliveryRecord) (more bool, err error) {
		has = d.Kind == engine.KindUpdate && !b.hooks.Covered(&d.Delivery) && t.HasLate(&d.Delivery)
		return !has, nil
	})
	return has, err
}
