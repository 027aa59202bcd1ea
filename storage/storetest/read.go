package storetest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var readRules = []Rule{
	{Name: "session/with its deliveries", check: sessionHasDeliveries},
	{Name: "session/without the deliveries that are gone", check: sessionLosesDeliveries},
	{Name: "session/not found", check: sessionNotFound},
	{Name: "delivery/payload", check: deliveryHasPayload},
	{Name: "delivery/not found", check: deliveryNotFound},
}

// A session comes with all deliveries that it has led to, and with no others.
func sessionHasDeliveries(t *T) {
	p := t.start()
	var hooks []uint32
	for range 3 {
		hooks = append(hooks, p.hook(sendsIncomplete, inAnHour).ID)
	}
	v := visit{unfinished: true}.complete()
	p.post(v.events(t)...)
	p.post(t.parse(now(), finishOf(v.id, v.at))...)
	p.visit(visit{})
	_, deliveries := p.session(v.id)
	for _, id := range hooks {
		for _, kind := range []engine.Kind{engine.KindComplete, engine.KindIncomplete} {
			is := func(d engine.Delivery) bool { return d.WebhookID == id && d.Kind == kind && d.SessionID == v.id }
			if !slices.ContainsFunc(deliveries, is) {
				t.Errorf("the %s delivery for webhook %d is missing", kind, id)
			}
		}
	}
	if len(deliveries) != 2*len(hooks) {
		t.Errorf("%d deliveries, want %d", len(deliveries), 2*len(hooks))
	}
	for _, d := range deliveries {
		got, _, _ := p.delivery(d.ID)
		t.same(d, got, "a delivery of the session")
	}
}

// Deliveries whose retention has ended are not named any more; the session stays.
func sessionLosesDeliveries(t *T) {
	p := t.start()
	w := p.hook()
	d := p.finished(w, visit{}, engine.StatusDelivered)
	p.maintain(now().Add(time.Hour), engine.Retention{Sessions: forever.Sessions, Deliveries: time.Minute})
	record, deliveries := p.session(d.SessionID)
	if len(deliveries) > 0 || record.Head.Events != 3 {
		t.Errorf("%d deliveries of %d events, want none of 3", len(deliveries), record.Head.Events)
	}
}

func sessionNotFound(t *T) {
	p := t.start()
	p.visit(visit{})
	for _, id := range []uuid.UUID{uuid.New(), uuid.Nil} {
		_, _, err := p.Session(t.Context(), id)
		t.is(err, engine.ErrNotFound, "an unknown session")
	}
}

// The payload is nil while a delivery is scheduled, and what it was frozen with afterwards, in whatever state.
func deliveryHasPayload(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, "")
	if _, payload, attempts := p.delivery(d.ID); payload != nil || len(attempts) > 0 {
		t.Errorf("a scheduled delivery has the payload %s and %d attempts", payload, len(attempts))
	}
	d = p.frozen(d, `{"n":1}`)
	for _, next := range []engine.Next{later(now()), exhausted} {
		if _, payload, _ := p.delivery(d.ID); string(payload) != `{"n":1}` {
			t.Errorf("a delivery that is %s has the payload %s", d.Status, payload)
		}
		d = p.record(engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: next}).Delivery
		p.claim(lane(w))
	}
	if _, payload, attempts := p.delivery(d.ID); string(payload) != `{"n":1}` || len(attempts) != 2 {
		t.Errorf("a delivery that is %s has the payload %s and %d attempts", d.Status, payload, len(attempts))
	}
}

func deliveryNotFound(t *T) {
	p := t.start()
	p.hook()
	d := p.one(visit{})
	other := d.ID
	other[15] ^= 1
	for _, id := range []uuid.UUID{uuid.New(), other, uuid.Nil} {
		p.gone(id, "an unknown delivery")
	}
}
