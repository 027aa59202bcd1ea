package engine

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"sync"
	"time"
)

// trace watches an attempt from within net/http, for its phases. The connection may come from a dial that another attempt has begun,
// and a dial may go on after its attempt: what comes in after the end is dropped.
type trace struct {
	started time.Time

	mu                      sync.Mutex // guards what follows: dials run side by side
	ended                   bool
	phases                  Phases
	dnsAt, connectAt, tlsAt time.Time
	address                 string
	reused                  bool
	wrote                   bool // the request's header
}

// with returns a context whose request is watched.
func (t *trace) with(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { t.note(func(now time.Time) { t.dnsAt = now }) },
		DNSDone:  func(httptrace.DNSDoneInfo) { t.note(func(now time.Time) { t.phases.DNS = now.Sub(t.dnsAt) }) },
		ConnectStart: func(_, address string) {
			t.note(func(now time.Time) { t.connectAt, t.address = now, address })
		},
		ConnectDone: func(_, address string, err error) {
			t.note(func(now time.Time) { t.phases.Connect = now.Sub(t.connectAt) })
		},
		TLSHandshakeStart: func() { t.note(func(now time.Time) { t.tlsAt = now }) },
		TLSHandshakeDone: func(tls.ConnectionState, error) {
			t.note(func(now time.Time) { t.phases.TLS = now.Sub(t.tlsAt) })
		},
		GotConn: func(info httptrace.GotConnInfo) {
			t.note(func(time.Time) {
				t.address, t.reused = info.Conn.RemoteAddr().String(), info.Reused
				if info.Reused { // a dial that was begun for it is of no use to it
					t.phases.DNS, t.phases.Connect, t.phases.TLS = 0, 0, 0
				}
			})
		},
		WroteHeaders:         func() { t.note(func(time.Time) { t.wrote = true }) },
		GotFirstResponseByte: func() { t.note(func(now time.Time) { t.phases.FirstByte = now.Sub(t.started) }) },
	})
}

func (t *trace) note(f func(now time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		f(time.Now())
	}
}

// end writes what was seen into the attempt.
func (t *trace) end(a *Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	token := a.Phases.Token
	a.Phases = t.phases
	a.Phases.Token, a.Address, a.Reused = token, t.address, t.reused
	if !t.wrote {
		a.Sent = Sent{}
	}
}
