package send

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/net/http/httpproxy"
)

// NO_PROXY may name a port. net/http's own way of asking for the proxy of a connection leaves it out of the URL.
func TestNoProxyForPort(t *testing.T) {
	s, transport := testSender(t)
	environment := httpproxy.Config{HTTPProxy: "http://proxy.example:3128", HTTPSProxy: "http://proxy.example:3128", NoProxy: "a.example:8080,b.example:443"}
	choose := environment.ProxyFunc()
	transport.Proxy = noteProxy(func(r *http.Request) (*url.URL, error) { return choose(r.URL) })
	var dialled []string
	poolOf(s).dialNet = func(_ context.Context, network, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	for _, endpoint := range []string{"http://a.example:8080/", "http://a.example:8081/", "https://b.example/", "http://b.example/"} {
		if a := try(t, s, endpoint, testTimeout); a.Error != ErrorRefused {
			t.Errorf("%s: %q: %s", endpoint, a.Error, a.ErrorDetail)
		}
	}
	if want := []string{"a.example:8080", "proxy.example:3128", "b.example:443", "proxy.example:3128"}; !slices.Equal(dialled, want) {
		t.Errorf("dialled %q, want %q", dialled, want)
	}
}

// A proxy is named also in what comes over a connection that was there before.
func TestProxyOfReusedConnection(t *testing.T) {
	address, accepted := serveRaw(t, answering("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"))
	s := behind(t, "http", address)
	for i := range 2 {
		a := try(t, s, "http://endpoint.example/", testTimeout)
		if want := "the endpoint answered 407 Proxy Authentication Required; the proxy " + address + " did: its user name and password in HTTP_PROXY are missing or wrong"; a.ErrorDetail != want || a.Reused != (i > 0) || accepted.Load() != 1 {
			t.Errorf("%d: reused %t: %s", i, a.Reused, a.ErrorDetail)
		}
	}
}
