package send

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Limits of an attempt beside its timeout; see durability.md, 10, for what happens without them.
const (
	connectKeepAlive = 30 * time.Second
	// handshakeTimeout is no less than any attempt's timeout, which bounds handshakes; see progress.dialled. It is for the second handshake of
	// a dial, which is within that with an https proxy.
	handshakeTimeout       = 2 * time.Minute
	maxResponseHeaderBytes = 32 << 10
	idleConnTimeout        = 90 * time.Second
	// idleConnsPerHost is more than the attempts that an endpoint has in flight by default, so that each keeps its connection.
	idleConnsPerHost = 64
	// How much an endpoint may send over HTTP/2 before it is read.
	http2StreamBuffer = 64 << 10
	http2ConnBuffer   = 1 << 20
)

// transports has a transport for each set of allowed networks. So a connection to an address that only some endpoints may use is in no
// pool where the attempts of others would find it.
type transports struct {
	options Options
	base    http.RoundTripper // for endpoints without networks of their own, which most are; Options.Transport is for all

	mu    sync.Mutex                            // guards what follows
	byOwn map[string]*http.Transport            // by the text of an endpoint's own networks
	http1 map[http.RoundTripper]*http.Transport // the twins that speak HTTP/1.1 only, of those that needed one
}

func newTransports(o Options) *transports {
	t := &transports{options: o, base: o.Transport, byOwn: make(map[string]*http.Transport), http1: make(map[http.RoundTripper]*http.Transport)}
	if t.base == nil {
		t.base = newTransport(o, nil)
	}
	return t
}

// of returns the transport for an endpoint with these networks of its own.
func (t *transports) of(own []netip.Prefix) http.RoundTripper {
	if len(own) == 0 || t.options.Transport != nil {
		return t.base
	}
	key := fmt.Sprint(own)
	t.mu.Lock()
	defer t.mu.Unlock()
	transport := t.byOwn[key]
	if transport == nil {
		transport = newTransport(t.options, own)
		t.byOwn[key] = transport
	}
	return transport
}

// closeUnused drops the transports of networks that are not in use.
func (t *transports) closeUnused(inUse iter.Seq[[]netip.Prefix]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byOwn) == 0 {
		return
	}
	needed := make(map[string]bool)
	for own := range inUse {
		needed[fmt.Sprint(own)] = true
	}
	for key, transport := range t.byOwn {
		if !needed[key] {
			transport.CloseIdleConnections()
			delete(t.byOwn, key)
			t.closeHTTP1Locked(transport)
		}
	}
}

// overHTTP1 returns the twin of a transport that speaks HTTP/1.1 only; the transport itself if it is one that only tests set.
func (t *transports) overHTTP1(of http.RoundTripper) http.RoundTripper {
	transport, ok := of.(*http.Transport)
	if !ok {
		return of
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	twin := t.http1[of]
	if twin == nil {
		twin = transport.Clone()
		twin.ForceAttemptHTTP2, twin.TLSNextProto = false, map[string]func(string, *tls.Conn) http.RoundTripper{}
		twin.TLSClientConfig.NextProtos = []string{"http/1.1"}
		t.http1[of] = twin
	}
	return twin
}

func (t *transports) closeHTTP1Locked(of http.RoundTripper) {
	if twin := t.http1[of]; twin != nil {
		twin.CloseIdleConnections()
		delete(t.http1, of)
	}
}

func (t *transports) closeIdleConnections() {
	t.closeUnused(slices.Values[[][]netip.Prefix](nil))
	if base, ok := t.base.(*http.Transport); ok {
		base.CloseIdleConnections()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.closeHTTP1Locked(base)
	}
}

// newTransport returns a transport that guards its dials, bounds what it reads, and asks for no compression.
func newTransport(o Options, own []netip.Prefix) *http.Transport {
	t := &http.Transport{
		DialContext:            guard{o.AllowNetworks}.with(own).dialer(o.Resolver),
		ForceAttemptHTTP2:      true,
		TLSClientConfig:        &tls.Config{GetClientCertificate: noteCertificateRequest},
		TLSHandshakeTimeout:    handshakeTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		DisableCompression:     true,
		OnProxyConnectResponse: connectRefused,
		MaxIdleConnsPerHost:    idleConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		// Little more than 1 KiB of a body is read: larger buffers would be wasted memory.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: http2StreamBuffer, MaxReceiveBufferPerConnection: http2ConnBuffer},
	}
	if o.ProxyFromEnvironment {
		t.Proxy = noteProxy(http.ProxyFromEnvironment)
		t.DialContext = toProxies(t.DialContext)
	}
	return t
}

// toProxies lets a dialer connect to the environment's proxies whatever their addresses: the operator has set them.
func toProxies(guarded func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	proxies := make(map[string]bool)
	for _, scheme := range []string{"http", "https"} {
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: "endpoint.invalid"}})
		if err != nil || proxy == nil {
			continue
		}
		port := proxy.Port()
		if port == "" {
			port = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
		}
		proxies[net.JoinHostPort(proxy.Hostname(), cmp.Or(port, "80"))] = true
	}
	free := withinAttempt((&net.Dialer{KeepAlive: connectKeepAlive}).DialContext)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if proxies[address] {
			return free(ctx, network, address)
		}
		return guarded(ctx, network, address)
	}
}
