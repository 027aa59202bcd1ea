package torture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
)

// unsettledPostgres takes a commit without an answer for one that was not carried out, and begins anew.
var unsettledPostgres = mutantFlock.shared("postgres-unsettled", edit{file: "storage/postgres/writer.go", old: "\t\ts.open = u\n", new: "\t\tif !mutant(\"postgres-unsettled\") {\n\t\t\ts.open = u\n\t\t}\n"})

// The connection to the server breaks in the middle of commits, again and again under load, without their answers: nothing that was acknowledged is lost or
// stored twice, and nothing is repeated.
func TestPostgresCut(t *testing.T) {
	experiment(t)
	binary := build(t)
	var total verdict
	var cuts commitCuts
	rounds, n := scale(1, 10), scale(30, 100)
	for round := range rounds {
		total.add(cuts.round(t, binary, random(t, "adversary", round), n, 20*time.Second))
	}
	summarize(t, "PostgreSQL, cut in commits: %v; %v", &cuts, &total)
	total.hold(t)
	if total.Unrecorded > 0 || cuts.settled == 0 {
		t.Errorf("%d attempts were unrecorded, %g commits settled, want none, and some", total.Unrecorded, cuts.settled)
	}
}

func TestPostgresCutControl(t *testing.T) {
	experiment(t)
	var cuts commitCuts
	line := caught(t, "no settling", func(r *rand.Rand) *verdict {
		return cuts.round(t, build(t, unsettledPostgres...), r, 15, 8*time.Second)
	})
	if line != "" {
		summarize(t, "PostgreSQL, cut in commits, control %q: caught after %d: %s", "no settling", cuts.n, firstLines(line, 1))
	}
}

// commitCuts counts what a proxy has done.
type commitCuts struct {
	n       int
	settled float64
	slowest time.Duration // until events were taken in again
}

func (k *commitCuts) String() string {
	return fmt.Sprintf("%d cuts, %g of the commits had been carried out, events taken in again at most %v later", k.n, k.settled, k.slowest.Round(time.Millisecond))
}

// round cuts n commits of a rig off.
func (k *commitCuts) round(t *testing.T, binary string, r *rand.Rand, n int, patience time.Duration) *verdict {
	opts := postgresRig(t, binary)
	p := newCutter(t, postgrestest.SharedDurable(t))
	opts.schema.url, opts.manner = p.url(), difficult
	g := newRig(t, opts)
	s := g.setUp()
	load := g.produce(16)
	defer func() { k.n += int(p.cuts.Load()) }()
	for range n {
		pass(between(r, 0, 60*time.Millisecond), s.exited)
		had := p.cuts.Load()
		p.armed.Store(new(cut{mid: r.IntN(4) == 0, wait: between(r, 0, 10*time.Millisecond) / 2, answer: r.IntN(40)}))
		if !await(20*time.Second, func() bool { return p.cuts.Load() > had || !s.running() }) || !s.running() {
			g.books.complain("no commit came, or it ended by itself: running %t\n%s", s.running(), s.log)
			return g.abandon(load)
		}
		took, err := g.takenIn(s, patience)
		if k.slowest = max(k.slowest, took); err != nil {
			g.books.complain("cut %d: %v", p.cuts.Load(), err)
			return g.abandon(load)
		}
	}
	k.settled += max(metric(t, s, "hookbolt_postgres_settled_commits_total"), 0)
	load.halt()
	return g.finish(s)
}

// cutter is a proxy in front of a server, which breaks connections in the middle of commits.
type cutter struct {
	listener net.Listener
	server   string // its socket
	armed    atomic.Pointer[cut]
	cuts     atomic.Int64

	mu    sync.Mutex
	gate  chan struct{}     // closed while bytes are passed on; guarded by mu, as all below
	deny  bool              // connections are closed at once
	conns map[net.Conn]bool // those of clients
}

// silence lets no byte through any more, and keeps the connections.
func (p *cutter) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

// refuse closes all connections, and each new one.
func (p *cutter) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deny = true
	p.closeAll()
}

// mend ends a silence or a refusal. What was held up is passed on, late, or its connections are closed.
func (p *cutter) mend(late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !late {
		p.closeAll()
	}
	p.deny = false
	if !isClosed(p.gate) {
		close(p.gate)
	}
}

// closeAll closes all connections. The caller holds mu.
func (p *cutter) closeAll() {
	for c := range p.conns {
		c.Close()
	}
}

// pass waits until bytes are passed on.
func (p *cutter) pass() {
	p.mu.Lock()
	gate := p.gate
	p.mu.Unlock()
	<-gate
}

// admit notes a connection; false if it is refused.
func (p *cutter) admit(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.deny {
		p.conns[c] = true
	}
	return !p.deny
}

func (p *cutter) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// cut says how the next commit is cut off: what the client sends is passed on, and the answer is not.
type cut struct {
	mid    bool          // the server does not get the end of what the client sends
	wait   time.Duration // before the connections are closed
	answer int           // how many bytes of the answer are passed on
}

func newCutter(t *testing.T, c *postgrestest.Cluster) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{listener: l, server: filepath.Join(c.Dir(), ".s.PGSQL.5432"), gate: make(chan struct{}), conns: make(map[net.Conn]bool)}
	close(p.gate)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() { l.Close(); p.mend(false); wg.Wait() })
	return p
}

func (p *cutter) url() string {
	return (&url.URL{Scheme: "postgres", User: url.User("hookbolt"), Host: p.listener.Addr().String(), Path: "/hookbolt", RawQuery: "sslmode=disable"}).String()
}

func (p *cutter) serve(client net.Conn) {
	defer client.Close()
	if !p.admit(client) {
		return
	}
	defer p.forget(client)
	server, err := net.Dial("unix", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var withheld atomic.Pointer[cut]
	var wg sync.WaitGroup
	wg.Go(func() {
		defer client.Close()
		p.answer(client, server, &withheld)
	})
	p.ask(server, client, &withheld)
	server.Close()
	client.Close()
	wg.Wait()
}

// answer passes on what the server says, until its answer is withheld.
func (p *cutter) answer(client, server net.Conn, withheld *atomic.Pointer[cut]) {
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		p.pass()
		c := withheld.Load()
		if c != nil {
			n = min(n, c.answer)
		}
		if _, err := client.Write(buf[:n]); err != nil || c != nil {
			_, _ = io.Copy(io.Discard, server) // the rest is withheld
			return
		}
	}
}

// ask passes on what the client says, message by message, until a commit is cut off.
func (p *cutter) ask(server, client net.Conn, withheld *atomic.Pointer[cut]) {
	in, out := bufio.NewReader(client), bufio.NewWriter(server)
	commits := make(map[string]bool) // the names of the statements that are a COMMIT
	committing := false
	for first := true; ; first = false {
		kind, message, err := readMessage(in, first)
		if err != nil {
			return
		}
		p.pass()
		body := message[min(len(message), 5):]
		switch name, rest, _ := bytes.Cut(body, []byte{0}); kind {
		case 'P':
			query, _, _ := bytes.Cut(rest, []byte{0})
			commits[string(name)] = string(query) == "COMMIT"
		case 'B':
			statement, _, _ := bytes.Cut(rest, []byte{0})
			committing = committing || commits[string(statement)]
		case 'S':
			if c := p.armed.Load(); committing && c != nil && p.armed.CompareAndSwap(c, nil) {
				withheld.Store(c)
				if !c.mid {
					_, _ = out.Write(message)
				}
				_ = out.Flush()
				pass(c.wait, nil)
				p.cuts.Add(1)
				return
			}
			committing = false
		}
		if _, err := out.Write(message); err != nil || in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// readMessage reads a message of a client. The first one of a connection has no kind.
func readMessage(in *bufio.Reader, first bool) (kind byte, message []byte, err error) {
	header := make([]byte, 5)
	if first {
		header = header[:4]
	}
	if _, err := io.ReadFull(in, header); err != nil {
		return 0, nil, err
	}
	length := int(binary.BigEndian.Uint32(header[len(header)-4:])) - 4
	message = append(header, make([]byte, length)...)
	if !first {
		kind = header[0]
	}
	_, err = io.ReadFull(in, message[len(header):])
	return kind, message, err
}
