package storetest

import (
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var eraseRules = []Rule{
	{Name: "erase/a session", check: erasesSession},
	{Name: "erase/a visitor", check: erasesVisitor},
	{Name: "erase/nothing of others", check: erasesNobodyElse},
	{Name: "erase/deliveries of expired sessions", check: erasesLeftovers},
	{Name: "erase/all that is stored when it begins", check: erasesAllOfTheBeginning},
	{Name: "erase/the session may begin anew", check: erasedMayBeginAnew},
	{Name: "erase/nothing", check: erasesNothing},
	{Name: "erase/claims go on", check: eraseLeavesClaims},
}

func visitor(id int64) engine.Erasure { return engine.Erasure{Visitor: &id} }

// goneSession reports a session of which something is left.
func (p *process) goneSession(id uuid.UUID, deliveries []engine.Delivery) {
	p.t.Helper()
	_, _, err := p.Session(p.t.Context(), id)
	p.t.is(err, engine.ErrNotFound, "an erased session")
	for _, d := range deliveries {
		p.gone(d.ID, "erased")
	}
	if list := p.pages(engine.DeliveryQuery{SessionID: id}, 10); len(list) > 0 {
		p.t.Errorf("of an erased session %d deliveries are listed", len(list))
	}
}

// A session goes with its events, deliveries, payloads and attempts, in whatever state, and is counted.
func erasesSession(t *T) {
	p := t.start()
	w, x := p.hook(), p.hook()
	v := visit{}.complete()
	deliveries := p.visit(v)
	d := p.frozen(p.claimOne(lane(w)).Delivery, `{"poltio_user_id":7}`)
	p.record(engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: later(now())})
	total, deleted := p.erase(engine.Erasure{SessionID: v.id})
	if want := (engine.Erased{Sessions: 1, Events: 3, Deliveries: 2, Attempts: 1}); total != want {
		t.Errorf("erased are %+v, want %+v", total, want)
	}
	got, want := ids(deleted), ids(deliveries)
	slices.SortFunc(got, compareIDs)
	slices.SortFunc(want, compareIDs)
	if !slices.Equal(got, want) {
		t.Errorf("named are %v, want %v", got, want)
	}
	for range 2 {
		p.goneSession(v.id, deliveries)
		for _, w := range []engine.Webhook{w, x} {
			t.same(p.stats(w, now()), engine.WebhookStats{}, "stats")
			if got := p.claim(lane(w)); len(got) > 0 {
				t.Errorf("erased, and claimed: %v", idsOf(got))
			}
		}
		p = p.restart()
	}
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

// All sessions of a visitor go.
func erasesVisitor(t *T) {
	p := t.start()
	w := p.hook()
	const n = 130
	for _, of := range []int64{7, -7, math.MinInt64, math.MaxInt64} {
		var visits []visit
		var events []engine.Event
		for range n {
			v := visit{visitor: of}.complete()
			visits = append(visits, v)
			events = append(events, v.events(t)...)
		}
		p.post(events...)
		total, deleted := p.erase(visitor(of))
		if want := (engine.Erased{Sessions: n, Events: 3 * n, Deliveries: n}); total != want || len(deleted) != n {
			t.Errorf("visitor %d: erased are %+v, and %d are named, want %+v", of, total, len(deleted), want)
		}
		p.goneSession(visits[0].id, nil)
		p.goneSession(visits[n-1].id, nil)
	}
	t.same(p.stats(w, now()), engine.WebhookStats{}, "stats")
}

// What is not of the session, or of the visitor, stays as it was.
func erasesNobodyElse(t *T) {
	p := t.start()
	w := p.hook()
	var kept []engine.Delivery
	mine := visit{visitor: 8}.complete()
	for _, s := range []engine.Status{engine.StatusDelivered, engine.StatusFailed, engine.StatusCancelled} {
		kept = append(kept, p.finished(w, visit{visitor: 7}, s))
		p.finished(w, visit{visitor: 8}, s)
	}
	sample, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{"poltio_user_id":8}`), At: now()})
	t.ok(err, "Enqueue")
	kept = append(kept, sample, p.one(visit{visitor: 7}))
	p.visit(mine)
	p.visit(visit{visitor: -8})
	p.erase(engine.Erasure{SessionID: mine.id})
	if total, _ := p.erase(visitor(8)); total.Sessions != 3 {
		t.Errorf("%d sessions are erased, want the visitor's other 3", total.Sessions)
	}
	for _, d := range kept {
		got, payload, attempts := p.delivery(d.ID)
		t.same(got, d, "somebody else's")
		if len(attempts) != d.Attempts || (payload == nil) != d.FrozenAt.IsZero() {
			t.Errorf("of somebody else's %s delivery the payload is %s, and %d attempts are left", d.Status, payload, len(attempts))
		}
		if d.SessionID != uuid.Nil {
			if record, _ := p.session(d.SessionID); record.Head.Events != 3 || len(record.Batches) != 1 {
				t.Errorf("of somebody else's session %d events are left", record.Head.Events)
			}
		}
	}
	if s := p.stats(w, now()); s.Scheduled != 2 || s.Pending != 1 || s.Delivered != 1 || s.Failed != 1 || s.Cancelled != 1 {
		t.Errorf("stats are %+v", s)
	}
}

// A delivery that has outlived its session is found by the session and by the visitor, with a payload or without, whatever is in it.
func erasesLeftovers(t *T) {
	for i, what := range []func(v visit) engine.Erasure{
		func(v visit) engine.Erasure { return engine.Erasure{SessionID: v.id} },
		func(v visit) engine.Erasure { return visitor(v.visitor) },
	} {
		for _, s := range []engine.Status{engine.StatusDelivered, engine.StatusCancelled} {
			p := t.start()
			w := p.hook()
			v := visit{visitor: 9}.complete()
			kept, d := p.finished(w, visit{}, s), p.finished(w, v, s)
			p.maintain(now().Add(time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: forever.Deliveries})
			if _, _, err := p.Session(t.Context(), v.id); err == nil {
				t.Errorf("the session has not expired")
			}
			if total, deleted := p.erase(what(v)); total != (engine.Erased{Deliveries: 1, Attempts: int64(d.Attempts)}) || len(deleted) != 1 {
				t.Errorf("erasure %d of one that was %s: erased are %+v", i, s, total)
			}
			p.gone(d.ID, "erased")
			if got := p.status(kept.ID); got != s {
				t.Errorf("somebody else's is %s", got)
			}
			p.close()
			t.open = t.backend.New(t)
		}
	}
}

// Whatever comes in between its steps, an erasure comes to an end, and has erased all that was there when it began.
func erasesAllOfTheBeginning(t *T) {
	p := t.start()
	p.hook()
	var events []engine.Event
	var first []uuid.UUID
	for range 250 {
		v := visit{}.complete()
		first = append(first, v.id)
		events = append(events, v.events(t)...)
	}
	p.post(events...)
	place, steps := "", 0
	for {
		step, err := p.Erase(t.Context(), visitor(7), place)
		t.ok(err, "Erase")
		if place = step.Next; place == "" {
			break
		}
		if steps++; steps > 1000 {
			t.Fatalf("Erase comes to no end")
		}
		if steps < 20 {
			p.visit(visit{})
		}
	}
	for _, id := range first {
		p.goneSession(id, nil)
	}
}

// An erased session begins anew if more of it comes.
func erasedMayBeginAnew(t *T) {
	p := t.start()
	p.hook()
	v := visit{}.complete()
	var before uuid.UUID
	for range 3 {
		p.post(v.events(t)...)
		record, deliveries := p.session(v.id)
		if record.Head.Events != 3 || len(record.Batches) != 1 || len(deliveries) != 1 || deliveries[0].ID == before {
			t.Errorf("it has %d events and %d deliveries", record.Head.Events, len(deliveries))
		}
		before = deliveries[0].ID
		p.erase(engine.Erasure{SessionID: v.id})
		p = p.restart()
	}
}

// Where nothing is to be erased, nothing is, and that is no error.
func erasesNothing(t *T) {
	p := t.start()
	w := p.hook()
	p.visit(visit{})
	for _, what := range []engine.Erasure{{SessionID: uuid.New()}, {}, visitor(8), visitor(0)} {
		if total, deleted := p.erase(what); total != (engine.Erased{}) || len(deleted) > 0 {
			t.Errorf("erased are %+v", total)
		}
	}
	if s := p.stats(w, now()); s.Scheduled != 1 {
		t.Errorf("stats are %+v", s)
	}
}

// The claim of an erased delivery is its holder's, who can end it in each way, and the session may begin anew meanwhile.
func eraseLeavesClaims(t *T) {
	p := t.start()
	w := p.hook()
	for name, end := range map[string]func(d engine.Delivery) error{
		"Freeze": func(d engine.Delivery) error {
			return p.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), At: now()})
		},
		"Freeze without a payload": func(d engine.Delivery) error {
			return p.freeze(engine.Freeze{Delivery: d, At: now()})
		},
		"RecordAttempt": func(d engine.Delivery) error {
			_, err := p.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered, At: now()})
			return err
		},
		"Release": func(d engine.Delivery) error {
			t.ok(p.Release(t.Context(), []engine.Delivery{d}), "Release")
			return engine.ErrNotSendable
		},
	} {
		v := visit{}.complete()
		p.visit(v)
		d := p.claimOne(lane(w)).Delivery
		p.erase(engine.Erasure{SessionID: v.id})
		again := p.one(v)
		t.is(end(d), engine.ErrNotSendable, name)
		p.noneClaimed(w, name)
		p.gone(d.ID, name)
		if c := p.claimOne(lane(w)); c.Delivery.ID != again.ID {
			t.Errorf("%s: then %s is claimed, want %s", name, c.Delivery.ID, again.ID)
		}
		p.record(engine.AttemptRecord{Delivery: p.frozen(again, `{}`), Attempt: good(), Next: delivered})
	}
}
