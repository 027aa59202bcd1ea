package storetest_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// watches breaks Watch.
func watches(call func(ctx context.Context, b *broken, f func(engine.News)) error) func(b *broken) {
	return func(b *broken) {
		b.watch = func(ctx context.Context, f func(engine.News)) error { return call(ctx, b, f) }
	}
}

// news breaks Watch by what it reports.
func news(change func(b *broken, n *engine.News)) func(b *broken) {
	return watches(func(ctx context.Context, b *broken, f func(engine.News)) error {
		return b.Store.Watch(ctx, func(n engine.News) {
			change(b, &n)
			f(n)
		})
	})
}

var errorMutants = []mutant{
	{"watch/reports soon", "nothing, as there is nothing to own", watches(func(ctx context.Context, b *broken, f func(engine.News)) error {
		return b.Store.Watch(ctx, func(n engine.News) {
			if len(n.Own) > 0 {
				f(n)
			}
		})
	})},
	{"watch/owns all if it is alone", "active ones", news(func(b *broken, n *engine.News) {
		for id := range n.Own {
			if !b.Store.Webhooks().Get(id).Active {
				delete(n.Own, id)
			}
		}
	})},
	{"watch/owns all if it is alone", "no keeper", news(func(_ *broken, n *engine.News) { n.Keeper = false })},
	{"watch/one call at a time", "two", watches(func(ctx context.Context, b *broken, f func(engine.News)) error {
		return b.Store.Watch(ctx, func(n engine.News) {
			var calls sync.WaitGroup
			for range 2 {
				calls.Go(func() { f(n) })
			}
			calls.Wait()
		})
	})},
	{"watch/one call at a time", "nothing goes on meanwhile", func(b *broken) {
		var mu sync.Mutex
		watches(func(ctx context.Context, b *broken, f func(engine.News)) error {
			return b.Store.Watch(ctx, func(n engine.News) {
				mu.Lock()
				defer mu.Unlock()
				f(n)
			})
		})(b)
		appends(func(*broken, *engine.Append) {
			mu.Lock()
			defer mu.Unlock()
		})(b)
	}},
	{"watch/returns nil when its context ends", "the context's error", watches(func(ctx context.Context, b *broken, f func(engine.News)) error {
		return errors.Join(b.Store.Watch(ctx, f), ctx.Err())
	})},
	{"watch/can be called again", "nothing the second time", news(func(b *broken, n *engine.News) {
		if b.count() > 1 {
			n.Own = nil
		}
	})},
	{"watch/mine", "also when it is closed", func(b *broken) { b.mine = func(uint32) bool { return true } }},
	{"watch/mine", "not every time", func(b *broken) {
		b.mine = func(id uint32) bool { return b.count()%7 != 3 && b.Store.Mine(id) }
	}},

	{"error/closed", "not found", func(b *broken) {
		b.session = func(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error) {
			r, d, err := b.Store.Session(ctx, id)
			return r, d, instead(err, engine.ErrUnavailable, engine.ErrNotFound)
		}
	}},
	{"error/closed", "no news", watches(func(ctx context.Context, b *broken, f func(engine.News)) error {
		return instead(b.Store.Watch(ctx, f), engine.ErrUnavailable, nil)
	})},
	{"error/closed while calls are under way", "acknowledged", appended(func(_ context.Context, _ *broken, _ engine.Append, _ *engine.Appended, err error) error {
		return instead(err, engine.ErrUnavailable, nil)
	})},
	{"error/closed while calls are under way", "another error", appended(func(_ context.Context, _ *broken, _ engine.Append, _ *engine.Appended, err error) error {
		return instead(err, engine.ErrUnavailable, errors.New("closed"))
	})},
	{"error/ended context", "a conflict", func(b *broken) {
		b.enqueue = func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
			if ctx.Err() != nil {
				return engine.Delivery{}, engine.ErrConflict
			}
			return b.Store.Enqueue(ctx, q)
		}
	}},
	{"error/ended context claims nothing", "it does", func(b *broken) {
		b.claim = func(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
			results, err := b.Store.ClaimDue(context.WithoutCancel(ctx), now, requests)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return results, err
		}
	}},
	{"error/ended context claims nothing", "it does on arrival", func(b *broken) {
		b.append = func(ctx context.Context, a engine.Append) (engine.Appended, error) {
			done, err := b.Store.AppendEvents(context.WithoutCancel(ctx), a)
			if ctx.Err() != nil {
				return engine.Appended{}, ctx.Err()
			}
			return done, err
		}
	}},
	{"error/ended context keeps the claim", "it ends", func(b *broken) {
		b.record = func(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
			if ctx.Err() != nil {
				b.Store.Release(context.WithoutCancel(ctx), []engine.Delivery{r.Delivery})
				return engine.Recorded{}, ctx.Err()
			}
			return b.Store.RecordAttempt(ctx, r)
		}
	}},
	{"error/ended context keeps the claim", "it ends with a freeze", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		if ctx.Err() != nil {
			b.Store.Release(context.WithoutCancel(ctx), []engine.Delivery{f.Delivery})
			return ctx.Err()
		}
		return b.freezeStored(ctx, f)
	})},

	{"together/all methods at once", "an acknowledged request is lost", appends(func(b *broken, a *engine.Append) {
		if n := b.count(); n > 33 && n < 44 {
			a.Sessions = nil
		}
	})},
	{"together/all methods at once", "an attempt is recorded twice", func(b *broken) {
		b.record = func(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
			if b.count() < 10 {
				b.Store.RecordAttempt(ctx, r)
			}
			return b.Store.RecordAttempt(ctx, r)
		}
	}},
	{"together/all is durable", "payloads are not", func(b *broken) {
		if b.opened > 1 {
			deliveries(func(_ *engine.Delivery, payload *[]byte, err error) error {
				*payload = nil
				return err
			})(b)
		}
	}},
	{"together/all is durable", "what was cancelled comes back", func(b *broken) {
		if b.opened == 1 {
			return
		}
		page, _ := b.Store.Deliveries(context.Background(), engine.DeliveryQuery{Status: engine.StatusCancelled, Limit: 10})
		for _, d := range page.Items {
			b.Store.Reschedule(context.Background(), d.ID, engine.RescheduleNow, d.DueAt)
		}
	}},
}

// member returns the process that is broken.
func (b *broken) member() *member { return b.Store.(*member) }

var sharedMutants = []mutant{
	{"shared/lanes have one owner", "all are", func(b *broken) { b.mine = func(uint32) bool { return true } }},
	{"shared/lanes have one owner", "whoever asks", func(b *broken) {
		b.claim = func(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
			return b.member().Store.ClaimDue(ctx, now, requests)
		}
	}},
	{"shared/lanes have one owner", "nobody is told", news(func(_ *broken, n *engine.News) { n.Own = nil })},
	{"shared/lanes of a process that has ended", "are nobody's", func(b *broken) {
		b.mine = func(id uint32) bool {
			return b.Store.Mine(id) && len(b.member().f.members) > 1
		}
	}},
	{"shared/lanes of a process that has ended", "with its claims", claims(func(_ context.Context, b *broken, results *[]engine.ClaimResult) {
		for i := range *results {
			r := &(*results)[i]
			var first []engine.Claimed
			for _, c := range r.Claimed {
				if b.once(c.Delivery.ID.String()) {
					first = append(first, c)
				}
			}
			r.Claimed = first
		}
	})},
	{"shared/one keeper", "all are", news(func(_ *broken, n *engine.News) { n.Keeper = true })},
	{"shared/one keeper", "the first for ever", news(func(b *broken, n *engine.News) { n.Keeper = n.Keeper && b.opened == 1 })},
	{"shared/all read the same", "claims are their own", counts(func(b *broken, s *engine.Stats) {
		for id, w := range s.Webhooks {
			if !b.Store.Mine(id) {
				w.Claimed = 0
				s.Webhooks[id] = w
			}
		}
	})},
	{"shared/changes are reported", "they are not", news(func(_ *broken, n *engine.News) { n.Webhooks = nil })},
	{"shared/a change holds when it has returned", "later", func(b *broken) {
		set := b.Store.Webhooks()
		b.webhooks = func() *engine.WebhookSet {
			if now := b.Store.Webhooks(); set.Get(1) == nil {
				set = now
			}
			return set
		}
	}},
	{"shared/what was queued elsewhere is reported", "it is not", news(func(_ *broken, n *engine.News) { n.Queued = nil })},
	{"shared/what was ended elsewhere is reported", "it is not", news(func(_ *broken, n *engine.News) { n.Ended = nil })},
	{"shared/claims are the owner's", "whoever records", func(b *broken) {
		b.record = func(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
			return b.member().Store.RecordAttempt(ctx, r)
		}
	}},
	{"shared/claims are the owner's", "whoever freezes", func(b *broken) {
		b.freeze = func(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
			return b.member().Store.Freeze(ctx, f)
		}
	}},
	{"shared/claims are the owner's", "claimed on arrival by anybody", func(b *broken) {
		b.append = func(ctx context.Context, a engine.Append) (engine.Appended, error) {
			return b.member().Store.AppendEvents(ctx, a)
		}
	}},
	{"shared/at most one of a kind", "repeats are known to their process only", func(b *broken) {
		seen := make(map[string]bool)
		var mu sync.Mutex
		appends(func(_ *broken, a *engine.Append) {
			events := append([]engine.Event(nil), a.Sessions[0].Events...)
			a.Sessions[0].Events = events[:0]
			mu.Lock()
			defer mu.Unlock()
			for _, ev := range events {
				if ev.ID != "" && seen[ev.ID] {
					continue
				}
				seen[ev.ID] = true
				ev.ID = ""
				a.Sessions[0].Events = append(a.Sessions[0].Events, ev)
			}
		})(b)
	}},
	{"shared/one of two changes at once", "both", func(b *broken) {
		b.put = func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
			done, err := b.Store.PutWebhook(ctx, c)
			for errors.Is(err, engine.ErrRevision) && c.Webhook.ID != 0 {
				c.Webhook.Revision = b.Store.Webhooks().Get(c.Webhook.ID).Revision
				done, err = b.Store.PutWebhook(ctx, c)
			}
			return done, err
		}
	}},
}
