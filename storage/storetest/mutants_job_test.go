package storetest_test

import (
	"context"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// finish carries out all that waits in the background.
func (b *broken) finish(ctx context.Context) {
	at := time.Now()
	keep := engine.Retention{Sessions: 10_000 * time.Hour, Deliveries: 10_000 * time.Hour}
	for {
		m, err := b.Store.Maintain(ctx, at, keep)
		if err != nil || m.Next.After(at) {
			return
		}
	}
}

// maintains breaks Maintain.
func maintains(call func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error)) func(b *broken) {
	return func(b *broken) {
		b.maintain = func(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
			return call(ctx, b, now, r)
		}
	}
}

// maintained breaks Maintain by what it returns.
func maintained(change func(m *engine.Maintained, now time.Time)) func(b *broken) {
	return maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		m, err := b.Store.Maintain(ctx, now, r)
		change(&m, now)
		return m, err
	})
}

// replays breaks Replay.
func replays(call func(ctx context.Context, b *broken, r engine.Replay) (int64, error)) func(b *broken) {
	return func(b *broken) {
		b.replay = func(ctx context.Context, r engine.Replay) (int64, error) { return call(ctx, b, r) }
	}
}

// asksReplay breaks Replay by what it is given.
func asksReplay(change func(r *engine.Replay)) func(b *broken) {
	return replays(func(ctx context.Context, b *broken, r engine.Replay) (int64, error) {
		change(&r)
		return b.Store.Replay(ctx, r)
	})
}

// requeuesCancelled breaks Replay: it also queues cancelled deliveries that are chosen.
func requeuesCancelled(chosen func(d *engine.Delivery) bool) func(b *broken) {
	return replays(func(ctx context.Context, b *broken, r engine.Replay) (int64, error) {
		n, err := b.Store.Replay(ctx, r)
		page, _ := b.Store.Deliveries(ctx, engine.DeliveryQuery{WebhookID: r.WebhookID, Status: engine.StatusCancelled, Limit: 10})
		for i := range page.Items {
			if chosen(&page.Items[i]) {
				b.Store.Reschedule(ctx, page.Items[i].ID, engine.RescheduleNow, time.Now())
			}
		}
		return n, err
	})
}

var jobMutants = []mutant{
	{"replay/scopes", "the failed of any", asksReplay(func(r *engine.Replay) { r.Scope = engine.ReplayFailed })},
	{"replay/scopes", "counted one short", replays(func(ctx context.Context, b *broken, r engine.Replay) (int64, error) {
		n, err := b.Store.Replay(ctx, r)
		return n - 1, err
	})},
	{"replay/what is missing", "what was made", asksReplay(func(r *engine.Replay) { r.Scope = engine.ReplayAny })},
	{"replay/what is missing after its retention", "nothing", asksReplay(func(r *engine.Replay) { r.Scope = engine.ReplayFailed })},
	{"replay/what is missing", "again and again", replays(func(ctx context.Context, b *broken, r engine.Replay) (int64, error) {
		n, err := b.Store.Replay(ctx, r)
		b.n = max(b.n, int(n))
		return int64(b.n), err
	})},
	{"replay/what is missing with updates", "no update", asksReplay(func(r *engine.Replay) { r.Scope = engine.ReplayFailed })},
	{"replay/what is missing with updates", "the superseded ones", requeuesCancelled(func(d *engine.Delivery) bool { return d.SupersededBy != uuid.Nil })},
	{"replay/what is missing with updates", "whatever an update has told", requeuesCancelled(func(d *engine.Delivery) bool { return d.SupersededBy == uuid.Nil && d.Kind == engine.KindComplete })},
	{"replay/what is missing with updates after its retention", "nothing", asksReplay(func(r *engine.Replay) { r.Scope = engine.ReplayFailed })},
	{"replay/what is missing with updates after its retention", "whatever an update has told", replays(func(ctx context.Context, b *broken, r engine.Replay) (int64, error) {
		_, err := b.Store.Replay(ctx, r)
		page, _ := b.Store.Sessions(ctx, engine.SessionQuery{State: engine.SessionComplete, Limit: 10})
		n := 0
		for _, head := range page.Items {
			if _, deliveries, _ := b.Store.Session(ctx, head.ID); len(deliveries) == 0 {
				n++
			}
		}
		return int64(n), err
	})},
	{"replay/bounds are inclusive", "until before", asksReplay(func(r *engine.Replay) { r.Until = r.Until.Add(-1) })},
	{"replay/bounds are inclusive", "since after", asksReplay(func(r *engine.Replay) { r.Since = r.Since.Add(1) })},
	{"replay/dry run", "it is none", asksReplay(func(r *engine.Replay) { r.DryRun = false })},
	{"replay/is left to Maintain", "it is not", replays(func(ctx context.Context, b *broken, r engine.Replay) (int64, error) {
		n, err := b.Store.Replay(ctx, r)
		b.finish(ctx)
		return n, err
	})},
	{"replay/is left to Maintain", "it does not show", counts(func(_ *broken, s *engine.Stats) { s.Replays = nil })},
	{"replay/tells what it has queued", "nothing", maintained(func(m *engine.Maintained, _ time.Time) { m.Queued = nil })},
	{"replay/outlives the process", "it does not", func(b *broken) {
		if b.opened != 2 {
			return
		}
		for _, w := range b.Store.Webhooks().All() { // which ends replays, and covers nothing
			b.Store.PutWebhook(context.Background(), engine.WebhookChange{Webhook: *w, Cancels: []engine.Cancellation{{WebhookID: w.ID, Scope: engine.CancelAll}}})
		}
	}},
	{"replay/refused", "there is nothing to replay", replays(func(ctx context.Context, b *broken, r engine.Replay) (int64, error) {
		n, err := b.Store.Replay(ctx, r)
		return n, instead(err, engine.ErrNotFound, nil)
	})},
	{"replay/ends with its webhook", "it goes on", puts(func(ctx context.Context, b *broken, c *engine.WebhookChange) {
		if !c.Webhook.Active {
			b.finish(ctx)
		}
	})},

	{"maintain/sessions expire", "never", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		r.Sessions *= 1000
		return b.Store.Maintain(ctx, now, r)
	})},
	{"maintain/sessions expire", "with their deliveries", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		r.Deliveries = r.Sessions
		return b.Store.Maintain(ctx, now, r)
	})},
	{"maintain/sessions stay while something waits", "they do not", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		page, _ := b.Store.Deliveries(ctx, engine.DeliveryQuery{Limit: 10})
		for _, d := range page.Items {
			b.eraseAll(ctx, engine.Erasure{SessionID: d.SessionID})
		}
		return b.Store.Maintain(ctx, now, r)
	})},
	{"maintain/deliveries expire", "too early", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		r.Deliveries /= 2
		return b.Store.Maintain(ctx, now, r)
	})},
	{"maintain/deliveries expire", "never", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		r.Deliveries *= 1000
		return b.Store.Maintain(ctx, now, r)
	})},
	{"maintain/a new end counts", "the old one does", records(func(_ context.Context, _ *broken, r *engine.AttemptRecord) { r.At = time.Now() })},
	{"maintain/next", "in two hours", maintained(func(m *engine.Maintained, now time.Time) { m.Next = now.Add(2 * time.Hour) })},
	{"maintain/next", "in an hour, whatever expires", maintained(func(m *engine.Maintained, now time.Time) {
		if m.Next.After(now) {
			m.Next = now.Add(time.Hour)
		}
	})},
	{"maintain/many", "the first step", maintains(func(ctx context.Context, b *broken, now time.Time, r engine.Retention) (engine.Maintained, error) {
		if b.count() > 3 {
			return engine.Maintained{Next: now.Add(time.Hour)}, nil
		}
		return b.Store.Maintain(ctx, now, r)
	})},
}

// erases breaks Erase.
func erases(call func(ctx context.Context, b *broken, what engine.Erasure, place string) (engine.ErasedStep, error)) func(b *broken) {
	return func(b *broken) {
		b.erase = func(ctx context.Context, what engine.Erasure, place string) (engine.ErasedStep, error) {
			return call(ctx, b, what, place)
		}
	}
}

// eraseAll carries out an erasure, behind the back of a rule.
func (b *broken) eraseAll(ctx context.Context, what engine.Erasure) {
	for place, first := "", true; first || place != ""; first = false {
		step, err := b.Store.Erase(ctx, what, place)
		if err != nil {
			return
		}
		place = step.Next
	}
}

// erased breaks Erase by what it returns.
func erased(change func(step *engine.ErasedStep)) func(b *broken) {
	return erases(func(ctx context.Context, b *broken, what engine.Erasure, place string) (engine.ErasedStep, error) {
		step, err := b.Store.Erase(ctx, what, place)
		change(&step)
		return step, err
	})
}

var eraseMutants = []mutant{
	{"erase/a session", "not counted", erased(func(step *engine.ErasedStep) { step.Erased.Attempts = 0 })},
	{"erase/a session", "not named", erased(func(step *engine.ErasedStep) { step.Deleted = nil })},
	{"erase/a session", "not at all", erases(func(context.Context, *broken, engine.Erasure, string) (engine.ErasedStep, error) {
		return engine.ErasedStep{}, nil
	})},
	{"erase/a visitor", "the first step", erased(func(step *engine.ErasedStep) { step.Next = "" })},
	{"erase/nothing of others", "whatever the sign", erases(func(ctx context.Context, b *broken, what engine.Erasure, place string) (engine.ErasedStep, error) {
		if what.Visitor != nil && place == "" {
			b.eraseAll(ctx, engine.Erasure{Visitor: new(-*what.Visitor)})
		}
		return b.Store.Erase(ctx, what, place)
	})},
	{"erase/deliveries of expired sessions", "they stay", erased(func(step *engine.ErasedStep) {
		if step.Erased.Sessions == 0 {
			step.Next = ""
		}
	})},
	{"erase/all that is stored when it begins", "the first step", erased(func(step *engine.ErasedStep) { step.Next = "" })},
	{"erase/the session may begin anew", "it may not", func(b *broken) {
		erases(func(ctx context.Context, b *broken, what engine.Erasure, place string) (engine.ErasedStep, error) {
			b.times[what.SessionID] = time.Now()
			return b.Store.Erase(ctx, what, place)
		})(b)
		appends(func(b *broken, a *engine.Append) {
			if !b.times[a.Sessions[0].Events[0].SessionID].IsZero() {
				a.Sessions = nil
			}
		})(b)
	}},
	{"erase/nothing", "not found", erases(func(ctx context.Context, b *broken, what engine.Erasure, place string) (engine.ErasedStep, error) {
		step, err := b.Store.Erase(ctx, what, place)
		if step.Erased == (engine.Erased{}) {
			err = engine.ErrNotFound
		}
		return step, err
	})},
	{"erase/claims go on", "a late attempt is an error", recorded(func(_ context.Context, _ *broken, _ engine.AttemptRecord, _ *engine.Recorded, err error) error {
		return instead(err, engine.ErrNotSendable, engine.ErrNotFound)
	})},
	{"erase/claims go on", "a late freeze is none", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		return instead(b.freezeStored(ctx, f), engine.ErrNotSendable, nil)
	})},
}

var statsMutants = []mutant{
	{"stats/count by state", "no cancelled ones", countsOf(func(w *engine.WebhookStats) { w.Cancelled = 0 })},
	{"stats/count by state", "of all webhooks together", counts(func(_ *broken, s *engine.Stats) {
		var all int64
		for _, w := range s.Webhooks {
			all += w.Delivered
		}
		for id, w := range s.Webhooks {
			w.Delivered = all
			s.Webhooks[id] = w
		}
	})},
	{"stats/due", "all that wait", countsOf(func(w *engine.WebhookStats) { w.Due = w.Scheduled + w.Pending })},
	{"stats/due", "never as of an earlier time", func(b *broken) {
		latest := time.Time{}
		b.statistic = func(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
			if now.After(latest) {
				latest = now
			}
			return b.Store.Stats(ctx, latest, probe)
		}
	}},
	{"stats/due", "not what is claimed", countsOf(func(w *engine.WebhookStats) { w.Due -= w.Claimed })},
	{"stats/oldest due", "never", countsOf(func(w *engine.WebhookStats) { w.OldestDueAt = time.Time{} })},
	{"stats/oldest due", "by its due time", func(b *broken) {
		b.statistic = func(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
			s, err := b.Store.Stats(ctx, now, probe)
			for id, w := range s.Webhooks {
				page, _ := b.Store.Deliveries(ctx, engine.DeliveryQuery{Limit: 100})
				for _, d := range page.Items {
					if d.Status.Waiting() && d.Kind != engine.KindTest && !w.OldestDueAt.IsZero() && d.DueAt.Before(w.OldestDueAt) {
						w.OldestDueAt = d.DueAt
					}
				}
				s.Webhooks[id] = w
			}
			return s, err
		}
	}},
	{"stats/claimed", "with tests", countsOf(func(w *engine.WebhookStats) { w.Claimed += w.ClaimedTests })},
	{"stats/claimed", "all that are due", countsOf(func(w *engine.WebhookStats) { w.Claimed = w.Due })},
	{"stats/outlive the process", "of deleted webhooks they do not", counts(func(b *broken, s *engine.Stats) {
		for id := range s.Webhooks {
			if b.opened > 1 && b.Store.Webhooks().Get(id) == nil {
				delete(s.Webhooks, id)
			}
		}
	})},
	{"stats/size and room", "no size", counts(func(_ *broken, s *engine.Stats) { s.SizeBytes = 0 })},
	{"stats/size and room", "always full", counts(func(_ *broken, s *engine.Stats) { s.Full = engine.ErrFull })},
	{"stats/end with the context", "another error", func(b *broken) {
		b.statistic = func(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
			s, err := b.Store.Stats(ctx, now, probe)
			return s, instead(err, context.Canceled, engine.ErrUnavailable)
		}
	}},
}
