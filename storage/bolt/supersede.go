package bolt

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// supersede cancels the deliveries that a payload supersedes as it is frozen. r is its delivery. It returns engine.ErrMoreEvents, with the
// session in done, if the payload lacks events.
func (b *batch) supersede(r *deliveryRecord, f *engine.Freeze, done *engine.Frozen) error {
	session, err := b.s.sessionOf(b.tx, r)
	if err != nil || session.number == 0 {
		return err
	}
	if session.Events != f.Events {
		record, err := readSessionRecord(b.events, &session)
		if err != nil {
			return err
		}
		done.Session = &record
		return engine.ErrMoreEvents
	}
	if f.Ends() {
		return nil
	}
	return b.s.eachStored(b.tx, b.s.refsTo(b.tx, &session, r.WebhookID), func(old *deliveryRecord) (more bool, err error) {
		if old.number == r.number {
			return true, nil
		}
		return true, b.supersedeOne(old, f, session.FinishedAt, done)
	})
}

// eachStored calls f for each delivery that marks name and that is stored, until f returns false or an error. It passes damaged ones.
func (s *Store) eachStored(tx *bbolt.Tx, refs iter.Seq[engine.DeliveryRef], f func(*deliveryRecord) (more bool, err error)) error {
	for ref := range refs {
		d, err := s.readMarked(tx, ref)
		if s.passes(err) || err == nil && d.number == 0 {
			continue
		}
		if err != nil {
			return err
		}
		if more, err := f(&d); err != nil || !more {
			return err
		}
	}
	return nil
}

func (b *batch) supersedeOne(old *deliveryRecord, f *engine.Freeze, finishedAt time.Time, done *engine.Frozen) error {
	d := *old
	switch f.Supersede(&d.Delivery, finishedAt) {
	case engine.SupersedeDrops:
		return b.removeDelivery(old)
	case engine.SupersedeCancels:
		done.Superseded = append(done.Superseded, d.Delivery)
		return b.saveDelivery(old, &d)
	case engine.SupersedeTells:
		return b.saveDelivery(old, &d)
	}
	return nil
}

// sessionOf reads the session of a delivery. The number in the result is 0 if it is not stored, or damaged.
func (s *Store) sessionOf(tx *bbolt.Tx, r *deliveryRecord) (sessionRecord, error) {
	v := tx.Bucket(bucketSessions).Get(u64key(r.session))
	if v == nil {
		return sessionRecord{}, nil
	}
	session, err := decodeSession(r.session, v)
	if s.passes(err) {
		return sessionRecord{}, nil
	}
	return session, err
}

// isOvertaken reports whether the payload of a delivery that overtakes r is frozen.
func (s *Store) isOvertaken(tx *bbolt.Tx, r *deliveryRecord) (bool, error) {
	session, err := s.sessionOf(tx, r)
	if err != nil || session.number == 0 {
		return false, err
	}
	overtaken := false
	err = s.eachStored(tx, s.newestRefsTo(tx, &session, r.WebhookID), func(d *deliveryRecord) (more bool, err error) {
		overtaken = !d.FrozenAt.IsZero() && d.Overtakes(&r.Delivery)
		return !overtaken, nil
	})
	return overtaken, err
}

// refsTo walks the marks of a session for one webhook.
func (s *Store) refsTo(tx *bbolt.Tx, r *sessionRecord, webhookID uint32) iter.Seq[engine.DeliveryRef] {
	return func(yield func(engine.DeliveryRef) bool) {
		for _, ref := range r.Deliveries {
			if ref.WebhookID == webhookID && !yield(ref) {
				return
			}
		}
		if r.marks == 0 {
			return
		}
		prefix := binary.BigEndian.AppendUint32(u64key(r.number), webhookID)
		for ref := range s.marked(tx, prefix) {
			if !yield(ref) {
				return
			}
		}
	}
}

// newestRefsTo is refsTo in about the reverse order: it begins with the newest update. A session may have thousands, of which most questions
// are answered by the first.
func (s *Store) newestRefsTo(tx *bbolt.Tx, r *sessionRecord, webhookID uint32) iter.Seq[engine.DeliveryRef] {
	return func(yield func(engine.DeliveryRef) bool) {
		if r.marks > 0 {
			prefix := binary.BigEndian.AppendUint32(u64key(r.number), webhookID)
			c := tx.Bucket(bucketMarks).Cursor()
			back := c.Prev
			if k, _ := c.Seek(append(bytes.Clone(prefix), math.MaxUint8)); k == nil { // behind those with the prefix: no kind is as large
				back = c.Last
			}
			for k, v := back(); bytes.HasPrefix(k, prefix); k, v = c.Prev() {
				if !fitsMark(k) {
					s.passes(badKey(bucketMarks, k))
					continue
				}
				id, err := decodeMark(k, v)
				if !s.passes(err) && !yield(refOf(k, id)) {
					return
				}
			}
		}
		for _, ref := range slices.Backward(r.Deliveries) {
			if ref.WebhookID == webhookID && !yield(ref) {
				return
			}
		}
	}
}

// marked walks the marks outside of heads that begin with a prefix. It passes damaged ones.
func (s *Store) marked(tx *bbolt.Tx, prefix []byte) iter.Seq[engine.DeliveryRef] {
	return func(yield func(engine.DeliveryRef) bool) {
		for k, v := range s.entries(tx, bucketMarks, prefix, nil) {
			id, err := decodeMark(k, v)
			if s.passes(err) {
				continue
			}
			if !yield(refOf(k, id)) {
				return
			}
		}
	}
}

// refOf returns what a mark says.
func refOf(key []byte, id uuid.UUID) engine.DeliveryRef {
	return engine.DeliveryRef{WebhookID: binary.BigEndian.Uint32(key[8:]), Kind: engine.Kind(key[12]), ID: id}
}
