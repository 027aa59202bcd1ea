package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"hookbolt/engine"
)

// T is a rule under way, on a database of its own.
type T struct {
	TB
	backend Backend
	open    Opener
}

// process is a store that is open, with a Watch on its way.
type process struct {
	Store
	t     *T
	stop  context.CancelFunc
	first chan struct{} // closed by the first news
	ended chan error    // capacity 1; the end of Watch
	once  sync.Once

	mu   sync.Mutex
	own  map[uint32]engine.Owned // guarded by mu
	news []engine.News           // guarded by mu
}

// start opens a store and returns when it has reported what it owns.
func (t *T) start() *process {
	t.Helper()
	s, err := t.open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	p := &process{Store: s, t: t, first: make(chan struct{}), ended: make(chan error, 1), own: make(map[uint32]engine.Owned)}
	t.Cleanup(p.close)
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	go func() { p.ended <- s.Watch(ctx, p.hear) }()
	select {
	case <-p.first:
	case err := <-p.ended:
		p.ended <- err
		t.Fatalf("Watch has ended before its first news: %v", err)
	case <-time.After(t.backend.Patience):
		t.Fatalf("Watch has reported nothing")
	}
	return p
}

// hear takes news.
func (p *process) hear(n engine.News) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(p.own, n.Own)
	for _, id := range n.Yield {
		delete(p.own, id)
	}
	p.news = append(p.news, n)
	if len(p.news) == 1 {
		close(p.first)
	}
}

// heard tells whether news were reported for which is says yes.
func (p *process) heard(is func(n engine.News) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.news, is)
}

// owns tells whether it was reported that the process owns the lanes of a webhook.
func (p *process) owns(id uint32) bool {
	return p.heard(func(n engine.News) bool {
		_, ok := n.Own[id]
		return ok
	})
}

// isKeeper tells whether the last news made the process the keeper.
func (p *process) isKeeper() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.news[len(p.news)-1].Keeper
}

// close ends the process.
func (p *process) close() {
	p.once.Do(func() {
		p.stop()
		select {
		case err := <-p.ended:
			if err != nil && !errors.Is(err, engine.ErrUnavailable) {
				p.t.Errorf("Watch has ended with %v", err)
			}
		case <-time.After(p.t.backend.Patience):
			p.t.Errorf("Watch goes on although its context has ended")
		}
		if err := p.Close(); err != nil {
			p.t.Errorf("close: %v", err)
		}
	})
}

// restart closes the process and starts the next one, which owns all that this one owned.
func (p *process) restart() *process {
	p.t.Helper()
	p.close()
	next := p.t.start()
	for _, w := range next.Webhooks().All() {
		p.t.await("the lanes of a webhook are owned", func() bool { return next.Mine(w.ID) })
	}
	return next
}

// await waits until something has come about that a store does by itself, if need be.
func (t *T) await(what string, is func() bool) {
	t.Helper()
	end := time.After(t.backend.Patience)
	for !is() {
		select {
		case <-end:
			t.Fatalf("in vain: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// ok ends the rule if there was an error.
func (t *T) ok(err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// is reports an error that is not the one that is promised.
func (t *T) is(err, want error, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got the error %v, want %v", what, err, want)
	}
}

// parallel runs functions at once and waits for them.
func parallel(fs ...func()) {
	var wg sync.WaitGroup
	for _, f := range fs {
		wg.Go(f)
	}
	wg.Wait()
}

// now is the time as it is stored.
func now() time.Time { return time.Now().UTC().Round(0) }
