package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Bounds of one step of the background work, because other mutations wait for it.
const (
	cancelStep = 500 // queue entries looked at
	expireStep = 200 // numbers of expiry looked at, of each kind
	// expireChanges is how many keys a step of one kind may delete before it ends: a session may have thousands of events. expireLooks is how
	// many deliveries of sessions a step may look at: a session may have thousands of these, too.
	expireChanges = 2000
	expireLooks   = 5000
)

// expireBudget bounds a step that removes records.
type expireBudget struct {
	b               *batch
	changes, looked int // of the batch, where the step ends
	numbers         int // how many more the step may look at
}

func (b *batch) expireBudget() expireBudget {
	return expireBudget{b, b.changes + expireChanges, b.looked + expireLooks, expireStep}
}

// spent reports whether the step must end.
func (e *expireBudget) spent() bool {
	return e.numbers <= 0 || e.b.changes > e.changes || e.b.looked > e.looked
}

const (
	// maintainAtLeast is the longest time between two calls of Maintain. A shorter retention shortens it.
	maintainAtLeast = time.Hour
	// fullRecheck is when to try again work that was postponed for want of space.
	fullRecheck = time.Second
)

// Maintain implements engine.Store.
func (s *Store) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	var m engine.Maintained
	err := s.write(ctx, 64<<10, func(b *batch) error {
		m = engine.Maintained{Next: now.Add(min(maintainAtLeast, r.Sessions, r.Deliveries))}
		if err := b.settle(); err != nil {
			return err
		}
		if err := b.stepJob(now, &m); err != nil {
			return err
		}
		for _, kind := range []expiryKind{
			{expirySession, r.Sessions, b.expireSession, &m.Expired.Sessions},
			{expiryDelivery, r.Deliveries, b.expireDelivery, &m.Expired.Deliveries},
		} {
			at, err := b.stepExpiry(kind, now, &m)
			if err == nil {
				at, err = b.stepSweep(kind, at, now)
			}
			if err != nil {
				return err
			}
			m.Next = earlier(m.Next, at)
		}
		at, err := b.stepForget(now)
		if err != nil {
			return err
		}
		m.Next = earlier(m.Next, at)
		return b.stepEviction(now, &m)
	})
	if err != nil {
		return engine.Maintained{}, err
	}
	for _, err := range m.Damaged {
		s.damaged.add(err) // once, also if another call has met it
	}
	m.Damaged = s.damaged.take()
	if left := s.unfinished.Swap(nil); left != nil {
		m.Erasures = *left
	}
	return m, nil
}

// stepJob does one step of the oldest job. Cancellations come first, because the deliveries that they cover delay others in the same
// lane. A replay may take longer. Damaged jobs are passed: they stay as they are, and what they had left to do is not done, except for
// lostCancellations.
func (b *batch) stepJob(now time.Time, m *engine.Maintained) error {
	var key []byte
	var j job
	damaged := 0
	c := b.jobs.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		candidate, err := decodeJob(k, v)
		if b.s.passes(err) {
			damaged++
			continue
		}
		if err != nil {
			return err
		}
		if candidate.Erasure != nil { // its steps are calls of Erase
			continue
		}
		if key == nil || candidate.Cancellation != nil {
			key, j = bytes.Clone(k), candidate
		}
		if j.Cancellation != nil {
			break
		}
	}
	if damaged > b.s.lostJobs {
		m.Next = now
		return b.replaceJobs(damaged)
	}
	if key == nil {
		return nil
	}
	if j.Replay != nil && j.Replay.Scope == engine.ReplayMissing && b.s.space.room() != nil {
		m.Next = earlier(m.Next, now.Add(fullRecheck)) // it creates deliveries
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
	m.Next = now // this job goes on, or there may be another one
	if more {
		return b.putJob(binary.BigEndian.Uint64(key), j)
	}
	if err := b.delete(b.jobs, key); err != nil || j.Replay != nil {
		return err
	}
	b.setCancellations() // without this one
	return nil
}

// replaceJobs begins the cancellations that may have been lost with damaged jobs, of which there are so many now.
func (b *batch) replaceJobs(damaged int) error {
	for _, c := range lostCancellations(b.hooks.All()) {
		if err := b.beginCancellations(c.WebhookID, []engine.Cancellation{c}); err != nil {
			return err
		}
	}
	b.setCancellations()
	b.after = append(b.after, func() { b.s.lostJobs = damaged })
	return nil
}

// stepCancellation does one step of a cancellation. It reports whether there is more to do.
func (b *batch) stepCancellation(j *job, now time.Time, m *engine.Maintained) (more bool, err error) {
	// The lanes of a webhook are adjacent.
	prefix, after := u32key(j.WebhookID), j.Cursor
	var numbers []uint64
	for k := range b.s.entries(b.tx, bucketQueue, prefix, bytes.TrimPrefix(after, prefix)) {
		if len(numbers) == cancelStep {
			break
		}
		if !bytes.Equal(k, after) {
			numbers = append(numbers, queueKeyNumber(k))
			j.Cursor = bytes.Clone(k)
		}
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
	d.Finish(engine.StatusCancelled, now)
	return true, b.saveDelivery(&old, &d)
}

// removeSession removes a session with its events. Its deliveries stay, and so does its entry in expiry.
func (b *batch) removeSession(r *sessionRecord) error {
	key := u64key(r.number)
	if err := b.deletePrefix(b.events, key); err != nil {
		return err
	}
	if r.marks > 0 {
		if err := b.deletePrefix(b.marks, key); err != nil {
			return err
		}
	}
	if err := b.delete(b.sessionNumbers, r.ID[:]); err != nil { // a new session has no entry yet
		return err
	}
	b.numbers[r.ID] = 0
	return b.delete(b.sessions, key)
}

// deletePrefix deletes all keys that begin with prefix. It collects them first, because a bbolt cursor that deletes may skip keys.
func (b *batch) deletePrefix(bucket *bbolt.Bucket, prefix []byte) error {
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
