package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// readDelivery reads a delivery by its number. The number in the result is 0 if there is none.
func (s *Store) readDelivery(deliveries *bbolt.Bucket, number uint64) (deliveryRecord, error) {
	return readDelivery(s.nonce, deliveries, number)
}

func readDelivery(nonce uint32, deliveries *bbolt.Bucket, number uint64) (deliveryRecord, error) {
	v := deliveries.Get(u64key(number))
	if v == nil {
		return deliveryRecord{}, nil
	}
	return decodeDelivery(nonce, number, v)
}

// nativeNumber returns D of an id that this database has made, 0 of any other.
func (s *Store) nativeNumber(id uuid.UUID) uint64 {
	if number := deliveryNumber(id); deliveryID(time.UnixMilli(idMilli(id)), s.nonce, number) == id {
		return number
	}
	return 0
}

// numberOf returns D of a delivery. A delivery that another store has made has its id in delivery_ids, as long as it is stored. It returns 0 if there
// is no such delivery.
func (s *Store) numberOf(tx *bbolt.Tx, id uuid.UUID) uint64 {
	if v := tx.Bucket(bucketDeliveryIDs).Get(id[:]); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return s.nativeNumber(id)
}

// readMarked reads the delivery that a mark names. The number in the result is 0 if it is not stored any more.
func (s *Store) readMarked(tx *bbolt.Tx, ref engine.DeliveryRef) (deliveryRecord, error) {
	return s.readDelivery(tx.Bucket(bucketDeliveries), s.numberOf(tx, ref.ID))
}

// findDelivery reads a delivery by its public id.
func (s *Store) findDelivery(tx *bbolt.Tx, id uuid.UUID) (deliveryRecord, error) {
	r, err := s.readDelivery(tx.Bucket(bucketDeliveries), s.numberOf(tx, id))
	if err == nil && (r.number == 0 || r.ID != id) {
		err = fmt.Errorf("delivery %s: %w", id, engine.ErrNotFound)
	}
	return r, err
}

// createDelivery gives a new delivery its number and id, stores it and puts it into its lane. The writer sets the time of creation,
// so that times and numbers have the same order however long a caller has waited.
func (b *batch) createDelivery(r *deliveryRecord) error {
	number, err := b.next(b.deliveries)
	if err != nil {
		return err
	}
	r.CreatedAt, r.visitorKnown = b.began, true
	r.number, r.ID = number, deliveryID(r.CreatedAt, b.s.nonce, number)
	if w := b.hooks.Get(r.WebhookID); w != nil {
		r.WebhookRevision = w.Revision
	}
	b.move(&b.byWebhook, nil, byWebhookKey(r))
	return b.saveDelivery(nil, r)
}

// saveDelivery replaces a delivery's record and updates what follows from it: its place in the lane, the index of failed,
// cancelled and filtered deliveries, its expiry, and the counts. nil stands for no record. Nothing else changes these.
func (b *batch) saveDelivery(old, new *deliveryRecord) error {
	var oldQueue, newQueue, oldException, newException []byte
	if old != nil {
		b.count(old.WebhookID).byStatus[old.Status]--
		b.count(old.WebhookID).late -= isLate(old)
		b.count(old.WebhookID).parked -= isParked(old)
		oldQueue, oldException = indexKeys(old)
	}
	if new != nil {
		b.count(new.WebhookID).byStatus[new.Status]++
		b.count(new.WebhookID).late += isLate(new)
		b.count(new.WebhookID).parked += isParked(new)
		newQueue, newException = indexKeys(new)
	}
	b.moveQueued(oldQueue, newQueue)
	b.move(&b.undelivered, oldException, newException)
	if new == nil {
		if old.adopted {
			if err := b.delete(b.deliveryIDs, old.ID[:]); err != nil {
				return err
			}
		}
		return b.delete(b.deliveries, u64key(old.number))
	}
	if !new.FinishedAt.IsZero() && (old == nil || !old.FinishedAt.Equal(new.FinishedAt)) {
		b.expire(expiryDelivery, new.number, new.FinishedAt)
	}
	return b.put(b.deliveries, u64key(new.number), new.encode())
}

// isLate is 1 for a delivery that lacks late events, else 0.
func isLate(r *deliveryRecord) int64 {
	if r.LateEvents > 0 {
		return 1
	}
	return 0
}

// isParked is 1 for a delivery that waits for its webhook's programs to be mended, else 0.
func isParked(r *deliveryRecord) int64 {
	if r.Parked() {
		return 1
	}
	return 0
}

// removeDelivery removes a delivery with its attempts, its payload and its index entries.
func (b *batch) removeDelivery(r *deliveryRecord) error {
	if r.payload != 0 {
		if err := b.delete(b.payloads, u64key(r.payload)); err != nil {
			return err
		}
	}
	if err := b.deletePrefix(b.attempts, u64key(r.number)); err != nil {
		return err
	}
	b.move(&b.byWebhook, byWebhookKey(r), nil)
	return b.saveDelivery(r, nil)
}

// indexKeys returns the keys that a delivery has in the queue and among the failed, cancelled or filtered ones, nil for none.
func indexKeys(r *deliveryRecord) (queue, undelivered []byte) {
	switch r.Status {
	case engine.StatusScheduled, engine.StatusPending:
		queue = queueKey(r)
	case engine.StatusFailed, engine.StatusCancelled, engine.StatusFiltered:
		undelivered = undeliveredKey(r)
	}
	return queue, undelivered
}

// moveQueued is move for the queue. It also updates the count of due deliveries.
func (b *batch) moveQueued(from, to []byte) {
	if bytes.Equal(from, to) {
		return
	}
	b.countDue(from, -1)
	b.countDue(to, +1)
	b.move(&b.queue, from, to)
}

// countDue adds n to the count of due deliveries if the queue key lies before the mark. nil stands for no key. Tests are not counted,
// because they are sent at once.
func (b *batch) countDue(key []byte, n int64) {
	if key == nil || queueKeyIsTest(key) {
		return
	}
	c := b.count(queueKeyWebhook(key))
	if bytes.Compare(key[lanePrefixLen:], c.dueUpTo[:]) <= 0 {
		c.due += n
	}
	if n > 0 {
		c.added(key[lanePrefixLen:])
	} else {
		c.removed(key[lanePrefixLen:])
	}
}

// readPayload copies a delivery's frozen payload.
func readPayload(tx *bbolt.Tx, r *deliveryRecord) ([]byte, error) {
	key := u64key(r.payload)
	body, err := unseal(bucketPayloads, key, tx.Bucket(bucketPayloads).Get(key))
	return bytes.Clone(body), err
}

// freezePayload writes the body of a delivery, which is pending then.
func (b *batch) freezePayload(r *deliveryRecord, body []byte, at time.Time) error {
	r.FrozenAt, r.Status = at, engine.StatusPending
	return b.storePayload(r, body)
}

// storePayload writes a payload, in the place of the one that the delivery has, and records its number in the delivery.
func (b *batch) storePayload(r *deliveryRecord, payload []byte) error {
	if r.payload != 0 {
		if err := b.delete(b.payloads, u64key(r.payload)); err != nil {
			return err
		}
	}
	number, err := b.next(b.payloads)
	if err != nil {
		return err
	}
	r.payload = number
	key := u64key(number)
	return b.put(b.payloads, key, sealBytes(key, payload))
}

// Freeze implements engine.Store.
func (s *Store) Freeze(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
	id := f.Delivery.ID
	var done engine.Frozen
	err := s.write(ctx, len(f.Payload), func(b *batch) error {
		done = engine.Frozen{}
		old, err := s.findDelivery(b.tx, f.Delivery.ID)
		if err != nil {
			return err
		}
		if !f.Fits(&old.Delivery, b.hooks.Covered(&old.Delivery)) {
			return engine.ErrNotSendable
		}
		if f.Payload == nil && !f.Ends() {
			b.after = append(b.after, func() { s.unclaimID(id) })
			return b.removeDelivery(&old)
		}
		if err := b.supersede(&old, &f, &done); err != nil {
			return err
		}
		after := old
		var notices [][]byte
		after.Delivery, notices = f.Apply(&old.Delivery)
		if f.Ends() {
			done.Delivery = after.Delivery
			b.after = append(b.after, func() { s.unclaimID(id) })
		} else if err := b.storePayload(&after, f.Payload); err != nil {
			return err
		}
		if done.Queued, err = b.notify(notices, f.At); err != nil {
			return err
		}
		return b.saveDelivery(&old, &after)
	})
	if errors.Is(err, engine.ErrNotSendable) || errors.Is(err, engine.ErrNotFound) {
		s.unclaimID(id)
		err = engine.ErrNotSendable
	}
	return done, err
}

// RecordAttempt implements engine.Store.
func (s *Store) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
	id := r.Delivery.ID
	var done engine.Recorded
	var erased bool
	size := 512 + len(r.Attempt.Response)
	for _, f := range r.Attempt.ResponseHeader {
		size += len(f.Name) + len(f.Value)
	}
	err := s.write(ctx, size, func(b *batch) error {
		done = engine.Recorded{}
		if r.KeepsHealth(b.hooks.Get(r.Delivery.WebhookID), b.healthOf(r.Delivery.WebhookID)) {
			b.setHealth(r.Delivery.WebhookID, r.Health)
		}
		old, err := s.findDelivery(b.tx, r.Delivery.ID)
		if erased = errors.Is(err, engine.ErrNotFound); erased {
			b.after = append(b.after, func() { s.unclaimID(id) })
			done.Queued, err = b.notify(r.ApplyErased(), r.At)
			return err
		}
		if err != nil {
			return err
		}
		effect := r.Apply(&old.Delivery, b.hooks.Covered(&old.Delivery))
		d := old
		d.Delivery = effect.Delivery
		key := itemKey(d.number, uint32(d.Attempts))
		if err := b.put(b.attempts, key, encodeAttempt(key, &effect.Attempt)); err != nil {
			return err
		}
		done.Delivery, done.Moved = d.Delivery, effect.Moved
		b.after = append(b.after, func() { s.unclaimID(id) })
		if done.Queued, err = b.notify(effect.Notices, r.At); err != nil {
			return err
		}
		return b.saveDelivery(&old, &d)
	})
	if err == nil && erased {
		err = engine.ErrNotSendable
	}
	return done, err
}

// Reschedule implements engine.Store.
func (s *Store) Reschedule(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
	var after engine.Delivery
	err := s.write(ctx, 256, func(b *batch) error {
		old, err := s.findDelivery(b.tx, id)
		if err != nil {
			return err
		}
		d := old
		if how == engine.RescheduleNever {
			err = d.Cancel(now)
		} else {
			err = d.Requeue(b.hooks.Get(d.WebhookID), d.source(b.sessions), now)
		}
		if err != nil {
			return err
		}
		after = d.Delivery
		return b.saveDelivery(&old, &d)
	})
	return after, err
}

// Enqueue implements engine.Store.
func (s *Store) Enqueue(ctx context.Context, q engine.Enqueue) (d engine.Delivery, err error) {
	err = s.write(ctx, len(q.Payload), func(b *batch) error {
		err := b.refuseRepeated(q.Once)
		if err == nil {
			d, err = b.enqueue(&q)
		}
		if err != nil {
			return err
		}
		return b.remember(q.Once, engine.Done{DeliveryID: d.ID})
	})
	return d, err
}

// enqueue queues a body, or a system event, that belongs to no session.
func (b *batch) enqueue(q *engine.Enqueue) (engine.Delivery, error) {
	w := b.hooks.Get(q.WebhookID)
	if w == nil {
		return engine.Delivery{}, fmt.Errorf("webhook %d: %w", q.WebhookID, engine.ErrNotFound)
	}
	d := deliveryRecord{Delivery: q.Delivery(w)}
	if err := b.storePayload(&d, q.Payload); err != nil {
		return engine.Delivery{}, err
	}
	err := b.createDelivery(&d)
	return d.Delivery, err
}

// notify queues system events if a webhook for them exists. It returns what it has queued.
func (b *batch) notify(notices [][]byte, now time.Time) ([]engine.Queued, error) {
	w := b.hooks.Operations()
	if w == nil || !w.Active {
		return nil, nil
	}
	var queued []engine.Queued
	for _, payload := range notices {
		d, err := b.enqueue(&engine.Enqueue{WebhookID: w.ID, Kind: engine.KindOperation, Payload: payload, At: now})
		if err != nil {
			return nil, err
		}
		queued = append(queued, engine.Queued{Lane: d.Lane(), At: d.NextAttemptAt})
	}
	return queued, nil
}

// Delivery implements engine.Store.
func (s *Store) Delivery(ctx context.Context, id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt, error) {
	var d engine.Delivery
	var payload []byte
	var attempts []engine.Attempt
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		r, err := s.findDelivery(tx, id)
		if err != nil {
			return err
		}
		d = r.Delivery
		if r.payload != 0 {
			if payload, err = readPayload(tx, &r); err != nil && !s.passes(err) {
				return err
			}
		}
		prefix := u64key(r.number)
		c := tx.Bucket(bucketAttempts).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			a, err := decodeAttempt(k, v)
			switch {
			case s.passes(err):
			case err != nil:
				return err
			default:
				attempts = append(attempts, a)
			}
		}
		return nil
	})
	return d, payload, attempts, err
}
