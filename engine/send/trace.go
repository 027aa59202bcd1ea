package send

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"
)

// trace measures the phases of an attempt, or of the request for its token, from within net/http and the pool. What is reported after the
// end is dropped: goroutines of net/http may outlive the attempt.
type trace struct {
	started time.Time

	mu                      sync.Mutex // guards what follows: dials run in parallel
	ended                   bool
	phases                  Phases
	dnsAt, connectAt, tlsAt time.Time
	address                 string
	reused                  bool
	wrote                   bool     // the request's header
	lookup                  bool     // of a name is under way
	repeats                 []Repeat // requests that were sent again

	// What follows is about the connection in use; a repeat has another one.
	wroteHere bool // the request's header
	byteHere  bool // of an answer, which may be an interim one
	interim   int  // bytes of interim answers
	oddHere   bool // an interim answer claimed to have a body
}

// traceKey is the key of a trace in a context.
type traceKey struct{}

// watch returns a context in which net/http and the pool report to the trace.
func (t *trace) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(context.WithValue(ctx, traceKey{}, t), t.hooks())
}

// traceOf returns the trace of a request; one that nobody looks at if it has none.
func traceOf(ctx context.Context) *trace {
	if t, ok := ctx.Value(traceKey{}).(*trace); ok {
		return t
	}
	return &trace{started: time.Now()}
}

// hooks returns the callbacks with which net/http reports to the trace.
func (t *trace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { t.record(func(now time.Time) { t.dnsAt, t.lookup = now, true }) },
		DNSDone: func(httptrace.DNSDoneInfo) {
			t.record(func(now time.Time) { t.phases.DNS, t.lookup = now.Sub(t.dnsAt), false })
		},
		ConnectStart: func(_, address string) {
			t.record(func(now time.Time) { t.connectAt, t.address = now, address })
		},
		ConnectDone: func(_, address string, err error) {
			t.record(func(now time.Time) { t.phases.Connect = now.Sub(t.connectAt) })
		},
		TLSHandshakeStart: func() { t.record(func(now time.Time) { t.tlsAt = now }) },
		TLSHandshakeDone: func(tls.ConnectionState, error) {
			t.record(func(now time.Time) { t.phases.TLS = now.Sub(t.tlsAt) })
		},
		WroteHeaders:   func() { t.record(func(time.Time) { t.wrote, t.wroteHere = true, true }) },
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { return t.gotInterim(http.Header(h)) },
		GotFirstResponseByte: func() {
			t.record(func(now time.Time) { t.phases.FirstByte, t.byteHere = now.Sub(t.started), true })
		},
	}
}

// gotConn reports the connection that the request is sent on.
func (t *trace) gotConn(address net.Addr, reused bool) {
	t.record(func(time.Time) {
		t.address, t.reused = address.String(), reused
		t.wroteHere, t.byteHere, t.interim, t.oddHere = false, false, 0, false
		if reused { // a dial that was begun for this attempt is not used by it
			t.phases.DNS, t.phases.Connect, t.phases.TLS = 0, 0, 0
		}
	})
}

// errInterim is the error of interim answers that are too many. Since the trace watches them, net/http does not bound them.
var errInterim = fmt.Errorf("1xx responses of more than %d bytes", maxResponseHeaderBytes)

// gotInterim looks at an interim answer.
func (t *trace) gotInterim(h http.Header) error {
	size := len("HTTP/1.1 100 \r\n\r\n")
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(": \r\n") + len(v)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.interim += size
	t.oddHere = t.oddHere || hasLength(h, nil)
	if t.interim > maxResponseHeaderBytes {
		return errInterim
	}
	return nil
}

// repeat reports that the request needs a new connection. reason is "" if nothing was sent on the one before.
func (t *trace) repeat(reason Repeat) {
	t.record(func(time.Time) {
		if t.reused = false; reason != "" {
			t.repeats = append(t.repeats, reason)
		}
	})
}

// wroteHeader reports whether the request's header was written to the connection in use.
func (t *trace) wroteHeader() bool { return t.look(&t.wroteHere) }

// answered reports whether a byte of an answer has arrived on it.
func (t *trace) answered() bool { return t.look(&t.byteHere) }

// lengthInInterim reports whether an interim answer on it claimed to have a body. Nobody reads such a body as one.
func (t *trace) lengthInInterim() bool { return t.look(&t.oddHere) }

func (t *trace) look(at *bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *at
}

func (t *trace) record(change func(now time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		change(time.Now())
	}
}

// lookingUp reports whether the attempt ended during the lookup of a name.
func (t *trace) lookingUp() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lookup
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
