package storetest

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"hookbolt/engine"
)

var webhookRules = []Rule{
	{Name: "webhook/is kept with all settings", check: webhookIsKept},
	{Name: "webhook/revision grows", check: webhookRevisionGrows},
	{Name: "webhook/stale change", check: webhookStale},
	{Name: "webhook/unchanged", check: webhookUnchanged},
	{Name: "webhook/one of many changes at once", check: webhookRace},
	{Name: "webhook/not found", check: webhookNotFound},
	{Name: "webhook/ids are not used twice", check: webhookIDs},
	{Name: "webhook/deleted", check: webhookDeleted},
	{Name: "webhook/one for operations", check: webhookOneForOperations},
	{Name: "webhook/a set does not change", check: webhookSetIsImmutable},
	{Name: "webhook/decides from the next event on", check: webhookDecidesAtOnce},
}

func isInput(err error) bool {
	_, ok := errors.AsType[engine.InputErrors](err)
	return ok
}

// stored is a webhook as it is stored, which is what counts.
func (t *T) stored(w *engine.Webhook) string {
	t.Helper()
	if w == nil {
		return "none"
	}
	body, err := json.Marshal(w)
	t.ok(err, "the webhook's JSON")
	return string(body)
}

// full is a webhook with all settings.
func full() engine.Webhook {
	at := now().Truncate(time.Second).Add(123456789)
	return engine.Webhook{
		CancelledUpTo: 3, CreatedAt: at, UpdatedAt: at.Add(1), URL: "https://a.example/?q=ä", ContentID: &poll, Name: "näme", Active: true, Paused: true,
		PauseReason: "reason", ResumedAt: at.Add(2), Delay: 5, IncompleteDelay: 6, SendAnswers: true, SendLeads: true, SendIncomplete: true,
		Timeout: new(engine.Duration(7)), MaxInFlight: new(8), RetrySchedule: &[]engine.Duration{9, 10}, RateLimit: new(0.5), HTTP2: new(false),
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Headers: map[string]engine.Header{"X": {Value: "y"}},
		BasicAuth: &engine.BasicAuth{Username: "u", Password: "p"}, Secret: "whsec_MfKQ9r8GKYqTwjUPD8ILPZIo2LaLaSw4VXTqUm6qyHA=",
		PreviousSecrets: []engine.PreviousSecret{{Secret: "whsec_AAAA", SignsUntil: at.Add(3)}},
		Signature: &engine.Signature{Header: "X-Sig", Prefix: "p=", Encoding: "base64", Secret: "ü", PreviousSecrets: []engine.Previous[engine.Credential]{{Secret: "b", SignsUntil: at.Add(4)}},
			Key: "whsk_AAAA", PreviousKeys: []engine.Previous[engine.SigningKey]{{Secret: "whsk_BBBB", SignsUntil: at.Add(5)}}},
	}
}

// All settings are there at once, and after a restart.
func webhookIsKept(t *T) {
	p := t.start()
	w := full()
	made := p.change(engine.WebhookChange{Webhook: w}).Webhook
	w.ID, w.Revision = made.ID, made.Revision
	if made.ID == 0 || made.Revision == 0 {
		t.Errorf("its id is %d and its revision %d", made.ID, made.Revision)
	}
	for range 2 {
		if got, want := t.stored(p.Webhooks().Get(w.ID)), t.stored(&w); got != want || t.stored(&made) != want {
			t.Errorf("the webhook is\n%s\nwant\n%s", got, want)
		}
		if n := len(p.Webhooks().All()); n != 1 {
			t.Errorf("there are %d webhooks, want 1", n)
		}
		p = p.restart()
	}
}

// Each change raises the revision, and is there as soon as it has returned.
func webhookRevisionGrows(t *T) {
	p := t.start()
	w := p.hook()
	for range 5 {
		w.Delay++
		after := p.change(engine.WebhookChange{Webhook: w}).Webhook
		if after.Revision <= w.Revision {
			t.Errorf("after revision %d comes %d", w.Revision, after.Revision)
		}
		w.Revision = after.Revision
		if got, want := t.stored(p.Webhooks().Get(w.ID)), t.stored(&w); got != want {
			t.Errorf("the webhook is\n%s\nwant\n%s", got, want)
		}
	}
}

// Who asks whether a webhook is still the one that was read is told, and changes nothing.
func webhookUnchanged(t *T) {
	p := t.start()
	w := p.hook()
	ask := func(w engine.Webhook) error {
		w.Name = "not this"
		_, err := p.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Unchanged: true})
		return err
	}
	t.ok(ask(w), "a question about the webhook as it is")
	if got, want := t.stored(p.Webhooks().Get(w.ID)), t.stored(&w); got != want {
		t.Errorf("after a question the webhook is\n%s\nwant\n%s", got, want)
	}
	changed := p.change(engine.WebhookChange{Webhook: w}).Webhook
	t.is(ask(w), engine.ErrRevision, "a question about the webhook as it was")
	p.change(engine.WebhookChange{Webhook: changed, Deleted: true})
	t.is(ask(changed), engine.ErrNotFound, "a question about a webhook that was deleted")
}

// Who has read a webhook before somebody else changed it does not change it, nor anything else.
func webhookStale(t *T) {
	p := t.start()
	w := p.hook()
	d := p.one(visit{})
	changed := w
	changed.Name = "first"
	changed = p.change(engine.WebhookChange{Webhook: changed}).Webhook
	for _, stale := range []engine.WebhookChange{{Webhook: w}, {Webhook: w, Deleted: true}, {Webhook: w, Cancels: cancelAll(changed)}} {
		stale.Webhook.Name = "second, from the same reading"
		_, err := p.PutWebhook(t.Context(), stale)
		t.is(err, engine.ErrRevision, "a stale change")
		if got, want := t.stored(p.Webhooks().Get(w.ID)), t.stored(&changed); got != want {
			t.Errorf("after a stale change the webhook is\n%s\nwant\n%s", got, want)
		}
	}
	if got := p.claimOne(lane(w)); got.Delivery.ID != d.ID {
		t.Errorf("after a stale change %s is due", got.Delivery.ID)
	}
}

// Of many who change the same revision at once one succeeds.
func webhookRace(t *T) {
	p := t.start()
	w := p.hook()
	const n = 8
	errs := make([]error, n)
	var fs []func()
	for i := range n {
		fs = append(fs, func() {
			c := w
			c.Delay = int64(i)
			_, errs[i] = p.PutWebhook(t.Context(), engine.WebhookChange{Webhook: c})
		})
	}
	parallel(fs...)
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			if got := p.Webhooks().Get(w.ID); got.Delay != int64(i) {
				t.Errorf("change %d has succeeded, and the delay is %d", i, got.Delay)
			}
			continue
		}
		t.is(err, engine.ErrRevision, "a change that came second")
	}
	if won != 1 {
		t.Errorf("%d changes of the same revision have succeeded", won)
	}
}

func webhookNotFound(t *T) {
	p := t.start()
	w := p.hook()
	p.change(engine.WebhookChange{Webhook: w, Deleted: true})
	other := w
	other.ID = 4711
	for _, unknown := range []engine.Webhook{w, other} {
		for _, deleted := range []bool{false, true} {
			_, err := p.PutWebhook(t.Context(), engine.WebhookChange{Webhook: unknown, Deleted: deleted})
			t.is(err, engine.ErrNotFound, "a webhook that is not there")
		}
	}
	if n := len(p.Webhooks().All()); n > 0 {
		t.Errorf("there are %d webhooks, want none", n)
	}
}

// The id of a deleted webhook, whose deliveries are still there, is not given to another one, nor after a restart.
func webhookIDs(t *T) {
	p := t.start()
	used := make(map[uint32]bool)
	for range 4 {
		for range 2 {
			w := p.hook()
			if used[w.ID] {
				t.Errorf("id %d was used twice", w.ID)
			}
			used[w.ID] = true
			p.change(engine.WebhookChange{Webhook: w, Deleted: true})
		}
		p = p.restart()
	}
}

// A deleted webhook is gone; its deliveries stay.
func webhookDeleted(t *T) {
	p := t.start()
	w, other := p.hook(), p.hook(forPoll)
	done := p.finished(w, visit{}, engine.StatusDelivered)
	p.change(engine.WebhookChange{Webhook: w, Deleted: true, Cancels: cancelAll(w)})
	for range 2 {
		if p.Webhooks().Get(w.ID) != nil || len(p.Webhooks().All()) != 1 || p.Webhooks().All()[0].ID != other.ID {
			t.Errorf("left are %d webhooks", len(p.Webhooks().All()))
		}
		got, payload, attempts := p.delivery(done.ID)
		t.same(got, done, "a delivery of a deleted webhook")
		if payload == nil || len(attempts) != 1 {
			t.Errorf("it has the payload %s and %d attempts", payload, len(attempts))
		}
		if s := p.stats(w, now()); s.Delivered != 1 {
			t.Errorf("stats of the deleted webhook: %+v", s)
		}
		p = p.restart()
	}
	if got := p.visit(visit{}); len(got) > 0 {
		t.Errorf("a session has led to %d deliveries for a deleted webhook", len(got))
	}
}

// There is one webhook for operations at the most, whoever makes it.
func webhookOneForOperations(t *T) {
	p := t.start()
	const n = 6
	errs := make([]error, n)
	var fs []func()
	for i := range n {
		fs = append(fs, func() {
			_, errs[i] = p.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Operations: true, Active: true, URL: "https://o.example/"}})
		})
	}
	parallel(fs...)
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		t.is(err, engine.ErrRevision, "a second webhook for operations")
	}
	if made != 1 || len(p.Webhooks().All()) != 1 {
		t.Errorf("%d were made, and there are %d", made, len(p.Webhooks().All()))
	}
	p = p.restart()
	_, err := p.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Operations: true}})
	t.is(err, engine.ErrRevision, "a second webhook for operations, after a restart")
	p.change(engine.WebhookChange{Webhook: *p.Webhooks().Operations(), Deleted: true})
	p.hook(operations)
}

// A set of webhooks stays what it was when it was asked for.
func webhookSetIsImmutable(t *T) {
	p := t.start()
	w := p.hook()
	set := p.Webhooks()
	before := t.stored(set.Get(w.ID))
	changed := w
	changed.Name = "other"
	changed = p.change(engine.WebhookChange{Webhook: changed, Cancels: cancelAll(w)}).Webhook
	p.hook()
	p.change(engine.WebhookChange{Webhook: changed, Deleted: true})
	if got := t.stored(set.Get(w.ID)); got != before || len(set.All()) != 1 || len(set.Cancellations(w.ID)) > 0 {
		t.Errorf("the set from before has %d webhooks, and the first is\n%s\nwant\n%s", len(set.All()), got, before)
	}
}

// The events that come after a change are decided on by it.
func webhookDecidesAtOnce(t *T) {
	p := t.start()
	w := p.hook(inactive)
	for i := range 6 {
		w.Active = i%2 == 0
		w = p.change(engine.WebhookChange{Webhook: w}).Webhook
		want := (i + 1) % 2
		got := p.visit(visit{})
		if len(got) != want || want == 1 && got[0].WebhookRevision != w.Revision {
			t.Errorf("with the webhook active: %t, a session has led to %+v", w.Active, got)
		}
	}
}

var _ TB = (*testing.T)(nil)
