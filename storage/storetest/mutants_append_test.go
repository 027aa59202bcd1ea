package storetest_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// appends breaks AppendEvents by what it is given.
func appends(change func(b *broken, a *engine.Append)) func(b *broken) {
	return func(b *broken) {
		b.append = func(ctx context.Context, a engine.Append) (engine.Appended, error) {
			a.Sessions = slices.Clone(a.Sessions)
			change(b, &a)
			if len(a.Sessions) == 0 {
				return engine.Appended{}, nil
			}
			return b.Store.AppendEvents(ctx, a)
		}
	}
}

// appended breaks AppendEvents by what it returns.
func appended(change func(ctx context.Context, b *broken, a engine.Append, done *engine.Appended, err error) error) func(b *broken) {
	return func(b *broken) {
		b.append = func(ctx context.Context, a engine.Append) (engine.Appended, error) {
			done, err := b.Store.AppendEvents(ctx, a)
			err = change(ctx, b, a, &done, err)
			return done, err
		}
	}
}

// sessions breaks Session by what it returns.
func sessions(change func(b *broken, r *engine.SessionRecord, d *[]engine.Delivery)) func(b *broken) {
	return func(b *broken) {
		b.session = func(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error) {
			r, d, err := b.Store.Session(ctx, id)
			if err == nil {
				change(b, &r, &d)
			}
			return r, d, err
		}
	}
}

var appendMutants = []mutant{
	{"append/events are kept as they came", "in the wrong order", sessions(func(_ *broken, r *engine.SessionRecord, _ *[]engine.Delivery) { slices.Reverse(r.Batches) })},
	{"append/events are kept as they came", "received in whole seconds", sessions(func(_ *broken, r *engine.SessionRecord, _ *[]engine.Delivery) {
		for i := range r.Batches {
			r.Batches[i].ReceivedAt = r.Batches[i].ReceivedAt.Truncate(time.Second)
		}
	})},
	{"append/head", "the last receipt is the first", sessions(func(_ *broken, r *engine.SessionRecord, _ *[]engine.Delivery) {
		r.Head.LastReceivedAt = r.Head.FirstReceivedAt
	})},
	{"append/head", "without the identity", sessions(func(_ *broken, r *engine.SessionRecord, _ *[]engine.Delivery) { r.Head.Identity.CustomID = nil })},
	{"append/all sessions of a request or none", "the good ones", appended(func(ctx context.Context, b *broken, a engine.Append, _ *engine.Appended, err error) error {
		for i := range a.Sessions {
			if err != nil && a.Sessions[i].Events[0].Identity.ContentType != "" {
				b.Store.AppendEvents(ctx, engine.Append{Now: a.Now, Sessions: a.Sessions[i : i+1]})
			}
		}
		return err
	})},
	{"append/names all that is refused", "the first", appended(func(_ context.Context, _ *broken, _ engine.Append, _ *engine.Appended, err error) error {
		if bad, ok := errors.AsType[engine.InputErrors](err); ok {
			return bad[:1]
		}
		return err
	})},
	{"append/partial", "refused as a whole", appends(func(_ *broken, a *engine.Append) { a.Partial = false })},
	{"append/partial", "refused ones not named", appended(func(_ context.Context, _ *broken, _ engine.Append, done *engine.Appended, err error) error {
		done.Refused = nil
		return err
	})},
	{"append/partial", "repeats not counted", appended(func(_ context.Context, _ *broken, a engine.Append, done *engine.Appended, err error) error {
		if a.Partial {
			done.Duplicates = 0
		}
		return err
	})},
	{"append/repeats are left out", "repeats are not counted", appended(func(_ context.Context, _ *broken, _ engine.Append, done *engine.Appended, err error) error {
		done.Duplicates = 0
		return err
	})},
	{"append/repeats are left out", "repeats of the request are not counted", appended(func(_ context.Context, _ *broken, a engine.Append, done *engine.Appended, err error) error {
		seen := make(map[string]bool)
		for _, ev := range a.Sessions[0].Events {
			if ev.ID != "" && seen[ev.ID] {
				done.Duplicates--
			}
			seen[ev.ID] = true
		}
		return err
	})},
	{"append/repeats of a session only", "only those of the first session are counted", appended(func(_ context.Context, _ *broken, a engine.Append, done *engine.Appended, err error) error {
		if len(a.Sessions) > 1 {
			done.Duplicates = min(done.Duplicates, 1)
		}
		return err
	})},
	{"append/nothing but repeats changes nothing", "they are not counted", appended(func(_ context.Context, _ *broken, _ engine.Append, done *engine.Appended, err error) error {
		if len(done.Queued)+len(done.Claimed) == 0 {
			done.Duplicates = 0
		}
		return err
	})},
	{"append/partial", "only the first session", appends(func(_ *broken, a *engine.Append) {
		if a.Partial {
			a.Sessions = a.Sessions[:1]
		}
	})},
	{"append/all is seen or none", "one session after the other", func(b *broken) {
		var looks atomic.Int32
		b.session = func(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error) {
			looks.Add(1)
			return b.Store.Session(ctx, id)
		}
		b.append = func(ctx context.Context, a engine.Append) (done engine.Appended, err error) {
			for i := range a.Sessions {
				done, err = b.Store.AppendEvents(ctx, engine.Append{Now: a.Now, Sessions: a.Sessions[i : i+1]})
				end := time.Now().Add(20 * time.Millisecond)
				for seen := looks.Load(); looks.Load() < seen+6 && time.Now().Before(end); {
					runtime.Gosched()
				}
			}
			return done, err
		}
	}},
	{"append/repeats are left out", "repeats are stored", appends(func(_ *broken, a *engine.Append) {
		for i := range a.Sessions {
			a.Sessions[i].Events = slices.Clone(a.Sessions[i].Events)
			for j := range a.Sessions[i].Events {
				a.Sessions[i].Events[j].ID = ""
			}
		}
	})},
	{"append/repeats are left out", "only those of the same process", appends(func(b *broken, a *engine.Append) {
		if b.opened == 1 {
			return
		}
		for i := range a.Sessions {
			a.Sessions[i].Events = slices.Clone(a.Sessions[i].Events)
			for j := range a.Sessions[i].Events {
				a.Sessions[i].Events[j].ID = ""
			}
		}
	})},
	{"append/repeats of a session only", "ids of all sessions", appends(func(b *broken, a *engine.Append) {
		for i := range a.Sessions {
			a.Sessions[i].Events = slices.DeleteFunc(slices.Clone(a.Sessions[i].Events), func(ev engine.Event) bool { return !b.once(ev.ID) })
		}
		a.Sessions = slices.DeleteFunc(a.Sessions, func(p engine.PostedSession) bool { return len(p.Events) == 0 })
	})},
	{"append/nothing but repeats changes nothing", "the receipt counts", func(b *broken) {
		sessions(func(b *broken, r *engine.SessionRecord, _ *[]engine.Delivery) {
			if at := b.times[r.Head.ID]; at.After(r.Head.LastReceivedAt) {
				r.Head.LastReceivedAt = at
			}
		})(b)
		appends(func(b *broken, a *engine.Append) { b.times[a.Sessions[0].Events[0].SessionID] = a.Now })(b)
	}},
	{"append/triggers become deliveries", "under the first revision", sessions(func(_ *broken, _ *engine.SessionRecord, d *[]engine.Delivery) {
		for i := range *d {
			(*d)[i].WebhookRevision = 1
		}
	})},
	{"append/triggers become deliveries", "one is lost", sessions(func(_ *broken, _ *engine.SessionRecord, d *[]engine.Delivery) {
		if len(*d) > 1 {
			*d = (*d)[:1]
		}
	})},
	{"append/at most one of a kind", "two", sessions(func(_ *broken, _ *engine.SessionRecord, d *[]engine.Delivery) {
		*d = append(*d, (*d)[0])
	})},
	{"append/queued", "only the first", appended(func(_ context.Context, _ *broken, _ engine.Append, done *engine.Appended, err error) error {
		done.Queued = done.Queued[:min(1, len(done.Queued))]
		return err
	})},

	{"ready/claimed on arrival", "not claimed", appended(func(ctx context.Context, b *broken, _ engine.Append, done *engine.Appended, err error) error {
		for _, c := range done.Claimed {
			b.Store.Release(ctx, []engine.Delivery{c.Delivery})
		}
		return err
	})},
	{"ready/claimed on arrival", "whoever is open", appends(func(b *broken, a *engine.Append) {
		a.Open = make(map[uint32]bool)
		for _, w := range b.Webhooks().All() {
			a.Open[w.ID] = true
		}
	})},
	{"ready/in the order in which they were made", "the last first", appended(func(_ context.Context, _ *broken, _ engine.Append, done *engine.Appended, err error) error {
		slices.Reverse(done.Claimed)
		return err
	})},
	{"ready/frozen with the payload that was handed in", "not frozen", appends(func(_ *broken, a *engine.Append) {
		for i := range a.Sessions {
			a.Sessions[i].Payloads = nil
		}
	})},
	{"ready/no payload of other settings", "whatever the revision", appends(func(b *broken, a *engine.Append) {
		for i := range a.Sessions {
			a.Sessions[i].Payloads = slices.Clone(a.Sessions[i].Payloads)
			for j := range a.Sessions[i].Payloads {
				r := &a.Sessions[i].Payloads[j]
				r.Revision = b.Webhooks().Get(r.WebhookID).Revision
			}
		}
	})},
	{"ready/no payload of half a session", "whatever was stored before", appended(func(ctx context.Context, b *broken, a engine.Append, done *engine.Appended, err error) error {
		for i := range done.Claimed {
			if c := &done.Claimed[i]; len(a.Sessions[0].Payloads) > 0 && c.Session != nil {
				c.Session, c.Payload = nil, a.Sessions[0].Payloads[0].Body
				b.freezeStored(ctx, engine.Freeze{Delivery: c.Delivery, Payload: c.Payload, At: a.Now})
				c.Delivery.Status = engine.StatusPending
			}
		}
		return err
	})},
	{"ready/released", "not released", func(b *broken) {
		b.release = func(context.Context, []engine.Delivery) error { return nil }
	}},
}
