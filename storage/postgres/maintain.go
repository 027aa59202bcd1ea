package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
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
	lostJobs int // how many damaged jobs replaceJobs has seen; owned by the writer

	mu      sync.Mutex
	sweeps  [2]sweep           // by kind of expiry; guarded by mu
	passing [passKinds]passing // guarded by mu
	// postponed has the jobs that are not tried before a time, by their numbers, because the server cannot read what they meet; guarded by mu.
	postponed map[int64]time.Time
	// erasing are the erasures, by the numbers of their jobs, that this process has begun or was given; guarded by mu.
	erasing map[int64]bool
	// steps has the last step of each erasure in progress, by the number of its job; guarded by mu.
	steps map[int64]eraseStep
}

// Maintain implements engine.Store. Each part is a transaction of its own, because a part finds by SQL what to do, and SQL does not see what a part
// before it has changed in the same batch. If a part fails, the result has what those before it have done.
func (s *Store) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	m := engine.Maintained{Next: now.Add(min(maintainAtLeast, r.Sessions, r.Deliveries))}
	for _, part := range []func() error{
		func() error { return s.workOff(ctx, now, &m) },
		func() error { return s.expire(ctx, expiryKind{kind: expirySession, keep: r.Sessions}, now, &m) },
		func() error { return s.expire(ctx, expiryKind{kind: expiryDelivery, keep: r.Deliveries}, now, &m) },
		func() error { return s.forget(ctx, now, &m) },
	} {
		err := part()
		if isUnreadable(err) { // the other parts go on
			s.damaged.add(fmt.Errorf("%w: background work: %w", ErrCorrupt, err))
			m.Next = earlier(m.Next, now.Add(damagedRetry))
			continue
		}
		if err != nil {
			return m, err
		}
	}
	m.Damaged = s.damaged.take()
	return m, nil
}

// part carries out a part of the background work, and adds to m what it has done.
func (s *Store) part(ctx context.Context, m *engine.Maintained, run func(*batch, *engine.Maintained) error) error {
	var done engine.Maintained
	err := s.write(ctx, mutation{size: 4096, walks: true, run: func(b *batch) error {
		done = engine.Maintained{Next: m.Next}
		err := run(b, &done)
		for _, err := range done.Damaged {
			s.damaged.add(err) // once, also if another call has met it; and here, because the walk is behind it if the outcome is unknown
		}
		return err
	}})
	if err != nil {
		return err
	}
	m.Next = earlier(m.Next, done.Next)
	m.Cancelled += done.Cancelled
	m.Queued = append(m.Queued, done.Queued...)
	m.Expired.Sessions += done.Expired.Sessions
	m.Expired.Deliveries += done.Expired.Deliveries
	m.Erasures = append(m.Erasures, s.give(done.Erasures)...)
	return nil
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// workOff does one step of the oldest job. Cancellations come first, because the deliveries that they cover delay others in the same lane. A replay may
// take longer. Damaged jobs are passed: they stay as they are, and what they had left to do is not done, except for lostCancellations.
//
// A cancellation goes on behind what the server cannot read. A replay is postponed, and so hides no other job.
func (s *Store) workOff(ctx context.Context, now time.Time, m *engine.Maintained) error {
	return s.workAround(ctx, &work{
		kind: passJobs, most: cancelStep,
		step: func(b *batch, p passing, m *engine.Maintained) error { return b.stepJob(p.step, now, m) },
		setAside: func(b *batch, _ passing, cause error, m *engine.Maintained) error {
			return b.setAsideJob(cause, now, m)
		},
		behind: func(_ *passing, cause error) error { return s.cancelBehind(ctx, cause, now) },
	}, now, m)
}

// stepJob is a step of workOff.
func (b *batch) stepJob(most int, now time.Time, m *engine.Maintained) error {
	all, err := b.allJobs()
	if err != nil {
		return err
	}
	m.Erasures = b.s.left(all)
	if damaged := countDamaged(all); damaged > b.s.keeping.lostJobs {
		m.Next = now
		return b.replaceJobs(damaged)
	}
	if slices.ContainsFunc(all, func(j numberedJob) bool { return j.Cancellation != nil && !b.s.isSeen(j.Epoch) }) {
		m.Next = earlier(m.Next, now.Add(b.s.opts.Beat/pollsPerBeat))
	}
	next := b.s.nextJob(all, now)
	if next == nil {
		return nil
	}
	m.Next = now // this job goes on, or there may be another one
	if there, err := b.lockJob(next.no); err != nil || !there {
		return err
	}
	after, more := *next.job, false
	if next.Replay != nil {
		replay := *next.Replay
		after.Replay = &replay
		more, err = b.stepReplay(&replay, now, m)
	} else {
		more, err = b.stepCancellation(&after, most, now, m)
	}
	switch {
	case err != nil:
		return err
	case more:
		b.putJob(next.no, &after)
		return nil
	case after.Passed: // what it has passed may still be sent
		after.Passed, after.Cursor = false, ""
		b.putJob(next.no, &after)
		b.postpone(next.no, now)
		return nil
	}
	b.putJob(next.no, nil)
	if next.Replay != nil {
		return nil
	}
	return b.setCancellations() // without this one
}

// nextJob returns the job to go on with, nil for none.
func (s *Store) nextJob(all []numberedJob, now time.Time) (next *numberedJob) {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	for i := range all {
		j := &all[i]
		switch {
		case now.Before(s.keeping.postponed[j.no]), j.Cancellation != nil && !s.isSeen(j.Epoch):
		case j.Cancellation != nil:
			return j
		case j.Replay != nil && next == nil:
			next = j
		}
	}
	return next
}

// isSeen reports whether all processes know of an epoch.
func (s *Store) isSeen(epoch int64) bool { return s.fleet == nil || s.fleet.haveSeen(seenEpoch, epoch) }

// postpone has a job wait for damagedRecheck.
func (b *batch) postpone(no int64, now time.Time) {
	b.after = append(b.after, func() {
		b.s.keeping.mu.Lock()
		defer b.s.keeping.mu.Unlock()
		set(&b.s.keeping.postponed, no, now.Add(damagedRecheck))
	})
}

// setAsideJob has a cancellation pass the next delivery, and postpones another job.
func (b *batch) setAsideJob(cause error, now time.Time, m *engine.Maintained) error {
	all, err := b.allJobs()
	if err != nil {
		return err
	}
	next := b.s.nextJob(all, now)
	if next == nil {
		return cause
	}
	after := *next.job
	if next.Cancellation != nil {
		ids, err := b.nextCancelled(&after, 1)
		if err != nil {
			return err
		}
		if len(ids) > 0 {
			m.Damaged = append(m.Damaged, fmt.Errorf("%w: %w", damage("delivery", ids[0]), cause))
			after.Passed = true
			b.putJob(next.no, &after)
			return nil
		}
	}
	m.Damaged = append(m.Damaged, fmt.Errorf("%w: %w", damage("what is met by job", next.no), cause))
	b.postpone(next.no, now)
	return nil
}

// cancelBehind has a cancellation pass the entries of the queue that the server cannot read. If it can read none behind them, it postpones the cancellation.
func (s *Store) cancelBehind(ctx context.Context, cause error, now time.Time) error {
	var next *numberedJob
	var place queuePlace
	var found bool
	err := s.view(ctx, func(conn *pgx.Conn) error {
		all, err := s.readJobs(ctx, conn)
		if err != nil {
			return err
		}
		if next = s.nextJob(all, now); next == nil || next.Cancellation == nil {
			return cause
		}
		place = parseQueuePlace(next.Cursor)
		place.class, place.at = max(place.class, 0), max(place.at, 0)
		found, err = passDamageInQueue(place.at, place.id, math.MaxInt64, func(at int64, id uuid.UUID) error {
			place.at, place.id = at, id
			_, err := conn.Exec(ctx, s.sql(nextCancelledSQL), int32(next.WebhookID), place.class, place.at, pgID(place.id), 1)
			return err
		})
		return err
	})
	if err != nil {
		return err
	}
	s.damaged.add(fmt.Errorf("%w: %w", damage("the queue of webhook", next.WebhookID), cause))
	return s.part(ctx, &engine.Maintained{}, func(b *batch, _ *engine.Maintained) error {
		stored, err := b.oneJob(next.no)
		if err != nil || stored == nil {
			return err
		}
		if !found {
			b.postpone(next.no, now)
			return nil
		}
		after := *stored
		after.Cursor, after.Passed = place.String(), true
		b.putJob(next.no, &after)
		return nil
	})
}

// replaceJobs begins the cancellations that may have been lost with damaged jobs, of which there are so many now.
func (b *batch) replaceJobs(damaged int) error {
	if err := b.lockSet(); err != nil {
		return err
	}
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

const nextCancelledSQL = "SELECT class, at, delivery_id FROM @.queue WHERE webhook_id = $1 AND (class, at, delivery_id) > ($2, $3, $4) ORDER BY class, at, delivery_id LIMIT $5"

// nextCancelled returns the next deliveries of a lane that a cancellation looks at, and moves the cursor of its job.
func (b *batch) nextCancelled(j *job, most int) (ids uuids, err error) {
	p := parseQueuePlace(j.Cursor)
	err = b.query(func(found pgx.Rows) error {
		err := found.Scan(&p.class, &p.at, (*[16]byte)(&p.id))
		ids = append(ids, p.id)
		return err
	}, nextCancelledSQL, int32(j.WebhookID), p.class, p.at, pgID(p.id), most)
	j.Cursor = p.String()
	return ids, err
}

// stepCancellation does one step of a cancellation, and moves the cursor of its job. It reports whether there is more to do.
func (b *batch) stepCancellation(j *job, most int, now time.Time, m *engine.Maintained) (more bool, err error) {
	ids, err := b.nextCancelled(j, most)
	if err != nil {
		return false, err
	}
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
	return len(ids) == most, nil
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
