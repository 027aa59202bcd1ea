package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// readDelivery reads a delivery by its number; the result's number is 0 if there is none.
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

// findDelivery reads a delivery by its public id.
func (s *Store) findDelivery(deliveries *bbolt.Bucket, id uuid.UUID) (deliveryRecord, error) {
	r, err := s.readDelivery(deliveries, deliveryNumber(id))
	if err == nil && (r.number == 0 || r.ID != id) {
		err = fmt.Errorf("delivery %s: %w", id, engine.ErrNotFound)
	}
	return r, err
}

// createDelivery gives a new delivery its number and id, stores it and puts it into its lane. The time of its creation is the
// writer's, so that times grow with numbers whatever callers had to wait for.
func (b *batch) createDelivery(r *deliveryRecord) error {
	number, err := b.next(b.deliveries)
	if err != nil {
		return err
	}
	r.CreatedAt = b.began
	r.number, r.ID = number, deliveryID(r.CreatedAt, b.s.nonce, number)
	if w := b.hooks.Get(r.WebhookID); w != nil {
		r.WebhookRevision = w.Revision
	}
	if err := b.put(b.byWebhook, byWebhookKey(r), nil); err != nil {
		return err
	}
	return b.saveDelivery(nil, r)
}

// saveDelivery replaces a delivery's record, nil standing for none, and with it all that follows from it: its place in the
// lane, the index of exceptions, its expiry, the counts. It is the only place where these change.
func (b *batch) saveDelivery(old, new *deliveryRecord) error {
	var oldQueue, newQueue, oldException, newException []byte
	if old != nil {
		b.count(old.WebhookID).byStatus[old.Status]--
		oldQueue, oldException = indexKeys(old)
	}
	if new != nil {
		b.count(new.WebhookID).byStatus[new.Status]++
		newQueue, newException = indexKeys(new)
	}
	if err := b.moveQueued(oldQueue, newQueue); err != nil {
		return err
	}
	if err := b.move(b.exceptions, oldException, newException); err != nil {
		return err
	}
	if new == nil {
		return b.delete(b.deliveries, u64key(old.number))
	}
	if !new.FinishedAt.IsZero() && (old == nil || !old.FinishedAt.Equal(new.FinishedAt)) {
		b.expire(expiryDelivery, new.number, new.FinishedAt)
	}
	return b.put(b.deliveries, u64key(new.number), new.encode())
}

// removeDelivery removes a delivery with all that belongs to it.
func (b *batch) removeDelivery(r *deliveryRecord) error {
	if r.payload != 0 {
		if err := b.delete(b.payloads, u64key(r.payload)); err != nil {
			return err
		}
	}
	if err := b.deletePrefix(b.attempts, u64key(r.number)); err != nil {
		return err
	}
	if err := b.delete(b.byWebhook, byWebhookKey(r)); err != nil {
		return err
	}
	return b.saveDelivery(r, nil)
}

// indexKeys returns the keys that a delivery has in queue and exceptions, nil for none.
func indexKeys(r *deliveryRecord) (queue, exception []byte) {
	switch r.Status {
	case engine.StatusScheduled, engine.StatusPending:
		queue = queueKey(r)
	case engine.StatusFailed, engine.StatusCancelled:
		exception = exceptionKey(r)
	}
	return queue, exception
}

// move replaces one index key by another, nil standing for none.
func (b *batch) move(bucket *bbolt.Bucket, from, to []byte) error {
	if bytes.Equal(from, to) {
		return nil
	}
	if from != nil {
		if err := b.delete(bucket, from); err != nil {
			return err
		}
	}
	if to != nil {
		return b.put(bucket, to, nil)
	}
	return nil
}

// moveQueued is move for the queue; it keeps the counts of what is due.
func (b *batch) moveQueued(from, to []byte) error {
	if bytes.Equal(from, to) {
		return nil
	}
	b.countDue(from, -1)
	b.countDue(to, +1)
	return b.move(b.queue, from, to)
}

// countDue adds n to the count of what is due, if the queue key (nil for none) lies within it. Tests do not count: they are
// sent at once.
func (b *batch) countDue(key []byte, n int64) {
	if key == nil || queueKeyIsTest(key) {
		return
	}
	if c := b.count(queueKeyWebhook(key)); bytes.Compare(key[lanePrefixLen:], c.dueUpTo[:]) <= 0 {
		c.due += n
	}
}

// TakeDue implements engine.Store.
func (s *Store) TakeDue(ctx context.Context, now time.Time, rooms []engine.LaneRoom) ([]engine.LaneTake, error) {
	takes := make([]engine.LaneTake, len(rooms))
	var claimed []uint64
	// Claim first, then look: were the transaction opened before the claims are looked at, a delivery that finishes in between
	// would stand in the queue that this transaction sees, and no longer among the claims; it would be sent again.
	s.claimMu.Lock()
	locked := true
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		found := make([][][]byte, len(rooms))
		for i, room := range rooms {
			var err error
			found[i], takes[i].Next, err = s.claimDue(tx, now, room)
			for _, key := range found[i] {
				claimed = append(claimed, queueKeyNumber(key))
			}
			if err != nil {
				return err
			}
		}
		s.claimMu.Unlock()
		locked = false
		for i := range found {
			for _, key := range found[i] {
				t, err := s.readTaken(tx, key)
				if errors.Is(err, ErrCorrupt) {
					takes[i].Damaged = append(takes[i].Damaged, err)
					continue
				}
				if err != nil {
					return err
				}
				takes[i].Taken = append(takes[i].Taken, t)
			}
		}
		return nil
	})
	if locked {
		s.claimMu.Unlock()
	}
	if err != nil {
		s.unclaim(claimed...)
		return nil, err
	}
	return takes, nil
}

const (
	// maxPassed is how many entries that cannot be taken are passed over in one look at a lane.
	maxPassed = 2000
	// passedRetry is when to look again after that: the job that clears them away is at work.
	passedRetry = 50 * time.Millisecond
)

// claimDue claims what is due in a lane and returns its keys in the queue. s.claimMu is held.
func (s *Store) claimDue(tx *bbolt.Tx, now time.Time, room engine.LaneRoom) (found [][]byte, next time.Time, err error) {
	hooks := s.hooks.Load()
	mayBeCovered := len(hooks.Cancellations(room.Lane.WebhookID)) > 0
	prefix, nowKey := lanePrefix(room.Lane), instant(now)
	passed := 0
	c := tx.Bucket(bucketQueue).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		due, number := queueKeyDue(k), queueKeyNumber(k)
		switch {
		case due > nowKey:
			return found, fromInstant(due), nil
		case len(found) == room.Room:
			return found, time.Time{}, nil
		case passed == maxPassed:
			return found, now.Add(passedRetry), nil
		}
		if _, taken := s.claims[number]; taken {
			passed++
			continue
		}
		if mayBeCovered {
			covered, err := s.isCovered(tx, hooks, number)
			if err != nil && !errors.Is(err, ErrCorrupt) { // what is damaged shows when it is read
				return found, time.Time{}, err
			}
			if covered {
				passed++
				continue
			}
		}
		s.claims[number] = struct{}{}
		found = append(found, bytes.Clone(k))
	}
	return found, time.Time{}, nil
}

func (s *Store) isCovered(tx *bbolt.Tx, hooks *engine.WebhookSet, number uint64) (bool, error) {
	r, err := s.readDelivery(tx.Bucket(bucketDeliveries), number)
	return err == nil && hooks.Covered(&r.Delivery), err
}

// readTaken reads what it takes to send the delivery that a key in the queue stands for.
func (s *Store) readTaken(tx *bbolt.Tx, key []byte) (engine.Taken, error) {
	number := queueKeyNumber(key)
	r, err := s.readDelivery(tx.Bucket(bucketDeliveries), number)
	if err != nil {
		return engine.Taken{}, err
	}
	// Keys have no checksum: the record has to say the same.
	if queue, _ := indexKeys(&r); r.number == 0 || !bytes.Equal(queue, key) {
		return engine.Taken{}, fmt.Errorf("%w: the queue holds delivery %d at a place that is not its own", ErrCorrupt, number)
	}
	t := engine.Taken{Delivery: r.Delivery}
	if r.payload != 0 {
		t.Payload, err = readPayload(tx, &r)
		return t, err
	}
	v := tx.Bucket(bucketSessions).Get(u64key(r.session))
	head, err := decodeSession(r.session, v)
	if err != nil {
		return t, err
	}
	session, err := readSessionRecord(tx.Bucket(bucketEvents), head)
	t.Session = &session
	return t, err
}

// readPayload copies a delivery's frozen payload.
func readPayload(tx *bbolt.Tx, r *deliveryRecord) ([]byte, error) {
	key := u64key(r.payload)
	body, err := unseal(bucketPayloads, key, tx.Bucket(bucketPayloads).Get(key))
	return bytes.Clone(body), err
}

// claim begins claims.
func (s *Store) claim(numbers ...uint64) {
	s.claimMu.Lock()
	defer s.claimMu.Unlock()
	for _, n := range numbers {
		s.claims[n] = struct{}{}
	}
}

// unclaim ends claims.
func (s *Store) unclaim(numbers ...uint64) {
	s.claimMu.Lock()
	defer s.claimMu.Unlock()
	for _, n := range numbers {
		delete(s.claims, n)
	}
}

// Release implements engine.Store.
func (s *Store) Release(taken []engine.Delivery) {
	for i := range taken {
		s.unclaim(deliveryNumber(taken[i].ID))
	}
}

// storePayload writes a payload and notes its number in the delivery.
func (b *batch) storePayload(r *deliveryRecord, payload []byte, at time.Time) error {
	number, err := b.next(b.payloads)
	if err != nil {
		return err
	}
	r.payload, r.FrozenAt, r.Status = number, at, engine.StatusPending
	key := u64key(number)
	return b.put(b.payloads, key, sealBytes(key, payload))
}

// Freeze implements engine.Store.
func (s *Store) Freeze(ctx context.Context, f engine.Freeze) error {
	number := deliveryNumber(f.Delivery.ID)
	err := s.write(ctx, len(f.Payload), func(b *batch) error {
		old, err := s.findDelivery(b.deliveries, f.Delivery.ID)
		if err != nil {
			return err
		}
		if old.Status != engine.StatusScheduled || !old.NextAttemptAt.Equal(f.Delivery.NextAttemptAt) {
			return engine.ErrGone
		}
		if b.hooks.Covered(&old.Delivery) {
			return engine.ErrGone
		}
		if f.Payload == nil {
			b.after = append(b.after, func() { s.unclaim(number) })
			return b.removeDelivery(&old)
		}
		frozen := old
		if err := b.storePayload(&frozen, f.Payload, f.At); err != nil {
			return err
		}
		return b.saveDelivery(&old, &frozen)
	})
	if errors.Is(err, engine.ErrGone) || errors.Is(err, engine.ErrNotFound) {
		s.unclaim(number)
		return engine.ErrGone
	}
	return err
}

// RecordAttempt implements engine.Store.
func (s *Store) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Delivery, error) {
	number := deliveryNumber(r.Delivery.ID)
	var after engine.Delivery
	var gone bool
	size := 512 + len(r.Attempt.Response)
	for _, f := range r.Attempt.ResponseHeader {
		size += len(f.Name) + len(f.Value)
	}
	err := s.write(ctx, size, func(b *batch) error {
		old, err := s.findDelivery(b.deliveries, r.Delivery.ID)
		if gone = errors.Is(err, engine.ErrNotFound); gone {
			b.setHealth(r.Delivery.WebhookID, r.Health)
			b.after = append(b.after, func() { s.unclaim(number) })
			return b.notifyOf(&r, &engine.Delivery{}) // of the endpoint there may be something to tell
		}
		if err != nil {
			return err
		}
		d, a := old, r.Attempt
		d.Attempts++
		d.LastStatus, d.LastError = a.Status, a.Error
		a.NextReason = b.advance(&d, r)
		a.NextAt = d.NextAttemptAt
		key := itemKey(number, uint32(d.Attempts))
		if err := b.put(b.attempts, key, encodeAttempt(key, &a)); err != nil {
			return err
		}
		b.setHealth(d.WebhookID, r.Health)
		after = d.Delivery
		b.after = append(b.after, func() { s.unclaim(number) })
		if err := b.notifyOf(&r, &after); err != nil {
			return err
		}
		return b.saveDelivery(&old, &d)
	})
	if err == nil && gone {
		err = engine.ErrGone
	}
	return after, err
}

// advance moves a delivery on after an attempt, and says why to where.
func (b *batch) advance(d *deliveryRecord, r engine.AttemptRecord) engine.NextReason {
	next := r.Next
	if next.Status != engine.StatusDelivered {
		switch {
		case !d.Status.Waiting(): // what was done meanwhile stands
			return engine.NextCancelled
		case !d.NextAttemptAt.Equal(r.Delivery.NextAttemptAt):
			return engine.NextQueuedAgain
		case b.hooks.Covered(&d.Delivery):
			next = engine.Next{Status: engine.StatusCancelled, Reason: engine.NextCancelled}
		}
	}
	if next.Status != engine.StatusPending {
		d.finish(next.Status, r.At)
		return next.Reason
	}
	if next.Counts() {
		d.Tries++
	}
	d.NextAttemptAt = next.At // still scheduled, if its payload could not be built
	return next.Reason
}

// finish puts a delivery into a final state.
func (r *deliveryRecord) finish(s engine.Status, at time.Time) {
	r.Status, r.FinishedAt, r.NextAttemptAt = s, at, time.Time{}
}

// Reschedule implements engine.Store.
func (s *Store) Reschedule(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
	var after engine.Delivery
	err := s.write(ctx, 256, func(b *batch) error {
		old, err := s.findDelivery(b.deliveries, id)
		if err != nil {
			return err
		}
		d := old
		if how == engine.RescheduleNever {
			if !old.Status.Waiting() {
				return fmt.Errorf("%w: it is %s; only a scheduled or pending delivery can be cancelled", engine.ErrConflict, old.Status)
			}
			d.finish(engine.StatusCancelled, now)
		} else {
			if err := b.mayRequeue(&old); err != nil {
				return err
			}
			d.requeue(b.hooks.Get(d.WebhookID), now)
		}
		after = d.Delivery
		return b.saveDelivery(&old, &d)
	})
	return after, err
}

// mayRequeue says why a delivery cannot be sent again.
func (b *batch) mayRequeue(r *deliveryRecord) error {
	w := b.hooks.Get(r.WebhookID)
	switch {
	case w == nil:
		return fmt.Errorf("%w: webhook %d was deleted", engine.ErrConflict, r.WebhookID)
	case !w.Active && r.Kind != engine.KindTest:
		return fmt.Errorf("%w: webhook %d is inactive", engine.ErrConflict, r.WebhookID)
	case r.payload == 0 && b.sessions.Get(u64key(r.session)) == nil:
		return fmt.Errorf("%w: it has no payload, and its session is no longer stored", engine.ErrConflict)
	}
	return nil
}

// requeue makes a delivery due now, with a fresh schedule. w is its webhook.
func (r *deliveryRecord) requeue(w *engine.Webhook, now time.Time) {
	r.Status = engine.StatusPending
	if r.payload == 0 {
		r.Status = engine.StatusScheduled
	}
	r.WebhookRevision, r.Tries, r.FinishedAt, r.NextAttemptAt = w.Revision, 0, time.Time{}, now
}

// Enqueue implements engine.Store.
func (s *Store) Enqueue(ctx context.Context, webhookID uint32, kind engine.Kind, payload []byte, now time.Time) (d engine.Delivery, err error) {
	err = s.write(ctx, len(payload), func(b *batch) (err error) {
		d, err = b.enqueue(webhookID, kind, payload, now)
		return err
	})
	return d, err
}

// enqueue queues a payload that is about no session.
func (b *batch) enqueue(webhookID uint32, kind engine.Kind, payload []byte, now time.Time) (engine.Delivery, error) {
	if b.hooks.Get(webhookID) == nil {
		return engine.Delivery{}, fmt.Errorf("webhook %d: %w", webhookID, engine.ErrNotFound)
	}
	d := deliveryRecord{Delivery: engine.Delivery{WebhookID: webhookID, Kind: kind, DueAt: now, NextAttemptAt: now}}
	if err := b.storePayload(&d, payload, now); err != nil {
		return engine.Delivery{}, err
	}
	err := b.createDelivery(&d)
	return d.Delivery, err
}

// notifyOf queues the operational events of an attempt.
func (b *batch) notifyOf(r *engine.AttemptRecord, after *engine.Delivery) error {
	if r.Notices == nil {
		return nil
	}
	for _, n := range r.Notices(after) {
		if err := b.notify(n, r.At); err != nil {
			return err
		}
	}
	return nil
}

// notify queues an operational event, nil for none, if somebody wants it.
func (b *batch) notify(payload []byte, now time.Time) error {
	w := b.hooks.Operations()
	if payload == nil || w == nil || !w.Active {
		return nil
	}
	_, err := b.enqueue(w.ID, engine.KindOperation, payload, now)
	return err
}

// Delivery implements engine.Store.
func (s *Store) Delivery(ctx context.Context, id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt, error) {
	var d engine.Delivery
	var payload []byte
	var attempts []engine.Attempt
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		r, err := s.findDelivery(tx.Bucket(bucketDeliveries), id)
		if err != nil {
			return err
		}
		d = r.Delivery
		if r.payload != 0 {
			if payload, err = readPayload(tx, &r); err != nil {
				return err
			}
		}
		prefix := u64key(r.number)
		c := tx.Bucket(bucketAttempts).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			a, err := decodeAttempt(k, v)
			if err != nil {
				return err
			}
			attempts = append(attempts, a)
		}
		return nil
	})
	return d, payload, attempts, err
}
