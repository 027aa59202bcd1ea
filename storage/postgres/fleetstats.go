package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// statsOfFleet completes the figures of one process to those of all: they are the same wherever they are asked for. The claims of others are those of their
// last beats. waiting are the webhooks for which something waits.
func (s *Store) statsOfFleet(ctx context.Context, now time.Time, stats engine.Stats, waiting []uint32) (engine.Stats, error) {
	mine := stats.Health
	read := func(waiting []uint32) error {
		return s.snapshot(ctx, func(tx pgx.Tx) (err error) {
			if stats.Health, err = s.readHealth(ctx, tx.Conn()); err != nil {
				return err
			}
			return s.countDueOfAll(ctx, tx, waiting, fields.Instant(now), stats.Webhooks)
		})
	}
	err := read(waiting)
	if isUnreadable(err) { // in the queue
		s.damaged.add(fmt.Errorf("%w: what is due cannot be counted: %w", ErrCorrupt, err))
		err = read(nil)
	}
	if err != nil {
		return engine.Stats{}, err
	}
	for id := range *s.fleet.owned.Load() {
		if h, ok := mine[id]; ok {
			stats.Health[id] = h
		} else {
			delete(stats.Health, id)
		}
	}
	for lane, n := range s.fleet.claimedElsewhere() {
		w, ok := stats.Webhooks[lane.WebhookID]
		switch {
		case !ok:
			continue
		case lane.Test:
			w.ClaimedTests += n
		default:
			w.Claimed += n
		}
		stats.Webhooks[lane.WebhookID] = w
	}
	return stats, nil
}

// claimedElsewhere counts what other members have claimed.
func (f *fleet) claimedElsewhere() claimTally {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(claimTally)
	for _, m := range f.members {
		if m.state == stateLeft {
			continue
		}
		for lane, n := range m.claimed {
			all[lane] += n
		}
	}
	return all
}

// countDueOfAll sets Due of webhooks. Where more is due than one call counts, it counts what is not due yet, and the rest of what waits is due; if that is too
// much as well, Due is what was counted.
func (s *Store) countDueOfAll(ctx context.Context, tx pgx.Tx, webhooks []uint32, now int64, stats map[uint32]engine.WebhookStats) error {
	if len(webhooks) == 0 {
		return nil
	}
	most := max(maxDueStep/len(webhooks), 1)
	count := func(list []int32, which string) (map[uint32]int64, error) {
		counts := make(map[uint32]int64)
		rows, err := tx.Query(ctx, s.sql("SELECT l.w, q.n FROM unnest($1::int[]) l(w) CROSS JOIN LATERAL (SELECT count(*) AS n FROM "+
			"(SELECT FROM @.queue WHERE webhook_id = l.w AND class = 0 AND at "+which+" $2 ORDER BY at, delivery_id LIMIT $3) c) q"), list, now, most)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			var id uint32
			var n int64
			if err := rows.Scan(&id, &n); err != nil {
				return nil, err
			}
			counts[id] = n
		}
		return counts, rows.Err()
	}
	list := make([]int32, len(webhooks))
	for i, id := range webhooks {
		list[i] = int32(id)
	}
	due, err := count(list, "<=")
	if err != nil {
		return err
	}
	var many []int32
	for id, n := range due {
		if n == int64(most) {
			many = append(many, int32(id))
		}
		w := stats[id]
		w.Due = min(n, w.Scheduled+w.Pending)
		stats[id] = w
	}
	if len(many) == 0 {
		return nil
	}
	later, err := count(many, ">")
	if err != nil {
		return err
	}
	for id, n := range later {
		if w := stats[id]; n < int64(most) {
			w.Due = max(w.Due, w.Scheduled+w.Pending-n)
			stats[id] = w
		}
	}
	return nil
}
