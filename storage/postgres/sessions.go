package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// AppendEvents implements engine.Store.
func (s *Store) AppendEvents(ctx context.Context, a engine.Append) (engine.Appended, error) {
	var done engine.Appended
	needs := func(b *batch, n *needs) { b.needAppend(&a, n) }
	err := s.write(ctx, mutation{size: a.Size(), needs: needs, run: func(b *batch) error {
		done = engine.Appended{}
		plans, err := b.planSessions(&a, &done)
		if err != nil {
			return err
		}
		if err := b.readAheadOf(plans); err != nil {
			return err
		}
		var later []fannedOut
		for i := range plans {
			p := &plans[i]
			if err := b.appendToSession(p, &done); err != nil {
				return err
			}
			if !p.decision.FanOut.IsZero() {
				later = append(later, fannedOut{p.session.ID, p.session.no, p.decision.FanOut})
			}
		}
		if done.Duplicates > 0 {
			b.changes++ // so that this is a commit, too: the one before may have been given up while it waited for a synchronous standby
		}
		return b.beginFanOut(later)
	}})
	if err != nil {
		return engine.Appended{}, err
	}
	return done, nil
}

// needAppend names what a request will read. The sessions come first; what is read of one that has finished depends on its row.
func (b *batch) needAppend(a *engine.Append, n *needs) {
	compared := int64(engine.MaxCompared)
	for i := range a.Sessions {
		posted := &a.Sessions[i]
		id := posted.Events[0].SessionID
		n.session(id, posted.HasIDs())
		switch r, known := b.sessions.get(id); {
		case !known:
			if len(a.Open) > 0 && len(posted.Payloads) == 0 && slices.ContainsFunc(posted.Events, mayFinish) { // a delivery may be claimed on arrival
				n.record(id)
			}
		case r == nil:
		case !r.FinishedAt.IsZero():
			n.needLate(b, r, &compared)
		case r.StartedAt.IsZero(): // a start moves what an earlier event has led to
			for _, ref := range r.Deliveries {
				if ref.Kind == engine.KindIncomplete {
					n.delivery(ref.ID)
				}
			}
		}
	}
}

// mayFinish reports whether an event finishes its session.
func mayFinish(ev engine.Event) bool {
	return ev.Type == engine.EventFinish || ev.Type == engine.EventResultView
}

// sessionPlan is what to write for a session.
type sessionPlan struct {
	session  sessionRow // as it is stored; no is 0 if it is new
	decision engine.Decision
}

// planRoom is what the sessions of a request may still use of what it may use together.
type planRoom struct {
	triggers int   // of engine.MaxTriggers
	compared int64 // of engine.MaxCompared
}

// planSessions decides about all sessions of a request before it changes the first one, so that a refusal leaves the batch unchanged. Its error names
// every bad event of all sessions. If the request is partial, done.Refused names them instead.
func (b *batch) planSessions(a *engine.Append, done *engine.Appended) ([]sessionPlan, error) {
	plans := make([]sessionPlan, 0, len(a.Sessions))
	var refused engine.InputErrors
	room := planRoom{engine.MaxTriggers, engine.MaxCompared}
	for i := range a.Sessions {
		p, err := b.planSession(a, i, &room)
		room.triggers -= len(p.decision.Triggers)
		bad, isInput := errors.AsType[engine.InputErrors](err)
		switch {
		case isInput:
			refused = append(refused, bad...)
		case err != nil:
			return nil, err
		case len(p.decision.Fresh) > 0:
			plans = append(plans, p)
		}
		refused = append(refused, p.decision.Refused...)
		done.Duplicates += p.decision.Duplicates
	}
	if refused != nil && !a.Partial {
		return nil, refused.Sorted()
	}
	done.Refused = refused
	return plans, nil
}

// planSession reads a session and decides what a request's events mean for it. It changes nothing. It counts in room what it compares; the caller
// counts the triggers. A session whose row is damaged goes on with what can be read of it: an error would refuse the events of all other sessions in the
// request, each time that they are sent.
func (b *batch) planSession(a *engine.Append, i int, room *planRoom) (p sessionPlan, err error) {
	posted := &a.Sessions[i]
	id := posted.Events[0].SessionID
	stored, err := b.session(id)
	if b.s.passes(err) {
		stored, err = b.mend(id)
	}
	if err != nil {
		return p, err
	}
	var ids map[string]bool
	if stored != nil {
		p.session = *stored
		if posted.HasIDs() {
			if ids, err = b.eventIDsOf(id); err != nil {
				return p, err
			}
		}
	}
	if p.decision, err = a.Admit(i, p.session.SessionHead, ids, b.hooks, room.triggers); err != nil || !p.decision.Late {
		return p, err
	}
	return p, b.planLate(a, &p, room)
}

// mend reads a session whose row is damaged, and takes over what can be read of it. The other columns and the events are whole. What the row does not have is filled in
// from later events, but for the marks that stood in it.
func (b *batch) mend(id uuid.UUID) (r *sessionRow, err error) {
	err = b.query(func(found pgx.Rows) (err error) {
		if r, err = scanSession(found); errors.Is(err, ErrCorrupt) {
			err = nil
		}
		return err
	}, "SELECT "+sessionColumns+" FROM @.sessions WHERE id = $1", pgID(id))
	if err != nil {
		return nil, err
	}
	r.Identity = engine.Identity{ContentID: r.Identity.ContentID, PoltioUserID: r.Identity.PoltioUserID}
	r.Deliveries = nil
	b.sessions.read(id, r)
	return r, b.query(func(found pgx.Rows) error { return found.Scan(&r.marks) }, "SELECT count(*) FROM @.marks WHERE session_no = $1", r.no)
}

// readAheadOf reads what the triggers of plans will ask for.
func (b *batch) readAheadOf(plans []sessionPlan) error {
	all := make([]triggered, len(plans))
	for i := range plans {
		all[i] = triggered{&plans[i].session, plans[i].decision.Triggers}
	}
	return b.readAhead(all)
}

// appendToSession adds a session's new events, its head, and a delivery for each trigger.
func (b *batch) appendToSession(p *sessionPlan, done *engine.Appended) error {
	r := sessionRow{SessionHead: p.decision.Head, no: p.session.no, batches: p.session.batches + 1, marks: p.session.marks}
	r.Deliveries = slices.Clone(r.Deliveries) // those of the row before are not changed
	if r.no == 0 {
		var err error
		if r.no, err = b.sessionNo(); err != nil {
			return err
		}
		b.knowRecord(r.no, nil)
	}
	p.session.ID, p.session.no = r.ID, r.no
	b.addEvents(newEventsRow(r.no, r.batches, p.decision.Fresh))
	var record *engine.SessionRecord // shared by all deliveries that are claimed without a payload
	for i := range p.decision.Triggers {
		t := &p.decision.Triggers[i]
		t.Claim = t.Claim && b.s.owns(t.WebhookID) // others may have taken it over since the request began
		d, late, err := b.trigger(&r, t)
		if err != nil {
			return err
		}
		done.Late += late
		if d == nil {
			continue
		}
		if !t.Claim {
			done.Queued = append(done.Queued, engine.Queued{Lane: d.Lane(), At: d.NextAttemptAt})
			continue
		}
		claimed := engine.Claimed{Delivery: d.Delivery, Payload: t.Payload}
		if t.Payload == nil {
			if record == nil {
				read, err := b.sessionRecord(&r)
				if err != nil {
					return err
				}
				record = &read
			}
			claimed.Session = record
		}
		b.claims = append(b.claims, claim{d.ID, d.Lane()})
		done.Claimed = append(done.Claimed, claimed)
	}
	b.putSession(&r)
	return nil
}

// trigger does what a trigger of a session asks for. It returns the delivery that was made or moved, nil if there is none. late is how many events were
// counted as late. It changes r, which the caller stores.
func (b *batch) trigger(r *sessionRow, t *engine.Trigger) (d *deliveryRow, late int, err error) {
	if t.Kind == engine.KindUpdate {
		return b.late(r, t)
	}
	if t.Moves {
		switch id, err := b.deliveryOf(r, t.WebhookID, t.Kind); {
		case err != nil:
			return nil, 0, err
		case id != uuid.Nil:
			d, err = b.moveDelivery(id, t)
			return d, 0, err
		case t.MovesOnly:
			return nil, 0, nil
		}
	}
	return b.makeTriggered(r, t), 0, nil
}

// makeTriggered creates a delivery for a session and marks it in r, which the caller stores.
func (b *batch) makeTriggered(r *sessionRow, t *engine.Trigger) *deliveryRow {
	d := &deliveryRow{sessionNo: r.no, visitor: r.Identity.PoltioUserID, Delivery: engine.Delivery{
		WebhookID: t.WebhookID, SessionID: r.ID, ContentID: r.Identity.ContentID, Kind: t.Kind, Status: engine.StatusScheduled,
		DueAt: t.DueAt, AsOf: t.AsOf, NextAttemptAt: t.DueAt,
	}}
	if t.Payload != nil {
		d.FrozenAt, d.Status, d.BuiltFrom, d.hasPayload = b.began, engine.StatusPending, r.Events, true
	}
	b.createDelivery(d)
	if t.Payload != nil {
		b.storePayload(d, t.Payload)
	}
	b.mark(r, engine.DeliveryRef{WebhookID: t.WebhookID, Kind: t.Kind, ID: d.ID})
	return d
}

// moveDelivery moves the delivery with that id. It returns nil if it is not moved; so it does for one that is damaged.
func (b *batch) moveDelivery(id uuid.UUID, t *engine.Trigger) (*deliveryRow, error) {
	old, err := b.delivery(id)
	if b.s.passes(err) {
		return nil, nil
	}
	if err != nil || old == nil {
		return nil, err
	}
	d := *old
	if !t.Move(&d.Delivery) {
		return nil, nil
	}
	b.saveDelivery(&d)
	return &d, nil
}

// readEvents reads the events of a session as they are stored.
func (s *Store) readEvents(ctx context.Context, conn *pgx.Conn, r *sessionRow) (engine.SessionRecord, error) {
	record := engine.SessionRecord{Head: r.SessionHead}
	if r.no == 0 {
		return record, nil
	}
	found, err := conn.Query(ctx, s.sql("SELECT received_at, body FROM @.events WHERE session_no = $1 ORDER BY n"), r.no)
	if err != nil {
		return record, err
	}
	defer found.Close()
	for found.Next() {
		var row eventsRow
		if err := found.Scan(&row.receivedAt, &row.body); err != nil {
			return record, err
		}
		record.Batches = append(record.Batches, row.batch())
	}
	return record, found.Err()
}
