package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/storage/internal/fields"
)

// Bounds of one step of retention.
const (
	expireStep = 200 // records of expiry looked at, of each kind
	// expireChanges is how many rows of events a step may delete before it ends: a session may have thousands. expireLooks is how many deliveries of
	// sessions a step may look at: a session may have thousands of these, too.
	expireChanges = 2000
	expireLooks   = 5000
	// maxFanningLooked is how many sessions that fan out are looked at. While there are more, what might be one of them stays.
	maxFanningLooked = 50_000
)

const (
	// waitingRecheck is when to look again at a session that has outlived its retention but still has deliveries that wait.
	waitingRecheck = time.Hour
	// damagedRecheck is when to try again to read what is damaged.
	damagedRecheck = 24 * time.Hour
)

// expiryKind says how records of one kind expire.
type expiryKind struct {
	kind int16
	keep time.Duration
	// step is how many records a step looks at, and from is where it begins in expiry; see passing.
	step int
	from int64
}

// name is what an id of the column ids stands for, in an ErrCorrupt.
func (e expiryKind) name(id []byte) (table string, key any) {
	if e.kind == expirySession {
		return "session number", (&due{id: id}).no()
	}
	return "delivery", uuid.UUID(id)
}

// idSize is the size of an id in the column ids of expiry.
func (e expiryKind) idSize() int {
	if e.kind == expirySession {
		return 8
	}
	return 16
}

// due is a record whose retention may have ended.
type due struct {
	id []byte // as it stands in expiry
	at int64  // the time that it stands under
}

func (d *due) no() int64      { return int64(binary.BigEndian.Uint64(d.id)) }
func (d *due) id16() [16]byte { return [16]byte(d.id) }

// expiryRow is a row of expiry, or its beginning.
type expiryRow struct {
	at, no int64
	size   int // of all its ids
	ids    []byte
	damage error
}

// looked is what a step has found out about some records.
type looked struct {
	n     int              // how many of them it has looked at
	again map[int64][]byte // ids to look at again, by the time that they stand under from now on
}

func (l *looked) later(at time.Time, id []byte) { l.laterThan(fields.Instant(at), id) }

func (l *looked) laterThan(at int64, id []byte) {
	if l.again == nil {
		l.again = make(map[int64][]byte)
	}
	l.again[at] = append(l.again[at], id...)
}

// expire does a step of the retention of sessions, or of that of deliveries.
func (s *Store) expire(ctx context.Context, e expiryKind, now time.Time, m *engine.Maintained) error {
	e.from = s.passingOf(int(e.kind), expireStep, now).from
	if err := s.sweep(ctx, e, now, m); err != nil {
		return err
	}
	at := func(p passing) expiryKind { e.step, e.from = p.step, p.from; return e }
	oldest := now.Add(-e.keep)
	rows := timed{name: fmt.Sprintf("expiry %d", e.kind), to: oldest,
		front: fmt.Sprintf("SELECT at, ids FROM @.expiry WHERE kind = %d AND at >= $1 AND at <= $2 ORDER BY at, no LIMIT 1", e.kind)}
	return s.workAround(ctx, &work{
		kind: int(e.kind), most: expireStep,
		step: func(b *batch, p passing, m *engine.Maintained) error { return b.stepExpiry(at(p), now, m) },
		setAside: func(b *batch, p passing, cause error, m *engine.Maintained) error {
			return b.setAsideExpiry(at(p), oldest, cause, m)
		},
		behind: func(p *passing, cause error) error {
			if err := s.passRows(ctx, rows, p, cause, now); err != nil {
				return err
			}
			s.beginSweep(e.kind, -p.from)
			return nil
		},
	}, now, m)
}

// stepExpiry removes records of a kind that have outlived their retention. It moves m.Next to when to call it again: now if there may be more.
func (b *batch) stepExpiry(e expiryKind, now time.Time, m *engine.Maintained) error {
	oldest := now.Add(-e.keep)
	rows, err := b.expiryRows(e, oldest)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return b.query(func(found pgx.Rows) error {
			var at int64
			err := found.Scan(&at)
			m.Next = earlier(m.Next, fields.Time(at).Add(e.keep))
			return err
		}, "SELECT at FROM @.expiry WHERE kind = $1 AND at >= $2 ORDER BY at LIMIT 1", e.kind, e.from)
	}
	m.Next = now // there may be more
	var list []due
	for _, r := range rows {
		for id := range slices.Chunk(r.ids, e.idSize()) {
			list = append(list, due{id, r.at})
		}
	}
	var found looked
	if e.kind == expirySession {
		found, err = b.expireSessions(list, oldest, m)
	} else {
		found, err = b.expireDeliveries(list, oldest, now, m)
	}
	if err != nil {
		return err
	}
	b.moveExpiry(e, rows, &found, oldest, m)
	return nil
}

// setAsideExpiry moves the first record to a later time, and names it, because the server cannot read something that has to be read or removed with it.
func (b *batch) setAsideExpiry(e expiryKind, oldest time.Time, cause error, m *engine.Maintained) error {
	rows, err := b.expiryRows(e, oldest)
	if err != nil {
		return err
	}
	var l looked
	for _, r := range rows {
		if r.damage == nil {
			l.n = 1
			l.later(oldest.Add(damagedRecheck), r.ids)
			table, key := e.name(r.ids)
			m.Damaged = append(m.Damaged, fmt.Errorf("%w: %w", damage(table, key), cause))
		}
	}
	b.moveExpiry(e, rows, &l, oldest, m)
	return nil
}

// expiryRows reads the first rows whose time has come, with so many ids as a step looks at.
func (b *batch) expiryRows(e expiryKind, oldest time.Time) (rows []expiryRow, err error) {
	left, size := e.step, e.idSize()
	err = b.query(func(found pgx.Rows) error {
		var r expiryRow
		if err := found.Scan(&r.at, &r.no, &r.size, &r.ids); err != nil {
			return err
		}
		if r.size%size != 0 || r.size == 0 {
			r.ids, r.damage = nil, damage("expiry", fmt.Sprintf("%d %d %d", e.kind, r.at, r.no))
		}
		if left == 0 {
			return nil
		}
		r.ids = r.ids[:min(len(r.ids), left*size)]
		left -= len(r.ids) / size
		rows = append(rows, r)
		return nil
	}, "SELECT at, no, length(ids), substr(ids, 1, $3) FROM @.expiry WHERE kind = $1 AND at <= $2 AND at >= $5 ORDER BY at, no LIMIT $4",
		e.kind, fields.Instant(oldest), size*e.step, e.step, e.from)
	return rows, err
}

// moveExpiry takes from rows what a step has looked at, and puts what it looks at again to its new time. A damaged row stays for whoever examines the
// database, under a later time, and a sweep looks for what it has lost.
func (b *batch) moveExpiry(e expiryKind, rows []expiryRow, l *looked, oldest time.Time, m *engine.Maintained) {
	var at, no []int64
	left := l.n * e.idSize()
	for _, r := range rows {
		if r.damage != nil {
			m.Damaged = append(m.Damaged, r.damage)
			b.after = append(b.after, func() { b.s.beginSweep(e.kind, r.no) })
			b.exec("UPDATE @.expiry SET at = $4 WHERE kind = $1 AND at = $2 AND no = $3", e.kind, r.at, r.no, fields.Instant(oldest.Add(damagedRecheck)))
			continue
		}
		switch done := min(left, len(r.ids)); {
		case done == r.size:
			at, no = append(at, r.at), append(no, r.no)
			left -= done
		case done > 0:
			b.exec("UPDATE @.expiry SET ids = substr(ids, $4) WHERE kind = $1 AND at = $2 AND no = $3", e.kind, r.at, r.no, done+1)
			left -= done
		}
	}
	if len(no) > 0 {
		b.exec(deleteOf("expiry", "SELECT unnest($2::bigint[]) AS at, unnest($3::bigint[]) AS no", "kind = $1 AND at = t.at AND no = t.no"), e.kind, at, no)
	}
	b.addExpiry(e.kind, l)
}

// addExpiry puts what is looked at again to its new time.
func (b *batch) addExpiry(kind int16, l *looked) {
	if len(l.again) == 0 {
		return
	}
	at := slices.Sorted(maps.Keys(l.again))
	ids := make([][]byte, len(at))
	for i := range at {
		ids[i] = l.again[at[i]]
	}
	b.exec("INSERT INTO @.expiry (kind, at, ids) SELECT $1, unnest($2::bigint[]), unnest($3::bytea[])", kind, at, ids)
}

// expireSessions removes sessions whose last event came before oldest. Those that stay get a time to look again.
func (b *batch) expireSessions(list []due, oldest time.Time, m *engine.Maintained) (l looked, err error) {
	nos := make([]int64, len(list))
	for i := range list {
		nos[i] = list[i].no()
	}
	stored, damaged, err := b.lockSessions(nos)
	if err != nil {
		return l, err
	}
	var over []*sessionRow
	seen := make(map[int64]bool) // a sweep may have given it a second place
	changes, looks := 0, 0
	for i, no := range nos {
		r := stored[no]
		isOver := r != nil && r.Expired(oldest)
		if isOver {
			changes, looks = changes+r.batches, looks+len(r.Deliveries)+r.marks
			if len(over) > 0 && (changes > expireChanges || looks > expireLooks) {
				break
			}
		}
		l.n = i + 1
		switch {
		case seen[no]:
		case damaged[no] != nil: // go on with the others
			m.Damaged = append(m.Damaged, damaged[no])
			l.later(oldest.Add(damagedRecheck), list[i].id)
		case r == nil: // erased already
		case isOver:
			over = append(over, r)
		default:
			l.later(r.LastReceivedAt, list[i].id)
		}
		seen[no] = true
	}
	waits, err := b.waiting(over)
	if err != nil {
		return l, err
	}
	for _, r := range over {
		if waits[r.no] {
			l.later(oldest.Add(waitingRecheck), sessionExpiryID(r.no))
			continue
		}
		b.removeSession(r)
		m.Expired.Sessions++
	}
	return l, nil
}

// sessionExpiryID is a session's id in expiry.
func sessionExpiryID(no int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(no)) }

// waiting returns which sessions have a delivery that is scheduled or pending, or that may still have to be made. A damaged delivery is never sent, so its
// session need not be kept for it. It asks the table, so nothing in the batch may have changed deliveries.
func (b *batch) waiting(list []*sessionRow) (waits map[int64]bool, err error) {
	waits = make(map[int64]bool)
	var ids uuids
	var marked []int64
	for _, r := range list {
		for _, ref := range r.Deliveries {
			ids = append(ids, ref.ID)
		}
		if r.marks > 0 {
			marked = append(marked, r.no)
		}
	}
	look := func(found pgx.Rows) error {
		d, err := scanDelivery(found)
		switch {
		case b.s.passes(err):
		case err != nil:
			return err
		case d.Status.Waiting():
			waits[d.sessionNo] = true
		}
		return nil
	}
	if len(ids) > 0 {
		err = b.query(look, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1) AND status = ANY($2)", ids, waitingStatuses)
	}
	if err == nil && len(marked) > 0 {
		err = b.query(look, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY(ARRAY(SELECT delivery_id FROM @.marks WHERE session_no = ANY($1))) AND status = ANY($2)", marked, waitingStatuses)
	}
	if err == nil && len(list) > 0 {
		err = b.fansOut(list, waits)
	}
	return waits, err
}

// waitingStatuses are those of deliveries that wait, as they are stored.
var waitingStatuses = func() (all []int16) {
	for s := engine.StatusScheduled; s <= engine.StatusFiltered; s++ {
		if s.Waiting() {
			all = append(all, int16(s))
		}
	}
	return all
}()

// fansOut adds the sessions of which deliveries may still have to be made. Few sessions are that old and fan out: who takes in events is younger.
func (b *batch) fansOut(list []*sessionRow, waits map[int64]bool) error {
	left := b.s.fanningOut.Load()
	if left == 0 {
		return nil
	}
	of := make(map[uuid.UUID]int64, len(list))
	for _, r := range list {
		of[r.ID] = r.no
		waits[r.no] = waits[r.no] || left > maxFanningLooked
	}
	if left > maxFanningLooked {
		return nil
	}
	return b.query(func(found pgx.Rows) error {
		var no int64
		var body []byte
		if err := found.Scan(&no, &body); err != nil {
			return err
		}
		f, err := decodeFanOut(no, body)
		if b.s.passes(err) {
			return nil
		}
		for i := range f.sessions {
			if no, ok := of[f.sessions[i].id]; ok {
				waits[no] = true
			}
		}
		return err
	}, "SELECT no, body FROM @.fan_outs ORDER BY no")
}

// expireDeliveries removes deliveries that reached their final state at the time that they stand under, or before. One that was sent again since then stands under
// another time, too, or will.
func (b *batch) expireDeliveries(list []due, oldest, now time.Time, m *engine.Maintained) (l looked, err error) {
	ids := make(uuids, len(list))
	for i := range list {
		ids[i] = list[i].id16()
	}
	damaged, err := b.lockDeliveries(ids)
	if err != nil {
		return l, err
	}
	var over []*deliveryRow
	var nos []int64
	l.n = len(list)
	seen := make(map[uuid.UUID]bool) // a sweep may have given it a second place
	for i := range list {
		if seen[ids[i]] {
			continue
		}
		if damaged[ids[i]] != nil {
			seen[ids[i]] = true
			m.Damaged = append(m.Damaged, damaged[ids[i]])
			l.later(oldest.Add(damagedRecheck), list[i].id)
			continue
		}
		r, _ := b.deliveries.get(ids[i])
		if r == nil || !r.FinishedBy(fields.Time(list[i].at)) {
			continue
		}
		seen[r.ID] = true
		over = append(over, r)
		if r.sessionNo != 0 && (r.KeptWithSession() || r.leavesMark()) {
			nos = append(nos, r.sessionNo)
		}
	}
	sessions, unreadable, err := b.lockSessions(nos)
	if err != nil {
		return l, err
	}
	for _, err := range unreadable {
		b.s.passes(err)
	}
	if err := b.loadUpdates(over, sessions); err != nil {
		return l, err
	}
	for _, r := range over {
		if r.KeptWithSession() && (sessions[r.sessionNo] != nil || unreadable[r.sessionNo] != nil) {
			l.later(now, r.ID[:]) // look again after another retention
			continue
		}
		if err := b.retireDelivery(r, sessions[r.sessionNo]); err != nil {
			return l, err
		}
		m.Expired.Deliveries++
	}
	return l, nil
}

// leavesMark reports whether the session must forget a delivery whose retention has ended; see retireDelivery.
func (r *deliveryRow) leavesMark() bool {
	return r.Status == engine.StatusCancelled && (r.Kind == engine.KindComplete || r.Kind == engine.KindUpdate)
}

// loadUpdates reads the updates that retireDelivery asks for, in one round trip.
func (b *batch) loadUpdates(list []*deliveryRow, sessions map[int64]*sessionRow) error {
	var ids uuids
	for _, r := range list {
		session := sessions[r.sessionNo]
		if session == nil || !r.leavesMark() || r.Kind != engine.KindComplete {
			continue
		}
		for _, ref := range session.Deliveries {
			if ref.WebhookID == r.WebhookID && ref.Kind == engine.KindUpdate {
				ids = append(ids, ref.ID)
			}
		}
	}
	_, err := b.lockDeliveries(ids)
	return err
}

// retireDelivery removes a delivery whose retention has ended. Without its row nothing says that it was cancelled, so its session no longer refers to it: for a
// replay of what is missing there never was one, unless an update has told the session. session is nil if it is not stored, or damaged.
func (b *batch) retireDelivery(r *deliveryRow, session *sessionRow) error {
	b.removeDelivery(r)
	if session == nil || !r.leavesMark() {
		return nil
	}
	if session, _ = b.sessions.get(session.ID); session == nil { // as of now: another delivery of it may have been retired
		return nil
	}
	if r.Kind == engine.KindComplete {
		if told, err := b.toldByUpdate(session, r.WebhookID); err != nil || told {
			return err
		}
	}
	after := *session
	if err := b.unmark(&after, engine.DeliveryRef{WebhookID: r.WebhookID, Kind: r.Kind, ID: r.ID}); err != nil {
		return err
	}
	b.putSession(&after)
	return nil
}

// toldByUpdate reports whether an update of a session has told a webhook of it, or will. One that was cancelled has not.
func (b *batch) toldByUpdate(r *sessionRow, webhookID uint32) (bool, error) {
	refs, err := b.refsTo(r, webhookID)
	if err != nil {
		return false, err
	}
	var ids uuids
	for _, ref := range refs {
		if ref.Kind == engine.KindUpdate {
			ids = append(ids, ref.ID)
		}
	}
	damaged, err := b.lockDeliveries(ids)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		d, _ := b.deliveries.get(id)
		if damaged[id] != nil || d == nil || d.Status != engine.StatusCancelled { // also if its retention has ended
			return true, nil
		}
	}
	return false, nil
}
