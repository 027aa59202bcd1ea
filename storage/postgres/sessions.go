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
	needs := func(_ *batch, n *needs) {
		for i := range a.Sessions {
			n.session(a.Sessions[i].Events[0].SessionID, a.Sessions[i].HasIDs())
		}
	}
	err := s.write(ctx, mutation{size: a.Size(), needs: needs, run: func(b *batch) error {
		done = engine.Appended{}
		plans, err := b.planSessions(&a, &done)
		if err != nil {
			return err
		}
		var later []fannedOut
		for i := range plans {
			p := &plans[i]
			if err := b.appendToSession(p, &done); err != nil {
				return err
			}
			if !p.decision.FanOut.IsZero() {
				later = append(later, fannedOut{p.session.ID, p.decision.FanOut})
			}
		}
		return b.beginFanOut(later)
	}})
	if err != nil {
		return engine.Appended{}, err
	}
	return done, nil
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
// counts the triggers.
func (b *batch) planSession(a *engine.Append, i int, room *planRoom) (p sessionPlan, err error) {
	posted := &a.Sessions[i]
	id := posted.Events[0].SessionID
	stored, err := b.session(id)
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

// appendToSession adds a session's new events, its head, and a delivery for each trigger.
func (b *batch) appendToSession(p *sessionPlan, done *engine.Appended) error {
	r := sessionRow{SessionHead: p.decision.Head, no: p.session.no, batches: p.session.batches + 1, marks: p.session.marks}
	r.Deliveries = slices.Clone(r.Deliveries) // those of the row before are not changed
	if r.no == 0 {
		var err error
		if r.no, err = b.sessionNo(); err != nil {
			return err
		}
	}
	p.session.ID, p.session.no = r.ID, r.no
	b.addEvents(newEventsRow(r.no, r.batches, p.decision.Fresh))
	var record *engine.SessionRecord // shared by all deliveries that are claimed without a payload
	for i := range p.decision.Triggers {
		t := &p.decision.Triggers[i]
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

// moveDelivery moves the delivery with that id. It returns nil if it is not moved.
func (b *batch) moveDelivery(id uuid.UUID, t *engine.Trigger) (*deliveryRow, error) {
	old, err := b.delivery(id)
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
