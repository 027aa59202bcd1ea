package send

import (
	"context"
	"crypto/tls"
	"fmt"
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

// progress is how far a request has come, and what it has met: what its error does not tell. It travels with the request's context, which
// net/http hands to dials without its deadline: a dial may serve another attempt, so it goes on when its own attempt has ended.
type progress struct {
	deadline time.Time // of the attempt

	mu    sync.Mutex // guards what follows: dials run in parallel
	phase phase
	// address is the address that was connected to, or tried last; "" if none was. proxy is the host and port of the proxy, "" without one.
	address, proxy string
	conn           *peerConn // the connection that was made or is used; nil if there is none yet
	// wantsCertificate says that the endpoint has asked for a client certificate.
	wantsCertificate bool
	overTLS          bool // the request is sent over TLS
	interimBytes     int  // of the header of interim responses
}

type progressKey struct{}

// progressOf returns the progress that a context carries; nil if it carries none.
func progressOf(ctx context.Context) *progress {
	p, _ := ctx.Value(progressKey{}).(*progress)
	return p
}

// watch returns a context whose next request reports to the progress.
func (p *progress) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(context.WithValue(ctx, progressKey{}, p), &httptrace.ClientTrace{
		GetConn:      func(string) { p.set(phaseStart) }, // also when net/http repeats a request
		DNSStart:     func(httptrace.DNSStartInfo) { p.dial(phaseLookup, "") },
		ConnectStart: func(_, address string) { p.dial(phaseConnect, address) },
		ConnectDone: func(_, address string, err error) {
			if err == nil {
				p.dial(phaseProxy, address)
			}
		},
		TLSHandshakeStart: func() { p.dial(phaseTLS, "") },
		TLSHandshakeDone:  p.handshakeDone,
		GotConn:           p.gotConn,
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				p.advance(phaseWait)
			}
		},
		GotFirstResponseByte: func() { p.advance(phaseHeader) },
		Got1xxResponse:       p.interim,
	})
}

func (p *progress) set(to phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = to
}

// advance sets a phase unless a later one is reached: an answer may come before the whole request was sent.
func (p *progress) advance(to phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = max(p.phase, to)
}

// dial sets a phase of a dial, unless the request has got another connection meanwhile. A phase lasts until the next one begins: what has
// failed is the phase that was reached last.
func (p *progress) dial(to phase, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase >= phaseSend {
		return
	}
	p.phase = to
	if address != "" {
		p.address = address
	}
}

// dialled takes a new connection. A handshake or a proxy's answer that comes before the request has to end with the attempt: net/http does
// not bound them by the attempt's deadline.
func (p *progress) dialled(c *peerConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.overTLS || p.proxy != "" {
		_ = c.SetDeadline(p.deadline)
	}
	p.conn = c
}

// begin is called before each request.
func (p *progress) begin(to *url.URL) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overTLS = to.Scheme == "https"
}

// handshakeDone lifts the deadline of a connection before net/http may keep it for another attempt.
func (p *progress) handshakeDone(_ tls.ConnectionState, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && p.conn != nil {
		_ = p.conn.SetDeadline(time.Time{})
	}
}

func (p *progress) gotConn(info httptrace.GotConnInfo) {
	c := innermost(info.Conn)
	if c != nil {
		_ = c.SetDeadline(time.Time{})
		c.begin(info.Reused)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.conn, p.address = phaseSend, c, info.Conn.RemoteAddr().String()
}

// interim bounds the interim responses (1xx) together as a response's header is bounded. net/http leaves that to whoever looks at them.
func (p *progress) interim(_ int, header textproto.MIMEHeader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	const statusLine = 32
	p.interimBytes += statusLine
	for name, values := range header {
		for _, value := range values {
			p.interimBytes += len(name) + len(value)
		}
	}
	if p.interimBytes > maxResponseHeaderBytes {
		return errInterim
	}
	return nil
}

// situation returns what classify has to know.
func (p *progress) situation(timeout time.Duration) situation {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := situation{phase: p.phase, address: p.address, proxy: p.proxy, wantsCertificate: p.wantsCertificate, timeout: timeout,
		expired: !time.Now().Before(p.deadline)}
	if p.conn == nil || p.phase < phaseSend {
		return s
	}
	if !p.overTLS {
		s.first = p.conn.beginning()
	}
	if p.phase == phaseWait && p.conn.cut() { // net/http was told that all was written
		s.phase = phaseSend
	}
	return s
}

// noteProxy wraps the choice of a proxy, so that errors can name it. A proxy's URL may hold a password; its host is named.
func noteProxy(choose func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		proxy, err := choose(r)
		if p := progressOf(r.Context()); p != nil && proxy != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.proxy = proxy.Host
		}
		return proxy, err
	}
}

// noteCertificateRequest is a client's GetClientCertificate. hookbolt has no certificate.
func noteCertificateRequest(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if p := progressOf(info.Context()); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.wantsCertificate = true
	}
	return &tls.Certificate{}, nil
}

// connectRefused is a Transport's OnProxyConnectResponse. net/http itself would report the reason phrase alone.
func connectRefused(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{proxy: proxy.Host, status: resp.StatusCode}
}

// proxyError is a proxy's refusal to connect to the endpoint.
type proxyError struct {
	proxy  string // host and port
	status int
}

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy %s answered %s to CONNECT", e.proxy, statusText(e.status))
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// withinAttempt bounds the dials of a dialer by their attempts. With a deadline, net.Dialer leaves each of several addresses its share of
// the time.
func withinAttempt(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		p := progressOf(ctx)
		if p == nil {
			return dial(ctx, network, address)
		}
		ctx, cancel := context.WithDeadline(ctx, p.deadline)
		defer cancel()
		dialled, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &peerConn{Conn: dialled}
		p.dialled(c)
		return c, nil
	}
}
