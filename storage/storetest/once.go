package storetest

import (
	"context"
	"errors"
	"reflect"
	"time"

	"hookbolt/engine"
)

var onceRules = []Rule{
	{Name: "once/kept with the effect", check: onceIsKept},
	{Name: "once/a repeated change", check: onceRepeated},
	{Name: "once/one of many at once", check: onceRace},
	{Name: "once/a failed change", check: onceFailed},
	{Name: "once/a dry run", check: onceDryRun},
	{Name: "once/for a day", check: onceForgotten},
	{Name: "once/without Maintain", check: onceOutlived},
}

// once is a request with a key, which came at a time.
func once(key byte, at time.Time) *engine.Once {
	return &engine.Once{Key: engine.OnceKey{key, 31: key}, Request: []byte{key, 7}, At: at}
}

// keyed is a change that is made for a request with a key, and what it is said to have done then.
type keyed struct {
	name string
	do   func(ctx context.Context, s Store, o *engine.Once) (engine.Done, error)
}

// keyedChanges are one of each change that may be made for a request with a key. w is a webhook with a failed delivery.
func keyedChanges(w engine.Webhook) []keyed {
	return []keyed{
		{"PutWebhook, new", func(ctx context.Context, s Store, o *engine.Once) (engine.Done, error) {
			done, err := s.PutWebhook(ctx, engine.WebhookChange{Webhook: engine.Webhook{URL: "https://n.example/", Name: "new"}, Once: o})
			return engine.Done{WebhookID: done.Webhook.ID}, err
		}},
		{"PutWebhook, changed", func(ctx context.Context, s Store, o *engine.Once) (engine.Done, error) {
			c := *s.Webhooks().Get(w.ID)
			c.Delay++
			_, err := s.PutWebhook(ctx, engine.WebhookChange{Webhook: c, Once: o})
			return engine.Done{WebhookID: w.ID}, err
		}},
		{"Enqueue", func(ctx context.Context, s Store, o *engine.Once) (engine.Done, error) {
			d, err := s.Enqueue(ctx, engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: now(), Once: o})
			return engine.Done{DeliveryID: d.ID}, err
		}},
		{"Replay", func(ctx context.Context, s Store, o *engine.Once) (engine.Done, error) {
			r := engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed, Until: w.CreatedAt.Add(time.Hour), Once: o}
			n, err := s.Replay(ctx, r)
			r.Count, r.Once = n, nil
			return engine.Done{WebhookID: w.ID, Replay: &r}, err
		}},
		{"Replay, of nothing", func(ctx context.Context, s Store, o *engine.Once) (engine.Done, error) {
			r := engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed, Until: time.Unix(1, 0).UTC(), Once: o}
			n, err := s.Replay(ctx, r)
			r.Count, r.Once = n, nil
			return engine.Done{WebhookID: w.ID, Replay: &r}, err
		}},
	}
}

// keyedHook is a webhook with a failed delivery.
func (p *process) keyedHook() engine.Webhook {
	p.t.Helper()
	w := p.hook(func(w *engine.Webhook) { w.CreatedAt = now() })
	p.finished(w, visit{}, engine.StatusFailed)
	return w
}

// effects counts what the changes of keyedChanges lead to.
func (p *process) effects(w engine.Webhook) [4]int {
	p.t.Helper()
	s, err := p.Stats(p.t.Context(), now(), false)
	p.t.ok(err, "Stats")
	return [4]int{len(p.Webhooks().All()), int(p.Webhooks().Get(w.ID).Delay), len(p.pages(engine.DeliveryQuery{WebhookID: w.ID}, 100)), len(s.Replays)}
}

// wantDone checks what is remembered of a request.
func (p *process) wantDone(o *engine.Once, want engine.Done, what string) {
	p.t.Helper()
	want.Request, want.At = o.Request, o.At
	if got, err := p.Done(p.t.Context(), o.Key); err != nil || !reflect.DeepEqual(got, want) {
		p.t.Errorf("%s: remembered is %+v, %v; want %+v", what, got, err, want)
	}
}

// forgotten checks that nothing is remembered of a request.
func (p *process) forgotten(o *engine.Once, what string) {
	p.t.Helper()
	if _, err := p.Done(p.t.Context(), o.Key); !errors.Is(err, engine.ErrNotFound) {
		p.t.Errorf("%s: Done returns %v, want ErrNotFound", what, err)
	}
}

// What a request has done is known with the change, and after a restart, and also when what it has made is gone.
func onceIsKept(t *T) {
	p := t.start()
	w := p.keyedHook()
	at := now()
	var all []engine.Done
	for i, c := range keyedChanges(w) {
		p.forgotten(once(byte(i), at), c.name+", before")
		done, err := c.do(t.Context(), p, once(byte(i), at))
		t.ok(err, c.name)
		all = append(all, done)
	}
	for _, what := range []string{"at once", "after a restart", "after the webhook's end"} {
		for i, done := range all {
			p.wantDone(once(byte(i), at), done, what)
		}
		if what == "after a restart" {
			p.change(engine.WebhookChange{Webhook: *p.Webhooks().Get(all[0].WebhookID), Deleted: true})
		}
		p = p.restart()
	}
}

// A second change with the key changes nothing, before and after a restart; one with another key does.
func onceRepeated(t *T) {
	for i := range keyedChanges(engine.Webhook{}) {
		p := t.start()
		w := p.keyedHook()
		c := keyedChanges(w)[i]
		at, first := now(), byte(2*i+1)
		done, err := c.do(t.Context(), p, once(first, at))
		t.ok(err, c.name)
		after := p.effects(w)
		for range 2 {
			_, err := c.do(t.Context(), p, once(first, at.Add(engine.OnceRetention-1)))
			t.is(err, engine.ErrRepeated, c.name+", repeated")
			t.is(err, engine.ErrConflict, c.name+", repeated")
			if got := p.effects(w); got != after {
				t.Errorf("%s, repeated: there are %v webhooks, changes, deliveries and replays; want %v", c.name, got, after)
			}
			p.wantDone(once(first, at), done, c.name+", repeated")
			p = p.restart()
		}
		_, err = c.do(t.Context(), p, once(first+1, at))
		t.ok(err, c.name+", with another key")
		if got := p.effects(w); (got == after) != (c.name == "Replay, of nothing") {
			t.Errorf("%s, with another key: there are %v webhooks, changes, deliveries and replays; there were %v", c.name, got, after)
		}
		p.close()
	}
}

// Of many changes with one key at once, one is made.
func onceRace(t *T) {
	p := t.start()
	w := p.keyedHook()
	before := p.effects(w)
	const n = 8
	var errs [n]error
	var fs []func()
	c := keyedChanges(w)[2]
	for i := range n {
		fs = append(fs, func() { _, errs[i] = c.do(t.Context(), p, once(1, now())) })
	}
	parallel(fs...)
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		t.is(err, engine.ErrRepeated, "a change that came second")
	}
	if got := p.effects(w); made != 1 || got[2] != before[2]+1 {
		t.Errorf("%d changes were made, and there are %d deliveries after %d", made, got[2], before[2])
	}
}

// A change that fails is not remembered: it may be sent again.
func onceFailed(t *T) {
	p := t.start()
	w := p.keyedHook()
	stale := w
	w.Delay++
	w = p.change(engine.WebhookChange{Webhook: w}).Webhook
	o := once(1, now())
	_, err := p.PutWebhook(t.Context(), engine.WebhookChange{Webhook: stale, Once: o})
	t.is(err, engine.ErrRevision, "a stale change")
	p.forgotten(o, "after a stale change")
	_, err = p.Enqueue(t.Context(), engine.Enqueue{WebhookID: 4711, Kind: engine.KindTest, Payload: []byte(`{}`), At: now(), Once: o})
	t.is(err, engine.ErrNotFound, "Enqueue for a webhook that is not there")
	p.forgotten(o, "after a refused Enqueue")
	_, err = p.Replay(t.Context(), engine.Replay{WebhookID: 4711, Scope: engine.ReplayAny, Until: now(), Once: o})
	t.is(err, engine.ErrNotFound, "Replay of a webhook that is not there")
	p.forgotten(o, "after a refused Replay")
	done, err := keyedChanges(w)[0].do(t.Context(), p, o)
	t.ok(err, "the next change with the key")
	p.wantDone(o, done, "after a change that was made")
}

// A dry run has no effect, so the key is free.
func onceDryRun(t *T) {
	p := t.start()
	w := p.keyedHook()
	for range 2 {
		n, err := p.Replay(t.Context(), engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed, Until: now(), DryRun: true, Once: once(1, now())})
		t.ok(err, "a dry run")
		if n != 1 {
			t.Errorf("it counts %d, want 1", n)
		}
		p.forgotten(once(1, now()), "after a dry run")
	}
}

// Requests are forgotten after a day, each for itself, and not before.
func onceForgotten(t *T) {
	p := t.start()
	w := p.hook()
	at := now()
	const n = 5
	for i := range n {
		_, err := p.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: at, Once: once(byte(i), at.Add(time.Duration(i)*time.Hour))})
		t.ok(err, "Enqueue")
	}
	for i := range n + 1 {
		m := p.maintain(at.Add(engine.OnceRetention+time.Duration(i)*time.Hour-1), forever)
		for j := range n {
			_, err := p.Done(t.Context(), once(byte(j), at).Key)
			if found := err == nil; found != (j >= i) {
				t.Errorf("after a day and %d hours, less a moment, the request of hour %d: %v", i, j, err)
			}
		}
		if left := n - i; left > 0 && m.Next.After(at.Add(engine.OnceRetention+time.Duration(i)*time.Hour)) {
			t.Errorf("the next step is at %s, and a request is over at %s", m.Next, at.Add(engine.OnceRetention+time.Duration(i)*time.Hour))
		}
	}
}

// A request that is over gives way to another one with its key, whether it was removed or not.
func onceOutlived(t *T) {
	p := t.start()
	w := p.keyedHook()
	at := now()
	for _, c := range keyedChanges(w)[:3] {
		_, err := c.do(t.Context(), p, once(1, at))
		t.ok(err, c.name)
		at = at.Add(engine.OnceRetention)
		next := once(1, at)
		next.Request = []byte("another one")
		done, err := c.do(t.Context(), p, next)
		t.ok(err, c.name+", a day later")
		p.wantDone(next, done, c.name+", a day later")
		// What is left of the first one does not remove the second one.
		p.maintain(at.Add(time.Hour), forever)
		p.wantDone(next, done, c.name+", an hour after that")
		at = at.Add(engine.OnceRetention)
		p.maintain(at, forever)
	}
}
