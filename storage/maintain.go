package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	bolt "go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Bounds of one step of the background work: what others may have to wait for.
const (
	cancelStep = 500 // queue entries looked at
	expireStep = 200 // expiry entries looked at, of each kind
	// expireChanges is how many keys may be deleted before a step of one kind ends: a session may have thousands of events.
	expireChanges = 2000
)

const (
	// maintainAtLeast is how often Maintain wants to be asked, at the least; more often if something is kept for a shorter time.
	maintainAtLeast = time.Hour
	// waitingRecheck is when a session that is old enough to go, but for which something still waits, is looked at again.
	waitingRecheck = time.Hour
)

// Maintain implements engine.Store.
func (s *Store) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	var m engine.Maintained
	err := s.write(ctx, 64<<10, func(b *batch) error {
		m = engine.Maintained{Next: now.Add(min(maintainAtLeast, r.Sessions, r.Deliveries))}
		if err := b.stepJob(now, &m); err != nil {
			return err
		}
		for _, kind := range []struct {
			kind   byte
			keep   time.Duration
			expire func(number uint64, at, oldest, now time.Time) error
		}{
			{expirySession, r.Sessions, b.expireSession},
			{expiryDelivery, r.Deliveries, b.expireDelivery},
		} {
			at, err := b.stepExpiry(kind.kind, now, kind.keep, kind.expire)
			if err != nil {
				return err
			}
			if at.Before(m.Next) {
				m.Next = at
			}
		}
		return nil
	})
	if err != nil {
		return engine.Maintained{}, err
	}
	return m, nil
}

// stepJob carries the oldest job on, by one step: cancellations first, since what they cover lies in the way of what a lane may
// send, and a replay may take its time.
func (b *batch) stepJob(now time.Time, m *engine.Maintained) error {
	var key []byte
	var j job
	c := b.jobs.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		candidate, err := decodeJob(k, v)
		if err != nil {
			return err
		}
		if key == nil || candidate.Cancellation != nil {
			key, j = bytes.Clone(k), candidate
		}
		if j.Cancellation != nil {
			break
		}
	}
	if key == nil {
		return nil
	}
	var more bool
	var err error
	if j.Replay != nil {
		more, err = b.stepReplay(j.Replay, now, m)
	} else {
		more, err = b.stepCancellation(&j, now, m)
	}
	if err != nil {
		return err
	}
	m.Next = now // this one goes on, or there may be another one
	if more {
		return b.putJob(binary.BigEndian.Uint64(key), j)
	}
	if err := b.delete(b.jobs, key); err != nil || j.Replay != nil {
		return err
	}
	return b.setWebhooks(b.hooks.All()) // without the cancellation
}

// stepCancellation carries a cancellation on. It tells whether there is more to do.
func (b *batch) stepCancellation(j *job, now time.Time, m *engine.Maintained) (more bool, err error) {
	// The lanes of a webhook stand one after the other.
	prefix := u32key(j.WebhookID)
	c := b.queue.Cursor()
	k, _ := c.Seek(append(bytes.Clone(prefix), 0))
	if j.Cursor != nil {
		if k, _ = c.Seek(j.Cursor); bytes.Equal(k, j.Cursor) {
			k, _ = c.Next()
		}
	}
	var numbers []uint64
	for ; bytes.HasPrefix(k, prefix) && len(numbers) < cancelStep; k, _ = c.Next() {
		numbers = append(numbers, queueKeyNumber(k))
		j.Cursor = bytes.Clone(k)
	}
	for _, number := range numbers {
		covered, err := b.cancelIfCovered(number, j.Cancellation, now)
		if err != nil {
			return false, err
		}
		if covered {
			m.Cancelled++
		}
	}
	return len(numbers) == cancelStep, nil
}

func (b *batch) cancelIfCovered(number uint64, c *engine.Cancellation, now time.Time) (covered bool, err error) {
	old, err := b.s.readDelivery(b.deliveries, number)
	if err != nil {
		return false, err
	}
	if !c.Covers(&old.Delivery) {
		return false, nil
	}
	d := old
	d.finish(engine.StatusCancelled, now)
	return true, b.saveDelivery(&old, &d)
}

// stepExpiry looks at what of a kind may be old enough to go. It returns when to do so again: now if there is more.
func (b *batch) stepExpiry(kind byte, now time.Time, keep time.Duration, expire func(number uint64, at, oldest, now time.Time) error) (time.Time, error) {
	oldest := now.Add(-keep) // what is from before may go
	var keys [][]byte
	next := now.Add(maintainAtLeast)
	c := b.expiry.Cursor()
	for k, _ := c.Seek([]byte{kind}); k != nil && k[0] == kind; k, _ = c.Next() {
		if at := expiryAt(k); at.After(oldest) {
			next = at.Add(keep)
			break
		}
		if len(keys) == expireStep {
			break
		}
		keys = append(keys, bytes.Clone(k))
	}
	if len(keys) > 0 {
		next = now // there may be more, and what is looked at may be put again
	}
	before := b.changes
	for _, k := range keys {
		if b.changes-before > expireChanges {
			break
		}
		if err := b.delete(b.expiry, k); err != nil {
			return next, err
		}
		if err := expire(binary.BigEndian.Uint64(k[9:]), expiryAt(k), oldest, now); err != nil {
			return next, err
		}
	}
	return next, nil
}

func expiryAt(k []byte) time.Time { return fromInstant(binary.BigEndian.Uint64(k[1:])) }

// expireSession erases a session whose last event came before oldest, or notes when to look again.
func (b *batch) expireSession(number uint64, _, oldest, _ time.Time) error {
	key := u64key(number)
	v := b.sessions.Get(key)
	if v == nil {
		return nil // erased already
	}
	r, err := decodeSession(number, v)
	if err != nil {
		return err
	}
	if r.LastReceivedAt.After(oldest) {
		return b.put(b.expiry, expiryKey(expirySession, r.LastReceivedAt, number), nil)
	}
	for _, m := range r.Marks {
		d, err := b.s.readDelivery(b.deliveries, deliveryNumber(m.DeliveryID))
		if err != nil {
			return err
		}
		if d.number != 0 && d.Status.Waiting() {
			return b.put(b.expiry, expiryKey(expirySession, oldest.Add(waitingRecheck), number), nil)
		}
	}
	if err := b.deletePrefix(b.events, key); err != nil {
		return err
	}
	if err := b.delete(b.sessionNumbers, r.ID[:]); err != nil {
		return err
	}
	return b.delete(b.sessions, key)
}

// expireDelivery removes a delivery that reached its final state at the given time, unless it was sent again since.
func (b *batch) expireDelivery(number uint64, at, _, _ time.Time) error {
	r, err := b.s.readDelivery(b.deliveries, number)
	if err != nil || r.number == 0 || !r.FinishedAt.Equal(at) {
		return err
	}
	return b.removeDelivery(&r)
}

// deletePrefix deletes all keys that begin with prefix: collected first, for a bbolt cursor that deletes may skip keys.
func (b *batch) deletePrefix(bucket *bolt.Bucket, prefix []byte) error {
	var keys [][]byte
	c := bucket.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	for _, k := range keys {
		if err := b.delete(bucket, k); err != nil {
			return err
		}
	}
	return nil
}
