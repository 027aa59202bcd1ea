package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// Stats implements engine.Store. What is due is counted by the writer; see dueMark.
func (s *Store) Stats(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
	stats, waiting, err := s.readStats(ctx, now, false)
	if isUnreadable(err) {
		stats, waiting, err = s.readStats(ctx, now, true)
	}
	if err != nil {
		return engine.Stats{}, err
	}
	look, err := s.lookAsWriter(ctx, waiting, now, probe)
	if isUnreadable(err) { // in the queue
		s.damaged.add(fmt.Errorf("%w: what is due cannot be counted: %w", ErrCorrupt, err))
		look, err = s.lookAsWriter(ctx, nil, now, probe)
	}
	if errors.Is(err, engine.ErrFull) {
		stats.Full = err
		look, err = s.lookAsWriter(ctx, waiting, now, false)
	}
	if err != nil {
		return engine.Stats{}, err
	}
	stats.Health = look.health
	if s.fleet != nil {
		return s.statsOfFleet(ctx, now, stats, waiting)
	}
	for id, n := range look.due {
		w := stats.Webhooks[id]
		w.Due = min(n, w.Scheduled+w.Pending) // these were counted a moment before
		stats.Webhooks[id] = w
	}
	return stats, nil
}

// writerLook is what only the writer knows.
type writerLook struct {
	due    map[uint32]int64
	health map[uint32]engine.Health
}

// lookAsWriter counts what is due for the webhooks for which something waits. With probe it also commits a batch, which shows that the database can be written.
func (s *Store) lookAsWriter(ctx context.Context, waiting []uint32, now time.Time, probe bool) (writerLook, error) {
	var look writerLook
	err := s.submitRead(ctx, mutation{walks: true, run: func(b *batch) (err error) {
		if s.fleet == nil { // others do not tell of what they move in the queue
			look.due, err = b.countDue(waiting, fields.Instant(now), maxDueStep)
		}
		if err != nil {
			return err
		}
		look.health = maps.Clone(s.health)
		maps.Copy(look.health, b.health)
		maps.DeleteFunc(look.health, func(_ uint32, h engine.Health) bool { return h.IsZero() })
		if probe {
			b.changes++ // so that the batch is written, with nothing but its row
		}
		return nil
	}})
	if err != nil {
		return writerLook{}, err // not look: run may still write to it
	}
	return look, nil
}

// readStats reads all that is stored. waiting are the webhooks that have scheduled or pending deliveries. If it is careful, it leaves out since when something
// is due where the server cannot read that.
func (s *Store) readStats(ctx context.Context, now time.Time, careful bool) (stats engine.Stats, waiting []uint32, err error) {
	err = s.snapshot(ctx, func(tx pgx.Tx) error {
		stats, waiting = engine.Stats{FanningOut: s.fanningOut.Load(), Webhooks: make(map[uint32]engine.WebhookStats)}, nil
		all, err := s.readCounts(ctx, tx.Conn()) // the first statement of the snapshot, as it has to be
		if err != nil && !s.passes(err) {
			return err
		}
		claimed := s.claimCounts()
		for id, c := range all {
			stats.Webhooks[id] = engine.WebhookStats{Claimed: claimed[engine.Lane{WebhookID: id}], ClaimedTests: claimed[engine.Lane{WebhookID: id, Test: true}],
				Scheduled: c.byStatus[engine.StatusScheduled], Pending: c.byStatus[engine.StatusPending], Delivered: c.byStatus[engine.StatusDelivered],
				Failed: c.byStatus[engine.StatusFailed], Cancelled: c.byStatus[engine.StatusCancelled], Filtered: c.byStatus[engine.StatusFiltered],
				Late: c.late, Parked: c.parked}
			if c.waiting() > 0 {
				waiting = append(waiting, id)
			}
		}
		oldest := func(tx pgx.Tx) error { return s.readOldestDue(ctx, tx, waiting, fields.Instant(now), stats.Webhooks) }
		if careful {
			err = apart(ctx, tx, oldest)
		} else {
			err = oldest(tx)
		}
		if careful && isUnreadable(err) {
			s.damaged.add(fmt.Errorf("%w: since when deliveries are due: %w", ErrCorrupt, err))
		} else if err != nil {
			return err
		}
		if stats.Replays, err = s.readReplays(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, s.sql("SELECT COALESCE(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "+
			"WHERE n.nspname = $1 AND c.relkind = 'r'"), s.opts.Schema).Scan(&stats.SizeBytes)
	})
	return stats, waiting, err
}

// maxOldestLook bounds how many damaged deliveries at a lane's front one call passes.
const maxOldestLook = 100

// readOldestDue sets OldestDueAt of some webhooks. It passes damaged deliveries, which are never sent, unless there is nothing else; ClaimDue reports them.
func (s *Store) readOldestDue(ctx context.Context, tx pgx.Tx, webhooks []uint32, now int64, stats map[uint32]engine.WebhookStats) error {
	damaged, err := s.readFronts(ctx, tx, webhooks, now, 1, stats)
	if err == nil && len(damaged) > 0 {
		_, err = s.readFronts(ctx, tx, damaged, now, maxOldestLook, stats)
	}
	return err
}

// readFronts is readOldestDue among the first deliveries of each lane. It returns the webhooks of which all are damaged.
func (s *Store) readFronts(ctx context.Context, tx pgx.Tx, webhooks []uint32, now int64, limit int, stats map[uint32]engine.WebhookStats) (damaged []uint32, err error) {
	if len(webhooks) == 0 {
		return nil, nil
	}
	ids := make([]int32, len(webhooks))
	for i, id := range webhooks {
		ids[i] = int32(id)
	}
	rows, err := tx.Query(ctx, s.sql("SELECT "+deliveryColumns+", l.w, q.at FROM unnest($1::int[]) l(w) CROSS JOIN LATERAL (SELECT at, delivery_id FROM @.queue "+
		"WHERE webhook_id = l.w AND class = 0 AND at <= $2 ORDER BY at, delivery_id LIMIT $3) q CROSS JOIN LATERAL (SELECT * FROM @.deliveries WHERE id = q.delivery_id OFFSET 0) d ORDER BY l.w, q.at, q.delivery_id"), ids, now, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	unread := make(map[uint32]bool)
	since := make(map[uint32]time.Time)
	for rows.Next() {
		var id uint32
		var at int64
		d, err := scanDelivery(rows, &id, &at)
		switch _, first := since[id]; {
		case errors.Is(err, ErrCorrupt):
			if !first {
				since[id], unread[id] = fields.Time(at), true
			}
		case err != nil:
			return nil, err
		case !first || unread[id]:
			since[id] = fields.Time(at)
			if d.CreatedAt.After(since[id]) {
				since[id] = d.CreatedAt
			}
			delete(unread, id)
		}
	}
	for id, at := range since {
		w := stats[id]
		w.OldestDueAt = at
		stats[id] = w
	}
	for id := range unread {
		damaged = append(damaged, id)
	}
	return damaged, rows.Err()
}

// readReplays reads the replays that are not done yet, the oldest first.
func (s *Store) readReplays(ctx context.Context, tx pgx.Tx) (all []engine.Replay, err error) {
	rows, err := tx.Query(ctx, s.sql("SELECT no, job::text FROM @.jobs ORDER BY no"))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var no int64
		var text []byte
		var j job
		if err := rows.Scan(&no, &text); err != nil {
			return nil, err
		}
		switch err := json.Unmarshal(text, &j); {
		case err != nil:
			s.passes(damage("job", no))
		case j.Replay != nil:
			all = append(all, j.Replay.Replay)
		}
	}
	return all, rows.Err()
}

// submitRead is write for a call that returns when ctx ends, even while the writer waits for the database. run may still go on then, so its caller uses nothing
// that it writes to, unless submitRead returns nil.
func (s *Store) submitRead(ctx context.Context, m mutation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	answer := make(chan error, 1)
	go func() { answer <- s.write(ctx, m) }() // it ends with the writer's answer
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
