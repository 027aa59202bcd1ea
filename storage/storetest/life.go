package storetest

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// What becomes of a delivery after an attempt.
var (
	delivered = engine.Next{Status: engine.StatusDelivered}
	exhausted = engine.Next{Status: engine.StatusFailed, Reason: engine.NextExhausted}
)

// later is another try at a time.
func later(at time.Time) engine.Next {
	return engine.Next{Status: engine.StatusPending, At: at, Reason: engine.NextBySchedule}
}

// good and bad are attempts.
func good() engine.Attempt {
	return engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Status: 200}}
}
func bad() engine.Attempt {
	return engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Status: 500, Error: engine.ErrorStatus}}
}

// post stores events, as of now and with no lane open.
func (p *process) post(events ...engine.Event) engine.Appended {
	p.t.Helper()
	return p.append(engine.NewAppend(events, now()))
}

func (p *process) append(a engine.Append) engine.Appended {
	p.t.Helper()
	done, err := p.AppendEvents(p.t.Context(), a)
	p.t.ok(err, "AppendEvents")
	return done
}

// visit stores a visit and returns the deliveries that it has led to.
func (p *process) visit(v visit) []engine.Delivery {
	p.t.Helper()
	v = v.complete()
	p.post(v.events(p.t)...)
	_, deliveries := p.session(v.id)
	return deliveries
}

// one is visit where it leads to a single delivery.
func (p *process) one(v visit) engine.Delivery {
	p.t.Helper()
	deliveries := p.visit(v)
	if len(deliveries) != 1 {
		p.t.Fatalf("a session has led to %d deliveries, want 1", len(deliveries))
	}
	return deliveries[0]
}

func (p *process) session(id uuid.UUID) (engine.SessionRecord, []engine.Delivery) {
	p.t.Helper()
	record, deliveries, err := p.Session(p.t.Context(), id)
	p.t.ok(err, "Session")
	return record, deliveries
}

func (p *process) delivery(id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt) {
	p.t.Helper()
	d, payload, attempts, err := p.Delivery(p.t.Context(), id)
	p.t.ok(err, "Delivery")
	return d, payload, attempts
}

// status is the state that a delivery is in.
func (p *process) status(id uuid.UUID) engine.Status {
	p.t.Helper()
	d, _, _ := p.delivery(id)
	return d.Status
}

// lane is the ordinary lane of a webhook.
func lane(w engine.Webhook) engine.Lane { return engine.Lane{WebhookID: w.ID} }

// tests is its lane for tests.
func tests(w engine.Webhook) engine.Lane { return engine.Lane{WebhookID: w.ID, Test: true} }

// claimAt claims what is due in a lane at a time.
func (p *process) claimAt(l engine.Lane, room int, at time.Time) engine.ClaimResult {
	p.t.Helper()
	results, err := p.ClaimDue(p.t.Context(), at, []engine.ClaimRequest{{Lane: l, Room: room}})
	p.t.ok(err, "ClaimDue")
	if len(results) != 1 {
		p.t.Fatalf("ClaimDue has answered one request with %d results", len(results))
	}
	if len(results[0].Damaged) > 0 {
		p.t.Fatalf("ClaimDue: %v", results[0].Damaged)
	}
	return results[0]
}

// claim claims all that is due in a lane now.
func (p *process) claim(l engine.Lane) []engine.Claimed {
	p.t.Helper()
	return p.claimAt(l, 1000, now()).Claimed
}

// claimOne claims the only delivery that is due in a lane now.
func (p *process) claimOne(l engine.Lane) engine.Claimed {
	p.t.Helper()
	claimed := p.claim(l)
	if len(claimed) != 1 {
		p.t.Fatalf("%d claimed, want 1", len(claimed))
	}
	return claimed[0]
}

// taken is a delivery of a new session that is claimed, and frozen if there is a payload.
func (p *process) taken(w engine.Webhook, payload string) engine.Delivery {
	p.t.Helper()
	d := p.one(visit{})
	p.claimOne(lane(w))
	if payload == "" {
		return d
	}
	return p.frozen(d, payload)
}

// freeze freezes, as if the payload was built from all events of an ordinary visit.
func (p *process) freeze(f engine.Freeze) error {
	if f.Events == 0 {
		f.Events = visitEvents
	}
	_, err := p.Freeze(p.t.Context(), f)
	return err
}

// frozen freezes a claimed delivery and returns it as it is then.
func (p *process) frozen(d engine.Delivery, payload string) engine.Delivery {
	p.t.Helper()
	p.t.ok(p.freeze(engine.Freeze{Delivery: d, Payload: []byte(payload), At: now()}), "Freeze")
	d, _, _ = p.delivery(d.ID)
	return d
}

func (p *process) record(r engine.AttemptRecord) engine.Recorded {
	p.t.Helper()
	if r.At.IsZero() {
		r.At = now()
	}
	done, err := p.RecordAttempt(p.t.Context(), r)
	p.t.ok(err, "RecordAttempt")
	return done
}

// finished is the delivery of a visit that has come to a final state. A cancelled one has no payload.
func (p *process) finished(w engine.Webhook, v visit, s engine.Status) engine.Delivery {
	p.t.Helper()
	p.visit(v)
	c := p.claimOne(lane(w))
	if s == engine.StatusCancelled {
		p.t.ok(p.Release(p.t.Context(), []engine.Delivery{c.Delivery}), "Release")
		return p.reschedule(c.Delivery, engine.RescheduleNever, now())
	}
	d, a, next := p.frozen(c.Delivery, `{"n":1}`), good(), delivered
	if s == engine.StatusFailed {
		a, next = bad(), exhausted
	}
	return p.record(engine.AttemptRecord{Delivery: d, Attempt: a, Next: next}).Delivery
}

// reschedule changes when a delivery is due.
func (p *process) reschedule(d engine.Delivery, how engine.Reschedule, at time.Time) engine.Delivery {
	p.t.Helper()
	after, err := p.Reschedule(p.t.Context(), d.ID, how, at)
	p.t.ok(err, "Reschedule")
	return after
}

// maintain carries out all background work that waits at a time.
func (p *process) maintain(at time.Time, keep engine.Retention) (total engine.Maintained) {
	p.t.Helper()
	for range 1000 {
		m, err := p.Maintain(p.t.Context(), at, keep)
		p.t.ok(err, "Maintain")
		if len(m.Damaged) > 0 {
			p.t.Fatalf("Maintain: %v", m.Damaged)
		}
		total.Next = m.Next
		total.Cancelled += m.Cancelled
		total.Queued = append(total.Queued, m.Queued...)
		total.Erasures = append(total.Erasures, m.Erasures...)
		total.Expired.Sessions += m.Expired.Sessions
		total.Expired.Deliveries += m.Expired.Deliveries
		if m.Next.After(at) {
			return total
		}
	}
	p.t.Fatalf("Maintain comes to no end")
	return total
}

// forever keeps all.
var forever = engine.Retention{Sessions: 100_000 * time.Hour, Deliveries: 100_000 * time.Hour}

// erase carries out an erasure.
func (p *process) erase(what engine.Erasure) (total engine.Erased, deleted []engine.Delivery) {
	p.t.Helper()
	place := ""
	for range 1000 {
		step, err := p.Erase(p.t.Context(), what, place)
		p.t.ok(err, "Erase")
		total.Add(step.Erased)
		deleted = append(deleted, step.Deleted...)
		if place = step.Next; place == "" {
			return total, deleted
		}
	}
	p.t.Fatalf("Erase comes to no end")
	return total, nil
}

// stats are those of a webhook at a time.
func (p *process) stats(w engine.Webhook, at time.Time) engine.WebhookStats {
	p.t.Helper()
	s, err := p.Stats(p.t.Context(), at, false)
	p.t.ok(err, "Stats")
	return s.Webhooks[w.ID]
}

// noneClaimed reports claims of a webhook that are left.
func (p *process) noneClaimed(w engine.Webhook, what string) {
	p.t.Helper()
	if s := p.stats(w, now()); s.Claimed != 0 || s.ClaimedTests != 0 {
		p.t.Errorf("%s: %d deliveries and %d tests are claimed, want none", what, s.Claimed, s.ClaimedTests)
	}
}

// gone reports a delivery that is still there.
func (p *process) gone(id uuid.UUID, what string) {
	p.t.Helper()
	if d, _, _, err := p.Delivery(p.t.Context(), id); !errors.Is(err, engine.ErrNotFound) {
		p.t.Errorf("%s: the delivery is %s, error %v; want ErrNotFound", what, d.Status, err)
	}
}

// pages lists deliveries, all pages of that size.
func (p *process) pages(q engine.DeliveryQuery, limit int) []engine.Delivery {
	p.t.Helper()
	q.Limit = limit
	var all []engine.Delivery
	for range 10_000 {
		page, err := p.Deliveries(p.t.Context(), q)
		p.t.ok(err, "Deliveries")
		if len(page.Items) > limit {
			p.t.Errorf("a page has %d items, its limit is %d", len(page.Items), limit)
		}
		all = append(all, page.Items...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return all
		}
	}
	p.t.Fatalf("Deliveries comes to no end")
	return nil
}
