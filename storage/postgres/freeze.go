package postgres

import (
	"context"
	"errors"

	"hookbolt/engine"
)

// Freeze implements engine.Store.
func (s *Store) Freeze(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
	id := f.Delivery.ID
	var done engine.Frozen
	needs := func(b *batch, n *needs) {
		n.delivery(id)
		n.session(f.Delivery.SessionID, false)
		if r, _ := b.sessions.get(f.Delivery.SessionID); r != nil {
			for _, ref := range r.Deliveries { // those that the payload may supersede
				if ref.WebhookID == f.Delivery.WebhookID {
					n.delivery(ref.ID)
				}
			}
		}
	}
	err := s.write(ctx, mutation{size: len(f.Payload) + 512, needs: needs, run: func(b *batch) error {
		done = engine.Frozen{}
		if !s.isClaimed(id) {
			return s.notClaimed(id)
		}
		old, err := b.findDelivery(id)
		if err != nil {
			return err
		}
		if !f.Fits(&old.Delivery, b.hooks.Covered(&old.Delivery)) {
			return engine.ErrNotSendable
		}
		if f.Payload == nil && !f.Ends() {
			b.ends = append(b.ends, id)
			b.removeDelivery(old)
			return nil
		}
		if err := b.supersede(old, &f, &done); err != nil {
			return err
		}
		after := *old
		var notices [][]byte
		after.Delivery, notices = f.Apply(&old.Delivery)
		if f.Ends() {
			done.Delivery = after.Delivery
			b.ends = append(b.ends, id)
		} else {
			b.storePayload(&after, f.Payload)
		}
		done.Queued = b.notify(notices, f.At)
		b.saveDelivery(&after)
		return nil
	}})
	if errors.Is(err, engine.ErrNotSendable) || errors.Is(err, engine.ErrNotFound) {
		s.unclaim(id)
		err = engine.ErrNotSendable
	}
	return done, err
}
