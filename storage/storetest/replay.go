package storetest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var replayRules = []Rule{
	{Name: "replay/scopes", check: replayScopes},
	{Name: "replay/what is missing", check: replayMissing},
	{Name: "replay/what is missing after its retention", check: replayMissingExpired},
	{Name: "replay/what is missing with updates", check: replayMissingUpdates},
	{Name: "replay/what is missing with updates after its retention", check: replayMissingUpdatesExpired},
	{Name: "replay/bounds are inclusive", check: replayBounds},
	{Name: "replay/dry run", check: replayDryRun},
	{Name: "replay/is left to Maintain", check: replayWaits},
	{Name: "replay/tells what it has queued", check: replayTellsQueued},
	{Name: "replay/outlives the process", check: replayIsDurable},
	{Name: "replay/refused", check: replayRefused},
	{Name: "replay/ends with its webhook", check: replayEndsWithWebhook},
}

// replayed is a webhook with a delivery in each state, one of them a test, and one of another webhook.
func (p *process) replayed() (w engine.Webhook, list []engine.Delivery) {
	p.t.Helper()
	w = p.hook()
	for _, s := range []engine.Status{engine.StatusDelivered, engine.StatusFailed, engine.StatusCancelled, engine.StatusFailed} {
		list = append(list, p.finished(w, visit{}, s))
	}
	p.tell(w, engine.Health{}, now())
	tests := p.pages(engine.DeliveryQuery{WebhookID: w.ID, Status: engine.StatusFailed}, 10)
	for _, d := range tests {
		if d.Kind == engine.KindTest {
			list = append(list, d)
		}
	}
	list = append(list, p.one(visit{}))
	other := p.hook(forPoll)
	off := w
	off.ContentID = &quiz
	w = p.change(engine.WebhookChange{Webhook: off}).Webhook
	return w, append(list, p.finished(other, visit{content: poll}, engine.StatusFailed))
}

// replay starts a replay and returns its count.
func (p *process) replay(r engine.Replay) int64 {
	p.t.Helper()
	if r.Until.IsZero() {
		r.Until = now()
	}
	n, err := p.Replay(p.t.Context(), r)
	p.t.ok(err, "Replay")
	return n
}

// Each scope takes what Takes says, under its id and with its bytes, counts it, and leaves everything else alone.
func replayScopes(t *T) {
	for _, scope := range []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny} {
		p := t.start()
		w, list := p.replayed()
		r := engine.Replay{WebhookID: w.ID, Scope: scope, Until: now()}
		var want int64
		wanted := make([]engine.Delivery, len(list))
		payloads := make([][]byte, len(list))
		at := now().Add(time.Second)
		for i, d := range list {
			_, payloads[i], _ = p.delivery(d.ID)
			wanted[i] = d
			from := engine.Source{Frozen: payloads[i] != nil, Session: d.Kind.OfSession()}
			if d.WebhookID == w.ID && r.Includes(&d, &w, from, false) {
				want++
				t.ok(wanted[i].Requeue(&w, from, at), "Requeue")
			}
		}
		if n := p.replay(r); n != want || n == 0 {
			t.Errorf("%s: the count is %d, want %d", scope, n, want)
		}
		if m := p.maintain(at, forever); int64(len(m.Queued)) != want {
			t.Errorf("%s: %d are queued, want %d", scope, len(m.Queued), want)
		}
		for i, d := range list {
			got, payload, _ := p.delivery(d.ID)
			t.same(got, wanted[i], string(scope)+", of one that was "+d.Status.String())
			if string(payload) != string(payloads[i]) {
				t.Errorf("%s: the payload was %s and is %s", scope, payloads[i], payload)
			}
		}
		if n := p.replay(r); n != 0 {
			t.Errorf("%s: of the same there are %d once more", scope, n)
		}
		p.close()
		t.open = t.backend.New(t)
	}
}

// A replay of what is missing makes the complete deliveries that a webhook never had of finished sessions, and takes cancelled ones.
func replayMissing(t *T) {
	p := t.start()
	old := p.hook()
	cancelled, delivered := p.finished(old, visit{}, engine.StatusCancelled), p.finished(old, visit{}, engine.StatusDelivered)
	p.one(visit{}) // waits
	p.visit(visit{unfinished: true})
	covered := p.one(visit{content: poll})
	w := old
	w.Name = "other"
	w = p.change(engine.WebhookChange{Webhook: w, Cancels: []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelContent, ContentID: quiz}}}).Webhook
	if n := p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayMissing}); n != 2 {
		t.Errorf("of the old webhook %d are missing, want the cancelled one and the one that is covered", n)
	}
	at := now()
	p.maintain(at, forever)
	for _, d := range []engine.Delivery{cancelled, covered} {
		if got, _, _ := p.delivery(d.ID); got.Status != engine.StatusScheduled || !got.NextAttemptAt.Equal(at) {
			t.Errorf("one that was missing is %s, due at %v, want scheduled for %v", got.Status, got.NextAttemptAt, at)
		}
	}
	if got := p.status(delivered.ID); got != engine.StatusDelivered {
		t.Errorf("one that was delivered is %s", got)
	}

	late := p.hook(func(w *engine.Webhook) { w.ContentID = &quiz })
	for i, want := range []int64{3, 0} {
		if n := p.replay(engine.Replay{WebhookID: late.ID, Scope: engine.ReplayMissing}); n != want {
			t.Errorf("of a late webhook %d are missing, want %d (time %d)", n, want, i)
		}
		m := p.maintain(now(), forever)
		if int64(len(m.Queued)) != want {
			t.Errorf("queued are %d, want %d", len(m.Queued), want)
		}
	}
	got := p.claim(lane(late))
	for _, c := range got {
		record, deliveries := p.session(c.Delivery.SessionID)
		if c.Delivery.Kind != engine.KindComplete || c.Session == nil || record.Head.DeliveryOf(late.ID, engine.KindComplete) != c.Delivery.ID || len(deliveries) != 2 {
			t.Errorf("made is %+v", c.Delivery)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d are claimed, want 3", len(got))
	}
	p.post(t.parse(now(), finishOf(delivered.SessionID, now()))...)
	if got := p.claim(lane(late)); len(got) > 0 {
		t.Errorf("then the session has led to a second one")
	}
}

// A cancelled delivery whose retention has ended is missing, as if it had never been made. One that was delivered is not.
func replayMissingExpired(t *T) {
	p := t.start()
	w := p.hook()
	delivered := p.finished(w, visit{}, engine.StatusDelivered)
	cancelled := p.reschedule(p.one(visit{}), engine.RescheduleNever, now())
	p.maintain(now().Add(48*time.Hour), engine.Retention{Sessions: 1000 * time.Hour, Deliveries: 24 * time.Hour})
	p.gone(delivered.ID, "a delivered one")
	p.gone(cancelled.ID, "a cancelled one")
	for i, want := range []int64{1, 0} {
		if n := p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayMissing}); n != want {
			t.Errorf("%d are missing, want %d (time %d)", n, want, i)
		}
		p.maintain(now(), forever)
	}
	got := p.claim(lane(w))
	if len(got) != 1 || got[0].Delivery.SessionID != cancelled.SessionID || got[0].Delivery.ID == cancelled.ID {
		t.Errorf("made are %+v", got)
	}
}

// waitingComplete is the complete delivery of a new visit, which waits for its second attempt.
func (p *process) waitingComplete(w engine.Webhook) (v visit, complete engine.Delivery) {
	p.t.Helper()
	v = visit{}.complete()
	p.visit(v)
	d := p.frozen(p.claimOne(lane(w)).Delivery, `{"complete":1}`)
	return v, p.record(engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: later(now().Add(time.Hour)), Webhook: &w}).Delivery
}

// updated posts a late vote and makes one attempt for the update that it leads to, the first one of the visit.
func (p *process) updated(w engine.Webhook, v visit, a engine.Attempt, next engine.Next) engine.Delivery {
	p.t.Helper()
	p.post(v.voteLate(p.t, now(), "1")...)
	d := p.claimOne(lane(w)).Delivery
	p.t.ok(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{"update":1}`), Events: visitEvents + 1, At: now()}), "Freeze")
	return p.record(engine.AttemptRecord{Delivery: d, Attempt: a, Next: next, Webhook: &w}).Delivery
}

// Where the complete delivery of a session was cancelled, its newest update stands in: the session is missing if that was cancelled, too. Then
// the update is sent, under its id and with its bytes.
func replayMissingUpdates(t *T) {
	p := t.start()
	w := p.hook(sendsUpdates)
	missed, superseded := p.waitingComplete(w)
	cancelled := p.updated(w, missed, bad(), later(now().Add(time.Hour)))
	cancelled = p.reschedule(cancelled, engine.RescheduleNever, now())
	told, overtaken := p.waitingComplete(w)
	updated := p.updated(w, told, good(), delivered)
	toldToo, byHand := p.waitingComplete(w)
	byHand = p.reschedule(byHand, engine.RescheduleNever, now())
	updatedToo := p.updated(w, toldToo, good(), delivered)
	if n := p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayMissing}); n != 1 {
		t.Errorf("%d sessions are missing, want the one whose update was cancelled", n)
	}
	at := now()
	t.queued(p.maintain(at, forever).Queued, []engine.Queued{{Lane: lane(w), At: at}})
	got := p.claim(lane(w))
	if len(got) != 1 || got[0].Delivery.ID != cancelled.ID || string(got[0].Payload) != `{"update":1}` {
		t.Errorf("claimed are %v, want the update %s with its bytes", idsOf(got), cancelled.ID)
	}
	for id, want := range map[uuid.UUID]engine.Status{
		superseded.ID: engine.StatusCancelled, overtaken.ID: engine.StatusCancelled, byHand.ID: engine.StatusCancelled,
		updated.ID: engine.StatusDelivered, updatedToo.ID: engine.StatusDelivered,
	} {
		if got := p.status(id); got != want {
			t.Errorf("delivery %s is %s, want %s", id, got, want)
		}
	}
	if n := p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayMissing}); n != 0 {
		t.Errorf("then %d sessions are missing, want none", n)
	}
}

// When the retention of a cancelled complete delivery has ended, its session is missing again, unless an update has told the webhook of it.
func replayMissingUpdatesExpired(t *T) {
	p := t.start()
	w := p.hook(sendsUpdates)
	told, overtaken := p.waitingComplete(w)
	updated := p.updated(w, told, good(), delivered)
	missed, superseded := p.waitingComplete(w)
	cancelled := p.reschedule(p.updated(w, missed, bad(), later(now().Add(time.Hour))), engine.RescheduleNever, now())
	p.maintain(now().Add(48*time.Hour), engine.Retention{Sessions: 1000 * time.Hour, Deliveries: 24 * time.Hour})
	for _, d := range []engine.Delivery{overtaken, updated, superseded, cancelled} {
		p.gone(d.ID, "one whose retention has ended")
	}
	p = p.restart()
	for i, want := range []int64{1, 0} {
		if n := p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayMissing}); n != want {
			t.Errorf("%d sessions are missing, want %d (time %d)", n, want, i)
		}
		p.maintain(now(), forever)
	}
	got := p.claim(lane(w))
	if len(got) != 1 || got[0].Delivery.SessionID != missed.id || got[0].Delivery.Kind != engine.KindComplete || got[0].Session == nil {
		t.Errorf("made are %+v, want a complete delivery of session %s", got, missed.id)
	}
}

// Since and Until are inclusive: of the time that deliveries were made, or, for what is missing, that sessions have finished.
func replayBounds(t *T) {
	p := t.start()
	w := p.hook()
	var list []engine.Delivery
	at := now().Add(-time.Hour)
	for i := range 5 {
		list = append(list, p.finished(w, visit{at: at.Add(time.Duration(i) * time.Second)}, engine.StatusFailed))
	}
	count := func(scope engine.ReplayScope, id uint32, since, until time.Time) int64 {
		t.Helper()
		return p.replay(engine.Replay{WebhookID: id, Scope: scope, Since: since, Until: until, DryRun: true})
	}
	late := p.hook()
	for _, b := range []struct {
		from, to     int
		since, until time.Duration
		want         int64
	}{{1, 3, 0, 0, 3}, {1, 3, 1, -1, 1}, {2, 2, 0, 0, 1}, {0, 4, 0, 0, 5}, {4, 0, 0, 0, 0}, {1, 3, -1, 1, 3}} {
		since, until := list[b.from].CreatedAt.Add(b.since), list[b.to].CreatedAt.Add(b.until)
		for _, scope := range []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny} {
			if n := count(scope, w.ID, since, until); n != b.want {
				t.Errorf("%s, %+v: the count is %d", scope, b, n)
			}
		}
		since, until = list[b.from].DueAt.Add(b.since), list[b.to].DueAt.Add(b.until)
		if n := count(engine.ReplayMissing, late.ID, since, until); n != b.want {
			t.Errorf("missing, %+v: the count is %d", b, n)
		}
	}
	if n := count(engine.ReplayAny, w.ID, time.Time{}, now()); n != 5 {
		t.Errorf("from the beginning: the count is %d", n)
	}
}

// A dry run counts, and leaves nothing to do.
func replayDryRun(t *T) {
	p := t.start()
	w, list := p.replayed()
	for _, scope := range []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny, engine.ReplayMissing} {
		if n := p.replay(engine.Replay{WebhookID: w.ID, Scope: scope, DryRun: true}); n == 0 {
			t.Errorf("%s: the count is 0", scope)
		}
	}
	s, err := p.Stats(t.Context(), now(), false)
	t.ok(err, "Stats")
	if m := p.maintain(now(), forever); len(s.Replays) > 0 || len(m.Queued) > 0 {
		t.Errorf("it has left %d replays, which queued %d", len(s.Replays), len(m.Queued))
	}
	for _, d := range list {
		got, _, _ := p.delivery(d.ID)
		t.same(got, d, "after a dry run")
	}
}

// Until Maintain has carried it out, a replay is among Stats, with its count, and nothing has changed.
func replayWaits(t *T) {
	p := t.start()
	w, list := p.replayed()
	replays := func() []engine.Replay {
		t.Helper()
		s, err := p.Stats(t.Context(), now(), false)
		t.ok(err, "Stats")
		return s.Replays
	}
	n := p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed})
	got := replays()
	if len(got) != 1 || got[0].WebhookID != w.ID || got[0].Scope != engine.ReplayFailed || got[0].Count != n || got[0].Done != 0 {
		t.Errorf("the replays are %+v, want one with the count %d", got, n)
	}
	for _, d := range list {
		got, _, _ := p.delivery(d.ID)
		t.same(got, d, "before Maintain")
	}
	p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayAny})
	if got := replays(); len(got) != 2 || got[0].Scope != engine.ReplayFailed {
		t.Errorf("the replays are %+v, want the oldest first", got)
	}
	p.maintain(now(), forever)
	if got := replays(); len(got) > 0 {
		t.Errorf("in the end the replays are %+v", got)
	}
}

// Maintain tells what a replay has put into lanes, due at its now.
func replayTellsQueued(t *T) {
	p := t.start()
	w := p.hook()
	const n = 3
	for range n {
		p.finished(w, visit{}, engine.StatusFailed)
	}
	p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed})
	at := now()
	want := slices.Repeat([]engine.Queued{{Lane: lane(w), At: at}}, n)
	t.queued(p.maintain(at, forever).Queued, want)
	if got := p.claimAt(lane(w), 10, at).Claimed; len(got) != n {
		t.Errorf("%d are due, want %d", len(got), n)
	}
}

// A replay that was asked for is carried out by a later process.
func replayIsDurable(t *T) {
	p := t.start()
	w := p.hook()
	d := p.finished(w, visit{}, engine.StatusFailed)
	p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed})
	p = p.restart()
	p.maintain(now(), forever)
	p = p.restart()
	if got := p.status(d.ID); got != engine.StatusPending {
		t.Errorf("after restarts it is %s", got)
	}
	p.maintain(now(), forever)
	if got := p.claimOne(lane(w)); string(got.Payload) != `{"n":1}` {
		t.Errorf("claimed with %s", got.Payload)
	}
}

func replayRefused(t *T) {
	p := t.start()
	w, off := p.hook(), p.hook(inactive)
	p.finished(w, visit{}, engine.StatusFailed)
	p.change(engine.WebhookChange{Webhook: w, Deleted: true})
	for _, scope := range []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny, engine.ReplayMissing} {
		for _, dry := range []bool{false, true} {
			for id, want := range map[uint32]error{w.ID: engine.ErrNotFound, 4711: engine.ErrNotFound, off.ID: engine.ErrConflict} {
				_, err := p.Replay(t.Context(), engine.Replay{WebhookID: id, Scope: scope, Until: now(), DryRun: dry})
				t.is(err, want, "a replay for a webhook that is not there, or off")
			}
		}
	}
}

// A replay whose webhook is switched off or deleted meanwhile queues nothing any more.
func replayEndsWithWebhook(t *T) {
	p := t.start()
	for _, deleted := range []bool{false, true} {
		w := p.hook()
		d := p.finished(w, visit{}, engine.StatusFailed)
		p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed})
		w.Active = false
		w = p.change(engine.WebhookChange{Webhook: w, Deleted: deleted}).Webhook
		m := p.maintain(now(), forever)
		s, err := p.Stats(t.Context(), now(), false)
		t.ok(err, "Stats")
		if len(m.Queued) > 0 || p.status(d.ID) != engine.StatusFailed || len(s.Replays) > 0 {
			t.Errorf("deleted %t: it has queued %d, the delivery is %s, and %d replays are left", deleted, len(m.Queued), p.status(d.ID), len(s.Replays))
		}
	}
}
