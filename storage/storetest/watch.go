package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"hookbolt/engine"
)

var watchRules = []Rule{
	{Name: "watch/reports soon", check: watchReportsSoon},
	{Name: "watch/owns all if it is alone", check: watchOwnsAll},
	{Name: "watch/one call at a time", check: watchCallsOneAtATime},
	{Name: "watch/returns nil when its context ends", check: watchEnds},
	{Name: "watch/can be called again", check: watchAgain},
	{Name: "watch/mine", check: watchMine},
}

// The first news come although there is nothing to own.
func watchReportsSoon(t *T) {
	t.start()
}

// A process that is alone owns the lanes of all webhooks that are stored, and is the keeper.
func watchOwnsAll(t *T) {
	p := t.start()
	w, off, ops := p.hook(), p.hook(inactive), p.hook(operations)
	gone := p.hook()
	p.change(engine.WebhookChange{Webhook: gone, Deleted: true})
	p = p.restart()
	t.await("it is the keeper", p.isKeeper)
	for _, w := range []engine.Webhook{w, off, ops} {
		t.await("the owner is told of all webhooks", func() bool { return p.owns(w.ID) })
	}
	if p.owns(gone.ID) {
		t.Errorf("it owns the lanes of a deleted webhook")
	}
}

// watching is a Watch of a rule's own.
type watching struct {
	stop  context.CancelFunc
	calls atomic.Int32
	first chan struct{}
	ended chan error
}

// watch begins a Watch. The first call of f does not return before hold is closed.
func (t *T) watch(s Store, hold <-chan struct{}) *watching {
	w := &watching{first: make(chan struct{}), ended: make(chan error, 1)}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	var inside atomic.Int32
	go func() {
		w.ended <- s.Watch(ctx, func(engine.News) {
			if inside.Add(1) > 1 {
				t.Errorf("Watch has called while another call was under way")
			}
			if w.calls.Add(1) == 1 {
				close(w.first)
			}
			<-hold
			inside.Add(-1)
		})
	}()
	return w
}

// end ends a Watch, which returns nil.
func (t *T) end(w *watching) {
	t.Helper()
	w.stop()
	select {
	case err := <-w.ended:
		if err != nil {
			t.Errorf("Watch has returned %v, want nil", err)
		}
	case <-time.After(t.backend.Patience):
		t.Fatalf("Watch does not return although its context has ended")
	}
}

// come waits until something comes.
func (t *T) come(c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(t.backend.Patience):
		t.Fatalf("in vain: %s", what)
	}
}

// opened opens a store without a Watch.
func (t *T) opened() Store {
	t.Helper()
	s, err := t.open()
	t.ok(err, "open")
	t.Cleanup(func() { s.Close() })
	return s
}

// While a call of f is under way there is no other one, whatever happens.
func watchCallsOneAtATime(t *T) {
	s := t.opened()
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	w := t.watch(s, hold)
	t.come(w.first, "the first news")
	done := make(chan struct{})
	t.Cleanup(func() {
		release()
		<-done
	})
	go func() {
		defer close(done)
		for range 20 { // what may be news
			if _, err := s.AppendEvents(context.Background(), engine.NewAppend(visit{}.events(t), now())); err != nil {
				t.Errorf("AppendEvents: %v", err)
				return
			}
			if _, err := s.Stats(context.Background(), now(), true); err != nil {
				t.Errorf("Stats: %v", err)
				return
			}
		}
	}()
	t.come(done, "events are taken in while news are looked at")
	release()
	t.end(w)
}

// Whether its context ends before, while or after it reports, Watch returns nil.
func watchEnds(t *T) {
	s := t.opened()
	none := make(chan struct{})
	close(none)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Watch(ctx, func(engine.News) {}); err != nil {
			t.Errorf("with an ended context Watch has returned %v, want nil", err)
		}
	}()
	t.come(ended, "Watch with an ended context returns")
	w := t.watch(s, none)
	t.come(w.first, "the first news")
	t.end(w)
}

// After a Watch has ended there can be another one, which reports all again.
func watchAgain(t *T) {
	p := t.start()
	w := p.hook()
	p.stop()
	if err := <-p.ended; err != nil {
		t.Errorf("Watch has returned %v, want nil", err)
	}
	again := &process{Store: p.Store, t: t, first: make(chan struct{}), own: make(map[uint32]engine.Owned)}
	ctx, stop := context.WithCancel(context.Background())
	go func() { p.ended <- p.Watch(ctx, again.hear) }()
	p.stop = stop
	t.come(again.first, "the first news of a second Watch")
	t.await("the second Watch reports what is owned", func() bool { return again.owns(w.ID) })
	t.await("an attempt may begin", func() bool { return p.Mine(w.ID) })
}

// An attempt may begin for a webhook that is owned, and for none when the store is closed.
func watchMine(t *T) {
	p := t.start()
	w := p.hook()
	for range 100 {
		if !p.Mine(w.ID) {
			t.Fatalf("no attempt may begin for a webhook that is owned")
		}
	}
	p.close()
	if p.Mine(w.ID) {
		t.Errorf("an attempt may begin although the store is closed")
	}
}
