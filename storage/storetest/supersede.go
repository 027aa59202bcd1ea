package storetest

import (
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var supersedeRules = []Rule{
	{Name: "freeze/from all events", check: freezeFromAllEvents},
	{Name: "freeze/supersedes what waits", check: freezeSupersedes},
	{Name: "freeze/supersedes nothing else", check: freezeSparesOthers},
	{Name: "append/start moves the trigger", check: startMoves},
}

// A payload that lacks events is not frozen: Freeze returns the session as it is, and the claim goes on.
func freezeFromAllEvents(t *T) {
	p := t.start()
	w := p.hook()
	v := visit{}.complete()
	p.post(v.events(t)...)
	d := p.claimOne(lane(w)).Delivery
	p.post(t.parse(now(), finishOf(v.id, v.at))...)
	before, _, _ := p.delivery(d.ID)
	done, err := p.Freeze(t.Context(), engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: visitEvents, At: now()})
	t.is(err, engine.ErrMoreEvents, "a payload of 3 events, of 4")
	if done.Session == nil || done.Session.Head.Events != visitEvents+1 || len(done.Session.Batches) != 2 {
		t.Fatalf("the session is %+v, want 4 events of 2 requests", done.Session)
	}
	after, body, _ := p.delivery(d.ID)
	t.same(after, before, "not frozen")
	if body != nil {
		t.Errorf("it has the payload %s", body)
	}
	if got := p.claim(lane(w)); len(got) > 0 {
		t.Errorf("it was claimed a second time")
	}
	t.ok(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: visitEvents + 1, At: now()}), "a payload of all events")
}

// unfinishedAndFinished posts a visit whose incomplete delivery for each webhook is pending, with a failed attempt behind it, when its complete
// one is claimed. The webhooks send incomplete sessions.
func (p *process) unfinishedAndFinished(hooks ...engine.Webhook) (v visit, incomplete, complete []engine.Delivery) {
	p.t.Helper()
	v = visit{unfinished: true}.complete()
	p.post(v.events(p.t)...)
	for _, w := range hooks {
		d := p.claimOne(lane(w)).Delivery
		p.t.ok(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: 2, At: now()}), "Freeze")
		done := p.record(engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: later(now().Add(time.Hour)), At: now(), Webhook: &w})
		incomplete = append(incomplete, done.Delivery)
	}
	p.post(p.t.parse(now(), finishOf(v.id, v.at.Add(time.Second)))...)
	for _, w := range hooks {
		complete = append(complete, p.claimOne(lane(w)).Delivery)
	}
	return v, incomplete, complete
}

func atOnce(w *engine.Webhook) { w.IncompleteDelay = 0 }

// The complete payload cancels the incomplete delivery that waits, in the same transaction.
func freezeSupersedes(t *T) {
	p := t.start()
	w := p.hook(sendsIncomplete, atOnce)
	_, incomplete, complete := p.unfinishedAndFinished(w)
	at := now()
	done, err := p.Freeze(t.Context(), engine.Freeze{Delivery: complete[0], Payload: []byte(`{}`), Events: visitEvents, At: at})
	t.ok(err, "Freeze")
	want := incomplete[0]
	want.Finish(engine.StatusCancelled, at)
	want.SupersededBy = complete[0].ID
	t.same(done.Superseded, []engine.Delivery{want}, "superseded")
	for _, when := range []string{"superseded", "superseded, after a restart"} {
		got, _, _ := p.delivery(want.ID)
		t.same(got, want, when)
		if s := p.stats(w, now()); s.Cancelled != 1 || s.Pending != 1 {
			t.Errorf("%s: %+v, want 1 cancelled and 1 pending", when, s)
		}
		if got := p.claimAt(lane(w), 5, now().Add(2*time.Hour)).Claimed; len(got) > 0 && got[0].Delivery.ID == want.ID {
			t.Errorf("%s: it was claimed", when)
		}
		p = p.restart()
	}
	// By hand it is sent all the same, and is superseded no longer.
	again := p.reschedule(want, engine.RescheduleNow, now())
	if again.SupersededBy != uuid.Nil || again.Status != engine.StatusPending {
		t.Errorf("queued by hand, it is %s, superseded by %s", again.Status, again.SupersededBy)
	}
}

// Other webhooks, other sessions, and what has ended stay as they are. So does the newer delivery when the older one is frozen.
func freezeSparesOthers(t *T) {
	p := t.start()
	a, b := p.hook(sendsIncomplete, atOnce), p.hook(sendsIncomplete, atOnce)
	_, others, claimed := p.unfinishedAndFinished(a, b)
	_, ended, complete := p.unfinishedAndFinished(a, b)
	p.reschedule(ended[0], engine.RescheduleNever, now())
	done, err := p.Freeze(t.Context(), engine.Freeze{Delivery: complete[0], Payload: []byte(`{}`), Events: visitEvents, At: now()})
	t.ok(err, "Freeze")
	if len(done.Superseded) > 0 {
		t.Errorf("it has superseded %+v", done.Superseded)
	}
	for _, d := range []engine.Delivery{others[0], others[1], ended[1], claimed[0], claimed[1], complete[1]} {
		got, _, _ := p.delivery(d.ID)
		t.same(got, d, "of others")
	}
	if got, _, _ := p.delivery(ended[0].ID); got.SupersededBy != uuid.Nil || got.Status != engine.StatusCancelled {
		t.Errorf("what was cancelled by hand is %s, superseded by %s", got.Status, got.SupersededBy)
	}
}

// The first start of a session moves its incomplete delivery, which waits, in the queue as well.
func startMoves(t *T) {
	p := t.start()
	w := p.hook(sendsIncomplete, func(w *engine.Webhook) { w.IncompleteDelay = 3600 })
	v := visit{unfinished: true}.complete()
	lead := `{"type":"lead","session_id":"` + v.id.String() + `","content_id":"` + quiz.String() + `","content_type":"quiz","poltio_user_id":7,"lead":{"email":"a@b.example"},"time":"`
	p.post(t.parse(now(), lead+stamp(v.at.Add(-time.Hour))+`"}`)...)
	_, before := p.session(v.id)
	p.post(v.events(t)...)
	_, after := p.session(v.id)
	if len(before) != 1 || len(after) != 1 || before[0].ID != after[0].ID {
		t.Fatalf("%d deliveries became %d", len(before), len(after))
	}
	want := before[0]
	want.DueAt, want.AsOf, want.NextAttemptAt = v.at.Add(time.Hour), v.at.Add(time.Hour), v.at.Add(time.Hour)
	t.same(after[0], want, "moved")
	if got := p.claimAt(lane(w), 5, now()).Claimed; len(got) > 0 {
		t.Errorf("it was claimed at its old place")
	}
	p = p.restart()
	if got := p.claimAt(lane(w), 5, want.DueAt).Claimed; len(got) != 1 {
		t.Errorf("%d were claimed when it is due, want 1", len(got))
	}
}
