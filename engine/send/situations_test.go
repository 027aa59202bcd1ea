package send

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// peerOf is a peer that a situation needs. It returns a sender that reaches it, and the URL without its path.
type peerOf func(t *testing.T) (s *Sender, endpoint string)

// atSituation is a row of the table of situations: what an attempt meets, and what it tells.
type atSituation struct {
	name   string
	peer   peerOf
	class  ErrorClass
	status int
	// detail is the whole text for people, with ADDR for the host and port of the URL and VIA for those of the proxy.
	detail string
}

// short begins the details of attempts that end with their timeout.
const short = "the timeout of 300ms"

// run makes the attempt of a row. Those that end with their timeout get more of it on a busy machine.
func (row *atSituation) run(t *testing.T) {
	if !strings.HasPrefix(row.detail, short) {
		row.try(t, testTimeout)
		return
	}
	for _, timeout := range []time.Duration{300 * time.Millisecond, 3 * time.Second} {
		if row.meets(t, timeout) == "" {
			return
		}
	}
	row.try(t, 15*time.Second)
}

// try fails the test if the attempt does not meet the row.
func (row *atSituation) try(t *testing.T, timeout time.Duration) {
	if wrong := row.meets(t, timeout); wrong != "" {
		t.Error(wrong)
	}
}

// meets makes an attempt and returns what is wrong with its outcome, "" if nothing is.
func (row *atSituation) meets(t *testing.T, timeout time.Duration) (wrong string) {
	s, endpoint := row.peer(t)
	r := requestTo(endpoint + secretPath)
	r.Timeout = timeout
	if strings.HasPrefix(row.name, "large request") {
		r.Payload = make([]byte, 8<<20) // fits no buffer of the system: an endpoint that does not read it is noticed
	}
	a, err := s.Send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(strings.Replace(row.detail, short, "the timeout of "+timeout.String(), 1), "ADDR", u.Host)
	if choose := poolOf(s).transport.Proxy; choose != nil {
		ctx := context.WithValue(t.Context(), dialKey{}, &dial{conn: new(conn), url: u})
		proxy, _ := choose(new(http.Request).WithContext(ctx))
		want = strings.ReplaceAll(want, "VIA", proxy.Host)
	}
	if strings.Contains(a.ErrorDetail, "hidden") || strings.Contains(a.ErrorDetail, "sekret") || len(a.ErrorDetail) > 500 {
		t.Errorf("the detail tells too much: %s", a.ErrorDetail)
	}
	a.ErrorDetail = sha256Text.ReplaceAllString(a.ErrorDetail, "SHA-256 F")
	if a.Error != row.class || a.Status != row.status || a.ErrorDetail != want || a.Trouble != "" {
		return fmt.Sprintf("got  %d %q: %s (trouble %q)\nwant %d %q: %s", a.Status, a.Error, a.ErrorDetail, a.Trouble, row.status, row.class, want)
	}
	return ""
}

// sha256Text finds the fingerprint of a certificate.
var sha256Text = regexp.MustCompile("SHA-256 [0-9A-F]{64}")

// TestSituations: each error says what failed, when, and what to do. Each is made by a peer on this machine's loopback.
func TestSituations(t *testing.T) {
	seen := make(map[string]bool)
	rows := 0
	for topic, table := range map[string][]atSituation{
		"lookup": lookupSituations, "connect": connectSituations, "TLS": tlsSituations, "certificate": certificateSituations, "proxy": proxySituations,
		"answer": answerSituations, "no HTTP": otherProtocolSituations, "header": headerSituations, "status": statusSituations,
		"redirect": redirectSituations, "HTTP2": http2Situations,
	} {
		for _, row := range table {
			rows++
			if name := topic + row.name; seen[name] {
				t.Errorf("two rows have the name %s", name)
			} else {
				seen[name] = true
			}
			t.Run(topic+"/"+row.name, row.run)
		}
	}
	if rows < 40 {
		t.Errorf("%d situations", rows)
	}
}

// raw is a peer that speaks plain TCP: each connection is handed to serve.
func raw(scheme string, serve func(*net.TCPConn)) peerOf {
	return func(t *testing.T) (*Sender, string) {
		address, _ := serveRaw(t, serve)
		s, _ := testSender(t, loopback...)
		return s, scheme + "://" + address
	}
}

// says answers each request with these bytes, and then ends the connection.
func says(answer string) peerOf {
	return raw("http", func(conn *net.TCPConn) {
		if takeRequest(bufio.NewReader(conn)) == nil {
			io.WriteString(conn, answer)
		}
	})
}

// hears reads all that it is sent and answers nothing more.
func hears(conn *net.TCPConn) { io.Copy(io.Discard, conn) }

// resolving is a peer that is not there: the name server answers with a code and these records.
func resolving(code dnsmessage.RCode) peerOf {
	return func(t *testing.T) (*Sender, string) {
		s := New(Options{Resolver: nameServer(t, dnsmessage.RCodeSuccess, code)})
		t.Cleanup(s.CloseIdleConnections)
		return s, "http://endpoint.example"
	}
}

var lookupSituations = []atSituation{
	{"no such host", resolving(dnsmessage.RCodeNameError), ErrorDNS, 0,
		"looking up ADDR: no such host, or one without an address; is the name right?"},
	{"no address", resolving(dnsmessage.RCodeSuccess), ErrorDNS, 0,
		"looking up ADDR: no such host, or one without an address; is the name right?"},
	{"server failure", resolving(dnsmessage.RCodeServerFailure), ErrorDNS, 0,
		"looking up ADDR: its name servers fail; ask whoever runs them"},
	{"silence", resolving(noAnswer), ErrorTimeout, 0,
		"the timeout of 300ms ended while the host name was looked up; are its name servers up?"},
}

// nobody is a port on which nothing listens.
func nobody(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return listener.Addr().String()
}

var connectSituations = []atSituation{
	{"refused", func(t *testing.T) (*Sender, string) {
		s, _ := testSender(t, loopback...)
		return s, "http://" + nobody(t)
	}, ErrorRefused, 0, "connecting to ADDR: connection refused; is a server listening there, and is the port right?"},
	{"silence", func(t *testing.T) (*Sender, string) { // as of a firewall that drops the packets
		s, _ := testSender(t, loopback...)
		poolOf(s).dialNet = func(ctx context.Context, network, address string) (net.Conn, error) {
			httptrace.ContextClientTrace(ctx).ConnectStart(network, address)
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
		}
		return s, "http://127.0.0.1:9"
	}, ErrorTimeout, 0, "the timeout of 300ms ended while connecting to ADDR; does a firewall drop the packets?"},
	{"address refused", func(t *testing.T) (*Sender, string) {
		s, _ := testSender(t)
		return s, "http://127.0.0.1:9"
	}, ErrorAddressRefused, 0, `dial tcp 127.0.0.1:9: address refused: 127.0.0.1 is not a public address; to allow it, name it in the webhook's ` +
		`allow_networks, set delivery.allow_networks = ["127.0.0.1/32"] or start with -allow 127.0.0.1/32`},
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T) *authority {
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.certificate, _ = x509.ParseCertificate(der)
	return a
}

// issue returns a certificate for 127.0.0.1 that the authority has signed; change may change it.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Endpoint"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secured is an HTTPS endpoint that answers 200. settle may change its certificate and settings; the sender trusts its authority.
func secured(settle func(*tls.Config), change func(*x509.Certificate)) peerOf {
	return func(t *testing.T) (*Sender, string) {
		ca := newAuthority(t)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, change)}}
		if settle != nil {
			settle(server.TLS)
		}
		server.StartTLS()
		t.Cleanup(server.Close)
		s, transport := testSender(t, loopback...)
		transport.TLSClientConfig.RootCAs = trusting(ca)
		return s, server.URL
	}
}

func trusting(a *authority) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// untrusted is a peer whose authority the sender does not know.
func untrusted(peer peerOf) peerOf {
	return func(t *testing.T) (*Sender, string) {
		s, endpoint := peer(t)
		poolOf(s).transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		return s, endpoint
	}
}

// alerting is a peer that answers a handshake with an alert.
func alerting(code byte) peerOf {
	return raw("https", func(conn *net.TCPConn) {
		conn.Read(make([]byte, 1<<16))
		conn.Write([]byte{21, 3, 3, 0, 2, 2, code})
		hears(conn)
	})
}

// banner is a peer that begins to speak, or answers what it reads first.
func banner(scheme, text string) peerOf {
	return raw(scheme, func(conn *net.TCPConn) {
		conn.Read(make([]byte, 1<<16))
		io.WriteString(conn, text)
		hears(conn)
	})
}

// oldHello is a ServerHello of TLS 1.1.
var oldHello = "\x16\x03\x02\x00\x2a" + "\x02\x00\x00\x26\x03\x02" + strings.Repeat("r", 32) + "\x00\xc0\x2f\x00"

var tlsSituations = []atSituation{
	{"silence", raw("https", hears), ErrorTimeout, 0, "the timeout of 300ms ended during the TLS handshake with ADDR; does this port speak TLS?"},
	{"end", raw("https", func(conn *net.TCPConn) { conn.Read(make([]byte, 1<<16)) }), ErrorReset, 0,
		"the endpoint closed the connection during the TLS handshake; does this port speak TLS?"},
	{"reset", raw("https", func(conn *net.TCPConn) { conn.Read(make([]byte, 1)); conn.SetLinger(0) }), ErrorReset, 0,
		"the endpoint reset the connection during the TLS handshake; does this port speak TLS?"},
	{"plain HTTP", func(t *testing.T) (*Sender, string) {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.Start()
		t.Cleanup(server.Close)
		s, _ := testSender(t, loopback...)
		return s, strings.Replace(server.URL, "http:", "https:", 1)
	}, ErrorTLS, 0, "the endpoint answers plain HTTP on this port: is the URL meant to be http://?"},
	{"SSH", banner("https", "SSH-2.0-OpenSSH_9.9\r\n"), ErrorTLS, 0, "the endpoint does not speak TLS on this port, but SSH; is the port right?"},
	{"SMTP", banner("https", "220 mail.example ESMTP\r\n"), ErrorTLS, 0, "the endpoint does not speak TLS on this port, but SMTP or FTP; is the port right?"},
	{"something else", banner("https", "hello hello\r\n"), ErrorTLS, 0, "the endpoint does not speak TLS on this port; is the port right?"},
	{"TLS 1.1, by alert", secured(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, nil), ErrorTLS, 0,
		"the endpoint ended TLS with alert 70 (protocol version not supported); it needs TLS 1.2 or later"},
	{"TLS 1.1, by hello", banner("https", oldHello), ErrorTLS, 0,
		"the endpoint speaks only a version of TLS that is too old; it needs TLS 1.2 or later"},
	{"client certificate, TLS 1.3", secured(func(c *tls.Config) { c.ClientAuth, c.MinVersion = tls.RequireAnyClientCert, tls.VersionTLS13 }, nil), ErrorTLS, 0,
		"the endpoint ended TLS with alert 116 (certificate required); it requires a client certificate: set tls.cert and tls.key"},
	{"client certificate, TLS 1.2", secured(func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }, nil), ErrorTLS, 0,
		"the endpoint ended TLS with alert 40 (handshake failure); it requires a client certificate: set tls.cert and tls.key"},
	{"no cipher in common", secured(func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	}, nil), ErrorTLS, 0, "the endpoint ended TLS with alert 40 (handshake failure); it shares no cipher with hookbolt"},
	{"unknown name", alerting(112), ErrorTLS, 0, "the endpoint ended TLS with alert 112 (unrecognized name); it has no certificate for this host name"},
	{"fault of the endpoint", alerting(80), ErrorTLS, 0, "the endpoint ended TLS with alert 80 (internal error)"},
}

var year2001 = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

var certificateSituations = []atSituation{
	{"expired", secured(nil, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = year2001.Add(-time.Hour), year2001 }), ErrorTLS, 0,
		"the certificate expired at 2001-02-03 04:05 UTC; renew it"},
	{"not yet valid", secured(nil, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = year2001.AddDate(200, 0, 0), year2001.AddDate(201, 0, 0)
	}), ErrorTLS, 0,
		"the certificate is not valid before 2201-02-03 04:05 UTC; are the clocks right?"},
	{"unknown authority", untrusted(secured(nil, nil)), ErrorTLS, 0,
		`the certificate is by an authority that hookbolt does not know ("CN=Endpoint", SHA-256 F, by "CN=Authority"); does the endpoint send the intermediate ` +
			`certificates, too? To trust the authority, put its certificate into tls.ca: the last that openssl s_client -showcerts -connect ADDR shows, or ask ` +
			`whoever runs the endpoint`},
	{"self-signed", func(t *testing.T) (*Sender, string) {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		s, _ := testSender(t, loopback...)
		return s, server.URL
	}, ErrorTLS, 0, `the certificate is self-signed ("O=Acme Co", SHA-256 F); get one of a public authority, or trust this one: if openssl s_client -showcerts ` +
		`-connect ADDR shows the same, and it is the endpoint's, put it into tls.ca`},
	{"another name", secured(nil, func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = nil, []string{"a.example", "b.example", "*.c.example", "d.example"}
	}), ErrorTLS, 0,
		"the certificate is not for 127.0.0.1, but for a.example, b.example, *.c.example and 1 more; is the host name right? If the endpoint has no other certificate, " +
			"set tls.server_name to one of its names"},
	{"no name", secured(nil, func(c *x509.Certificate) { c.IPAddresses = nil }), ErrorTLS, 0,
		"the certificate has no name that counts (subjectAltName), whatever its common name is; reissue it, with openssl req -addext subjectAltName=IP:127.0.0.1"},
	{"for clients", secured(nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), ErrorTLS, 0,
		"the certificate is not one for servers"},
}
