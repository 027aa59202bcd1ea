package postgres

import (
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// A session's marks name its deliveries. The first ones stand in its row. Others have a row of their own in the table marks: with thousands of webhooks
// a row that held them all would be written again, as a whole, with each event and each delivery.

// maxMarksInHead is how many marks the row of a session holds.
const maxMarksInHead = 64

// mark adds a mark to a session, whose row the caller stores.
func (b *batch) mark(r *sessionRow, ref engine.DeliveryRef) {
	if len(r.Deliveries) < maxMarksInHead {
		r.Deliveries = append(r.Deliveries, ref)
		return
	}
	r.marks++
	key := markKey{r.no, ref}
	if _, known := b.marks.get(key); !known {
		b.marks.read(key, nil)
	}
	b.marks.put(key, new(struct{}))
}

// unmark removes a mark, of a copy of the session's row, which the caller stores.
func (b *batch) unmark(r *sessionRow, ref engine.DeliveryRef) error {
	if at := slices.Index(r.Deliveries, ref); at >= 0 {
		r.Deliveries = slices.Delete(slices.Clone(r.Deliveries), at, at+1)
		return nil
	}
	refs, err := b.refsTo(r, ref.WebhookID)
	if err != nil || !slices.Contains(refs, ref) {
		return err
	}
	r.marks--
	b.marks.put(markKey{r.no, ref}, nil)
	return nil
}

// deliveryOf returns the id of a session's delivery of a kind for a webhook; uuid.Nil if it has none.
func (b *batch) deliveryOf(r *sessionRow, webhookID uint32, kind engine.Kind) (uuid.UUID, error) {
	if id := r.DeliveryOf(webhookID, kind); id != uuid.Nil || r.marks == 0 {
		return id, nil
	}
	refs, err := b.refsTo(r, webhookID)
	at := slices.IndexFunc(refs, func(ref engine.DeliveryRef) bool { return ref.Kind == kind })
	if err != nil || at < 0 {
		return uuid.Nil, err
	}
	return refs[at].ID, nil
}

// refsTo returns the marks of a session for one webhook, as of this batch: those of its row first, then those of the table in the order of their
// ids. It reads the table, in a round trip of its own, only if the session has marks there.
func (b *batch) refsTo(r *sessionRow, webhookID uint32) (refs []engine.DeliveryRef, err error) {
	for _, ref := range r.Deliveries {
		if ref.WebhookID == webhookID {
			refs = append(refs, ref)
		}
	}
	if r.marks == 0 {
		return refs, nil
	}
	err = b.query(func(found pgx.Rows) error {
		ref, err := scanMark(found)
		key := markKey{r.no, ref}
		if _, known := b.marks.get(key); !known {
			b.marks.read(key, new(struct{}))
		}
		return err
	}, "SELECT webhook_id, kind, delivery_id FROM @.marks WHERE session_no = $1 AND webhook_id = $2", r.no, int32(webhookID))
	if err != nil {
		return nil, err
	}
	var more []engine.DeliveryRef
	add := func(key markKey) {
		if row, _ := b.marks.get(key); row != nil && key.no == r.no && key.ref.WebhookID == webhookID {
			more = append(more, key.ref)
		}
	}
	for key := range b.marks.stored { // has the changed ones, too
		add(key)
	}
	slices.SortFunc(more, func(a, b engine.DeliveryRef) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return append(refs, more...), nil
}

func scanMark(found pgx.Rows) (ref engine.DeliveryRef, err error) {
	var kind int16
	err = found.Scan(&ref.WebhookID, &kind, (*[16]byte)(&ref.ID))
	ref.Kind = engine.Kind(kind)
	return ref, err
}
