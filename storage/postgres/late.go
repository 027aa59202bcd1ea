package postgres

import (
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// planLate completes the decision about events of a session that had finished before. It counts in room what it compares.
func (b *batch) planLate(a *engine.Append, p *sessionPlan, room *planRoom) error {
	if built, err := b.anyBuilt(&p.session); err != nil || !built {
		return err // the payloads will hold the events: no need to read the session
	}
	var before []engine.Event
	if p.decision.WantsEvents(room.compared) {
		room.compared -= p.decision.Head.Bytes
		record, err := b.sessionRecord(&p.session)
		if err != nil {
			return err
		}
		if before, err = record.Events(); err != nil { // the parser's error may quote them
			b.s.passes(damage("events of session", p.session.ID))
			before = nil
		}
	}
	a.AdmitLate(&p.decision, before, b.hooks, room.triggers)
	return nil
}

// anyBuilt reports whether the payload of a complete delivery of a session may have been built, or filtered. It is false for the usual late event,
// a lead that comes between the finish and the delivery.
func (b *batch) anyBuilt(r *sessionRow) (bool, error) {
	if r.marks > 0 {
		return true, nil // too many to look at each
	}
	for _, ref := range r.Deliveries {
		if ref.Kind != engine.KindComplete {
			continue
		}
		d, err := b.delivery(ref.ID)
		switch {
		case b.s.passes(err):
		case err != nil:
			return false, err
		case d == nil || !d.FrozenAt.IsZero() || d.Status == engine.StatusFiltered:
			return true, nil
		}
	}
	return false, nil
}

// needLate names what planLate and late will ask for, as far as it is known from the row of a session that has finished. wants is how many bytes of events may
// still be read ahead.
func (n *needs) needLate(b *batch, r *sessionRow, wants *int64) {
	var webhooks []uint32
	known, built := true, r.marks > 0
	for _, ref := range slices.Backward(r.Deliveries) {
		switch {
		case ref.Kind == engine.KindUpdate && !slices.Contains(webhooks, ref.WebhookID): // the newest one
			webhooks = append(webhooks, ref.WebhookID)
			n.delivery(ref.ID)
		case ref.Kind == engine.KindComplete:
			n.delivery(ref.ID)
			d, read := b.deliveries.get(ref.ID)
			known = known && read
			built = built || read && (d == nil || !d.FrozenAt.IsZero() || d.Status == engine.StatusFiltered)
		}
	}
	d := engine.Decision{Late: true, Head: r.SessionHead}
	if known && built && d.WantsEvents(*wants) {
		*wants -= r.Bytes
		n.record(r.ID)
	}
}

// late does what late events lead to for a webhook. It returns the delivery that they have queued, nil if there is none, and how many events were
// counted. The caller stores the session's row.
func (b *batch) late(r *sessionRow, t *engine.Trigger) (update *deliveryRow, counted int, err error) {
	w := b.hooks.Get(t.WebhookID)
	id, err := b.deliveryOf(r, t.WebhookID, engine.KindComplete)
	if err != nil || id == uuid.Nil || w == nil {
		return nil, 0, err
	}
	old, err := b.delivery(id)
	if b.s.passes(err) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var complete *engine.Delivery
	if old != nil {
		complete = &old.Delivery
	}
	switch t.LateEffect(w, complete) {
	case engine.LateCounted:
		if old == nil {
			return nil, t.Late, nil
		}
		d := *old
		d.LateEvents += t.Late
		b.saveDelivery(&d)
		return nil, t.Late, nil
	case engine.LateAgain:
		d := *old
		d.EvaluateAgain(w, t.DueAt)
		b.saveDelivery(&d)
		return &d, 0, nil
	case engine.LateUpdate:
		if has, err := b.hasLate(r, t); err != nil || has {
			return nil, 0, err
		}
		return b.makeTriggered(r, t), 0, nil
	}
	return nil, 0, nil
}

// lockedUpdates is how many updates of a session hasLate locks, the newest ones. It reads the others as they are, because to lock a row is to write it.
// Whoever builds or moves one holds the lock of the session.
const lockedUpdates = 16

// hasLate reports whether an update has the late events of a trigger, or will. One that is about to be cancelled has not.
func (b *batch) hasLate(r *sessionRow, t *engine.Trigger) (bool, error) {
	refs, err := b.refsTo(r, t.WebhookID)
	if err != nil {
		return false, err
	}
	refs = slices.DeleteFunc(refs, func(ref engine.DeliveryRef) bool { return ref.Kind != engine.KindUpdate })
	slices.Reverse(refs) // the newest one answers most often
	has := func(d *deliveryRow) bool { return !b.hooks.Covered(&d.Delivery) && t.HasLate(&d.Delivery) }
	older := uuids{}
	for i, ref := range refs {
		if _, known := b.deliveries.get(ref.ID); !known && i >= lockedUpdates {
			older = append(older, ref.ID)
			continue
		}
		if i == 1 {
			if err := b.readUpdates(refs[1:min(len(refs), lockedUpdates)]); err != nil {
				return false, err
			}
		}
		d, err := b.delivery(ref.ID)
		switch {
		case err != nil && !b.s.passes(err):
			return false, err
		case err == nil && d != nil && has(d):
			return true, nil
		}
	}
	return b.anyStored(older, has)
}

// readUpdates reads deliveries in one round trip.
func (b *batch) readUpdates(refs []engine.DeliveryRef) error {
	var n needs
	for _, ref := range refs {
		n.delivery(ref.ID)
	}
	n.dropKnown(b)
	return b.load(&n, false)
}

// anyStored reports whether there is a delivery of which is says yes among those that the batch has not read. It passes damaged ones.
func (b *batch) anyStored(ids uuids, is func(*deliveryRow) bool) (any bool, err error) {
	if len(ids) == 0 {
		return false, nil
	}
	err = b.query(func(found pgx.Rows) error {
		d, err := scanDelivery(found)
		if b.s.passes(err) {
			return nil
		}
		any = any || err == nil && is(d)
		return err
	}, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1)", ids)
	return any, err
}
