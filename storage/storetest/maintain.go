package storetest

import (
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var maintainRules = []Rule{
	{Name: "maintain/sessions expire", check: sessionsExpire},
	{Name: "maintain/sessions stay while something waits", check: waitingSessionsStay},
	{Name: "maintain/deliveries expire", check: deliveriesExpire},
	{Name: "maintain/a new end counts", check: newEndCounts},
	{Name: "maintain/next", check: maintainTellsNext},
	{Name: "maintain/many", check: maintainsMany},
}

// here tells whether a session is stored.
func (p *process) here(id uuid.UUID) bool {
	p.t.Helper()
	_, _, err := p.Session(p.t.Context(), id)
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		p.t.Errorf("Session: %v", err)
	}
	return err == nil
}

// A session goes when its last event was received as long ago as sessions are kept. Its deliveries stay.
func sessionsExpire(t *T) {
	p := t.start()
	w := p.hook()
	keep := engine.Retention{Sessions: time.Hour, Deliveries: forever.Deliveries}
	start := now()
	d := p.finished(w, visit{}, engine.StatusDelivered)
	v := visit{unfinished: true, received: start}.complete()
	p.post(v.events(t)...)
	p.append(engine.NewAppend(t.parse(start.Add(30*time.Minute), voteOf(v.id, "a")), start.Add(30*time.Minute)))
	for _, step := range []struct {
		after              time.Duration
		finished, goesOn   bool
		removed, afterward int
	}{{59 * time.Minute, true, true, 0, 2}, {61 * time.Minute, false, true, 1, 1}, {89 * time.Minute, false, true, 0, 1}, {91 * time.Minute, false, false, 1, 0}} {
		m := p.maintain(start.Add(step.after), keep)
		if p.here(d.SessionID) != step.finished || p.here(v.id) != step.goesOn || m.Expired != (engine.Removed{Sessions: step.removed}) {
			t.Errorf("after %v removed are %+v; the finished one is there: %t, the one that went on: %t", step.after, m.Expired, p.here(d.SessionID), p.here(v.id))
		}
	}
	got, payload, _ := p.delivery(d.ID)
	t.same(got, d, "the delivery of an expired session")
	if string(payload) != `{"n":1}` {
		t.Errorf("its payload is %s", payload)
	}
	p = p.restart()
	if p.here(d.SessionID) || p.here(v.id) {
		t.Errorf("after a restart they are there again")
	}
}

// A session of which a delivery is scheduled or pending stays, however old, and can be sent.
func waitingSessionsStay(t *T) {
	p := t.start()
	w := p.hook()
	scheduled := p.one(visit{})
	p.visit(visit{})
	claimed := p.claimAt(lane(w), 5, now()).Claimed
	other := claimed[slices.IndexFunc(claimed, func(c engine.Claimed) bool { return c.Delivery.ID != scheduled.ID })].Delivery
	pending := p.record(engine.AttemptRecord{Delivery: p.frozen(other, `{}`), Attempt: bad(), Next: later(now().Add(time.Minute))}).Delivery
	keep := engine.Retention{Sessions: time.Minute, Deliveries: time.Minute}
	at := now().Add(1000 * time.Hour)
	if m := p.maintain(at, keep); m.Expired != (engine.Removed{}) || !p.here(scheduled.SessionID) || !p.here(pending.SessionID) {
		t.Errorf("removed are %+v, although both wait", m.Expired)
	}
	p.claimAt(lane(w), 5, at)
	for _, d := range []engine.Delivery{p.frozen(scheduled, `{}`), pending} {
		p.record(engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered, At: at})
	}
	if m := p.maintain(at.Add(1000*time.Hour), keep); m.Expired != (engine.Removed{Sessions: 2, Deliveries: 2}) {
		t.Errorf("removed are %+v, want both sessions and their deliveries", m.Expired)
	}
}

// A delivery goes, with its payload and attempts, when it has been in its final state as long as deliveries are kept. Its session stays.
func deliveriesExpire(t *T) {
	p := t.start()
	w := p.hook()
	keep := engine.Retention{Sessions: forever.Sessions, Deliveries: time.Hour}
	start := now()
	var list []engine.Delivery
	for _, s := range []engine.Status{engine.StatusDelivered, engine.StatusFailed, engine.StatusCancelled} {
		list = append(list, p.finished(w, visit{}, s))
	}
	waits := p.one(visit{})
	if m := p.maintain(start.Add(59*time.Minute), keep); m.Expired != (engine.Removed{}) {
		t.Errorf("too early removed are %+v", m.Expired)
	}
	if m := p.maintain(now().Add(time.Hour+time.Second), keep); m.Expired != (engine.Removed{Deliveries: 3}) {
		t.Errorf("removed are %+v, want 3 deliveries", m.Expired)
	}
	for _, d := range list {
		p.gone(d.ID, "expired")
		if !p.here(d.SessionID) {
			t.Errorf("the session of an expired delivery is gone")
		}
	}
	if got := p.pages(engine.DeliveryQuery{}, 10); len(got) != 1 || got[0].ID != waits.ID {
		t.Errorf("left are %v, want %s", ids(got), waits.ID)
	}
	if s := p.stats(w, now()); s.Delivered+s.Failed+s.Cancelled != 0 || s.Scheduled != 1 {
		t.Errorf("stats are %+v", s)
	}
}

// A delivery that was sent again has the time of its new end, and none while it waits.
func newEndCounts(t *T) {
	p := t.start()
	w := p.hook()
	keep := engine.Retention{Sessions: forever.Sessions, Deliveries: time.Hour}
	d := p.finished(w, visit{}, engine.StatusDelivered)
	again := p.reschedule(d, engine.RescheduleNow, now())
	if m := p.maintain(now().Add(2*time.Hour), keep); m.Expired.Deliveries != 0 {
		t.Errorf("it was removed while it waited")
	}
	p.claim(lane(w))
	ended := now().Add(3 * time.Hour)
	p.record(engine.AttemptRecord{Delivery: again, Attempt: good(), Next: delivered, At: ended})
	if m := p.maintain(ended.Add(59*time.Minute), keep); m.Expired.Deliveries != 0 {
		t.Errorf("it was removed by its old end")
	}
	if m := p.maintain(ended.Add(61*time.Minute), keep); m.Expired.Deliveries != 1 {
		t.Errorf("it was not removed by its new end")
	}
}

// The next step is never later than an hour, and no later than something may go; while there is more to do it is at once.
func maintainTellsNext(t *T) {
	p := t.start()
	w := p.hook()
	at := now()
	m, err := p.Maintain(t.Context(), at, forever)
	if err != nil || m.Next.After(at.Add(time.Hour)) {
		t.Errorf("of an empty store: next is %v, error %v", m.Next.Sub(at), err)
	}
	p.visit(visit{})
	p.switchOff(w)
	if m, err := p.Maintain(t.Context(), at.Add(-1), forever); err != nil || m.Cancelled == 0 && m.Next.After(at) {
		t.Errorf("with a cancellation to carry out: cancelled are %d, next is %v, error %v", m.Cancelled, m.Next.Sub(at), err)
	}
	d := p.finished(p.hook(), visit{}, engine.StatusDelivered)
	keep := engine.Retention{Sessions: forever.Sessions, Deliveries: time.Hour}
	at = d.FinishedAt.Add(20 * time.Minute)
	if m := p.maintain(at, keep); m.Next.After(d.FinishedAt.Add(time.Hour)) || m.Next.Before(at) {
		t.Errorf("something expires in 40 minutes, and next is in %v", m.Next.Sub(at))
	}
}

// However much there is to do, it is done step by step.
func maintainsMany(t *T) {
	p := t.start()
	w := p.hook()
	const n = 600
	var events []engine.Event
	for range n {
		events = append(events, visit{}.events(t)...)
	}
	p.post(events...)
	p.post(visit{unfinished: true}.events(t)...)
	p.switchOff(w)
	at := now()
	total := p.maintain(at, forever)
	keep := engine.Retention{Sessions: time.Hour, Deliveries: time.Hour}
	if m := p.maintain(at.Add(2*time.Hour), keep); total.Cancelled != n || m.Expired != (engine.Removed{Sessions: n + 1, Deliveries: n}) {
		t.Errorf("cancelled are %d, removed %+v, want %d", total.Cancelled, m.Expired, n)
	}
	if list := p.pages(engine.DeliveryQuery{}, 100); len(list) > 0 {
		t.Errorf("%d deliveries are left", len(list))
	}
	if s := p.stats(w, at); s != (engine.WebhookStats{}) {
		t.Errorf("stats are %+v", s)
	}
}
