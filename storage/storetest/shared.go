package storetest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var sharedRules = []Rule{
	{Name: "shared/lanes have one owner", Shared: true, check: sharedOwners},
	{Name: "shared/lanes of a process that has ended", Shared: true, check: sharedTakeover},
	{Name: "shared/one keeper", Shared: true, check: sharedKeeper},
	{Name: "shared/all read the same", Shared: true, check: sharedReads},
	{Name: "shared/changes are reported", Shared: true, check: sharedChanges},
	{Name: "shared/a change holds when it has returned", Shared: true, check: sharedBarrier},
	{Name: "shared/what was queued elsewhere is reported", Shared: true, check: sharedQueued},
	{Name: "shared/what was ended elsewhere is reported", Shared: true, check: sharedEnded},
	{Name: "shared/claims are the owner's", Shared: true, check: sharedClaims},
	{Name: "shared/at most one of a kind", Shared: true, check: sharedOneOfAKind},
	{Name: "shared/one of two changes at once", Shared: true, check: sharedRevisions},
}

// pair starts two processes and makes a webhook; the first is the owner of its lanes.
func (t *T) pair(settings ...func(*engine.Webhook)) (owner, other *process, w engine.Webhook) {
	t.Helper()
	owner, other = t.start(), t.start()
	w = owner.make(settings...)
	return t.ownerFirst(owner, other, w)
}

// settledAfter is how many looks in a row must find the same owner.
const settledAfter = 25

// ownerFirst waits until one of two processes owns the lanes of a webhook.
func (t *T) ownerFirst(p, q *process, w engine.Webhook) (owner, other *process, _ engine.Webhook) {
	t.Helper()
	// Two that have just met may still share the lanes out between them.
	same := 0
	t.await("somebody owns the lanes of a webhook", func() bool {
		if q.Mine(w.ID) && !p.Mine(w.ID) {
			p, q, same = q, p, 0
		}
		if same++; !p.Mine(w.ID) || q.Mine(w.ID) {
			same = 0
		}
		return same >= settledAfter
	})
	t.await("a webhook is known everywhere", func() bool { return p.Webhooks().Get(w.ID) != nil && q.Webhooks().Get(w.ID) != nil })
	return p, q, w
}

// Each webhook has one owner, who was told so, and who alone claims its deliveries.
func sharedOwners(t *T) {
	p, q := t.start(), t.start()
	for i := range 6 {
		maker := p
		if i%2 == 1 {
			maker = q
		}
		owner, other, w := t.ownerFirst(p, q, maker.make(forPoll))
		if owner.Mine(w.ID) && other.Mine(w.ID) {
			t.Errorf("webhook %d has two owners", w.ID)
		}
		t.await("the owner is told", func() bool { return owner.owns(w.ID) })
		if other.owns(w.ID) && !other.heard(func(n engine.News) bool { return slices.Contains(n.Yield, w.ID) }) {
			t.Errorf("the other one was told that it owns webhook %d", w.ID)
		}
	}
	p.visit(visit{content: poll})
	for _, w := range p.Webhooks().All() {
		owner, other, w := t.ownerFirst(p, q, *w)
		if got := other.claim(lane(w)); len(got) > 0 {
			t.Errorf("%d deliveries were claimed by a process that does not own the lane", len(got))
		}
		owner.claimOne(lane(w))
	}
}

// When a process has ended the other one comes to own its lanes, and claims what it had claimed.
func sharedTakeover(t *T) {
	owner, other, w := t.pair()
	d := owner.taken(w, `{"n":1}`)
	h := failing(1)
	owner.tell(w, h, now())
	owner.close()
	t.await("the lanes of a process that has ended are owned", func() bool { return other.Mine(w.ID) })
	if got := other.claimOne(lane(w)); got.Delivery.ID != d.ID || string(got.Payload) != `{"n":1}` {
		t.Errorf("claimed is %s with %s", got.Delivery.ID, got.Payload)
	}
	t.await("the new owner is told", func() bool { return other.owns(w.ID) })
	other.mu.Lock()
	defer other.mu.Unlock()
	t.health(other.own[w.ID].Health, h, "told to the new owner")
}

// One process is the keeper, and if it ends another one.
func sharedKeeper(t *T) {
	p, q := t.start(), t.start()
	t.await("there is a keeper", func() bool { return p.isKeeper() || q.isKeeper() })
	if p.isKeeper() && q.isKeeper() {
		t.Errorf("there are two keepers")
	}
	if q.isKeeper() {
		p, q = q, p
	}
	p.close()
	t.await("the other one becomes the keeper", q.isKeeper)
}

// What one process has stored the other one reads, counts of claims included.
func sharedReads(t *T) {
	owner, other, w := t.pair()
	var sessions []uuid.UUID
	for _, s := range []engine.Status{engine.StatusDelivered, engine.StatusFailed, engine.StatusCancelled} {
		sessions = append(sessions, owner.finished(w, visit{}, s).SessionID)
	}
	sessions = append(sessions, other.one(visit{}).SessionID)
	owner.claimOne(lane(w))
	if got, want := other.everything(sessions), owner.everything(sessions); !slices.Equal(got, want) {
		t.Errorf("one process reads\n%s\nthe other one\n%s", want, got)
	}
	for _, p := range []*process{owner, other} {
		t.await("what one process has claimed is counted everywhere", func() bool { return p.stats(w, now()).Claimed == 1 })
	}
}

// A webhook that was made, changed or deleted by one process is reported to the other one, which knows it by then.
func sharedChanges(t *T) {
	owner, other, w := t.pair()
	for _, p := range [][2]*process{{owner, other}, {other, owner}} {
		made := p[0].make()
		reported := func(id uint32) bool {
			return p[1].heard(func(n engine.News) bool { return slices.Contains(n.Webhooks, id) })
		}
		t.await("a new webhook is reported", func() bool { return reported(made.ID) })
		if p[1].Webhooks().Get(made.ID) == nil {
			t.Errorf("a webhook was reported and is not known")
		}
		w.Name += "x"
		w = p[0].change(engine.WebhookChange{Webhook: w}).Webhook
		t.await("a change is reported", func() bool { return reported(w.ID) && p[1].Webhooks().Get(w.ID).Revision == w.Revision })
		p[0].change(engine.WebhookChange{Webhook: made, Deleted: true})
		t.await("a deletion is seen", func() bool { return p[1].Webhooks().Get(made.ID) == nil })
	}
}

// When PutWebhook has returned, whoever may begin an attempt goes by the new settings, and what is covered is not frozen.
func sharedBarrier(t *T) {
	owner, other, w := t.pair()
	d := owner.taken(w, "")
	w = other.switchOff(w)
	if owner.Mine(w.ID) && owner.Webhooks().Get(w.ID).Revision != w.Revision {
		t.Errorf("the owner may begin an attempt by revision %d, and %d is stored", owner.Webhooks().Get(w.ID).Revision, w.Revision)
	}
	if owner.Mine(w.ID) && !owner.Webhooks().Covered(&d) {
		t.Errorf("the owner does not know the cancellation")
	}
	t.is(owner.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), At: now()}), engine.ErrNotSendable, "what the other one has cancelled")
}

// What the other process puts into a lane is reported to its owner, who can claim it.
func sharedQueued(t *T) {
	owner, other, w := t.pair()
	heard := func(l engine.Lane, at time.Time) func() bool {
		return func() bool {
			return owner.heard(func(n engine.News) bool {
				return slices.ContainsFunc(n.Queued, func(q engine.Queued) bool { return q.Lane == l && !q.At.After(at) })
			})
		}
	}
	d := other.one(visit{})
	t.await("what was appended elsewhere is reported", heard(lane(w), d.NextAttemptAt))
	owner.claimOne(lane(w))
	owner.record(engine.AttemptRecord{Delivery: owner.frozen(d, `{}`), Attempt: good(), Next: delivered})
	at := d.NextAttemptAt.Add(-time.Hour)
	other.reschedule(d, engine.RescheduleNow, at)
	t.await("what was queued again elsewhere is reported", heard(lane(w), at))
	owner.claimOne(lane(w))
	_, err := other.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
	t.ok(err, "Enqueue")
	t.await("what was enqueued elsewhere is reported", heard(tests(w), now()))
	owner.claimOne(tests(w))
}

// What the other process has cancelled, queued again or erased is reported to the owner of its lane.
func sharedEnded(t *T) {
	owner, other, w := t.pair()
	for name, end := range map[string]func(d engine.Delivery){
		"cancelled":    func(d engine.Delivery) { other.reschedule(d, engine.RescheduleNever, now()) },
		"queued again": func(d engine.Delivery) { other.reschedule(d, engine.RescheduleNow, now()) },
		"erased":       func(d engine.Delivery) { other.erase(engine.Erasure{SessionID: d.SessionID}) },
	} {
		d := owner.taken(w, "")
		end(d)
		t.await("what was "+name+" elsewhere is reported", func() bool {
			return owner.heard(func(n engine.News) bool {
				return slices.ContainsFunc(n.Ended, func(e engine.Delivery) bool { return e.ID == d.ID })
			})
		})
		t.is(owner.freeze(engine.Freeze{Delivery: d, Payload: []byte(`{}`), At: now()}), engine.ErrNotSendable, name)
		for _, c := range owner.claim(lane(w)) {
			owner.record(engine.AttemptRecord{Delivery: owner.frozen(c.Delivery, `{}`), Attempt: good(), Next: delivered})
		}
	}
}

// Nothing is claimed on arrival in a lane of another process, and only who has a claim freezes and records.
func sharedClaims(t *T) {
	owner, other, w := t.pair()
	v := visit{}.complete()
	a := readyAppend(w, v.events(t))
	a.Sessions[0].Payloads = nil
	done := other.append(a)
	if len(done.Claimed) != 0 {
		t.Errorf("%d were claimed on arrival in a lane of another process", len(done.Claimed))
	}
	d := owner.claimOne(lane(w)).Delivery
	for _, payload := range [][]byte{[]byte(`{}`), nil} {
		if err := other.freeze(engine.Freeze{Delivery: d, Payload: payload, At: now()}); err == nil {
			t.Errorf("a process that has not claimed a delivery has frozen it")
		}
	}
	d = owner.frozen(d, `{}`)
	if _, err := other.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered, At: now()}); err == nil {
		t.Errorf("a process that has not claimed a delivery has recorded an attempt")
	}
	got, _, _ := owner.delivery(d.ID)
	t.same(got, d, "what the other process may not change")
	owner.record(engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered})
}

// However many processes take in the events of a session, it leads to one delivery of a kind, and repeats are left out.
func sharedOneOfAKind(t *T) {
	p, q, w := t.pair()
	for range 5 {
		v := visit{}.complete()
		key := uuid.NewString()
		post := func(p *process) func() {
			return func() {
				events := slices.Concat(v.events(t), t.parse(now(), voteOf(v.id, key)))
				if _, err := p.AppendEvents(t.Context(), engine.NewAppend(events, now())); err != nil {
					t.Errorf("AppendEvents: %v", err)
				}
			}
		}
		parallel(post(p), post(q), post(p), post(q))
		record, deliveries := p.session(v.id)
		if record.Head.Events != 4*3+1 || len(deliveries) != 1 {
			t.Errorf("the session has %d events and %d deliveries for webhook %d, want %d and 1", record.Head.Events, len(deliveries), w.ID, 4*3+1)
		}
	}
}

// Of two processes that change the same revision one succeeds, and there is one webhook for operations.
func sharedRevisions(t *T) {
	p, q, w := t.pair()
	var errs [2]error
	both := func(c engine.WebhookChange) {
		t.Helper()
		parallel(func() { _, errs[0] = p.PutWebhook(t.Context(), c) }, func() { _, errs[1] = q.PutWebhook(t.Context(), c) })
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("the same change by two processes: %v, %v", errs[0], errs[1])
		}
		for _, err := range errs {
			if err != nil {
				t.is(err, engine.ErrRevision, "the second change")
			}
		}
	}
	both(engine.WebhookChange{Webhook: w})
	both(engine.WebhookChange{Webhook: engine.Webhook{Operations: true, URL: "https://o.example/"}})
}
