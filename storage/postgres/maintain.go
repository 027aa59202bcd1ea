package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// cancelStep is how many entries of the queue one step of a cancellation looks at, because other mutations wait for it.
const cancelStep = 500

// maintainAtLeast is the longest time between two calls of Maintain. A shorter retention shortens it.
const maintainAtLeast = time.Hour

// keeping is what Maintain keeps in memory.
type keeping struct {
	lostJobs int      // how many damaged jobs replaceJobs has seen; owned by the writer
	sweeps   [2]sweep // by kind of expiry; owned by the writer

	mu sync.Mutex
	// erasing are the erasures, by the numbers of their jobs, that this process has begun or was given; guarded by mu.
	erasing map[int64]bool
	// steps has the last step of each erasure in progress, by the number of its job; guarded by mu.
	steps map[int64]eraseStep
}

// Maintain implements engine.Store. Each part is a transaction of its own, because a part finds by SQL what to do, and SQL does not see what a part
// before it has changed in the same batch. If a part fails, the result has what those before it have done.
func (s *Store) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	m := engine.Maintained{Next: now.Add(min(maintainAtLeast, r.Sessions, r.Deliveries))}
	for _, part := range []func(*batch, *engine.Maintained) error{
		func(b *batch, m *engine.Maintained) error { return b.stepJob(now, m) },
		func(b *batch, m *engine.Maintained) error {
			return b.stepExpiry(expiryKind{expirySession, r.Sessions, &m.Expired.Sessions}, now, m)
		},
		func(b *batch, m *engine.Maintained) error {
			return b.stepExpiry(expiryKind{expiryDelivery, r.Deliveries, &m.Expired.Deliveries}, now, m)
		},
		func(b *batch, m *engine.Maintained) error { return b.stepForget(now, m) },
	} {
		var done engine.Maintained
		err := s.write(ctx, mutation{size: 4096, walks: true, run: func(b *batch) error {
			done = engine.Maintained{Next: m.Next}
			err := part(b, &done)
			for _, err := range done.Damaged {
				s.damaged.add(err) // once, also if another call has met it; and here, because the walk is behind it if the outcome is unknown
			}
			return err
		}})
		if isUnreadable(err) { // the other parts go on
			s.damaged.add(fmt.Errorf("%w: background work: %w", ErrCorrupt, err))
			m.Next = earlier(m.Next, now.Add(damagedRetry))
			continue
		}
		if err != nil {
			return m, err
		}
		m.Next = earlier(m.Next, done.Next)
		m.Cancelled += done.Cancelled
		m.Queued = append(m.Queued, done.Queued...)
		m.Expired.Sessions += done.Expired.Sessions
		m.Expired.Deliveries += done.Expired.Deliveries
		m.Erasures = append(m.Erasures, s.give(done.Erasures)...)
	}
	m.Damaged = s.damaged.take()
	return m, nil
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// stepJob does one step of the oldest job. Cancellations come first, because the deliveries that they cover delay others in the same lane. A replay may
// take longer. Damaged jobs are passed: they stay as they are, and what they had left to do is not done, except for lostCancellations.
func (b *batch) stepJob(now time.Time, m *engine.Maintained) error {
	all, err := b.allJobs()
	if err != nil {
		return err
	}
	m.Erasures = b.s.left(all)
	if damaged := countDamaged(all); damaged > b.s.keeping.lostJobs {
		m.Next = now
		return b.replaceJobs(damaged)
	}
	var next *numberedJob
	for i := range all {
		j := &all[i]
		if j.Cancellation != nil {
			next = j
			break
		}
		if j.Replay != nil && next == nil {
			next = j
		}
	}
	if next == nil {
		return nil
	}
	m.Next = now // this job goes on, or there may be another one
	after, more := *next.job, false
	if next.Replay != nil {
		replay := *next.Replay
		after.Replay = &replay
		more, err = b.stepReplay(&replay, now, m)
	} else {
		more, err = b.stepCancellation(&after, now, m)
	}
	switch {
	case err != nil:
		return err
	case more:
		b.putJob(next.no, &after)
		return nil
	}
	b.putJob(next.no, nil)
	if next.Replay != nil {
		return nil
	}
	return b.setCancellations() // without this one
}

// replaceJobs begins the cancellations that may have been lost with damaged jobs, of which there are so many now.
func (b *batch) replaceJobs(damaged int) error {
	for _, c := range lostCancellations(b.hooks.All()) {
		if err := b.beginCancellations(c.WebhookID, []engine.Cancellation{c}); err != nil {
			return err
		}
	}
	b.after = append(b.after, func() { b.s.keeping.lostJobs = damaged })
	return b.setCancellations()
}

// queuePlace is a place among the entries that the queue has of a webhook.
type queuePlace struct {
	class int16
	at    int64
	id    uuid.UUID
}

func (p queuePlace) String() string { return fmt.Sprintf("%d.%d.%s", p.class, p.at, p.id) }

// parseQueuePlace reads a place; "" stands for the one before the first. What is no place stands for it, too: to begin anew does no harm.
func parseQueuePlace(s string) queuePlace {
	var p queuePlace
	var id string
	if _, err := fmt.Sscanf(s, "%d.%d.%s", &p.class, &p.at, &id); err == nil {
		if p.id, err = uuid.Parse(id); err == nil {
			return p
		}
	}
	return queuePlace{class: -1}
}

// stepCancellation does one step of a cancellation, and moves the cursor of its job. It reports whether there is more to do.
func (b *batch) stepCancellation(j *job, now time.Time, m *engine.Maintained) (more bool, err error) {
	var ids uuids
	p := parseQueuePlace(j.Cursor)
	err = b.query(func(found pgx.Rows) error {
		err := found.Scan(&p.class, &p.at, (*[16]byte)(&p.id))
		ids = append(ids, p.id)
		return err
	}, "SELECT class, at, delivery_id FROM @.queue WHERE webhook_id = $1 AND (class, at, delivery_id) > ($2, $3, $4) ORDER BY class, at, delivery_id LIMIT $5",
		int32(j.WebhookID), p.class, p.at, pgID(p.id), cancelStep)
	if err != nil {
		return false, err
	}
	j.Cursor = p.String()
	damaged, err := b.lockDeliveries(ids)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		if damaged[id] != nil {
			m.Damaged = append(m.Damaged, damaged[id])
			continue
		}
		old, _ := b.deliveries.get(id)
		if old == nil || !j.Covers(&old.Delivery) {
			continue
		}
		d := *old
		d.Finish(engine.StatusCancelled, now)
		b.saveDelivery(&d)
		m.Cancelled++
	}
	return len(ids) == cancelStep, nil
}

// lockDeliveries reads deliveries that a walk has found, and locks them, in one round trip. It returns an error for each damaged one: those are not known to
// the batch.
func (b *batch) lockDeliveries(ids uuids) (damaged map[uuid.UUID]error, err error) {
	unknown := make(uuids, 0, len(ids))
	for _, id := range ids {
		if row, known := b.deliveries.get(id); !known || row == nil && b.deliveries.changed[id] == nil {
			unknown = append(unknown, id)
			b.deliveries.read(id, nil)
		}
	}
	if len(unknown) == 0 {
		return nil, nil
	}
	damaged = make(map[uuid.UUID]error)
	err = b.query(func(found pgx.Rows) error {
		r, err := scanDelivery(found)
		switch {
		case r == nil:
			return err
		case err != nil:
			damaged[r.ID] = err
		default:
			b.deliveries.read(r.ID, r)
		}
		return nil
	}, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", unknown)
	return damaged, err
}

// lockSessions reads sessions that a walk has found, by their numbers, and locks them, in one round trip. It returns those that are stored, as of this batch, and an
// error for each damaged one.
func (b *batch) lockSessions(nos []int64) (stored map[int64]*sessionRow, damaged map[int64]error, err error) {
	stored, damaged = make(map[int64]*sessionRow), make(map[int64]error)
	if len(nos) == 0 {
		return stored, damaged, nil
	}
	// In the order of a text, which no index has: of an empty table the planner would walk the index of the ids.
	err = b.query(func(found pgx.Rows) error {
		r, err := scanSession(found)
		switch {
		case r == nil:
			return err
		case err != nil:
			damaged[r.no] = err
			return nil
		}
		if now, known := b.sessions.get(r.ID); known {
			r = now // nil, or with another number, if the batch has removed it
		} else {
			b.sessions.read(r.ID, r)
		}
		if r != nil {
			stored[r.no] = r
		}
		return nil
	}, "SELECT "+sessionColumns+" FROM @.sessions WHERE no = ANY($1) ORDER BY id::text COLLATE \"C\" FOR NO KEY UPDATE", nos)
	return stored, damaged, err
}
