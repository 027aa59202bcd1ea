package storetest_test

import (
	"context"
	"errors"
	"time"

	"hookbolt/engine"
)

// keys breaks each change that may be made for a request with a key, by the request that it is told of.
func keys(change func(b *broken, o *engine.Once) *engine.Once) func(b *broken) {
	return func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			c.Once = change(b, c.Once)
			return b.Store.PutWebhook(ctx, c)
		}
		b.enqueue = func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
			q.Once = change(b, q.Once)
			return b.Store.Enqueue(ctx, q)
		}
		b.replay = func(ctx context.Context, r engine.Replay) (int64, error) {
			r.Once = change(b, r.Once)
			return b.Store.Replay(ctx, r)
		}
	}
}

// done breaks Done by what it returns.
func done(change func(b *broken, d *engine.Done, err error) error) func(b *broken) {
	return func(b *broken) {
		b.done = func(ctx context.Context, key engine.OnceKey) (engine.Done, error) {
			d, err := b.Store.Done(ctx, key)
			err = change(b, &d, err)
			return d, err
		}
	}
}

// retried makes a change that was refused for its key once more, without it.
func retried(b *broken, again func(b *broken, ctx context.Context, q engine.Enqueue, err error) (engine.Delivery, error)) {
	b.enqueue = func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
		d, err := b.Store.Enqueue(ctx, q)
		if errors.Is(err, engine.ErrRepeated) {
			q.Once = nil
			return again(b, ctx, q, err)
		}
		return d, err
	}
}

var onceMutants = []mutant{
	{"once/kept with the effect", "not at all", keys(func(*broken, *engine.Once) *engine.Once { return nil })},
	{"once/kept with the effect", "in memory", func(b *broken) {
		done(func(b *broken, d *engine.Done, err error) error {
			if b.opened > 1 {
				return engine.ErrNotFound
			}
			return err
		})(b)
	}},
	{"once/kept with the effect", "without the replay", done(func(_ *broken, d *engine.Done, err error) error {
		d.Replay = nil
		return err
	})},
	{"once/kept with the effect", "only what is there still", done(func(b *broken, d *engine.Done, err error) error {
		if d.WebhookID != 0 && b.Store.Webhooks().Get(d.WebhookID) == nil {
			return engine.ErrNotFound
		}
		return err
	})},
	{"once/a repeated change", "made again", func(b *broken) {
		retried(b, func(b *broken, ctx context.Context, q engine.Enqueue, _ error) (engine.Delivery, error) {
			return b.Store.Enqueue(ctx, q)
		})
	}},
	{"once/a repeated change", "refused and made", func(b *broken) {
		retried(b, func(b *broken, ctx context.Context, q engine.Enqueue, err error) (engine.Delivery, error) {
			b.Store.Enqueue(ctx, q)
			return engine.Delivery{}, err
		})
	}},
	{"once/a repeated change", "a webhook twice", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			made, err := b.Store.PutWebhook(ctx, c)
			if errors.Is(err, engine.ErrRepeated) {
				c.Once = nil
				return b.Store.PutWebhook(ctx, c)
			}
			return made, err
		}
	}},
	{"once/a repeated change", "a replay twice", func(b *broken) {
		b.replay = func(ctx context.Context, r engine.Replay) (int64, error) {
			n, err := b.Store.Replay(ctx, r)
			if errors.Is(err, engine.ErrRepeated) {
				r.Once = nil
				return b.Store.Replay(ctx, r)
			}
			return n, err
		}
	}},
	{"once/one of many at once", "looked up first", func(b *broken) {
		b.enqueue = func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
			if q.Once == nil {
				return b.Store.Enqueue(ctx, q)
			}
			if _, err := b.Store.Done(ctx, q.Once.Key); err == nil {
				return engine.Delivery{}, engine.ErrRepeated
			}
			time.Sleep(20 * time.Millisecond)
			d, err := b.Store.Enqueue(ctx, q)
			if errors.Is(err, engine.ErrRepeated) {
				q.Once = nil
				return b.Store.Enqueue(ctx, q)
			}
			return d, err
		}
	}},
	{"once/a failed change", "remembered", func(b *broken) {
		b.enqueue = func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
			d, err := b.Store.Enqueue(ctx, q)
			if errors.Is(err, engine.ErrNotFound) && q.Once != nil {
				b.Store.PutWebhook(ctx, engine.WebhookChange{Webhook: *b.Store.Webhooks().All()[0], Once: q.Once})
			}
			return d, err
		}
	}},
	{"once/a dry run", "remembered", replays(func(ctx context.Context, b *broken, r engine.Replay) (int64, error) {
		n, err := b.Store.Replay(ctx, r)
		if r.DryRun {
			r.DryRun, r.Until = false, time.Unix(1, 0)
			b.Store.Replay(ctx, r)
		}
		return n, err
	})},
	{"once/for a day", "for ever", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		m, err := b.Store.Maintain(ctx, now.Add(-48*time.Hour), r)
		m.Next = now.Add(time.Hour)
		return m, err
	})},
	{"once/for a day", "an hour less", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		return b.Store.Maintain(ctx, now.Add(time.Hour), r)
	})},
	{"once/without Maintain", "refused until then", keys(func(b *broken, o *engine.Once) *engine.Once {
		if o == nil {
			return nil
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		earlier := *o
		if first, found := b.onces[o.Key]; found {
			earlier.At = first
		}
		b.onces[o.Key] = earlier.At
		return &earlier
	})},
}
