package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// A session's marks name its deliveries. The first ones stand in its head. Others have an entry of their own in the bucket marks: with thousands
// of webhooks a head that held them all would be written again, as a whole, with each event and each delivery.

// maxMarksInHead is how many marks a head holds.
const maxMarksInHead = 64

// markKey is the key of a mark: S(8) webhook(4) kind(1). Of updates there are several: the key of one has D(8) at its end; see markKeyOf.
func markKey(session uint64, webhookID uint32, kind engine.Kind) []byte {
	k := binary.BigEndian.AppendUint64(make([]byte, 0, 21), session)
	return append(binary.BigEndian.AppendUint32(k, webhookID), byte(kind))
}

// markKeyOf is the key of the mark of a delivery.
func markKeyOf(session uint64, ref engine.DeliveryRef) []byte {
	k := markKey(session, ref.WebhookID, ref.Kind)
	if ref.Kind == engine.KindUpdate {
		k = binary.BigEndian.AppendUint64(k, deliveryNumber(ref.ID))
	}
	return k
}

// fitsMark reports whether a key is that of a mark.
func fitsMark(key []byte) bool {
	return len(key) == 13 && engine.Kind(key[12]) != engine.KindUpdate || len(key) == 21 && engine.Kind(key[12]) == engine.KindUpdate
}

// mark adds a mark to a session. The caller stores the head.
func (b *batch) mark(r *sessionRecord, ref engine.DeliveryRef) error {
	if len(r.Deliveries) < maxMarksInHead {
		r.Deliveries = append(r.Deliveries, ref)
		return nil
	}
	r.marks++
	key := markKeyOf(r.number, ref)
	return b.put(b.marks, key, sealBytes(key, ref.ID[:]))
}

// unmark removes a mark. The caller stores the head.
func (b *batch) unmark(r *sessionRecord, ref engine.DeliveryRef) error {
	if at := slices.Index(r.Deliveries, ref); at >= 0 {
		r.Deliveries = slices.Delete(r.Deliveries, at, at+1)
		return nil
	}
	key := markKeyOf(r.number, ref)
	v := b.marks.Get(key)
	if ref.Kind == engine.KindUpdate && b.s.nativeNumber(ref.ID) == 0 {
		key, v = b.findMark(r.number, ref)
	}
	if v == nil {
		return nil
	}
	if id, err := decodeMark(key, v); err != nil || id != ref.ID {
		return err
	}
	r.marks--
	return b.delete(b.marks, key)
}

// findMark searches the mark of an update that another store has made: its key does not follow from its id.
func (b *batch) findMark(session uint64, ref engine.DeliveryRef) (key, value []byte) {
	prefix := markKey(session, ref.WebhookID, ref.Kind)
	c := b.marks.Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if id, err := decodeMark(k, v); err == nil && id == ref.ID {
			return bytes.Clone(k), v
		}
	}
	return nil, nil
}

// deliveryOf returns the id of a session's delivery of a kind for a webhook; uuid.Nil if it has none.
func deliveryOf(marks *bbolt.Bucket, r *sessionRecord, webhookID uint32, kind engine.Kind) (uuid.UUID, error) {
	if id := r.DeliveryOf(webhookID, kind); id != uuid.Nil || r.marks == 0 {
		return id, nil
	}
	key := markKey(r.number, webhookID, kind)
	v := marks.Get(key)
	if v == nil {
		return uuid.Nil, nil
	}
	return decodeMark(key, v)
}

func decodeMark(key, value []byte) (id uuid.UUID, err error) {
	body, err := unseal(bucketMarks, key, value)
	if err != nil {
		return id, err
	}
	if len(body) != len(id) {
		return id, fmt.Errorf("%w: %s %x: %d bytes", ErrCorrupt, bucketMarks, key, len(body))
	}
	return uuid.UUID(body), nil
}

// refs walks the marks of a session, those of its head first. It passes damaged ones.
func (s *Store) refs(tx *bbolt.Tx, r *sessionRecord) iter.Seq[engine.DeliveryRef] {
	return func(yield func(engine.DeliveryRef) bool) {
		for _, ref := range r.Deliveries {
			if !yield(ref) {
				return
			}
		}
		if r.marks == 0 {
			return
		}
		for ref := range s.marked(tx, u64key(r.number)) {
			if !yield(ref) {
				return
			}
		}
	}
}

// someRefs returns at most so many marks of a session.
func (b *batch) someRefs(r *sessionRecord, most int) (refs []engine.DeliveryRef) {
	for ref := range b.s.refs(b.tx, r) {
		if refs = append(refs, ref); len(refs) == most {
			break
		}
	}
	return refs
}

// checkMarks checks the marks of a session: there is one of a kind for a webhook, and the head says how many stand in the bucket.
func (c *checker) checkMarks(r *sessionRecord) {
	type once struct {
		webhook uint32
		kind    engine.Kind
		update  uuid.UUID // of updates there may be several
	}
	marked := make(map[once]bool)
	add := func(ref engine.DeliveryRef) {
		one := once{webhook: ref.WebhookID, kind: ref.Kind}
		if ref.Kind == engine.KindUpdate {
			one.update = ref.ID
		}
		c.expect(!marked[one], "session %d: two %s deliveries for webhook %d", r.number, ref.Kind, ref.WebhookID)
		marked[one] = true
	}
	for _, ref := range r.Deliveries {
		add(ref)
	}
	stored, prefix := uint32(0), u64key(r.number)
	cursor := c.tx.Bucket(bucketMarks).Cursor()
	for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
		if !fitsMark(k) {
			c.expect(false, "marks %x: bad key", k)
			continue
		}
		id, err := decodeMark(k, v)
		c.expect(err == nil, "%v", err)
		add(refOf(k, id))
		stored++
	}
	c.expect(stored == r.marks, "session %d: %d marks stored, %d counted", r.number, stored, r.marks)
}
