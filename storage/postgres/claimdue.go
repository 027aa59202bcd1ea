package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

const (
	// maxSkipped bounds how many entries of a lane one call skips because they are claimed, and maxCovered how many because a cancellation covers
	// them: these are read with their deliveries.
	maxSkipped = 2000
	maxCovered = 500
	// skippedRetry is when to go on after that.
	skippedRetry = 50 * time.Millisecond
	// frontRecheck is when to look again at a lane's front after its end was reached from a resumePoint.
	frontRecheck = time.Second
	// resumeFor is how long a resumePoint is used while there is always more behind it.
	resumeFor = time.Minute
	// maxRoom bounds how many of a lane one call claims.
	maxRoom = 10_000
)

// The rows that the statements of ClaimDue look for.
var (
	lanesLists   = lists("request, webhook_id, class, at, id, most", "int, int, smallint, bigint, uuid, int")
	entriesLists = lists("webhook_id, class, at, id", "int, smallint, bigint, uuid")
)

// resumePoint is where the next call begins in a lane, because one call may not skip all that is before it. Damaged deliveries stay claimed,
// so there may be any number of them at a lane's front. What comes due before the point is found when the lane's end is reached or the point
// has served its time.
type resumePoint struct {
	entryKey
	until time.Time
	// damage tells that the server cannot read what is before it. To find the point takes many statements, so it serves its time.
	damage bool
}

// lookedAt is a lane that a call of ClaimDue looks at.
type lookedAt struct {
	engine.ClaimRequest
	claimed int         // how many of its deliveries are claimed
	owned   bool        // by this process, when the look began
	from    entryKey    // where to begin
	resumed resumePoint // why, if it is not the front
	limit   int         // how many entries to read
	cap     int         // bounds limit; 0 for no bound

	found  []entry
	resume resumePoint // where to go on; zero for the front
}

// entry is an entry of the queue.
type entry struct {
	entryKey
	covered bool // by a cancellation
}

// claimedEntry is an entry whose delivery was claimed.
type claimedEntry struct {
	entryKey
	lane    engine.Lane
	request int
}

// ClaimDue implements engine.Store.
func (s *Store) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) (results []engine.ClaimResult, err error) {
	// A cancellation that comes after these webhooks is the caller's concern; one that has been carried out since has changed what it covers.
	hooks := s.hooks.Load()
	l, lanes := s.beginLook(now, requests)
	defer func() {
		if err != nil {
			lanes = nil
		}
		s.endLook(l, now, lanes)
	}()
	err = s.view(ctx, func(conn *pgx.Conn) error {
		results = make([]engine.ClaimResult, len(requests))
		find := func(lanes []lookedAt) error { return s.findDue(ctx, conn, hooks, now, lanes) }
		if err := find(lanes); isUnreadable(err) { // in one of the lanes
			if err := s.findAround(now, lanes, results, find); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		var claimed []claimedEntry
		for i := range lanes {
			claimed = s.claimLane(l, now, i, &lanes[i], &results[i], claimed)
		}
		err := s.readClaimed(ctx, conn, l, claimed, results)
		if err != nil {
			s.dropClaims(l, claimsOf(claimed))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func claimsOf(list []claimedEntry) []claim {
	all := make([]claim, len(list))
	for i, e := range list {
		all[i] = claim{e.id, e.lane}
	}
	return all
}

// findDue reads the front of each lane, in one round trip: an entry more than there is room for, and as many more as may be skipped.
func (s *Store) findDue(ctx context.Context, conn *pgx.Conn, hooks *engine.WebhookSet, now time.Time, lanes []lookedAt) error {
	var requests, webhooks, most []int32
	var classes []int16
	var at []int64
	var ids uuids
	for i := range lanes {
		r := &lanes[i]
		r.found, r.resume = nil, resumePoint{}
		r.limit = min(r.Room, maxRoom) + 1 + min(r.claimed, maxSkipped)
		if len(hooks.Cancellations(r.Lane.WebhookID)) > 0 {
			r.limit += maxCovered
		}
		if r.cap > 0 {
			r.limit = min(r.limit, r.cap)
		}
		requests, webhooks, most = append(requests, int32(i)), append(webhooks, int32(r.Lane.WebhookID)), append(most, int32(r.limit))
		classes, at, ids = append(classes, class(r.Lane)), append(at, r.from.at), append(ids, r.from.id)
	}
	rows, err := conn.Query(ctx, s.sql("SELECT l.request, q.at, q.delivery_id FROM ("+lanesLists+") l "+
		"CROSS JOIN LATERAL (SELECT at, delivery_id FROM @.queue WHERE webhook_id = l.webhook_id AND class = l.class AND (at, delivery_id) >= (l.at, l.id) "+
		"ORDER BY at, delivery_id LIMIT l.most) q"), requests, webhooks, classes, at, ids, most)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var request int
		var e entry
		if err := rows.Scan(&request, &e.at, (*[16]byte)(&e.id)); err != nil {
			return err
		}
		lanes[request].found = append(lanes[request].found, e)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return s.findCovered(ctx, conn, hooks, now, lanes)
}

// damagedRetry is when to look again at a lane of which the server can read nothing.
const damagedRetry = time.Minute

// findAround is findDue for each lane alone, because the server could not read a page of the queue or of an index. Where the page is of the lane, it reads what
// is before the page and, if that is nothing, what is behind it. Next is set where there is nothing either.
func (s *Store) findAround(now time.Time, lanes []lookedAt, results []engine.ClaimResult, find func([]lookedAt) error) error {
	for i := range lanes {
		r := &lanes[i]
		err := find(lanes[i : i+1])
		for isUnreadable(err) && r.limit > r.claimed+1 {
			r.cap = max(r.limit/2, r.claimed+1)
			err = find(lanes[i : i+1])
		}
		if isUnreadable(err) {
			s.damaged.add(fmt.Errorf("%w: %w", damage("the queue of webhook", r.Lane.WebhookID), err))
			r.cap = 0
			var found bool
			found, err = passDamageInQueue(r.from.at, r.from.id, math.MaxInt64, func(at int64, id uuid.UUID) error {
				r.from = entryKey{at: at, id: id}
				return find(lanes[i : i+1])
			})
			r.resumed = resumePoint{r.from, now.Add(resumeFor), true}
			if err == nil && !found {
				r.found, r.resumed = nil, resumePoint{}
				results[i].Next = now.Add(damagedRetry)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// passDamage finds the least distance, at least 1 and at most most, at which read works again, and has read called with it last. It finds none if read never
// works.
func passDamage(most uint64, read func(by uint64) error) (found bool, err error) {
	low, high := uint64(0), uint64(1) // it does not work at low
	for err = read(high); isUnreadable(err); err = read(high) {
		if high == most {
			return false, nil
		}
		low, high = high, high+min(high, most-high)
	}
	last := high
	for err == nil && low+1 < high {
		last = low + (high-low)/2
		switch err = read(last); {
		case err == nil:
			high = last
		case isUnreadable(err):
			low, err = last, nil
		}
	}
	if err == nil && last != high {
		err = read(high)
	}
	return err == nil, err
}

// passDamageInQueue passes damage among entries that are in the order of their times and then of their ids, from a place on in the direction of the time end.
// Many entries may have the same time.
func passDamageInQueue(from int64, id uuid.UUID, end int64, read func(at int64, id uuid.UUID) error) (found bool, err error) {
	sign, most, first := int64(1), end-from, uuid.Nil
	if end < from {
		sign, most, first = -1, from-end, uuid.Max
	}
	at := from
	if found, err = passDamage(max(1, uint64(most)), func(by uint64) error { at = from + sign*int64(by); return read(at, first) }); !found {
		return false, err
	}
	if at -= sign; at != from { // the time of the last entry that it cannot read
		id = first
	}
	return passDamageInIDs(id, sign < 0, func(id uuid.UUID) error { return read(at, id) })
}

// passDamageInIDs passes damage among ids, from one on. All of a batch have the same first half, so it looks at both halves.
func passDamageInIDs(from uuid.UUID, down bool, read func(uuid.UUID) error) (found bool, err error) {
	high, low := binary.BigEndian.Uint64(from[:8]), binary.BigEndian.Uint64(from[8:])
	edge := uint64(0) // the half of an id that no other is before
	room := func(half uint64) uint64 { return math.MaxUint64 - half }
	move := func(half, by uint64) uint64 { return half + min(by, room(half)) }
	if down {
		edge = math.MaxUint64
		room = func(half uint64) uint64 { return half }
		move = func(half, by uint64) uint64 { return half - min(by, half) }
	}
	id := func(high, low uint64) (id uuid.UUID) {
		binary.BigEndian.PutUint64(id[:8], high)
		binary.BigEndian.PutUint64(id[8:], low)
		return id
	}
	passed := uint64(0)
	if found, err = passDamage(max(1, room(high)), func(by uint64) error { passed = by; return read(id(move(high, by), edge)) }); !found {
		return false, err
	}
	if passed > 1 { // the last half under which it cannot read
		high, low = move(high, passed-1), edge
	}
	return passDamage(max(1, room(low)), func(by uint64) error { return read(id(high, move(low, by))) })
}

// findCovered finds out which entries cancellations cover, in a round trip of its own, in those lanes that have any. A damaged delivery counts as not
// covered: readClaimed reports the damage.
func (s *Store) findCovered(ctx context.Context, conn *pgx.Conn, hooks *engine.WebhookSet, now time.Time, lanes []lookedAt) error {
	var ids uuids
	for i := range lanes {
		r := &lanes[i]
		if len(hooks.Cancellations(r.Lane.WebhookID)) == 0 {
			continue
		}
		for _, e := range r.found {
			if e.at <= fields.Instant(now) && !s.isClaimed(e.id) {
				ids = append(ids, e.id)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	covered := make(map[uuid.UUID]bool)
	if err := s.readCovered(ctx, conn, hooks, ids, covered); err != nil {
		return err
	}
	for i := range lanes {
		for j := range lanes[i].found {
			lanes[i].found[j].covered = covered[lanes[i].found[j].id]
		}
	}
	return nil
}

// readCovered reads which deliveries cancellations cover.
func (s *Store) readCovered(ctx context.Context, conn *pgx.Conn, hooks *engine.WebhookSet, ids uuids, covered map[uuid.UUID]bool) error {
	rows, err := conn.Query(ctx, s.sql("SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1)"), ids)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		switch r, err := scanDelivery(rows); {
		case err == nil:
			covered[r.ID] = hooks.Covered(&r.Delivery)
		case !errors.Is(err, ErrCorrupt):
			return err
		}
	}
	switch err := rows.Err(); {
	case !isUnreadable(err):
		return err
	case len(ids) == 1:
		return nil
	}
	rows.Close()
	half := len(ids) / 2
	return errors.Join(s.readCovered(ctx, conn, hooks, ids[:half], covered), s.readCovered(ctx, conn, hooks, ids[half:], covered))
}

// claimLane claims the due deliveries of a lane, as far as one call may go.
func (s *Store) claimLane(l *look, now time.Time, i int, r *lookedAt, result *engine.ClaimResult, claimed []claimedEntry) []claimedEntry {
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	if !r.owned || !s.owns(r.Lane.WebhookID) {
		return claimed
	}
	had, skipped, covered := len(claimed), 0, 0
	for _, e := range r.found {
		if e.at > fields.Instant(now) {
			result.Next = earliest(result.Next, fields.Time(e.at))
			return r.ended(now, result, claimed)
		}
		if len(claimed)-had == r.Room {
			result.Next = time.Time{}
			return claimed
		}
		_, taken := s.claims.of[e.id]
		switch {
		case l.ended[e.id]: // it may be due all the same
			result.Next = now
		case taken:
			skipped++
		case e.covered:
			covered++
		default:
			s.claims.add(claim{e.id, r.Lane})
			claimed = append(claimed, claimedEntry{e.entryKey, r.Lane, i})
		}
	}
	switch {
	case len(r.found) < r.limit:
		return r.ended(now, result, claimed)
	case skipped < maxSkipped && covered < maxCovered: // more have been claimed since it began
		result.Next = now
		return claimed
	}
	r.resume = resumePoint{entryKey: r.found[len(r.found)-1].entryKey, until: now.Add(resumeFor)}
	if !r.resumed.until.IsZero() {
		r.resume.until = r.resumed.until
	}
	result.Next = earliest(result.Next, now.Add(skippedRetry))
	return claimed
}

// ended is called where the end of what is due in a lane was reached. If the call has not begun at its front, it looks there again.
func (r *lookedAt) ended(now time.Time, result *engine.ClaimResult, claimed []claimedEntry) []claimedEntry {
	if !r.resumed.until.IsZero() {
		result.Next = earliest(result.Next, now.Add(frontRecheck))
	}
	return claimed
}

// earliest returns the earlier of two times of which the first may be zero, for none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// readClaimed reads what the engine needs to send the deliveries that were claimed. Of those that cannot be read, each stays claimed and is named: it
// hides no other. Those that have changed since they were found are given back.
func (s *Store) readClaimed(ctx context.Context, conn *pgx.Conn, l *look, list []claimedEntry, results []engine.ClaimResult) error {
	if len(list) == 0 {
		return nil
	}
	read, err := s.readContents(ctx, conn, list)
	switch {
	case isUnreadable(err) && len(list) == 1:
		r := &results[list[0].request]
		r.Damaged = append(r.Damaged, fmt.Errorf("%w: %w", damage("delivery", list[0].id), err))
		return nil
	case isUnreadable(err):
		for i := range list {
			if err := s.readClaimed(ctx, conn, l, list[i:i+1], results); err != nil {
				return err
			}
		}
		return nil
	case err != nil:
		return err
	}
	var moved []claimedEntry
	for _, e := range list {
		r := &results[e.request]
		switch c, err := read.claimed(e); {
		case errors.Is(err, ErrCorrupt):
			r.Damaged = append(r.Damaged, err)
		case err != nil: // it is not there, or at another place
			moved = append(moved, e)
		default:
			r.Claimed = append(r.Claimed, c)
		}
	}
	return s.giveBack(ctx, conn, l, moved, results)
}

// giveBack ends the claims of deliveries that did not stand any more where they were found. If the queue still says so, it is wrong: then it names them.
func (s *Store) giveBack(ctx context.Context, conn *pgx.Conn, l *look, moved []claimedEntry, results []engine.ClaimResult) error {
	if len(moved) == 0 {
		return nil
	}
	var webhooks []int32
	var classes []int16
	var at []int64
	var ids uuids
	for _, e := range moved {
		webhooks, classes, at, ids = append(webhooks, int32(e.lane.WebhookID)), append(classes, class(e.lane)), append(at, e.at), append(ids, e.id)
	}
	rows, err := conn.Query(ctx, s.sql("SELECT q.webhook_id, q.class, q.at, q.delivery_id, COALESCE(d.webhook_id, 0), COALESCE(d.kind, 0::smallint), COALESCE(d.status, 0::smallint), "+
		"COALESCE(d.next_at, 0) FROM ("+entriesLists+") t CROSS JOIN LATERAL (SELECT * FROM @.queue WHERE webhook_id = t.webhook_id AND class = t.class AND at = t.at AND delivery_id = t.id OFFSET 0) q "+
		"LEFT JOIN LATERAL (SELECT * FROM @.deliveries WHERE id = t.id OFFSET 0) d ON true"), webhooks, classes, at, ids)
	if err != nil {
		return err
	}
	wrong := make(map[uuid.UUID]bool)
	defer rows.Close()
	for rows.Next() {
		var q, d deliveryRow
		var class, kind, status int16
		var at, next int64
		if err := rows.Scan(&q.WebhookID, &class, &at, (*[16]byte)(&q.ID), &d.WebhookID, &kind, &status, &next); err != nil {
			return err
		}
		d.ID, d.Kind, d.Status, d.NextAttemptAt = q.ID, engine.Kind(kind), engine.Status(status), fields.Time(next)
		is, waits := d.place()
		wrong[q.ID] = !waits || is != place{engine.Lane{WebhookID: q.WebhookID, Test: class == 1}, at, q.ID}
	}
	for _, e := range moved {
		r := &results[e.request]
		if wrong[e.id] {
			r.Damaged = append(r.Damaged, fmt.Errorf("%w at a place that is not its own", damage("the queue holds delivery", e.id)))
			continue
		}
		s.dropClaims(l, []claim{{e.id, e.lane}})
		r.Next = earliest(r.Next, fields.Time(e.at))
	}
	return rows.Err()
}

// contents are what was read for claimed deliveries, all of the same moment.
type contents struct {
	deliveries map[uuid.UUID]content
	sessions   map[int64]*sessionContent
}

// content is a delivery with its payload.
type content struct {
	row     *deliveryRow
	payload []byte
	damage  error
}

// sessionContent is a session with its events.
type sessionContent struct {
	engine.SessionRecord
	row    *sessionRow
	damage error
}

// readContents reads deliveries with their payloads, or their sessions and events.
func (s *Store) readContents(ctx context.Context, conn *pgx.Conn, list []claimedEntry) (read contents, err error) {
	read = contents{deliveries: make(map[uuid.UUID]content, len(list)), sessions: make(map[int64]*sessionContent)}
	ids := make(uuids, len(list))
	for i := range list {
		ids[i] = list[i].id
	}
	var p pgx.Batch
	p.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	p.Queue(s.sql("SELECT "+deliveryColumns+", p.body FROM @.deliveries "+withPayload+" WHERE id = ANY($1)"), ids).Query(read.addDeliveries)
	const ofThese = "ANY(ARRAY(SELECT session_no FROM @.deliveries WHERE id = ANY($1) AND NOT has_payload))"
	p.Queue(s.sql("SELECT "+sessionColumns+" FROM @.sessions WHERE no = "+ofThese), ids).Query(read.addSessions)
	p.Queue(s.sql("SELECT session_no, received_at, body FROM @.events WHERE session_no = "+ofThese+" ORDER BY session_no, n"), ids).Query(read.addEvents)
	p.Queue("COMMIT")
	ctx, cancel := context.WithTimeout(ctx, tripTimeout)
	defer cancel()
	if err = conn.SendBatch(ctx, &p).Close(); err != nil && !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		_, endErr := conn.Exec(ctx, "ROLLBACK")
		err = errors.Join(err, endErr)
	}
	return read, err
}

func (c *contents) addDeliveries(rows pgx.Rows) error {
	for rows.Next() {
		var one content
		if one.row, one.damage = scanDelivery(rows, &one.payload); one.row == nil {
			return one.damage
		}
		if one.damage == nil && one.row.hasPayload == (one.payload == nil) {
			one.damage = damage("payload of delivery", one.row.ID)
		}
		c.deliveries[one.row.ID] = one
	}
	return nil
}

func (c *contents) addSessions(rows pgx.Rows) error {
	for rows.Next() {
		r, err := scanSession(rows)
		if r == nil {
			return err
		}
		c.sessions[r.no] = &sessionContent{engine.SessionRecord{Head: r.SessionHead}, r, err}
	}
	return nil
}

func (c *contents) addEvents(rows pgx.Rows) error {
	for rows.Next() {
		var e eventsRow
		if err := rows.Scan(&e.no, &e.receivedAt, &e.body); err != nil {
			return err
		}
		if session := c.sessions[e.no]; session != nil {
			session.Batches = append(session.Batches, e.batch())
		}
	}
	return nil
}

// errMoved is returned for a delivery that has changed since it was found in the queue.
var errMoved = errors.New("the delivery has moved")

// claimed returns what the engine needs to send a delivery. A damaged one is an ErrCorrupt.
func (c *contents) claimed(e claimedEntry) (engine.Claimed, error) {
	one, ok := c.deliveries[e.id]
	switch at, waits := one.row.place(); {
	case !ok:
		return engine.Claimed{}, errMoved
	case one.damage != nil:
		return engine.Claimed{}, one.damage
	case !waits || at != place{e.lane, e.at, e.id}:
		return engine.Claimed{}, errMoved
	case one.row.hasPayload:
		return engine.Claimed{Delivery: one.row.Delivery, Payload: one.payload}, nil
	}
	session := c.sessions[one.row.sessionNo]
	switch {
	case session == nil:
		return engine.Claimed{}, damage("the session is missing of delivery", e.id)
	case session.damage != nil:
		return engine.Claimed{}, session.damage
	case len(session.Batches) != session.row.batches:
		return engine.Claimed{}, damage("the events of session", session.row.ID)
	}
	return engine.Claimed{Delivery: one.row.Delivery, Session: &session.SessionRecord}, nil
}

// isUnreadable reports whether the server could not read a row: its page, or a value in it, is damaged.
func isUnreadable(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		_, isScan := errors.AsType[pgx.ScanArgError](err)
		return isScan
	}
	switch pg.Code {
	case "XX001", "XX002", "58030": // data_corrupted, index_corrupted, io_error
		return true
	}
	return pg.Code[:2] == "22" // such as a text that is none in the encoding of the database
}
