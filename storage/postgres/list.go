package postgres

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// Bounds of a page of deliveries.
const (
	// maxListed is how many deliveries are looked at. A page that finds fewer than its limit among them ends there.
	maxListed = 5000
	// maxListedEntries is how many entries of an index are read at once, those of all webhooks together.
	maxListedEntries = 20_000
)

// clockSlack is by how much the id of a delivery may be ahead of its time: ids grow also after the clock was set back. A clock that was set back further makes
// an upper bound of the time inexact.
const clockSlack = time.Minute

// Deliveries implements engine.Store. A page walks an index downwards from its cursor. It reads some entries, and then those of their deliveries that the query
// selects.
func (s *Store) Deliveries(ctx context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
	from, err := parseCursor(&q)
	if err != nil {
		return engine.DeliveryPage{}, err
	}
	var page engine.DeliveryPage
	read := func(careful bool) error {
		return s.snapshot(ctx, func(tx pgx.Tx) error {
			page = engine.DeliveryPage{}
			w, err := s.chooseWalk(ctx, tx, &q)
			if err != nil || w == nil {
				return err
			}
			w.from, w.careful = from, careful
			return s.fill(ctx, tx, w, &q, &page)
		})
	}
	if err = read(false); isUnreadable(err) {
		err = read(true)
	}
	return page, err
}

// apart runs f so that the transaction goes on if the server cannot read a row.
func apart(ctx context.Context, tx pgx.Tx, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, tx, f)
}

// nextSpotsAround is nextSpots where the server may not be able to read a page. It reads what is before the page or, if that is nothing, what is behind it.
func (s *Store) nextSpotsAround(ctx context.Context, tx pgx.Tx, w *walk, step int) (spots []spot, more bool, err error) {
	read := func(step int) error {
		return apart(ctx, tx, func(tx pgx.Tx) (err error) {
			spots, more, err = s.nextSpots(ctx, tx, w, step)
			return err
		})
	}
	for err = read(step); isUnreadable(err) && step > 1; err = read(step) {
		step /= 2
	}
	if !isUnreadable(err) {
		return spots, more, err
	}
	from := w.from
	if w.until.compare(from) < 0 {
		from = w.until
	}
	s.damaged.add(fmt.Errorf("%w: %w", damage("deliveries, from about", from.id), err))
	var found bool
	if w.byTime {
		found, err = passDamageInQueue(from.at, from.id, 0, func(at int64, id uuid.UUID) error {
			w.from = spot{at: at, id: id}
			return read(step)
		})
	} else {
		found, err = passDamageInIDs(from.id, true, func(id uuid.UUID) error {
			w.from = spot{at: from.at, id: id}
			return read(step)
		})
	}
	if !found {
		return nil, false, err
	}
	return spots, more, nil
}

// selectedApart is selected for each entry alone.
func (s *Store) selectedApart(ctx context.Context, tx pgx.Tx, q *engine.DeliveryQuery, spots []spot) (map[uuid.UUID]engine.Delivery, error) {
	found := make(map[uuid.UUID]engine.Delivery)
	for i := range spots {
		err := apart(ctx, tx, func(tx pgx.Tx) error {
			one, err := s.selected(ctx, tx, q, spots[i:i+1])
			maps.Copy(found, one)
			return err
		})
		switch {
		case isUnreadable(err):
			s.damaged.add(fmt.Errorf("%w: %w", damage("delivery", spots[i].id), err))
		case err != nil:
			return nil, err
		}
	}
	return found, nil
}

// fill reads a page.
func (s *Store) fill(ctx context.Context, tx pgx.Tx, w *walk, q *engine.DeliveryQuery, page *engine.DeliveryPage) error {
	step := q.Limit + 1 // enough if all are selected
	for looked := 0; looked < maxListed; {
		step = min(step, maxListed-looked, max(maxListedEntries/w.lanes, 8))
		next, selected := s.nextSpots, s.selected
		if w.careful {
			next, selected = s.nextSpotsAround, s.selectedApart
		}
		spots, more, err := next(ctx, tx, w, step)
		if err != nil {
			return err
		}
		found, err := selected(ctx, tx, q, spots)
		if err != nil {
			return err
		}
		for _, at := range spots {
			if len(page.Items) == q.Limit {
				page.NextCursor = cursorAt(q, w.from)
				return nil
			}
			if d, ok := found[at.id]; ok {
				page.Items = append(page.Items, d)
			}
			w.from = at
		}
		if !more {
			return nil
		}
		if len(page.Items) == q.Limit {
			break
		}
		looked += len(spots)
		step *= 4
	}
	page.NextCursor = cursorAt(q, w.from)
	return nil
}

// selected reads those deliveries among some that a query selects. It passes damaged ones.
func (s *Store) selected(ctx context.Context, tx pgx.Tx, q *engine.DeliveryQuery, spots []spot) (map[uuid.UUID]engine.Delivery, error) {
	ids := make(uuids, len(spots))
	for i := range spots {
		ids[i] = spots[i].id
	}
	since, until := boundsOf(q.Since, q.Until)
	rows, err := tx.Query(ctx, s.sql("SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1) AND ($2::int = 0 OR webhook_id = $2) AND ($3::smallint = 0 OR status = $3) "+
		"AND created_at BETWEEN $4 AND $5 AND late_events >= $6 AND ($7::uuid = $8 OR session_id = $7)"),
		ids, int32(q.WebhookID), int16(q.Status), since, until, fewestLate(q), pgID(q.SessionID), pgID(uuid.Nil))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[uuid.UUID]engine.Delivery)
	for rows.Next() {
		d, err := scanDelivery(rows)
		switch {
		case s.passes(err):
		case err != nil:
			return nil, err
		default:
			found[d.ID] = d.Delivery
		}
	}
	return found, rows.Err()
}

// fewestLate is how many late events a delivery has at least.
func fewestLate(q *engine.DeliveryQuery) int32 {
	if q.LateEvents {
		return 1
	}
	return 0
}

// boundsOf returns the bounds of a column with times, both inclusive. Zero stands for no bound.
func boundsOf(since, until time.Time) (from, to int64) {
	from, to = 0, math.MaxInt64
	if !since.IsZero() {
		from = stored(since)
	}
	if !until.IsZero() {
		to = stored(until)
	}
	return from, to
}

// stored is a time as it is stored. A query may name years that cannot be stored.
func stored(t time.Time) int64 {
	switch {
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	case t.Before(time.Unix(0, 0)):
		return 0 // before all that are stored, but for the zero time
	}
	return fields.Instant(t)
}

// walk leads to deliveries through an index, downwards.
type walk struct {
	sql   string // selects the lane, at and delivery_id of the entries below ($1, $2), at most $3 of each lane, the greatest first
	args  []any  // $4 on
	from  spot   // exclusive upper bound
	until spot   // exclusive upper bound of all pages
	lanes int
	// careful is set when the server could not read a page. byTime tells that at orders the walk, and not the id.
	careful, byTime bool
}

// nextSpots reads the entries below w.from, the greatest first, and reports whether there may be more. Lanes end at different places. What is below the last entry of
// a lane that has more is left for the next call.
func (s *Store) nextSpots(ctx context.Context, tx pgx.Tx, w *walk, step int) (spots []spot, more bool, err error) {
	from := w.from
	if w.until.compare(from) < 0 {
		from = w.until
	}
	rows, err := tx.Query(ctx, s.sql(w.sql), append([]any{from.at, pgID(from.id), step}, w.args...)...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	counted := make(map[int64]int)
	var end spot // the first places are greater
	for rows.Next() {
		var lane int64
		var at spot
		if err := rows.Scan(&lane, &at.at, (*[16]byte)(&at.id)); err != nil {
			return nil, false, err
		}
		if counted[lane]++; counted[lane] == step && !more {
			more, end = true, at // the first one of these is the greatest
		}
		if !more || at.compare(end) >= 0 {
			spots = append(spots, at)
		}
	}
	return spots, more, rows.Err()
}

// The walks.
const (
	walkAll       = "SELECT 0::bigint, 0::bigint, id FROM @.deliveries WHERE id < $2 AND id >= $4 AND $1::bigint >= 0 ORDER BY id DESC LIMIT $3"
	walkWebhook   = "SELECT 0::bigint, 0::bigint, id FROM @.deliveries WHERE webhook_id = $5 AND id < $2 AND id >= $4 AND $1::bigint >= 0 ORDER BY id DESC LIMIT $3"
	walkException = "SELECT l.lane, 0::bigint, e.delivery_id FROM unnest($5::int[]) WITH ORDINALITY l(w, lane) CROSS JOIN LATERAL (SELECT delivery_id FROM @.exceptions " +
		"WHERE webhook_id = l.w AND status = $6 AND delivery_id < $2 AND delivery_id >= $4 AND $1::bigint >= 0 ORDER BY delivery_id DESC LIMIT $3) e ORDER BY e.delivery_id DESC"
	walkQueue = "SELECT l.lane, q.at, q.delivery_id FROM unnest($4::int[], $5::smallint[]) WITH ORDINALITY l(w, c, lane) CROSS JOIN LATERAL (SELECT at, delivery_id FROM @.queue " +
		"WHERE webhook_id = l.w AND class = l.c AND (at, delivery_id) < ($1, $2) ORDER BY at DESC, delivery_id DESC LIMIT $3) q ORDER BY q.at DESC, q.delivery_id DESC"
	// Those of a session are few. They are sorted.
	walkMarked  = "SELECT 0::bigint, 0::bigint, id FROM @.deliveries WHERE id = ANY($4) AND id < $2 AND $1::bigint >= 0 ORDER BY id DESC LIMIT $3"
	walkWaiting = "SELECT 0::bigint, next_at, id FROM @.deliveries WHERE id = ANY($4) AND (next_at, id) < ($1, $2) ORDER BY next_at DESC, id DESC LIMIT $3"
)

// chooseWalk chooses the index that leads to a query's deliveries with the fewest entries to skip. It returns nil if there are none.
func (s *Store) chooseWalk(ctx context.Context, tx pgx.Tx, q *engine.DeliveryQuery) (*walk, error) {
	var ids []int32
	if q.SessionID == uuid.Nil {
		if q.WebhookID != 0 || q.Status != 0 {
			var err error
			if ids, err = s.webhooksWith(ctx, tx, q); err != nil || len(ids) == 0 {
				return nil, err
			}
		}
	} else {
		marked, ok, err := s.markedOf(ctx, tx, q.SessionID)
		switch {
		case err != nil:
			return nil, err
		case ok && len(marked) == 0:
			return nil, nil
		case ok && q.Status.Waiting():
			return &walk{sql: walkWaiting, args: []any{marked}, until: lastSpot, lanes: 1, byTime: true}, nil
		case ok:
			return &walk{sql: walkMarked, args: []any{marked}, until: lastSpot, lanes: 1}, nil
		case q.WebhookID != 0:
			ids = []int32{int32(q.WebhookID)}
		default:
			if ids, err = s.everyWebhook(ctx, tx); err != nil || len(ids) == 0 {
				return nil, err
			}
		}
	}
	low, until := idsBetween(q)
	switch {
	case q.Status.Waiting():
		w := &walk{sql: walkQueue, until: lastSpot, lanes: 2 * len(ids), byTime: true}
		w.args = []any{slices.Concat(ids, ids), slices.Concat(make([]int16, len(ids)), slices.Repeat([]int16{1}, len(ids)))}
		return w, nil
	case q.Status == engine.StatusFailed || q.Status == engine.StatusCancelled || q.Status == engine.StatusFiltered:
		return &walk{sql: walkException, args: []any{low, ids, int16(q.Status)}, until: until, lanes: len(ids)}, nil
	case q.WebhookID == 0: // most deliveries are delivered
		return &walk{sql: walkAll, args: []any{low}, until: until, lanes: 1}, nil
	}
	return &walk{sql: walkWebhook, args: []any{low, int32(q.WebhookID)}, until: until, lanes: 1}, nil
}

// lastSpot is behind all places.
var lastSpot = spot{math.MaxInt64, uuid.Max}

// idsBetween returns the least id that a query selects, and a place behind the greatest. An id begins with the time at which it was made.
func idsBetween(q *engine.DeliveryQuery) (low any, until spot) {
	first := uuid.Nil
	until = lastSpot
	if !q.Since.IsZero() {
		first = firstID(q.Since)
	}
	if !q.Until.IsZero() {
		until.id = firstID(q.Until.Add(clockSlack))
	}
	return pgID(first), until
}

// firstID is below all ids that are made at a time or later.
func firstID(t time.Time) (id uuid.UUID) {
	const most = 1<<48 - 1
	binary.BigEndian.PutUint64(id[:8], uint64(min(max(t.UnixMilli(), 0), most))<<16)
	return id
}

// webhooksWith returns the webhooks that have deliveries of the query's status. If the query names a webhook, only that one counts. The counts answer this without
// a search through deliveries of other states. If counts cannot be read, all webhooks may have any.
func (s *Store) webhooksWith(ctx context.Context, tx pgx.Tx, q *engine.DeliveryQuery) (ids []int32, err error) {
	all, err := s.readCounts(ctx, tx.Conn()) // the first statement of the snapshot, as it has to be
	switch {
	case s.passes(err) && q.WebhookID != 0:
		return []int32{int32(q.WebhookID)}, nil
	case errors.Is(err, ErrCorrupt):
		return s.everyWebhook(ctx, tx)
	case err != nil:
		return nil, err
	}
	for id, c := range all {
		if (q.WebhookID == 0 || id == q.WebhookID) && (q.Status == 0 || c.byStatus[q.Status] > 0) {
			ids = append(ids, int32(id))
		}
	}
	return ids, nil
}

// everyWebhook returns the webhooks that have deliveries, also deleted ones: it goes from one to the next in the index.
func (s *Store) everyWebhook(ctx context.Context, tx pgx.Tx) (ids []int32, err error) {
	rows, err := tx.Query(ctx, s.sql("WITH RECURSIVE w(id) AS ((SELECT webhook_id FROM @.deliveries ORDER BY webhook_id LIMIT 1) UNION ALL "+
		"SELECT (SELECT webhook_id FROM @.deliveries WHERE webhook_id > w.id ORDER BY webhook_id LIMIT 1) FROM w WHERE w.id IS NOT NULL) SELECT id FROM w WHERE id IS NOT NULL"))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int32])
}

// markedOf returns the deliveries that a session's marks name. ok is false if the marks cannot be read.
func (s *Store) markedOf(ctx context.Context, tx pgx.Tx, id uuid.UUID) (ids uuids, ok bool, err error) {
	r, err := s.readSession(ctx, tx, id)
	switch {
	case s.passes(err):
		return nil, false, nil
	case err != nil || r == nil:
		return nil, true, err
	}
	if err := s.readMarks(ctx, tx, r); err != nil {
		return nil, false, err
	}
	for _, ref := range r.Deliveries {
		ids = append(ids, ref.ID)
	}
	return ids, true, nil
}

// The first byte of a cursor tells what it belongs to.
const (
	cursorID      = 'd' // an id
	cursorQueue   = 'q' // a place in the queue
	cursorSession = 's' // the number of a session
)

var errBadCursor = engine.InputErrors{{Field: "cursor", Detail: "must be the next_cursor of a page of the same list"}}

// cursorAt is the cursor of a page that ends at a place.
func cursorAt(q *engine.DeliveryQuery, at spot) string {
	e := fields.NewEncoder(25)
	if q.Status.Waiting() {
		e.Byte(cursorQueue)
		e.Fixed(uint64(at.at))
	} else {
		e.Byte(cursorID)
	}
	e.UUID(at.id)
	return base64.RawURLEncoding.EncodeToString(e.Bytes())
}

// parseCursor returns the place below which the page of a query begins.
func parseCursor(q *engine.DeliveryQuery) (spot, error) {
	at := lastSpot
	if q.Cursor == "" {
		return at, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	d := fields.NewDecoder(b)
	kind := d.Byte()
	if kind == cursorQueue {
		at.at = int64(d.Fixed())
	}
	at.id = d.UUID()
	if err != nil || !d.OK() || q.Status.Waiting() != (kind == cursorQueue) || kind != cursorQueue && kind != cursorID {
		return spot{}, errBadCursor
	}
	return at, nil
}

// readSession reads the row of a session, nil if there is none.
func (s *Store) readSession(ctx context.Context, tx pgx.Tx, id uuid.UUID) (*sessionRow, error) {
	rows, err := tx.Query(ctx, s.sql("SELECT "+sessionColumns+" FROM @.sessions WHERE id = $1"), pgID(id))
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", id, err)
	}
	return one(rows, scanSession)
}
