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
func (s *Store) AppendEvents(ctx context.Context, events []engine.Event, decide engine.Decide) ([]engine.Queued, error) {
	if err := s.space.room(); err != nil {
		return nil, err
	}
	groups := bySession(events)
	size := 0
	for i := range events {
		size += len(events[i].JSON)
	}
	var queued []engine.Queued
	err := s.write(ctx, size, func(b *batch) error {
		queued = queued[:0]
		// All sessions are decided before the first is written, so that a refusal leaves the batch as it was.
		plans := make([]sessionPlan, 0, len(groups))
		var refused engine.InputErrors // each bad event is named, whichever session it is of
		for _, group := range groups {
			p, err := b.planSession(group, decide)
			bad, isInput := errors.AsType[engine.InputErrors](err)
			switch {
			case isInput:
				refused = append(refused, bad...)
			case err != nil:
				return err
			case len(p.fresh) > 0:
				plans = append(plans, p)
			}
		}
		if refused != nil {
			return refused.Sorted()
		}
		for _, p := range plans {
			q, err := b.appendToSession(p)
			if err != nil {
				return err
			}
			queued = append(queued, q...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return queued, nil
}

// bySession groups a request's events, sessions in the order of their first event.
func bySession(events []engine.Event) [][]engine.Event {
	first := events[0].SessionID
	if !slices.ContainsFunc(events, func(ev engine.Event) bool { return ev.SessionID != first }) {
		return [][]engine.Event{events}
	}
	var groups [][]engine.Event
	places := make(map[uuid.UUID]int)
	for _, ev := range events {
		at, ok := places[ev.SessionID]
		if !ok {
			at = len(groups)
			places[ev.SessionID] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], ev)
	}
	return groups
}

// sessionPlan is what is to be written for a session.
type sessionPlan struct {
	session  sessionRecord // as it is stored; number 0 if it is not
	fresh    []engine.Event
	decision engine.Decision
}

// planSession reads a session, leaves out the events that it has already, and asks for a decision. It writes nothing.
func (b *batch) planSession(events []engine.Event, decide engine.Decide) (sessionPlan, error) {
	p := sessionPlan{fresh: events}
	id := events[0].SessionID
	number, err := b.sessionNumber(id)
	if err != nil {
		return p, err
	}
	if p.session, err = readSession(b.sessions, number, id); err != nil {
		return p, err
	}
	if slices.ContainsFunc(events, func(ev engine.Event) bool { return ev.ID != "" }) {
		seen := make(map[string]bool)
		err := eachBatch(b.events, p.session.number, func(k, v []byte) error {
			_, err := decodeEvents(k, v, func(id string) { seen[id] = true })
			return err
		})
		if err != nil {
			return p, err
		}
		p.fresh = make([]engine.Event, 0, len(events))
		for _, ev := range events {
			if ev.ID != "" {
				if seen[ev.ID] {
					continue
				}
				seen[ev.ID] = true
			}
			p.fresh = append(p.fresh, ev)
		}
		if len(p.fresh) == 0 {
			return p, nil
		}
	}
	p.decision, err = decide(p.session.SessionHead, p.fresh, b.hooks)
	return p, err
}

// eachBatch calls f for each value of a session's events, in the order of their arrival.
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

// appendToSession writes a session's fresh events, its head, and a delivery for each trigger.
func (b *batch) appendToSession(p sessionPlan) ([]engine.Queued, error) {
	r := sessionRecord{SessionHead: p.decision.Head, number: p.session.number, batches: p.session.batches + 1}
	if r.number == 0 {
		var err error
		if r.number, err = b.next(b.sessions); err != nil {
			return nil, err
		}
		b.numbers[r.ID] = r.number
		b.expire(expirySession, r.number, r.FirstReceivedAt)
	}
	key := itemKey(r.number, r.batches)
	if err := b.put(b.events, key, encodeEvents(key, p.fresh)); err != nil {
		return nil, err
	}
	var queued []engine.Queued
	if len(p.decision.Triggers) > 0 {
		r.Marks = slices.Clone(r.Marks) // the decision may be asked for again
	}
	for _, t := range p.decision.Triggers {
		d, err := b.trigger(&r, t, p.fresh)
		if err != nil {
			return nil, err
		}
		if d.Status == engine.StatusScheduled {
			queued = append(queued, engine.Queued{Lane: d.Lane(), At: d.NextAttemptAt})
		}
	}
	return queued, b.put(b.sessions, u64key(r.number), r.encode())
}

// trigger queues a delivery of a session, and marks it in the session's head, which the caller puts. fresh are the events that it came
// of, which are stored already.
func (b *batch) trigger(r *sessionRecord, t engine.Trigger, fresh []engine.Event) (engine.Delivery, error) {
	d := deliveryRecord{session: r.number, Delivery: engine.Delivery{
		WebhookID: t.WebhookID, SessionID: r.ID, ContentID: r.Identity.ContentID, Kind: t.Kind, Status: engine.StatusScheduled,
		DueAt: t.DueAt, NextAttemptAt: t.DueAt,
	}}
	payload := b.buildReady(r, t, fresh)
	if payload != nil {
		if err := b.storePayload(&d, payload, b.began); err != nil {
			return engine.Delivery{}, err
		}
	}
	if err := b.createDelivery(&d); err != nil {
		return engine.Delivery{}, err
	}
	if payload != nil {
		b.claims = append(b.claims, d.number)
		b.after = append(b.after, func() { t.Ready.Take(engine.Taken{Delivery: d.Delivery, Payload: payload}) })
	}
	r.Marks = append(r.Marks, engine.Mark{WebhookID: t.WebhookID, Kind: t.Kind, DeliveryID: d.ID})
	return d.Delivery, nil
}

// buildReady makes the payload of a trigger that can have it at once; nil if it cannot. What is wrong then shows when it is taken up.
func (b *batch) buildReady(r *sessionRecord, t engine.Trigger, fresh []engine.Event) []byte {
	if t.Ready == nil {
		return nil
	}
	events := fresh
	if r.batches > 1 {
		record, err := readSessionRecord(b.events, *r)
		if err != nil {
			return nil
		}
		if events, err = record.Events(); err != nil {
			return nil
		}
	}
	payload, err := t.Ready.Build(events, b.began)
	if err != nil {
		return nil
	}
	return payload
}

// Session implements engine.Store.
func (s *Store) Session(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error) {
	var record engine.SessionRecord
	var deliveries []engine.Delivery
	session := s.finder(id)
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		r, err := session.read(tx)
		if err != nil {
			return err
		}
		if r.number == 0 {
			return fmt.Errorf("session %s: %w", id, engine.ErrNotFound)
		}
		if record, err = readSessionRecord(tx.Bucket(bucketEvents), r); err != nil {
			return err
		}
		for _, m := range r.Marks {
			d, err := s.readDelivery(tx.Bucket(bucketDeliveries), deliveryNumber(m.DeliveryID))
			if err != nil {
				return err
			}
			if d.number != 0 {
				deliveries = append(deliveries, d.Delivery)
			}
		}
		return nil
	})
	return record, deliveries, err
}

// readSessionRecord copies a session's events.
func readSessionRecord(events *bbolt.Bucket, r sessionRecord) (engine.SessionRecord, error) {
	record := engine.SessionRecord{Head: r.SessionHead}
	err := eachBatch(events, r.number, func(k, v []byte) error {
		batch, err := decodeEvents(k, v, nil)
		batch.JSON = bytes.Clone(batch.JSON)
		record.Batches = append(record.Batches, batch)
		return err
	})
	return record, err
}
