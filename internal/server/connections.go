package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/httpapi"
)

const (
	// mostConnections bounds the connections of callers, whatever the descriptors allow. Each may cost 20 KiB of header and as much for
	// buffers and stacks, and all of them together must leave memory for the rest of the server.
	mostConnections = 2048
	// ownDescriptors are kept for the database, its backup, the log, and the runtime, before callers and deliveries share the rest.
	ownDescriptors = 64
	// writeBuffer is what the kernel may hold of a response that nobody reads. It would take several MiB of its own accord.
	writeBuffer = 128 << 10
	// fewConnections is what an address may have while the connections are nearly used up. So others get in beside one that holds many.
	fewConnections = 8
)

// connectionLimit returns how many connections callers may have if the process may have that many descriptors: half of what it does not
// need for itself. The other half is for deliveries.
func connectionLimit(descriptors uint64) int {
	if descriptors <= ownDescriptors {
		return fewConnections
	}
	return int(min(max((descriptors-ownDescriptors)/2, fewConnections), mostConnections))
}

// connections is a listener that bounds the connections of callers, and the requests in them. golang.org/x/net/netutil does not fit: it
// lets those who hold connections lock out all others.
//
//   - A caller's address has at most half of the connections.
//   - The last eighth is for addresses that have few.
//   - Where one more would be too many, the connection that has waited longest for a request is closed: of the same address if that is at
//     its limit, otherwise of the address that has most, if it has more than the new one's. If none waits, the new connection is refused.
//
// The address is the TCP peer's: callers behind a reverse proxy have one together. The streams of HTTP/2 connections are bounded by the same
// numbers, since each is a request that may be slow.
type connections struct {
	*net.TCPListener
	max int
	log *slog.Logger

	evicted  atomic.Uint64
	refused  [2]atomic.Uint64 // by refusedConnection, refusedRequest
	loggedAt time.Time        // when a shortage was last logged; owned by Accept

	mu    sync.Mutex
	peers map[netip.Prefix]*peer // those that have anything; guarded by mu, as what the peers have
	open  int
	// requests is how many requests are in progress.
	requests int
}

// The indexes of connections.refused.
const (
	refusedConnection = iota
	refusedRequest
)

// peer is an address that has connections or requests. A request may outlast its connection: the client has hung up, and the handler does not
// know it yet.
type peer struct {
	key netip.Prefix
	// guarded by connections.mu
	conns    map[*callerConn]struct{}
	requests int // in progress
}

// callerConn is a connection of a caller.
type callerConn struct {
	*net.TCPConn // not a net.Conn: net/http looks for methods of its own
	of           *connections
	peer         *peer
	close        func() error // closes TCPConn once

	waitsSince time.Time // for a request; zero while one is in progress; guarded by connections.mu
}

// listen opens a port for at most limit connections.
func listen(address string, limit int, log *slog.Logger) (*connections, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &connections{TCPListener: l.(*net.TCPListener), max: limit, log: log, peers: make(map[netip.Prefix]*peer)}, nil
}

// admits reports whether one more fits in, where all have total and the address has own already.
func (c *connections) admits(total, own int) bool {
	if own < min(fewConnections, c.max/2) {
		return total < c.max
	}
	return own < c.max/2 && total < c.max-c.max/8
}

// Accept returns the next connection that is within the limits. A shortage of descriptors or memory does not end it.
func (c *connections) Accept() (net.Conn, error) {
	wait := acceptRetry
	for {
		conn, err := c.AcceptTCP()
		if err != nil {
			if !isAcceptShortage(err) {
				return nil, err
			}
			if c.evictAny() { // which frees a descriptor
				wait = acceptRetry
			}
			if time.Since(c.loggedAt) > time.Minute {
				c.loggedAt = time.Now()
				c.log.Error("connections of callers cannot be accepted for now", "error", err)
			}
			time.Sleep(wait)
			wait = min(2*wait, maxAcceptRetry)
			continue
		}
		wait = acceptRetry
		if admitted := c.admit(conn); admitted != nil {
			return admitted, nil
		}
		c.refused[refusedConnection].Add(1)
		conn.Close()
	}
}

const (
	acceptRetry    = 5 * time.Millisecond
	maxAcceptRetry = time.Second
)

// isAcceptShortage reports whether an error of Accept is about this machine or about one connection, and not about the listener.
func isAcceptShortage(err error) bool {
	for _, errno := range acceptShortages {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// admit returns the connection if it is within the limits, if need be in place of one that waits; otherwise nil.
func (c *connections) admit(conn *net.TCPConn) *callerConn {
	key := httpapi.CallerAddress(conn.RemoteAddr().String())
	conn.SetWriteBuffer(writeBuffer)
	c.mu.Lock()
	own := 0
	if p := c.peers[key]; p != nil {
		own = len(p.conns)
	}
	var victim *callerConn
	if !c.admits(c.open, own) {
		if victim = c.victimLocked(key, own); victim == nil {
			c.mu.Unlock()
			return nil
		}
		c.removeLocked(victim)
	}
	admitted := c.addLocked(conn, key)
	c.mu.Unlock()
	if victim != nil {
		c.evicted.Add(1)
		victim.close()
	}
	return admitted
}

func (c *connections) addLocked(conn *net.TCPConn, key netip.Prefix) *callerConn {
	p := c.peers[key]
	if p == nil {
		p = &peer{key: key, conns: make(map[*callerConn]struct{})}
		c.peers[key] = p
	}
	admitted := &callerConn{TCPConn: conn, of: c, peer: p, close: sync.OnceValue(conn.Close), waitsSince: time.Now()}
	p.conns[admitted] = struct{}{}
	c.open++
	return admitted
}

func (c *connections) removeLocked(conn *callerConn) {
	if _, ok := conn.peer.conns[conn]; !ok {
		return
	}
	delete(conn.peer.conns, conn)
	c.open--
	c.forgetLocked(conn.peer)
}

// forgetLocked forgets an address that has nothing any more.
func (c *connections) forgetLocked(p *peer) {
	if len(p.conns) == 0 && p.requests == 0 {
		delete(c.peers, p.key)
	}
}

// victimLocked returns the connection to close for one more of an address that has own already; nil if there is none.
func (c *connections) victimLocked(key netip.Prefix, own int) *callerConn {
	if own >= c.max/2 {
		return longestWaiting(c.peers[key])
	}
	var victim *callerConn
	most := 0
	for _, p := range c.peers {
		if len(p.conns) < most || len(p.conns) <= own {
			continue
		}
		if v := longestWaiting(p); v != nil && (victim == nil || len(p.conns) > most || v.waitsSince.Before(victim.waitsSince)) {
			victim, most = v, len(p.conns)
		}
	}
	return victim
}

// longestWaiting returns the connection of an address that has waited longest for a request; nil if none waits.
func longestWaiting(p *peer) (longest *callerConn) {
	for conn := range p.conns {
		if !conn.waitsSince.IsZero() && (longest == nil || conn.waitsSince.Before(longest.waitsSince)) {
			longest = conn
		}
	}
	return longest
}

// evictAny closes a connection that waits for a request. It returns false if none does.
func (c *connections) evictAny() bool {
	c.mu.Lock()
	victim := c.victimLocked(netip.Prefix{}, 0)
	if victim != nil {
		c.removeLocked(victim)
	}
	c.mu.Unlock()
	if victim == nil {
		return false
	}
	c.evicted.Add(1)
	victim.close()
	return true
}

// Close closes the connection and takes it off the counts.
func (c *callerConn) Close() error {
	c.of.mu.Lock()
	c.of.removeLocked(c)
	c.of.mu.Unlock()
	return c.close()
}

// observeState is the ConnState of the HTTP server. A connection is active from the end of a request's header to the end of its response.
func (c *connections) observeState(conn net.Conn, state http.ConnState) {
	caller := callerOf(conn)
	if caller == nil {
		return
	}
	var since time.Time
	if state == http.StateIdle {
		since = time.Now()
	}
	if state == http.StateIdle || state == http.StateActive {
		c.mu.Lock()
		caller.waitsSince = since
		c.mu.Unlock()
	}
}

// callerOf returns the connection under a connection of the HTTP server.
func callerOf(conn net.Conn) *callerConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	caller, _ := conn.(*callerConn)
	return caller
}

// callerKey is the context key of the callerConn.
type callerKey struct{}

// connContext is the ConnContext of the HTTP server.
func (c *connections) connContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, callerKey{}, callerOf(conn))
}

// handler bounds the requests in progress that h handles.
func (c *connections) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := r.Context().Value(callerKey{}).(*callerConn)
		if caller == nil {
			h.ServeHTTP(w, r)
			return
		}
		if c.begin(caller.peer) {
			defer c.end(caller.peer)
			h.ServeHTTP(w, r)
			return
		}
		c.refused[refusedRequest].Add(1)
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte(tooManyRequests))
	})
}

// begin counts a request of an address, if it is within the limits.
func (c *connections) begin(p *peer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.admits(c.requests, p.requests) {
		return false
	}
	c.requests++
	p.requests++
	return true
}

// end takes a request off the counts.
func (c *connections) end(p *peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests--
	p.requests--
	c.forgetLocked(p)
}

const tooManyRequests = `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many requests are in progress; try again"}` + "\n"

// limit makes an HTTP server serve only what the limits allow.
func (c *connections) limit(s *http.Server) {
	s.Handler, s.ConnState, s.ConnContext = c.handler(s.Handler), c.observeState, c.connContext
}

var (
	connectionsDesc = prometheus.NewDesc("hookbolt_http_connections",
		"Open connections of callers: active (with a request in progress), waiting (for a request).", []string{"state"}, nil)
	maxConnectionsDesc = prometheus.NewDesc("hookbolt_http_connections_max",
		"How many connections callers may have: half of the file descriptors, and no more than 2048.", nil, nil)
	evictedDesc = prometheus.NewDesc("hookbolt_http_connections_evicted_total",
		"Connections that waited for a request and were closed to make room for others.", nil, nil)
	turnedAwayDesc = prometheus.NewDesc("hookbolt_http_turned_away_total",
		"Connections that were closed at once, and requests that were answered 503, because there were too many.", []string{"what"}, nil)
)

// Describe implements prometheus.Collector.
func (c *connections) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectionsDesc, maxConnectionsDesc, evictedDesc, turnedAwayDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *connections) Collect(ch chan<- prometheus.Metric) {
	active, waiting := c.count()
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	send(connectionsDesc, prometheus.GaugeValue, float64(active), "active")
	send(connectionsDesc, prometheus.GaugeValue, float64(waiting), "waiting")
	send(maxConnectionsDesc, prometheus.GaugeValue, float64(c.max))
	send(evictedDesc, prometheus.CounterValue, float64(c.evicted.Load()))
	send(turnedAwayDesc, prometheus.CounterValue, float64(c.refused[refusedConnection].Load()), "connection")
	send(turnedAwayDesc, prometheus.CounterValue, float64(c.refused[refusedRequest].Load()), "request")
}

func (c *connections) count() (active, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		for conn := range p.conns {
			if conn.waitsSince.IsZero() {
				active++
			} else {
				waiting++
			}
		}
	}
	return active, waiting
}
