package storetest

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var errorRules = []Rule{
	{Name: "error/closed", check: closedIsUnavailable},
	{Name: "error/closed while calls are under way", check: closeAnswersAll},
	{Name: "error/ended context", check: endedContext},
	{Name: "error/ended context claims nothing", check: endedContextClaimsNothing},
	{Name: "error/ended context keeps the claim", check: endedContextKeepsClaim},
}

// call is a call of a method.
type call struct {
	name string
	do   func(ctx context.Context, s Store) error
}

// calls are one of each method that takes a context and returns an error, but for Watch and Release. They are about a claimed delivery d of webhook w.
func calls(t *T, w engine.Webhook, d engine.Delivery) []call {
	return append(sendingCalls(t, w, d), otherCalls(w, d)...)
}

// sendingCalls are those of the walk of an event.
func sendingCalls(t *T, w engine.Webhook, d engine.Delivery) []call {
	return []call{
		{"AppendEvents", func(ctx context.Context, s Store) error {
			_, err := s.AppendEvents(ctx, engine.NewAppend(visit{}.events(t), now()))
			return err
		}},
		{"ClaimDue", func(ctx context.Context, s Store) error {
			_, err := s.ClaimDue(ctx, now(), []engine.ClaimRequest{{Lane: lane(w), Room: 1}})
			return err
		}},
		{"Freeze", func(ctx context.Context, s Store) error {
			_, err := s.Freeze(ctx, engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: visitEvents, At: now()})
			return err
		}},
		{"RecordAttempt", func(ctx context.Context, s Store) error {
			_, err := s.RecordAttempt(ctx, engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered, At: now()})
			return err
		}},
		{"Reschedule", func(ctx context.Context, s Store) error {
			_, err := s.Reschedule(ctx, d.ID, engine.RescheduleNow, now())
			return err
		}},
		{"Enqueue", func(ctx context.Context, s Store) error {
			_, err := s.Enqueue(ctx, engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
			return err
		}},
		{"Done", func(ctx context.Context, s Store) error {
			_, err := s.Done(ctx, engine.OnceKey{1})
			if errors.Is(err, engine.ErrNotFound) {
				return nil
			}
			return err
		}},
	}
}

// otherCalls are all others.
func otherCalls(w engine.Webhook, d engine.Delivery) []call {
	return []call{
		{"Session", func(ctx context.Context, s Store) error {
			_, _, err := s.Session(ctx, d.SessionID)
			return err
		}},
		{"Delivery", func(ctx context.Context, s Store) error {
			_, _, _, err := s.Delivery(ctx, d.ID)
			return err
		}},
		{"Deliveries", func(ctx context.Context, s Store) error {
			_, err := s.Deliveries(ctx, engine.DeliveryQuery{Limit: 10})
			return err
		}},
		{"Sessions", func(ctx context.Context, s Store) error {
			_, err := s.Sessions(ctx, engine.SessionQuery{Email: "jane@example.com", Limit: 10})
			return err
		}},
		{"PutWebhook", func(ctx context.Context, s Store) error {
			_, err := s.PutWebhook(ctx, engine.WebhookChange{Webhook: engine.Webhook{URL: "https://c.example/"}})
			return err
		}},
		{"Replay", func(ctx context.Context, s Store) error {
			_, err := s.Replay(ctx, engine.Replay{WebhookID: w.ID, Scope: engine.ReplayMissing, Until: now()})
			return err
		}},
		{"Erase", func(ctx context.Context, s Store) error {
			_, err := s.Erase(ctx, engine.Erasure{SessionID: uuid.New()}, "")
			return err
		}},
		{"Maintain", func(ctx context.Context, s Store) error {
			_, err := s.Maintain(ctx, now(), forever)
			return err
		}},
		{"Stats", func(ctx context.Context, s Store) error {
			_, err := s.Stats(ctx, now(), true)
			return err
		}},
	}
}

// After Close each method is ErrUnavailable, but for those that cannot fail.
func closedIsUnavailable(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, "")
	p.close()
	ctx := context.Background()
	for _, c := range calls(t, w, d) {
		t.is(c.do(ctx, p), engine.ErrUnavailable, c.name+" of a closed store")
	}
	t.is(p.Watch(ctx, func(engine.News) {}), engine.ErrUnavailable, "Watch of a closed store")
	if err := p.Release(ctx, []engine.Delivery{d}); err != nil { // its claims have ended anyway
		t.is(err, engine.ErrUnavailable, "Release of a closed store")
	}
	if p.Webhooks().Get(w.ID) == nil {
		t.Errorf("a closed store does not know its webhooks any more")
	}
	p = t.start()
	if got, _, _ := p.delivery(d.ID); got.Status != engine.StatusScheduled {
		t.Errorf("what a closed store was asked for was done: the delivery is %s", got.Status)
	}
}

// Each call that is under way when the store is closed gets an answer: what is acknowledged is stored, anything else is ErrUnavailable.
func closeAnswersAll(t *T) {
	p := t.start()
	p.hook()
	const callers = 20
	var stored [callers][]uuid.UUID
	var fs []func()
	begun := make(chan struct{}, callers)
	for i := range callers {
		fs = append(fs, func() {
			for range 200 { // if it is never told that the store is closed
				v := visit{}.complete()
				_, err := p.AppendEvents(context.Background(), engine.NewAppend(v.events(t), now()))
				if err != nil {
					t.is(err, engine.ErrUnavailable, "AppendEvents while the store is closed")
					return
				}
				stored[i] = append(stored[i], v.id)
				if len(stored[i]) == 1 {
					begun <- struct{}{}
				}
			}
		})
	}
	parallel(append(fs, func() {
		for range 3 {
			<-begun
		}
		p.close()
	})...)
	p = t.start()
	for _, id := range slices.Concat(stored[:]...) {
		if _, deliveries := p.session(id); len(deliveries) != 1 {
			t.Fatalf("an acknowledged session has %d deliveries", len(deliveries))
		}
	}
}

// ended is a context that has.
func ended(t *T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// With a context that has ended each method returns that, or does what it is asked for; the store is as good as before.
func endedContext(t *T) {
	p := t.start()
	w := p.hook()
	ctx := ended(t)
	for range 5 {
		d := p.taken(w, "")
		for _, c := range calls(t, w, d) {
			if c.name == "Reschedule" || c.name == "RecordAttempt" {
				continue // they would be about a claim that may have ended
			}
			if err := c.do(ctx, p); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, engine.ErrNotSendable) {
				t.Errorf("%s with an ended context: %v", c.name, err)
			}
		}
		if err := p.Release(ctx, []engine.Delivery{d}); err != nil {
			t.is(err, context.Canceled, "Release with an ended context")
			t.ok(p.Release(t.Context(), []engine.Delivery{d}), "Release")
		}
		for _, d := range p.pages(engine.DeliveryQuery{Status: engine.StatusScheduled}, 100) {
			p.reschedule(d, engine.RescheduleNever, now())
		}
		for _, d := range p.pages(engine.DeliveryQuery{Status: engine.StatusPending}, 100) {
			p.reschedule(d, engine.RescheduleNever, now())
		}
		for _, h := range p.Webhooks().All() {
			if h.ID != w.ID {
				p.change(engine.WebhookChange{Webhook: *h, Deleted: true})
			}
		}
	}
	p.audit()
}

// A claim that its caller has not heard of does not exist.
func endedContextClaimsNothing(t *T) {
	p := t.start()
	w := p.hook()
	ctx := ended(t)
	claimed := make(map[uuid.UUID]bool)
	for range 10 {
		v := visit{}.complete()
		done, err := p.AppendEvents(ctx, readyAppend(w, v.events(t)))
		for _, c := range done.Claimed {
			claimed[c.Delivery.ID] = true
		}
		if err != nil && len(done.Claimed) > 0 {
			t.Errorf("AppendEvents has returned %v and %d claims", err, len(done.Claimed))
		}
		p.visit(visit{})
		results, err := p.ClaimDue(ctx, now(), []engine.ClaimRequest{{Lane: lane(w), Room: 3}})
		if err == nil {
			for _, c := range results[0].Claimed {
				claimed[c.Delivery.ID] = true
			}
		}
	}
	for _, c := range p.claim(lane(w)) {
		if claimed[c.Delivery.ID] {
			t.Errorf("delivery %s was claimed twice", c.Delivery.ID)
		}
		claimed[c.Delivery.ID] = true
	}
	for _, d := range p.pages(engine.DeliveryQuery{}, 100) {
		if !claimed[d.ID] {
			t.Errorf("delivery %s is not due, and nobody has claimed it", d.ID)
		}
	}
}

// What could not be recorded or frozen stays claimed; the same call can be made again.
func endedContextKeepsClaim(t *T) {
	p := t.start()
	w := p.hook()
	for range 10 {
		d := p.taken(w, "")
		if _, err := p.Freeze(ended(t), engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: visitEvents, At: now()}); err != nil {
			t.is(err, context.Canceled, "Freeze with an ended context")
		}
		if got := p.claim(lane(w)); len(got) > 0 {
			t.Fatalf("the claim has ended with a freeze that was not made")
		}
		if p.status(d.ID) == engine.StatusScheduled {
			d = p.frozen(d, `{}`)
		}
		r := engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered, At: now()}
		if _, err := p.RecordAttempt(ended(t), r); err == nil {
			continue
		}
		if p.status(d.ID).Waiting() {
			if got := p.claim(lane(w)); len(got) > 0 {
				t.Fatalf("the claim has ended with an attempt that was not recorded")
			}
			p.record(r)
		}
	}
	p.noneClaimed(w, "in the end")
}
