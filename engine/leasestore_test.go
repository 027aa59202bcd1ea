package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// leaseStore stands for a store that several processes share: it takes lanes away from the engine and gives them back, loses the lease of
// all, and fails for moments. What it gives out it gives out for as long as the lease lasts: a claim from before a loss is refused.
type leaseStore struct {
	engine.Store

	mu      sync.RWMutex // held for reading by each call that needs a claim
	lease   *lease       // nil before the first Watch, and after a loss until the next one
	yielded map[uint32]bool
	resume  chan struct{} // the next Watch waits until it is closed; nil for no wait
	broken  map[string]bool
	calls   map[string]int

	booked sync.Mutex // guards claims where mu is not held for writing
	claims map[uuid.UUID]engine.Delivery
}

// lease is one Watch.
type lease struct {
	news chan leaseNews
	lost chan struct{}
}

type leaseNews struct {
	engine.News
	applied chan struct{} // closed when the engine has acknowledged them
}

func newLeaseStore(s engine.Store) *leaseStore {
	return &leaseStore{Store: s, yielded: make(map[uint32]bool), claims: make(map[uuid.UUID]engine.Delivery), broken: make(map[string]bool), calls: make(map[string]int)}
}

var errBlink = fmt.Errorf("%w: the connection is lost", engine.ErrTransient)

// breaks has methods fail for a moment, until they are mended.
func (s *leaseStore) breaks(fails bool, methods ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range methods {
		s.broken[m] = fails
	}
}

func (s *leaseStore) called(method string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.calls[method]
}

// call makes a call of a method that may be broken, and may be one of an owner only.
func (s *leaseStore) call(method string, of *engine.Delivery, f func() error) error {
	s.mu.Lock()
	s.calls[method]++
	broken := s.broken[method]
	s.mu.Unlock()
	if broken {
		return errBlink
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if of != nil {
		s.booked.Lock()
		_, held := s.claims[of.ID]
		s.booked.Unlock()
		if !held {
			return engine.ErrLost
		}
	}
	return f()
}

func (s *leaseStore) Watch(ctx context.Context, f func(engine.News)) error {
	s.mu.Lock()
	wait := s.resume
	s.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil
		}
	}
	l := &lease{news: make(chan leaseNews), lost: make(chan struct{})}
	s.mu.Lock()
	s.lease = l
	clear(s.yielded)
	s.mu.Unlock()
	inner, stop := context.WithCancel(ctx)
	defer stop()
	first, ended := make(chan struct{}), make(chan error, 1)
	begun := sync.OnceFunc(func() { close(first) })
	go func() {
		ended <- s.Store.Watch(inner, func(n engine.News) { // more than once: of fan-outs, too
			f(n)
			begun()
		})
	}()
	select {
	case <-first:
	case err := <-ended:
		return err
	}
	for {
		select {
		case n := <-l.news:
			f(n.News)
			close(n.applied)
		case <-l.lost:
			return engine.ErrLost
		case err := <-ended:
			return err
		}
	}
}

func (s *leaseStore) Mine(id uint32) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lease != nil && !s.yielded[id] && s.Store.Mine(id)
}

// tell gives the engine news, and returns when it has acknowledged them.
func (s *leaseStore) tell(n engine.News) {
	s.mu.RLock()
	l := s.lease
	s.mu.RUnlock()
	n.Keeper = true
	news := leaseNews{n, make(chan struct{})}
	l.news <- news
	<-news.applied
}

// yield takes the lanes of a webhook away.
func (s *leaseStore) yield(id uint32) {
	s.mu.Lock()
	s.yielded[id] = true
	s.mu.Unlock()
	s.tell(engine.News{Yield: []uint32{id}})
}

// own gives the lanes of a webhook, with the health that is stored.
func (s *leaseStore) own(id uint32) error {
	stats, err := s.Store.Stats(context.Background(), time.Now(), false)
	if err != nil {
		return err
	}
	h := stats.Health[id]
	h.Order = 0
	s.mu.Lock()
	delete(s.yielded, id)
	s.mu.Unlock()
	s.tell(engine.News{Own: map[uint32]engine.Owned{id: {Health: h, Webhook: s.Webhooks().Get(id)}}})
	return nil
}

// lose ends the lease: all claims have ended. The next Watch waits until the function is called that it returns.
func (s *leaseStore) lose() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, wait := s.lease, make(chan struct{})
	s.lease, s.resume = nil, wait
	for d := range maps.Values(s.claims) {
		s.Store.Release(context.Background(), []engine.Delivery{d})
	}
	clear(s.claims)
	close(l.lost)
	return sync.OnceFunc(func() { close(wait) })
}

func (s *leaseStore) held(of engine.Lane) (n int) {
	s.booked.Lock()
	defer s.booked.Unlock()
	for _, d := range s.claims {
		if d.Lane() == of {
			n++
		}
	}
	return n
}

func (s *leaseStore) AppendEvents(ctx context.Context, a engine.Append) (done engine.Appended, err error) {
	err = s.call("AppendEvents", nil, func() error {
		open := make(map[uint32]bool)
		for id := range a.Open {
			open[id] = s.lease != nil && !s.yielded[id]
		}
		a.Open = open
		done, err = s.Store.AppendEvents(ctx, a)
		return err
	})
	s.claimed(done.Claimed)
	return done, err
}

// claimed takes note of claims. Those that a loss has overtaken were of nobody: they are given back.
func (s *leaseStore) claimed(claimed []engine.Claimed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range claimed {
		d := claimed[i].Delivery
		if s.lease == nil {
			s.Store.Release(context.Background(), []engine.Delivery{d})
			continue
		}
		s.claims[d.ID] = d
	}
}

func (s *leaseStore) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	results := make([]engine.ClaimResult, len(requests))
	err := s.call("ClaimDue", nil, func() error {
		if s.lease == nil {
			return engine.ErrLost
		}
		var mine []engine.ClaimRequest
		var places []int
		for i, r := range requests {
			if !s.yielded[r.Lane.WebhookID] {
				mine, places = append(mine, r), append(places, i)
			}
		}
		got, err := s.Store.ClaimDue(ctx, now, mine)
		for i := range got {
			results[places[i]] = got[i]
		}
		return err
	})
	for i := range results {
		s.claimed(results[i].Claimed)
	}
	return results, err
}

// over takes note of the end of a claim. The caller holds mu for reading.
func (s *leaseStore) over(d *engine.Delivery) {
	s.booked.Lock()
	defer s.booked.Unlock()
	delete(s.claims, d.ID)
}

func (s *leaseStore) Freeze(ctx context.Context, f engine.Freeze) (done engine.Frozen, err error) {
	err = s.call("Freeze", &f.Delivery, func() error {
		done, err = s.Store.Freeze(ctx, f)
		if err == nil && f.Payload == nil || errors.Is(err, engine.ErrNotSendable) {
			s.over(&f.Delivery)
		}
		return err
	})
	return done, err
}

func (s *leaseStore) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (done engine.Recorded, err error) {
	err = s.call("RecordAttempt", &r.Delivery, func() error {
		done, err = s.Store.RecordAttempt(ctx, r)
		if err == nil || errors.Is(err, engine.ErrNotSendable) {
			s.over(&r.Delivery)
		}
		return err
	})
	return done, err
}

func (s *leaseStore) Release(ctx context.Context, claimed []engine.Delivery) error {
	for i := range claimed {
		err := s.call("Release", &claimed[i], func() error {
			s.over(&claimed[i]) // first: once it is released, it may be claimed again
			return s.Store.Release(ctx, claimed[i:i+1])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *leaseStore) Maintain(ctx context.Context, now time.Time, r engine.Retention) (m engine.Maintained, err error) {
	err = s.call("Maintain", nil, func() error {
		m, err = s.Store.Maintain(ctx, now, r)
		return err
	})
	return m, err
}
