package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"time"

	"hookbolt/engine"
)

// maxDueStep bounds how many entries one call counts as newly due. A large backlog that became due since the last call is counted
// over several calls.
const maxDueStep = 50_000

// Stats implements engine.Store.
func (s *Store) Stats(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
	var stats engine.Stats
	minFree, maxBytes := s.space.limits()
	err := s.submitRead(ctx, 1024, func(b *batch) error {
		stats = engine.Stats{Webhooks: make(map[uint32]engine.WebhookStats, len(s.counts)), Health: maps.Clone(s.health),
			SizeBytes: b.tx.Size(), FanningOut: s.fanningOut.Load() + b.fanningOut, Full: s.space.room(), File: &engine.FileStats{FreeBytes: s.freeInFile(), MaxBytes: maxBytes,
				MinFreeBytes: minFree, DiskFreeBytes: s.space.left()}}
		maps.Copy(stats.Health, b.health)
		maps.DeleteFunc(stats.Health, func(_ uint32, h engine.Health) bool { return h.IsZero() })
		if err := b.settle(); err != nil {
			return err
		}
		var err error
		if stats.Replays, err = b.replays(); err != nil {
			return err
		}
		if probe {
			if err := b.put(b.meta, keyProbe, sealBytes(keyProbe, u64key(instant(now)))); err != nil {
				return err
			}
		}
		budget := maxDueStep
		if b.full {
			budget = 0 // the result would be lost
		}
		ids := make(map[uint32]bool, len(s.counts))
		for id := range s.counts {
			ids[id] = true
		}
		for id := range b.counts { // touched for the first time in this batch
			ids[id] = true
		}
		claimed := s.claimCounts()
		for id := range ids {
			c := b.counted(id)
			w := engine.WebhookStats{Claimed: claimed[engine.Lane{WebhookID: id}], ClaimedTests: claimed[engine.Lane{WebhookID: id, Test: true}],
				Scheduled: c.byStatus[engine.StatusScheduled], Pending: c.byStatus[engine.StatusPending],
				Delivered: c.byStatus[engine.StatusDelivered], Failed: c.byStatus[engine.StatusFailed], Cancelled: c.byStatus[engine.StatusCancelled],
				Filtered: c.byStatus[engine.StatusFiltered], Late: c.late, Parked: c.parked,
			}
			var known bool
			if w.Due, w.OldestDueAt, known = c.known(instant(now)); !known {
				c := b.count(id)
				b.countNewlyDue(id, c, now, &budget)
				w.Due = max(0, c.due) // a queue entry that was lost is missing in the count
				if w.OldestDueAt, err = b.oldestDue(id, c, now); err != nil {
					return err
				}
			}
			stats.Webhooks[id] = w
		}
		return nil
	})
	if err != nil {
		return engine.Stats{}, err // not stats: run may still write to it
	}
	return stats, nil
}

// freeInFile is how much of the file is free for new data.
func (s *Store) freeInFile() int64 {
	stats := s.db.Stats()
	return int64(stats.FreePageN+stats.PendingPageN) * pageSize
}

// countNewlyDue moves the mark of counted entries up to now, as far as the budget allows.
func (b *batch) countNewlyDue(webhookID uint32, c *counts, now time.Time, budget *int) {
	prefix, nowKey := lanePrefix(engine.Lane{WebhookID: webhookID}), instant(now)
	if binary.BigEndian.Uint64(c.dueUpTo[:]) > nowKey {
		b.uncountNotDue(prefix, c, nowKey, budget)
		return
	}
	if c.due == c.waiting() {
		return
	}
	for k := range b.s.entries(b.tx, bucketQueue, prefix, c.dueUpTo[:]) {
		if *budget == 0 || queueKeyDue(k) > nowKey {
			return
		}
		if bytes.Equal(k[lanePrefixLen:], c.dueUpTo[:]) {
			continue
		}
		*budget--
		c.due++
		copy(c.dueUpTo[:], k[lanePrefixLen:])
		b.changes++
	}
}

// uncountNotDue moves the mark back to now, as far as the budget allows: the clock was set back, and what is due later again must not count
// as due, and late, until the clock comes there.
func (b *batch) uncountNotDue(prefix []byte, c *counts, nowKey uint64, budget *int) {
	mark := append(bytes.Clone(prefix), c.dueUpTo[:]...)
	cursor := b.queue.Cursor()
	k, _ := cursor.Seek(mark)
	if k == nil {
		k, _ = cursor.Last()
	}
	for ; k != nil && bytes.Compare(k, prefix) > 0; k, _ = cursor.Prev() {
		switch {
		case len(k) != queueKeyLen || bytes.Compare(k, mark) > 0: // damaged, or behind the mark
			continue
		case queueKeyDue(k) > nowKey && *budget == 0:
			copy(c.dueUpTo[:], k[lanePrefixLen:])
			return
		case queueKeyDue(k) > nowKey:
			*budget--
			c.due--
			b.changes++
			continue
		}
		break
	}
	binary.BigEndian.PutUint64(c.dueUpTo[:], nowKey)
	binary.BigEndian.PutUint64(c.dueUpTo[8:], math.MaxUint64)
	b.changes++
}

// maxOldestLook bounds how many damaged deliveries at a lane's front one call passes.
const maxOldestLook = 100

// oldestDue returns when the oldest due delivery of a webhook's lane became due; zero if none is due. It passes damaged ones, which are
// never sent, unless there is nothing else; ClaimDue reports them. It notes the front of the lane in its counts, unless that is damaged.
func (b *batch) oldestDue(webhookID uint32, c *counts, now time.Time) (oldest time.Time, err error) {
	looked, nowKey := 0, instant(now)
	for k := range b.s.entries(b.tx, bucketQueue, lanePrefix(engine.Lane{WebhookID: webhookID}), nil) {
		if looked++; looked > 1 && queueKeyDue(k) > nowKey || looked > maxOldestLook {
			return oldest, nil
		}
		due := fromInstant(queueKeyDue(k))
		r, err := b.s.readDelivery(b.deliveries, queueKeyNumber(k))
		switch {
		case errors.Is(err, ErrCorrupt):
			if oldest.IsZero() && queueKeyDue(k) <= nowKey {
				oldest = due
			}
			continue
		case err != nil:
			return time.Time{}, err
		}
		since := later(due, r.CreatedAt)
		if looked == 1 {
			c.hasFront, c.oldest = true, since
			copy(c.front[:], k[lanePrefixLen:])
		}
		if queueKeyDue(k) > nowKey {
			return oldest, nil
		}
		return since, nil
	}
	if looked == 0 {
		c.hasFront, c.oldest = true, time.Time{}
		binary.BigEndian.PutUint64(c.front[:], math.MaxUint64)
		binary.BigEndian.PutUint64(c.front[8:], math.MaxUint64)
	}
	return oldest, nil
}
