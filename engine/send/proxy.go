package send

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// noteProxy makes a Proxy of a transport from the choice of a proxy: it notes the choice, so that errors can name it. A proxy's URL may hold
// a password; its host is named. NewClientConn asks with a made-up request that lacks the port, which NO_PROXY may name.
func noteProxy(choose func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		d := r.Context().Value(dialKey{}).(*dial)
		proxy, err := choose(&http.Request{URL: d.url})
		if proxy == nil {
			return nil, err
		}
		if proxy.Scheme == "https" { // dialWire begins TLS with it
			plain := *proxy
			plain.Scheme, plain.Host = "http", net.JoinHostPort(proxy.Hostname(), cmp.Or(proxy.Port(), "443"))
			proxy, d.conn.secure = &plain, true
		}
		d.conn.proxy = proxy.Host
		traceOf(r.Context()).note(func(x *exchange) { x.proxy = proxy.Host })
		return proxy, err
	}
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

// toProxies lets a dialer connect to the environment's proxies whatever their addresses: the operator has set them.
func toProxies(guarded dialFunc) dialFunc {
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
	free := net.Dialer{KeepAlive: connectKeepAlive}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if proxies[address] {
			return free.DialContext(ctx, network, address)
		}
		return guarded(ctx, network, address)
	}
}
