package storetest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var supersedeRules = []Rule{
	{Name: "freeze/from all events", check: freezeFromAllEvents},
	{Name: "freeze/supersedes what waits", check: freezeSupersedes},
	{Name: "freeze/supersedes nothing else", check: freezeSparesOthers},
	{Name: "freeze/drops the incomplete trigger", check: freezeDropsIncomplete},
	{Name: "append/start moves the trigger", check: startMoves},
	{Name: "append/start moves a claimed trigger", check: startMovesClaimed},
	{Name: "append/late events lead to updates", check: lateLeadsToUpdates},
	{Name: "append/events in time lead to none", check: inTimeLeadsToNone},
	{Name: "append/late events are counted", check: lateIsCounted},
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

// The complete payload of a session that has finished by its incomplete instant removes the incomplete trigger, which would have nothing to send.
// The claim of who has claimed it ends with its Freeze.
func freezeDropsIncomplete(t *T) {
	p := t.start()
	w := p.hook(sendsIncomplete, func(w *engine.Webhook) { w.IncompleteDelay = 3600 })
	v := visit{unfinished: true}.complete()
	p.post(v.events(t)...)
	p.post(t.parse(now(), finishOf(v.id, v.at.Add(time.Second)))...)
	claimed := p.claimAt(lane(w), 5, v.at.Add(time.Hour)).Claimed
	if len(claimed) != 2 {
		t.Fatalf("%d are claimed, want a complete and an incomplete one", len(claimed))
	}
	incomplete, complete := claimed[0].Delivery, claimed[1].Delivery
	if incomplete.Kind == engine.KindComplete {
		incomplete, complete = complete, incomplete
	}
	done, err := p.Freeze(t.Context(), engine.Freeze{Delivery: complete, Payload: []byte(`{}`), Events: visitEvents, At: now()})
	t.ok(err, "Freeze")
	if len(done.Superseded) > 0 {
		t.Errorf("superseded are %v, want none", ids(done.Superseded))
	}
	p.gone(incomplete.ID, "a trigger with nothing to send")
	if s := p.stats(w, now()); s.Scheduled != 0 || s.Cancelled != 0 {
		t.Errorf("%+v, want none scheduled or cancelled", s)
	}
	t.is(p.freeze(engine.Freeze{Delivery: incomplete, At: now()}), engine.ErrNotSendable, "a trigger that is gone")
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
	p.post(t.parse(now(), v.leadBefore(time.Hour))...)
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

// A trigger that was claimed before a start has moved it is not frozen as it was: its payload would be of another instant. It is claimed again when
// it is due then.
func startMovesClaimed(t *T) {
	p := t.start()
	w := p.hook(sendsIncomplete, func(w *engine.Webhook) { w.IncompleteDelay = 3600 })
	v := visit{unfinished: true}.complete()
	p.post(t.parse(now(), v.leadBefore(time.Hour))...)
	d := p.claimAt(lane(w), 1, now().Add(time.Hour)).Claimed[0].Delivery
	p.post(v.events(t)...)
	t.is(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), At: now()}), engine.ErrNotSendable, "a trigger that has moved")
	got, _, _ := p.delivery(d.ID)
	want := d
	want.DueAt, want.AsOf, want.NextAttemptAt = v.at.Add(time.Hour), v.at.Add(time.Hour), v.at.Add(time.Hour)
	t.same(got, want, "moved")
	if got := p.claimAt(lane(w), 5, want.DueAt).Claimed; len(got) != 1 || got[0].Delivery.ID != d.ID || got[0].Session.Head.Events != visitEvents {
		t.Errorf("claimed are %v when it is due, want %s with all events", idsOf(got), d.ID)
	}
}

// leadBefore is the first event of a session that has no start yet: a lead on a cover screen.
func (v visit) leadBefore(ago time.Duration) string {
	return `{"type":"lead","session_id":"` + v.id.String() + `","content_id":"` + quiz.String() +
		`","content_type":"quiz","poltio_user_id":7,"lead":{"email":"a@b.example"},"time":"` + stamp(v.at.Add(-ago)) + `"}`
}

// sendsUpdates makes a webhook that gets updates.
func sendsUpdates(w *engine.Webhook) { w.SendUpdates = true }

// sent posts a visit and delivers it for each webhook.
func (p *process) sent(v visit, hooks ...engine.Webhook) []engine.Delivery {
	p.t.Helper()
	p.post(v.events(p.t)...)
	var all []engine.Delivery
	for _, w := range hooks {
		d := p.claimOne(lane(w)).Delivery
		p.t.ok(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: visitEvents, At: now()}), "Freeze")
		all = append(all, p.record(engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered, At: now(), Webhook: &w}).Delivery)
	}
	return all
}

// voteLate is a vote that the payload of an ordinary visit lacks.
func (v visit) voteLate(t *T, received time.Time, answer string) []engine.Event {
	return t.parse(received, `{"type":"vote","session_id":"`+v.id.String()+`","question_id":9,"answer_id":`+answer+`,"time":"`+stamp(v.at)+`"}`)
}

// updates returns the updates of a session for a webhook, in the order in which they were made.
func (p *process) updates(session uuid.UUID, w engine.Webhook) (list []engine.Delivery) {
	p.t.Helper()
	_, all := p.session(session)
	for _, d := range all {
		if d.WebhookID == w.ID && d.Kind == engine.KindUpdate {
			list = append(list, d)
		}
	}
	return list
}

// What changes a payload that was built leads to one update for all that comes while it waits, and to another one for what comes later.
func lateLeadsToUpdates(t *T) {
	p := t.start()
	w := p.hook(sendsUpdates)
	w.Delay = 3600
	w = p.change(engine.WebhookChange{Webhook: w}).Webhook
	v := visit{at: now().Add(-2 * time.Hour)}.complete()
	p.sent(v, w)
	at := now()
	p.append(engine.NewAppend(v.voteLate(t, at, "1"), at))
	p.append(engine.NewAppend(v.voteLate(t, at.Add(time.Second), "2"), at.Add(time.Second)))
	list := p.updates(v.id, w)
	if len(list) != 1 {
		t.Fatalf("%d updates wait, want 1", len(list))
	}
	want := engine.Delivery{ID: list[0].ID, WebhookID: w.ID, WebhookRevision: w.Revision, SessionID: v.id, ContentID: quiz, Kind: engine.KindUpdate,
		Status: engine.StatusScheduled, CreatedAt: list[0].CreatedAt, DueAt: at.Add(time.Hour), NextAttemptAt: at.Add(time.Hour)}
	t.same(list[0], want, "an update")
	claimed := p.claimAt(lane(w), 5, at.Add(time.Hour)).Claimed
	if len(claimed) != 1 || claimed[0].Session == nil || claimed[0].Session.Head.Events != visitEvents+2 {
		t.Fatalf("%d were claimed when it is due, want 1 with the session", len(claimed))
	}
	t.ok(p.freeze(engine.Freeze{Delivery: list[0], Payload: []byte(`{}`), Events: visitEvents + 2, At: now()}), "Freeze")
	p.append(engine.NewAppend(v.voteLate(t, at, "3"), at))
	p = p.restart()
	if list := p.updates(v.id, w); len(list) != 2 || list[0].Status != engine.StatusPending || list[1].Status != engine.StatusScheduled {
		t.Errorf("then the updates are %+v, want a pending and a scheduled one", list)
	}
}

// What comes before the payload is built, and what changes nothing of it, leads to no update and is not late.
func inTimeLeadsToNone(t *T) {
	p := t.start()
	w := p.hook(sendsUpdates)
	v := visit{}.complete()
	p.post(v.events(t)...)
	d := p.claimOne(lane(w)).Delivery
	p.post(v.voteLate(t, now(), "1")...) // it is claimed, but not built
	t.ok(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: visitEvents + 1, At: now()}), "Freeze")
	for _, again := range [][]engine.Event{v.voteLate(t, now(), "1"), t.parse(now(), finishOf(v.id, v.at.Add(time.Minute)))} {
		if done := p.append(engine.NewAppend(again, now())); done.Late != 0 {
			t.Errorf("%d were late", done.Late)
		}
	}
	if list := p.updates(v.id, w); len(list) > 0 {
		t.Errorf("there is an update: %+v", list[0])
	}
}

// Without send_updates late events are counted, at the delivery and for its webhook, until an update tells of them.
func lateIsCounted(t *T) {
	p := t.start()
	w, other := p.hook(), p.hook(sendsUpdates)
	v := visit{}.complete()
	sent := p.sent(v, w, other)
	for i, answer := range []string{"1", "2"} {
		if done := p.append(engine.NewAppend(v.voteLate(t, now(), answer), now())); done.Late != 1 {
			t.Errorf("request %d: %d were late, want 1", i, done.Late)
		}
	}
	for _, when := range []string{"late", "late, after a restart"} {
		if d, _, _ := p.delivery(sent[0].ID); d.LateEvents != 2 {
			t.Errorf("%s: the delivery lacks %d events, want 2", when, d.LateEvents)
		}
		if d, _, _ := p.delivery(sent[1].ID); d.LateEvents != 0 {
			t.Errorf("%s: the delivery of a webhook with updates lacks %d events", when, d.LateEvents)
		}
		if a, b := p.stats(w, now()), p.stats(other, now()); a.Late != 1 || b.Late != 0 {
			t.Errorf("%s: %d and %d deliveries lack events, want 1 and 0", when, a.Late, b.Late)
		}
		for _, id := range []uint32{0, w.ID, other.ID} {
			want := sent[:1]
			if id == other.ID {
				want = nil
			}
			if list := p.pages(engine.DeliveryQuery{WebhookID: id, LateEvents: true}, 1); !slices.Equal(ids(list), ids(want)) {
				t.Errorf("%s: those of webhook %d that lack events are %v, want %v", when, id, ids(list), ids(want))
			}
		}
		p = p.restart()
	}
	changed := *p.Webhooks().Get(w.ID)
	changed.SendUpdates = true
	w = p.change(engine.WebhookChange{Webhook: changed}).Webhook
	p.post(v.voteLate(t, now(), "3")...)
	d := p.claimOne(lane(w)).Delivery
	t.ok(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: visitEvents + 3, At: now()}), "Freeze")
	if d, _, _ := p.delivery(sent[0].ID); d.LateEvents != 0 || d.Status != engine.StatusDelivered || p.stats(w, now()).Late != 0 {
		t.Errorf("told by an update, the delivery is %s and lacks %d events", d.Status, d.LateEvents)
	}
}
