package storetest_test

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var programMutants = []mutant{
	{"freeze/keeps what shapes the body", "no values for the URL", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		f.URLValues = ""
		return b.freezeStored(ctx, f)
	})},
	{"freeze/keeps what shapes the body", "not once it is claimed", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		for i := range *results {
			for j := range (*results)[i].Claimed {
				(*results)[i].Claimed[j].Delivery.ContentType = ""
			}
		}
	})},
	{"freeze/filtered", "not counted", counts(func(_ *broken, s *engine.Stats) {
		for id, w := range s.Webhooks {
			w.Filtered = 0
			s.Webhooks[id] = w
		}
	})},
	{"freeze/filtered", "in no list", lists(func(ctx context.Context, b *broken, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
		if q.Status == engine.StatusFiltered {
			return engine.DeliveryPage{}, nil
		}
		return b.Store.Deliveries(ctx, q)
	})},
	{"freeze/filtered", "the claim lasts", frozen(func(ctx context.Context, b *broken, f engine.Freeze, _ *engine.Frozen, err error) error {
		if f.Filtered {
			b.again(ctx, b.requeued(ctx, f))
		}
		return err
	})},
	{"freeze/parked", "as the last retry", frozen(func(_ context.Context, _ *broken, _ engine.Freeze, done *engine.Frozen, err error) error {
		done.Delivery.BuildError = ""
		return err
	})},
	{"freeze/parked", "nobody is told", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		f.Webhook = nil
		return b.freezeStored(ctx, f)
	})},
	{"freeze/parked", "not counted", counts(func(_ *broken, s *engine.Stats) {
		for id, w := range s.Webhooks {
			w.Parked = 0
			s.Webhooks[id] = w
		}
	})},
	{"freeze/an end needs all events", "from any", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		if record, _, err := b.Store.Session(ctx, f.Delivery.SessionID); err == nil {
			f.Events = record.Head.Events
		}
		return b.freezeStored(ctx, f)
	})},
	{"freeze/an end supersedes nothing", "it cancels", frozen(func(ctx context.Context, b *broken, f engine.Freeze, _ *engine.Frozen, err error) error {
		_, deliveries, _ := b.Store.Session(ctx, f.Delivery.SessionID)
		for _, d := range deliveries {
			if d.ID != f.Delivery.ID {
				b.Store.Reschedule(ctx, d.ID, engine.RescheduleNever, f.At)
			}
		}
		return err
	})},
	{"freeze/a mended one is built anew", "as a payload", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		for i := range *results {
			for j := range (*results)[i].Claimed {
				if c := &(*results)[i].Claimed[j]; c.Session != nil {
					c.Payload = []byte(`{}`)
				}
			}
		}
	})},
	{"freeze/a mended one is built anew", "it stays failed", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		d, err := b.Store.Reschedule(ctx, id, how, now)
		d.Status = engine.StatusPending
		return d, err
	})},
	{"maintain/what has no body is kept with its session", "it goes as others", func(b *broken) {
		b.maintain = func(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
			page, err := b.Store.Deliveries(ctx, engine.DeliveryQuery{Limit: 100})
			for _, d := range page.Items {
				if d.KeptWithSession() {
					for step := (engine.ErasedStep{Next: ""}); ; {
						if step, err = b.Store.Erase(ctx, engine.Erasure{SessionID: d.SessionID}, step.Next); err != nil || step.Next == "" {
							break
						}
					}
				}
			}
			if err != nil {
				return engine.Maintained{}, err
			}
			return b.Store.Maintain(ctx, now, r)
		}
	}},
	{"append/late events ask a filter again", "they are counted", appended(func(ctx context.Context, b *broken, a engine.Append, done *engine.Appended, err error) error {
		if err != nil {
			return err
		}
		_, deliveries, _ := b.Store.Session(ctx, a.Sessions[0].Events[0].SessionID)
		for _, d := range deliveries {
			if d.BuiltFrom > 0 {
				b.Store.Reschedule(ctx, d.ID, engine.RescheduleNever, a.Now)
				done.Late, done.Queued = len(a.Sessions[0].Events), nil
			}
		}
		return nil
	})},
	{"append/late events ask a filter again", "nobody is told", appended(func(_ context.Context, _ *broken, _ engine.Append, done *engine.Appended, err error) error {
		done.Queued = nil
		return err
	})},
	{"append/events in time ask no filter again", "all the same", appended(func(ctx context.Context, b *broken, a engine.Append, _ *engine.Appended, err error) error {
		_, deliveries, _ := b.Store.Session(ctx, a.Sessions[0].Events[0].SessionID)
		for _, d := range deliveries {
			if d.Status == engine.StatusFiltered {
				b.Store.Reschedule(ctx, d.ID, engine.RescheduleNow, a.Now)
			}
		}
		return err
	})},
	{"replay/filtered", "failed ones", asksReplay(func(r *engine.Replay) { r.Scope = engine.ReplayFailed })},
	{"replay/filtered", "all", asksReplay(func(r *engine.Replay) { r.Scope = engine.ReplayAny })},
	{"replay/of one error", "of any", asksReplay(func(r *engine.Replay) { r.Error = "" })},
	{"erase/a body of any shape", "as a payload", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		f.Shaped, f.Payload = false, []byte(`{}`)
		return b.freezeStored(ctx, f)
	})},
	{"enqueue/a system event is shaped later", "as it is", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			c.Webhook.Transform = nil
			return b.Store.PutWebhook(ctx, c)
		}
	}},
	{"enqueue/a system event is shaped later", "the event is lost", deliveries(func(d *engine.Delivery, payload *[]byte, err error) error {
		if d.FrozenAt.IsZero() {
			*payload = nil
		}
		return err
	})},
}

// requeued queues a delivery that a Freeze has ended again.
func (b *broken) requeued(ctx context.Context, f engine.Freeze) engine.Delivery {
	d, err := b.Store.Reschedule(ctx, f.Delivery.ID, engine.RescheduleNow, f.At)
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		panic(err)
	}
	return d
}
