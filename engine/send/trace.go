package send

import (
	"crypto/tls"
	"net/http/httptrace"
	"sync"
	"time"
)

// trace measures the phases of an attempt from within net/http. The connection may come from a dial that another attempt has begun, and
// a dial may go on after its attempt: what is reported after the end is dropped.
type trace struct {
	started time.Time

	mu                      sync.Mutex // guards what follows: dials run in parallel
	ended                   bool
	phases                  Phases
	dnsAt, connectAt, tlsAt time.Time
	address                 string
	reused                  bool
	wrote                   bool // the request's header
}

// hooks returns the callbacks with which net/http reports to the trace.
func (t *trace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { t.record(func(now time.Time) { t.dnsAt = now }) },
		DNSDone:  func(httptrace.DNSDoneInfo) { t.record(func(now time.Time) { t.phases.DNS = now.Sub(t.dnsAt) }) },
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
		GotConn: func(info httptrace.GotConnInfo) {
			t.record(func(time.Time) {
				t.address, t.reused = info.Conn.RemoteAddr().String(), info.Reused
				if info.Reused { // a dial that was begun for this attempt is not used by it
					t.phases.DNS, t.phases.Connect, t.phases.TLS = 0, 0, 0
				}
			})
		},
		WroteHeaders:         func() { t.record(func(time.Time) { t.wrote = true }) },
		GotFirstResponseByte: func() { t.record(func(now time.Time) { t.phases.FirstByte = now.Sub(t.started) }) },
	}
}

func (t *trace) record(change func(now time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		change(time.Now())
	}
}

// end ends the trace and puts what it has seen into the outcome.
func (t *trace) end(o *Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	token := o.Phases.Token
	o.Phases = t.phases
	o.Phases.Token, o.Address, o.Reused = token, t.address, t.reused
	if !t.wrote {
		o.Sent = Sent{}
	}
}
