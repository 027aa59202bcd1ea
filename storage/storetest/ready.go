package storetest

import (
	"slices"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var readyRules = []Rule{
	{Name: "ready/claimed on arrival", check: readyIsClaimed},
	{Name: "ready/in the order in which they were made", check: readyIsInOrder},
	{Name: "ready/frozen with the payload that was handed in", check: readyIsFrozen},
	{Name: "ready/no payload of other settings", check: readyRevision},
	{Name: "ready/no payload of half a session", check: readyOfOldSession},
	{Name: "ready/released", check: readyIsReleased},
}

// readyAppend is a request for a session whose payload is rendered, for a webhook whose lane is open.
func readyAppend(w engine.Webhook, events []engine.Event) engine.Append {
	a := engine.NewAppend(events, now())
	a.Open = map[uint32]bool{w.ID: true}
	a.Sessions[0].Payloads = []engine.RenderedPayload{{WebhookID: w.ID, Revision: w.Revision, Body: []byte(`{"handed":"in"}`)}}
	return a
}

// What is due already and whose lane is open is claimed as it is stored, with what it takes to send it; other deliveries are queued.
func readyIsClaimed(t *T) {
	p := t.start()
	open, closed, later := p.hook(), p.hook(), p.hook(inAnHour)
	v := visit{unfinished: true}.complete()
	p.post(v.events(t)...)
	a := engine.NewAppend(t.parse(now(), finishOf(v.id, v.at)), now())
	a.Open = map[uint32]bool{open.ID: true, later.ID: true}
	done := p.append(a)
	if len(done.Claimed) != 1 || len(done.Queued) != 2 {
		t.Fatalf("%d are claimed and %d queued, want 1 and 2", len(done.Claimed), len(done.Queued))
	}
	c := done.Claimed[0]
	d, payload, _ := p.delivery(c.Delivery.ID)
	t.same(c.Delivery, d, "the claimed delivery and the stored one")
	if d.WebhookID != open.ID || d.Status != engine.StatusScheduled || payload != nil {
		t.Errorf("claimed is a delivery of webhook %d that is %s", d.WebhookID, d.Status)
	}
	if c.Session == nil || c.Payload != nil {
		t.Fatalf("it has the session %v and the payload %s, want a session alone", c.Session, c.Payload)
	}
	record, _ := p.session(v.id)
	t.same(c.Session.Batches, record.Batches, "the session of the claimed delivery")
	if again := p.claim(lane(open)); len(again) > 0 {
		t.Errorf("what is claimed was claimed once more")
	}
	if s := p.stats(open, now()); s.Claimed != 1 {
		t.Errorf("stats count %d claimed, want 1", s.Claimed)
	}
	if d := p.claimOne(lane(closed)).Delivery; d.SessionID != v.id {
		t.Errorf("what was queued is of session %s", d.SessionID)
	}
}

// Those of a request are claimed in the order in which they were made.
func readyIsInOrder(t *T) {
	p := t.start()
	w, x := p.hook(), p.hook()
	var events []engine.Event
	for range 6 {
		events = append(events, visit{}.events(t)...)
	}
	a := engine.NewAppend(events, now())
	a.Open = map[uint32]bool{w.ID: true, x.ID: true}
	done := p.append(a)
	all := p.pages(engine.DeliveryQuery{}, 100)
	slices.SortFunc(all, func(a, b engine.Delivery) int { return slices.Compare(a.ID[:], b.ID[:]) })
	if got := idsOf(done.Claimed); len(got) != 12 || !slices.Equal(got, ids(all)) {
		t.Errorf("claimed are\n%v\nmade were\n%v", got, ids(all))
	}
	if len(done.Queued) > 0 {
		t.Errorf("%d of the claimed are queued as well", len(done.Queued))
	}
}

// A claimed delivery whose payload was handed in is pending with it. Where the lane is not open, the payload is not used.
func readyIsFrozen(t *T) {
	p := t.start()
	w := p.hook()
	done := p.append(readyAppend(w, visit{}.events(t)))
	if len(done.Claimed) != 1 {
		t.Fatalf("%d are claimed, want 1", len(done.Claimed))
	}
	c := done.Claimed[0]
	if string(c.Payload) != `{"handed":"in"}` || c.Session != nil {
		t.Errorf("it has the payload %s and the session %v", c.Payload, c.Session)
	}
	p = p.restart()
	d, payload, _ := p.delivery(c.Delivery.ID)
	t.same(d, c.Delivery, "the stored delivery")
	if d.Status != engine.StatusPending || string(payload) != `{"handed":"in"}` || d.FrozenAt.IsZero() {
		t.Errorf("it is %s with %s, frozen at %v", d.Status, payload, d.FrozenAt)
	}
	again := p.claimOne(lane(w)) // the process that had claimed it has ended
	if string(again.Payload) != `{"handed":"in"}` {
		t.Errorf("it is claimed with %s", again.Payload)
	}
	if r := p.record(engine.AttemptRecord{Delivery: again.Delivery, Attempt: good(), Next: delivered}); r.Delivery.Status != engine.StatusDelivered {
		t.Errorf("after its attempt it is %s", r.Delivery.Status)
	}

	v := visit{}.complete()
	a := readyAppend(w, v.events(t))
	a.Open = nil
	if done := p.append(a); len(done.Claimed) > 0 {
		t.Errorf("it is claimed although its lane is not open")
	}
	if c := p.claimOne(lane(w)); c.Delivery.Status != engine.StatusPending || string(c.Payload) != `{"handed":"in"}` { // its lane may be another process's
		t.Errorf("with the lane closed it is %s", c.Delivery.Status)
	}
}

// notUsed reports a claim that has taken the payload of readyAppend, although it may not.
func (p *process) notUsed(done engine.Appended) {
	p.t.Helper()
	if len(done.Claimed) != 1 {
		p.t.Fatalf("%d are claimed, want 1", len(done.Claimed))
	}
	c := done.Claimed[0]
	if c.Delivery.Status != engine.StatusScheduled || c.Payload != nil || c.Session == nil {
		p.t.Errorf("it is %s with the payload %s, want scheduled with its session", c.Delivery.Status, c.Payload)
	}
	if _, payload, _ := p.delivery(c.Delivery.ID); payload != nil {
		p.t.Errorf("stored is the payload %s", payload)
	}
}

// A payload that other settings have shaped than those that the webhook has now is not used.
func readyRevision(t *T) {
	p := t.start()
	w := p.hook()
	a := readyAppend(w, visit{}.events(t))
	w.SendLeads = false
	p.change(engine.WebhookChange{Webhook: w})
	p.notUsed(p.append(a))
}

// A payload of a part of the session is not used: there is more of it stored, or a part of the request is a repeat.
func readyOfOldSession(t *T) {
	p := t.start()
	w := p.hook()
	v := visit{unfinished: true}.complete()
	p.post(v.events(t)...)
	p.notUsed(p.append(readyAppend(w, t.parse(now(), finishOf(v.id, v.at)))))

	id := uuid.New()
	p.notUsed(p.append(readyAppend(w, t.parse(now(), voteOf(id, "a"), voteOf(id, "a"), finishOf(id, now())))))
}

// A claim on arrival is a claim like any other: it can be given back.
func readyIsReleased(t *T) {
	p := t.start()
	w := p.hook()
	d := p.append(readyAppend(w, visit{}.events(t))).Claimed[0].Delivery
	t.ok(p.Release(t.Context(), []engine.Delivery{d}), "Release")
	t.same(p.claimOne(lane(w)).Delivery, d, "given back, and claimed again")
}
