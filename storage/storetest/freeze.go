package storetest

import (
	"time"

	"hookbolt/engine"
)

var freezeRules = []Rule{
	{Name: "freeze/stores the payload", check: freezeStores},
	{Name: "freeze/keeps the claim", check: freezeKeepsClaim},
	{Name: "freeze/dropped without a trace", check: freezeDrops},
	{Name: "freeze/not sendable", check: freezeRefuses},
	{Name: "freeze/refused ends the claim", check: freezeRefusedEndsClaim},
	{Name: "freeze/once", check: freezesOnce},
}

// A frozen delivery is pending with its payload, byte for byte, and otherwise as it was.
func freezeStores(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, "")
	at := now().Add(123 * time.Millisecond)
	payload := ` {"text":"Ä\u0000" , "n":1.0}`
	t.ok(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(payload), At: at}), "Freeze")
	want := d
	want.Status, want.FrozenAt, want.BuiltFrom = engine.StatusPending, at, visitEvents
	for _, when := range []string{"frozen", "frozen, after a restart"} {
		got, body, attempts := p.delivery(d.ID)
		t.same(got, want, when)
		if string(body) != payload || len(attempts) > 0 {
			t.Errorf("%s: its payload is %q, with %d attempts", when, body, len(attempts))
		}
		p = p.restart()
	}
}

// A freeze that succeeds ends no claim.
func freezeKeepsClaim(t *T) {
	p := t.start()
	w := p.hook()
	p.taken(w, `{}`)
	if got := p.claim(lane(w)); len(got) > 0 {
		t.Errorf("a frozen delivery was claimed a second time")
	}
	if s := p.stats(w, now()); s.Claimed != 1 {
		t.Errorf("stats count %d claimed, want 1", s.Claimed)
	}
}

// A trigger that is dropped leaves nothing: no delivery, no attempt, no count, no claim.
func freezeDrops(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, "")
	p.record(engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Error: engine.ErrorInternal}}, Next: later(now())})
	d = p.claimOne(lane(w)).Delivery
	t.ok(p.freeze(engine.Freeze{Delivery: d, At: now()}), "Freeze without a payload")
	p.gone(d.ID, "dropped")
	if _, deliveries := p.session(d.SessionID); len(deliveries) > 0 {
		t.Errorf("the session has %d deliveries", len(deliveries))
	}
	if list := p.pages(engine.DeliveryQuery{}, 10); len(list) > 0 {
		t.Errorf("%d are listed", len(list))
	}
	t.same(p.stats(w, now()), engine.WebhookStats{}, "stats")
	p = p.restart()
	p.gone(d.ID, "dropped, after a restart")
	if got := p.claim(lane(w)); len(got) > 0 {
		t.Errorf("it was claimed")
	}
}

// meanwhile is what may happen to a claimed delivery, and what becomes of it.
type meanwhile struct {
	name string
	do   func(p *process, w engine.Webhook, d engine.Delivery)
	// covered tells that a cancellation covers the delivery then, erased that it is not there any more, again that it is due again.
	covered, erased, again bool
}

var meanwhiles = []meanwhile{
	{name: "cancelled", do: func(p *process, _ engine.Webhook, d engine.Delivery) { p.reschedule(d, engine.RescheduleNever, now()) }},
	{name: "queued again", again: true, do: func(p *process, _ engine.Webhook, d engine.Delivery) {
		p.reschedule(d, engine.RescheduleNow, d.NextAttemptAt.Add(time.Nanosecond))
	}},
	{name: "covered by a cancellation", covered: true, do: func(p *process, w engine.Webhook, _ engine.Delivery) { p.switchOff(w) }},
	{name: "cancelled by a change", do: func(p *process, w engine.Webhook, _ engine.Delivery) {
		p.switchOff(w)
		p.maintain(now(), forever)
	}},
	{name: "erased", erased: true, do: func(p *process, _ engine.Webhook, d engine.Delivery) {
		p.erase(engine.Erasure{SessionID: d.SessionID})
	}},
}

// What is no longer scheduled as it was claimed is not frozen, nor dropped.
func freezeRefuses(t *T) {
	p := t.start()
	for _, payload := range [][]byte{[]byte(`{}`), nil} {
		for _, m := range meanwhiles {
			w := p.hook()
			d := p.taken(w, "")
			m.do(p, w, d)
			before, _, _, _ := p.Delivery(t.Context(), d.ID)
			t.is(p.freeze(engine.Freeze{Delivery: d, Payload: payload, At: now()}), engine.ErrNotSendable, m.name)
			if m.erased {
				p.gone(d.ID, m.name)
			} else {
				after, body, _ := p.delivery(d.ID)
				t.same(after, before, m.name)
				if body != nil {
					t.Errorf("%s: it has the payload %s", m.name, body)
				}
			}
			if m.again {
				p.reschedule(d, engine.RescheduleNever, now())
			}
			p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Deleted: true})
		}
	}
}

// With ErrNotSendable the claim has ended.
func freezeRefusedEndsClaim(t *T) {
	p := t.start()
	for _, m := range meanwhiles {
		w := p.hook()
		d := p.taken(w, "")
		m.do(p, w, d)
		t.is(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), At: now()}), engine.ErrNotSendable, m.name)
		p.noneClaimed(w, m.name)
		got := p.claimAt(lane(w), 5, now().Add(time.Second)).Claimed
		if m.again != (len(got) == 1) {
			t.Errorf("%s: then %d are claimed", m.name, len(got))
		}
		p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Deleted: true})
	}
}

// A payload that is frozen is not replaced.
func freezesOnce(t *T) {
	p := t.start()
	w := p.hook()
	for _, payload := range [][]byte{[]byte(`{"n":2}`), nil} {
		d := p.taken(w, "")
		p.frozen(d, `{"n":1}`)
		t.is(p.freeze(engine.Freeze{Delivery: d, Payload: payload, At: now()}), engine.ErrNotSendable, "a second freeze")
		if after, body, _ := p.delivery(d.ID); after.Status != engine.StatusPending || string(body) != `{"n":1}` {
			t.Errorf("then it is %s with %s", after.Status, body)
		}
		p.reschedule(d, engine.RescheduleNever, now())
	}
}
