package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// counts are how many deliveries of a webhook there are. Nothing updates them in place: a row that each batch updates would have all batches wait
// for each other, and would bury its table under dead versions while a snapshot is held. A batch row carries what the batch changes, and the keeper
// folds these rows into the table counts every foldInterval. Who wants to know adds both; see readCounts.
type counts struct {
	byStatus [7]int64 // by engine.Status; index 0 is unused
	late     int64    // deliveries that lack late events
	parked   int64    // failed ones that wait for their webhook's programs to be mended
}

// waiting is how many deliveries wait.
func (c *counts) waiting() int64 {
	return c.byStatus[engine.StatusScheduled] + c.byStatus[engine.StatusPending]
}

// deltas are changes of counts, by webhook.
type deltas map[uint32]counts

// add counts a delivery n times. r may be nil.
func (d deltas) add(r *deliveryRow, n int64) {
	if r == nil {
		return
	}
	c := d[r.WebhookID]
	c.byStatus[r.Status] += n
	if r.LateEvents > 0 {
		c.late += n
	}
	if r.Parked() {
		c.parked += n
	}
	d[r.WebhookID] = c
}

// merge adds other changes.
func (d deltas) merge(other deltas) {
	for id, o := range other {
		c := d[id]
		for i := range c.byStatus {
			c.byStatus[i] += o.byStatus[i]
		}
		c.late += o.late
		c.parked += o.parked
		d[id] = c
	}
}

// encode makes the column counts of a batch row, which is never nil: that says that the number was given up; see settle.
func (d deltas) encode() []byte {
	e := newRecord(24 * len(d))
	for _, id := range slices.Sorted(maps.Keys(d)) {
		c := d[id]
		if c == (counts{}) {
			continue
		}
		e.Uint(uint64(id))
		c.encode(e)
	}
	return e.Bytes()
}

func (c *counts) encode(e *fields.Encoder) {
	for _, n := range c.byStatus[1:] {
		e.Int(n)
	}
	e.Int(c.late)
	e.Int(c.parked)
}

func decodeDeltas(b []byte) (deltas, bool) {
	d, all := openRecord(b), make(deltas)
	for d.More() {
		id, c := d.Count(), counts{}
		for i := range c.byStatus[1:] {
			c.byStatus[i+1] = d.Int()
		}
		c.late, c.parked = d.Int(), d.Int()
		all.merge(deltas{id: c})
	}
	return all, d.OK()
}

// readCounts returns the counts of all webhooks as one snapshot has them. In a transaction it is the first statement. If rows are damaged, it returns what the
// others have, with an ErrCorrupt.
func (s *Store) readCounts(ctx context.Context, conn *pgx.Conn) (deltas, error) {
	all := make(deltas)
	writers, from := s.folded.lists() // before the snapshot, which has all that was folded then
	found, err := conn.Query(ctx, s.sql("SELECT counts FROM @.counts UNION ALL SELECT b.counts FROM @.writers w CROSS JOIN LATERAL (SELECT counts FROM @.batches WHERE "+
		"writer = w.id AND n >= COALESCE((SELECT t.n FROM (SELECT unnest($1::bigint[]) AS writer, unnest($2::bigint[]) AS n) t WHERE t.writer = w.id), 0) OFFSET 0) b WHERE b.counts IS NOT NULL"),
		writers, from)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var damaged error
	for found.Next() {
		var b []byte
		if err := found.Scan(&b); err != nil {
			return nil, err
		}
		if d, ok := decodeDeltas(b); ok {
			all.merge(d)
		} else {
			damaged = damage("counts", fmt.Sprintf("%x", b))
		}
	}
	maps.DeleteFunc(all, func(_ uint32, c counts) bool { return c == counts{} })
	return all, errors.Join(found.Err(), damaged)
}

// foldInterval is how often the batch rows are folded by default. Some thousands of them take a millisecond.
const foldInterval = 5 * time.Second

// fold adds what batch rows carry to the table counts and removes them, except for the newest one of a writer: it tells whether its batch was carried out. It
// begins behind what the last fold has removed, whose entries the index keeps while anybody holds an old snapshot. Of several processes, it leaves what not
// all have read. The writers of processes that have ended are removed with their last rows.
func (b *batch) fold() error {
	b.after = append(b.after, func() { b.s.foldedAt.Store(time.Now().UnixNano()) })
	all, folded := make(deltas), make(map[int64]int64)
	var writers, from, to []int64
	var newest []bool
	for _, w := range b.s.foldable() {
		folded[w.writer] = w.from
		writers, from, to, newest = append(writers, w.writer), append(from, w.from), append(to, w.to), append(newest, w.newest)
	}
	removed := 0
	err := b.query(func(found pgx.Rows) error {
		var list []byte
		var writer, n int64
		if err := found.Scan(&writer, &n, &list); err != nil {
			return err
		}
		removed++
		if folded[writer] = max(folded[writer], n+1); list == nil {
			return nil
		}
		d, ok := decodeDeltas(list)
		if !ok {
			return damage("batches", "")
		}
		all.merge(d)
		return nil
	}, "DELETE FROM @.batches WHERE ctid = ANY(ARRAY(SELECT r.ctid FROM ("+foldLists+") t CROSS JOIN LATERAL (SELECT ctid FROM @.batches WHERE writer = t.writer AND n >= t.first AND n < t.until "+
		"AND (t.newest OR n < (SELECT max(n) FROM @.batches WHERE writer = t.writer)) OFFSET 0) r)) RETURNING writer, n, counts", writers, from, to, newest)
	if err != nil || removed == 0 {
		return err
	}
	b.changes++
	b.after = append(b.after, func() { b.s.folded.set(folded) })
	if b.s.fleet != nil {
		b.exec("DELETE FROM @.writers w WHERE adopted AND NOT EXISTS (SELECT FROM @.batches WHERE writer = w.id)")
	}
	return b.addCounts(all)
}

var foldLists = lists("writer, first, until, newest", "bigint, bigint, bigint, boolean")

// foldableWriter says which rows of a writer may be folded: from a number on, and up to one, exclusive; and whether the newest one is among them.
type foldableWriter struct {
	writer, from, to int64
	newest           bool
}

// foldable returns the writers whose rows may be folded.
func (s *Store) foldable() []foldableWriter {
	if s.fleet == nil {
		return []foldableWriter{{writer: s.writerID, from: s.folded.of(s.writerID), to: math.MaxInt64}}
	}
	return s.fleet.foldable()
}

// foldMarks are the numbers of the first batch rows that are not folded yet, by writer.
type foldMarks struct {
	mu sync.Mutex
	by map[int64]int64
}

func (f *foldMarks) of(writer int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.by[writer]
}

// set replaces the marks: those of writers that are gone are forgotten.
func (f *foldMarks) set(marks map[int64]int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.by = marks
}

func (f *foldMarks) lists() (writers, ns []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for writer, n := range f.by {
		writers, ns = append(writers, writer), append(ns, n)
	}
	return writers, ns
}

// addCounts adds to the table counts.
func (b *batch) addCounts(more deltas) error {
	ids := make([]int32, 0, len(more))
	for id := range more {
		ids = append(ids, int32(id))
	}
	err := b.query(func(found pgx.Rows) error {
		var list []byte
		if err := found.Scan(&list); err != nil {
			return err
		}
		d, ok := decodeDeltas(list)
		if !ok {
			return damage("counts", "")
		}
		more.merge(d)
		return nil
	}, "SELECT counts FROM @.counts WHERE webhook_id = ANY($1) ORDER BY webhook_id FOR UPDATE", ids)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(more)) {
		b.exec("INSERT INTO @.counts (webhook_id, counts) VALUES ($1, $2) ON CONFLICT (webhook_id) DO UPDATE SET counts = EXCLUDED.counts",
			int32(id), deltas{id: more[id]}.encode())
	}
	return nil
}
