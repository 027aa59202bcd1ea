package send

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync"
	"time"
)

// phase is a part of a request. The phases stand in their order.
type phase int

const (
	phaseStart   phase = iota // no connection yet, and none is made
	phaseLookup               // the host name is looked up
	phaseConnect              // TCP
	phaseProxy                // a proxy connects to the endpoint
	phaseTLS                  // the TLS handshake
	phaseSend                 // the request is sent
	phaseWait                 // the request is sent; no byte of the answer has arrived
	phaseHeader               // the answer has begun
)

// trace is what a request has met, as net/http and the pool report it: the request to the endpoint, or those for its token. It measures the
// phases, and knows what errors do not tell. What is reported after the end is dropped: goroutines of net/http may outlive the attempt.
type trace struct {
	started time.Time   // of the attempt
	maySend func() bool // Request.MaySend; nil for the request for a token

	mu                      sync.Mutex // guards what follows: dials run in parallel
	ended                   bool
	phases                  Phases
	dnsAt, connectAt, tlsAt time.Time
	address                 string // that was connected to, or tried last; "" if none was
	reused                  bool
	wrote                   bool      // the request's header
	repeats                 []Repeat  // requests that were sent again
	exchange                *exchange // the last one; nil before the first
}

// exchange is a request on one connection, and the making of that. It is guarded by trace.mu.
type exchange struct {
	phase            phase
	overTLS          bool
	proxy            string     // host and port; "" without one
	wantsCertificate bool       // of the client
	to               *url.URL   // what the request is for
	tls              *tlsClient // nil for a transport that a test has set
	wire             *wire      // nil while there is no connection
	mail             *mailConn  // nil but with a mail server
	command          string     // what a mail server is to answer; "" before
	wroteHeader      bool
	interim          int  // bytes of interim answers
	oddLength        bool // an interim answer claimed to have a body
}

// advance sets a phase unless a later one is reached: an answer may come before the whole request was sent, and one of several dials may
// report after another has won. A phase lasts until the next one begins: what has failed is the phase that was reached last.
func (x *exchange) advance(to phase) { x.phase = max(x.phase, to) }

// traceKey is the key of a trace in a context.
type traceKey struct{}

func withTrace(ctx context.Context, t *trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// traceOf returns the trace of a request; one that nobody looks at if it has none.
func traceOf(ctx context.Context) *trace {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		return t
	}
	return &trace{started: time.Now()}
}

// mayGo reports whether the request may go out now.
func (t *trace) mayGo() bool { return t.maySend == nil || t.maySend() }

// begin begins an exchange, a request to a URL.
func (t *trace) begin(to *url.URL) *exchange {
	x := &exchange{to: to, overTLS: to.Scheme == "https"}
	t.mu.Lock()
	t.exchange = x
	t.mu.Unlock()
	return x
}

// dialing returns a context in which net/http reports how the connection for an exchange is made. A goroutine of the exchange before may still
// report its own.
func (t *trace) dialing(ctx context.Context, x *exchange) context.Context {
	on := func(change func(now time.Time)) { t.record(x, change) }
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { on(func(now time.Time) { t.dnsAt = now; x.advance(phaseLookup) }) },
		DNSDone:  func(httptrace.DNSDoneInfo) { on(func(now time.Time) { t.phases.DNS = now.Sub(t.dnsAt) }) },
		ConnectStart: func(_, address string) {
			on(func(now time.Time) {
				if x.advance(phaseConnect); x.phase == phaseConnect {
					t.connectAt, t.address = now, address
				}
			})
		},
		ConnectDone: func(_, address string, err error) {
			on(func(now time.Time) {
				if x.phase > phaseConnect {
					return
				}
				if t.phases.Connect = now.Sub(t.connectAt); err == nil {
					t.address = address
					x.advance(phaseProxy)
				}
			})
		},
		TLSHandshakeStart: func() { on(func(now time.Time) { t.tlsAt = now; x.advance(phaseTLS) }) },
		TLSHandshakeDone: func(tls.ConnectionState, error) {
			on(func(now time.Time) { t.phases.TLS = now.Sub(t.tlsAt) })
		},
	})
}

// sending returns a context in which net/http reports the request of an exchange and its answer.
func (t *trace) sending(ctx context.Context, x *exchange) context.Context {
	on := func(change func(now time.Time)) { t.record(x, change) }
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaders: func() { on(func(time.Time) { t.wrote, x.wroteHeader = true, true }) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				on(func(time.Time) { x.advance(phaseWait) })
			}
		},
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { return t.gotInterim(x, http.Header(h)) },
		GotFirstResponseByte: func() {
			on(func(now time.Time) { t.phases.FirstByte = now.Sub(t.started); x.advance(phaseHeader) })
		},
	})
}

func (t *trace) record(x *exchange, change func(now time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended && t.exchange == x {
		change(time.Now())
	}
}

// note changes the exchange under way, if there is one.
func (t *trace) note(change func(*exchange)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended && t.exchange != nil {
		change(t.exchange)
	}
}

// gotConn reports the connection that the request is sent on.
func (t *trace) gotConn(c *conn, reused bool) {
	t.note(func(x *exchange) {
		x.phase, x.wire, x.proxy = phaseSend, c.wire, c.proxy
		t.address, t.reused = c.wire.RemoteAddr().String(), reused
		if reused { // a dial that was begun for this attempt is not used by it
			t.phases.DNS, t.phases.Connect, t.phases.TLS = 0, 0, 0
		}
	})
}

// gotInterim looks at an interim answer (1xx). It bounds them together as the header of an answer is bounded: net/http leaves that to
// whoever watches them.
func (t *trace) gotInterim(x *exchange, h http.Header) error {
	size := len("HTTP/1.1 100 \r\n\r\n")
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(": \r\n") + len(v)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x.interim += size
	x.oddLength = x.oddLength || hasLength(h, nil)
	if x.interim > maxResponseHeaderBytes {
		return errInterim
	}
	return nil
}

// repeat reports that the request needs a new connection. reason is "" if nothing was sent on the one before.
func (t *trace) repeat(reason Repeat) {
	t.note(func(*exchange) {
		if t.reused = false; reason != "" {
			t.repeats = append(t.repeats, reason)
		}
	})
}

// wroteHeader reports whether the request's header was written to the connection in use.
func (t *trace) wroteHeader() bool { return t.look(func(x *exchange) bool { return x.wroteHeader }) }

// answered reports whether a byte of an answer has arrived on it, which may be an interim one.
func (t *trace) answered() bool {
	return t.look(func(x *exchange) bool { return x.phase == phaseHeader })
}

// lengthInInterim reports whether an interim answer on it claimed to have a body. Nobody reads such a body as one.
func (t *trace) lengthInInterim() bool { return t.look(func(x *exchange) bool { return x.oddLength }) }

func (t *trace) look(at func(*exchange) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return at(t.exchange)
}

// situation returns what classify has to know. timeout is that of the attempt.
func (t *trace) situation(timeout time.Duration) situation {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := situation{address: t.address, timeout: timeout, expired: time.Since(t.started) >= timeout}
	x := t.exchange
	if x == nil {
		return s
	}
	s.phase, s.proxy, s.wantsCertificate, s.tls = x.phase, x.proxy, x.wantsCertificate, x.tls
	s.server = net.JoinHostPort(x.to.Hostname(), cmp.Or(x.to.Port(), "443"))
	if x.mail != nil {
		s.mail, s.command, s.first = true, x.command, x.mail.first
	}
	if x.wire == nil {
		return s
	}
	if !x.overTLS {
		s.first = x.wire.beginning()
	}
	if x.phase == phaseWait && x.wire.cut() { // net/http was told that all was written
		s.phase = phaseSend
	}
	return s
}

// end ends the trace and puts what it has seen into the outcome.
func (t *trace) end(o *Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	token := o.Phases.Token
	o.Phases = t.phases
	o.Phases.Token, o.Address, o.Reused = token, t.address, t.reused
	if len(t.repeats) > 0 {
		o.Repeated = t.repeats[0] // there is one at most
	}
	if !t.wrote {
		o.Sent = Sent{}
	}
}

// stop ends the trace and returns the repeats.
func (t *trace) stop() []Repeat {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	return t.repeats
}
