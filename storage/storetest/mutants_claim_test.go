package storetest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// claims breaks ClaimDue by what it returns.
func claims(change func(ctx context.Context, b *broken, results *[]engine.ClaimResult)) func(b *broken) {
	return func(b *broken) {
		b.claim = func(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
			results, err := b.Store.ClaimDue(ctx, now, requests)
			if err == nil {
				change(ctx, b, &results)
			}
			return results, err
		}
	}
}

// asks breaks ClaimDue by what it is given.
func asks(change func(now *time.Time, requests []engine.ClaimRequest)) func(b *broken) {
	return func(b *broken) {
		b.claim = func(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
			requests = slices.Clone(requests)
			change(&now, requests)
			return b.Store.ClaimDue(ctx, now, requests)
		}
	}
}

// freezes breaks Freeze by what it is given and what it returns.
func freezes(call func(ctx context.Context, b *broken, f engine.Freeze) error) func(b *broken) {
	return func(b *broken) {
		b.freeze = func(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
			return engine.Frozen{}, call(ctx, b, f)
		}
	}
}

// again claims a delivery that is not claimed, whenever it is due.
func (b *broken) again(ctx context.Context, d engine.Delivery) {
	b.Store.ClaimDue(ctx, time.Now().Add(10000*time.Hour), []engine.ClaimRequest{{Lane: d.Lane(), Room: 1}})
}

var claimMutants = []mutant{
	{"claim/oldest first", "the youngest first", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		for i := range *results {
			slices.Reverse((*results)[i].Claimed)
		}
	})},
	{"claim/up to the room", "one more", asks(func(_ *time.Time, requests []engine.ClaimRequest) {
		for i := range requests {
			requests[i].Room++
		}
	})},
	{"claim/up to the room", "the room of the first for all", asks(func(_ *time.Time, requests []engine.ClaimRequest) {
		for i := range requests {
			requests[i].Room = requests[0].Room
		}
	})},
	{"claim/an answer for each request", "none for empty lanes", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		*results = slices.DeleteFunc(*results, func(r engine.ClaimResult) bool { return len(r.Claimed) == 0 })
	})},
	{"claim/an answer for each request", "in another order", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		slices.Reverse((*results)[:min(len(*results), 2)])
	})},
	{"claim/next", "never", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		for i := range *results {
			(*results)[i].Next = time.Time{}
		}
	})},
	{"claim/next", "too late", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		for i := range *results {
			if r := &(*results)[i]; !r.Next.IsZero() {
				r.Next = r.Next.Add(1)
			}
		}
	})},
	{"claim/only what is due", "a microsecond early", asks(func(now *time.Time, _ []engine.ClaimRequest) { *now = now.Add(time.Microsecond) })},
	{"claim/only what is due", "by the microsecond", asks(func(now *time.Time, _ []engine.ClaimRequest) { *now = now.Truncate(time.Microsecond) })},
	{"claim/once", "again and again", claims(func(ctx context.Context, b *broken, results *[]engine.ClaimResult) {
		for _, r := range *results {
			for _, c := range r.Claimed {
				b.Store.Release(ctx, []engine.Delivery{c.Delivery})
			}
		}
	})},
	{"claim/once", "until it is frozen", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		return errors.Join(b.freezeStored(ctx, f), b.Store.Release(ctx, []engine.Delivery{f.Delivery}))
	})},
	{"claim/once among many", "the claim ends before the attempt is recorded", func(b *broken) {
		var looks atomic.Int32
		b.claim = func(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
			defer looks.Add(1)
			return b.Store.ClaimDue(ctx, now, requests)
		}
		b.record = func(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
			b.Store.Release(ctx, []engine.Delivery{r.Delivery})
			end := time.Now().Add(5 * time.Millisecond)
			for seen := looks.Load(); looks.Load() < seen+2 && time.Now().Before(end); {
				runtime.Gosched()
			}
			return b.Store.RecordAttempt(ctx, r)
		}
	}},
	{"claim/tests have a lane of their own", "the ordinary one", asks(func(_ *time.Time, requests []engine.ClaimRequest) {
		for i := range requests {
			requests[i].Lane.Test = false
		}
	})},
	{"claim/with what it takes to send", "no events", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		for _, r := range *results {
			for _, c := range r.Claimed {
				if c.Session != nil {
					c.Session.Batches = nil
				}
			}
		}
	})},
	{"claim/with what it takes to send", "no payload", claims(func(_ context.Context, _ *broken, results *[]engine.ClaimResult) {
		for _, r := range *results {
			for i := range r.Claimed {
				r.Claimed[i].Payload = nil
			}
		}
	})},
	{"claim/outlives a change by hand", "ends with it", func(b *broken) {
		b.resched = func(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
			d, err := b.Store.Reschedule(ctx, id, how, now)
			return d, errors.Join(err, b.Store.Release(ctx, []engine.Delivery{d}))
		}
	}},
	{"claim/ends with the process", "is stored", claims(func(_ context.Context, b *broken, results *[]engine.ClaimResult) {
		for i := range *results {
			r := &(*results)[i]
			r.Claimed = slices.DeleteFunc(r.Claimed, func(c engine.Claimed) bool { return !b.once(c.Delivery.ID.String()) })
		}
	})},
	{"release/due as before", "not at all", func(b *broken) {
		b.release = func(context.Context, []engine.Delivery) error { return nil }
	}},
	{"release/due as before", "due now", func(b *broken) {
		b.release = func(ctx context.Context, claimed []engine.Delivery) error {
			for _, d := range claimed {
				b.Store.Reschedule(ctx, d.ID, engine.RescheduleNow, time.Now())
			}
			return b.Store.Release(ctx, claimed)
		}
	}},
	{"release/nothing else", "everything", func(b *broken) {
		claims(func(_ context.Context, b *broken, results *[]engine.ClaimResult) {
			for _, r := range *results {
				for _, c := range r.Claimed {
					b.deliveries = append(b.deliveries, c.Delivery)
				}
			}
		})(b)
		b.release = func(ctx context.Context, _ []engine.Delivery) error { return b.Store.Release(ctx, b.deliveries) }
	}},

	{"freeze/stores the payload", "another spelling", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		var body bytes.Buffer
		json.Compact(&body, f.Payload)
		f.Payload = body.Bytes()
		return b.freezeStored(ctx, f)
	})},
	{"freeze/stores the payload", "frozen now", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		f.At = time.Now()
		return b.freezeStored(ctx, f)
	})},
	{"freeze/keeps the claim", "ends it", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		return errors.Join(b.freezeStored(ctx, f), b.Store.Release(ctx, []engine.Delivery{f.Delivery}))
	})},
	{"freeze/dropped without a trace", "cancelled", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		if f.Payload != nil {
			return b.freezeStored(ctx, f)
		}
		_, err := b.Store.Reschedule(ctx, f.Delivery.ID, engine.RescheduleNever, f.At)
		return errors.Join(err, b.Store.Release(ctx, []engine.Delivery{f.Delivery}))
	})},
	{"freeze/dropped without a trace", "still claimed", func(b *broken) {
		freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
			if f.Payload == nil {
				b.id = f.Delivery.WebhookID
			}
			return b.freezeStored(ctx, f)
		})(b)
		claimedMore(b)
	}},
	{"freeze/not sendable", "no error", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		b.freezeStored(ctx, f)
		return nil
	})},
	{"freeze/not sendable", "not found", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		err := b.freezeStored(ctx, f)
		if _, _, _, gone := b.Store.Delivery(ctx, f.Delivery.ID); errors.Is(gone, engine.ErrNotFound) && err != nil {
			return gone
		}
		return err
	})},
	{"freeze/not sendable", "as it is now", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		if d, _, _, err := b.Store.Delivery(ctx, f.Delivery.ID); err == nil {
			f.Delivery = d
		}
		return b.freezeStored(ctx, f)
	})},
	{"freeze/refused ends the claim", "claimed for ever", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		err := b.freezeStored(ctx, f)
		if errors.Is(err, engine.ErrNotSendable) {
			b.again(ctx, f.Delivery)
		}
		return err
	})},
	{"freeze/refused ends the claim", "claimed, if it was erased", func(b *broken) {
		freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
			if _, _, _, err := b.Store.Delivery(ctx, f.Delivery.ID); err != nil {
				b.id = f.Delivery.WebhookID
			}
			return b.freezeStored(ctx, f)
		})(b)
		claimedMore(b)
	}},
	{"freeze/once", "again and again", freezes(func(ctx context.Context, b *broken, f engine.Freeze) error {
		err := b.freezeStored(ctx, f)
		if d, _, _, _ := b.Store.Delivery(ctx, f.Delivery.ID); d.Status == engine.StatusPending {
			return nil
		}
		return err
	})},
}

// claimedMore counts a claim more of the webhook that is remembered.
func claimedMore(b *broken) {
	counts(func(b *broken, s *engine.Stats) {
		if w, ok := s.Webhooks[b.id]; ok {
			w.Claimed++
			s.Webhooks[b.id] = w
		}
	})(b)
}

// counts breaks Stats by what it returns.
func counts(change func(b *broken, s *engine.Stats)) func(b *broken) {
	return func(b *broken) {
		b.statistic = func(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
			s, err := b.Store.Stats(ctx, now, probe)
			if err == nil {
				change(b, &s)
			}
			return s, err
		}
	}
}

// countsOf breaks the counts of each webhook.
func countsOf(change func(w *engine.WebhookStats)) func(b *broken) {
	return counts(func(_ *broken, s *engine.Stats) {
		for id, w := range s.Webhooks {
			change(&w)
			s.Webhooks[id] = w
		}
	})
}
