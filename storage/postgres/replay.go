package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// Bounds of one step of a replay.
const (
	replayLooks = 1000 // deliveries or sessions looked at
	replayStep  = 500  // deliveries queued
	// replayMarks is how many other deliveries of its sessions a step looks at: a session may have thousands of updates.
	replayMarks = 5000
)

// idSlack is by how much the time in the id of a delivery may be ahead of the time of its creation, where the clock was set back.
const idSlack = time.Hour

// idAt returns the id below all those that are made at or after a time, to the millisecond.
func idAt(t time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, t.UnixMilli()))<<16)
	return id
}

// reading is a connection for reading in use. It queries as a batch does.
type reading struct {
	s    *Store
	ctx  context.Context
	conn *pgx.Conn
}

// querying reads by SQL: a reading, or a batch whose mutation walks.
type querying interface {
	query(f func(pgx.Rows) error, sql string, args ...any) error
}

func (r reading) query(f func(pgx.Rows) error, sql string, args ...any) error {
	found, err := r.conn.Query(r.ctx, r.s.sql(sql), args...)
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

// Replay implements engine.Store. It counts page by page, so that no snapshot is held for long.
func (s *Store) Replay(ctx context.Context, r engine.Replay) (int64, error) {
	j := replayJob{Replay: r}
	if err := s.view(ctx, func(conn *pgx.Conn) error { return j.bounds(reading{s, ctx, conn}) }); err != nil {
		return 0, err
	}
	j.Count = 0
	for counted, more := j, true; more; {
		from := counted
		var found int
		err := s.view(ctx, func(conn *pgx.Conn) error {
			counted = from
			w, err := r.Webhook(s.hooks.Load())
			if err != nil {
				return err
			}
			p := replayPage{s: s, q: reading{s, ctx, conn}, j: &counted, hook: w, marked: s.hooks.Load()}
			more, err = p.look(math.MaxInt)
			found = len(p.found)
			for _, err := range p.damaged {
				s.passes(err)
			}
			return err
		})
		if err != nil {
			return 0, err
		}
		j.Count += int64(found)
	}
	if r.DryRun || j.Count == 0 && r.Once == nil {
		return j.Count, nil
	}
	needs := func(_ *batch, n *needs) { n.once(r.Once) }
	err := s.write(ctx, mutation{size: 1024, needs: needs, run: func(b *batch) error {
		if err := b.refuseRepeated(r.Once); err != nil {
			return err
		}
		if _, err := r.Webhook(b.hooks); err != nil {
			return err
		}
		if j.Count > 0 {
			stored := j // the batch keeps it
			if _, err := b.addJob(&job{Replay: &stored}); err != nil {
				return err
			}
		}
		return b.remember(r.Once, engine.Done{WebhookID: r.WebhookID, Replay: &j.Replay})
	}})
	return j.Count, err
}

// bounds sets where a replay begins and ends: it includes nothing that is made after it was started.
func (j *replayJob) bounds(q querying) error {
	if j.Scope == engine.ReplayMissing {
		return q.query(func(found pgx.Rows) error { return found.Scan(&j.ToSession) }, "SELECT no FROM @.sessions ORDER BY no DESC LIMIT 1")
	}
	if !j.Since.IsZero() {
		j.After = idAt(j.Since) // no id is that low: the bits behind the time are not all zero
	}
	err := q.query(func(found pgx.Rows) error { return found.Scan((*[16]byte)(&j.To)) }, "SELECT id FROM @.deliveries ORDER BY id DESC LIMIT 1")
	if until := idAt(j.Until.Add(idSlack)); bytes.Compare(until[:], j.To[:]) < 0 {
		j.To = until
	}
	return err
}

// replayTarget is a delivery to send again, or a session to create a delivery for.
type replayTarget struct {
	delivery *deliveryRow // nil for a session
	session  *sessionRow  // nil if it is not stored any more
}

// replayPage is a step through what a replay may include.
type replayPage struct {
	s    *Store
	q    querying
	j    *replayJob // its After moves
	hook *engine.Webhook
	// marked has the cancellations in progress; nil to ignore them. Deliveries that they cover count as cancelled: they will be when the replay reaches
	// them.
	marked *engine.WebhookSet

	sessions map[int64]*sessionRow          // by no; those that cannot be read have only their keys
	refs     map[int64][]engine.DeliveryRef // the marks of a session for the webhook, by its no
	stored   map[uuid.UUID]*deliveryRow
	found    []replayTarget
	damaged  []error
}

// look walks as far as one step may go, and finds at most so many targets. more reports whether there is something left.
func (p *replayPage) look(most int) (more bool, err error) {
	if p.j.Scope == engine.ReplayMissing {
		return p.lookAtSessions(most)
	}
	return p.lookAtDeliveries(most)
}

func (p *replayPage) lookAtDeliveries(most int) (more bool, err error) {
	list, err := p.deliveries()
	if err != nil {
		return false, err
	}
	if more = len(list) > replayLooks; more {
		list = list[:replayLooks]
	}
	var nos []int64
	for _, d := range list {
		if d.sessionNo != 0 && p.j.Includes(&d.Delivery, p.hook, engine.Source{Frozen: !d.FrozenAt.IsZero(), Session: true}, p.covered(d)) {
			nos = append(nos, d.sessionNo)
		}
	}
	if err := p.readSessions(nos); err != nil {
		return false, err
	}
	n, err := p.readRefs(len(list), func(i int) *sessionRow { return p.sessions[list[i].sessionNo] })
	if err != nil {
		return false, err
	}
	for _, d := range list[:n] {
		if len(p.found) == most {
			return true, nil
		}
		p.j.After = d.ID
		if p.includes(d) {
			p.found = append(p.found, replayTarget{d, p.sessions[d.sessionNo]})
		}
	}
	return more || n < len(list), nil
}

// deliveries reads the next deliveries, and one more than a step looks at.
func (p *replayPage) deliveries() (list []*deliveryRow, err error) {
	add := func(found pgx.Rows) error {
		d, err := scanDelivery(found)
		if d == nil {
			return err
		}
		if err != nil { // it fits nothing, and the walk goes on behind it
			p.damaged = append(p.damaged, err)
			d = &deliveryRow{Delivery: engine.Delivery{ID: d.ID}}
		}
		list = append(list, d)
		return nil
	}
	id, after, to, limit := int32(p.j.WebhookID), pgID(p.j.After), pgID(p.j.To), replayLooks+1
	status := engine.StatusFailed
	switch p.j.Scope {
	case engine.ReplayAny:
		err = p.q.query(add, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE webhook_id = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT $4", id, after, to, limit)
		return list, err
	case engine.ReplayFiltered:
		status = engine.StatusFiltered
	}
	err = p.q.query(add, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY(ARRAY(SELECT delivery_id FROM @.exceptions "+
		"WHERE webhook_id = $1 AND status = $5 AND delivery_id > $2 AND delivery_id <= $3 ORDER BY delivery_id LIMIT $4)) ORDER BY id", id, after, to, limit, int16(status))
	return list, err
}

func (p *replayPage) covered(d *deliveryRow) bool {
	return p.marked != nil && p.marked.Covered(&d.Delivery)
}

// lookAtSessions looks for complete deliveries that a webhook never had, or that were cancelled.
func (p *replayPage) lookAtSessions(most int) (more bool, err error) {
	var list []*sessionRow
	err = p.q.query(func(found pgx.Rows) error {
		r, err := scanSession(found)
		if r == nil {
			return err
		}
		if err != nil {
			p.damaged = append(p.damaged, err)
			r.FinishedAt = time.Time{} // it is not included, and the walk goes on behind it
		}
		list = append(list, r)
		return nil
	}, "SELECT "+sessionColumns+" FROM @.sessions WHERE no > $1 AND no <= $2 ORDER BY no LIMIT $3", p.j.AfterSession, p.j.ToSession, replayLooks+1)
	if err != nil {
		return false, err
	}
	if more = len(list) > replayLooks; more {
		list = list[:replayLooks]
	}
	included := func(i int) *sessionRow {
		if !p.j.IncludesSession(&list[i].SessionHead, p.hook) {
			return nil
		}
		return list[i]
	}
	n, err := p.readRefs(len(list), included)
	if err != nil {
		return false, err
	}
	for i, r := range list[:n] {
		if len(p.found) == most {
			return true, nil
		}
		p.j.AfterSession = r.no
		if included(i) == nil {
			continue
		}
		if t, ok := p.missing(r); ok {
			p.found = append(p.found, t)
		}
	}
	return more || n < len(list), nil
}

// missing returns what is missing of a session; ok is false if nothing is.
func (p *replayPage) missing(r *sessionRow) (t replayTarget, ok bool) {
	t.session = r
	at := slices.IndexFunc(p.refs[r.no], func(ref engine.DeliveryRef) bool { return ref.Kind == engine.KindComplete })
	if at < 0 {
		return t, true
	}
	if t.delivery = p.stored[p.refs[r.no][at].ID]; t.delivery == nil {
		return t, false // it was delivered or failed, and its retention has ended; or it is damaged
	}
	t.delivery = p.newest(r, t.delivery)
	p.sessions[r.no] = r
	return t, p.includes(t.delivery)
}

// newest returns the newest update of a session, if its complete delivery has failed or was cancelled: the webhook has the session if it has the update. Else it
// returns the complete one.
func (p *replayPage) newest(r *sessionRow, best *deliveryRow) *deliveryRow {
	if best.Status != engine.StatusCancelled && best.Status != engine.StatusFailed {
		return best
	}
	for _, ref := range p.refs[r.no] {
		if d := p.stored[ref.ID]; d != nil && d.Overtakes(&best.Delivery) {
			best = d
		}
	}
	return best
}

// includes reports whether a replay includes a delivery.
func (p *replayPage) includes(d *deliveryRow) bool {
	from := d.source(p.sessions[d.sessionNo] != nil)
	if !p.j.Includes(&d.Delivery, p.hook, from, p.covered(d)) {
		return false
	}
	for _, ref := range p.refs[d.sessionNo] {
		other := p.stored[ref.ID]
		from.Overtaken = from.Overtaken || other != nil && !other.FrozenAt.IsZero() && other.Overtakes(&d.Delivery)
	}
	return p.j.Includes(&d.Delivery, p.hook, from, p.covered(d))
}

// readSessions reads sessions by their numbers. One that is damaged is there, but its marks are not known.
func (p *replayPage) readSessions(nos []int64) error {
	p.sessions = make(map[int64]*sessionRow)
	if len(nos) == 0 {
		return nil
	}
	return p.q.query(func(found pgx.Rows) error {
		r, err := scanSession(found)
		if r == nil {
			return err
		}
		if p.s.passes(err) {
			r.marks, r.Deliveries = 0, nil
		}
		p.sessions[r.no] = r
		return nil
	}, "SELECT "+sessionColumns+" FROM @.sessions WHERE no = ANY($1)", nos)
}

// readRefs reads the marks that some sessions have for the webhook, and the deliveries that these name. of returns the session of each of n entries, nil for none. It
// returns for how many entries it has read them.
func (p *replayPage) readRefs(n int, of func(i int) *sessionRow) (done int, err error) {
	p.refs, p.stored = make(map[int64][]engine.DeliveryRef), make(map[uuid.UUID]*deliveryRow)
	if p.sessions == nil {
		p.sessions = make(map[int64]*sessionRow)
	}
	var marked []int64
	looks := 0
	for done = 0; done < n; done++ {
		r := of(done)
		if r == nil || p.refs[r.no] != nil {
			continue
		}
		refs := make([]engine.DeliveryRef, 0, 1)
		for _, ref := range r.Deliveries {
			if ref.WebhookID == p.hook.ID {
				refs = append(refs, ref)
			}
		}
		if looks += len(refs) + r.marks; looks > replayMarks && done > 0 {
			break
		}
		if p.refs[r.no] = refs; r.marks > 0 {
			marked = append(marked, r.no)
		}
	}
	if len(marked) > 0 {
		err := p.q.query(func(found pgx.Rows) error {
			var no int64
			var kind int16
			var ref engine.DeliveryRef
			err := found.Scan(&no, &ref.WebhookID, &kind, (*[16]byte)(&ref.ID))
			ref.Kind = engine.Kind(kind)
			p.refs[no] = append(p.refs[no], ref)
			return err
		}, "SELECT session_no, webhook_id, kind, delivery_id FROM @.marks WHERE session_no = ANY($1) AND webhook_id = $2", marked, int32(p.hook.ID))
		if err != nil {
			return 0, err
		}
	}
	return done, p.readStored()
}

// readStored reads the deliveries that are named in refs.
func (p *replayPage) readStored() error {
	var ids uuids
	for _, refs := range p.refs {
		for _, ref := range refs {
			ids = append(ids, ref.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return p.q.query(func(found pgx.Rows) error {
		d, err := scanDelivery(found)
		switch {
		case d == nil:
			return err
		case err != nil:
			p.damaged = append(p.damaged, err)
		default:
			p.stored[d.ID] = d
		}
		return nil
	}, "SELECT "+deliveryColumns+" FROM @.deliveries WHERE id = ANY($1)", ids)
}

// stepReplay does one step of a replay, and moves its place. It reports whether there is more to do.
func (b *batch) stepReplay(j *replayJob, now time.Time, m *engine.Maintained) (more bool, err error) {
	w, err := j.Webhook(b.hooks)
	if err != nil {
		return false, nil // the webhook is switched off or deleted: send nothing
	}
	p := replayPage{s: b.s, q: b, j: j, hook: w}
	if more, err = p.look(replayStep); err != nil {
		return false, err
	}
	m.Damaged = append(m.Damaged, p.damaged...)
	if err := b.lockTargets(p.found); err != nil {
		return false, err
	}
	for _, t := range p.found {
		q, err := b.replay(&p, t, now)
		if err != nil {
			return false, err
		}
		if !q.At.IsZero() {
			m.Queued = append(m.Queued, q)
			j.Done++
		}
	}
	return more, nil
}

// lockTargets locks what a replay changes, and reads it as it is.
func (b *batch) lockTargets(list []replayTarget) error {
	var ids uuids
	var nos []int64
	for _, t := range list {
		if t.delivery != nil {
			ids = append(ids, t.delivery.ID)
		} else {
			nos = append(nos, t.session.no)
		}
	}
	if _, err := b.lockDeliveries(ids); err != nil {
		return err
	}
	_, _, err := b.lockSessions(nos)
	return err
}

// replay queues a delivery again, or makes one. What has changed since the search, and is not included any more, stays as it is.
func (b *batch) replay(p *replayPage, t replayTarget, now time.Time) (q engine.Queued, err error) {
	if t.delivery == nil {
		session, _ := b.sessions.get(t.session.ID)
		if session == nil || session.no != t.session.no {
			return q, nil
		}
		after := *session
		after.Deliveries = slices.Clone(after.Deliveries)
		d := b.makeTriggered(&after, &engine.Trigger{WebhookID: p.hook.ID, Kind: engine.KindComplete, DueAt: now})
		b.putSession(&after)
		return engine.Queued{Lane: d.Lane(), At: now}, nil
	}
	old, _ := b.deliveries.get(t.delivery.ID)
	if old == nil || !p.includes(old) {
		return q, nil
	}
	d := *old
	if err := d.Requeue(p.hook, d.source(t.session != nil), now); err != nil {
		return q, err
	}
	b.saveDelivery(&d)
	return engine.Queued{Lane: d.Lane(), At: now}, nil
}
