package storetest

import (
	"time"

	"hookbolt/engine"
)

var healthRules = []Rule{
	{Name: "health/the newest stands", check: healthIsOrdered},
	{Name: "health/outlives the process", check: healthIsDurable},
	{Name: "health/none for a healthy endpoint", check: healthOfHealthy},
	{Name: "health/begins anew", check: healthIsReset},
	{Name: "health/is deleted with the webhook", check: healthIsDeleted},
	{Name: "health/is told to the owner", check: healthIsTold},
}

// healthIs reports a health that is not what it should be; zero stands for none. Order and Notified may be lost.
func (p *process) healthIs(w engine.Webhook, want engine.Health, what string) {
	p.t.Helper()
	s, err := p.Stats(p.t.Context(), now(), false)
	p.t.ok(err, "Stats")
	got, ok := s.Health[w.ID]
	p.t.health(got, want, what)
	if ok != !want.IsZero() {
		p.t.Errorf("%s: Stats have an entry: %t", what, ok)
	}
}

func (t *T) health(got, want engine.Health, what string) {
	t.Helper()
	for _, h := range []*engine.Health{&got, &want} {
		h.Order, h.Notified = 0, false
		for _, at := range []*time.Time{&h.FirstFailedAt, &h.FailingSince, &h.NextProbeAt, &h.Throttle.HeldUntil, &h.NextSlotAt} {
			*at = at.UTC()
		}
	}
	t.same(got, want, what+": the health")
}

// tell records the health of an endpoint, by a test that was made for w, as it was at a time.
func (p *process) tell(w engine.Webhook, h engine.Health, startedAt time.Time) {
	p.t.Helper()
	_, err := p.Enqueue(p.t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
	p.t.ok(err, "Enqueue")
	d := p.claimOne(tests(w)).Delivery
	p.record(engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{StartedAt: startedAt, Status: 500, Error: engine.ErrorStatus}}, Next: exhausted, Webhook: &w, Health: h})
}

// failing is the health of an endpoint that is failing.
func failing(order uint64) engine.Health {
	at := now().Truncate(time.Second).Add(-time.Hour + 123456789)
	return engine.Health{Failures: 7, Refused: 2, FirstFailedAt: at, FailingSince: at.Add(time.Second), Probes: 2, NextProbeAt: at.Add(time.Minute),
		Throttle: engine.Throttle{Refusals: 2, HeldUntil: at.Add(time.Hour), Ceiling: 4.75, Known: true}, NextSlotAt: at.Add(time.Second), Order: order}
}

// In whatever order attempts are recorded, the health of the highest Order stands.
func healthIsOrdered(t *T) {
	p := t.start()
	w, other := p.hook(), p.hook()
	first := engine.Health{Failures: 1, FirstFailedAt: now(), Order: 10}
	bad, again := failing(20), failing(22)
	p.tell(other, first, now())
	for _, step := range []struct {
		name      string
		set, want engine.Health
	}{
		{"the first", first, first},
		{"a newer one", bad, bad},
		{"an older one that comes late", engine.Health{Order: 19}, bad},
		{"the same once more", engine.Health{Order: 20}, bad},
		{"none at all", engine.Health{}, bad},
		{"the end of it", engine.Health{Order: 21}, engine.Health{}},
		{"a failure from before the end", bad, engine.Health{}},
		{"a new failure", again, again},
	} {
		p.tell(w, step.set, now())
		p.healthIs(w, step.want, step.name)
	}
	p.healthIs(other, first, "of another webhook")
}

// A failing endpoint is failing after a restart, and a throttled one throttled; any attempt is newer then.
func healthIsDurable(t *T) {
	p := t.start()
	w, well, slowed, paced := p.hook(), p.hook(), p.hook(), p.hook()
	throttle := engine.Health{Throttle: failing(1).Throttle, Order: 3}
	slot := engine.Health{NextSlotAt: now().Add(time.Hour), Order: 3}
	p.tell(slowed, throttle, now())
	p.tell(paced, slot, now())
	h := failing(1_000_000)
	p.tell(w, h, now())
	p.tell(well, failing(1), now())
	p.tell(well, engine.Health{Order: 2}, now())
	p = p.restart()
	p.healthIs(w, h, "after a restart")
	p.healthIs(well, engine.Health{}, "after a restart, of a healthy one")
	p.healthIs(slowed, throttle, "after a restart, of one that refuses load")
	p.healthIs(paced, slot, "after a restart, of one with a rate limit")
	next := engine.Health{Failures: 1, FirstFailedAt: now(), Order: 1}
	p.tell(w, next, now())
	p.healthIs(w, next, "of an attempt after a restart")
}

// An attempt that says nothing of its endpoint leaves no health.
func healthOfHealthy(t *T) {
	p := t.start()
	w := p.hook()
	p.record(engine.AttemptRecord{Delivery: p.taken(w, `{}`), Attempt: good(), Next: delivered, Webhook: &w, Health: engine.Health{Order: 1}})
	p.healthIs(w, engine.Health{}, "after a success")
	p.record(engine.AttemptRecord{Delivery: p.taken(w, `{}`), Attempt: bad(), Next: exhausted, Health: failing(2)})
	p.healthIs(w, engine.Health{}, "after an attempt at no endpoint")
}

// Another endpoint has no past, nor has one that somebody has let go on; late attempts at what was before do not bring it back. Any other
// change leaves the health alone.
func healthIsReset(t *T) {
	p := t.start()
	for name, change := range map[string]func(*engine.Webhook){
		"another URL":    func(w *engine.Webhook) { w.URL = "https://b.example/" },
		"let it go on":   func(w *engine.Webhook) { w.ResumedAt = now() },
		"another name":   func(w *engine.Webhook) { w.Name = "other" },
		"another secret": func(w *engine.Webhook) { w.Secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" },
	} {
		before := p.hook()
		h := failing(5)
		p.tell(before, h, now())
		started := now()
		after := before
		change(&after)
		resets := engine.ResetsHealth(&before, &after)
		after = p.change(engine.WebhookChange{Webhook: after}).Webhook
		if resets {
			p.healthIs(after, engine.Health{}, name)
			p.tell(before, failing(6), started.Add(-time.Second))
			p.healthIs(after, engine.Health{}, name+", after a late attempt")
			h.Order = 7
			p.tell(after, h, now())
		}
		p.healthIs(after, h, name+", in the end")
	}
}

// The health of a deleted webhook is gone, and an attempt that was under way does not bring it back.
func healthIsDeleted(t *T) {
	p := t.start()
	w := p.hook()
	p.tell(w, failing(1), now())
	d := p.taken(w, `{}`)
	p.change(engine.WebhookChange{Webhook: w, Deleted: true})
	p.healthIs(w, engine.Health{}, "deleted")
	p.record(engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: exhausted, Webhook: &w, Health: failing(2)})
	p.healthIs(w, engine.Health{}, "deleted, after a late attempt")
	p = p.restart()
	p.healthIs(w, engine.Health{}, "deleted, after a restart")
}

// Who comes to own the lanes of a webhook hears what is stored of its endpoint.
func healthIsTold(t *T) {
	p := t.start()
	w, well := p.hook(), p.hook()
	h := failing(5)
	p.tell(w, h, now())
	p = p.restart()
	t.await("the owner is told of both webhooks", func() bool { return p.owns(w.ID) && p.owns(well.ID) })
	p.mu.Lock()
	defer p.mu.Unlock()
	t.health(p.own[w.ID].Health, h, "told to the owner")
	t.health(p.own[well.ID].Health, engine.Health{}, "told to the owner, of a healthy one")
}
