package send

import (
	"crypto/tls"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of an attempt beside its timeout; see durability.md, 10, for what happens without them.
const (
	connectKeepAlive       = 30 * time.Second
	maxResponseHeaderBytes = 32 << 10
	// How much an endpoint may send over HTTP/2 before it is read.
	http2StreamBuffer = 64 << 10
	http2ConnBuffer   = 1 << 20
	// An HTTP/2 connection on which nothing arrives for pingAfter is sent a ping, and closed if that is not answered within pingTimeout. The
	// sum is less than the default timeout of an attempt: what was sent into a connection that died silently is sent again in time. Servers
	// that forbid pings to be frequent allow them at this interval.
	pingAfter   = 5 * time.Second
	pingTimeout = 5 * time.Second
)

// transports has pools of connections: one for each set of allowed networks, so that a connection to an address that only some endpoints may
// use is in no pool where the attempts of others would find it, and within it one for endpoints that want no HTTP/2.
type transports struct {
	options Options

	mu    sync.Mutex
	pools map[poolKey]*pool // guarded by mu
}

// poolKey is what attempts that share connections have in common.
type poolKey struct {
	own     string // the endpoint's own networks, as text; "" for none, which most have
	noHTTP2 bool
}

func poolKeyOf(own []netip.Prefix, noHTTP2 bool) poolKey {
	if len(own) == 0 {
		return poolKey{noHTTP2: noHTTP2}
	}
	return poolKey{fmt.Sprint(own), noHTTP2}
}

func newTransports(o Options) *transports {
	return &transports{options: o, pools: make(map[poolKey]*pool)}
}

// of returns the transport for a request.
func (t *transports) of(r *Request) http.RoundTripper {
	if t.options.Transport != nil {
		return traced{t.options.Transport}
	}
	key := poolKeyOf(r.AllowNetworks, r.NoHTTP2)
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pools[key]
	if p == nil {
		p = newPool(t.options, r.AllowNetworks, r.NoHTTP2)
		t.pools[key] = p
	}
	return p
}

// traced lets the trace watch a transport that a test has set, as it watches a pool.
type traced struct{ http.RoundTripper }

func (t traced) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	return t.RoundTripper.RoundTrip(req.WithContext(traceOf(ctx).begin(ctx, req.URL)))
}

// closeUnused drops the pools of networks that are not in use.
func (t *transports) closeUnused(inUse iter.Seq[[]netip.Prefix]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	needed := map[string]bool{"": true}
	for own := range inUse {
		if len(own) > 0 {
			needed[fmt.Sprint(own)] = true
		}
	}
	for key, p := range t.pools {
		if !needed[key.own] {
			p.closeIdleConnections()
			delete(t.pools, key)
		}
	}
}

func (t *transports) closeIdleConnections() {
	t.closeUnused(slices.Values[[][]netip.Prefix](nil))
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pools {
		p.closeIdleConnections()
	}
}

// newPool returns a pool whose transport guards its dials, bounds what it reads, and asks for no compression.
func newPool(o Options, own []netip.Prefix, noHTTP2 bool) *pool {
	p := &pool{dialNet: guard{o.AllowNetworks}.with(own).dialer(o.Resolver), hosts: make(map[hostKey]*host)}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!noHTTP2)
	p.transport = &http.Transport{
		DialContext:            p.dialWire,
		Protocols:              protocols,
		TLSClientConfig:        &tls.Config{GetClientCertificate: noteCertificateRequest},
		OnProxyConnectResponse: connectRefused,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		DisableCompression:     true,
		IdleConnTimeout:        idleConnTimeout, // of HTTP/2
		// Little more than 1 KiB of a body is read: larger buffers would be wasted memory.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: http2StreamBuffer, MaxReceiveBufferPerConnection: http2ConnBuffer,
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: pingAfter + pingTimeout},
	}
	p.onlyHTTP1 = sync.OnceValue(func() *http.Transport {
		twin := p.transport.Clone()
		twin.Protocols.SetHTTP2(false)
		twin.TLSClientConfig.NextProtos = nil
		return twin
	})
	if o.ProxyFromEnvironment {
		p.transport.Proxy = noteProxy(http.ProxyFromEnvironment)
		p.dialNet = toProxies(p.dialNet)
	}
	return p
}

// noteCertificateRequest is a client's GetClientCertificate. hookbolt has no certificate.
func noteCertificateRequest(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	traceOf(info.Context()).note(func(x *exchange) { x.wantsCertificate = true })
	return &tls.Certificate{}, nil
}
