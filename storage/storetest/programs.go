package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var programRules = []Rule{
	{Name: "freeze/keeps what shapes the body", check: freezeKeepsShape},
	{Name: "freeze/filtered", check: freezeFilters},
	{Name: "freeze/parked", check: freezeParks},
	{Name: "freeze/an end needs all events", check: freezeEndsFromAllEvents},
	{Name: "freeze/an end supersedes nothing", check: freezeEndSupersedesNothing},
	{Name: "freeze/a mended one is built anew", check: mendedIsBuilt},
	{Name: "maintain/what has no body is kept with its session", check: keptWithSession},
	{Name: "append/late events ask a filter again", check: lateAsksAgain},
	{Name: "append/events in time ask no filter again", check: inTimeAsksNot},
	{Name: "replay/filtered", check: replaysFiltered},
	{Name: "replay/of one error", check: replaysOneError},
	{Name: "erase/a body of any shape", check: erasesShaped},
	{Name: "enqueue/a system event is shaped later", check: eventIsShaped},
}

const buildError = "transform, line 3, column 5: no"

// shapes is a setting of a webhook that has a program.
func shapes(w *engine.Webhook) { w.Transform = new(".") }

// What is frozen with a body is kept with the delivery.
func freezeKeepsShape(t *T) {
	p := t.start()
	w := p.hook(shapes)
	d := p.taken(w, "")
	at := now()
	t.ok(p.freeze(engine.Freeze{Delivery: d, Webhook: &w, Payload: []byte(`a=1&b`), Shaped: true, ContentType: "text/plain; charset=utf-8", URLValues: "a=%26&b=Ä", At: at}), "Freeze")
	want := d
	want.Status, want.FrozenAt, want.BuiltFrom = engine.StatusPending, at, visitEvents
	want.Shaped, want.ContentType, want.URLValues = true, "text/plain; charset=utf-8", "a=%26&b=Ä"
	for _, when := range []string{"frozen", "frozen, after a restart"} {
		got, body, _ := p.delivery(d.ID)
		t.same(got, want, when)
		if string(body) != `a=1&b` {
			t.Errorf("%s: its body is %q", when, body)
		}
		p = p.restart()
	}
	if c := p.claimOne(lane(w)); c.Delivery.ContentType != want.ContentType || c.Delivery.URLValues != want.URLValues || string(c.Payload) != `a=1&b` {
		t.Errorf("claimed with %+v and %q", c.Delivery, c.Payload)
	}
}

// endedAs checks a delivery that a Freeze has ended: at once, after a restart, in its list and in the counts.
func (p *process) endedAs(w engine.Webhook, done engine.Frozen, want engine.Delivery) *process {
	p.t.Helper()
	p.t.same(done.Delivery, want, "returned")
	p.noneClaimed(w, "after an end")
	for _, when := range []string{"ended", "ended, after a restart"} {
		got, body, attempts := p.delivery(want.ID)
		p.t.same(got, want, when)
		if body != nil || len(attempts) > 0 {
			p.t.Errorf("%s: it has the body %q and %d attempts", when, body, len(attempts))
		}
		if c := p.claimAt(lane(w), 5, now().Add(time.Hour)).Claimed; len(c) > 0 {
			p.t.Errorf("%s: it was claimed", when)
		}
		p.t.same(p.pages(engine.DeliveryQuery{WebhookID: w.ID, Status: want.Status}, 10), []engine.Delivery{want}, when+", listed by its state")
		p.t.same(p.pages(engine.DeliveryQuery{Status: want.Status}, 10), []engine.Delivery{want}, when+", listed for all webhooks")
		p.audit()
		p = p.restart()
	}
	return p
}

// A session that the filter does not let through ends filtered, without a body.
func freezeFilters(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, "")
	at := now().Add(123 * time.Millisecond)
	done, err := p.Freeze(t.Context(), engine.Freeze{Delivery: d, Webhook: &w, Filtered: true, Events: visitEvents, At: at})
	t.ok(err, "Freeze")
	want := d
	want.Finish(engine.StatusFiltered, at)
	want.BuiltFrom = visitEvents
	p = p.endedAs(w, done, want)
	if s := p.stats(w, now()); s != (engine.WebhookStats{Filtered: 1}) {
		t.Errorf("%+v, want one filtered", s)
	}
}

// A delivery without a body is kept as long as its session, beyond the retention of deliveries.
func keptWithSession(t *T) {
	p := t.start()
	for _, f := range []engine.Freeze{{Filtered: true}, {BuildError: buildError}} {
		w := p.hook()
		d := p.taken(w, "")
		f.Delivery, f.Webhook, f.At = d, &w, now()
		t.ok(p.freeze(f), "Freeze")
		for hours := range 3 {
			p.maintain(now().Add(time.Duration(hours)*time.Hour), engine.Retention{Sessions: 10_000 * time.Hour, Deliveries: time.Minute})
		}
		p.delivery(d.ID)
		p = p.restart()
		p.maintain(now().Add(4*time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: time.Minute})
		p.maintain(now().Add(8*time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: time.Minute})
		p.gone(d.ID, "its session is gone")
		p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Deleted: true})
	}
}

// A delivery whose body cannot be built has failed, with the reason and without an attempt, and the operator is told.
func freezeParks(t *T) {
	p := t.start()
	ops, w := p.hook(operations), p.hook()
	d := p.taken(w, "")
	at := now()
	f := engine.Freeze{Delivery: d, Webhook: &w, BuildError: buildError, Events: visitEvents, At: at}
	_, notices := f.Apply(&d)
	done, err := p.Freeze(t.Context(), f)
	t.ok(err, "Freeze")
	t.queued(done.Queued, []engine.Queued{{Lane: lane(ops), At: at}})
	if c := p.claimOne(lane(ops)); len(notices) != 1 || string(c.Payload) != string(notices[0]) {
		t.Errorf("the operator is told %s, want %s", c.Payload, notices)
	}
	t.ok(p.Release(t.Context(), p.pages(engine.DeliveryQuery{WebhookID: ops.ID}, 10)), "Release")
	want := d
	want.Finish(engine.StatusFailed, at)
	want.BuildError, want.LastError = buildError, engine.ErrorTransform
	p = p.endedAs(w, done, want)
	if s := p.stats(w, now()); s != (engine.WebhookStats{Failed: 1, Parked: 1}) {
		t.Errorf("%+v, want one failed and parked", s)
	}
	p.reschedule(d, engine.RescheduleNow, now())
	if s := p.stats(w, now()); s.Parked != 0 || s.Scheduled != 1 {
		t.Errorf("queued again: %+v, want one scheduled", s)
	}
}

// Events that were accepted meanwhile may be what a filter waits for.
func freezeEndsFromAllEvents(t *T) {
	p := t.start()
	w := p.hook()
	for _, f := range []engine.Freeze{{Filtered: true}, {BuildError: buildError}} {
		v := visit{}.complete()
		p.post(v.events(t)...)
		d := p.claimOne(lane(w)).Delivery
		p.post(t.parse(now(), finishOf(v.id, v.at))...)
		f.Delivery, f.Webhook, f.Events, f.At = d, &w, visitEvents, now()
		done, err := p.Freeze(t.Context(), f)
		t.is(err, engine.ErrMoreEvents, "of 3 events, of 4")
		if done.Session == nil || done.Session.Head.Events != visitEvents+1 {
			t.Fatalf("the session is %+v, want one of 4 events", done.Session)
		}
		after, _, _ := p.delivery(d.ID)
		t.same(after, d, "not ended")
		if got := p.claim(lane(w)); len(got) > 0 {
			t.Errorf("it was claimed a second time")
		}
		f.Events++
		_, err = p.Freeze(t.Context(), f)
		t.ok(err, "of all events")
	}
}

// What tells of an earlier state stays, since nothing newer arrives.
func freezeEndSupersedesNothing(t *T) {
	p := t.start()
	for _, f := range []engine.Freeze{{Filtered: true}, {BuildError: buildError}} {
		w := p.hook(sendsIncomplete, atOnce)
		_, incomplete, complete := p.unfinishedAndFinished(w)
		f.Delivery, f.Webhook, f.Events, f.At = complete[0], &w, visitEvents, now()
		done, err := p.Freeze(t.Context(), f)
		t.ok(err, "Freeze")
		if len(done.Superseded) > 0 {
			t.Errorf("superseded are %v, want none", ids(done.Superseded))
		}
		got, _, _ := p.delivery(incomplete[0].ID)
		t.same(got, incomplete[0], "the incomplete one")
		p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Deleted: true})
	}
}

// A delivery that has no body yet is scheduled when it is queued again, and comes with its session.
func mendedIsBuilt(t *T) {
	p := t.start()
	w := p.hook()
	for _, f := range []engine.Freeze{{Filtered: true}, {BuildError: buildError}} {
		d := p.taken(w, "")
		f.Delivery, f.Webhook, f.Events, f.At = d, &w, visitEvents, now()
		t.ok(p.freeze(f), "Freeze")
		again := p.reschedule(d, engine.RescheduleNow, now())
		if again.Status != engine.StatusScheduled {
			t.Fatalf("queued again it is %s", again.Status)
		}
		p = p.restart()
		c := p.claimOne(lane(w))
		if c.Session == nil || c.Payload != nil || c.Session.Head.Events != visitEvents {
			t.Fatalf("claimed with the session %+v and the payload %q", c.Session, c.Payload)
		}
		got := p.frozen(c.Delivery, `{"n":1}`)
		if got.Status != engine.StatusPending || got.BuildError != "" || got.LastError != "" {
			t.Errorf("built it is %+v", got)
		}
		if s := p.stats(w, now()); s.Pending != 1 || s.Parked != 0 || s.Filtered != 0 {
			t.Errorf("%+v, want one pending", s)
		}
		p.record(engine.AttemptRecord{Delivery: got, Attempt: good(), Next: delivered})
		p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Deleted: true})
		w = p.hook()
	}
}

// filtered is the complete delivery of a visit that a filter did not let through.
func (p *process) filtered(w engine.Webhook) (visit, engine.Delivery) {
	p.t.Helper()
	v := visit{}.complete()
	p.post(v.events(p.t)...)
	d := p.claimOne(lane(w)).Delivery
	p.t.ok(p.freeze(engine.Freeze{Delivery: d, Webhook: &w, Filtered: true, At: now()}), "Freeze")
	d, _, _ = p.delivery(d.ID)
	return v, d
}

// An event that changes the payload of a filtered session queues the same delivery again, whatever the webhook wants to know of updates.
func lateAsksAgain(t *T) {
	p := t.start()
	for _, updates := range []bool{false, true} {
		w := p.hook(func(w *engine.Webhook) { w.SendUpdates, w.Delay = updates, 7 })
		v, d := visit{}.complete(), engine.Delivery{}
		p.post(v.events(t)...)
		d = p.claimAt(lane(w), 1, now().Add(time.Hour)).Claimed[0].Delivery
		t.ok(p.freeze(engine.Freeze{Delivery: d, Webhook: &w, Filtered: true, At: now()}), "Freeze")
		d, _, _ = p.delivery(d.ID)
		at := now().Add(time.Second)
		done := p.append(engine.NewAppend(t.parse(at, fmt.Sprintf(`{"type":"lead","session_id":%q,"lead":{"email":"ada@example.com"}}`, v.id)), at))
		want := d
		want.EvaluateAgain(&w, at.Add(7*time.Second))
		t.queued(done.Queued, []engine.Queued{{Lane: lane(w), At: want.NextAttemptAt}})
		if done.Late != 0 {
			t.Errorf("%d events count as late", done.Late)
		}
		_, deliveries := p.session(v.id)
		t.same(deliveries, []engine.Delivery{want}, "the deliveries of the session")
		p = p.restart()
		c := p.claimAt(lane(w), 5, want.NextAttemptAt).Claimed
		if len(c) != 1 || c[0].Session == nil || c[0].Session.Head.Events != visitEvents+1 {
			t.Fatalf("claimed are %+v", c)
		}
		p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Deleted: true})
	}
}

// Events that the evaluation had, or that change nothing, ask no filter again.
func inTimeAsksNot(t *T) {
	p := t.start()
	w := p.hook()
	v, d := p.filtered(w)
	done := p.post(t.parse(now(), finishOf(v.id, now()))...) // a second finish
	if len(done.Queued) > 0 || done.Late != 0 {
		t.Errorf("a second finish has led to %+v", done)
	}
	got, _, _ := p.delivery(d.ID)
	t.same(got, d, "the filtered one")
}

// A replay of filtered ones queues them, and no others.
func replaysFiltered(t *T) {
	p := t.start()
	w := p.hook()
	_, d := p.filtered(w)
	failed := p.finished(w, visit{}, engine.StatusFailed)
	r := engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFiltered, Until: now().Add(time.Hour)}
	n, err := p.Replay(t.Context(), r)
	t.ok(err, "Replay")
	if n != 1 {
		t.Errorf("%d are counted, want 1", n)
	}
	p.maintain(now(), forever)
	if p.status(d.ID) != engine.StatusScheduled || p.status(failed.ID) != engine.StatusFailed {
		t.Errorf("the filtered one is %s, the failed one %s", p.status(d.ID), p.status(failed.ID))
	}
}

// A replay of failed ones may be of those with one error.
func replaysOneError(t *T) {
	p := t.start()
	w := p.hook()
	failed := p.finished(w, visit{}, engine.StatusFailed)
	parked := p.taken(w, "")
	t.ok(p.freeze(engine.Freeze{Delivery: parked, Webhook: &w, BuildError: buildError, At: now()}), "Freeze")
	r := engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed, Error: engine.ErrorTransform, Until: now().Add(time.Hour)}
	n, err := p.Replay(t.Context(), r)
	t.ok(err, "Replay")
	if n != 1 {
		t.Errorf("%d are counted, want 1", n)
	}
	p = p.restart()
	p.maintain(now(), forever)
	if p.status(parked.ID) != engine.StatusScheduled || p.status(failed.ID) != engine.StatusFailed {
		t.Errorf("the parked one is %s, the failed one %s", p.status(parked.ID), p.status(failed.ID))
	}
}

// A person is found in a body that a program has made, in the values of the URL, and in why there is no body, also when the session is gone.
func erasesShaped(t *T) {
	p := t.start()
	w := p.hook(shapes)
	found := make(map[uuid.UUID]bool)
	for body, values := range map[string]engine.URLValues{`*Jane* jane@example.com`: "", `nobody`: "mail=jane%40example.com", `john@example.com`: "mail=john%40example.com"} {
		p.visit(visit{})
		d := p.claimOne(lane(w)).Delivery
		t.ok(p.freeze(engine.Freeze{Delivery: d, Webhook: &w, Payload: []byte(body), Shaped: true, ContentType: "text/plain", URLValues: values, At: now()}), "Freeze")
		d, _, _ = p.delivery(d.ID)
		p.record(engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered})
		found[d.ID] = !strings.Contains(body, "john")
	}
	p.visit(visit{})
	parked := p.claimOne(lane(w)).Delivery
	t.ok(p.freeze(engine.Freeze{Delivery: parked, Webhook: &w, BuildError: "transform: no team for jane@example.com", At: now()}), "Freeze")
	found[parked.ID] = true
	p.maintain(now().Add(time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: forever.Deliveries})
	p.erase(engine.Erasure{Email: "jane@example.com"})
	for id, goes := range found {
		if goes {
			p.gone(id, "erased")
		} else if p.status(id) != engine.StatusDelivered {
			t.Errorf("somebody else's has changed")
		}
	}
}

// A system event for a webhook with programs is scheduled, and claimed with the event; its body takes the event's place.
func eventIsShaped(t *T) {
	p := t.start()
	ops, w := p.hook(operations, shapes), p.hook()
	w.Paused, w.UpdatedAt = true, now()
	p.change(engine.WebhookChange{Webhook: w, Notice: []byte(`{"paused":1}`)})
	c := p.claimOne(lane(ops))
	if c.Delivery.Status != engine.StatusScheduled || !c.Delivery.FrozenAt.IsZero() || string(c.Payload) != `{"paused":1}` || c.Session != nil {
		t.Fatalf("claimed is %+v with %q", c.Delivery, c.Payload)
	}
	at := now()
	_, err := p.Freeze(t.Context(), engine.Freeze{Delivery: c.Delivery, Webhook: &ops, BuildError: buildError, At: at})
	t.ok(err, "Freeze")
	if got, body, _ := p.delivery(c.Delivery.ID); !got.Parked() || string(body) != `{"paused":1}` {
		t.Errorf("parked it is %+v with %q", got, body)
	}
	p.reschedule(c.Delivery, engine.RescheduleNow, now())
	p = p.restart()
	c = p.claimOne(lane(ops))
	if c.Delivery.Status != engine.StatusScheduled || string(c.Payload) != `{"paused":1}` {
		t.Fatalf("queued again, claimed is %+v with %q", c.Delivery, c.Payload)
	}
	_, err = p.Freeze(t.Context(), engine.Freeze{Delivery: c.Delivery, Webhook: &ops, Payload: []byte(`shaped`), Shaped: true, ContentType: "text/plain", At: at})
	t.ok(err, "Freeze")
	if got, body, _ := p.delivery(c.Delivery.ID); got.Status != engine.StatusPending || !got.Shaped || string(body) != `shaped` {
		t.Errorf("built it is %+v with %q", got, body)
	}
}
