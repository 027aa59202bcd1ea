package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
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
	// fullRecheck is when work that was put off for want of space is tried again.
	fullRecheck = time.Second
	// damagedRecheck is when what could not be read is tried again.
	damagedRecheck = 24 * time.Hour
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
			expire expiration
			count  *int
		}{
			{expirySession, r.Sessions, b.expireSession, &m.Expired.Sessions},
			{expiryDelivery, r.Deliveries, b.expireDelivery, &m.Expired.Deliveries},
		} {
			at, err := b.stepExpiry(kind.kind, now, kind.keep, kind.expire, kind.count, &m)
			if err != nil {
				return err
			}
			if at.Before(m.Next) {
				m.Next = at
			}
		}
		return b.stepEviction(now, &m)
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
	if j.Replay != nil && j.Replay.Scope == engine.ReplayMissing && b.s.space.room() != nil {
		m.Next = earlier(m.Next, now.Add(fullRecheck)) // it makes new deliveries
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
		if errors.Is(err, ErrCorrupt) {
			m.Damaged = append(m.Damaged, err)
			continue
		}
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

// expiration removes what a number stands for if it is from before oldest, and tells whether it did. at is the time in its expiry key,
// which has been deleted: what stays is put again.
type expiration func(number uint64, at, oldest, now time.Time) (removed bool, err error)

// stepExpiry looks at what of a kind may be old enough to go, and counts what goes. It returns when to do so again: now if there is more.
func (b *batch) stepExpiry(kind byte, now time.Time, keep time.Duration, expire expiration, count *int, m *engine.Maintained) (time.Time, error) {
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
		number := binary.BigEndian.Uint64(k[9:])
		removed, err := expire(number, expiryAt(k), oldest, now)
		if errors.Is(err, ErrCorrupt) { // it is left to whoever looks at the file; others are not to wait for it
			m.Damaged = append(m.Damaged, err)
			err = b.put(b.expiry, expiryKey(kind, oldest.Add(damagedRecheck), number), nil)
		}
		if err != nil {
			return next, err
		}
		if removed {
			*count++
		}
	}
	return next, nil
}

func expiryAt(k []byte) time.Time { return fromInstant(binary.BigEndian.Uint64(k[1:])) }

// expireSession erases a session whose last event came before oldest, or notes when to look again.
func (b *batch) expireSession(number uint64, _, oldest, _ time.Time) (removed bool, err error) {
	key := u64key(number)
	v := b.sessions.Get(key)
	if v == nil {
		return false, nil // erased already
	}
	r, err := decodeSession(number, v)
	if err != nil {
		return false, err
	}
	if r.LastReceivedAt.After(oldest) {
		return false, b.put(b.expiry, expiryKey(expirySession, r.LastReceivedAt, number), nil)
	}
	waits, err := b.waits(&r)
	if err != nil {
		return false, err
	}
	if waits {
		return false, b.put(b.expiry, expiryKey(expirySession, oldest.Add(waitingRecheck), number), nil)
	}
	return true, b.removeSession(&r)
}

// waits tells whether a delivery of a session is scheduled or pending.
func (b *batch) waits(r *sessionRecord) (bool, error) {
	for _, m := range r.Marks {
		d, err := b.s.readDelivery(b.deliveries, deliveryNumber(m.DeliveryID))
		if err != nil || d.number != 0 && d.Status.Waiting() {
			return true, err
		}
	}
	return false, nil
}

// removeSession removes a session with its events. Its deliveries stay, and so does what stands of it in expiry.
func (b *batch) removeSession(r *sessionRecord) error {
	key := u64key(r.number)
	if err := b.deletePrefix(b.events, key); err != nil {
		return err
	}
	if err := b.delete(b.sessionNumbers, r.ID[:]); err != nil { // if it is there already
		return err
	}
	b.numbers[r.ID] = 0
	return b.delete(b.sessions, key)
}

// expireDelivery removes a delivery that reached its final state at the given time, unless it was sent again since.
func (b *batch) expireDelivery(number uint64, at, _, _ time.Time) (removed bool, err error) {
	r, err := b.s.readDelivery(b.deliveries, number)
	if err != nil || r.number == 0 || !r.FinishedAt.Equal(at) {
		return false, err
	}
	return true, b.removeDelivery(&r)
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
