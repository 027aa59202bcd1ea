package engine

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

// Limits of an attempt beside its overall timeout; see durability.md, 10, for what happens without them.
const (
	connectTimeout         = 10 * time.Second
	connectKeepAlive       = 30 * time.Second
	tlsHandshakeTimeout    = 10 * time.Second
	maxResponseHeaderBytes = 32 << 10
	idleConnTimeout        = 90 * time.Second
	// idleConnsPerHost keeps a connection for each of a lane's attempts in flight, by default.
	idleConnsPerHost = 64
	// What an endpoint may have sent ahead of its being read, over HTTP/2.
	http2StreamBuffer = 64 << 10
	http2ConnBuffer   = 1 << 20
)

// transports has a transport for each set of networks that is allowed: a connection that one webhook may have is in no pool where
// another one, which may not, would find it.
type transports struct {
	cfg  Config
	base http.RoundTripper // for the many webhooks without networks of their own; Config.Transport is for all

	mu    sync.Mutex
	byOwn map[string]*http.Transport // by the text of a webhook's own networks; guarded by mu
}

func newTransports(cfg Config) *transports {
	t := &transports{cfg: cfg, base: cfg.Transport, byOwn: make(map[string]*http.Transport)}
	if t.base == nil {
		t.base = newTransport(cfg, nil)
	}
	return t
}

// of returns the transport for a webhook's attempts.
func (t *transports) of(w *Webhook) http.RoundTripper {
	if len(w.AllowNetworks) == 0 || t.cfg.Transport != nil {
		return t.base
	}
	key := fmt.Sprint(w.AllowNetworks)
	t.mu.Lock()
	defer t.mu.Unlock()
	transport := t.byOwn[key]
	if transport == nil {
		transport = newTransport(t.cfg, w.AllowNetworks)
		t.byOwn[key] = transport
	}
	return transport
}

// tidy closes what no webhook needs any more.
func (t *transports) tidy(hooks []*Webhook) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byOwn) == 0 {
		return
	}
	needed := make(map[string]bool)
	for _, w := range hooks {
		needed[fmt.Sprint(w.AllowNetworks)] = true
	}
	for key, transport := range t.byOwn {
		if !needed[key] {
			transport.CloseIdleConnections()
			delete(t.byOwn, key)
		}
	}
}

func (t *transports) closeIdleConnections() {
	t.tidy(nil)
	if base, ok := t.base.(*http.Transport); ok {
		base.CloseIdleConnections()
	}
}

// newTransport makes the transport that attempts go through: guarded at the dial, bounded, without compression.
func newTransport(cfg Config, own []netip.Prefix) *http.Transport {
	t := &http.Transport{
		DialContext:            guard{cfg.AllowNetworks}.with(own).dialer(cfg.Resolver),
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		// Of a body no more than a KiB is read: what an endpoint may send ahead of that is memory for nothing.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: http2StreamBuffer, MaxReceiveBufferPerConnection: http2ConnBuffer},
	}
	if cfg.ProxyFromEnvironment {
		t.Proxy = http.ProxyFromEnvironment
		t.DialContext = toProxies(t.DialContext)
	}
	return t
}

// toProxies lets a dialer go to the environment's proxies whatever their addresses: whoever has set them means them.
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
	free := net.Dialer{Timeout: connectTimeout, KeepAlive: connectKeepAlive}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if proxies[address] {
			return free.DialContext(ctx, network, address)
		}
		return guarded(ctx, network, address)
	}
}
