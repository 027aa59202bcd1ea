package storetest

import (
	"fmt"
	"time"

	"hookbolt/engine"
)

var recordRules = []Rule{
	{Name: "record/as Apply says", check: recordApplies},
	{Name: "record/what was done meanwhile stands", check: recordRespectsMeanwhile},
	{Name: "record/erased meanwhile", check: recordOfErased},
	{Name: "record/ends the claim", check: recordEndsClaim},
	{Name: "record/keeps all of an attempt", check: recordKeepsAttempt},
	{Name: "record/attempts are listed oldest first", check: recordListsAttempts},
	{Name: "record/due when Next says", check: recordMovesInLane},
	{Name: "record/payload that could not be rendered", check: recordOfUnrendered},
	{Name: "record/is durable", check: recordIsDurable},
}

// outcome is an attempt and what it leads to.
type outcome struct {
	name    string
	attempt engine.Attempt
	next    engine.Next
}

func outcomes() []outcome {
	at := now().Add(time.Hour)
	return []outcome{
		{"delivered", good(), delivered},
		{"failed for good", bad(), exhausted},
		{"to be tried again", bad(), later(at)},
		{"to be tried again when the endpoint says", engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Status: 503, Error: engine.ErrorStatus}},
			engine.Next{Status: engine.StatusPending, At: at, Reason: engine.NextByRetryAfter}},
		{"with a new token", engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Status: 401, Error: engine.ErrorStatus}},
			engine.Next{Status: engine.StatusPending, At: at, Reason: engine.NextByToken}},
		{"without an answer", engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Error: engine.ErrorTimeout, ErrorDetail: "no answer"}}, later(at)},
	}
}

// recorded records an attempt of a claimed delivery and holds what has come of it against Apply.
func (p *process) recorded(r engine.AttemptRecord, covered bool, name string) {
	p.t.Helper()
	before, payload, attempts := p.delivery(r.Delivery.ID)
	want := r.Apply(&before, covered)
	done := p.record(r)
	p.t.same(done.Delivery, want.Delivery, name+": what is returned")
	if done.Moved != want.Moved {
		p.t.Errorf("%s: Moved is %t, want %t", name, done.Moved, want.Moved)
	}
	after, body, stored := p.delivery(r.Delivery.ID)
	p.t.same(after, want.Delivery, name+": what is stored")
	if string(body) != string(payload) {
		p.t.Errorf("%s: the payload was %s and is %s", name, payload, body)
	}
	if len(stored) != len(attempts)+1 {
		p.t.Fatalf("%s: %d attempts are stored, want %d", name, len(stored), len(attempts)+1)
	}
	p.t.attempt(stored[len(attempts)], want.Attempt, name)
}

// attempt compares attempts, as far as they are stored.
func (t *T) attempt(got, want engine.Attempt, name string) {
	t.Helper()
	want.RetryAfter, want.TokenRejected, want.Probe = 0, false, false
	for _, at := range []*time.Time{&got.StartedAt, &got.NextAt, &want.StartedAt, &want.NextAt} {
		*at = at.UTC()
	}
	for _, body := range []*[]byte{&got.Response, &want.Response} {
		*body = append([]byte{}, *body...)
	}
	t.same(got, want, name+": the attempt")
}

// Each outcome moves a claimed delivery as Apply says, and the attempt is stored with when its next try is due, and why.
func recordApplies(t *T) {
	p := t.start()
	w := p.hook()
	for _, o := range outcomes() {
		d := p.taken(w, `{"n":1}`)
		p.recorded(engine.AttemptRecord{Delivery: d, Attempt: o.attempt, Next: o.next, At: now().Add(time.Millisecond), Webhook: &w}, false, o.name)
	}
}

// What was done to a delivery while its attempt was under way stands, but for a success.
func recordRespectsMeanwhile(t *T) {
	p := t.start()
	for _, m := range meanwhiles {
		if m.erased {
			continue
		}
		for _, o := range outcomes()[:3] {
			w := p.hook()
			d := p.taken(w, `{"n":1}`)
			m.do(p, w, d)
			p.recorded(engine.AttemptRecord{Delivery: d, Attempt: o.attempt, Next: o.next, At: now(), Webhook: &w}, m.covered, m.name+", "+o.name)
			p.noneClaimed(w, m.name)
			p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(w.ID), Deleted: true, Cancels: cancelAll(*p.Webhooks().Get(w.ID))})
		}
	}
}

// An attempt of a delivery that was erased is ErrNotSendable, ends the claim, and brings nothing back but what it tells of the endpoint.
func recordOfErased(t *T) {
	p := t.start()
	ops, w := p.hook(operations), p.hook()
	d := p.taken(w, `{"n":1}`)
	p.erase(engine.Erasure{SessionID: d.SessionID})
	h := engine.Health{Failures: 1, FirstFailedAt: now(), Order: 1}
	_, err := p.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: exhausted, At: now(), Webhook: &w, Health: h, HealthNotice: []byte(`{"health":1}`)})
	t.is(err, engine.ErrNotSendable, "an attempt of an erased delivery")
	p.gone(d.ID, "after its attempt")
	p.noneClaimed(w, "after its attempt")
	p.healthIs(w, h, "after its attempt")
	notices := p.claim(lane(ops))
	if len(notices) != 1 || string(notices[0].Payload) != `{"health":1}` {
		t.Errorf("it has led to %d system events, want the one of the endpoint", len(notices))
	}
}

// Whatever an attempt leads to, its claim has ended.
func recordEndsClaim(t *T) {
	p := t.start()
	w := p.hook()
	for _, o := range outcomes() {
		d := p.taken(w, `{}`)
		r := p.record(engine.AttemptRecord{Delivery: d, Attempt: o.attempt, Next: o.next})
		p.noneClaimed(w, o.name)
		want := 0
		if r.Delivery.Status.Waiting() {
			want = 1
		}
		got := p.claimAt(lane(w), 5, now().Add(2*time.Hour)).Claimed
		if len(got) != want {
			t.Errorf("%s: then %d are claimed, want %d", o.name, len(got), want)
		}
		if want == 1 && len(got) == 1 {
			p.record(engine.AttemptRecord{Delivery: got[0].Delivery, Attempt: good(), Next: delivered})
		}
	}
}

// All fields of an attempt that are to be stored come back, instants to the nanosecond.
func recordKeepsAttempt(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, `{}`)
	a := engine.Attempt{Outcome: engine.Outcome{
		StartedAt: now().Truncate(time.Second).Add(987654321), Duration: 123456789,
		Phases:  engine.Phases{Token: 1, DNS: 20, Connect: 300, TLS: 4000, FirstByte: 50000},
		Address: "[2001:db8::1]:443", Reused: true, Repeated: engine.RepeatLost, Protocol: "HTTP/2.0", Status: 503, Error: engine.ErrorStatus, ErrorDetail: "503 \x00\xff",
		ResponseHeader: []engine.HeaderField{{Name: "Retry-After", Value: "7"}, {Name: "X", Value: ""}, {Name: "X", Value: "ÄÖ"}},
		Response:       []byte("no\x00\xff"),
		Sent: engine.Sent{Method: "PATCH", Signature: "v1,abc v1a,def", UserAgent: "hookbolt/1", Credentials: []string{"Authorization", "X-Api-Key"},
			BodySignature: engine.HeaderField{Name: "X-Hub-Signature-256", Value: "sha256=ab"}},
	}}
	p.recorded(engine.AttemptRecord{Delivery: d, Attempt: a, Next: later(now().Add(time.Hour)), At: now()}, false, "an attempt with all fields")
	_, _, stored := p.delivery(d.ID)
	if stored[0].ErrorDetail != a.ErrorDetail || string(stored[0].Response) != string(a.Response) {
		t.Errorf("its texts are %q and %q, want %q and %q", stored[0].ErrorDetail, stored[0].Response, a.ErrorDetail, a.Response)
	}
}

// Attempts are listed in the order in which they were recorded.
func recordListsAttempts(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, `{}`)
	const n = 12
	for i := range n {
		d = p.record(engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Status: 500 + i, Error: engine.ErrorStatus}}, Next: later(now())}).Delivery
		p.claimOne(lane(w))
	}
	_, _, attempts := p.delivery(d.ID)
	var got []int
	for _, a := range attempts {
		got = append(got, a.Status-500)
	}
	if d.Attempts != n || fmt.Sprint(got) != "[0 1 2 3 4 5 6 7 8 9 10 11]" {
		t.Errorf("%d attempts are listed as %v", d.Attempts, got)
	}
}

// A delivery that is tried again is due at Next.At, and not before.
func recordMovesInLane(t *T) {
	p := t.start()
	w := p.hook()
	at := now().Add(time.Hour).Truncate(time.Second).Add(123456789)
	p.record(engine.AttemptRecord{Delivery: p.taken(w, `{}`), Attempt: bad(), Next: later(at)})
	early := p.claimAt(lane(w), 5, at.Add(-1))
	if len(early.Claimed) > 0 || early.Next.IsZero() || early.Next.After(at) {
		t.Errorf("a nanosecond before its time: %d are claimed, next is %v", len(early.Claimed), early.Next)
	}
	if got := p.claimAt(lane(w), 5, at).Claimed; len(got) != 1 {
		t.Errorf("at its time %d are claimed, want 1", len(got))
	}
}

// A delivery whose payload could not be rendered stays scheduled, and is claimed with its session again.
func recordOfUnrendered(t *T) {
	p := t.start()
	w := p.hook()
	d := p.taken(w, "")
	p.recorded(engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Error: engine.ErrorInternal}}, Next: later(now()), At: now(), Webhook: &w}, false, "not rendered")
	c := p.claimOne(lane(w))
	if c.Delivery.Status != engine.StatusScheduled || c.Session == nil || c.Delivery.Tries != 1 {
		t.Errorf("then it is %s after %d tries", c.Delivery.Status, c.Delivery.Tries)
	}
}

// What was recorded is there after a restart, and what was delivered is not due.
func recordIsDurable(t *T) {
	p := t.start()
	w := p.hook()
	var want []engine.Delivery
	for _, o := range outcomes() {
		want = append(want, p.record(engine.AttemptRecord{Delivery: p.taken(w, `{"n":1}`), Attempt: o.attempt, Next: o.next}).Delivery)
	}
	p = p.restart()
	for _, d := range want {
		got, payload, attempts := p.delivery(d.ID)
		t.same(got, d, "after a restart")
		if string(payload) != `{"n":1}` || len(attempts) != 1 {
			t.Errorf("after a restart it has the payload %s and %d attempts", payload, len(attempts))
		}
	}
	if got := p.claim(lane(w)); len(got) > 0 {
		t.Errorf("after a restart %d are due, want none", len(got))
	}
}
