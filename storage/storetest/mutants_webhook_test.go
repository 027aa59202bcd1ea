package storetest_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"hookbolt/engine"
)

// puts breaks PutWebhook by what it is given.
func puts(change func(ctx context.Context, b *broken, c *engine.WebhookChange)) func(b *broken) {
	return func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			c.Cancels = slices.Clone(c.Cancels)
			change(ctx, b, &c)
			return b.Store.PutWebhook(ctx, c)
		}
	}
}

// put breaks PutWebhook by what it returns.
func put(change func(ctx context.Context, b *broken, c engine.WebhookChange, done *engine.WebhookChanged, err error) error) func(b *broken) {
	return func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			done, err := b.Store.PutWebhook(ctx, c)
			err = change(ctx, b, c, &done, err)
			return done, err
		}
	}
}

var webhookMutants = []mutant{
	{"webhook/is kept with all settings", "without one", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) { c.Webhook.RateLimit = nil })},
	{"webhook/is kept with all settings", "forgotten at a start", func(b *broken) {
		if b.opened > 1 {
			b.webhooks = func() *engine.WebhookSet { return engine.NewWebhookSet(nil, nil) }
		}
	}},
	{"webhook/revision grows", "it stays", put(func(_ context.Context, _ *broken, c engine.WebhookChange, done *engine.WebhookChanged, err error) error {
		done.Webhook.Revision = c.Webhook.Revision
		return err
	})},
	{"webhook/unchanged", "it is changed", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) { c.Unchanged = false })},
	{"webhook/unchanged", "nobody asks", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			if c.Unchanged {
				return engine.WebhookChanged{Webhook: c.Webhook}, nil
			}
			return b.Store.PutWebhook(ctx, c)
		}
	}},
	{"webhook/stale change", "the last wins", puts(func(_ context.Context, b *broken, c *engine.WebhookChange) {
		if w := b.Store.Webhooks().Get(c.Webhook.ID); w != nil {
			c.Webhook.Revision = w.Revision
		}
	})},
	{"webhook/stale change", "refused, but cancelled", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			done, err := b.Store.PutWebhook(ctx, c)
			if w := b.Store.Webhooks().Get(c.Webhook.ID); errors.Is(err, engine.ErrRevision) && len(c.Cancels) > 0 {
				b.Store.PutWebhook(ctx, engine.WebhookChange{Webhook: *w, Cancels: c.Cancels})
			}
			return done, err
		}
	}},
	{"webhook/one of many changes at once", "all", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			done, err := b.Store.PutWebhook(ctx, c)
			for errors.Is(err, engine.ErrRevision) {
				c.Webhook.Revision = b.Store.Webhooks().Get(c.Webhook.ID).Revision
				done, err = b.Store.PutWebhook(ctx, c)
			}
			return done, err
		}
	}},
	{"webhook/not found", "another error", put(func(_ context.Context, _ *broken, _ engine.WebhookChange, _ *engine.WebhookChanged, err error) error {
		return instead(err, engine.ErrNotFound, engine.ErrRevision)
	})},
	{"webhook/not found", "no error for a deletion", put(func(_ context.Context, _ *broken, c engine.WebhookChange, _ *engine.WebhookChanged, err error) error {
		if c.Deleted {
			return instead(err, engine.ErrNotFound, nil)
		}
		return err
	})},
	{"webhook/ids are not used twice", "the first again", put(func(_ context.Context, b *broken, c engine.WebhookChange, done *engine.WebhookChanged, err error) error {
		if b.id == 0 {
			b.id = done.Webhook.ID
		}
		if c.Webhook.ID == 0 {
			done.Webhook.ID = b.id
		}
		return err
	})},
	{"webhook/deleted", "switched off", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) {
		if c.Deleted {
			c.Deleted, c.Webhook.Active = false, false
		}
	})},
	{"webhook/deleted", "with its deliveries", put(func(ctx context.Context, b *broken, c engine.WebhookChange, _ *engine.WebhookChanged, err error) error {
		page, _ := b.Store.Deliveries(ctx, engine.DeliveryQuery{WebhookID: c.Webhook.ID, Limit: 10})
		for _, d := range page.Items {
			if c.Deleted {
				b.eraseAll(ctx, engine.Erasure{SessionID: d.SessionID})
			}
		}
		return err
	})},
	{"webhook/one for operations", "two", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			done, err := b.Store.PutWebhook(ctx, c)
			if errors.Is(err, engine.ErrRevision) && c.Webhook.ID == 0 {
				c.Webhook.Operations = false
				return b.Store.PutWebhook(ctx, c)
			}
			return done, err
		}
	}},
	{"webhook/a set does not change", "in place", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			before := b.Store.Webhooks().Get(c.Webhook.ID)
			done, err := b.Store.PutWebhook(ctx, c)
			if before != nil && err == nil {
				*before = done.Webhook
			}
			return done, err
		}
	}},
	{"webhook/decides from the next event on", "from the one after it on", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			if c.Webhook.ID == 0 {
				return b.Store.PutWebhook(ctx, c)
			}
			b.change = &c
			done := engine.WebhookChanged{Webhook: c.Webhook}
			done.Webhook.Revision++
			return done, nil
		}
		b.append = func(ctx context.Context, a engine.Append) (engine.Appended, error) {
			done, err := b.Store.AppendEvents(ctx, a)
			if b.change != nil {
				b.Store.PutWebhook(ctx, *b.change)
			}
			return done, err
		}
	}},

	{"cancel/is a mark first", "at once", put(func(ctx context.Context, b *broken, c engine.WebhookChange, _ *engine.WebhookChanged, err error) error {
		if len(c.Cancels) > 0 {
			b.finish(ctx)
		}
		return err
	})},
	{"cancel/is a mark first", "no mark", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) { c.Cancels = nil })},
	{"cancel/passed over when claimed", "it is not", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) { c.Cancels = nil })},
	{"cancel/passed over when claimed", "but tests are not", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) {
		for i := range c.Cancels {
			if c.Cancels[i].Scope == engine.CancelAll {
				c.Cancels[i].Scope = engine.CancelContent
			}
		}
	})},
	{"cancel/outlives the process", "in memory", func(b *broken) {
		var cancels []engine.Cancellation
		puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) {
			cancels = append(cancels, c.Cancels...)
			c.Cancels = nil
		})(b)
		b.webhooks = func() *engine.WebhookSet { return engine.NewWebhookSet(b.Store.Webhooks().All(), cancels) }
	}},
	{"cancel/scopes", "all", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) {
		for i := range c.Cancels {
			c.Cancels[i].Scope = engine.CancelAll
		}
	})},
	{"cancel/updates that are not built", "none", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) {
		c.Cancels = slices.DeleteFunc(c.Cancels, func(c engine.Cancellation) bool { return c.Scope == engine.CancelUpdates })
	})},
	{"cancel/updates that are not built", "those that are built as well", put(func(ctx context.Context, b *broken, c engine.WebhookChange, _ *engine.WebhookChanged, err error) error {
		page, _ := b.Store.Deliveries(ctx, engine.DeliveryQuery{WebhookID: c.Webhook.ID, Status: engine.StatusPending, Limit: 10})
		for _, d := range page.Items {
			b.Store.Reschedule(ctx, d.ID, engine.RescheduleNever, time.Now())
		}
		return err
	})},
	{"cancel/carried out", "the first step", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		if b.count() > 1 {
			return engine.Maintained{Next: now.Add(time.Hour)}, nil
		}
		return b.Store.Maintain(ctx, now, r)
	})},
	{"cancel/carried out", "again and again", func(b *broken) {
		puts(func(_ context.Context, b *broken, c *engine.WebhookChange) {
			b.cancels = append(b.cancels, c.Cancels...)
		})(b)
		b.webhooks = func() *engine.WebhookSet { return engine.NewWebhookSet(b.Store.Webhooks().All(), b.cancels) }
	}},
	{"cancel/new deliveries are not covered", "they are", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) {
		for i := range c.Cancels {
			c.Cancels[i].Revision++
		}
	})},
	{"cancel/all ends replays", "they go on", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) {
		for i := range c.Cancels {
			c.Cancels[i].Scope = engine.CancelContent
		}
	})},
	{"cancel/all ends replays", "so does any", puts(func(_ context.Context, _ *broken, c *engine.WebhookChange) {
		for i := range c.Cancels {
			c.Cancels[i].Scope = engine.CancelAll
		}
	})},
}
