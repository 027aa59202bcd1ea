package send

import (
	"crypto/tls"
	"iter"
	"net/http"
	"net/netip"
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
// use is in no pool where the attempts of others would find it, and within it one for endpoints that want no HTTP/2, and for each client
// certificate and other settings of TLS: a connection stays what its handshake has made of it.
type transports struct {
	options Options
	tls     *tlsSettings

	mu    sync.Mutex
	pools map[poolKey]*pool // guarded by mu
}

// poolKey is what attempts that share connections have in common.
type poolKey struct {
	own     string // the endpoint's own networks, as text; "" for none, which most have
	noHTTP2 bool
	tls     string // tlsClient.key
}

// ownNetworks writes an endpoint's own networks for poolKey.
func ownNetworks(own []netip.Prefix) string {
	if len(own) == 0 {
		return ""
	}
	text := make([]byte, 0, 64) // on the stack for most
	for _, network := range own {
		text = append(network.AppendTo(text), ' ')
	}
	return string(text)
}

func newTransports(o Options) *transports {
	t := &transports{options: o, pools: make(map[poolKey]*pool)}
	t.tls = newTLSSettings(&t.options, func(replaced string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.closeLocked(func(key poolKey) bool { return key.tls == replaced })
	})
	return t
}

// of returns the transport for a request, with its TLS settings. trouble says why their files cannot be used as they are now; "" for most. The
// error is a TLSError: there is nothing to use.
func (t *transports) of(r *Request) (transport http.RoundTripper, trouble string, err error) {
	return t.with(r, r.tls())
}

// with is of with other TLS settings.
func (t *transports) with(r *Request, settings TLS) (transport http.RoundTripper, trouble string, err error) {
	client, trouble, err := t.tls.of(settings)
	if err != nil {
		return nil, "", err
	}
	if t.options.Transport != nil {
		return traced{t.options.Transport}, trouble, nil
	}
	key := poolKey{ownNetworks(r.AllowNetworks), r.NoHTTP2, client.key}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pools[key]
	if p == nil {
		p = newPool(t, r, client)
		t.pools[key] = p
	}
	return p, trouble, nil
}

// closeLocked drops pools.
func (t *transports) closeLocked(which func(poolKey) bool) {
	for key, p := range t.pools {
		if which(key) {
			p.closeIdleConnections()
			delete(t.pools, key)
		}
	}
}

// forProxies returns the TLS configuration for a proxy: that of the defaults. What a webhook sets is for its endpoint alone.
func (t *transports) forProxies(host string) (*tls.Config, error) {
	config, _, err := t.byDefault(host)
	return config, err
}

// byDefault returns the TLS configuration for a server without TLS settings of its own. trouble and the error are those of tlsSettings.of.
func (t *transports) byDefault(host string) (config *tls.Config, trouble string, err error) {
	client, trouble, err := t.tls.of(TLS{})
	if err != nil {
		return nil, "", err
	}
	return &tls.Config{RootCAs: client.roots, ServerName: host, MinVersion: client.minVersion}, trouble, nil
}

// traced lets the trace watch a transport that a test has set, as it watches a pool.
type traced struct{ http.RoundTripper }

func (t traced) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	watch := traceOf(ctx)
	x := watch.begin(req.URL)
	return t.RoundTripper.RoundTrip(req.WithContext(watch.sending(watch.dialing(ctx, x), x)))
}

// closeUnused drops the pools of networks and of TLS settings that are not in use.
func (t *transports) closeUnused(inUse iter.Seq2[[]netip.Prefix, *TLS]) {
	networks, settings := map[string]bool{"": true}, make(map[TLS]bool)
	for own, with := range inUse {
		networks[ownNetworks(own)] = true
		if with != nil {
			settings[*with] = true
		}
	}
	keys := t.tls.keep(settings)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeLocked(func(key poolKey) bool { return !networks[key.own] || !keys[key.tls] })
}

func (t *transports) closeIdleConnections() {
	t.closeUnused(func(func([]netip.Prefix, *TLS) bool) {})
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pools {
		p.closeIdleConnections()
	}
}

// newPool returns a pool whose transport guards its dials, bounds what it reads, and asks for no compression.
func newPool(t *transports, r *Request, client *tlsClient) *pool {
	o := &t.options
	p := &pool{dialNet: guard{o.AllowNetworks}.with(r.AllowNetworks).dialer(o.Resolver), hosts: make(map[hostKey]*host), tls: client}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!r.NoHTTP2)
	p.transport = &http.Transport{
		DialContext:            p.dialWire,
		Protocols:              protocols,
		TLSClientConfig:        client.config(),
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
		p.proxyTLS = t.forProxies
	}
	return p
}
