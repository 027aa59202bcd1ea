package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var togetherRules = []Rule{
	{Name: "together/all methods at once", check: allAtOnce},
	{Name: "together/all is durable", check: allIsDurable},
}

// crowd is many callers at once, and what they have been told.
type crowd struct {
	*process
	w      engine.Webhook
	ctx    context.Context
	mu     sync.Mutex
	stored []uuid.UUID       // acknowledged sessions that nobody erases
	sent   map[uuid.UUID]int // attempts that were recorded, by delivery
}

// failed reports an error, but for one that others may bring about.
func (c *crowd) failed(err error, what string, but ...error) bool {
	if err == nil {
		return false
	}
	if !slices.ContainsFunc(but, func(e error) bool { return errors.Is(err, e) }) {
		c.t.Errorf("%s: %v", what, err)
	}
	return true
}

// post posts visits, and erases those of one visitor.
func (c *crowd) post(n int) {
	for i := range n {
		v := visit{visitor: int64(7 + i%2)}.complete()
		_, err := c.AppendEvents(c.ctx, engine.NewAppend(v.events(c.t), now()))
		if !c.failed(err, "AppendEvents") && v.visitor == 7 {
			c.mu.Lock()
			c.stored = append(c.stored, v.id)
			c.mu.Unlock()
		}
		if i%10 == 9 {
			for place, more := "", true; more; more = place != "" {
				step, err := c.Erase(c.ctx, visitor(8), place)
				if c.failed(err, "Erase") {
					return
				}
				place = step.Next
			}
		}
	}
}

// send delivers what is due, and has some of it tried again.
func (c *crowd) send(stop func() bool) {
	for !stop() {
		results, err := c.ClaimDue(c.ctx, now(), []engine.ClaimRequest{{Lane: lane(c.w), Room: 3}, {Lane: tests(c.w), Room: 1}})
		if c.failed(err, "ClaimDue") {
			return
		}
		for _, claimed := range slices.Concat(results[0].Claimed, results[1].Claimed) {
			d := claimed.Delivery
			if rand.IntN(8) == 0 {
				c.failed(c.Release(c.ctx, []engine.Delivery{d}), "Release")
				continue
			}
			if claimed.Payload == nil {
				f := engine.Freeze{Delivery: d, Payload: []byte(`{}`), Events: claimed.Session.Head.Events, At: now()}
				if _, err := c.Freeze(c.ctx, f); c.failed(err, "Freeze", engine.ErrNotSendable) {
					continue
				}
			}
			r := engine.AttemptRecord{Delivery: d, Attempt: good(), Next: delivered, At: now(), Webhook: &c.w}
			if rand.IntN(3) == 0 {
				r.Attempt, r.Next = bad(), later(now())
			}
			if _, err := c.RecordAttempt(c.ctx, r); !c.failed(err, "RecordAttempt", engine.ErrNotSendable) {
				c.mu.Lock()
				c.sent[d.ID]++
				c.mu.Unlock()
			}
		}
	}
}

// read looks at everything.
func (c *crowd) read(stop func() bool) {
	for !stop() {
		page, err := c.Deliveries(c.ctx, engine.DeliveryQuery{Limit: 5})
		c.failed(err, "Deliveries")
		for _, d := range page.Items {
			_, _, _, err := c.Delivery(c.ctx, d.ID)
			c.failed(err, "Delivery", engine.ErrNotFound)
			_, _, err = c.Session(c.ctx, d.SessionID)
			c.failed(err, "Session", engine.ErrNotFound)
		}
		_, err = c.Stats(c.ctx, now(), true)
		c.failed(err, "Stats")
		if c.Webhooks().Get(c.w.ID) == nil || !c.Mine(c.w.ID) {
			c.t.Errorf("the webhook is gone")
		}
	}
}

// meddle changes what others are at, by hand.
func (c *crowd) meddle(stop func() bool) {
	for !stop() {
		page, err := c.Deliveries(c.ctx, engine.DeliveryQuery{Limit: 3})
		c.failed(err, "Deliveries")
		for _, d := range page.Items {
			_, err := c.Reschedule(c.ctx, d.ID, engine.RescheduleNow, now())
			c.failed(err, "Reschedule", engine.ErrNotFound, engine.ErrConflict)
		}
		_, err = c.Enqueue(c.ctx, engine.Enqueue{WebhookID: c.w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now()})
		c.failed(err, "Enqueue")
		other := *c.Webhooks().Get(c.w.ID)
		other.Delay = 0
		other.Name += "x"
		_, err = c.PutWebhook(c.ctx, engine.WebhookChange{Webhook: other})
		c.failed(err, "PutWebhook", engine.ErrRevision)
		_, err = c.Replay(c.ctx, engine.Replay{WebhookID: c.w.ID, Scope: engine.ReplayFailed, Until: now()})
		c.failed(err, "Replay")
		_, err = c.Maintain(c.ctx, now(), forever)
		c.failed(err, "Maintain")
	}
}

// All methods can be called at once. What was acknowledged is there, in the end all is delivered, and the counts are right.
func allAtOnce(t *T) {
	p := t.start()
	c := &crowd{process: p, w: p.hook(), ctx: t.Context(), sent: make(map[uuid.UUID]int)}
	done := make(chan struct{})
	stop := func() bool {
		select {
		case <-done:
			return true
		case <-c.ctx.Done():
			return true
		default:
			return false
		}
	}
	parallel(func() {
		defer close(done)
		parallel(func() { c.post(40) }, func() { c.post(40) }, func() { c.post(40) })
	}, func() { c.send(stop) }, func() { c.send(stop) }, func() { c.read(stop) }, func() { c.meddle(stop) })
	p.noneClaimed(c.w, "in the end")
	for range 1000 {
		claimed := slices.Concat(p.claim(lane(c.w)), p.claim(tests(c.w)))
		if len(claimed) == 0 {
			break
		}
		for _, claimed := range claimed {
			if claimed.Payload == nil {
				p.frozen(claimed.Delivery, `{}`)
			}
			p.record(engine.AttemptRecord{Delivery: claimed.Delivery, Attempt: good(), Next: delivered})
			c.sent[claimed.Delivery.ID]++
		}
	}
	p.audit()
	for _, id := range c.stored {
		_, deliveries := p.session(id)
		if len(deliveries) != 1 || deliveries[0].Status != engine.StatusDelivered {
			t.Fatalf("an acknowledged session has led to %+v, want one that is delivered", deliveries)
		}
		d, _, attempts := p.delivery(deliveries[0].ID)
		if d.Attempts != c.sent[d.ID] || len(attempts) != d.Attempts {
			t.Errorf("a delivery has %d attempts, %d of them stored; %d were recorded", d.Attempts, len(attempts), c.sent[d.ID])
		}
	}
	p.maintain(now(), forever)
}

// everything is all that can be read of a store, as text. Health is without what is not kept.
func (p *process) everything(sessions []uuid.UUID) []string {
	p.t.Helper()
	var all []string
	for _, w := range p.Webhooks().All() {
		all = append(all, p.t.stored(w), text(p.Webhooks().Cancellations(w.ID)))
	}
	for _, d := range p.pages(engine.DeliveryQuery{}, 1000) {
		d, payload, attempts := p.delivery(d.ID)
		for i := range attempts {
			attempts[i].StartedAt, attempts[i].NextAt = attempts[i].StartedAt.UTC(), attempts[i].NextAt.UTC()
		}
		all = append(all, text(utc(d)), string(payload), text(attempts))
	}
	for _, id := range sessions {
		record, deliveries, err := p.Session(p.t.Context(), id)
		if errors.Is(err, engine.ErrNotFound) {
			all = append(all, id.String())
			continue
		}
		p.t.ok(err, "Session")
		events, err := record.Events()
		p.t.ok(err, "the stored events")
		for _, ev := range events {
			all = append(all, string(ev.JSON), ev.ReceivedAt.UTC().String())
		}
		all = append(all, text(ids(deliveries)))
	}
	stats, err := p.Stats(p.t.Context(), now(), false)
	p.t.ok(err, "Stats")
	for id, s := range stats.Webhooks {
		s.Claimed, s.ClaimedTests, s.Due, s.OldestDueAt = 0, 0, 0, time.Time{}
		stats.Webhooks[id] = s
	}
	for id, h := range stats.Health {
		h.Order, h.Notified = 0, false
		for _, at := range []*time.Time{&h.FirstFailedAt, &h.FailingSince, &h.NextProbeAt, &h.Throttle.HeldUntil, &h.NextSlotAt} {
			*at = at.UTC()
		}
		stats.Health[id] = h
	}
	return append(all, text(stats.Webhooks), text(stats.Health), text(stats.Replays))
}

// What every method has acknowledged is there after a restart, and what was removed is not there again.
func allIsDurable(t *T) {
	p := t.start()
	w, ops := p.hook(), p.hook(operations)
	var sessions []uuid.UUID
	for _, s := range []engine.Status{engine.StatusDelivered, engine.StatusFailed, engine.StatusCancelled} {
		sessions = append(sessions, p.finished(w, visit{}, s).SessionID)
	}
	d := p.finished(w, visit{}, engine.StatusFailed)
	sessions = append(sessions, d.SessionID, p.one(visit{visitor: 8}).SessionID)
	p.erase(visitor(8))
	p.reschedule(d, engine.RescheduleNow, now())
	dropped := p.claimOne(lane(w)).Delivery
	p.record(engine.AttemptRecord{Delivery: dropped, Attempt: bad(), Next: later(now().Add(time.Hour)), Webhook: &w, Health: failing(1), HealthNotice: []byte(`{}`)})
	p.taken(w, `{"frozen":1}`)
	p.replay(engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed})
	w.Name = "other"
	w = p.change(engine.WebhookChange{Webhook: w, Notice: []byte(`{}`),
		Cancels: []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelIncomplete}}}).Webhook
	sessions = append(sessions, p.one(visit{}).SessionID)
	before := p.everything(sessions)
	for range 2 {
		p = p.restart()
		after := p.everything(sessions)
		for i := range before {
			if i >= len(after) || after[i] != before[i] {
				t.Fatalf("after a restart there is\n%s\nand not\n%s", slices.Concat(after, []string{"nothing"})[min(i, len(after))], before[i])
			}
		}
	}
	if got := p.claim(lane(ops)); len(got) != 2 {
		t.Errorf("%d system events are due, want 2", len(got))
	}
}
