package bolt

import (
	"bytes"
	"context"
	"errors"
	"maps"
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
			SizeBytes: b.tx.Size(), Full: s.space.room(), File: &engine.FileStats{FreeBytes: s.freeInFile(), MaxBytes: maxBytes,
				MinFreeBytes: minFree, DiskFreeBytes: s.space.left()}}
		maps.Copy(stats.Health, b.health)
		maps.DeleteFunc(stats.Health, func(_ uint32, h engine.Health) bool { return h.Failures == 0 })
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
			c := b.count(id)
			w := engine.WebhookStats{Claimed: claimed[engine.Lane{WebhookID: id}], ClaimedTests: claimed[engine.Lane{WebhookID: id, Test: true}],
				Scheduled: c.byStatus[engine.StatusScheduled], Pending: c.byStatus[engine.StatusPending],
				Delivered: c.byStatus[engine.StatusDelivered], Failed: c.byStatus[engine.StatusFailed], Cancelled: c.byStatus[engine.StatusCancelled],
			}
			if c.waiting() > 0 {
				b.countNewlyDue(id, c, now, &budget)
				w.Due = c.due
				var err error
				if w.OldestDueAt, err = b.oldestDue(id, now); err != nil {
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
	if c.due == c.waiting() {
		return
	}
	prefix, nowKey := lanePrefix(engine.Lane{WebhookID: webhookID}), instant(now)
	from := append(bytes.Clone(prefix), c.dueUpTo[:]...)
	cur := b.queue.Cursor()
	k, _ := cur.Seek(from)
	if bytes.Equal(k, from) {
		k, _ = cur.Next()
	}
	for ; *budget > 0 && bytes.HasPrefix(k, prefix) && queueKeyDue(k) <= nowKey; k, _ = cur.Next() {
		*budget--
		c.due++
		copy(c.dueUpTo[:], k[lanePrefixLen:])
		b.changes++
	}
}

// oldestDue returns when the oldest due entry of a webhook's lane became due; zero if none is due.
func (b *batch) oldestDue(webhookID uint32, now time.Time) (time.Time, error) {
	prefix := lanePrefix(engine.Lane{WebhookID: webhookID})
	k, _ := b.queue.Cursor().Seek(prefix)
	if !bytes.HasPrefix(k, prefix) || queueKeyDue(k) > instant(now) {
		return time.Time{}, nil
	}
	due := fromInstant(queueKeyDue(k))
	r, err := b.s.readDelivery(b.deliveries, queueKeyNumber(k))
	if errors.Is(err, ErrCorrupt) { // a start calls this, too; ClaimDue reports the damage
		return due, nil
	}
	if r.CreatedAt.After(due) {
		due = r.CreatedAt
	}
	return due, err
}
