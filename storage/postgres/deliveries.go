package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// findDelivery returns a delivery; engine.ErrNotFound if it is not stored.
func (b *batch) findDelivery(id uuid.UUID) (*deliveryRow, error) {
	r, err := b.delivery(id)
	if err == nil && r == nil {
		err = fmt.Errorf("delivery %s: %w", id, engine.ErrNotFound)
	}
	return r, err
}

// enqueue queues a body, or a system event, that belongs to no session.
func (b *batch) enqueue(q *engine.Enqueue) (engine.Delivery, error) {
	w := b.hooks.Get(q.WebhookID)
	if w == nil {
		return engine.Delivery{}, fmt.Errorf("webhook %d: %w", q.WebhookID, engine.ErrNotFound)
	}
	d := deliveryRow{Delivery: q.Delivery(w), hasPayload: true}
	b.createDelivery(&d)
	b.storePayload(&d, q.Payload)
	return d.Delivery, nil
}

// notify queues system events if a webhook for them exists. It returns what it has queued.
func (b *batch) notify(notices [][]byte, now time.Time) (queued []engine.Queued) {
	w := b.hooks.Operations()
	if w == nil || !w.Active {
		return nil
	}
	for _, payload := range notices {
		d, _ := b.enqueue(&engine.Enqueue{WebhookID: w.ID, Kind: engine.KindOperation, Payload: payload, At: now}) // the webhook is there
		queued = append(queued, engine.Queued{Lane: d.Lane(), At: d.NextAttemptAt})
	}
	return queued
}

// Enqueue implements engine.Store.
func (s *Store) Enqueue(ctx context.Context, q engine.Enqueue) (d engine.Delivery, err error) {
	needs := func(_ *batch, n *needs) { n.once(q.Once) }
	err = s.write(ctx, mutation{size: len(q.Payload), needs: needs, run: func(b *batch) error {
		err := b.refuseRepeated(q.Once)
		if err == nil {
			d, err = b.enqueue(&q)
		}
		if err != nil {
			return err
		}
		return b.remember(q.Once, engine.Done{DeliveryID: d.ID})
	}})
	return d, err
}

// RecordAttempt implements engine.Store.
func (s *Store) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
	id := r.Delivery.ID
	var done engine.Recorded
	var erased bool
	size := 512 + len(r.Attempt.Response)
	for _, f := range r.Attempt.ResponseHeader {
		size += len(f.Name) + len(f.Value)
	}
	needs := func(_ *batch, n *needs) { n.delivery(id) }
	err := s.write(ctx, mutation{size: size, needs: needs, run: func(b *batch) error {
		done, erased = engine.Recorded{}, false
		if !s.isClaimed(id) {
			return s.notClaimed(id)
		}
		old, err := b.findDelivery(id)
		if erased = errors.Is(err, engine.ErrNotFound); err != nil && !erased {
			return err
		}
		b.ends = append(b.ends, id)
		if !erased && old.Attempts > r.Delivery.Attempts { // only who has the claim records
			done = b.recordedBefore(old, &r)
			return nil
		}
		if r.KeepsHealth(b.hooks.Get(r.Delivery.WebhookID), b.healthOf(r.Delivery.WebhookID)) {
			b.setHealth(r.Delivery.WebhookID, r.Health)
		}
		if erased {
			done.Queued = b.notify(r.ApplyErased(), r.At)
			return nil
		}
		effect := r.Apply(&old.Delivery, b.hooks.Covered(&old.Delivery))
		d := *old
		d.Delivery = effect.Delivery
		b.addAttempt(id, d.Attempts, effect.Attempt)
		b.saveDelivery(&d)
		done.Delivery, done.Moved = d.Delivery, effect.Moved
		done.Queued = b.notify(effect.Notices, r.At)
		return nil
	}})
	if err == nil && erased {
		err = engine.ErrNotSendable
	}
	return done, err
}

// recordedBefore returns the result for an attempt that is stored already: its commit was not known to have succeeded, and the caller records it again.
func (b *batch) recordedBefore(d *deliveryRow, r *engine.AttemptRecord) engine.Recorded {
	done := engine.Recorded{Delivery: d.Delivery, Moved: d.FinishedAt.Equal(r.At) || d.Status.Waiting() && d.NextAttemptAt.Equal(r.Next.At)}
	if w := b.hooks.Operations(); w != nil && w.Active { // it may have got system events
		done.Queued = []engine.Queued{{Lane: engine.Lane{WebhookID: w.ID}, At: r.At}}
	}
	return done
}

// Reschedule implements engine.Store.
func (s *Store) Reschedule(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
	var after engine.Delivery
	var told toldElsewhere
	needs := func(b *batch, n *needs) {
		n.delivery(id)
		if r, _ := b.deliveries.get(id); r != nil {
			n.session(r.SessionID, false)
		}
	}
	err := s.write(ctx, mutation{size: 256, needs: needs, run: func(b *batch) error {
		old, err := b.findDelivery(id)
		if err != nil {
			return err
		}
		d := *old
		if how == engine.RescheduleNever {
			err = d.Cancel(now)
		} else {
			var from engine.Source
			if from, err = b.source(&d); err == nil {
				err = d.Requeue(b.hooks.Get(d.WebhookID), from, now)
			}
		}
		if err != nil {
			return err
		}
		after = d.Delivery
		b.saveDelivery(&d)
		told = b.tells([]engine.Delivery{old.Delivery})
		return nil
	}})
	if err == nil {
		err = s.awaitTold(told)
	}
	return after, err
}

// source says what the next attempt of a delivery can be made from.
func (b *batch) source(d *deliveryRow) (engine.Source, error) {
	if d.hasPayload || d.SessionID == uuid.Nil {
		return d.source(false), nil
	}
	session, err := b.session(d.SessionID)
	return d.source(session != nil && session.no == d.sessionNo), err
}
