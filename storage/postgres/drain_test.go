package postgres

import (
	"errors"
	"slices"
	"testing"
	"time"

	"hookbolt/engine"
)

// A process that drains by hand gives all its lanes away, and says so; when it is called back it gets lanes again.
func TestDrainByHand(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		a, b, w := all[0], all[1], hooks[0][0]
		state := func(n *node) engine.Drain {
			t.Helper()
			d, err := n.DrainState(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		mine, total := len(hooks[0]), len(hooks[0])+len(hooks[1])
		if d := state(a); d.On || d.Lanes != mine || d.Free != 0 || d.Others != 1 {
			t.Errorf("before: %+v", d)
		}
		queueTest(t, a.Store, w, benchNow())
		d := claimIn(t, a.Store, testsOf(w), 1).Claimed[0].Delivery
		if d, err := a.DrainByHand(t.Context()); err != nil || !d.On || d.Lanes != mine {
			t.Errorf("%+v, %v", d, err)
		}
		time.Sleep(2 * time.Second)
		if d := state(a); d.Lanes != 1 || a.Ready(t.Context()) == nil {
			t.Errorf("with a claim in one lane: %+v", d)
		}
		if err := a.Release(t.Context(), []engine.Delivery{d}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if d := state(a); d != (engine.Drain{On: true, Others: 1}) {
			t.Errorf("in the end: %+v", d)
		}
		if d := state(b); d.Lanes != total || !d.Keeper || d.Others != 0 {
			t.Errorf("the other one: %+v", d)
		}
		// Nobody is left for the other one to give its lanes to.
		if _, err := b.DrainByHand(t.Context()); !errors.Is(err, engine.ErrConflict) || b.Ready(t.Context()) != nil {
			t.Errorf("the last one drains: %v", err)
		}
		if d, err := a.BackFromDrain(t.Context()); err != nil || d.On || a.Ready(t.Context()) != nil {
			t.Errorf("%+v, %v", d, err)
		}
		time.Sleep(2 * time.Second)
		if d := state(a); d.Lanes != mine || d.Free != 0 {
			t.Errorf("afterwards: %+v", d)
		}
	})
}

// A process that drains by hand takes over from the last one that does not: deliveries go on. The end of a process cannot be called back.
func TestDrainedProcessIsTheLast(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := slices.Concat(hooksOf(t, all)...)
		a, b := all[0], all[1]
		if _, err := a.DrainByHand(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		b.line.cut()
		time.Sleep(15 * time.Second)
		for _, w := range hooks {
			if !a.Mine(w.ID) {
				t.Errorf("webhook %d has no owner", w.ID)
			}
		}
		if err := a.Ready(t.Context()); err != nil {
			t.Errorf("the only one is not ready: %v", err)
		}
		if d, err := a.DrainByHand(t.Context()); !errors.Is(err, engine.ErrConflict) || !d.On {
			t.Errorf("the only one is told once more: %+v, %v", d, err)
		}
		b.line.mend()
		for b.Current(t.Context()) != nil {
			time.Sleep(time.Second)
		}
		<-b.ended
		b.watch()
		time.Sleep(15 * time.Second)
		if d, err := a.DrainState(t.Context()); err != nil || d != (engine.Drain{On: true, Others: 1}) {
			t.Errorf("the other one is back: %+v, %v", d, err)
		}
		a.Drain()
		if d, err := a.BackFromDrain(t.Context()); err != nil || !d.On {
			t.Errorf("a process that is about to end takes lanes: %+v, %v", d, err)
		}
	})
}

// Two that drain at the same moment, because each saw the other one: what they gave up is taken all the same.
func TestDrainTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := slices.Concat(hooksOf(t, all)...)
		for _, n := range all {
			if _, err := n.DrainByHand(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		for _, w := range hooks {
			if !all[0].Mine(w.ID) && !all[1].Mine(w.ID) {
				t.Errorf("webhook %d has no owner", w.ID)
			}
		}
	})
}

// A process that has its database for itself has nobody to give its lanes to.
func TestDrainAlone(t *testing.T) {
	s := openTest(t)
	if _, err := s.DrainByHand(t.Context()); !errors.Is(err, engine.ErrConflict) || s.Ready(t.Context()) != nil {
		t.Errorf("%v", err)
	}
	if n := s.Members(); n != 1 {
		t.Errorf("%d processes", n)
	}
}

// A process that is cut off from the database knows that it may not answer from what it has in memory, no later than the change of another process returns.
func TestCurrent(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		a, b, w := all[0], all[1], hooks[0][0]
		if a.Members() != 2 || a.Current(t.Context()) != nil {
			t.Fatalf("%d members, %v", a.Members(), a.Current(t.Context()))
		}
		a.line.cut()
		changed, err := b.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w})
		if err != nil {
			t.Fatal(err)
		}
		w = changed.Webhook
		if a.Webhooks().Get(w.ID).Revision == w.Revision {
			t.Fatal("a process that is cut off knows of the change: the test shows nothing")
		}
		if err := a.Current(t.Context()); !errors.Is(err, engine.ErrTransient) {
			t.Errorf("cut off: %v", err)
		}
		a.line.mend()
		if err := a.Current(t.Context()); err != nil || a.Webhooks().Get(w.ID).Revision != w.Revision {
			t.Errorf("mended: %v, with revision %d, want %d", err, a.Webhooks().Get(w.ID).Revision, w.Revision)
		}
	})
}
