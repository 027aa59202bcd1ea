package postgres

import (
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// A session's marks name its deliveries. The first ones stand in its row. Others have a row of their own in the table marks: with thousands of webhooks
// a row that held them all would be written again, as a whole, with each event and each delivery. Of what stands in the table, a batch reads what it
// needs, by session and webhook. The lock of the session's row covers its marks.

// maxMarksInHead is how many marks the row of a session holds.
const maxMarksInHead = 64

// markPair is a session and a webhook.
type markPair struct {
	no        int64 // of the session
	webhookID uint32
}

// pairMarks are the marks of a pair in the table that a batch knows. Batch.marks tells which of them are there.
type pairMarks struct {
	read bool // all that are stored are known
	refs []engine.DeliveryRef
}

// knowMark takes over a mark that was read from the table, or, if stored is nil, one that the batch is about to add.
func (b *batch) knowMark(key markKey, stored *struct{}) {
	if _, known := b.marks.get(key); known {
		return
	}
	b.marks.read(key, stored)
	p := b.pair(markPair{key.no, key.ref.WebhookID})
	p.refs = append(p.refs, key.ref)
}

func (b *batch) pair(key markPair) *pairMarks {
	if b.pairs == nil {
		b.pairs = make(map[markPair]*pairMarks)
	}
	p := b.pairs[key]
	if p == nil {
		p = new(pairMarks)
		b.pairs[key] = p
	}
	return p
}

// mark adds a mark to a session, whose row the caller stores.
func (b *batch) mark(r *sessionRow, ref engine.DeliveryRef) {
	if len(r.Deliveries) < maxMarksInHead {
		r.Deliveries = append(r.Deliveries, ref)
		return
	}
	r.marks++
	key := markKey{r.no, ref}
	b.knowMark(key, nil)
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
// ids. It reads the table, in a round trip of its own, only if the session has marks there that were not read yet.
func (b *batch) refsTo(r *sessionRow, webhookID uint32) (refs []engine.DeliveryRef, err error) {
	for _, ref := range r.Deliveries {
		if ref.WebhookID == webhookID {
			refs = append(refs, ref)
		}
	}
	if r.marks == 0 {
		return refs, nil
	}
	key := markPair{r.no, webhookID}
	if b.hasStoredMarks(r) {
		if err := b.readMarks([]markPair{key}); err != nil {
			return nil, err
		}
	}
	var more []engine.DeliveryRef
	for _, ref := range b.pair(key).refs {
		if row, _ := b.marks.get(markKey{r.no, ref}); row != nil {
			more = append(more, ref)
		}
	}
	slices.SortFunc(more, func(a, b engine.DeliveryRef) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return append(refs, more...), nil
}

// hasStoredMarks reports whether a session has marks in the table that the batch has not made.
func (b *batch) hasStoredMarks(r *sessionRow) bool {
	stored := b.sessions.stored[r.ID]
	return stored != nil && stored.no == r.no && stored.marks > 0
}

// readMarks reads the marks of some pairs from the table, in one round trip, without those that were read already.
func (b *batch) readMarks(pairs []markPair) error {
	var nos []int64
	var webhooks []int32
	for _, key := range pairs {
		if p := b.pair(key); !p.read {
			p.read = true
			nos, webhooks = append(nos, key.no), append(webhooks, int32(key.webhookID))
		}
	}
	if len(nos) == 0 {
		return nil
	}
	return b.query(func(found pgx.Rows) error {
		var key markKey
		var kind int16
		if err := found.Scan(&key.no, &key.ref.WebhookID, &kind, (*[16]byte)(&key.ref.ID)); err != nil {
			return err
		}
		key.ref.Kind = engine.Kind(kind)
		b.knowMark(key, new(struct{}))
		return nil
	}, "SELECT m.session_no, m.webhook_id, m.kind, m.delivery_id FROM ("+pairLists+") t CROSS JOIN LATERAL (SELECT * FROM @.marks WHERE session_no = t.session_no AND webhook_id = t.webhook_id OFFSET 0) m",
		nos, webhooks)
}

var (
	pairLists = lists("session_no, webhook_id", "bigint, int")
	markLists = lists("session_no, webhook_id, kind, delivery_id", "bigint, int, smallint, uuid")
)

func scanMark(found pgx.Rows) (ref engine.DeliveryRef, err error) {
	var kind int16
	err = found.Scan(&ref.WebhookID, &kind, (*[16]byte)(&ref.ID))
	ref.Kind = engine.Kind(kind)
	return ref, err
}

// triggered is a session with triggers that it has led to.
type triggered struct {
	session  *sessionRow
	triggers []engine.Trigger
}

// readAhead reads what trigger will ask for, of all sessions together: the marks that do not stand in their rows, in one round trip, and the deliveries
// that are moved, or that late events are about, in another one.
func (b *batch) readAhead(all []triggered) error {
	var pairs []markPair
	for _, one := range all {
		for i := range one.triggers {
			if t := &one.triggers[i]; b.hasStoredMarks(one.session) && (t.Moves || t.Kind == engine.KindUpdate) {
				pairs = append(pairs, markPair{one.session.no, t.WebhookID})
			}
		}
	}
	if err := b.readMarks(pairs); err != nil {
		return err
	}
	var n needs
	for _, one := range all {
		for i := range one.triggers {
			t := &one.triggers[i]
			if !t.Moves && t.Kind != engine.KindUpdate {
				continue
			}
			refs, err := b.refsTo(one.session, t.WebhookID)
			if err != nil {
				return err
			}
			n.aboutTrigger(refs, t)
		}
	}
	n.dropKnown(b)
	return b.load(&n, false)
}

// aboutTrigger names the deliveries that trigger will ask for. refs are the marks for the webhook.
func (n *needs) aboutTrigger(refs []engine.DeliveryRef, t *engine.Trigger) {
	if t.Kind != engine.KindUpdate {
		n.ofKind(refs, t.Kind)
		return
	}
	n.ofKind(refs, engine.KindComplete)
	slices.Reverse(refs) // the newest update first
	n.ofKind(refs, engine.KindUpdate)
}

// ofKind names the first delivery of a kind.
func (n *needs) ofKind(refs []engine.DeliveryRef, kind engine.Kind) {
	if at := slices.IndexFunc(refs, func(ref engine.DeliveryRef) bool { return ref.Kind == kind }); at >= 0 {
		n.delivery(refs[at].ID)
	}
}
