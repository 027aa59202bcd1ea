package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// rows are rows of a table as a batch sees them: as they were read, and as the batch has changed them so far.
type rows[K comparable, V any] struct {
	stored  map[K]*V // what was read, nil where there is no row
	changed map[K]*V // what the batch makes of it, nil where it removes the row
	order   []K      // of changed, by the first change
	damaged map[K]error
}

// get returns a row, nil if there is none. known is false if the batch has not read it yet.
func (t *rows[K, V]) get(key K) (row *V, known bool) {
	if row, known = t.changed[key]; !known {
		row, known = t.stored[key]
	}
	return row, known
}

// read takes over a row that was read.
func (t *rows[K, V]) read(key K, row *V) {
	if t.stored == nil {
		t.stored = make(map[K]*V)
	}
	t.stored[key] = row
}

// readOr takes over a row that was read, or the error of a damaged one. It returns any other error.
func (t *rows[K, V]) readOr(key K, row *V, err error) error {
	switch {
	case err == nil:
		t.read(key, row)
	case errors.Is(err, ErrCorrupt):
		set(&t.damaged, key, err)
	default:
		return err
	}
	return nil
}

// put replaces a row. It must be known. nil removes it.
func (t *rows[K, V]) put(key K, row *V) {
	if t.changed == nil {
		t.changed = make(map[K]*V)
	}
	if _, again := t.changed[key]; !again {
		t.order = append(t.order, key)
	}
	t.changed[key] = row
}

// reset forgets all changes.
func (t *rows[K, V]) reset() { t.changed, t.order = nil, nil }

// each calls f with each changed row as it was and as it is, except those that were made and removed again.
func (t *rows[K, V]) each(f func(key K, before, after *V)) {
	for _, key := range t.order {
		if before, after := t.stored[key], t.changed[key]; before != nil || after != nil {
			f(key, before, after)
		}
	}
}

// markKey is the key of the table marks.
type markKey struct {
	no  int64
	ref engine.DeliveryRef
}

// batch is the unit of work of one transaction. Mutations read and change rows in memory, one mutation after another; flush writes what they have
// changed. What follows from a delivery's row (its place in the queue, the exceptions, the counts, its expiry) is worked out by flush from the
// row before and after, so nothing else need know of it.
type batch struct {
	s      *Store
	conn   *pgx.Conn
	ctx    context.Context // of the transaction
	n      int64           // the number of the batch row
	epoch  int64           // of the webhooks, as the transaction has read it
	raised int64           // the epoch that it has made of it; 0 for none. See lockSet
	forced map[uint32]bool // webhooks whose health is written also if it is the one that was known
	began  time.Time

	unknown map[uint32]unknown // settings of webhooks that were read, which a newer version has stored

	changes int   // how many there were, to see whether a mutation has failed before its first one
	walked  bool  // a mutation has sent SQL of its own, so its changes cannot be forgotten without a rollback
	failure error // of the transaction, that a mutation has met

	sessions   rows[uuid.UUID, sessionRow]
	deliveries rows[uuid.UUID, deliveryRow]
	payloads   rows[uuid.UUID, []byte] // stored is not read: see payload
	marks      rows[markKey, struct{}]
	webhooks   rows[uint32, engine.Webhook]
	onces      rows[engine.OnceKey, engine.Done]
	jobs       rows[int64, job]
	fanOuts    rows[int64, fanOut]

	eventIDs map[uuid.UUID]map[string]bool // the ids of the stored events of sessions, by session id
	records  map[int64][]engine.EventBatch // the stored events of sessions, by no
	asked    map[uuid.UUID]bool            // sessions whose events were read ahead, or were to be
	pairs    map[markPair]*pairMarks       // the marks of the table that the batch knows; see readMarks
	events   []eventsRow                   // to insert
	attempts []attemptRow                  // to insert
	gone     []int64                       // sessions whose events and marks are removed, by no
	expiring [2]expiring                   // by kind
	extra    []statement                   // further statements of the flush, in order; see exec
	hooks    *engine.WebhookSet            // as of this batch
	health   map[uint32]engine.Health      // those that it has changed
	claims   []claim                       // deliveries that are claimed as they are made
	ends     []uuid.UUID                   // claims that end with it
	queued   []place                       // what has come to wait, or waits at another place; set by flush
	after    []func()                      // run once it is durable

	sessionNos             noBlock
	fanningOut, remembered int64 // how many more sessions fan out, and requests are remembered
	trimmed                bool  // it has looked for requests that are too many
}

// statement is a statement to send, with its arguments.
type statement struct {
	sql  string
	args []any
}

func (s *Store) newBatch(ctx context.Context, conn *pgx.Conn) *batch {
	b := &batch{s: s, conn: conn, ctx: ctx, n: s.nextBatch, began: time.Now().UTC().Round(0), sessionNos: s.sessionNos}
	s.nextBatch++
	b.reset()
	return b
}

// reset forgets all changes, but not what was read.
func (b *batch) reset() {
	b.changes = 0
	b.sessions.reset()
	b.deliveries.reset()
	b.payloads.reset()
	b.marks.reset()
	b.webhooks.reset()
	b.onces.reset()
	b.jobs.reset()
	b.fanOuts.reset()
	b.events, b.attempts, b.gone, b.extra, b.claims, b.ends, b.after = nil, nil, nil, nil, nil, nil, nil
	b.expiring = [2]expiring{}
	b.hooks, b.health, b.forced = b.s.hooks.Load(), make(map[uint32]engine.Health), nil
	b.fanningOut, b.remembered, b.trimmed = 0, 0, false
}

// needs are the rows that mutations say they will read. All are read in one round trip, and locked. A row that nobody has named is read on its own
// when it is asked for.
type needs struct {
	sessions   map[uuid.UUID]bool // the value tells whether the ids of the events are needed, too
	records    map[uuid.UUID]bool // sessions whose events are needed
	deliveries map[uuid.UUID]bool
	webhooks   map[uint32]bool
	onces      map[engine.OnceKey]bool
}

// session, delivery, webhook and once name a row.
func (n *needs) session(id uuid.UUID, withEventIDs bool) {
	if id != uuid.Nil {
		set(&n.sessions, id, n.sessions[id] || withEventIDs)
	}
}

// record names the events of a session.
func (n *needs) record(id uuid.UUID) {
	if len(n.records) < maxRecords {
		set(&n.records, id, true)
	}
}
func (n *needs) delivery(id uuid.UUID) { set(&n.deliveries, id, true) }
func (n *needs) webhook(id uint32)     { set(&n.webhooks, id, true) }
func (n *needs) once(o *engine.Once) {
	if o != nil {
		set(&n.onces, o.Key, true)
	}
}

func set[K comparable, V any](m *map[K]V, key K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[key] = v
}

// dropKnown drops what the batch has read already.
func (n *needs) dropKnown(b *batch) {
	maps.DeleteFunc(n.sessions, func(id uuid.UUID, ids bool) bool {
		_, known := b.sessions.get(id)
		return known && (!ids || b.eventIDs[id] != nil)
	})
	maps.DeleteFunc(n.records, func(id uuid.UUID, _ bool) bool { return b.asked[id] })
	maps.DeleteFunc(n.deliveries, func(id uuid.UUID, _ bool) bool { _, known := b.deliveries.get(id); return known })
	maps.DeleteFunc(n.webhooks, func(id uint32, _ bool) bool { _, known := b.webhooks.get(id); return known })
	maps.DeleteFunc(n.onces, func(key engine.OnceKey, _ bool) bool { _, known := b.onces.get(key); return known })
}

func (n *needs) empty() bool {
	return len(n.sessions)+len(n.records)+len(n.deliveries)+len(n.webhooks)+len(n.onces) == 0
}

// load reads rows, in one round trip. With begin, that also begins the transaction and takes the fence: the lock of the writer's row, which a
// process that takes over waits for.
func (b *batch) load(n *needs, begin bool) error {
	var p pgx.Batch
	if begin {
		p.Queue("BEGIN")
		p.Queue(b.s.sql("SELECT FROM @.writers WHERE id = $1 FOR KEY SHARE"), b.s.writerID).Exec(func(tag pgconnTag) error {
			if tag.RowsAffected() == 0 {
				return errFenced
			}
			return nil
		})
		if b.s.fleet != nil {
			p.Queue(b.s.sql("SELECT epoch FROM @.fleet")).QueryRow(func(row pgx.Row) error { return row.Scan(&b.epoch) })
		}
	}
	n.dropKnown(b)
	b.queueSessions(&p, n)
	b.queueRecords(&p, n)
	b.queueDeliveries(&p, n)
	if len(n.webhooks) > 0 {
		b.queueWebhooks(&p, slices.Sorted(maps.Keys(n.webhooks)))
	}
	if len(n.onces) > 0 {
		b.queueOnces(&p, slices.Collect(maps.Keys(n.onces)))
	}
	if p.Len() == 0 {
		return nil
	}
	err := b.s.send(b.ctx, b.conn, &p)
	if err != nil {
		b.failure = err // what was read is not whole
	}
	if err == nil && begin && b.s.fleet != nil && b.epoch != b.s.fleet.epoch.Load() {
		err = b.adopt()
	}
	return err
}

// queueSessions reads sessions, and the ids of their events where they are needed. Locks are taken in the order of the ids.
func (b *batch) queueSessions(p *pgx.Batch, n *needs) {
	var ids, withIDs uuids
	for id, events := range n.sessions {
		if _, known := b.sessions.get(id); !known {
			ids = append(ids, id)
			b.sessions.read(id, nil)
		}
		if events {
			withIDs = append(withIDs, id)
			if b.eventIDs == nil {
				b.eventIDs = make(map[uuid.UUID]map[string]bool)
			}
			b.eventIDs[id] = make(map[string]bool)
		}
	}
	if len(ids) > 0 {
		p.Queue(b.s.sql("SELECT "+sessionColumns+" FROM @.sessions WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"), ids).Query(func(found pgx.Rows) error {
			for found.Next() {
				r, err := scanSession(found)
				if r == nil {
					return err
				}
				if err := b.sessions.readOr(r.ID, r, err); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if len(withIDs) == 0 {
		return
	}
	p.Queue(b.s.sql("SELECT s.id, e.n, e.ids FROM @.sessions s CROSS JOIN LATERAL (SELECT n, ids FROM @.events WHERE session_no = s.no OFFSET 0) e WHERE s.id = ANY($1) AND e.ids IS NOT NULL"), withIDs).
		Query(func(found pgx.Rows) error {
			for found.Next() {
				var id uuid.UUID
				var n int
				var list []byte
				if err := found.Scan((*[16]byte)(&id), &n, &list); err != nil {
					return err
				}
				known, ok := decodeIDs(list)
				if !ok { // their ids are not known any more
					b.s.passes(damage("events", fmt.Sprintf("%d of session %s", n, id)))
				}
				for _, one := range known {
					b.eventIDs[id][one] = true
				}
			}
			return nil
		})
}

// Bounds of what is read ahead of events: those of so many sessions, of at most so many bytes each. Others are read one by one.
const (
	maxRecords     = 1000
	maxRecordBytes = 32 << 10
)

// queueRecords reads the events of sessions.
func (b *batch) queueRecords(p *pgx.Batch, n *needs) {
	if len(n.records) == 0 {
		return
	}
	ids := make(uuids, 0, len(n.records))
	for id := range n.records {
		ids = append(ids, id)
		set(&b.asked, id, true)
	}
	p.Queue(b.s.sql("SELECT e.session_no, e.received_at, e.body FROM @.sessions s CROSS JOIN LATERAL (SELECT session_no, n, received_at, body FROM @.events WHERE session_no = s.no OFFSET 0) e WHERE s.id = ANY($1) AND s.bytes <= $2 "+
		"ORDER BY e.session_no, e.n"), ids, maxRecordBytes).Query(func(found pgx.Rows) error {
		read := make(map[int64][]engine.EventBatch)
		for found.Next() {
			var r eventsRow
			if err := found.Scan(&r.no, &r.receivedAt, &r.body); err != nil {
				return err
			}
			read[r.no] = append(read[r.no], r.batch())
		}
		for no, list := range read {
			b.knowRecord(no, list)
		}
		return nil
	})
}

// knowRecord takes over the stored events of a session; none for one that the batch makes.
func (b *batch) knowRecord(no int64, stored []engine.EventBatch) {
	if b.records == nil {
		b.records = make(map[int64][]engine.EventBatch)
	}
	b.records[no] = stored
}

func (b *batch) queueDeliveries(p *pgx.Batch, n *needs) {
	if len(n.deliveries) == 0 {
		return
	}
	ids := make(uuids, 0, len(n.deliveries))
	for id := range n.deliveries {
		ids = append(ids, id)
		b.deliveries.read(id, nil)
	}
	p.Queue(b.s.sql("SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"), ids).Query(func(found pgx.Rows) error {
		for found.Next() {
			r, err := scanDelivery(found)
			if r == nil {
				return err
			}
			if err := b.deliveries.readOr(r.ID, r, err); err != nil {
				return err
			}
		}
		return nil
	})
}

// session returns a session, nil if it is not stored. A damaged one is an ErrCorrupt.
func (b *batch) session(id uuid.UUID) (*sessionRow, error) {
	if _, known := b.sessions.get(id); !known {
		var n needs
		n.session(id, false)
		if err := b.load(&n, false); err != nil {
			return nil, err
		}
	}
	r, _ := b.sessions.get(id)
	if r == nil {
		return nil, b.sessions.damaged[id]
	}
	return r, nil
}

// eventIDsOf returns the ids of a session's events, with those that the batch has added.
func (b *batch) eventIDsOf(id uuid.UUID) (map[string]bool, error) {
	if b.eventIDs[id] == nil {
		var n needs
		n.session(id, true)
		if err := b.load(&n, false); err != nil {
			return nil, err
		}
	}
	r, _ := b.sessions.get(id)
	if r == nil {
		return nil, nil
	}
	all := b.eventIDs[id]
	if stored := b.sessions.stored[id]; stored == nil || stored.no != r.no { // they are those of a session that is gone
		all = nil
	}
	for i := range b.events {
		if b.events[i].no != r.no || len(b.events[i].ids) == 0 {
			continue
		}
		if all = maps.Clone(all); all == nil {
			all = make(map[string]bool)
		}
		for _, one := range b.events[i].ids {
			all[one] = true
		}
	}
	return all, nil
}

// putSession replaces a session's row.
func (b *batch) putSession(r *sessionRow) {
	b.changes++
	b.sessions.put(r.ID, r)
}

// addEvents adds a row of events.
func (b *batch) addEvents(r eventsRow) {
	b.changes++
	b.events = append(b.events, r)
}

// removeSession removes a session with its events and marks. Its deliveries stay.
func (b *batch) removeSession(r *sessionRow) {
	b.changes++
	b.sessions.put(r.ID, nil)
	b.gone = append(b.gone, r.no)
}

// sessionRecord returns a session's events. If they were not read ahead, it reads them in a round trip of its own.
func (b *batch) sessionRecord(r *sessionRow) (engine.SessionRecord, error) {
	record := engine.SessionRecord{Head: r.SessionHead}
	stored, known := b.records[r.no]
	if known {
		record.Batches = slices.Clone(stored)
	} else {
		ctx, cancel := context.WithTimeout(b.ctx, tripTimeout)
		defer cancel()
		b.s.trips.Add(1)
		var err error
		if record, err = b.s.readEvents(ctx, b.conn, r); err != nil {
			return record, err
		}
	}
	for i := range b.events {
		if b.events[i].no == r.no {
			record.Batches = append(record.Batches, b.events[i].batch())
		}
	}
	return record, nil
}

// delivery returns a delivery, nil if it is not stored. A damaged one is an ErrCorrupt.
func (b *batch) delivery(id uuid.UUID) (*deliveryRow, error) {
	if _, known := b.deliveries.get(id); !known {
		var n needs
		n.delivery(id)
		if err := b.load(&n, false); err != nil {
			return nil, err
		}
	}
	r, _ := b.deliveries.get(id)
	if r == nil {
		return nil, b.deliveries.damaged[id]
	}
	return r, nil
}

// createDelivery gives a new delivery its id, the time of its creation and the revision of its webhook, and stores it.
func (b *batch) createDelivery(r *deliveryRow) {
	r.CreatedAt = b.began
	r.ID = b.s.ids.next(r.CreatedAt)
	if w := b.hooks.Get(r.WebhookID); w != nil {
		r.WebhookRevision = w.Revision
	}
	b.deliveries.read(r.ID, nil)
	b.saveDelivery(r)
}

// saveDelivery replaces a delivery's row.
func (b *batch) saveDelivery(r *deliveryRow) {
	b.changes++
	b.deliveries.put(r.ID, r)
}

// removeDelivery removes a delivery with its attempts and its payload.
func (b *batch) removeDelivery(r *deliveryRow) {
	b.changes++
	b.deliveries.put(r.ID, nil)
	b.payloads.put(r.ID, nil)
	b.attempts = slices.DeleteFunc(b.attempts, func(a attemptRow) bool { return a.delivery == r.ID })
}

// storePayload stores the payload of a delivery, in the place of the one that it has. The caller saves the delivery.
func (b *batch) storePayload(r *deliveryRow, body []byte) {
	b.changes++
	r.hasPayload = true
	b.payloads.put(r.ID, &body)
}

// addAttempt adds a row to attempts.
func (b *batch) addAttempt(id uuid.UUID, n int, a engine.Attempt) {
	b.changes++
	b.attempts = append(b.attempts, attemptRow{delivery: id, n: n, Attempt: a})
}

// exec adds a statement to the flush, behind all rows of the batch. It is for what no other mutation reads.
func (b *batch) exec(sql string, args ...any) {
	b.changes++
	b.extra = append(b.extra, statement{b.s.sql(sql), args})
}

// query reads by SQL of the caller's. It sees what is stored, and not what the batch has changed so far: only a mutation that walks, and so is the
// first one of its batch, may rely on the rows that it finds. What it finds it asks for again by session and delivery, which lock.
func (b *batch) query(f func(pgx.Rows) error, sql string, args ...any) error {
	b.walked = true
	ctx, cancel := context.WithTimeout(b.ctx, tripTimeout)
	defer cancel()
	b.s.trips.Add(1)
	found, err := b.conn.Query(ctx, b.s.sql(sql), args...)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		if err := f(found); err != nil {
			return err
		}
	}
	return found.Err()
}

// number returns a number for a job or a fan-out, or for a webhook. None is given twice.
func (b *batch) number(sequence string) (n int64, err error) {
	err = b.query(func(found pgx.Rows) error { return found.Scan(&n) }, "SELECT nextval($1::text::regclass)", b.s.sql("@."+sequence))
	return n, err
}

// healthOf returns the health of a webhook's endpoint as of this batch.
func (b *batch) healthOf(webhookID uint32) engine.Health {
	if h, ok := b.health[webhookID]; ok {
		return h
	}
	return b.s.health[webhookID]
}

// setHealth sets it. Unchanged health, by far the most frequent case, costs no write.
func (b *batch) setHealth(webhookID uint32, h engine.Health) {
	if !sameHealth(h, b.healthOf(webhookID)) {
		b.changes++
	}
	b.health[webhookID] = h
}

// sameHealth compares the stored parts of two healths.
func sameHealth(a, b engine.Health) bool {
	a.Order, a.Notified = b.Order, b.Notified
	return a == b
}
