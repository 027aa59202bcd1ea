package storetest_test

import (
	"context"
	"time"

	"hookbolt/engine"
)

// heedless breaks Watch: it ends after the first news, and makes no deliveries.
func heedless(b *broken) {
	b.watch = func(ctx context.Context, f func(engine.News)) error {
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		err := b.Store.Watch(inner, func(n engine.News) {
			f(n)
			cancel()
		})
		<-ctx.Done()
		return err
	}
}

// doneAnyway breaks Stats: no fan-out is ever under way.
func doneAnyway(b *broken) {
	b.statistic = func(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
		stats, err := b.Store.Stats(ctx, now, probe)
		stats.FanningOut = 0
		return stats, err
	}
}

var fanOutMutants = []mutant{
	{"fan-out/all deliveries are made", "those of the first sessions", func(b *broken) {
		heedless(b)
		doneAnyway(b)
	}},
	{"fan-out/tells the lanes", "it does not", news(func(_ *broken, n *engine.News) { n.Queued = nil })},
	{"fan-out/tells the lanes", "an hour late", news(func(_ *broken, n *engine.News) {
		for i := range n.Queued {
			n.Queued[i].At = n.Queued[i].At.Add(time.Hour)
		}
	})},
	{"fan-out/later webhooks get none", "it gets one", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			done, err := b.Store.PutWebhook(ctx, c)
			if err == nil && b.count() > audienceWebhooks {
				_, err = b.Store.Enqueue(ctx, engine.Enqueue{WebhookID: done.Webhook.ID, Kind: engine.KindComplete, Payload: []byte("{}"), At: time.Now()})
			}
			return done, err
		}
		b.statistic = func(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
			stats, err := b.Store.Stats(ctx, now, probe)
			for id, s := range stats.Webhooks {
				s.Scheduled += s.Pending
				stats.Webhooks[id] = s
			}
			return stats, err
		}
	}},
	{"fan-out/goes on after a restart", "it is forgotten", func(b *broken) {
		if b.opened > 1 {
			heedless(b)
			doneAnyway(b)
		}
	}},
	{"fan-out/at most one of a kind", "two", sessions(func(_ *broken, _ *engine.SessionRecord, d *[]engine.Delivery) {
		if len(*d) > 0 {
			*d = append(*d, (*d)[0])
		}
	})},
	{"fan-out/erased sessions get none", "the session stays", func(b *broken) {
		b.erase = func(context.Context, engine.Erasure, string) (engine.ErasedStep, error) {
			return engine.ErasedStep{}, nil
		}
	}},
	{"fan-out/keeps the session", "the first one goes", func(b *broken) {
		appends(func(b *broken, a *engine.Append) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.times[a.Sessions[0].Events[0].SessionID] = a.Now
		})(b)
		b.maintain = func(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for id := range b.times {
				b.eraseAll(ctx, engine.Erasure{SessionID: id})
			}
			return b.Store.Maintain(ctx, now, r)
		}
	}},
}

// audienceWebhooks is how many webhooks the rules make before they post their sessions.
const audienceWebhooks = 23
