package storetest

import (
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var claimRules = []Rule{
	{Name: "claim/oldest first", check: claimsOldestFirst},
	{Name: "claim/up to the room", check: claimsUpToRoom},
	{Name: "claim/an answer for each request", check: claimAnswersEach},
	{Name: "claim/next", check: claimTellsNext},
	{Name: "claim/only what is due", check: claimsDue},
	{Name: "claim/once", check: claimsOnce},
	{Name: "claim/once among many", check: claimsOnceAmongMany},
	{Name: "claim/tests have a lane of their own", check: claimsTests},
	{Name: "claim/with what it takes to send", check: claimsWithContent},
	{Name: "claim/outlives a change by hand", check: claimOutlivesChange},
	{Name: "claim/ends with the process", check: claimEndsWithProcess},
	{Name: "release/due as before", check: releasedIsDue},
	{Name: "release/nothing else", check: releasesNothingElse},
}

// visits stores visits at these times before now, and returns their deliveries for a webhook, in the same order.
func (p *process) visits(before ...time.Duration) []engine.Delivery {
	p.t.Helper()
	at := now()
	var all []engine.Delivery
	for _, d := range before {
		all = append(all, p.one(visit{at: at.Add(-d)}))
	}
	return all
}

// Within a lane what is due first comes first, in whatever order it was made, and a retry stands at its new time.
func claimsOldestFirst(t *T) {
	p := t.start()
	w := p.hook()
	d := p.visits(3*time.Minute, 9*time.Minute, 1*time.Minute, 5*time.Minute)
	first := p.claimAt(lane(w), 1, now()).Claimed
	if len(first) != 1 || first[0].Delivery.ID != d[1].ID {
		t.Fatalf("the first that is claimed is %v, want %s", idsOf(first), d[1].ID)
	}
	frozen := p.frozen(first[0].Delivery, `{}`)
	p.record(engine.AttemptRecord{Delivery: frozen, Attempt: bad(), Next: later(now().Add(-4 * time.Minute))})
	want := []uuid.UUID{d[3].ID, d[1].ID, d[0].ID, d[2].ID}
	if got := idsOf(p.claim(lane(w))); !slices.Equal(got, want) {
		t.Errorf("claimed are %v, want %v", got, want)
	}
}

// No more than the room of a request is claimed, in each lane by itself.
func claimsUpToRoom(t *T) {
	p := t.start()
	w, x := p.hook(), p.hook()
	for range 5 {
		p.visit(visit{})
	}
	results, err := p.ClaimDue(t.Context(), now(), []engine.ClaimRequest{{Lane: lane(w), Room: 2}, {Lane: lane(x), Room: 4}})
	t.ok(err, "ClaimDue")
	if len(results) != 2 || len(results[0].Claimed) != 2 || len(results[1].Claimed) != 4 {
		t.Fatalf("with room for 2 and 4, claimed are %+v", results)
	}
	for i, left := range map[int]int{0: 3, 1: 1} {
		if got := p.claim(lane([]engine.Webhook{w, x}[i])); len(got) != left {
			t.Errorf("then %d are left in lane %d, want %d", len(got), i, left)
		}
	}
}

// The answer has an entry for each request, in the same order, also for lanes with nothing in them and for unknown ones.
func claimAnswersEach(t *T) {
	p := t.start()
	w, empty, x := p.hook(), p.hook(forPoll), p.hook()
	p.visit(visit{})
	lanes := []engine.Lane{lane(x), {WebhookID: 4711}, lane(empty), tests(w), lane(w)}
	var requests []engine.ClaimRequest
	for _, l := range lanes {
		requests = append(requests, engine.ClaimRequest{Lane: l, Room: 10})
	}
	results, err := p.ClaimDue(t.Context(), now(), requests)
	t.ok(err, "ClaimDue")
	if len(results) != len(lanes) {
		t.Fatalf("%d results for %d requests", len(results), len(lanes))
	}
	for i, want := range []int{1, 0, 0, 0, 1} {
		if got := results[i].Claimed; len(got) != want || want == 1 && got[0].Delivery.Lane() != lanes[i] {
			t.Errorf("request %d for lane %v: %v", i, lanes[i], got)
		}
	}
	results, err = p.ClaimDue(t.Context(), now(), nil)
	if err != nil || len(results) != 0 {
		t.Errorf("no requests: %v, %v", results, err)
	}
}

// Next is when the lane's next delivery is due, or earlier; zero means that nothing waits.
func claimTellsNext(t *T) {
	p := t.start()
	w := p.hook(inAnHour)
	if got := p.claimAt(lane(w), 5, now()); !got.Next.IsZero() {
		t.Errorf("of an empty lane it is %v, want zero", got.Next)
	}
	d := p.visits(30*time.Minute, 10*time.Minute)
	for i, at := range []time.Time{now(), d[0].DueAt} {
		got := p.claimAt(lane(w), 5, at)
		if len(got.Claimed) != i || got.Next.IsZero() || got.Next.After(d[i].DueAt) {
			t.Errorf("at %v: %d are claimed, next is %v, want %v or earlier", at, len(got.Claimed), got.Next, d[i].DueAt)
		}
	}
}

// A delivery is due at its instant, to the nanosecond, and not before.
func claimsDue(t *T) {
	p := t.start()
	w := p.hook(inAnHour)
	d := p.one(visit{at: now().Add(-time.Minute).Truncate(time.Second).Add(123456789)})
	if got := p.claimAt(lane(w), 5, d.DueAt.Add(-1)).Claimed; len(got) > 0 {
		t.Errorf("claimed a nanosecond too early")
	}
	if got := p.claimAt(lane(w), 5, d.DueAt).Claimed; len(got) != 1 {
		t.Errorf("%d claimed at the instant, want 1", len(got))
	}
}

// What is claimed is not claimed again, be it scheduled or frozen.
func claimsOnce(t *T) {
	p := t.start()
	w := p.hook()
	d := p.visits(time.Minute, 2*time.Minute)
	if got := p.claim(lane(w)); len(got) != 2 {
		t.Fatalf("%d claimed, want 2", len(got))
	}
	p.frozen(d[0], `{}`)
	if got := p.claimAt(lane(w), 5, now().Add(time.Hour)).Claimed; len(got) > 0 {
		t.Errorf("claimed again: %v", idsOf(got))
	}
	if s := p.stats(w, now()); s.Claimed != 2 {
		t.Errorf("stats count %d claimed, want 2", s.Claimed)
	}
}

// Of many who claim at once, while deliveries are made and end, each delivery has one. A delivery that ends gives up its claim no earlier
// than it leaves the queue.
func claimsOnceAmongMany(t *T) {
	p := t.start()
	w := p.hook()
	const n, claimers = 120, 4
	var mu sync.Mutex
	seen := make(map[uuid.UUID]int)
	open := n // not delivered yet
	claim := func() {
		for {
			mu.Lock()
			left := open
			mu.Unlock()
			if left <= 0 || t.Context().Err() != nil {
				return
			}
			results, err := p.ClaimDue(t.Context(), now(), []engine.ClaimRequest{{Lane: lane(w), Room: 3}})
			if err != nil {
				t.Errorf("ClaimDue: %v", err)
				return
			}
			for _, c := range results[0].Claimed {
				mu.Lock()
				seen[c.Delivery.ID]++
				open--
				mu.Unlock()
				if err := p.freeze(engine.Freeze{Delivery: c.Delivery, Payload: []byte(`{}`), At: now()}); err != nil {
					t.Errorf("Freeze: %v", err)
				}
				if _, err := p.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: c.Delivery, Attempt: good(), Next: delivered, At: now()}); err != nil {
					t.Errorf("RecordAttempt: %v", err)
				}
			}
		}
	}
	work := []func(){func() {
		for range n {
			if _, err := p.AppendEvents(t.Context(), engine.NewAppend(visit{}.events(t), now())); err != nil {
				t.Errorf("AppendEvents: %v", err)
				mu.Lock()
				open = 0
				mu.Unlock()
				return
			}
		}
	}}
	for range claimers {
		work = append(work, claim)
	}
	parallel(work...)
	for id, times := range seen {
		if times != 1 {
			t.Errorf("delivery %s was claimed %d times", id, times)
		}
	}
	if s := p.stats(w, now()); s.Delivered != n || s.Claimed != 0 {
		t.Errorf("%d are delivered and %d claimed, want %d and none", s.Delivered, s.Claimed, n)
	}
}

// Tests stand in the lane for tests, and nothing else does.
func claimsTests(t *T) {
	p := t.start()
	w := p.hook()
	d := p.one(visit{})
	test, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
	t.ok(err, "Enqueue")
	if got := idsOf(p.claim(tests(w))); !slices.Equal(got, []uuid.UUID{test.ID}) {
		t.Errorf("claimed of the lane for tests: %v, want %s", got, test.ID)
	}
	if got := idsOf(p.claim(lane(w))); !slices.Equal(got, []uuid.UUID{d.ID}) {
		t.Errorf("claimed of the ordinary lane: %v, want %s", got, d.ID)
	}
}

// A scheduled delivery comes with its session, a pending one with its payload.
func claimsWithContent(t *T) {
	p := t.start()
	w := p.hook()
	d := p.one(visit{})
	c := p.claimOne(lane(w))
	t.same(c.Delivery, d, "the claimed delivery")
	record, _ := p.session(d.SessionID)
	if c.Payload != nil || c.Session == nil {
		t.Fatalf("a scheduled one has the payload %s and the session %v", c.Payload, c.Session)
	}
	t.same(c.Session, &record, "its session")
	frozen := p.frozen(d, ` {"p":"Ä\u0000"}`)
	p.record(engine.AttemptRecord{Delivery: frozen, Attempt: bad(), Next: later(now())})
	if c = p.claimOne(lane(w)); string(c.Payload) != ` {"p":"Ä\u0000"}` || c.Session != nil {
		t.Errorf("a pending one has the payload %q and the session %v", c.Payload, c.Session)
	}
}

// A delivery that is queued again while it is claimed is not claimed a second time, until the claim ends.
func claimOutlivesChange(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, `{}`)
	again := p.reschedule(d, engine.RescheduleNow, now().Add(time.Millisecond))
	if got := p.claimAt(lane(w), 5, now().Add(time.Minute)).Claimed; len(got) > 0 {
		t.Errorf("it was claimed a second time")
	}
	p.record(engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: later(now().Add(time.Hour))})
	got := p.claimAt(lane(w), 5, now().Add(time.Minute)).Claimed
	if len(got) != 1 || !got[0].Delivery.NextAttemptAt.Equal(again.NextAttemptAt) {
		t.Errorf("after its attempt: %+v, want it due at %v", got, again.NextAttemptAt)
	}
}

// What a process had claimed when it ended is due again, as it was stored.
func claimEndsWithProcess(t *T) {
	p := t.start()
	w := p.hook()
	d := p.visits(time.Minute, 2*time.Minute)
	p.claim(lane(w))
	d[0] = p.frozen(d[0], `{"n":1}`)
	p = p.restart()
	p.noneClaimed(w, "after a restart")
	got := p.claim(lane(w))
	if !slices.Equal(idsOf(got), []uuid.UUID{d[1].ID, d[0].ID}) {
		t.Fatalf("claimed after a restart: %v", idsOf(got))
	}
	t.same(got[1].Delivery, d[0], "the frozen one")
	if string(got[1].Payload) != `{"n":1}` {
		t.Errorf("its payload is %s", got[1].Payload)
	}
}

// What is given back is due as before.
func releasedIsDue(t *T) {
	p := t.start()
	w := p.hook()
	d := p.visits(time.Minute, 2*time.Minute)
	p.claim(lane(w))
	d[0] = p.frozen(d[0], `{}`)
	t.ok(p.Release(t.Context(), d), "Release")
	p.noneClaimed(w, "after a release")
	got := p.claim(lane(w))
	if len(got) != 2 {
		t.Fatalf("%d claimed after a release, want 2", len(got))
	}
	t.same(got[0].Delivery, d[1], "the older one")
	t.same(got[1].Delivery, d[0], "the frozen one")
}

// A release is about the deliveries that it names alone.
func releasesNothingElse(t *T) {
	p := t.start()
	w := p.hook()
	d := p.visits(time.Minute, 2*time.Minute, 3*time.Minute)
	p.claim(lane(w))
	t.ok(p.Release(t.Context(), d[1:2]), "Release")
	t.ok(p.Release(t.Context(), nil), "Release of nothing")
	if got := idsOf(p.claim(lane(w))); !slices.Equal(got, ids(d[1:2])) {
		t.Errorf("claimed after a release of one: %v, want %s", got, d[1].ID)
	}
}
