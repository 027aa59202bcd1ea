package storetest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var fanOutRules = []Rule{
	{Name: "fan-out/all deliveries are made", check: fanOutMakesAll},
	{Name: "fan-out/tells the lanes", check: fanOutTellsLanes},
	{Name: "fan-out/later webhooks get none", check: fanOutSparesLater},
	{Name: "fan-out/goes on after a restart", check: fanOutSurvives},
	{Name: "fan-out/at most one of a kind", check: fanOutMakesOne},
	{Name: "fan-out/erased sessions get none", check: fanOutSparesErased},
	{Name: "fan-out/keeps the session", check: fanOutKeepsSession},
}

// audience is a request with more deliveries than its transaction makes.
type audience struct {
	hooks  []engine.Webhook // the last three are for another content, inactive, and for operations
	visits []visit
}

const (
	audienceSessions = 70 // the deliveries of the last ones are made later
	audienceHooks    = 20 // that get all sessions
)

// idle opens a store whose Watch does not run, so that it makes no deliveries of a fan-out.
func (t *T) idle() *process {
	t.Helper()
	s, err := t.open()
	t.ok(err, "open")
	p := &process{Store: s, t: t, stop: func() {}, ended: make(chan error, 1)}
	p.ended <- nil
	t.Cleanup(p.close)
	return p
}

// audience makes webhooks, and posts sessions for all of them.
func (p *process) audience() audience {
	p.t.Helper()
	var c audience
	for i := range audienceHooks {
		c.hooks = append(c.hooks, p.make(inAnHour, func(w *engine.Webhook) { w.SendIncomplete = i%2 == 0 }))
	}
	c.hooks = append(c.hooks, p.make(forPoll), p.make(inactive), p.make(operations))
	var events []engine.Event
	for i := range audienceSessions {
		v := visit{unfinished: i%7 == 0}.complete()
		c.visits = append(c.visits, v)
		events = append(events, v.events(p.t)...)
	}
	p.append(engine.NewAppend(events, now()))
	return c
}

// last returns the last visit, which is finished.
func (c *audience) last() visit { return c.visits[audienceSessions-1] }

// want returns the deliveries of a visit for a webhook, by kind, with when they are due.
func (c *audience) want(v visit, i int) map[engine.Kind]time.Time {
	due := make(map[engine.Kind]time.Time)
	switch {
	case i >= audienceHooks:
	case !v.unfinished:
		due[engine.KindComplete] = v.at.Add(time.Hour)
	case i%2 == 0:
		due[engine.KindIncomplete] = v.at.Add(time.Hour)
	}
	return due
}

// fannedOut waits until the deliveries of all fan-outs are made.
func (p *process) fannedOut() {
	p.t.Helper()
	p.t.await("the deliveries of a fan-out are made", func() bool {
		stats, err := p.Stats(p.t.Context(), now(), false)
		p.t.ok(err, "Stats")
		return stats.FanningOut == 0
	})
}

// made checks that a visit has the deliveries that it should have, and no other.
func (p *process) made(c *audience, v visit) {
	p.t.Helper()
	record, deliveries := p.session(v.id)
	total := 0
	for i, w := range c.hooks {
		for kind, due := range c.want(v, i) {
			total++
			at := slices.IndexFunc(deliveries, func(d engine.Delivery) bool { return d.WebhookID == w.ID && d.Kind == kind })
			if at < 0 {
				p.t.Errorf("webhook %d lacks its %s delivery", w.ID, kind)
				continue
			}
			d := deliveries[at]
			want := engine.Delivery{ID: d.ID, WebhookID: w.ID, WebhookRevision: w.Revision, SessionID: v.id, ContentID: v.content, Kind: kind,
				Status: engine.StatusScheduled, CreatedAt: d.CreatedAt, DueAt: due, NextAttemptAt: due}
			if kind == engine.KindIncomplete {
				want.AsOf = due
			}
			p.t.same(d, want, "a delivery of a fan-out")
			if record.Head.DeliveryOf(w.ID, kind) != d.ID {
				p.t.Errorf("the head does not name delivery %s", d.ID)
			}
		}
	}
	if len(deliveries) != total {
		p.t.Errorf("a session has %d deliveries, want %d", len(deliveries), total)
	}
}

// Sessions with more deliveries than a transaction makes get all of them, as if it had made them.
func fanOutMakesAll(t *T) {
	p := t.start()
	c := p.audience()
	p.fannedOut()
	for _, v := range c.visits {
		p.made(&c, v)
	}
	for i, w := range c.hooks {
		want := int64(0)
		for _, v := range c.visits {
			want += int64(len(c.want(v, i)))
		}
		if got := p.stats(w, now()).Scheduled; got != want {
			t.Errorf("webhook %d has %d scheduled, want %d", w.ID, got, want)
		}
	}
}

// The owner of the lanes is told of each lane, with the earliest due time at the latest.
func fanOutTellsLanes(t *T) {
	p := t.idle()
	c := p.audience()
	p.close()
	p = t.start()
	p.fannedOut()
	told := func(l engine.Lane, v visit) bool {
		return p.heard(func(n engine.News) bool {
			return slices.ContainsFunc(n.Queued, func(q engine.Queued) bool { return q.Lane == l && !q.At.After(v.at.Add(time.Hour)) })
		})
	}
	for _, w := range c.hooks[:audienceHooks] {
		t.await("the lane of a fan-out is told", func() bool { return told(lane(w), c.last()) })
	}
}

// A webhook that is made after the events were stored gets no delivery of them, however late the others are made.
func fanOutSparesLater(t *T) {
	p := t.idle()
	c := p.audience()
	late := p.make()
	p.close()
	p = t.start()
	p.fannedOut()
	if got := p.stats(late, now()).Scheduled; got != 0 {
		t.Errorf("it has %d deliveries", got)
	}
	p.made(&c, c.last())
}

// What was acknowledged is made after a restart.
func fanOutSurvives(t *T) {
	p := t.idle()
	c := p.audience()
	p.close()
	p = t.start()
	p.fannedOut()
	p = p.restart()
	for _, v := range c.visits {
		p.made(&c, v)
	}
}

// A session has one delivery of a kind for a webhook, also if a replay is faster than the fan-out.
func fanOutMakesOne(t *T) {
	p := t.idle()
	c := p.audience()
	for _, w := range c.hooks[:2] {
		p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayMissing})
	}
	p.maintain(now(), forever)
	p.close()
	p = t.start()
	p.fannedOut()
	for _, v := range c.visits {
		_, deliveries := p.session(v.id)
		seen := make(map[engine.Lane]map[engine.Kind]uuid.UUID)
		for _, d := range deliveries {
			if seen[d.Lane()] == nil {
				seen[d.Lane()] = make(map[engine.Kind]uuid.UUID)
			}
			if seen[d.Lane()][d.Kind] != uuid.Nil {
				t.Fatalf("a session has two %s deliveries for webhook %d", d.Kind, d.WebhookID)
			}
			seen[d.Lane()][d.Kind] = d.ID
		}
		want := 0
		for i := range c.hooks {
			want += len(c.want(v, i))
		}
		if len(deliveries) != want {
			t.Errorf("a session has %d deliveries, want %d", len(deliveries), want)
		}
	}
}

// An erased session gets no deliveries afterwards; others do.
func fanOutSparesErased(t *T) {
	p := t.idle()
	c := p.audience()
	p.erase(engine.Erasure{SessionID: c.last().id})
	p.close()
	p = t.start()
	p.fannedOut()
	p.goneSession(c.last().id, nil)
	p.made(&c, c.visits[audienceSessions-2])
}

// A session is kept while deliveries of it are still to be made, even if its retention has ended.
func fanOutKeepsSession(t *T) {
	p := t.idle()
	c := p.audience()
	p.maintain(now().Add(24*time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: time.Minute})
	p.close()
	p = t.start()
	p.fannedOut()
	for _, v := range c.visits {
		p.made(&c, v)
	}
}
