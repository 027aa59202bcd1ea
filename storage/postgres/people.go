package postgres

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// Bounds of one page of sessions. The time bounds it where the database is slow or far away.
const (
	maxSearched      = 50_000   // sessions
	maxSearchedBytes = 32 << 20 // of events
	maxSearchTime    = 100 * time.Millisecond
	// maxSearchStep and maxSearchStepBytes are how many sessions, and about how many bytes of events, one statement reads.
	maxSearchStep      = 2000
	maxSearchStepBytes = 4 << 20
)

// receiptSlack is by how much the times of receipt of two sessions may differ from the order of their numbers: a request gets its time before it waits for the
// writer. It is far longer than any wait.
const receiptSlack = 10 * time.Minute

// sessionSearch is a bounded search for a page of sessions, downwards by their numbers.
type sessionSearch struct {
	q             *engine.SessionQuery
	persons       []engine.Person
	page          *engine.SessionPage
	from          int64 // the least number
	below         int64 // exclusive upper bound of what is not looked at yet
	began         time.Time
	looked, bytes int
	full          bool // the page has all that it may have
}

// Sessions implements engine.Store. There is no index of persons: it would cost each commit pages for addresses that nobody looks up. A search walks the sessions, as
// far as one page may go.
func (s *Store) Sessions(ctx context.Context, q engine.SessionQuery) (engine.SessionPage, error) {
	below, err := parseSessionCursor(q.Cursor)
	if err != nil {
		return engine.SessionPage{}, err
	}
	var page engine.SessionPage
	err = s.view(ctx, func(conn *pgx.Conn) error {
		page = engine.SessionPage{}
		search := &sessionSearch{q: &q, persons: q.Persons(), page: &page, below: below, began: time.Now()}
		return s.search(ctx, conn, search)
	})
	return page, err
}

func (s *Store) search(ctx context.Context, conn *pgx.Conn, search *sessionSearch) error {
	if err := s.sessionsBetween(ctx, conn, search); err != nil {
		return err
	}
	step := search.q.Limit + 1 // enough if all are selected
	for !search.full {
		if search.looked >= maxSearched || search.bytes >= maxSearchedBytes || search.looked > 0 && time.Since(search.began) > maxSearchTime {
			break
		}
		step = min(step, maxSearchStep)
		n, ended, err := s.searchStep(ctx, conn, search, step)
		for isUnreadable(err) && step > 1 { // read what is before the page that the server cannot read
			step /= 2
			n, ended, err = s.searchStep(ctx, conn, search, step)
		}
		if isUnreadable(err) {
			if n, ended, err = s.searchBehind(ctx, conn, search, err); err == nil && n == 0 && ended {
				return nil
			}
		}
		if err != nil || ended {
			return err
		}
		if search.full || len(search.page.Items) == search.q.Limit && n == 0 {
			break
		}
		search.looked += n
		step *= 4
	}
	search.page.NextCursor = sessionCursor(search.below)
	return nil
}

// searchStep looks at the next sessions, and reports how many there were, and whether they were the last ones. It looks at none once the page has its limit.
func (s *Store) searchStep(ctx context.Context, conn *pgx.Conn, search *sessionSearch, step int) (n int, ended bool, err error) {
	var last *int64
	err = conn.QueryRow(ctx, s.sql("SELECT count(*), min(no) FROM (SELECT no FROM @.sessions WHERE no < $1 AND no >= $2 ORDER BY no DESC LIMIT $3) s"),
		search.below, search.from, step).Scan(&n, &last)
	if err != nil || n == 0 {
		return n, true, err
	}
	if len(search.page.Items) == search.q.Limit {
		return 0, false, nil
	}
	if err := s.searchAmong(ctx, conn, search, *last); err != nil {
		return 0, false, err
	}
	return n, n < step && search.below == *last, nil
}

// searchBehind is searchStep for one session behind those that the server cannot read, with the error err. It finds none if it can read no other.
func (s *Store) searchBehind(ctx context.Context, conn *pgx.Conn, search *sessionSearch, err error) (n int, ended bool, _ error) {
	below := search.below
	if newest := int64(0); below == math.MaxInt64 { // the distance to it would take long
		if err := conn.QueryRow(ctx, s.sql("SELECT last_value FROM @.session_nos")).Scan(&newest); err == nil {
			below = newest + sessionBlock
		}
	}
	s.damaged.add(fmt.Errorf("%w: %w", damage("sessions, from number", below-1), err))
	if below <= search.from {
		return 0, true, nil
	}
	found, err := passDamage(uint64(below-search.from), func(by uint64) (err error) {
		search.below = below - int64(by)
		n, ended, err = s.searchStep(ctx, conn, search, 1)
		return err
	})
	if !found {
		return 0, true, err
	}
	return n, ended, nil
}

// searchAmong looks at the sessions from a number up to those that were looked at before. It moves search.below, and sets search.full at a session behind the page.
func (s *Store) searchAmong(ctx context.Context, conn *pgx.Conn, search *sessionSearch, last int64) error {
	heads, err := s.readHeads(ctx, conn, search, last)
	if err != nil {
		return err
	}
	for len(heads) > 0 {
		some := heads
		var holds map[int64]bool
		if len(search.persons) > 0 {
			some = search.some(heads)
			if holds, err = s.holding(ctx, conn, search.persons, some); err != nil {
				return err
			}
		}
		for _, r := range some {
			if len(search.page.Items) == search.q.Limit {
				search.full = true
				return nil
			}
			if search.below = r.no; holds == nil || holds[r.no] {
				r.Deliveries = nil
				search.page.Items = append(search.page.Items, r.SessionHead)
			}
		}
		heads = heads[len(some):]
		if len(heads) > 0 && (search.bytes >= maxSearchedBytes || time.Since(search.began) > maxSearchTime) {
			search.full = true
			return nil
		}
	}
	search.below = last
	return nil
}

// some returns as many of some sessions, at least one, as one statement reads the events of. It counts their bytes.
func (search *sessionSearch) some(heads []*sessionRow) []*sessionRow {
	var size int64
	for i, r := range heads {
		if size += r.Bytes; size >= maxSearchStepBytes {
			heads = heads[:i+1]
			break
		}
	}
	search.bytes += int(size)
	return heads
}

// readHeads reads the sessions that the query selects by their heads, from a number up to those that were looked at before.
func (s *Store) readHeads(ctx context.Context, conn *pgx.Conn, search *sessionSearch, last int64) (heads []*sessionRow, err error) {
	q := search.q
	since, until := boundsOf(q.Since, q.Until)
	rows, err := conn.Query(ctx, s.sql("SELECT "+sessionColumns+" FROM @.sessions WHERE no < $1 AND no >= $2 AND first_at BETWEEN $3 AND $4 AND ($5::uuid IS NULL OR content_id = $5) "+
		"ORDER BY no DESC"), search.below, last, since, until, pgtype.UUID{Bytes: q.ContentID, Valid: q.ContentID != [16]byte{}})
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanSession(rows)
		switch {
		case s.passes(err):
		case err != nil:
			return nil, err
		case q.Includes(&r.SessionHead):
			heads = append(heads, r)
		}
	}
	return heads, rows.Err()
}

// holding returns those of some sessions in whose events all persons occur. Events that cannot be read do not hide others.
func (s *Store) holding(ctx context.Context, conn *pgx.Conn, persons []engine.Person, heads []*sessionRow) (map[int64]bool, error) {
	numbers := make([]int64, len(heads))
	for i, r := range heads {
		numbers[i] = r.no
	}
	rows, err := conn.Query(ctx, s.sql("SELECT session_no, n, body FROM @.events WHERE session_no = ANY($1) ORDER BY session_no, n"), numbers)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[int64][]bool, len(heads)) // by the index of the person
	damaged := make(map[int64]error)
	for rows.Next() {
		var no int64
		var n int
		var body pgtype.DriverBytes // of the connection, until the next row
		if err := rows.Scan(&no, &n, &body); err != nil {
			return nil, err
		}
		if found[no] == nil {
			found[no] = make([]bool, len(persons))
		}
		for i := range persons {
			if found[no][i] {
				continue
			}
			if found[no][i], err = persons[i].InEvents(body); err != nil {
				damaged[no] = damage("events", eventsKey(no, n)) // the parser's error may quote them
			}
		}
	}
	holds := make(map[int64]bool, len(heads))
	for no, each := range found {
		holds[no] = true
		for _, is := range each {
			holds[no] = holds[no] && is
		}
		if !holds[no] && damaged[no] != nil {
			s.passes(damaged[no])
		}
	}
	return holds, rows.Err()
}

// sessionsBetween sets the numbers between which the sessions of a query lie. A clock that was set back further than receiptSlack makes them inexact.
func (s *Store) sessionsBetween(ctx context.Context, conn *pgx.Conn, search *sessionSearch) (err error) {
	if q := search.q; !q.Since.IsZero() {
		if search.from, err = s.firstSessionAt(ctx, conn, q.Since.Add(-receiptSlack)); err != nil {
			return err
		}
	}
	if q := search.q; !q.Until.IsZero() {
		below, err := s.firstSessionAt(ctx, conn, q.Until.Add(receiptSlack))
		if err != nil {
			return err
		}
		search.below = min(search.below, below)
	}
	return nil
}

// firstSessionAt finds the first session that began at or after t, by binary search: their numbers and times grow. If there is none, it returns a number behind all.
func (s *Store) firstSessionAt(ctx context.Context, conn *pgx.Conn, t time.Time) (no int64, err error) {
	err = conn.QueryRow(ctx, s.sql("WITH RECURSIVE search(low, high) AS ("+
		"SELECT f.no, l.no + 1 FROM (SELECT no FROM @.sessions ORDER BY no LIMIT 1) f, (SELECT no FROM @.sessions ORDER BY no DESC LIMIT 1) l UNION ALL "+
		"SELECT CASE WHEN r.first_at < $1 THEN r.no + 1 ELSE low END, CASE WHEN r.first_at < $1 THEN high ELSE low + (high - low) / 2 END "+
		"FROM search LEFT JOIN LATERAL (SELECT no, first_at FROM @.sessions WHERE no >= low + (high - low) / 2 AND no < high ORDER BY no LIMIT 1) r ON true WHERE low < high) "+
		"SELECT COALESCE(max(low), 0) FROM search WHERE low >= high"), stored(t)).Scan(&no)
	return no, err
}

// sessionCursor is the cursor of a page whose next one has the sessions below a number.
func sessionCursor(below int64) string {
	e := fields.NewEncoder(9)
	e.Byte(cursorSession)
	e.Fixed(uint64(below))
	return base64.RawURLEncoding.EncodeToString(e.Bytes())
}

// parseSessionCursor returns the number that a page's sessions are below.
func parseSessionCursor(cursor string) (int64, error) {
	if cursor == "" {
		return math.MaxInt64, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	d := fields.NewDecoder(b)
	kind, below := d.Byte(), d.Fixed()
	if err != nil || !d.OK() || kind != cursorSession {
		return 0, errBadCursor
	}
	return int64(below), nil
}
