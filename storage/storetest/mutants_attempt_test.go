package storetest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// records breaks RecordAttempt by what it is given.
func records(change func(ctx context.Context, b *broken, r *engine.AttemptRecord)) func(b *broken) {
	return func(b *broken) {
		b.record = func(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
			change(ctx, b, &r)
			return b.Store.RecordAttempt(ctx, r)
		}
	}
}

// recorded breaks RecordAttempt by what comes of it.
func recorded(change func(ctx context.Context, b *broken, r engine.AttemptRecord, done *engine.Recorded, err error) error) func(b *broken) {
	return func(b *broken) {
		b.record = func(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
			done, err := b.Store.RecordAttempt(ctx, r)
			err = change(ctx, b, r, &done, err)
			return done, err
		}
	}
}

// notices breaks what is queued for the operations webhook.
func (b *broken) tellAnyway(ctx context.Context, at time.Time) {
	if w := b.Store.Webhooks().Operations(); w != nil && !w.Active {
		b.Store.Enqueue(ctx, engine.Enqueue{WebhookID: w.ID, Kind: engine.KindOperation, Payload: []byte(`{}`), At: at})
	}
}

var attemptMutants = []mutant{
	{"record/as Apply says", "a new token counts", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) {
		if r.Next.Reason == engine.NextByToken {
			r.Next.Reason = engine.NextBySchedule
		}
	})},
	{"record/as Apply says", "ended now", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) { r.At = time.Now() })},
	{"record/as Apply says", "never moved", recorded(func(_ context.Context, _ *broken, _ engine.AttemptRecord, done *engine.Recorded, err error) error {
		done.Moved = false
		return err
	})},
	{"record/what was done meanwhile stands", "it does not", records(func(ctx context.Context, b *broken, r *engine.AttemptRecord) {
		if d, _, _, err := b.Store.Delivery(ctx, r.Delivery.ID); err == nil {
			r.Delivery = d
		}
	})},
	{"record/what was done meanwhile stands", "also for a success", records(func(ctx context.Context, b *broken, r *engine.AttemptRecord) {
		if d, _, _, err := b.Store.Delivery(ctx, r.Delivery.ID); err == nil && !d.Status.Waiting() {
			r.Next = engine.Next{Status: engine.StatusFailed}
		}
	})},
	{"record/what was done meanwhile stands", "always moved", recorded(func(_ context.Context, _ *broken, _ engine.AttemptRecord, done *engine.Recorded, err error) error {
		done.Moved = true
		return err
	})},
	{"record/erased meanwhile", "no error", recorded(func(_ context.Context, _ *broken, _ engine.AttemptRecord, _ *engine.Recorded, err error) error {
		if errors.Is(err, engine.ErrNotSendable) {
			return nil
		}
		return err
	})},
	{"record/erased meanwhile", "nothing of the endpoint", records(func(ctx context.Context, b *broken, r *engine.AttemptRecord) {
		if _, _, _, err := b.Store.Delivery(ctx, r.Delivery.ID); err != nil {
			r.Health = engine.Health{}
		}
	})},
	{"record/erased meanwhile", "no system event", records(func(ctx context.Context, b *broken, r *engine.AttemptRecord) {
		if _, _, _, err := b.Store.Delivery(ctx, r.Delivery.ID); err != nil {
			r.HealthNotice = nil
		}
	})},
	{"record/erased meanwhile", "claimed for ever", func(b *broken) {
		records(func(ctx context.Context, b *broken, r *engine.AttemptRecord) {
			if _, _, _, err := b.Store.Delivery(ctx, r.Delivery.ID); err != nil {
				b.id = r.Delivery.WebhookID
			}
		})(b)
		claimedMore(b)
	}},
	{"record/ends the claim", "not if it is tried again", recorded(func(ctx context.Context, b *broken, _ engine.AttemptRecord, done *engine.Recorded, err error) error {
		if done.Delivery.Status.Waiting() {
			b.again(ctx, done.Delivery)
		}
		return err
	})},
	{"record/keeps all of an attempt", "no phases", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) { r.Attempt.Phases.TLS = 0 })},
	{"record/keeps all of an attempt", "a header without order", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) {
		r.Attempt.ResponseHeader = slices.Clone(r.Attempt.ResponseHeader)
		slices.Reverse(r.Attempt.ResponseHeader)
	})},
	{"record/keeps all of an attempt", "in microseconds", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) {
		r.Attempt.StartedAt = r.Attempt.StartedAt.Truncate(time.Microsecond)
	})},
	{"record/attempts are listed oldest first", "the newest first", func(b *broken) {
		b.delivery = func(ctx context.Context, id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt, error) {
			d, payload, attempts, err := b.Store.Delivery(ctx, id)
			slices.Reverse(attempts)
			return d, payload, attempts, err
		}
	}},
	{"record/due when Next says", "in whole seconds", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) {
		r.Next.At = r.Next.At.Truncate(time.Second)
	})},
	{"record/due when Next says", "a second late", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) { r.Next.At = r.Next.At.Add(time.Second) })},
	{"record/payload that could not be rendered", "pending without one", records(func(ctx context.Context, b *broken, r *engine.AttemptRecord) {
		if r.Delivery.Status == engine.StatusScheduled {
			b.freezeStored(ctx, engine.Freeze{Delivery: r.Delivery, Payload: []byte(`{}`), Events: 3, At: r.At})
		}
	})},
	{"record/is durable", "forgotten at a start", func(b *broken) {
		if b.opened == 1 {
			return
		}
		page, _ := b.Store.Deliveries(context.Background(), engine.DeliveryQuery{Status: engine.StatusDelivered, Limit: 10})
		for _, d := range page.Items {
			b.Store.Reschedule(context.Background(), d.ID, engine.RescheduleNow, d.DueAt)
		}
	}},

	{"notice/of an attempt", "not of the endpoint", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) { r.HealthNotice = nil })},
	{"notice/of an attempt", "not of the delivery", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) { r.Webhook = nil })},
	{"notice/of an attempt", "not told", recorded(func(_ context.Context, _ *broken, _ engine.AttemptRecord, done *engine.Recorded, err error) error {
		done.Queued = nil
		return err
	})},
	{"notice/of a change", "none", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) { c.Notice = nil })},
	{"notice/of a change", "also of a stale one", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			done, err := b.Store.PutWebhook(ctx, c)
			if errors.Is(err, engine.ErrRevision) && c.Notice != nil {
				b.Store.Enqueue(ctx, engine.Enqueue{WebhookID: b.Store.Webhooks().Operations().ID, Kind: engine.KindOperation, Payload: c.Notice, At: time.Now()})
			}
			return done, err
		}
	}},
	{"notice/for nobody", "for one who is switched off", recorded(func(ctx context.Context, b *broken, r engine.AttemptRecord, _ *engine.Recorded, err error) error {
		b.tellAnyway(ctx, r.At)
		return err
	})},
}

var healthMutants = []mutant{
	{"health/the newest stands", "the last that comes", records(func(_ context.Context, b *broken, r *engine.AttemptRecord) { r.Health.Order = uint64(1000 + b.count()) })},
	{"health/outlives the process", "it does not", counts(func(b *broken, s *engine.Stats) {
		if b.opened > 1 {
			clear(s.Health)
		}
	})},
	{"health/outlives the process", "only while it fails", records(func(_ context.Context, b *broken, r *engine.AttemptRecord) {
		if r.Health.Failures == 0 {
			r.Health = engine.Health{Order: r.Health.Order}
		}
	})},
	{"health/outlives the process", "with its order", records(func(_ context.Context, b *broken, r *engine.AttemptRecord) {
		if b.opened > 1 && r.Health.Order < 1000 {
			r.Health.Order = 0
		}
	})},
	{"health/none for a healthy endpoint", "an entry for all", counts(func(b *broken, s *engine.Stats) {
		for _, w := range b.Store.Webhooks().All() {
			h := s.Health[w.ID]
			s.Health[w.ID] = h
		}
	})},
	{"health/begins anew", "late attempts count", records(func(_ context.Context, b *broken, r *engine.AttemptRecord) {
		if r.Webhook != nil {
			r.Webhook = b.Store.Webhooks().Get(r.Webhook.ID)
			r.Attempt.StartedAt = time.Now().Add(time.Hour)
		}
	})},
	{"health/begins anew", "with every change", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			if c.Webhook.Name != "" {
				c.Webhook.ResumedAt = time.Now()
			}
			return b.Store.PutWebhook(ctx, c)
		}
	}},
	{"health/is deleted with the webhook", "it stays", func(b *broken) {
		counts(func(b *broken, s *engine.Stats) {
			maps.Copy(s.Health, b.health)
		})(b)
		puts(func(ctx context.Context, b *broken, c *engine.WebhookChange) {
			if s, err := b.Store.Stats(ctx, time.Now(), false); err == nil && c.Deleted {
				b.health[c.Webhook.ID] = s.Health[c.Webhook.ID]
			}
		})(b)
	}},
	{"health/is told to the owner", "as healthy", func(b *broken) {
		b.watch = func(ctx context.Context, f func(engine.News)) error {
			return b.Store.Watch(ctx, func(n engine.News) {
				for id := range n.Own {
					n.Own[id] = engine.Owned{Webhook: n.Own[id].Webhook}
				}
				f(n)
			})
		}
	}},
}
