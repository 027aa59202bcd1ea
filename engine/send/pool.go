package send

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of a connection that is kept.
const (
	idleConnTimeout = 90 * time.Second
	// idleConnsPerHost is more than the attempts that an endpoint has in flight by default, so that each keeps its connection.
	idleConnsPerHost = 64
)

// pool keeps the connections of a transport, and uses them again. The pool of http.Transport does not fit, for four reasons:
//
//   - It leaves an HTTP/2 connection in use after a request has timed out on it. If the peer has silently gone, every later request goes
//     into that connection. Here a timeout retires all connections of its host: the next attempt gets a new one.
//   - It repeats a request that a closed connection has swallowed either never, or over all of the pool, and tells nobody. Here it is
//     repeated once, on a new connection, and noted in the trace.
//   - It may send a request on a connection while bytes are left behind the last answer, and take them for the next answer. Here a
//     connection is used only while its reader waits for bytes that have not arrived yet; see wire.
//   - It lets a dial outlive the attempt that it was begun for.
type pool struct {
	transport *http.Transport // makes connections, and keeps none
	dialNet   dialFunc
	tls       *tlsClient // what transport makes connections with
	// proxyTLS returns the TLS configuration for a proxy that is spoken to over TLS; nil if there is none.
	proxyTLS func(host string) (*tls.Config, error)
	// onlyHTTP1 is the transport's twin that speaks HTTP/1.1 only.
	onlyHTTP1 func() *http.Transport

	// mu guards what follows. It may be held while locks of net/http's HTTP/2 are taken, never the other way round. The lock of an HTTP/1
	// connection may be held by net/http while TLS says goodbye to a peer that does not read: do not wait for it with mu held.
	mu    sync.Mutex
	hosts map[hostKey]*host
	// closing says that the idle connections are being closed: those that become idle are closed as well, until one is wanted again.
	closing bool
}

// hostKey names a server as in a URL.
type hostKey struct{ scheme, host string }

// host has the connections to one server; all fields are guarded by pool.mu.
type host struct {
	all    map[*conn]struct{}
	idle   []*conn // HTTP/1, each without a request; the last was used last
	shared []*conn // HTTP/2, not retired
}

// conn is a connection to a host.
type conn struct {
	pool   *pool
	key    hostKey
	wire   *wire            // below TLS
	client *http.ClientConn // above TLS
	http2  bool
	proxy  string // host and port; "" without one
	secure bool   // the proxy is spoken to over TLS

	// What follows is guarded by pool.mu.
	requests  int  // in flight
	retired   bool // takes no more requests
	shared    bool // HTTP/2: others than the request that it was made for were put on it
	own       bool // HTTP/2: it takes no others before the request that it was made for is answered
	idleSince time.Time
	idleTimer *time.Timer // HTTP/1; HTTP/2 has a timer of its own
}

// wanted says which connections a request may use.
type wanted struct {
	fresh bool // only one that is made for it, and was used by no other
	http1 bool // only one that speaks HTTP/1.1; it is fresh, too
}

// RoundTrip sends a request and returns the answer. If it finds a connection closed that it wanted to use again, it sends the request once
// more, on a new one; so it does if the peer says that it wants HTTP/1.1. The body of the answer must be closed.
func (p *pool) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if ctx.Err() != nil { // what was under way as it ended tells more than a request that nobody waits for
		closeBody(req)
		return nil, context.Cause(ctx)
	}
	t := traceOf(ctx)
	var want wanted
	var before error // of the request that is repeated
	for {
		x := t.begin(req.URL)
		t.note(func(x *exchange) { x.tls = p.tls })
		c, reused, err := p.acquire(ctx, x, want)
		if err != nil {
			closeBody(req)
			return nil, err
		}
		t.gotConn(c, reused)
		if !t.mayGo() {
			c.giveBack(ctx)
			closeBody(req)
			return nil, cmp.Or(before, ErrWithdrawn)
		}
		resp, err := c.client.RoundTrip(req.WithContext(t.sending(ctx, x)))
		if err == nil {
			c.offer()
			resp.Body = &answerBody{ReadCloser: resp.Body, ctx: ctx, conn: c, last: !mayFollow(resp) || t.lengthInInterim()}
			return resp, nil
		}
		c.release(ctx, true)
		sent := c.wire.hasWritten()
		if c.http2 { // others write, too
			sent = t.wroteHeader()
		}
		reason := repeatReason(err, reused || c.wasShared())
		if want.fresh || reason == "" || ctx.Err() != nil || t.answered() {
			return nil, readError(err)
		}
		before = readError(err)
		if req, err = rewound(req, err); err != nil {
			return nil, readError(err)
		}
		want.fresh = true
		if reason == RepeatHTTP1 {
			want.http1 = true
			p.retireHTTP2(c.key)
		}
		if !sent {
			reason = ""
		}
		t.repeat(reason)
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// readError takes what net/http puts around the error of a read, for its pool, off again.
func readError(err error) error {
	for strings.HasPrefix(err.Error(), "net/http: Transport failed to read from server: ") && errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

// rewound returns a request that can be sent again after err, or err.
func rewound(req *http.Request, err error) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	if req.GetBody == nil {
		return nil, err
	}
	body, bodyErr := req.GetBody()
	if bodyErr != nil {
		return nil, err
	}
	next := *req
	next.Body = body
	return &next, nil
}

// acquire returns a connection for an exchange, and whether it was there before.
func (p *pool) acquire(ctx context.Context, x *exchange, want wanted) (c *conn, reused bool, err error) {
	key := hostKey{x.to.Scheme, x.to.Host}
	for !want.fresh {
		if c = p.take(key); c == nil {
			break
		}
		if c.http2 || c.wire.take(ctx) {
			return c, true, nil
		}
		c.release(ctx, true)
	}
	transport := p.transport
	if want.http1 {
		transport = p.onlyHTTP1()
	}
	if c, err = p.connect(traceOf(ctx).dialing(ctx, x), transport, x.to); err != nil {
		return nil, false, err
	}
	c.wire.beginFirst()
	return c.enter(want.fresh)
}

// take returns a connection that can take a request, nil if there is none.
func (p *pool) take(key hostKey) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = false
	h := p.hosts[key]
	if h == nil {
		return nil
	}
	if c := h.takeSharedLocked(); c != nil {
		return c
	}
	for len(h.idle) > 0 {
		c := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		c.idleTimer.Stop()
		// The wall clock also counts the time for which the machine slept.
		if time.Now().Round(0).Sub(c.idleSince) < idleConnTimeout {
			c.requests++
			return c
		}
		go c.client.Close()
	}
	return nil
}

// takeSharedLocked returns an HTTP/2 connection that can take another request, nil if there is none.
func (h *host) takeSharedLocked() *conn {
	for _, c := range h.shared {
		if c.client.Reserve() == nil {
			c.requests++
			c.shared = true
			return c
		}
	}
	return nil
}

// enter puts a connection that was just made into the pool, with one request on it. Attempts that begin together each dial, and find out
// only then that they can share one HTTP/2 connection: all but the first are closed, unless fresh says that it has to be this one.
func (c *conn) enter(fresh bool) (use *conn, reused bool, err error) {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[c.key]
	if c.http2 && !fresh && h != nil {
		if other := h.takeSharedLocked(); other != nil {
			go c.client.Close()
			return other, true, nil
		}
	}
	c.requests = 1
	if c.http2 {
		c.client.Reserve() // if it fails, the request will, and say why
	}
	if c.wire.isClosed() {
		return c, false, nil
	}
	if h == nil {
		h = &host{all: make(map[*conn]struct{})}
		p.hosts[c.key] = h
	}
	h.all[c] = struct{}{}
	if c.own = c.http2 && fresh; c.http2 && !fresh {
		h.shared = append(h.shared, c)
	}
	return c, false, nil
}

// offer lets other requests onto a connection that was kept for one, which is answered.
func (c *conn) offer() {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.own {
		return
	}
	c.own = false
	h := p.hosts[c.key]
	if h == nil || c.retired {
		return
	}
	if _, open := h.all[c]; open {
		h.shared = append(h.shared, c)
	}
}

// wasShared reports whether others than the request that the connection was made for were put on it: that it has ended may be due to them.
func (c *conn) wasShared() bool {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return c.shared
}

// release ends a request. last says that no other may follow on the connection, which matters for HTTP/1 only: HTTP/2 keeps its answers
// apart. If the request's time was up, the peer may be gone without a word, and with it all connections to the host that were there.
func (c *conn) release(ctx context.Context, last bool) {
	p := c.pool
	last = last || !c.http2 && c.client.Available() == 0 // the answer was not read to its end
	p.mu.Lock()
	defer p.mu.Unlock()
	c.requests--
	h := p.hosts[c.key]
	if h != nil && !c.retired && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		h.retireLocked()
	}
	switch {
	case c.http2:
		if c.requests == 0 && (c.retired || p.closing || c.own) {
			go c.client.Close()
		}
	case last || c.retired || p.closing || h == nil || len(h.idle) >= idleConnsPerHost:
		go c.client.Close()
	default:
		c.wire.rest()
		h.idle = append(h.idle, c)
		c.idleSince = time.Now().Round(0)
		if c.idleTimer == nil {
			c.idleTimer = time.AfterFunc(idleConnTimeout, c.closeIdle)
		} else {
			c.idleTimer.Reset(idleConnTimeout)
		}
	}
}

// giveBack ends a request that was not sent.
func (c *conn) giveBack(ctx context.Context) {
	if c.http2 {
		c.client.Release()
	}
	c.release(ctx, true)
}

// closeIdle closes a connection unless it is in use.
func (c *conn) closeIdle() {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if h := c.pool.hosts[c.key]; h != nil && slices.Contains(h.idle, c) {
		h.removeLocked(c)
		go c.client.Close()
	}
}

// retireLocked lets no further request onto the connections of a host. Those that are on them go on; the last one closes its connection. The
// time of some of them will be up as well, which says nothing of the connections that are made from now on.
func (h *host) retireLocked() {
	for c := range h.all {
		c.retired = true
		if c.requests == 0 {
			go c.client.Close()
		}
	}
	h.idle, h.shared = nil, nil
}

// retireHTTP2 lets no further request onto the HTTP/2 connections to a host: it wants HTTP/1.1.
func (p *pool) retireHTTP2(key hostKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[key]
	if h == nil {
		return
	}
	for _, c := range h.shared {
		if c.retired = true; c.requests == 0 {
			go c.client.Close()
		}
	}
	h.shared = nil
}

// closeIdleConnections closes the connections that no request is on, and those in use when their requests end.
func (p *pool) closeIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	for _, h := range p.hosts {
		for c := range h.all {
			if c.requests == 0 {
				h.removeLocked(c)
				go c.client.Close()
			}
		}
	}
}

// forget drops a connection that was closed, by whomever.
func (c *conn) forget() {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.idleTimer != nil {
		c.idleTimer.Stop()
	}
	h := p.hosts[c.key]
	if h == nil {
		return
	}
	h.removeLocked(c)
	if len(h.all) == 0 {
		delete(p.hosts, c.key)
	}
}

func (h *host) removeLocked(c *conn) {
	delete(h.all, c)
	is := func(other *conn) bool { return other == c }
	h.idle, h.shared = slices.DeleteFunc(h.idle, is), slices.DeleteFunc(h.shared, is)
}

// dial is the value of a dial's context.
type dial struct {
	conn *conn
	url  *url.URL
	stop func() bool // of closing the connection when the context ends
}

type dialKey struct{}

// connect makes a connection. It ends with ctx.
func (p *pool) connect(ctx context.Context, transport *http.Transport, u *url.URL) (*conn, error) {
	c := &conn{pool: p, key: hostKey{u.Scheme, u.Host}}
	d := &dial{conn: c, url: u, stop: func() bool { return true }}
	watched := httptrace.WithClientTrace(context.WithValue(ctx, dialKey{}, d), &httptrace.ClientTrace{
		TLSHandshakeDone: func(s tls.ConnectionState, _ error) { c.http2 = s.NegotiatedProtocol == "h2" },
	})
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	client, err := transport.NewClientConn(watched, u.Scheme, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)))
	if !d.stop() || ctx.Err() != nil {
		if client != nil {
			client.Close()
		}
		return nil, context.Cause(ctx)
	}
	c.client = client
	return c, err
}

// dialWire is the DialContext of the transport. It closes what it has connected when ctx ends, which nothing in NewClientConn does while
// HTTP/2 sends its preface.
func (p *pool) dialWire(ctx context.Context, network, address string) (net.Conn, error) {
	d := ctx.Value(dialKey{}).(*dial)
	nc, err := p.dialNet(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.conn.wire = newWire(nc, d.conn.forget)
	d.stop = context.AfterFunc(ctx, func() { d.conn.wire.Close() })
	if !d.conn.secure {
		return d.conn.wire, nil
	}
	return p.secureProxy(ctx, d.conn)
}

// secureProxy begins TLS with a proxy. net/http would use the endpoint's settings for it: its name, its authorities, its client certificate.
func (p *pool) secureProxy(ctx context.Context, c *conn) (net.Conn, error) {
	host, _, err := net.SplitHostPort(c.proxy)
	if err != nil {
		return nil, err
	}
	config, err := p.proxyTLS(host)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(c.wire, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.wire.Close()
		return nil, err
	}
	return secure, nil
}

// answerBody is the body of an answer. Its end is the end of the request on its connection.
type answerBody struct {
	io.ReadCloser
	ctx    context.Context
	conn   *conn
	last   bool // no other request may follow on the connection
	closed bool
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	if !b.closed {
		b.closed = true
		b.conn.release(b.ctx, b.last)
	}
	return err
}

// mayFollow reports whether another request may follow this answer on its connection. After an answer that has no body but claims one
// (RFC 9110, sections 8.6 and 15.3.6), bytes may arrive that are neither its body nor the next answer.
func mayFollow(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified:
		return !hasLength(resp.Header, resp.TransferEncoding)
	}
	return true
}

// hasLength reports whether a header says that a body follows. net/http takes Transfer-Encoding out of it.
func hasLength(h http.Header, transferEncoding []string) bool {
	length := strings.TrimSpace(h.Get("Content-Length"))
	return strings.Trim(length, "0") != "" || len(transferEncoding) > 0 || h.Get("Transfer-Encoding") != ""
}

// Repeat is why an attempt has sent its request once more: the connection that it was sent on ended before a byte of the answer, or the
// peer wants another protocol. "" means that it was not.
type Repeat string

// The reasons of a repeat. They are about connections, and say nothing about the endpoint.
const (
	RepeatClosed  Repeat = "closed"  // a connection that was used before was closed or reset by the peer
	RepeatRefused Repeat = "refused" // over HTTP/2 the peer said that it has not processed the request: GOAWAY, REFUSED_STREAM
	RepeatLost    Repeat = "lost"    // an HTTP/2 connection that was used before did not answer a ping
	// RepeatHTTP1 means that the peer has not processed the request because it wants it over HTTP/1.1: HTTP_1_1_REQUIRED.
	RepeatHTTP1 Repeat = "http_1_1_required"
)

// Repeats are all reasons.
var Repeats = []Repeat{RepeatClosed, RepeatRefused, RepeatLost, RepeatHTTP1}

// repeatReason returns why a request that failed with err may be sent once more, "" if it may not. It is called only if no byte of the
// answer has arrived. A connection that was not used before and ends says something about the endpoint.
func repeatReason(err error, reused bool) Repeat {
	if requiresHTTP11(err) {
		return RepeatHTTP1
	}
	if reset, ok := errors.AsType[streamError](err); ok {
		const protocolError, refusedStream = 1, 7 // RFC 9113, section 7; for the former see golang/go#47635
		if reset.fromPeer() && (reset.Code == refusedStream || reset.Code == protocolError && reused) {
			return RepeatRefused
		}
		return "" // the peer did something with the request, or breaks a rule
	}
	text := err.Error() // net/http exports none of these
	switch {
	case strings.Contains(text, "graceful shutdown GOAWAY"):
		return RepeatRefused
	case !reused:
		return ""
	case strings.Contains(text, "client connection lost"):
		return RepeatLost
	}
	return RepeatClosed
}
