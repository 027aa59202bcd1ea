package storetest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/storage/storetest"
)

// shared is a backend whose databases several processes share.
var shared = storetest.Backend{Shared: true, New: func(tb storetest.TB) storetest.Opener {
	f := &fleet{open: correct.New(tb), owner: make(map[uint32]*member), claims: make(map[uuid.UUID]*member)}
	return f.join
}}

// fleet stands for a database that several processes share: all use one store, and each webhook's lanes belong to one of them.
type fleet struct {
	open storetest.Opener

	mu      sync.Mutex
	store   storetest.Store // nil while no member is there
	members []*member       // in the order of their coming
	owner   map[uint32]*member
	claims  map[uuid.UUID]*member
}

// member is a process of a fleet.
type member struct {
	storetest.Store
	f *fleet

	watching bool          // guarded by f.mu, as all below
	closed   bool          //
	news     []engine.News // not reported yet
	pending  int           // how many news are not acknowledged yet
	wake     chan struct{} // capacity 1; something is there
	acked    chan struct{} // closed and made anew when news were acknowledged
}

func (f *fleet) join() (storetest.Store, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.store == nil {
		s, err := f.open()
		if err != nil {
			return nil, err
		}
		f.store = s
	}
	m := &member{Store: f.store, f: f, wake: make(chan struct{}, 1), acked: make(chan struct{})}
	f.members = append(f.members, m)
	return m, nil
}

// Close ends a process: its claims have ended, and its lanes go to others.
func (m *member) Close() error {
	f := m.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	f.members = slices.DeleteFunc(f.members, func(o *member) bool { return o == m })
	for id, holder := range f.claims {
		if holder == m {
			f.endLocked(id)
		}
	}
	f.leaveLocked(m)
	if len(f.members) > 0 {
		return nil
	}
	s := f.store
	f.store = nil
	return s.Close()
}

// endLocked ends a claim.
func (f *fleet) endLocked(id uuid.UUID) {
	delete(f.claims, id)
	if f.store == nil {
		return
	}
	f.store.Release(context.Background(), []engine.Delivery{{ID: id}})
}

// leaveLocked takes the lanes of a member away.
func (f *fleet) leaveLocked(m *member) {
	m.watching = false
	maps.DeleteFunc(f.owner, func(_ uint32, o *member) bool { return o == m })
	f.assignLocked()
}

// assignLocked gives the lanes that nobody owns to those who watch, and tells who the keeper is.
func (f *fleet) assignLocked() {
	var watching []*member
	for _, m := range f.members {
		if m.watching {
			watching = append(watching, m)
		}
	}
	if len(watching) == 0 {
		return
	}
	stats, err := f.store.Stats(context.Background(), time.Now(), false)
	if err != nil {
		return
	}
	own := make(map[*member]map[uint32]engine.Owned)
	for _, w := range f.store.Webhooks().All() {
		if f.owner[w.ID] != nil {
			continue
		}
		m := watching[int(w.ID)%len(watching)]
		f.owner[w.ID] = m
		if own[m] == nil {
			own[m] = make(map[uint32]engine.Owned)
		}
		h := stats.Health[w.ID]
		h.Order = 0
		own[m][w.ID] = engine.Owned{Health: h, Webhook: w}
	}
	for _, m := range watching {
		if m == watching[0] || own[m] != nil {
			m.tellLocked(engine.News{Own: own[m]})
		}
	}
}

// tellLocked reports news.
func (m *member) tellLocked(n engine.News) {
	m.news = append(m.news, n)
	m.pending++
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// othersLocked reports news to all others who watch.
func (m *member) othersLocked(n engine.News) {
	for _, o := range m.f.members {
		if o != m && o.watching {
			o.tellLocked(n)
		}
	}
}

// tell reports what a member has done to the owners.
func (m *member) tell(webhooks []uint32, queued []engine.Queued, ended []engine.Delivery) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if len(webhooks)+len(queued)+len(ended) > 0 {
		m.othersLocked(engine.News{Webhooks: webhooks, Queued: queued, Ended: ended})
	}
}

func (m *member) Watch(ctx context.Context, report func(engine.News)) error {
	f := m.f
	f.mu.Lock()
	if m.closed {
		f.mu.Unlock()
		return fmt.Errorf("%w: closed", engine.ErrUnavailable)
	}
	m.watching = true
	m.news, m.pending = nil, 0
	m.tellLocked(engine.News{}) // soon, even if nothing is owned
	f.assignLocked()
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !m.closed {
			f.leaveLocked(m)
		}
	}()
	stop := func() {}
	defer func() { stop() }() // before the lanes go to others
	fanningOut := false
	for ctx.Err() == nil {
		f.mu.Lock()
		news := m.news
		m.news = nil
		keeper := f.keeperLocked() == m
		f.mu.Unlock()
		if keeper && !fanningOut {
			fanningOut = true
			stop = m.fanOut(ctx)
		}
		for _, n := range news {
			n.Keeper = keeper
			report(n)
		}
		f.mu.Lock()
		m.pending -= len(news)
		close(m.acked)
		m.acked = make(chan struct{})
		more := len(m.news) > 0
		f.mu.Unlock()
		if more {
			continue
		}
		select {
		case <-m.wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// fanOut has the store make the deliveries of fan-outs, and reports them to all who watch. stop ends it.
func (m *member) fanOut(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.Store.Watch(ctx, func(n engine.News) {
			m.f.mu.Lock()
			defer m.f.mu.Unlock()
			if len(n.Queued) > 0 {
				m.othersLocked(engine.News{Queued: n.Queued})
				m.tellLocked(engine.News{Queued: n.Queued})
			}
		})
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (f *fleet) keeperLocked() *member {
	for _, m := range f.members {
		if m.watching {
			return m
		}
	}
	return nil
}

func (m *member) Mine(id uint32) bool {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	return !m.closed && m.f.owner[id] == m && m.Store.Mine(id)
}

// use tells whether a member may be used.
func (m *member) use() error {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if m.closed {
		return fmt.Errorf("%w: closed", engine.ErrUnavailable)
	}
	return nil
}

// take notes claims. Those of a member that was closed meanwhile have ended.
func (m *member) take(claimed []engine.Claimed) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	for _, c := range claimed {
		m.f.claims[c.Delivery.ID] = m
		if m.closed {
			m.f.endLocked(c.Delivery.ID)
		}
	}
}

// holds tells whether a claim is the member's.
func (m *member) holds(id uuid.UUID) error {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	switch holder := m.f.claims[id]; {
	case m.closed:
		return fmt.Errorf("%w: closed", engine.ErrUnavailable)
	case holder != nil && holder != m:
		return engine.ErrLost
	}
	return nil
}

// over notes the end of a claim.
func (m *member) over(id uuid.UUID) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	delete(m.f.claims, id)
}
