package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestConnectionLimit(t *testing.T) {
	for _, tc := range []struct {
		descriptors uint64
		want        int
	}{{0, 8}, {64, 8}, {70, 8}, {256, 96}, {1024, 480}, {4160, 2048}, {1 << 20, 2048}, {1<<64 - 1, 2048}} {
		if got := connectionLimit(tc.descriptors); got != tc.want {
			t.Errorf("%d descriptors: %d connections, want %d", tc.descriptors, got, tc.want)
		}
	}
}

// limited is a server with at most 32 connections: 16 of an address, 28 before only addresses with few get in.
type limited struct {
	t *testing.T
	*connections
	url     string
	held    chan struct{} // receives a value for each request that is held
	release chan struct{} // closed to let held requests go
	idle    chan struct{} // receives a value for each connection that has become idle
}

func newLimited(t *testing.T) *limited {
	t.Helper()
	c, err := listen("127.0.0.1:0", 32, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := &limited{t: t, connections: c, url: "http://" + c.Addr().String(), held: make(chan struct{}, 100), release: make(chan struct{}),
		idle: make(chan struct{}, 100)}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			s.held <- struct{}{}
			<-s.release
		}
	})}
	c.limit(server)
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		c.observeState(conn, state)
		if state == http.StateIdle {
			s.idle <- struct{}{}
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(c) }()
	t.Cleanup(func() { server.Close(); <-done })
	return s
}

// from connects from an address of this machine.
func (s *limited) from(address string) net.Conn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := d.DialContext(s.t.Context(), "tcp", s.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// get sends a request over a connection and reports whether it is answered.
func get(conn net.Conn, path string) bool {
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	return err == nil && resp.StatusCode == http.StatusOK
}

// hold opens connections from an address and has a request in each.
func (s *limited) hold(address string, n int) {
	s.t.Helper()
	for range n {
		fmt.Fprint(s.from(address), "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
		select {
		case <-s.held:
		case <-time.After(20 * time.Second):
			s.t.Fatal("the request has not come")
		}
	}
}

// closedBy reports whether the server has closed a connection.
func closedBy(conn net.Conn) bool {
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// An address that opens connections without end loses its oldest ones, and no other address notices.
func TestConnectionsOfOneAddress(t *testing.T) {
	s := newLimited(t)
	var conns []net.Conn
	for range 40 {
		conns = append(conns, s.from("127.0.0.1"))
		if !get(conns[len(conns)-1], "/") {
			t.Fatal("a new connection is not served")
		}
		<-s.idle // otherwise the next one could wait for longer than this one
	}
	other := s.from("127.0.0.2")
	if !get(other, "/") {
		t.Fatal("another address is not served")
	}
	for i, conn := range conns[:24] {
		if !closedBy(conn) {
			t.Fatalf("connection %d is open", i)
		}
	}
	for i, conn := range conns[24:] {
		if !get(conn, "/") {
			t.Errorf("connection %d of the last 16 is closed", i)
		}
	}
	if !get(other, "/") {
		t.Error("the connection of another address is closed")
	}
	if n := s.evicted.Load(); n != 24 {
		t.Errorf("%d were closed, want 24", n)
	}
}

// Requests in progress are never cut off. Whoever fills the connections with them is refused at half of them, and others get in until the
// last eighth, which is for those who have few.
func TestConnectionsInUse(t *testing.T) {
	s := newLimited(t)
	s.hold("127.0.0.1", 16)
	if conn := s.from("127.0.0.1"); !closedBy(conn) {
		t.Error("an address has more than half of the connections")
	}
	s.hold("127.0.0.2", 12)
	if conn := s.from("127.0.0.2"); !closedBy(conn) {
		t.Error("an address with many has one of the last eighth")
	}
	for range 4 {
		if !get(s.from("127.0.0.3"), "/") {
			t.Error("an address with few is refused")
		}
	}
	if !get(s.from("127.0.0.4"), "/") { // in place of an idle one
		t.Error("an address with few is refused")
	}
	if conn := s.from("127.0.0.1"); !closedBy(conn) { // although others have idle ones
		t.Error("an address with many takes the place of one with few")
	}
	if n := s.refused[refusedConnection].Load(); n != 3 {
		t.Errorf("%d were refused, want 3", n)
	}
	close(s.release)
}

// What a connection of a slow header or a handshake waits for is the caller: it is closed as an idle one is, the oldest first.
func TestConnectionsWithoutRequest(t *testing.T) {
	s := newLimited(t)
	var conns []net.Conn
	for range 20 {
		conn := s.from("127.0.0.1")
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nX-Slow: ")
		conns = append(conns, conn)
	}
	for i, conn := range conns[:4] {
		if !closedBy(conn) {
			t.Errorf("connection %d is open", i)
		}
	}
	if !get(s.from("127.0.0.1"), "/") {
		t.Error("the same address is not served")
	}
}

// Streams are counted as connections are: an address has half of the requests in progress, however many connections they come by.
func TestRequestsInProgress(t *testing.T) {
	s := newLimited(t)
	own := &peer{}
	block, began := make(chan struct{}), make(chan struct{}, 100)
	h := s.handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { began <- struct{}{}; <-block }))
	call := func(p *peer) *recorder {
		w := &recorder{header: http.Header{}}
		r, _ := http.NewRequestWithContext(context.WithValue(t.Context(), callerKey{}, &callerConn{peer: p}), "GET", "/", nil)
		h.ServeHTTP(w, r)
		return w
	}
	done := make(chan struct{}, 100)
	start := func(p *peer) {
		go func() { call(p); done <- struct{}{} }()
		<-began
	}
	for range 16 {
		start(own)
	}
	if w := call(own); w.status != http.StatusServiceUnavailable || w.header.Get("Retry-After") != "1" {
		t.Errorf("one more of the address: %d", w.status)
	}
	start(&peer{})
	close(block)
	for range 17 {
		<-done
	}
	if n := s.requests; n != 0 {
		t.Errorf("%d are counted after the end", n)
	}
}

// Streams may outlast their connection. Whoever hangs up has no more of them by that.
func TestRequestsOutlastConnections(t *testing.T) {
	s := newLimited(t)
	connect := func() *callerConn {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.addLocked(new(net.TCPConn), netip.MustParsePrefix("192.0.2.1/32"))
	}
	var peers []*peer
	for range 16 {
		conn := connect()
		if !s.begin(conn.peer) {
			t.Fatal("a request within the limits is refused")
		}
		peers = append(peers, conn.peer)
		conn.Close()
	}
	conn := connect()
	if s.begin(conn.peer) {
		t.Error("an address has more than half of the requests in progress")
	}
	conn.Close()
	for _, p := range peers {
		s.end(p)
	}
	if len(s.peers) != 0 {
		t.Errorf("%d addresses are kept after the end", len(s.peers))
	}
}

// recorder records a status and a header.
type recorder struct {
	header http.Header
	status int
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) Write(p []byte) (int, error) { return len(p), nil }
func (w *recorder) WriteHeader(status int)      { w.status = status }

// A listener that has no descriptor left goes on when there is one again.
func TestAcceptShortages(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if err := (&net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}); !isAcceptShortage(err) {
			t.Errorf("%v ends the server", err)
		}
	}
	if isAcceptShortage(net.ErrClosed) {
		t.Error("a closed listener does not end the server")
	}
}
