package storetest_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// reschedules breaks Reschedule.
func reschedules(call func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error)) func(b *broken) {
	return func(b *broken) {
		b.resched = func(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
			return call(ctx, b, id, how, now)
		}
	}
}

// instead returns another error.
func instead(err, of, other error) error {
	if errors.Is(err, of) {
		return other
	}
	return err
}

// deliveries breaks Delivery.
func deliveries(change func(d *engine.Delivery, payload *[]byte, err error) error) func(b *broken) {
	return func(b *broken) {
		b.delivery = func(ctx context.Context, id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt, error) {
			d, payload, attempts, err := b.Store.Delivery(ctx, id)
			err = change(&d, &payload, err)
			return d, payload, attempts, err
		}
	}
}

// lists breaks Deliveries.
func lists(call func(ctx context.Context, b *broken, q engine.DeliveryQuery) (engine.DeliveryPage, error)) func(b *broken) {
	return func(b *broken) {
		b.list = func(ctx context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error) { return call(ctx, b, q) }
	}
}

// asked breaks Deliveries by what it is given.
func asked(change func(q *engine.DeliveryQuery)) func(b *broken) {
	return lists(func(ctx context.Context, b *broken, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
		change(&q)
		return b.Store.Deliveries(ctx, q)
	})
}

// listed breaks Deliveries by what it returns.
func listed(change func(q engine.DeliveryQuery, p *engine.DeliveryPage)) func(b *broken) {
	return lists(func(ctx context.Context, b *broken, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
		p, err := b.Store.Deliveries(ctx, q)
		change(q, &p)
		return p, err
	})
}

var handMutants = []mutant{
	{"reschedule/now", "with its old tries", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		before, _, _, _ := b.Store.Delivery(ctx, id)
		d, err := b.Store.Reschedule(ctx, id, how, now)
		d.Tries = before.Tries
		return d, err
	})},
	{"reschedule/now", "in microseconds", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		return b.Store.Reschedule(ctx, id, how, now.Truncate(time.Microsecond).Add(-1))
	})},
	{"reschedule/now, in its lane", "a nanosecond early", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		return b.Store.Reschedule(ctx, id, how, now.Add(-1))
	})},
	{"reschedule/now, refused", "no error", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		d, err := b.Store.Reschedule(ctx, id, how, now)
		return d, instead(err, engine.ErrConflict, nil)
	})},
	{"reschedule/now, refused", "not found", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		d, err := b.Store.Reschedule(ctx, id, how, now)
		return d, instead(err, engine.ErrConflict, engine.ErrNotFound)
	})},
	{"reschedule/never", "not stored", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		if how == engine.RescheduleNow {
			return b.Store.Reschedule(ctx, id, how, now)
		}
		d, _, _, err := b.Store.Delivery(ctx, id)
		return d, errors.Join(err, d.Cancel(now))
	})},
	{"reschedule/never, refused", "no error", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		d, err := b.Store.Reschedule(ctx, id, how, now)
		return d, instead(err, engine.ErrConflict, nil)
	})},
	{"reschedule/not found", "a conflict", reschedules(func(ctx context.Context, b *broken, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
		d, err := b.Store.Reschedule(ctx, id, how, now)
		return d, instead(err, engine.ErrNotFound, engine.ErrConflict)
	})},
	{"enqueue", "in microseconds", func(b *broken) {
		b.enqueue = func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
			q.At = q.At.Truncate(time.Microsecond)
			return b.Store.Enqueue(ctx, q)
		}
	}},
	{"enqueue", "all are tests", func(b *broken) {
		b.enqueue = func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
			q.Kind = engine.KindTest
			return b.Store.Enqueue(ctx, q)
		}
	}},
	{"enqueue/not found", "a conflict", func(b *broken) {
		b.enqueue = func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
			d, err := b.Store.Enqueue(ctx, q)
			return d, instead(err, engine.ErrNotFound, engine.ErrConflict)
		}
	}},
}

var readMutants = []mutant{
	{"session/with its deliveries", "of one webhook", sessions(func(_ *broken, _ *engine.SessionRecord, d *[]engine.Delivery) {
		*d = slices.DeleteFunc(*d, func(x engine.Delivery) bool { return x.WebhookID != (*d)[0].WebhookID })
	})},
	{"session/without the deliveries that are gone", "with all that it names", sessions(func(_ *broken, r *engine.SessionRecord, d *[]engine.Delivery) {
		for _, ref := range r.Head.Deliveries {
			if len(*d) == 0 {
				*d = append(*d, engine.Delivery{ID: ref.ID})
			}
		}
	})},
	{"session/not found", "empty", func(b *broken) {
		b.session = func(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error) {
			r, d, err := b.Store.Session(ctx, id)
			return r, d, instead(err, engine.ErrNotFound, nil)
		}
	}},
	{"delivery/payload", "empty while it is scheduled", deliveries(func(d *engine.Delivery, payload *[]byte, err error) error {
		if d.Status == engine.StatusScheduled {
			*payload = []byte{}
		}
		return err
	})},
	{"delivery/payload", "none when it has ended", deliveries(func(d *engine.Delivery, payload *[]byte, err error) error {
		if !d.Status.Waiting() {
			*payload = nil
		}
		return err
	})},
	{"delivery/not found", "empty", deliveries(func(_ *engine.Delivery, _ *[]byte, err error) error { return instead(err, engine.ErrNotFound, nil) })},

	{"list/filters", "one at a time", asked(func(q *engine.DeliveryQuery) {
		if q.WebhookID != 0 && q.Cursor == "" {
			q.Status = 0
		}
	})},
	{"list/filters", "the session alone", asked(func(q *engine.DeliveryQuery) {
		if q.SessionID != uuid.Nil {
			q.Status = 0
		}
	})},
	{"list/newest first", "the oldest of a page first", listed(func(_ engine.DeliveryQuery, p *engine.DeliveryPage) { slices.Reverse(p.Items) })},
	{"list/waiting ones by their next attempt", "the newest first", listed(func(q engine.DeliveryQuery, p *engine.DeliveryPage) {
		slices.SortFunc(p.Items, func(x, y engine.Delivery) int { return cmp.Compare(y.ID.String(), x.ID.String()) })
	})},
	{"list/bounds are inclusive", "until before", asked(func(q *engine.DeliveryQuery) {
		if !q.Until.IsZero() {
			q.Until = q.Until.Add(-1)
		}
	})},
	{"list/bounds are inclusive", "since after", asked(func(q *engine.DeliveryQuery) {
		if !q.Since.IsZero() {
			q.Since = q.Since.Add(1)
		}
	})},
	{"list/bounds are inclusive", "not of waiting ones", asked(func(q *engine.DeliveryQuery) {
		if q.Status.Waiting() {
			q.Since = time.Time{}
		}
	})},
	{"list/limit", "one more", asked(func(q *engine.DeliveryQuery) { q.Limit++ })},
	{"list/cursor goes on while deliveries are made", "by counting", lists(func(ctx context.Context, b *broken, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
		from, _ := strconv.Atoi(q.Cursor)
		limit := q.Limit
		q.Cursor, q.Limit = "", 10_000
		all, err := b.Store.Deliveries(ctx, q)
		page := engine.DeliveryPage{Items: all.Items[min(from, len(all.Items)):min(from+limit, len(all.Items))]}
		if from+limit < len(all.Items) {
			page.NextCursor = strconv.Itoa(from + limit)
		}
		return page, err
	})},
	{"list/what is no cursor is refused", "the first page", lists(func(ctx context.Context, b *broken, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
		p, err := b.Store.Deliveries(ctx, q)
		if err != nil {
			q.Cursor = ""
			return b.Store.Deliveries(ctx, q)
		}
		return p, err
	})},
}
