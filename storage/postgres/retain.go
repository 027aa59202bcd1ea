package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// damagedPause is how long background work rests after it has passed what the server cannot read. A page has some hundreds of records at most. If a whole table is
// damaged, there are many more, and each takes a transaction that fails and one that moves it.
const damagedPause = time.Second

// work is one kind of background work that walks through records.
type work struct {
	kind int // of keeping.passing
	most int // records in one step
	// step carries out a step that looks at up to p.step records.
	step func(b *batch, p passing, m *engine.Maintained) error
	// setAside passes the first record, because a step that looked only at it has failed with cause. It is nil if that takes no transaction.
	setAside func(b *batch, p passing, cause error, m *engine.Maintained) error
	// behind passes what the walk itself cannot read, because setAside has failed with cause. It may change p.
	behind func(p *passing, cause error) error
}

// The kinds of keeping.passing. The first two are those of the table expiry.
const (
	passRequests = 2
	passJobs     = 3
	passKinds    = 4
)

// passing is how far the steps of a kind of work go, because there is something in their way that the server cannot read. It is in memory: the next process
// finds it out anew.
type passing struct {
	step int       // how many records a step looks at
	rest time.Time // when to go on
	// from is the time from which on the server can read the table. After until, the whole table is tried again.
	from  int64
	until time.Time
}

func (s *Store) passingOf(kind, most int, now time.Time) passing {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	p := s.keeping.passing[kind]
	if p.step == 0 {
		p.step = most
	}
	if !now.Before(p.until) {
		p.from = 0
	}
	return p
}

func (s *Store) keepPassing(kind int, p passing) {
	s.keeping.mu.Lock()
	defer s.keeping.mu.Unlock()
	s.keeping.passing[kind] = p
}

// workAround does a step of a kind of work. If the server cannot read something that the step meets, whichever table it is in, the next steps look at fewer
// records, until one that looks at a single record fails. This record is named and set aside, so that it hides no other. Each call sends few transactions, and
// the work rests after passing something.
func (s *Store) workAround(ctx context.Context, w *work, now time.Time, m *engine.Maintained) error {
	p := s.passingOf(w.kind, w.most, now)
	if now.Before(p.rest) {
		m.Next = earlier(m.Next, p.rest)
		return nil
	}
	err := s.part(ctx, m, func(b *batch, m *engine.Maintained) error { return w.step(b, p, m) })
	switch {
	case err == nil:
		p.step = min(2*p.step, w.most)
	case !isUnreadable(err):
		return err
	case p.step > 1:
		p.step /= 2
		m.Next = now
	default:
		if w.setAside != nil {
			cause := err
			err = s.part(ctx, m, func(b *batch, m *engine.Maintained) error { return w.setAside(b, p, cause, m) })
		}
		if isUnreadable(err) {
			err = w.behind(&p, err)
		}
		if err != nil {
			return err
		}
		p.rest = now.Add(damagedPause)
		m.Next = earlier(m.Next, p.rest)
	}
	s.keepPassing(w.kind, p)
	return nil
}

// timed is a table whose records stand in the order of their times.
type timed struct {
	name string
	// front is a statement that reads the first row from the time $1 up to the time $2: its time, and a column that the index does not have.
	front string
	// to is the time behind which nothing is due.
	to time.Time
}

// passRows has p begin behind the rows of a table that the server cannot read, or behind the first row if it can.
func (s *Store) passRows(ctx context.Context, t timed, p *passing, cause error, now time.Time) error {
	from, err := s.behindDamage(ctx, t, p.from)
	if err != nil {
		return err
	}
	s.damaged.add(fmt.Errorf("%w: %w", damage(t.name, fmt.Sprintf("before %d", from)), cause))
	p.from, p.until = from, now.Add(damagedRecheck)
	return nil
}

// behindDamage returns a time from which on the server can read a table, and which is behind the first row, if that can be read.
func (s *Store) behindDamage(ctx context.Context, t timed, from int64) (to int64, err error) {
	last := fields.Instant(t.to)
	err = s.view(ctx, func(conn *pgx.Conn) error {
		read := func(from int64) (at int64, err error) {
			var row []byte // read it, too
			err = conn.QueryRow(ctx, s.sql(t.front), from, last).Scan(&at, &row)
			if errors.Is(err, pgx.ErrNoRows) {
				return last, nil
			}
			return at, err
		}
		at, err := read(from)
		if !isUnreadable(err) {
			to = at + 1
			return err
		}
		found, passErr := passDamage(uint64(max(0, last-from))+1, func(by uint64) error {
			to = from + int64(by)
			_, err := read(to)
			return err
		})
		if passErr == nil && !found {
			return err // the server can read nothing of the table
		}
		return passErr
	})
	return to, err
}
