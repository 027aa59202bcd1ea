package storetest

import (
	"slices"

	"hookbolt/engine"
)

var noticeRules = []Rule{
	{Name: "notice/of an attempt", check: noticesOfAttempt},
	{Name: "notice/of a change", check: noticeOfChange},
	{Name: "notice/for nobody", check: noticesForNobody},
}

// An attempt's system events are queued for the operations webhook, in its transaction, as pending deliveries that are due at once.
func noticesOfAttempt(t *T) {
	p := t.start()
	ops, w := p.hook(operations), p.hook()
	d := p.taken(w, `{}`)
	r := engine.AttemptRecord{Delivery: d, Attempt: bad(), Next: exhausted, At: now(), Webhook: &w, HealthNotice: []byte(`{"health":1}`)}
	want := r.Apply(&d, false)
	done := p.record(r)
	t.queued(done.Queued, []engine.Queued{{Lane: lane(ops), At: r.At}, {Lane: lane(ops), At: r.At}})
	p = p.restart()
	var got, notices []string
	for _, c := range p.claimAt(lane(ops), 5, r.At).Claimed {
		got = append(got, string(c.Payload))
		if c.Delivery.Kind != engine.KindOperation || c.Delivery.Status != engine.StatusPending {
			t.Errorf("a system event is a delivery of kind %s that is %s", c.Delivery.Kind, c.Delivery.Status)
		}
	}
	for _, n := range want.Notices {
		notices = append(notices, string(n))
	}
	slices.Sort(got)
	slices.Sort(notices)
	if len(notices) != 2 || !slices.Equal(got, notices) {
		t.Errorf("queued are %q, want %q", got, notices)
	}
	if done := p.record(engine.AttemptRecord{Delivery: p.taken(w, `{}`), Attempt: good(), Next: delivered, Webhook: &w}); len(done.Queued) > 0 {
		t.Errorf("a success has led to %+v", done.Queued)
	}
}

// The system event of a change is queued for the operations webhook.
func noticeOfChange(t *T) {
	p := t.start()
	ops, w := p.hook(operations), p.hook()
	w.Paused, w.UpdatedAt = true, now()
	done := p.change(engine.WebhookChange{Webhook: w, Notice: []byte(`{"paused":1}`)})
	if len(done.Queued) != 1 || done.Queued[0].Lane != lane(ops) {
		t.Errorf("the change has put %+v into lanes, want one of the operations webhook", done.Queued)
	}
	if c := p.claimOne(lane(ops)); string(c.Payload) != `{"paused":1}` || c.Delivery.Kind != engine.KindOperation {
		t.Errorf("queued is %s", c.Payload)
	}
	if done := p.change(engine.WebhookChange{Webhook: done.Webhook}); len(done.Queued) > 0 {
		t.Errorf("a change of which nothing is told has led to %+v", done.Queued)
	}
	stale := engine.WebhookChange{Webhook: w, Notice: []byte(`{"stale":1}`)}
	_, err := p.PutWebhook(t.Context(), stale)
	t.is(err, engine.ErrRevision, "a stale change")
	if got := p.claim(lane(ops)); len(got) > 0 {
		t.Errorf("a change that was refused is told: %s", got[0].Payload)
	}
}

// Where there is no operations webhook, or none that is active, nothing is queued.
func noticesForNobody(t *T) {
	p := t.start()
	w := p.hook()
	try := func(what string) {
		t.Helper()
		done := p.record(engine.AttemptRecord{Delivery: p.taken(w, `{}`), Attempt: bad(), Next: exhausted, Webhook: &w, HealthNotice: []byte(`{}`)})
		w.Name += "x"
		changed := p.change(engine.WebhookChange{Webhook: w, Notice: []byte(`{}`)})
		w = changed.Webhook
		if n := len(done.Queued) + len(changed.Queued); n > 0 {
			t.Errorf("%s: %d were put into lanes", what, n)
		}
	}
	try("no operations webhook")
	ops := p.switchOff(p.hook(operations))
	try("an inactive operations webhook")
	if s := p.stats(ops, now()); s != (engine.WebhookStats{}) {
		t.Errorf("the operations webhook has %+v", s)
	}
}
