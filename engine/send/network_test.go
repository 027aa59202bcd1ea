package send

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// network is a simulated network with one server on it. It carries bytes without a socket, so that tests can run in a synctest bubble, and
// its links can die in the way that those of a NAT do which has forgotten them: what is written goes nowhere, and nobody is told.
type network struct {
	incoming chan net.Conn // from dial to Accept
	done     chan struct{}
	end      func() // closes done

	mu     sync.Mutex
	links  []*link // guarded by mu
	dialed int     // guarded by mu
	work   sync.WaitGroup
}

// link is a connection. Its two directions hold what was written until it is read, as the buffers of TCP do.
type link struct {
	dead  atomic.Bool
	ends  [2]net.Conn // the network's
	outer [2]net.Conn // of the client and of the server
}

func newNetwork() *network {
	n := &network{incoming: make(chan net.Conn), done: make(chan struct{})}
	n.end = sync.OnceFunc(func() { close(n.done) })
	return n
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l := new(link)
	for i := range 2 {
		l.outer[i], l.ends[i] = net.Pipe()
	}
	n.mu.Lock()
	n.links = append(n.links, l)
	n.dialed++
	n.mu.Unlock()
	for i := range 2 {
		n.work.Go(func() { l.carry(l.ends[i], l.ends[1-i]) })
	}
	select {
	case n.incoming <- l.outer[1]:
		return l.outer[0], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.done:
		return nil, net.ErrClosed
	}
}

// carry carries bytes in one direction until the end.
func (l *link) carry(from, to net.Conn) {
	queue := make(chan []byte, 1<<12)
	var writing sync.WaitGroup
	writing.Go(func() {
		for b := range queue {
			to.Write(b)
		}
		if !l.dead.Load() {
			to.Close()
		}
	})
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !l.dead.Load() {
			queue <- append([]byte(nil), buffer[:n]...)
		}
		if err != nil {
			break
		}
	}
	close(queue)
	writing.Wait()
}

// die lets all links of now die.
func (n *network) die() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		l.dead.Store(true)
	}
}

// dials returns how many connections were made.
func (n *network) dials() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialed
}

func (n *network) close() {
	n.end()
	n.mu.Lock()
	for _, l := range n.links {
		for i := range 2 {
			l.ends[i].Close()
			l.outer[i].Close()
		}
	}
	n.mu.Unlock()
	n.work.Wait()
}

// Accept, Close and Addr are those of a net.Listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.incoming:
		return conn, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.end()
	return nil
}

func (n *network) Addr() net.Addr { return &net.TCPAddr{} }

// testCertificate returns the server's side of a TLS configuration for example.com, and the client's.
var testCertificate = sync.OnceValues(func() (server, client *tls.Config) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}, trustOf(s)
})

// protocols are the ways in which an endpoint can be spoken to.
var protocols = []string{"HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2.0"}

// peer is an endpoint on a simulated network, and a sender that can reach nothing else.
type peer struct {
	*network
	sender   *Sender
	url      string
	requests atomic.Int32
}

// newPeer returns a peer that speaks a protocol. It is served by handle, or, as HTTP/1 or as raw as TLS leaves it, by raw. Within a bubble,
// close ends all goroutines.
func newPeer(protocol string, handle http.HandlerFunc, raw func(p *peer, conn net.Conn)) (p *peer, closePeer func()) {
	p = &peer{network: newNetwork(), sender: New(Options{UserAgent: "hookbolt/1.2.3"}), url: "http://example.com/"}
	serverTLS, clientTLS := testCertificate()
	pool := poolOf(p.sender)
	pool.dialNet = p.dial
	pool.transport.TLSClientConfig.RootCAs = clientTLS.RootCAs
	server := &http.Server{TLSConfig: serverTLS.Clone(), Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		p.requests.Add(1)
		handle(w, r)
	})}
	server.Protocols.SetHTTP1(protocol != "HTTP/2.0")
	server.Protocols.SetHTTP2(protocol == "HTTP/2.0")
	serve := func() { server.Serve(p) }
	if protocol != "HTTP/1.1" {
		p.url = "https://example.com/"
		serve = func() { server.ServeTLS(p, "", "") }
		if protocol == "HTTP/2.0" {
			server.TLSConfig.NextProtos = []string{"h2"}
		}
	}
	if raw != nil {
		serve = func() { p.serveRaw(protocol, server.TLSConfig, raw) }
	}
	p.work.Go(serve)
	return p, func() {
		p.sender.CloseIdleConnections()
		server.Close()
		p.close()
	}
}

func (p *peer) serveRaw(protocol string, config *tls.Config, raw func(p *peer, conn net.Conn)) {
	for {
		conn, err := p.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() {
			defer conn.Close()
			if protocol != "HTTP/1.1" {
				secure := tls.Server(conn, config)
				if secure.Handshake() != nil {
					return
				}
				defer secure.Close()
				raw(p, secure)
				return
			}
			raw(p, conn)
		})
	}
}

// attempt makes one attempt.
func (p *peer) attempt(t *testing.T, timeout time.Duration) Outcome {
	t.Helper()
	r := requestTo(p.url)
	r.Timeout = timeout
	a, err := p.sender.Send(t.Context(), r)
	if err != nil {
		t.Fatalf("no attempt: %v", err)
	}
	return a
}

// attempts makes attempts at the same time.
func (p *peer) attempts(t *testing.T, n int, timeout time.Duration) []Outcome {
	t.Helper()
	outcomes := make([]Outcome, n)
	var work sync.WaitGroup
	for i := range outcomes {
		work.Go(func() { outcomes[i] = p.attempt(t, timeout) })
	}
	work.Wait()
	return outcomes
}

// wantRepeats fails the test unless all attempts were delivered and those that were repeated, for that reason, are n.
func wantRepeats(t *testing.T, outcomes []Outcome, n int, reason Repeat) {
	t.Helper()
	repeated := 0
	for _, a := range outcomes {
		if !a.Delivered() {
			t.Errorf("%s: %s", a.Error, a.ErrorDetail)
		}
		switch a.Repeated {
		case "":
		case reason:
			repeated++
			if a.Reused {
				t.Error("repeated on a connection that was there before")
			}
		default:
			t.Errorf("repeated because of %q", a.Repeated)
		}
	}
	if repeated != n {
		t.Errorf("%d attempts were repeated, want %d", repeated, n)
	}
}
