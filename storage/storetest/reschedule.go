package storetest

import (
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var rescheduleRules = []Rule{
	{Name: "reschedule/now", check: reschedulesNow},
	{Name: "reschedule/now, in its lane", check: reschedulesInLane},
	{Name: "reschedule/now, refused", check: reschedulesNowRefused},
	{Name: "reschedule/never", check: reschedulesNever},
	{Name: "reschedule/never, refused", check: reschedulesNeverRefused},
	{Name: "reschedule/not found", check: reschedulesNotFound},
	{Name: "enqueue", check: enqueues},
	{Name: "enqueue/not found", check: enqueuesNotFound},
}

// every makes a delivery of each state, each for a webhook of its own, under a revision that is not the present one any more.
func (p *process) every(do func(d engine.Delivery, w engine.Webhook)) {
	p.t.Helper()
	for _, s := range engine.Statuses {
		w := p.hook(inAnHour, forPoll)
		v := visit{content: poll, at: now().Add(-2 * time.Hour)}
		var d engine.Delivery
		switch s {
		case engine.StatusScheduled:
			d = p.one(visit{content: poll})
		case engine.StatusPending:
			p.visit(v)
			d = p.frozen(p.claimOne(lane(w)).Delivery, `{"n":1}`)
			d = p.record(engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: later(now().Add(time.Hour))}).Delivery
		default:
			d = p.finished(w, v, s)
		}
		w.Name = "changed"
		w = p.change(engine.WebhookChange{Webhook: w}).Webhook
		do(d, w)
		p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Deleted: true, Cancels: cancelAll(w)})
	}
}

// Whatever state a delivery is in, it is due now as Requeue says, with the bytes that it has.
func reschedulesNow(t *T) {
	p := t.start()
	p.every(func(d engine.Delivery, w engine.Webhook) {
		name := d.Status.String()
		_, payload, attempts := p.delivery(d.ID)
		at := now().Add(time.Nanosecond)
		want := d
		t.ok(want.Requeue(&w, engine.Source{Frozen: payload != nil, Session: true}, at), "Requeue")
		t.same(p.reschedule(d, engine.RescheduleNow, at), want, name)
		got, body, after := p.delivery(d.ID)
		t.same(got, want, name+", stored")
		if string(body) != string(payload) || len(after) != len(attempts) {
			t.Errorf("%s: it has the payload %s and %d attempts, had %s and %d", name, body, len(after), payload, len(attempts))
		}
	})
}

// It stands in its lane at its new time, and at that alone.
func reschedulesInLane(t *T) {
	p := t.start()
	p.every(func(d engine.Delivery, w engine.Webhook) {
		at := now().Add(-time.Minute)
		p.reschedule(d, engine.RescheduleNow, at)
		if got := p.claimAt(lane(w), 5, at.Add(-1)).Claimed; len(got) > 0 {
			t.Errorf("%s: claimed too early", d.Status)
		}
		got := p.claimAt(lane(w), 5, at).Claimed
		if len(got) != 1 || (got[0].Session == nil) == (got[0].Payload == nil) {
			t.Fatalf("%s: claimed are %+v", d.Status, got)
		}
		if taken := got[0].Delivery; taken.Status == engine.StatusScheduled {
			p.frozen(taken, `{}`)
		}
		p.record(engine.AttemptRecord{Delivery: got[0].Delivery, Attempt: good(), Next: delivered})
		if got := p.claimAt(lane(w), 5, now().Add(24*time.Hour)).Claimed; len(got) > 0 {
			t.Errorf("%s: it is in its lane twice", d.Status)
		}
	})
}

// What has no webhook to be sent to, or nothing to be built from, is ErrConflict, and stays as it was.
func reschedulesNowRefused(t *T) {
	p := t.start()
	refused := func(d engine.Delivery, what string) {
		t.Helper()
		before, _, _ := p.delivery(d.ID)
		_, err := p.Reschedule(t.Context(), d.ID, engine.RescheduleNow, now())
		t.is(err, engine.ErrConflict, what)
		after, _, _ := p.delivery(d.ID)
		t.same(after, before, what)
	}
	w := p.hook()
	unbuilt, built := p.finished(w, visit{}, engine.StatusCancelled), p.finished(w, visit{}, engine.StatusDelivered)
	p.maintain(now().Add(time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: forever.Deliveries})
	refused(unbuilt, "no payload and no session")
	p.reschedule(built, engine.RescheduleNow, now())
	p.reschedule(built, engine.RescheduleNever, now())
	w = p.switchOff(w)
	refused(built, "an inactive webhook")
	test, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
	t.ok(err, "Enqueue")
	p.reschedule(test, engine.RescheduleNow, now())
	p.change(engine.WebhookChange{Webhook: w, Deleted: true})
	refused(built, "a deleted webhook")
}

// A delivery that waits is cancelled, and not due any more.
func reschedulesNever(t *T) {
	p := t.start()
	p.every(func(d engine.Delivery, w engine.Webhook) {
		if !d.Status.Waiting() {
			return
		}
		at := now()
		want := d
		t.ok(want.Cancel(at), "Cancel")
		t.same(p.reschedule(d, engine.RescheduleNever, at), want, d.Status.String())
		got, _, _ := p.delivery(d.ID)
		t.same(got, want, d.Status.String()+", stored")
		if got := p.claimAt(lane(w), 5, now().Add(24*time.Hour)).Claimed; len(got) > 0 {
			t.Errorf("%s: it is claimed after it was cancelled", d.Status)
		}
	})
}

// One that does not wait is ErrConflict, and stays as it was.
func reschedulesNeverRefused(t *T) {
	p := t.start()
	p.every(func(d engine.Delivery, _ engine.Webhook) {
		if d.Status.Waiting() {
			return
		}
		_, err := p.Reschedule(t.Context(), d.ID, engine.RescheduleNever, now())
		t.is(err, engine.ErrConflict, d.Status.String())
		got, _, _ := p.delivery(d.ID)
		t.same(got, d, d.Status.String())
	})
}

func reschedulesNotFound(t *T) {
	p := t.start()
	p.hook()
	d := p.one(visit{})
	other := d.ID
	other[15] ^= 1
	for _, id := range []uuid.UUID{uuid.New(), other, uuid.Nil} {
		for _, how := range []engine.Reschedule{engine.RescheduleNow, engine.RescheduleNever} {
			_, err := p.Reschedule(t.Context(), id, how, now())
			t.is(err, engine.ErrNotFound, "an unknown delivery")
		}
	}
}

// What is about no session is pending from the beginning, due at now, in the lane of its kind, whatever state its webhook is in.
func enqueues(t *T) {
	p := t.start()
	ops, off := p.hook(operations), p.hook(inactive)
	at := now().Truncate(time.Second).Add(123456789)
	for kind, w := range map[engine.Kind]engine.Webhook{engine.KindOperation: ops, engine.KindTest: off} {
		body := ` {"kind":"` + kind.String() + `Ä"}`
		d, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: kind, Payload: []byte(body), At: at})
		t.ok(err, "Enqueue")
		want := engine.Delivery{ID: d.ID, WebhookID: w.ID, WebhookRevision: w.Revision, Kind: kind, Status: engine.StatusPending,
			CreatedAt: d.CreatedAt, DueAt: at, NextAttemptAt: at, FrozenAt: at}
		t.same(d, want, kind.String())
		stored, payload, _ := p.delivery(d.ID)
		t.same(stored, want, kind.String()+", stored")
		c := p.claimAt(d.Lane(), 5, at).Claimed
		if len(c) != 1 || c[0].Delivery.ID != d.ID || string(c[0].Payload) != body || string(payload) != body {
			t.Errorf("%s: claimed are %+v", kind, c)
		}
	}
}

func enqueuesNotFound(t *T) {
	p := t.start()
	w := p.hook()
	p.change(engine.WebhookChange{Webhook: w, Deleted: true})
	for _, id := range []uint32{w.ID, 4711} {
		_, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: id, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
		t.is(err, engine.ErrNotFound, "a webhook that is not there")
	}
	if list := p.pages(engine.DeliveryQuery{}, 10); len(list) > 0 {
		t.Errorf("%d deliveries were made", len(list))
	}
}
