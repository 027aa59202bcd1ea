package storetest_test

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// frozen breaks Freeze by what comes of it.
func frozen(change func(ctx context.Context, b *broken, f engine.Freeze, done *engine.Frozen, err error) error) func(b *broken) {
	return func(b *broken) {
		b.freeze = func(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
			done, err := b.Store.Freeze(ctx, f)
			err = change(ctx, b, f, &done, err)
			return done, err
		}
	}
}

var supersedeMutants = []mutant{
	{"freeze/from all events", "from any", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		if record, _, err := b.Store.Session(ctx, f.Delivery.SessionID); err == nil {
			f.Events = record.Head.Events
		}
		return b.freezeStored(ctx, f)
	})},
	{"freeze/from all events", "without the session", frozen(func(_ context.Context, _ *broken, _ engine.Freeze, done *engine.Frozen, err error) error {
		done.Session = nil
		return err
	})},
	{"freeze/from all events", "the claim ends", frozen(func(ctx context.Context, b *broken, f engine.Freeze, _ *engine.Frozen, err error) error {
		if errors.Is(err, engine.ErrMoreEvents) {
			b.Store.Release(ctx, []engine.Delivery{f.Delivery})
		}
		return err
	})},
	{"freeze/supersedes what waits", "names nothing", frozen(func(_ context.Context, _ *broken, _ engine.Freeze, done *engine.Frozen, err error) error {
		done.Superseded = nil
		return err
	})},
	{"freeze/supersedes what waits", "it waits on", frozen(func(ctx context.Context, b *broken, f engine.Freeze, done *engine.Frozen, err error) error {
		for _, d := range done.Superseded {
			b.Store.Reschedule(ctx, d.ID, engine.RescheduleNow, f.At)
		}
		return err
	})},
	{"freeze/supersedes nothing else", "the other webhook's as well", frozen(func(ctx context.Context, b *broken, f engine.Freeze, _ *engine.Frozen, err error) error {
		_, deliveries, _ := b.Store.Session(ctx, f.Delivery.SessionID)
		for _, d := range deliveries {
			if d.WebhookID != f.Delivery.WebhookID {
				b.Store.Reschedule(ctx, d.ID, engine.RescheduleNever, f.At)
			}
		}
		return err
	})},
	{"freeze/drops the incomplete trigger", "it stays", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		if f.Delivery.Kind == engine.KindComplete { // freeze the other one first: what is frozen is not dropped
			_, deliveries, _ := b.Store.Session(ctx, f.Delivery.SessionID)
			for _, d := range deliveries {
				if d.Kind == engine.KindIncomplete {
					b.freezeStored(ctx, engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: f.Events, At: f.At})
				}
			}
		}
		return b.freezeStored(ctx, f)
	})},
	{"append/late events lead to updates", "two wait", func(b *broken) {
		b.append = func(ctx context.Context, a engine.Append) (engine.Appended, error) {
			done, err := b.Store.AppendEvents(ctx, a)
			if err != nil {
				return done, err
			}
			_, deliveries, _ := b.Store.Session(ctx, a.Sessions[0].Events[0].SessionID)
			for _, d := range deliveries {
				if d.Kind == engine.KindUpdate && d.Status == engine.StatusScheduled {
					b.Store.Reschedule(ctx, d.ID, engine.RescheduleNever, a.Now)
				}
			}
			return done, nil
		}
	}},
	{"append/late events lead to updates", "none", sessions(func(_ *broken, _ *engine.SessionRecord, d *[]engine.Delivery) {
		*d = slices.DeleteFunc(*d, func(d engine.Delivery) bool { return d.Kind == engine.KindUpdate })
	})},
	{"append/events in time lead to none", "late all the same", appended(func(_ context.Context, _ *broken, a engine.Append, done *engine.Appended, err error) error {
		done.Late += len(a.Sessions[0].Events)
		return err
	})},
	{"append/late events are counted", "not for the caller", appended(func(_ context.Context, _ *broken, _ engine.Append, done *engine.Appended, err error) error {
		done.Late = 0
		return err
	})},
	{"append/late events are counted", "listed among all", func(b *broken) {
		b.list = func(ctx context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
			q.LateEvents = false
			return b.Store.Deliveries(ctx, q)
		}
	}},
	{"append/late events are counted", "not at the delivery", func(b *broken) {
		b.delivery = func(ctx context.Context, id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt, error) {
			d, payload, attempts, err := b.Store.Delivery(ctx, id)
			d.LateEvents = 0
			return d, payload, attempts, err
		}
	}},
	{"append/start moves a claimed trigger", "it is frozen as it was", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		if d, _, _, err := b.Store.Delivery(ctx, f.Delivery.ID); err == nil {
			f.Delivery, f.Events = d, 0
			if record, _, err := b.Store.Session(ctx, d.SessionID); err == nil {
				f.Events = record.Head.Events
			}
		}
		return b.freezeStored(ctx, f)
	})},
	{"append/start moves the trigger", "elsewhere", appends(func(_ *broken, a *engine.Append) {
		for i := range a.Sessions {
			for j := range a.Sessions[i].Events {
				if ev := &a.Sessions[i].Events[j]; ev.Type == engine.EventStart || ev.Type == engine.EventVote {
					ev.Time = ev.Time.Add(-1)
				}
			}
		}
	})},
}
