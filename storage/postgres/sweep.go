package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// sweep looks for records that have outlived their retention and have lost their place in expiry, because the row is damaged: otherwise they would be kept for
// ever. It walks all records of a kind once for each damaged row.
type sweep struct {
	goesOn bool
	after  []byte         // the id of the record to go on behind
	step   int            // how many records the next step looks at; 0 stands for expireLooks
	done   map[int64]bool // the damaged rows, by no, that a sweep was begun for; -at for those before a time that were passed
}

// beginSweep begins a sweep for a damaged row, unless there was one.
func (s *Store) beginSweep(kind int16, no int64) {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	w := &s.keeping.sweeps[kind]
	if w.done[no] {
		return
	}
	set(&w.done, no, true)
	w.goesOn, w.after, w.step = true, nil, 0
}

// sweepOf returns the sweep of a kind as it is, and moveSweep moves it on, unless another one has begun.
func (s *Store) sweepOf(kind int16) sweep {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	return s.keeping.sweeps[kind]
}

func (s *Store) moveSweep(kind int16, from, to sweep) {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	if w := &s.keeping.sweeps[kind]; bytes.Equal(w.after, from.after) {
		w.goesOn, w.after, w.step = to.goesOn, to.after, to.step
	}
}

// sweep continues the sweep of a kind, if there is one: it gives records that are old enough a new place in expiry, which has them removed. Those that have a
// place already may get a second one, which does no harm. What the server cannot read it passes.
func (s *Store) sweep(ctx context.Context, e expiryKind, now time.Time, m *engine.Maintained) error {
	w := s.sweepOf(e.kind)
	if !w.goesOn {
		return nil
	}
	to, oldest := w, now.Add(-e.keep)
	step := cmp.Or(w.step, expireLooks)
	err := s.part(ctx, m, func(b *batch, _ *engine.Maintained) error {
		l, last, n, err := b.sweepFrom(e, w.after, step, oldest)
		if err == nil {
			b.addExpiry(e.kind, &l)
			to.after, to.goesOn, to.step = last, n == step, min(2*step, expireLooks)
		}
		return err
	})
	switch {
	case err == nil:
	case !isUnreadable(err):
		return err
	case step > 1:
		to.step = step / 2
	default:
		if to.after, to.goesOn, err = s.sweepBehind(ctx, e, w.after, err); err != nil {
			return err
		}
	}
	s.moveSweep(e.kind, w, to)
	m.Next = now
	return nil
}

// sweepFrom reads the next records of a sweep. It returns the new places of those that are old enough, and the last record.
func (b *batch) sweepFrom(e expiryKind, after []byte, step int, oldest time.Time) (l looked, last []byte, n int, err error) {
	at := max(fields.Instant(oldest), e.from)
	last = after
	if e.kind == expirySession {
		err = b.query(func(found pgx.Rows) error {
			var no, firstAt, lastAt int64
			err := found.Scan(&no, &firstAt, &lastAt)
			if last, n = sessionExpiryID(no), n+1; firstAt <= fields.Instant(oldest) {
				l.laterThan(max(at, lastAt), last) // one that has gone on since is looked at when it is old enough
			}
			return err
		}, sweepSessions, sweptNo(after), step)
		return l, last, n, err
	}
	err = b.query(func(found pgx.Rows) error {
		var id uuid.UUID
		var finishedAt int64
		err := found.Scan((*[16]byte)(&id), &finishedAt)
		if last, n = slices.Clone(id[:]), n+1; finishedAt != 0 && finishedAt <= fields.Instant(oldest) {
			l.laterThan(at, last)
		}
		return err
	}, sweepDeliveries, pgID(sweptID(after)), step)
	return l, last, n, err
}

const (
	sweepSessions   = "SELECT no, first_at, last_at FROM @.sessions WHERE no > $1 ORDER BY no LIMIT $2"
	sweepDeliveries = "SELECT id, finished_at FROM @.deliveries WHERE id > $1 ORDER BY id LIMIT $2"
)

// sweptNo and sweptID return the place of a sweep; nil stands for the one before the first record.
func sweptNo(after []byte) int64 {
	if after == nil {
		return 0
	}
	return (&due{id: after}).no()
}

func sweptID(after []byte) (id uuid.UUID) {
	copy(id[:], after)
	return id
}

// sweepBehind returns the place behind the records that the server cannot read, with the error cause, and whether it can read any behind them.
func (s *Store) sweepBehind(ctx context.Context, e expiryKind, after []byte, cause error) (to []byte, goesOn bool, err error) {
	err = s.view(ctx, func(conn *pgx.Conn) (err error) {
		if e.kind == expirySession {
			no := sweptNo(after)
			s.damaged.add(fmt.Errorf("%w: %w", damage("sessions, from number", no), cause))
			goesOn, err = passDamage(uint64(math.MaxInt64-no), func(by uint64) error {
				to = sessionExpiryID(no + int64(by))
				_, err := conn.Exec(ctx, s.sql(sweepSessions), no+int64(by), 1)
				return err
			})
			return err
		}
		s.damaged.add(fmt.Errorf("%w: %w", damage("deliveries, from about", sweptID(after)), cause))
		goesOn, err = passDamageInIDs(sweptID(after), false, func(id uuid.UUID) error {
			to = id[:]
			_, err := conn.Exec(ctx, s.sql(sweepDeliveries), pgID(id), 1)
			return err
		})
		return err
	})
	return to, goesOn, err
}
