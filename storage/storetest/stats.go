package storetest

import (
	"context"
	"errors"
	"time"

	"hookbolt/engine"
)

var statsRules = []Rule{
	{Name: "stats/count by state", check: statsCount},
	{Name: "stats/due", check: statsDue},
	{Name: "stats/oldest due", check: statsOldest},
	{Name: "stats/claimed", check: statsClaimed},
	{Name: "stats/outlive the process", check: statsAreDurable},
	{Name: "stats/size and room", check: statsSize},
	{Name: "stats/end with the context", check: statsEndWithContext},
}

// eventually compares stats of a webhook. A store may count what has become due over several questions.
func (p *process) eventually(w engine.Webhook, at time.Time, is func(s engine.WebhookStats) bool, what string) {
	p.t.Helper()
	p.t.await(what, func() bool { return is(p.stats(w, at)) })
}

// audit holds stats against the lists.
func (p *process) audit() {
	p.t.Helper()
	want := make(map[uint32]engine.WebhookStats)
	for _, d := range p.pages(engine.DeliveryQuery{}, 1000) {
		s := want[d.WebhookID]
		switch d.Status {
		case engine.StatusScheduled:
			s.Scheduled++
		case engine.StatusPending:
			s.Pending++
		case engine.StatusDelivered:
			s.Delivered++
		case engine.StatusFailed:
			s.Failed++
		case engine.StatusCancelled:
			s.Cancelled++
		case engine.StatusFiltered:
			s.Filtered++
		}
		if d.Parked() {
			s.Parked++
		}
		want[d.WebhookID] = s
	}
	stats, err := p.Stats(p.t.Context(), now(), false)
	p.t.ok(err, "Stats")
	for id, w := range want {
		s := stats.Webhooks[id]
		if s.Scheduled != w.Scheduled || s.Pending != w.Pending || s.Delivered != w.Delivered || s.Failed != w.Failed || s.Cancelled != w.Cancelled || s.Filtered != w.Filtered || s.Parked != w.Parked {
			p.t.Errorf("stats of webhook %d are %+v, its lists have %+v", id, s, w)
		}
	}
	for id, s := range stats.Webhooks {
		if _, ok := want[id]; !ok && s != (engine.WebhookStats{}) {
			p.t.Errorf("stats of webhook %d, which has no deliveries, are %+v", id, s)
		}
	}
}

// Each delivery is counted in its state, for its webhook, at once.
func statsCount(t *T) {
	p := t.start()
	w, other := p.hook(), p.hook(forPoll)
	var want engine.WebhookStats
	check := func(what string) {
		t.Helper()
		got := p.stats(w, now())
		got.Due, got.OldestDueAt, got.Claimed, got.ClaimedTests = 0, time.Time{}, 0, 0
		t.same(got, want, what)
		p.audit()
	}
	check("nothing")
	d := p.one(visit{})
	want.Scheduled++
	check("scheduled")
	p.claimOne(lane(w))
	d = p.frozen(d, `{}`)
	want.Scheduled, want.Pending = 0, 1
	check("pending")
	d = p.record(engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: later(now().Add(time.Hour))}).Delivery
	check("pending, after an attempt")
	p.reschedule(d, engine.RescheduleNever, now())
	want.Pending, want.Cancelled = 0, 1
	check("cancelled")
	p.finished(w, visit{}, engine.StatusDelivered)
	p.finished(w, visit{}, engine.StatusFailed)
	want.Delivered, want.Failed = 1, 1
	check("finished")
	p.finished(other, visit{content: poll}, engine.StatusDelivered)
	p.claim(lane(w))
	want.Scheduled++
	check("of another webhook, too")
	p.reschedule(d, engine.RescheduleNow, now())
	want.Cancelled, want.Pending = 0, 1
	check("queued again")
}

// Due are the scheduled and pending ones whose time has come, without tests.
func statsDue(t *T) {
	p := t.start()
	w := p.hook()
	d := p.visits(5*time.Minute, 4*time.Minute, 3*time.Minute, -3*time.Minute)
	at := now()
	_, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: at})
	t.ok(err, "Enqueue")
	due := func(at time.Time, n int64, what string) {
		t.Helper()
		p.eventually(w, at, func(s engine.WebhookStats) bool { return s.Due == n }, what)
	}
	due(at, 3, "3 of 4 are due, and a test is not counted")
	p.claim(lane(w))
	due(at, 3, "what is claimed is due")
	p.record(engine.AttemptRecord{Delivery: p.frozen(d[0], `{}`), Attempt: good(), Next: delivered})
	due(at, 2, "what is delivered is not")
	p.record(engine.AttemptRecord{Delivery: p.frozen(d[1], `{}`), Attempt: bad(), Next: later(at.Add(time.Hour))})
	due(at, 1, "what is tried again later is not")
	p.one(visit{at: at.Add(-time.Hour)})
	due(at, 2, "what comes late is")
	p = p.restart()
	due(at, 2, "the same after a restart")
	due(at.Add(4*time.Minute), 3, "in 4 minutes, one more")
	due(at.Add(2*time.Hour), 4, "in 2 hours, all")
	due(at, 2, "as many as at first, if the clock is set back")
	due(at.Add(-2*time.Hour), 0, "none, if it is set back by 2 hours")
	due(at.Add(4*time.Minute), 3, "in 4 minutes, again one more")
}

// OldestDueAt is the due time of the first that is due, or the time that it was made, if that is later. Tests do not count.
func statsOldest(t *T) {
	p := t.start()
	w := p.hook(inAnHour)
	oldest := func(at, want time.Time, what string) {
		t.Helper()
		p.eventually(w, at, func(s engine.WebhookStats) bool { return s.OldestDueAt.Equal(want) }, what)
	}
	_, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now().Add(-time.Hour)})
	t.ok(err, "Enqueue")
	d := p.visits(10*time.Minute, 20*time.Minute)
	oldest(now(), time.Time{}, "zero while nothing is due")
	oldest(d[0].DueAt.Add(time.Hour), d[1].DueAt, "the due time of the first")
	old := p.one(visit{at: now().Add(-24 * time.Hour)})
	oldest(now(), old.CreatedAt, "the time that an old one was made")
	p.claim(lane(w))
	p.record(engine.AttemptRecord{Delivery: p.frozen(old, `{}`), Attempt: good(), Next: delivered})
	oldest(d[0].DueAt.Add(time.Hour), d[1].DueAt, "that of the next one, when the first is gone")
}

// Claimed and ClaimedTests count the claims there are.
func statsClaimed(t *T) {
	p := t.start()
	w := p.hook()
	claimed := func(n, tests int64, what string) {
		t.Helper()
		if s := p.stats(w, now()); s.Claimed != n || s.ClaimedTests != tests {
			t.Errorf("%s: %d and %d tests are claimed, want %d and %d", what, s.Claimed, s.ClaimedTests, n, tests)
		}
	}
	p.visits(time.Minute, 2*time.Minute, 3*time.Minute)
	for range 2 {
		_, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
		t.ok(err, "Enqueue")
	}
	claimed(0, 0, "nothing")
	c := p.claim(lane(w))
	claimed(3, 0, "three")
	test := p.claim(tests(w))
	claimed(3, 2, "three, and two tests")
	t.ok(p.Release(t.Context(), []engine.Delivery{c[0].Delivery, test[0].Delivery}), "Release")
	claimed(2, 1, "one of each released")
	p.record(engine.AttemptRecord{Delivery: p.frozen(c[1].Delivery, `{}`), Attempt: good(), Next: delivered})
	p.record(engine.AttemptRecord{Delivery: test[1].Delivery, Attempt: good(), Next: delivered})
	claimed(1, 0, "one of each recorded")
}

// What was counted is counted after a restart, for deleted webhooks as well.
func statsAreDurable(t *T) {
	p := t.start()
	w, deleted := p.hook(), p.hook(forPoll)
	for _, s := range []engine.Status{engine.StatusDelivered, engine.StatusFailed, engine.StatusCancelled} {
		p.finished(w, visit{}, s)
	}
	p.visit(visit{})
	p.finished(deleted, visit{content: poll}, engine.StatusDelivered)
	p.change(engine.WebhookChange{Webhook: deleted, Deleted: true})
	before := [2]engine.WebhookStats{p.stats(w, now()), p.stats(deleted, now())}
	p = p.restart()
	for i, w := range []engine.Webhook{w, deleted} {
		got := p.stats(w, now())
		for _, s := range []*engine.WebhookStats{&got, &before[i]} {
			s.Claimed, s.Due, s.OldestDueAt = 0, 0, time.Time{}
		}
		t.same(got, before[i], "stats after a restart")
	}
	if s := p.stats(deleted, now()); s.Delivered != 1 {
		t.Errorf("of a deleted webhook with one delivery: %+v", s)
	}
	p.audit()
}

// A store that can be written says so, and how much it takes.
func statsSize(t *T) {
	p := t.start()
	for _, probe := range []bool{false, true} {
		s, err := p.Stats(t.Context(), now(), probe)
		t.ok(err, "Stats")
		if s.SizeBytes <= 0 || s.Full != nil {
			t.Errorf("size %d, full %v", s.SizeBytes, s.Full)
		}
		if f := s.File; f != nil && (f.FreeBytes < 0 || f.FreeBytes > s.SizeBytes || f.DiskFreeBytes < -1) {
			t.Errorf("of a file of %d bytes: %+v", s.SizeBytes, *f)
		}
	}
}

// Who does not wait any more gets an answer: what was asked for, or that the context has ended.
func statsEndWithContext(t *T) {
	p := t.start()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if s, err := p.Stats(ctx, now(), true); err != nil && (!errors.Is(err, context.Canceled) || s.Webhooks != nil) {
			t.Errorf("with an ended context: %+v, %v", s, err)
		}
	}
}
