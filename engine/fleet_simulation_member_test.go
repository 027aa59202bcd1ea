package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
	"hookbolt/engine/transform"
	"hookbolt/internal/postgrestest"
	"hookbolt/storage/postgres"
)

// fleetLine is a member's way to the database. It can be cut, also in the moment in which an answer of the server comes: what was asked for has happened
// then, and the member does not know.
type fleetLine struct {
	mu    sync.Mutex
	down  bool
	wires map[*fleetWire]bool
	trap  int    // with the answer that is so many on, the line is cut; 0 for no trap
	onCut func() // called by the trap
}

type fleetWire struct {
	net.Conn
	line *fleetLine
}

func (l *fleetLine) Open(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	config = config.Copy()
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.down {
			conn.Close()
			return nil, fmt.Errorf("the line is down: %w", net.ErrClosed)
		}
		w := &fleetWire{conn, l}
		l.wires[w] = true
		return w, nil
	}
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, fmt.Errorf("the line is down: %w", net.ErrClosed)
	}
	return pgx.ConnectConfig(ctx, config)
}

func (l *fleetLine) Release(conn *pgx.Conn) { conn.Close(context.Background()) }

func (w *fleetWire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.line.springs() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (w *fleetWire) Close() error {
	w.line.mu.Lock()
	delete(w.line.wires, w)
	w.line.mu.Unlock()
	return w.Conn.Close()
}

// springs reports whether an answer is the one that does not come through.
func (l *fleetLine) springs() bool {
	l.mu.Lock()
	if l.trap > 0 {
		l.trap--
	}
	springs := l.onCut != nil && l.trap == 0
	onCut := l.onCut
	if springs {
		l.onCut = nil
	}
	l.mu.Unlock()
	if springs {
		l.cut()
		onCut()
	}
	return springs
}

// cut ends all connections, and lets no new one through until it is mended.
func (l *fleetLine) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for w := range l.wires {
		w.Conn.Close()
	}
	clear(l.wires)
}

// cutAt cuts the line with one of the next answers.
func (l *fleetLine) cutAt(answers int, then func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trap, l.onCut = answers, then
}

func (l *fleetLine) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.onCut, l.trap = false, nil, 0
}

// fleetMember is a process of the fleet: an engine on a store of its own. It stands between the two, and tells the model what was recorded.
type fleetMember struct {
	engine.Store
	s      *fleetSim
	name   string
	line   *fleetLine
	pg     *postgres.Store
	engine *engine.Engine
	stop   context.CancelFunc // ends Run
	ran    chan struct{}      // closed at the end of Run
	killed chan struct{}      // closed when nothing that it does counts any more
	dying  sync.Once
	away   atomic.Bool // it leaves or was killed: nobody asks it any more

	mu       sync.Mutex
	hangs    chan struct{} // closed at the end of a hang; nil for none
	troubles []fleetSpan   // when it was cut off; the last one may have no end yet
	sending  int           // attempts in flight
	idleAt   time.Time     // when the last of them ended
}

// fleetSpan is a time. Without an end it goes on.
type fleetSpan struct{ from, to time.Time }

func (p fleetSpan) meets(from, to time.Time) bool {
	return !p.from.After(to) && (p.to.IsZero() || !p.to.Before(from))
}

// join starts a member.
func (s *fleetSim) join() *fleetMember {
	s.joined++
	m := &fleetMember{s: s, name: fmt.Sprint("m", s.joined), line: &fleetLine{wires: make(map[*fleetWire]bool)}, killed: make(chan struct{}), ran: make(chan struct{})}
	o := postgres.Options{URL: postgrestest.Shared(s.t).URL(), Schema: s.schema, Shared: true, MaxSkew: -1, Connections: m.line}
	if s.faults.options != nil {
		s.faults.options(s.joined, &o)
	}
	var err error
	if m.pg, err = postgres.Open(context.Background(), o); err != nil {
		s.t.Fatalf("seed %d: %v", s.seed, err)
	}
	m.Store = m.pg
	if s.faults.store != nil {
		m.Store = s.faults.store(m.pg)
	}
	cfg := s.cfg
	cfg.Transport = m
	cfg.RunPrograms = func(_ context.Context, j transform.Job) (transform.Result, error) { return transform.Eval(j) }
	m.engine = engine.New(m, cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err := m.engine.EnsureOperations(context.Background()); err != nil {
		s.found(fleetOther, "the webhook for operational events at %s: %v", m.name, err)
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	go func() {
		defer close(m.ran)
		if err := m.engine.Run(ctx); err != nil && !m.isKilled() {
			s.found(fleetOther, "Run of %s: %v", m.name, err)
		}
	}()
	s.mu.Lock()
	s.members = append(s.members, m)
	s.mu.Unlock()
	return m
}

func (m *fleetMember) isKilled() bool {
	select {
	case <-m.killed:
		return true
	default:
		return false
	}
}

// kill ends a member as kill -9 does, with the answer of the database that is so many on. What is left of it in this process ends by itself.
func (m *fleetMember) kill(answers int) {
	m.away.Store(true)
	die := func() {
		m.dying.Do(func() {
			m.s.trace("%s is killed", m.name)
			m.trouble(true)
			close(m.killed)
			m.line.cut()
			m.hang(0)
			m.s.work.Go(func() {
				m.stop()
				<-m.ran
				_ = m.pg.Close()
			})
		})
	}
	if answers > 0 {
		m.line.cutAt(answers, die)
		select {
		case <-m.killed:
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
	die()
}

// cut cuts a member off from the database for a while, with the answer that is so many on.
func (m *fleetMember) cut(answers int, d time.Duration) {
	if answers > 0 {
		sprung := make(chan struct{})
		m.line.cutAt(answers, func() { close(sprung) })
		select {
		case <-sprung:
		case <-time.After(200 * time.Millisecond):
		}
	}
	m.trouble(true)
	m.line.cut()
	m.s.trace("%s is cut off for %s", m.name, d)
	m.s.work.Go(func() {
		time.Sleep(d)
		if !m.isKilled() {
			m.s.trace("%s is back", m.name)
			m.line.mend()
			m.trouble(false)
		}
	})
}

// trouble notes that the member is cut off, or that it is not any more.
func (m *fleetMember) trouble(begins bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if begins {
		m.troubles = append(m.troubles, fleetSpan{from: time.Now().Add(-200 * time.Millisecond)})
	} else {
		m.troubles[len(m.troubles)-1].to = time.Now()
	}
}

func (m *fleetMember) troubled(from, to time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.troubles {
		if p.meets(from, to) {
			return true
		}
	}
	return false
}

// hang has the member's engine take in no news for a while. 0 ends a hang.
func (m *fleetMember) hang(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hangs != nil {
		close(m.hangs)
		m.hangs = nil
	}
	if d > 0 && !m.isKilled() {
		hangs := make(chan struct{})
		m.hangs = hangs
		time.AfterFunc(d, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.hangs == hangs {
				close(hangs)
				m.hangs = nil
			}
		})
	}
}

// leave ends a member as SIGTERM does. It returns when Run has ended.
func (m *fleetMember) leave() {
	m.away.Store(true)
	m.stop()
	<-m.ran
	if err := m.pg.Close(); err != nil && !m.isKilled() {
		m.s.found(fleetOther, "%s has left: %v", m.name, err)
	}
}

// idleSince returns when the last attempt has ended.
func (m *fleetMember) idleSince() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.idleAt
}

func (m *fleetMember) Watch(ctx context.Context, f func(engine.News)) error {
	return m.Store.Watch(ctx, func(n engine.News) {
		m.mu.Lock()
		hangs := m.hangs
		m.mu.Unlock()
		if hangs != nil {
			<-hangs
		}
		if !m.isKilled() {
			m.s.trace("%s hears of own %v, yield %v, queued %d, ended %d, webhooks %v", m.name, slices.Sorted(maps.Keys(n.Own)), n.Yield, len(n.Queued), len(n.Ended), n.Webhooks)
			m.s.owns(m, n.Own)
		}
		f(n)
	})
}

func (m *fleetMember) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (done engine.Recorded, err error) {
	done, err = m.Store.RecordAttempt(ctx, r)
	m.s.recorded(&r, err)
	return done, err
}

// Ready is asked for by Engine.Ready.
func (m *fleetMember) Ready(ctx context.Context) error { return m.pg.Ready(ctx) }

var errKilled = errors.New("the process was killed")

// RoundTrip carries a request to the endpoints. They go on with a request whose sender has gone.
func (m *fleetMember) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if m.isKilled() {
		return nil, errKilled
	}
	id, err := uuid.Parse(req.Header.Get(engine.HeaderID))
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.sending++
	m.mu.Unlock()
	a := m.s.begin(m, id, req.URL.Host, string(body), req.Header.Get(engine.HeaderKind))
	over := sync.OnceFunc(func() {
		m.s.ended(a)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sending--
		m.idleAt = time.Now()
	})
	time.AfterFunc(a.took, over)
	select {
	case <-time.After(a.took):
		over() // before its sender has the answer
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	case <-m.killed:
		return nil, errKilled
	}
	header := []string{}
	if a.status == 429 {
		header = append(header, "Retry-After", "2")
	}
	return answer(a.status, header...), nil
}
