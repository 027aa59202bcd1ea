package send

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
)

// through is a peer behind a proxy. The proxy's URL has a user name and a password, which no detail may hold.
func through(scheme string, proxy func(*net.TCPConn), endpoint string) peerOf {
	return func(t *testing.T) (*Sender, string) {
		address, _ := serveRaw(t, proxy)
		return behind(t, scheme, address), endpoint
	}
}

// behind returns a sender that sends through a proxy.
func behind(t *testing.T, scheme, address string) *Sender {
	s, transport := testSender(t, loopback...)
	transport.Proxy = noteProxy(http.ProxyURL(&url.URL{Scheme: scheme, User: url.UserPassword("sekret", "sekret"), Host: address}))
	return s
}

// replying is a proxy that answers each request, CONNECT too.
func replying(answer string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		if takeRequest(bufio.NewReader(conn)) == nil {
			io.WriteString(conn, answer)
		}
	}
}

// socks is a SOCKS5 proxy that takes any user and answers a request with a reply of RFC 1928, section 6.
func socks(reply byte) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		b := make([]byte, 1024)
		conn.Read(b)
		conn.Write([]byte{5, 0})
		conn.Read(b)
		conn.Write([]byte{5, reply, 0, 1, 0, 0, 0, 0, 0, 0})
		io.Copy(io.Discard, conn)
	}
}

const behindIt = "https://endpoint.example"

var proxySituations = []atSituation{
	{"wrong password", through("http", replying("HTTP/1.1 407 Go away\r\nContent-Length: 0\r\n\r\n"), behindIt), ErrorRefused, 0,
		"the proxy VIA answered 407 Proxy Authentication Required to CONNECT; its user name and password in HTTPS_PROXY are missing or wrong"},
	{"wrong password, as some say it", through("http", replying("HTTP/1.1 401 No\r\n\r\n"), behindIt), ErrorRefused, 0,
		"the proxy VIA answered 401 Unauthorized to CONNECT; its user name and password in HTTPS_PROXY are missing or wrong"},
	{"not allowed", through("http", replying("HTTP/1.1 403\r\n\r\n"), behindIt), ErrorRefused, 0,
		"the proxy VIA answered 403 Forbidden to CONNECT; it does not allow this host or port"},
	{"endpoint not reached", through("http", replying("HTTP/1.1 502 Bad\r\n\r\n"), behindIt), ErrorRefused, 0,
		"the proxy VIA answered 502 Bad Gateway to CONNECT; it cannot reach the endpoint"},
	{"other refusal", through("http", replying("HTTP/1.1 299 What\r\n\r\n"), behindIt), ErrorRefused, 0,
		"the proxy VIA answered 299 to CONNECT; ask whoever runs the proxy"},
	{"refused", func(t *testing.T) (*Sender, string) { return behind(t, "http", nobody(t)), behindIt }, ErrorRefused, 0,
		"connecting to the proxy VIA: connection refused; is a server listening there, and is the port right?"},
	{"end", through("http", replying(""), behindIt), ErrorReset, 0, "the proxy VIA closed the connection before it was connected to the endpoint"},
	{"silence", through("http", hears, behindIt), ErrorTimeout, 0,
		"the timeout of 300ms ended while the proxy VIA was connecting to the endpoint; can the proxy reach it?"},
	{"no HTTP", through("http", replying("SSH-2.0-OpenSSH_9.9\r\n\r\n"), behindIt), ErrorProtocol, 0, "the proxy VIA does not answer in HTTP; is its port right?"},
	{"SOCKS: refused", through("socks5", socks(5), behindIt), ErrorRefused, 0, "the proxy VIA did not connect to the endpoint: connection refused"},
	{"SOCKS: not allowed", through("socks5", socks(2), "http://endpoint.example"), ErrorRefused, 0,
		"the proxy VIA did not connect to the endpoint: connection not allowed by ruleset"},
	{"SOCKS: end", through("socks5", func(conn *net.TCPConn) { conn.Read(make([]byte, 64)) }, behindIt), ErrorReset, 0,
		"the proxy VIA closed the connection before it was connected to the endpoint"},
	{"SOCKS: silence", through("socks5", hears, "http://endpoint.example"), ErrorTimeout, 0,
		"the timeout of 300ms ended while the proxy VIA was connecting to the endpoint; can the proxy reach it?"},
	{"wrong password, without TLS", through("http", answering("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"), "http://endpoint.example"), ErrorStatus, 407,
		"the endpoint answered 407 Proxy Authentication Required; the proxy VIA did: its user name and password in HTTP_PROXY are missing or wrong"},
	{"endpoint not reached, without TLS", through("http", answering("HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n"), "http://endpoint.example"), ErrorStatus, 502,
		"the endpoint answered 502 Bad Gateway; or the proxy VIA did"},
	{"endpoint without TLS", through("http", func(conn *net.TCPConn) {
		r := bufio.NewReader(conn)
		if takeRequest(r) == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			r.Peek(1)
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			hears(conn)
		}
	}, behindIt), ErrorTLS, 0, "the endpoint answers plain HTTP on this port: is the URL meant to be http://?"},
	{"silence after CONNECT", through("http", func(conn *net.TCPConn) {
		if takeRequest(bufio.NewReader(conn)) == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			hears(conn)
		}
	}, behindIt), ErrorTimeout, 0, "the timeout of 300ms ended during the TLS handshake with the endpoint, through the proxy VIA; does this port speak TLS?"},
}
