package postgres

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/copying"
	"hookbolt/storage/internal/fields"
)

// Report is the result of Check.
type Report struct {
	Sessions, Deliveries, Webhooks int
	// Violations lists what is wrong, at most a hundred lines.
	Violations []error
}

const maxViolations = 100

var errTooMany = errors.New("too many violations, the rest is not listed")

// Check compares the tables of a database with each other: that each row can be read, and the invariants between tables. It reads one snapshot and changes
// nothing, so it may be run beside a hookbolt that works. It keeps some 50 bytes for each session and delivery in memory.
func Check(ctx context.Context, o Options) (Report, error) {
	s, err := offlineStore(o)
	if err != nil {
		return Report{}, fmt.Errorf("storage.postgres_url: %w", err)
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("check the database: %w", startError(err))
	}
	defer s.release(conn)
	if err := s.mayCheck(ctx, conn); err != nil {
		return Report{}, fmt.Errorf("check the database: %w", err)
	}
	report, err := checkOn(ctx, s, conn)
	if err != nil {
		return Report{}, fmt.Errorf("check the database: %w", err)
	}
	return report, nil
}

// mayCheck refuses a database whose schema this program does not know, or that has no tables of hookbolt.
func (s *Store) mayCheck(ctx context.Context, conn *pgx.Conn) error {
	var version int
	err := conn.QueryRow(ctx, s.sql("SELECT version FROM @.schema")).Scan(&version)
	switch {
	case err != nil:
		return explainMissing(err)
	case version < s.plan.version():
		return fmt.Errorf("an older hookbolt has made the schema (version %d, and this one knows %d): the next start migrates it", version, s.plan.version())
	case version > s.plan.version():
		return fmt.Errorf("%w (its schema has version %d, and this one knows %d)", ErrSchema, version, s.plan.version())
	}
	var unfinished bool
	err = conn.QueryRow(ctx, s.sql("SELECT EXISTS (SELECT FROM @.copies)")).Scan(&unfinished)
	if err == nil && unfinished {
		err = copying.ErrUnfinished
	}
	return err
}

// checkOn compares the tables over a connection.
func checkOn(ctx context.Context, s *Store, conn *pgx.Conn) (Report, error) {
	c := checker{s: s, ctx: ctx, conn: conn, reading: reading{s, ctx, conn}, ending: make(map[uuid.UUID]int64), expiring: make(map[int64]bool), counted: make(deltas)}
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(pgx.Tx) error { return c.run() })
	return c.report, err
}

// checker compares tables. It looks up each reference from both sides.
type checker struct {
	reading
	s    *Store
	ctx  context.Context
	conn *pgx.Conn

	report   Report
	ending   map[uuid.UUID]int64 // deliveries that have a place in expiry, and the latest time of it
	expiring map[int64]bool      // the numbers of sessions that have one
	counted  deltas
	kept     deltas
}

// expect records a violation unless ok.
func (c *checker) expect(ok bool, format string, args ...any) {
	switch {
	case ok || len(c.report.Violations) > maxViolations:
	case len(c.report.Violations) == maxViolations:
		c.report.Violations = append(c.report.Violations, errTooMany)
	default:
		c.report.Violations = append(c.report.Violations, fmt.Errorf(format, args...))
	}
}

func (c *checker) run() error {
	for _, set := range []string{"statement_timeout = 0", "idle_in_transaction_session_timeout = 0", "enable_seqscan = on", "enable_hashjoin = on", "enable_mergejoin = on"} {
		if _, err := c.conn.Exec(c.ctx, "SET LOCAL "+set); err != nil {
			return err
		}
	}
	for _, step := range []func() error{c.counts, c.expiry, c.deliveries, c.sessions, c.places, c.leftovers, c.small, c.fanOuts, c.sequences} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// counts reads the counts that are kept. It comes first, because of what readCounts promises.
func (c *checker) counts() (err error) {
	c.kept, err = c.s.readCounts(c.ctx, c.conn)
	if errors.Is(err, ErrCorrupt) {
		c.expect(false, "%v", err)
		return nil
	}
	return err
}

// expiry reads which records have a place in expiry.
func (c *checker) expiry() error {
	return c.query(func(found pgx.Rows) error {
		var kind int16
		var at, no int64
		var ids []byte
		if err := found.Scan(&kind, &at, &no, &ids); err != nil {
			return err
		}
		e := expiryKind{kind: kind}
		if kind != expirySession && kind != expiryDelivery || len(ids) == 0 || len(ids)%e.idSize() != 0 {
			c.expect(false, "expiry %d: of kind %d, with %d bytes", no, kind, len(ids))
			return nil
		}
		for id := range slices.Chunk(ids, e.idSize()) {
			if kind == expirySession {
				c.expiring[int64(binary.BigEndian.Uint64(id))] = true
			} else {
				c.ending[uuid.UUID(id)] = max(c.ending[uuid.UUID(id)], at)
			}
		}
		return nil
	}, "SELECT kind, at, no, ids FROM @.expiry")
}

// checkPage is how many deliveries are checked together.
const checkPage = 2000

// checkedPage are some deliveries and what belongs to them.
type checkedPage struct {
	list       []*deliveryRow
	places     map[place]bool
	exceptions map[uuid.UUID]int16 // the status
	bodies     map[uuid.UUID][]byte
	attempts   map[uuid.UUID]int
	sessions   map[int64]*sessionRow
	marks      map[markKey]bool
}

// deliveries checks each delivery against its place in the queue, its payload, its attempts and its session.
func (c *checker) deliveries() error {
	last := uuid.UUID{}
	for {
		p, n := checkedPage{}, 0
		err := c.query(func(found pgx.Rows) error {
			d, err := scanDelivery(found)
			if d == nil {
				return err
			}
			last, n = d.ID, n+1
			c.counted.add(d, +1)
			if err != nil {
				c.expect(false, "%v", err)
				return nil
			}
			p.list = append(p.list, d)
			return nil
		}, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id > $1 ORDER BY id LIMIT $2", pgID(last), checkPage)
		if err != nil {
			return err
		}
		c.report.Deliveries += n
		if err := c.readPage(&p); err != nil {
			return err
		}
		for _, d := range p.list {
			c.checkDelivery(d, &p)
		}
		if n < checkPage {
			break
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.counted)) {
		c.expect(c.kept[id] == c.counted[id], "counts of webhook %d: kept %v, counted %v", id, c.kept[id], c.counted[id])
	}
	for id := range c.kept {
		_, any := c.counted[id]
		c.expect(any, "counts of webhook %d: kept %v, and it has no deliveries", id, c.kept[id])
	}
	return nil
}

// readPage reads what belongs to some deliveries.
func (c *checker) readPage(p *checkedPage) error {
	p.places, p.exceptions, p.bodies = make(map[place]bool), make(map[uuid.UUID]int16), make(map[uuid.UUID][]byte)
	p.attempts, p.sessions, p.marks = make(map[uuid.UUID]int), make(map[int64]*sessionRow), make(map[markKey]bool)
	ids := uuids{}
	var nos []int64
	var places []place
	for _, d := range p.list {
		ids, nos = append(ids, d.ID), append(nos, d.sessionNo)
		if at, ok := d.place(); ok {
			places = append(places, at)
		}
	}
	for _, part := range []struct {
		f    func(pgx.Rows) error
		sql  string
		args []any
	}{
		{func(found pgx.Rows) error { return scanPlace(found, p.places) }, "SELECT q.webhook_id, q.class, q.at, q.delivery_id FROM (" + placesLists + ") t CROSS JOIN LATERAL (SELECT * FROM @.queue " +
			"WHERE webhook_id = t.webhook_id AND class = t.class AND at = t.at AND delivery_id = t.delivery_id OFFSET 0) q", placeLists(places)},
		{p.addException, "SELECT e.delivery_id, e.status FROM @.deliveries d CROSS JOIN LATERAL (SELECT * FROM @.exceptions " +
			"WHERE webhook_id = d.webhook_id AND status = d.status AND delivery_id = d.id OFFSET 0) e WHERE d.id = ANY($1)", []any{ids}},
		{p.addBody, "SELECT delivery_id, body FROM @.payloads WHERE delivery_id = ANY($1)", []any{ids}},
		{func(found pgx.Rows) error { return c.checkAttempt(found, p) }, "SELECT " + attemptColumns + " FROM @.attempts WHERE delivery_id = ANY($1) ORDER BY delivery_id, n", []any{ids}},
		{p.addSession, "SELECT " + sessionColumns + " FROM @.sessions WHERE no = ANY($1)", []any{nos}},
		{p.addMark, "SELECT m.session_no, m.webhook_id, m.kind, m.delivery_id FROM @.deliveries d CROSS JOIN LATERAL (SELECT * FROM @.marks " +
			"WHERE session_no = d.session_no AND webhook_id = d.webhook_id AND kind = d.kind AND delivery_id = d.id OFFSET 0) m WHERE d.id = ANY($1)", []any{ids}},
	} {
		if err := c.query(part.f, part.sql, part.args...); err != nil {
			return err
		}
	}
	return nil
}

func scanPlace(found pgx.Rows, places map[place]bool) error {
	var at place
	var class int16
	err := found.Scan(&at.lane.WebhookID, &class, &at.at, (*[16]byte)(&at.id))
	at.lane.Test = class != 0
	places[at] = true
	return err
}

func (p *checkedPage) addException(found pgx.Rows) error {
	var id uuid.UUID
	var status int16
	err := found.Scan((*[16]byte)(&id), &status)
	p.exceptions[id] = status
	return err
}

func (p *checkedPage) addBody(found pgx.Rows) error {
	var id uuid.UUID
	var body []byte
	err := found.Scan((*[16]byte)(&id), &body)
	p.bodies[id] = body
	return err
}

func (p *checkedPage) addSession(found pgx.Rows) error {
	r, err := scanSession(found)
	if r == nil {
		return err
	}
	p.sessions[r.no] = r // sessions reports a damaged one
	return nil
}

func (p *checkedPage) addMark(found pgx.Rows) error {
	key, err := scanMarkKey(found)
	p.marks[key] = true
	return err
}

func scanMarkKey(found pgx.Rows) (key markKey, err error) {
	var kind int16
	err = found.Scan(&key.no, &key.ref.WebhookID, &kind, (*[16]byte)(&key.ref.ID))
	key.ref.Kind = engine.Kind(kind)
	return key, err
}

// checkAttempt checks an attempt, and that it is the next one of its delivery.
func (c *checker) checkAttempt(found pgx.Rows, p *checkedPage) error {
	a, err := scanAttempt(found)
	if errors.Is(err, ErrCorrupt) {
		c.expect(false, "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	p.attempts[a.delivery]++
	c.expect(a.n == p.attempts[a.delivery], "delivery %s: attempt %d is numbered %d", a.delivery, p.attempts[a.delivery], a.n)
	return nil
}

// checkDelivery checks a delivery against itself and what belongs to it.
func (c *checker) checkDelivery(d *deliveryRow, p *checkedPage) {
	body, hasBody := p.bodies[d.ID]
	at, waits := d.place()
	status, listed := p.exceptions[d.ID]
	session := p.sessions[d.sessionNo]
	isEvent := d.Kind == engine.KindOperation // a system event is stored before a body is built from it
	end, ends := c.ending[d.ID]
	ref := engine.DeliveryRef{WebhookID: d.WebhookID, Kind: d.Kind, ID: d.ID}
	for _, v := range []struct {
		ok   bool
		text string
	}{
		{!waits || p.places[at], "not at its place in the queue"},
		{listed == d.isException() && (!listed || status == int16(d.Status)), "not at its place in exceptions"},
		{d.Status.Waiting() == d.FinishedAt.IsZero(), fmt.Sprintf("finished at %v", d.FinishedAt)},
		{d.Status.Waiting() || ends && d.FinishedBy(fields.Time(end)), "does not expire"},
		{d.Status != engine.StatusPending && d.Status != engine.StatusDelivered || d.hasPayload, "without a payload"},
		{d.FrozenAt.IsZero() == !d.hasPayload || d.FrozenAt.IsZero() && isEvent, fmt.Sprintf("frozen at %v, has a payload: %t", d.FrozenAt, d.hasPayload)},
		{d.Status != engine.StatusScheduled || d.FrozenAt.IsZero(), "frozen"},
		{d.BuildError == "" || d.FrozenAt.IsZero(), "frozen, and not built"},
		{d.hasPayload == hasBody, fmt.Sprintf("has a payload: %t, and it is stored: %t", d.hasPayload, hasBody)},
		{!hasBody || d.Shaped || json.Valid(body), "its payload is no JSON"},
		{p.attempts[d.ID] == d.Attempts, fmt.Sprintf("%d attempts stored, %d counted", p.attempts[d.ID], d.Attempts)},
		{d.Status != engine.StatusScheduled || isEvent || session != nil, fmt.Sprintf("waits, its session %s is gone", d.SessionID)},
		{session == nil || session.ID == d.SessionID, fmt.Sprintf("its session is %s, and number %d is another one", d.SessionID, d.sessionNo)},
		{session == nil || p.marks[markKey{d.sessionNo, ref}] || slices.Contains(session.Deliveries, ref), fmt.Sprintf("its session %s does not name it", d.SessionID)},
	} {
		c.expect(v.ok, "delivery %s: %s, %s", d.ID, d.Status, v.text)
	}
}

// sessions checks the sessions against their events and marks.
func (c *checker) sessions() error {
	search := eraseSearch{s: c.s, q: c.reading, what: &engine.Erasure{}}
	for {
		search.more = false
		list, err := search.someSessions()
		if err != nil {
			return err
		}
		if err := c.checkSessions(list); err != nil {
			return err
		}
		c.report.Sessions += len(list) + len(search.damaged)
		for _, err := range search.damaged {
			c.expect(false, "%v", err)
		}
		search.damaged = nil
		if len(list) > 0 {
			search.at.session = max(search.at.session, list[len(list)-1].no)
		}
		if !search.more {
			return nil
		}
	}
}

// checkedSession is what is stored of a session beside its row.
type checkedSession struct {
	batches, events, marks int
	bytes                  int64
	marked                 map[engine.DeliveryRef]bool
}

func (c *checker) checkSessions(list []*sessionRow) error {
	all := make(map[int64]*checkedSession)
	nos := []int64{}
	for _, r := range list {
		nos = append(nos, r.no)
		s := &checkedSession{marked: make(map[engine.DeliveryRef]bool)}
		all[r.no] = s
		for _, ref := range r.Deliveries {
			c.checkMark(r.ID, s, ref)
		}
	}
	err := c.query(func(found pgx.Rows) error {
		var r eventsRow
		var ids []byte
		if err := found.Scan(&r.no, &r.n, &r.receivedAt, &ids, &r.body); err != nil {
			return err
		}
		s := all[r.no]
		s.batches++
		known, ok := decodeIDs(ids)
		events, err := engine.DecodeEvents(r.body, fields.Time(r.receivedAt))
		c.expect(ok && err == nil, "events %d of session number %d: cannot be read", r.n, r.no)
		c.expect(r.n == s.batches, "events %d of session number %d: they should be number %d", r.n, r.no, s.batches)
		for i := range events {
			c.expect(err != nil || events[i].ID == "" || slices.Contains(known, events[i].ID), "events %d of session number %d: an id is not kept", r.n, r.no)
			s.bytes += int64(len(events[i].JSON))
		}
		s.events += len(events)
		return nil
	}, "SELECT session_no, n, received_at, ids, body FROM @.events WHERE session_no = ANY($1) ORDER BY session_no, n", nos)
	if err != nil {
		return err
	}
	err = c.query(func(found pgx.Rows) error {
		key, err := scanMarkKey(found)
		s := all[key.no]
		s.marks++
		c.checkMark(uuid.Nil, s, key.ref)
		return err
	}, "SELECT session_no, webhook_id, kind, delivery_id FROM @.marks WHERE session_no = ANY($1)", nos)
	for _, r := range list {
		s := all[r.no]
		c.expect(s.batches == r.batches && s.events == r.Events, "session %s: %d events in %d rows stored, %d in %d counted", r.ID, s.events, s.batches, r.Events, r.batches)
		c.expect(s.bytes == r.Bytes, "session %s: events of %d bytes stored, %d counted", r.ID, s.bytes, r.Bytes)
		c.expect(s.marks == r.marks, "session %s: %d marks stored, %d counted", r.ID, s.marks, r.marks)
		c.expect(c.expiring[r.no], "session %s: does not expire", r.ID)
	}
	return err
}

// checkMark checks that a session has one mark of a kind for a webhook. Of updates there may be several.
func (c *checker) checkMark(id uuid.UUID, s *checkedSession, ref engine.DeliveryRef) {
	one := ref
	if ref.Kind != engine.KindUpdate {
		one.ID = uuid.Nil
	}
	c.expect(!s.marked[one], "session %s: two %s deliveries for webhook %d, one is %s", id, ref.Kind, ref.WebhookID, ref.ID)
	s.marked[one] = true
}

// places checks the entries that refer to deliveries.
func (c *checker) places() error {
	err := c.query(func(found pgx.Rows) error {
		var at place
		var class int16
		err := found.Scan(&at.lane.WebhookID, &class, &at.at, (*[16]byte)(&at.id))
		c.expect(false, "queue %d %d %d %s: not the place of a delivery", at.lane.WebhookID, class, at.at, at.id)
		return err
	}, "SELECT q.webhook_id, q.class, q.at, q.delivery_id FROM @.queue q LEFT JOIN LATERAL (SELECT * FROM @.deliveries WHERE id = q.delivery_id OFFSET 0) d ON true "+
		"WHERE d.id IS NULL OR d.webhook_id <> q.webhook_id OR d.next_at <> q.at OR d.status <> ALL($1) OR (d.kind = $2) <> (q.class = 1) LIMIT $3", waitingStatuses, int16(engine.KindTest), maxViolations)
	if err != nil {
		return err
	}
	return c.query(func(found pgx.Rows) error {
		var webhook, status int
		var id uuid.UUID
		err := found.Scan(&webhook, &status, (*[16]byte)(&id))
		c.expect(false, "exceptions %d %d %s: not the place of a delivery", webhook, status, id)
		return err
	}, "SELECT e.webhook_id, e.status, e.delivery_id FROM @.exceptions e LEFT JOIN LATERAL (SELECT * FROM @.deliveries WHERE id = e.delivery_id OFFSET 0) d ON true "+
		"WHERE d.id IS NULL OR d.webhook_id <> e.webhook_id OR d.status <> e.status LIMIT $1", maxViolations)
}

// leftovers looks for rows that belong to nothing, and for the one row of fleet.
func (c *checker) leftovers() error {
	err := c.query(func(found pgx.Rows) error {
		var n int
		err := found.Scan(&n)
		c.expect(n == 1, "fleet: has %d rows, want 1", n)
		return err
	}, "SELECT count(*) FROM @.fleet")
	if err != nil {
		return err
	}
	for _, part := range []string{
		"SELECT 'events ' || e.n || ' of session number ' || e.session_no FROM @.events e WHERE NOT EXISTS (SELECT FROM @.sessions s WHERE s.no = e.session_no OFFSET 0)",
		"SELECT 'mark of session number ' || m.session_no || ' for webhook ' || m.webhook_id FROM @.marks m WHERE NOT EXISTS (SELECT FROM @.sessions s WHERE s.no = m.session_no OFFSET 0)",
		"SELECT 'attempt ' || a.n || ' of delivery ' || a.delivery_id FROM @.attempts a WHERE NOT EXISTS (SELECT FROM @.deliveries d WHERE d.id = a.delivery_id OFFSET 0)",
		"SELECT 'payload of delivery ' || p.delivery_id FROM @.payloads p WHERE NOT EXISTS (SELECT FROM @.deliveries d WHERE d.id = p.delivery_id OFFSET 0)",
		"SELECT 'health of webhook ' || h.webhook_id FROM @.health h WHERE NOT EXISTS (SELECT FROM @.webhooks w WHERE w.id = h.webhook_id OFFSET 0)",
	} {
		err := c.query(func(found pgx.Rows) error {
			var name string
			err := found.Scan(&name)
			c.expect(false, "%s: belongs to nothing", name)
			return err
		}, part+" LIMIT $1", maxViolations)
		if err != nil {
			return err
		}
	}
	return nil
}

// small checks the tables that hold JSON.
func (c *checker) small() error {
	for _, part := range []struct {
		name, sql string
		check     func(text []byte, key string, at int64) bool
	}{
		{"webhook", "SELECT settings::text, id::text, revision FROM @.webhooks", func(text []byte, key string, at int64) bool {
			var w engine.Webhook
			c.report.Webhooks++
			return json.Unmarshal(text, &w) == nil && fmt.Sprint(w.ID) == key && w.Revision == uint64(at)
		}},
		{"health of webhook", "SELECT health::text, webhook_id::text, 0::bigint FROM @.health", func(text []byte, _ string, _ int64) bool {
			var h engine.Health
			return json.Unmarshal(text, &h) == nil && !h.IsZero() && (h.Failures > 0) == !h.FirstFailedAt.IsZero()
		}},
		{"job", "SELECT job::text, no::text, 0::bigint FROM @.jobs", func(text []byte, _ string, _ int64) bool {
			var j job
			return json.Unmarshal(text, &j) == nil && (j.Cancellation != nil || j.Replay != nil || j.Erasure != nil)
		}},
		{"request", "SELECT done::text, encode(key, 'hex'), at FROM @.request_keys", func(text []byte, key string, at int64) bool {
			var d engine.Done
			return json.Unmarshal(text, &d) == nil && len(key) == 2*len(engine.OnceKey{}) && fields.Instant(d.At) == at
		}},
	} {
		err := c.query(func(found pgx.Rows) error {
			var text []byte
			var key string
			var at int64
			err := found.Scan(&text, &key, &at)
			c.expect(err != nil || part.check(text, key, at), "%s %s: cannot be read, or is not what its columns say", part.name, key)
			return err
		}, part.sql)
		if err != nil {
			return err
		}
	}
	return nil
}

// fanOuts checks the sessions whose deliveries are still to be made.
func (c *checker) fanOuts() error {
	return c.query(func(found pgx.Rows) error {
		var no int64
		var sessions int
		var body []byte
		if err := found.Scan(&no, &sessions, &body); err != nil {
			return err
		}
		f, err := decodeFanOut(no, body)
		if err != nil {
			c.expect(false, "%v", err)
			return nil
		}
		c.expect(len(f.sessions) == sessions && sessions > 0 && f.after <= f.last, "fan-out %d: %d sessions stored, %d counted, for webhooks above %d up to %d", no, len(f.sessions), sessions, f.after, f.last)
		return nil
	}, "SELECT no, sessions, body FROM @.fan_outs ORDER BY no")
}

// sequences checks that no number can be given twice.
func (c *checker) sequences() error {
	for _, one := range []struct {
		sequence, newest string
		block            int64
	}{
		{"webhook_ids", "SELECT max(id) FROM @.webhooks", 1},
		{"session_nos", "SELECT max(no) FROM @.sessions", sessionBlock},
		{"numbers", "SELECT max(no) FROM @.jobs", 1},
		{"numbers", "SELECT max(no) FROM @.fan_outs", 1},
	} {
		err := c.query(func(found pgx.Rows) error {
			var next, newest int64
			err := found.Scan(&next, &newest)
			c.expect(newest < next, "%s: %d is stored, and the sequence goes on with %d", one.sequence, newest, next)
			return err
		}, "SELECT last_value + CASE WHEN is_called THEN $1::bigint ELSE 0 END, COALESCE(("+one.newest+")::bigint, $2) FROM @."+one.sequence, one.block, int64(math.MinInt64))
		if err != nil {
			return err
		}
	}
	return nil
}
