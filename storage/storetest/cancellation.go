package storetest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var cancellationRules = []Rule{
	{Name: "cancel/is a mark first", check: cancelMarks},
	{Name: "cancel/passed over when claimed", check: cancelIsPassedOver},
	{Name: "cancel/outlives the process", check: cancelIsDurable},
	{Name: "cancel/scopes", check: cancelScopes},
	{Name: "cancel/updates that are not built", check: cancelUpdates},
	{Name: "cancel/carried out", check: cancelIsCarriedOut},
	{Name: "cancel/new deliveries are not covered", check: cancelSparesNew},
	{Name: "cancel/all ends replays", check: cancelEndsReplays},
}

// When PutWebhook has returned, the set of webhooks has the cancellation, and no delivery has changed yet.
func cancelMarks(t *T) {
	p := t.start()
	w := p.hook()
	d := p.one(visit{})
	off := p.switchOff(w)
	if !p.Webhooks().Covered(&d) || !slices.Equal(p.Webhooks().Cancellations(w.ID), cancelAll(w)) {
		t.Errorf("the cancellations are %+v, want %+v", p.Webhooks().Cancellations(w.ID), cancelAll(w))
	}
	if p.Webhooks().Get(w.ID).Active || off.Active {
		t.Errorf("the webhook is active")
	}
	got, _, _ := p.delivery(d.ID)
	t.same(got, d, "what is covered, but not yet cancelled")
}

// What is covered is not claimed, and what stands behind it is.
func cancelIsPassedOver(t *T) {
	p := t.start()
	w := p.hook(sendsIncomplete)
	w.IncompleteDelay = 0
	w = p.change(engine.WebhookChange{Webhook: w}).Webhook
	covered := p.one(visit{unfinished: true, at: now().Add(-time.Hour)})
	test, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
	t.ok(err, "Enqueue")
	free := p.one(visit{})
	cancels := []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelIncomplete}}
	w.SendIncomplete = false
	p.change(engine.WebhookChange{Webhook: w, Cancels: cancels})
	got := p.claimAt(lane(w), 1, now())
	if len(got.Claimed) != 1 || got.Claimed[0].Delivery.ID != free.ID {
		t.Errorf("claimed are %v, want %s and not %s", idsOf(got.Claimed), free.ID, covered.ID)
	}
	if got := p.claim(lane(w)); len(got) > 0 {
		t.Errorf("what is covered was claimed: %v", idsOf(got))
	}
	p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Cancels: cancelAll(*p.Webhooks().Get(w.ID))})
	if got := p.claim(tests(w)); len(got) > 0 {
		t.Errorf("a test that is covered was claimed: %v, %s", idsOf(got), test.ID)
	}
}

// A mark is there after a restart, until its job is done.
func cancelIsDurable(t *T) {
	p := t.start()
	w := p.hook()
	d := p.one(visit{})
	p.switchOff(w)
	p = p.restart()
	if !p.Webhooks().Covered(&d) {
		t.Errorf("after a restart it is not covered")
	}
	if got := p.claim(lane(w)); len(got) > 0 {
		t.Errorf("after a restart it was claimed")
	}
	if m := p.maintain(now(), forever); m.Cancelled != 1 || p.status(d.ID) != engine.StatusCancelled {
		t.Errorf("after a restart %d are cancelled, and it is %s", m.Cancelled, p.status(d.ID))
	}
	if p = p.restart(); p.Webhooks().Covered(&d) {
		t.Errorf("the mark is there again")
	}
}

// A cancellation ends what Covers says, and nothing else.
func cancelScopes(t *T) {
	p := t.start()
	for _, scope := range []engine.CancelScope{engine.CancelAll, engine.CancelIncomplete, engine.CancelContent} {
		w, other := p.hook(sendsIncomplete, inAnHour), p.hook(inAnHour)
		var list []engine.Delivery
		for _, content := range []uuid.UUID{quiz, poll} {
			v := visit{content: content, unfinished: true}.complete()
			p.post(v.events(t)...)
			p.post(t.parse(now(), finishOf(v.id, v.at))...)
			_, deliveries := p.session(v.id)
			list = append(list, deliveries...)
		}
		test, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
		t.ok(err, "Enqueue")
		list = append(list, test)
		c := engine.Cancellation{WebhookID: w.ID, Revision: w.Revision, Scope: scope}
		if scope == engine.CancelContent {
			c.ContentID = poll
		}
		w = p.change(engine.WebhookChange{Webhook: w, Cancels: []engine.Cancellation{c}}).Webhook
		n := 0
		at := now()
		m := p.maintain(at, forever)
		for _, d := range list {
			want := d
			if c.Covers(&d) {
				n++
				want.Finish(engine.StatusCancelled, at)
			}
			got, _, _ := p.delivery(d.ID)
			t.same(got, want, string(scope))
		}
		if m.Cancelled != n || n == 0 {
			t.Errorf("%s: %d are cancelled, want %d", scope, m.Cancelled, n)
		}
		for _, w := range []engine.Webhook{w, other} {
			p.change(engine.WebhookChange{Webhook: w, Deleted: true, Cancels: cancelAll(w)})
		}
		p.maintain(now(), forever)
	}
}

// The scope of updates covers those that are scheduled. One that is built stays, as does a complete delivery: it is the newest that the endpoint
// gets of its session.
func cancelUpdates(t *T) {
	p := t.start()
	w := p.hook(sendsUpdates)
	first := visit{}.complete()
	p.sent(first, w)
	built := p.updated(w, first, bad(), later(now().Add(time.Hour)))
	second := visit{}.complete()
	p.sent(second, w)
	p.post(second.voteLate(t, now(), "1")...)
	scheduled := p.updates(second.id, w)
	complete := p.one(visit{})
	if len(scheduled) != 1 {
		t.Fatalf("%d updates are scheduled, want 1", len(scheduled))
	}
	c := engine.Cancellation{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelUpdates}
	w.SendUpdates = false
	w = p.change(engine.WebhookChange{Webhook: w, Cancels: []engine.Cancellation{c}}).Webhook
	if got := p.claim(lane(w)); len(got) != 1 || got[0].Delivery.ID != complete.ID {
		t.Errorf("claimed are %v, want the complete delivery %s", idsOf(got), complete.ID)
	}
	at := now()
	if m := p.maintain(at, forever); m.Cancelled != 1 {
		t.Errorf("%d are cancelled, want 1", m.Cancelled)
	}
	want := scheduled[0]
	want.Finish(engine.StatusCancelled, at)
	for _, want := range []engine.Delivery{want, built, complete} {
		got, _, _ := p.delivery(want.ID)
		t.same(got, want, "an update that is cancelled, one that is built, and a complete delivery")
	}
	if got := p.claimAt(lane(w), 5, now().Add(2*time.Hour)).Claimed; len(got) != 1 || got[0].Delivery.ID != built.ID {
		t.Errorf("then claimed are %v, want the update that is built, %s", idsOf(got), built.ID)
	}
}

// Maintain cancels what is covered, all of it, however many, and takes the mark away then.
func cancelIsCarriedOut(t *T) {
	p := t.start()
	w := p.hook()
	const n = 700
	var events []engine.Event
	for range n {
		events = append(events, visit{}.events(t)...)
	}
	p.post(events...)
	p.switchOff(w)
	if m := p.maintain(now(), forever); m.Cancelled != n {
		t.Errorf("%d are cancelled, want %d", m.Cancelled, n)
	}
	if s := p.stats(w, now()); s.Cancelled != n || s.Scheduled != 0 || s.Due != 0 {
		t.Errorf("then stats are %+v", s)
	}
	if got := p.Webhooks().Cancellations(w.ID); len(got) > 0 {
		t.Errorf("then the cancellations are %+v", got)
	}
	if m := p.maintain(now(), forever); m.Cancelled != 0 {
		t.Errorf("and %d once more", m.Cancelled)
	}
}

// What is queued under the revision of the change, or queued again, is not covered.
func cancelSparesNew(t *T) {
	p := t.start()
	w := p.hook()
	again := p.one(visit{})
	old := p.one(visit{})
	w = p.change(engine.WebhookChange{Webhook: w, Cancels: cancelAll(w)}).Webhook
	again = p.reschedule(again, engine.RescheduleNow, now())
	made := p.one(visit{})
	got := idsOf(p.claim(lane(w)))
	if len(got) != 2 || !slices.Contains(got, again.ID) || !slices.Contains(got, made.ID) {
		t.Errorf("claimed are %v, want %s and %s", got, again.ID, made.ID)
	}
	p.maintain(now(), forever)
	for id, want := range map[uuid.UUID]engine.Status{old.ID: engine.StatusCancelled, again.ID: engine.StatusScheduled, made.ID: engine.StatusScheduled} {
		if got := p.status(id); got != want {
			t.Errorf("delivery %s is %s, want %s", id, got, want)
		}
	}
}

// CancelAll ends the replays of its webhook, other scopes and other webhooks do not.
func cancelEndsReplays(t *T) {
	p := t.start()
	w := p.hook(sendsIncomplete)
	d := p.finished(w, visit{}, engine.StatusFailed)
	other := p.hook()
	p.finished(other, visit{content: poll}, engine.StatusFailed)
	for _, id := range []uint32{w.ID, other.ID} {
		_, err := p.Replay(t.Context(), engine.Replay{WebhookID: id, Scope: engine.ReplayFailed, Until: now()})
		t.ok(err, "Replay")
	}
	replays := func() (n int) {
		s, err := p.Stats(t.Context(), now(), false)
		t.ok(err, "Stats")
		return len(s.Replays)
	}
	w = p.change(engine.WebhookChange{Webhook: w, Cancels: []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelIncomplete}}}).Webhook
	if n := replays(); n != 2 {
		t.Errorf("after the cancellation of incomplete ones there are %d replays, want 2", n)
	}
	w = p.change(engine.WebhookChange{Webhook: w, Cancels: cancelAll(w)}).Webhook
	if n := replays(); n != 1 {
		t.Errorf("after the cancellation of all there are %d replays, want 1", n)
	}
	if m := p.maintain(now(), forever); len(m.Queued) != 1 || m.Queued[0].Lane != lane(other) {
		t.Errorf("queued are %+v, want one of webhook %d", m.Queued, other.ID)
	}
	if got := p.status(d.ID); got != engine.StatusFailed {
		t.Errorf("a delivery of the ended replay is %s", got)
	}
}
