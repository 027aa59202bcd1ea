package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// AppendEvents implements engine.Store.
func (s *Store) AppendEvents(ctx context.Context, a engine.Append) (engine.Appended, error) {
	if err := s.space.room(); err != nil {
		return engine.Appended{}, err
	}
	var done engine.Appended
	err := s.write(ctx, a.Size(), func(b *batch) error {
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
				later = append(later, fannedOut{p.session.number, p.decision.FanOut})
			}
		}
		return b.beginFanOut(later)
	})
	if err != nil {
		return engine.Appended{}, err
	}
	return done, nil
}

// sessionPlan is what to write for a session.
type sessionPlan struct {
	session  sessionRecord // as it is stored; number 0 if it is new
	again    bool          // it is new because what is stored of it cannot be read
	decision engine.Decision
}

// planRoom is what the sessions of a request may still use of what it may use together.
type planRoom struct {
	triggers int   // of engine.MaxTriggers
	compared int64 // of engine.MaxCompared
}

// planSessions decides about all sessions of a request before it writes the first one, so that a refusal leaves the batch unchanged.
// Its error names every bad event of all sessions. If the request is partial, done.Refused names them instead.
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

// planSession reads a session and decides what a request's events mean for it. It writes nothing. A session whose head is damaged begins
// again: an error would refuse the events of all other sessions in the request, each time that they are sent. Event ids in damaged events
// are not known any more. It counts in room what it compares; the caller counts the triggers.
func (b *batch) planSession(a *engine.Append, i int, room *planRoom) (p sessionPlan, err error) {
	posted := &a.Sessions[i]
	id := posted.Events[0].SessionID
	number, err := b.sessionNumber(id)
	if err == nil {
		p.session, err = readSession(b.sessions, number, id)
	}
	if b.s.passes(err) {
		number, p.session, p.again = 0, sessionRecord{}, true
	} else if err != nil {
		return p, err
	}
	var stored map[string]bool
	if number != 0 && posted.HasIDs() {
		stored = make(map[string]bool)
		err := eachBatch(b.events, number, func(k, v []byte) error {
			_, err := decodeEvents(k, v, func(id string) { stored[id] = true })
			if b.s.passes(err) {
				return nil
			}
			return err
		})
		if err != nil {
			return p, err
		}
	}
	if p.decision, err = a.Admit(i, p.session.SessionHead, stored, b.hooks, room.triggers); err != nil || !p.decision.Late {
		return p, err
	}
	if built, err := b.anyBuilt(&p.session); err != nil || !built {
		return p, err // the payloads will hold the events: no need to read the session
	}
	var before []engine.Event
	if p.decision.WantsEvents(room.compared) {
		room.compared -= p.decision.Head.Bytes
		record, err := readSessionRecord(b.events, &p.session)
		if err == nil {
			before, err = record.Events()
		}
		if err != nil && !b.s.passes(err) {
			return p, err
		}
	}
	a.AdmitLate(&p.decision, before, b.hooks, room.triggers)
	return p, nil
}

// eachBatch calls f for each value of a session's events, in the order of arrival.
func eachBatch(events *bbolt.Bucket, number uint64, f func(k, v []byte) error) error {
	if number == 0 {
		return nil
	}
	prefix := u64key(number)
	c := events.Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

// appendToSession writes a session's new events, its head, and a delivery for each trigger.
func (b *batch) appendToSession(p *sessionPlan, done *engine.Appended) error {
	r := sessionRecord{SessionHead: p.decision.Head, number: p.session.number, batches: p.session.batches + 1, marks: p.session.marks}
	if r.number == 0 {
		var err error
		if r.number, err = b.next(b.sessions); err != nil {
			return err
		}
		b.numbers[r.ID] = r.number
		if p.again { // the entry leads to what cannot be read
			if err := b.put(b.sessionNumbers, r.ID[:], u64key(r.number)); err != nil {
				return err
			}
		}
		b.expire(expirySession, r.number, r.FirstReceivedAt)
		p.session.number = r.number
	}
	key := itemKey(r.number, r.batches)
	if err := b.put(b.events, key, encodeEvents(key, p.decision.Fresh)); err != nil {
		return err
	}
	var record *engine.SessionRecord // shared by all deliveries that are claimed without a payload
	for i := range p.decision.Triggers {
		t := &p.decision.Triggers[i]
		d, late, err := b.trigger(&r, t)
		if err != nil {
			return err
		}
		done.Late += late
		if d.number == 0 {
			continue
		}
		if !t.Claim {
			done.Queued = append(done.Queued, engine.Queued{Lane: d.Lane(), At: d.NextAttemptAt})
			continue
		}
		claimed := engine.Claimed{Delivery: d.Delivery, Payload: t.Payload}
		if t.Payload == nil {
			if record == nil {
				read, err := readSessionRecord(b.events, &r)
				if errors.Is(err, ErrCorrupt) { // ClaimDue reports the damage
					done.Queued = append(done.Queued, engine.Queued{Lane: d.Lane(), At: d.NextAttemptAt})
					continue
				}
				if err != nil {
					return err
				}
				record = &read
			}
			claimed.Session = record
		}
		b.claims = append(b.claims, claimedNumber{d.number, d.Lane()})
		done.Claimed = append(done.Claimed, claimed)
	}
	return b.put(b.sessions, u64key(r.number), r.encode())
}

// trigger does what a trigger of a session asks for. It returns the delivery that was made or moved; its number is 0 if there is none. late is
// how many events were counted as late. The caller stores the session's head.
func (b *batch) trigger(r *sessionRecord, t *engine.Trigger) (d deliveryRecord, late int, err error) {
	if t.Kind == engine.KindUpdate {
		return b.late(r, t)
	}
	if t.Moves {
		switch id, err := deliveryOf(b.marks, r, t.WebhookID, t.Kind); {
		case err != nil && !b.s.passes(err):
			return d, 0, err
		case err != nil, id != uuid.Nil:
			d, err = b.moveDelivery(b.s.numberOf(b.tx, id), t)
			return d, 0, err
		case t.MovesOnly:
			return d, 0, nil
		}
	}
	d, err = b.makeTriggered(r, t)
	return d, 0, err
}

// makeTriggered creates a delivery for a session and adds its id to the session's head.
func (b *batch) makeTriggered(r *sessionRecord, t *engine.Trigger) (deliveryRecord, error) {
	d := deliveryRecord{session: r.number, visitor: r.Identity.PoltioUserID, Delivery: engine.Delivery{
		WebhookID: t.WebhookID, SessionID: r.ID, ContentID: r.Identity.ContentID, Kind: t.Kind, Status: engine.StatusScheduled,
		DueAt: t.DueAt, AsOf: t.AsOf, NextAttemptAt: t.DueAt,
	}}
	if t.Payload != nil {
		if err := b.freezePayload(&d, t.Payload, b.began); err != nil {
			return d, err
		}
		d.BuiltFrom = r.Events
	}
	if err := b.createDelivery(&d); err != nil {
		return d, err
	}
	return d, b.mark(r, engine.DeliveryRef{WebhookID: t.WebhookID, Kind: t.Kind, ID: d.ID})
}

// moveDelivery moves the delivery with that number. The number in the result is 0 if it is not moved; so it is for one that is damaged.
func (b *batch) moveDelivery(number uint64, t *engine.Trigger) (deliveryRecord, error) {
	old, err := b.s.readDelivery(b.deliveries, number)
	if b.s.passes(err) {
		return deliveryRecord{}, nil
	}
	d := old
	if err != nil || d.number == 0 || !t.Move(&d.Delivery) {
		return deliveryRecord{}, err
	}
	return d, b.saveDelivery(&old, &d)
}

// Session implements engine.Store.
func (s *Store) Session(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error) {
	var record engine.SessionRecord
	var deliveries []engine.Delivery
	err := s.viewSession(ctx, id, func(tx *bbolt.Tx, session finder) error {
		r, err := session.read(tx)
		if err != nil {
			return err
		}
		if r.number == 0 {
			return fmt.Errorf("session %s: %w", id, engine.ErrNotFound)
		}
		if record, err = readSessionRecord(tx.Bucket(bucketEvents), &r); err != nil {
			return err
		}
		record.Head.Deliveries = slices.Collect(s.refs(tx, &r))
		for _, m := range record.Head.Deliveries {
			d, err := s.readMarked(tx, m)
			switch {
			case s.passes(err):
			case err != nil:
				return err
			case d.number != 0:
				deliveries = append(deliveries, d.Delivery)
			}
		}
		return nil
	})
	return record, deliveries, err
}

// readSessionRecord copies a session's events.
func readSessionRecord(events *bbolt.Bucket, r *sessionRecord) (engine.SessionRecord, error) {
	record := engine.SessionRecord{Head: r.SessionHead}
	err := eachBatch(events, r.number, func(k, v []byte) error {
		batch, err := decodeEvents(k, v, nil)
		batch.JSON = bytes.Clone(batch.JSON)
		record.Batches = append(record.Batches, batch)
		return err
	})
	return record, err
}
