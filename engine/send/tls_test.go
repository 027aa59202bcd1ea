package send

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// text returns an authority's certificate as PEM.
func (a *authority) text() string { return pemOf("CERTIFICATE", a.certificate.Raw) }

// texts returns a certificate with its chain, and its key, as PEM.
func texts(t *testing.T, c tls.Certificate) (certificate, key string) {
	t.Helper()
	for _, der := range c.Certificate {
		certificate += pemOf("CERTIFICATE", der)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, pemOf("PRIVATE KEY", der)
}

// forClients makes a certificate one of a client of that name.
func forClients(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.IPAddresses, c.ExtKeyUsage = name, nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

// client returns TLS settings with a client certificate of the authority.
func (a *authority) client(t *testing.T, change func(*x509.Certificate)) *TLS {
	cert, key := texts(t, a.issue(t, change))
	return &TLS{Cert: cert, Key: Credential(key)}
}

// selfSigned returns a certificate that has signed itself, and is no authority.
func selfSigned(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "Pinned"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsPeer is an HTTPS endpoint that notes who its clients are.
type tlsPeer struct {
	*httptest.Server
	mu      sync.Mutex
	clients []string // common names, one for each request; "" for none
	names   []string // SNI, one for each handshake
	dials   int
}

func (p *tlsPeer) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.clients...)
}

// newTLSPeer returns an endpoint with these TLS settings. It answers 200.
func newTLSPeer(t *testing.T, http2 bool, config *tls.Config) *tlsPeer {
	p := &tlsPeer{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		name := ""
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		p.clients = append(p.clients, name)
	}))
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.EnableHTTP2, p.TLS = http2, config
	wanted := config.GetConfigForClient
	p.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		p.mu.Lock()
		p.dials++
		p.names = append(p.names, hello.ServerName)
		p.mu.Unlock()
		if wanted != nil {
			return wanted(hello)
		}
		return nil, nil
	}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

// withTLS makes an attempt with TLS settings.
func withTLS(t *testing.T, s *Sender, endpoint string, settings *TLS) Outcome {
	t.Helper()
	if settings != nil {
		if err := CheckTLS(settings); err != nil {
			t.Fatal(err)
		}
	}
	r := requestTo(endpoint)
	r.TLS = settings
	a, err := s.Send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(a.ErrorDetail, "PRIVATE") || len(a.ErrorDetail) > 700 {
		t.Errorf("the detail tells too much: %s", a.ErrorDetail)
	}
	return a
}

func wantTLSError(t *testing.T, a Outcome, parts ...string) {
	t.Helper()
	if a.Error != ErrorTLS && a.Error != ErrorReset {
		t.Fatalf("got %d, %q: %s", a.Status, a.Error, a.ErrorDetail)
	}
	for _, part := range parts {
		if !strings.Contains(a.ErrorDetail, part) {
			t.Errorf("the detail lacks %q: %s", part, a.ErrorDetail)
		}
	}
}

// TestClientCertificate goes through what a peer that wants a client certificate may meet, with each version of TLS and of HTTP.
func TestClientCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", tls.VersionName(version), http2), func(t *testing.T) {
				ca, other := newAuthority(t), newAuthority(t)
				peer := newTLSPeer(t, http2, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert,
					ClientCAs: trusting(ca), MinVersion: version, MaxVersion: version})
				s, _ := testSender(t, loopback...)
				ours := ca.client(t, forClients("ours"))
				ours.CA = ca.text()
				if a := withTLS(t, s, peer.URL, ours); !a.Delivered() || a.Protocol != map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2] {
					t.Fatalf("%s: %s over %s", a.Error, a.ErrorDetail, a.Protocol)
				}
				if a := withTLS(t, s, peer.URL, ours); !a.Delivered() || !a.Reused {
					t.Errorf("the connection was not used again: %+v", a)
				}
				// Others have connections of their own: nobody sends as somebody else.
				wantTLSError(t, withTLS(t, s, peer.URL, &TLS{CA: ca.text()}), "it requires a client certificate: set tls.cert and tls.key")
				second := ca.client(t, forClients("theirs"))
				second.CA = ca.text()
				if a := withTLS(t, s, peer.URL, second); !a.Delivered() || a.Reused {
					t.Errorf("%s: %s, reused %t", a.Error, a.ErrorDetail, a.Reused)
				}
				strange := other.client(t, forClients("strange"))
				strange.CA = ca.text()
				a := withTLS(t, s, peer.URL, strange)
				for range 20 { // with TLS 1.3 the refusal comes after the handshake, and a reset of the connection may overtake it
					if a.Error != ErrorReset {
						break
					}
					a = withTLS(t, s, peer.URL, strange)
				}
				wantTLSError(t, a, `does not accept the client certificate of tls.cert, "CN=strange" by "CN=Authority", which ends at`)
				if got := fmt.Sprint(peer.seen()); got != "[ours ours theirs]" {
					t.Errorf("the clients were %s", got)
				}
			})
		}
	}
}

// TestExpiredClientCertificate: it is refused when it is set, and a stored one is sent, with what is wrong in the detail.
func TestExpiredClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	peer := newTLSPeer(t, false, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusting(ca)})
	old := ca.client(t, func(c *x509.Certificate) {
		forClients("old")(c)
		c.NotBefore, c.NotAfter = year2001.Add(-time.Hour), year2001
	})
	old.CA = ca.text()
	if err := CheckTLS(old); err == nil || err.Error() != "tls.cert expired at 2001-02-03 04:05 UTC: renew it" {
		t.Errorf("got %v", err)
	}
	s, _ := testSender(t, loopback...)
	r := requestTo(peer.URL)
	r.TLS = old
	a, err := s.Send(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	wantTLSError(t, a, `"CN=old" by "CN=Authority", which expired at 2001-02-03 04:05 UTC`)
}

// TestPinning: a self-signed certificate is trusted as its own authority, whatever flags it has, and nothing else is.
func TestPinning(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"leaf":      nil,
		"authority": func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			pinned, next := selfSigned(t, change), selfSigned(t, change)
			pinnedText, _ := texts(t, pinned)
			peer := newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{pinned}})
			s, _ := testSender(t, loopback...)
			wantTLSError(t, withTLS(t, s, peer.URL, nil), "is self-signed", "-showcerts -connect "+strings.TrimPrefix(peer.URL, "https://"), "put it into tls.ca")
			if a := withTLS(t, s, peer.URL, &TLS{CA: pinnedText}); !a.Delivered() {
				t.Errorf("%s: %s", a.Error, a.ErrorDetail)
			}
			nextText, _ := texts(t, next)
			wantTLSError(t, withTLS(t, s, peer.URL, &TLS{CA: nextText}), "is self-signed, and not one of tls.ca", "was it renewed?")
		})
	}
	t.Run("without a name", func(t *testing.T) {
		pinned := selfSigned(t, func(c *x509.Certificate) { c.IPAddresses, c.Subject.CommonName = nil, "127.0.0.1" })
		text, _ := texts(t, pinned)
		peer := newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{pinned}})
		s, _ := testSender(t, loopback...)
		wantTLSError(t, withTLS(t, s, peer.URL, &TLS{CA: text}), "has no name that counts (subjectAltName)", "-addext subjectAltName=IP:127.0.0.1")
	})
	t.Run("another name", func(t *testing.T) {
		pinned := selfSigned(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"hooks.internal"} })
		text, _ := texts(t, pinned)
		peer := newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{pinned}})
		s, _ := testSender(t, loopback...)
		wantTLSError(t, withTLS(t, s, peer.URL, &TLS{CA: text}), "set tls.server_name to one of its names")
		wantTLSError(t, withTLS(t, s, peer.URL, &TLS{CA: text, ServerName: "other.internal"}), "not for other.internal, but for hooks.internal; is tls.server_name right?")
		if a := withTLS(t, s, peer.URL, &TLS{CA: text, ServerName: "hooks.internal"}); !a.Delivered() {
			t.Errorf("%s: %s", a.Error, a.ErrorDetail)
		}
	})
}

// TestServerName: the server chooses its certificate by the name that it is asked for (SNI).
func TestServerName(t *testing.T) {
	ca := newAuthority(t)
	named, other := ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"hooks.internal"} }), ca.issue(t, nil)
	peer := newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{other}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName == "hooks.internal" {
			return &named, nil
		}
		return nil, nil
	}})
	s, _ := testSender(t, loopback...)
	for _, settings := range []*TLS{{CA: ca.text()}, {CA: ca.text(), ServerName: "hooks.internal"}} {
		if a := withTLS(t, s, peer.URL, settings); !a.Delivered() || a.Reused {
			t.Errorf("%s: %s, reused %t", a.Error, a.ErrorDetail, a.Reused)
		}
	}
	if got := fmt.Sprintf("%q", peer.names); got != `["" "hooks.internal"]` {
		t.Errorf("asked for %s", got)
	}
}

func TestMinVersion(t *testing.T) {
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		peer := newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, MaxVersion: version, MinVersion: version})
		s, _ := testSender(t, loopback...)
		for _, min := range []string{"", "1.2", "1.3"} {
			a := withTLS(t, s, peer.URL, &TLS{CA: ca.text(), MinVersion: min})
			if version == tls.VersionTLS12 && min == "1.3" {
				wantTLSError(t, a, "it needs TLS 1.3, which tls.min_version asks for")
			} else if !a.Delivered() {
				t.Errorf("%s with at least %q: %s", tls.VersionName(version), min, a.ErrorDetail)
			}
		}
	}
}

// TestMissingIntermediate: an endpoint that does not send its intermediate certificate is not trusted, unless tls.ca has it.
func TestMissingIntermediate(t *testing.T) {
	root := newAuthority(t)
	middle := &authority{key: newKey(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Intermediate"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, root.certificate, middle.key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	middle.certificate, _ = x509.ParseCertificate(der)
	leaf := middle.issue(t, nil)
	whole := leaf
	whole.Certificate = append([][]byte{}, leaf.Certificate[0], der)
	s, _ := testSender(t, loopback...)
	incomplete := newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{leaf}})
	wantTLSError(t, withTLS(t, s, incomplete.URL, &TLS{CA: root.text()}), `not in tls.ca`, `by "CN=Intermediate"`, "does the endpoint send the intermediate certificates, too?")
	for _, c := range []struct {
		peer *tlsPeer
		ca   string
	}{{incomplete, root.text() + middle.text()}, {incomplete, middle.text()}, {newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{whole}}), root.text()}} {
		if a := withTLS(t, s, c.peer.URL, &TLS{CA: c.ca}); !a.Delivered() {
			t.Errorf("%s: %s", a.Error, a.ErrorDetail)
		}
	}
	// Of the client, the whole chain is sent.
	peer := newTLSPeer(t, false, &tls.Config{Certificates: []tls.Certificate{root.issue(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusting(root)})
	client := middle.issue(t, forClients("below"))
	client.Certificate = append(client.Certificate, der)
	cert, key := texts(t, client)
	if a := withTLS(t, s, peer.URL, &TLS{CA: root.text(), Cert: cert, Key: Credential(key)}); !a.Delivered() {
		t.Errorf("%s: %s", a.Error, a.ErrorDetail)
	}
}

// write writes a file in a directory.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReissued: a certificate that is reissued while connections are open is used by the next attempt, over a new connection, and the old ones are
// closed. A file that cannot be used keeps the last good one, is logged once, and stands in the detail of a failed attempt.
// prometheus/common#598, prometheus/prometheus#9512.
func TestReissued(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			ca, dir := newAuthority(t), t.TempDir()
			peer := newTLSPeer(t, http2, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusting(ca)})
			put := func(name string) {
				cert, key := texts(t, ca.issue(t, forClients(name)))
				write(t, dir, "client.pem", cert)
				write(t, dir, "client.key", key)
			}
			var logged bytes.Buffer
			s := New(Options{AllowNetworks: loopback, TLSDir: dir, Log: slog.New(slog.NewTextHandler(&logged, nil))})
			defer s.CloseIdleConnections()
			settings := &TLS{CA: ca.text(), CertFile: "client.pem", KeyFile: "client.key"}
			send := func(reused bool) {
				t.Helper()
				s.RecheckTLS() // as time would
				if a := withTLS(t, s, peer.URL, settings); !a.Delivered() || a.Reused != reused {
					t.Fatalf("%s: %s, reused %t", a.Error, a.ErrorDetail, a.Reused)
				}
			}
			put("first")
			send(false)
			put("second")
			send(false)
			send(true)
			if n := len(s.transports.pools); n != 1 {
				t.Errorf("%d pools: that of the old certificate is kept", n)
			}
			// Half of a replacement.
			cert, _ := texts(t, ca.issue(t, forClients("third")))
			write(t, dir, "client.pem", cert)
			for range 3 {
				send(true)
			}
			if n := strings.Count(logged.String(), "cannot be used"); n != 1 || strings.Contains(logged.String(), "PRIVATE") {
				t.Errorf("logged %d times: %s", n, logged.String())
			}
			peer.Close()
			s.RecheckTLS()
			a := withTLS(t, s, peer.URL, settings)
			if want := `tls.key_file is not the private key of the certificate "CN=third"; the previous one was used`; a.Delivered() || !strings.HasSuffix(a.ErrorDetail, want) {
				t.Errorf("%s: %s", a.Error, a.ErrorDetail)
			}
			if got := fmt.Sprint(peer.seen()); got != "[first second second second second second]" {
				t.Errorf("the clients were %s", got)
			}
		})
	}
}

// TestFilesAreReadRarely: files are read again after a while, not for each attempt.
func TestFilesAreReadRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		put := func() *ecdsa.PrivateKey {
			key := newKey(t)
			der, _ := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)},
				&x509.Certificate{}, key.Public(), key)
			write(t, dir, "ca.pem", pemOf("CERTIFICATE", der))
			return key
		}
		s := New(Options{TLSDir: dir})
		keyOf := func() string {
			client, trouble, err := s.transports.tls.of(TLS{CAFile: "ca.pem"})
			if err != nil || trouble != "" {
				t.Fatal(err, trouble)
			}
			return client.key
		}
		put()
		first := keyOf()
		put()
		if keyOf() != first {
			t.Error("the file was read at once")
		}
		time.Sleep(filesCheckInterval)
		if keyOf() == first {
			t.Error("the file was not read again")
		}
	})
}

// TestTLSDir: files are looked for in one directory, and nothing leads out of it. What is in a file is never shown.
func TestTLSDir(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	ca := newAuthority(t)
	write(t, outside, "secret.pem", ca.text())
	write(t, dir, "secret.txt", "root:x:0:0:sekret")
	write(t, dir, "empty.pem", "")
	write(t, dir, "big.pem", strings.Repeat("x", maxTLSFile+1))
	write(t, dir, "good.pem", ca.text())
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	// As Kubernetes mounts a secret: links within the directory.
	for link, target := range map[string]string{"out.pem": filepath.Join(outside, "secret.pem"), "up.pem": "../" + filepath.Base(outside) + "/secret.pem", "link.pem": "good.pem"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"good.pem": "", "link.pem": "", "./good.pem": "", "out.pem": "cannot be read: path escapes from parent", "up.pem": "cannot be read: path escapes from parent",
		"none.pem": "(none.pem) cannot be read: no such file or directory", "sub": "is no regular file", "empty.pem": "is empty", "big.pem": "more than 1048576 bytes",
		"secret.txt": "must be PEM text with the lines -----BEGIN CERTIFICATE-----",
		"../x.pem":   "must be the name of a file within delivery.tls_dir", "/etc/passwd": "must be the name of a file within delivery.tls_dir",
		"a/../../x": "must be the name of a file within delivery.tls_dir", `..\x`: "must be the name", "a\nb": "must be the name",
	} {
		settings := &TLS{CAFile: name}
		err := CheckTLS(settings)
		if err == nil {
			err = New(Options{TLSDir: dir}).CheckTLS(settings)
		}
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "tls.ca_file ")) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "sekret") || strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), outside)) {
			t.Errorf("%q tells too much: %v", name, err)
		}
	}
	if err := New(Options{}).CheckTLS(&TLS{CAFile: "good.pem"}); err == nil || !strings.Contains(err.Error(), "needs delivery.tls_dir") {
		t.Errorf("without a directory: %v", err)
	}
	s, _ := testSender(t, loopback...)
	wantTLSError(t, withTLS(t, s, "https://127.0.0.1:9", &TLS{CAFile: "good.pem"}), "no connection was made: tls.ca_file needs delivery.tls_dir")
}

// TestCAFile: authorities of the configuration are trusted beside the system's by all, but where a webhook has its own.
func TestCAFile(t *testing.T) {
	ca, next, dir := newAuthority(t), newAuthority(t), t.TempDir()
	file := filepath.Join(dir, "authorities.pem")
	write(t, dir, "authorities.pem", ca.text())
	peer := newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}})
	s := New(Options{AllowNetworks: loopback, CAFile: file})
	defer s.CloseIdleConnections()
	if a := withTLS(t, s, peer.URL, nil); !a.Delivered() {
		t.Errorf("%s: %s", a.Error, a.ErrorDetail)
	}
	if a := withTLS(t, s, peer.URL, &TLS{MinVersion: "1.2"}); !a.Delivered() {
		t.Errorf("%s: %s", a.Error, a.ErrorDetail)
	}
	wantTLSError(t, withTLS(t, s, peer.URL, &TLS{CA: next.text()}), "not in tls.ca")
	system, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	if client, _, _ := s.transports.tls.of(TLS{}); client.roots.Equal(system) || client.roots.Equal(trusting(ca)) {
		t.Error("the authorities are not the system's and those of the file")
	}
	write(t, dir, "authorities.pem", next.text())
	s.RecheckTLS()
	wantTLSError(t, withTLS(t, s, peer.URL, nil), "an authority that hookbolt does not know")
	write(t, dir, "authorities.pem", "nothing")
	s.RecheckTLS()
	wantTLSError(t, withTLS(t, s, peer.URL, nil), "; delivery.ca_file: "+file+" must be PEM text")
	for want, args := range map[string][2]string{
		"delivery.ca_file: open":                   {filepath.Join(dir, "none"), ""},
		"delivery.ca_file: " + file + " must be":   {file, ""},
		"delivery.ca_file: " + dir + " is no reg":  {dir, ""},
		"delivery.tls_dir: " + file + " is no dir": {"", file},
		"delivery.tls_dir: stat":                   {"", filepath.Join(dir, "none")},
	} {
		if err := CheckTLSFiles(args[0], args[1]); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
	if err := CheckTLSFiles("", dir); err != nil {
		t.Error(err)
	}
}

// TestTokenTLS: a token endpoint on the endpoint's own server gets the webhook's TLS settings, another one does not.
func TestTokenTLS(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	write(t, dir, "ca.pem", ca.text())
	config := func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: trusting(ca)}
	}
	var endpoint, auth *tlsPeer
	answer := func(p **tlsPeer) {
		inner := (*p).Config.Handler
		(*p).Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r)
			io.WriteString(w, `{"access_token":"t","token_type":"Bearer"}`)
		})
	}
	endpoint, auth = newTLSPeer(t, true, config()), newTLSPeer(t, true, config())
	answer(&endpoint)
	answer(&auth)
	settings := ca.client(t, forClients("ours"))
	s := New(Options{AllowNetworks: loopback, CAFile: filepath.Join(dir, "ca.pem")})
	defer s.CloseIdleConnections()
	for i, token := range []string{endpoint.URL, auth.URL} {
		r := requestTo(endpoint.URL)
		r.TLS, r.OAuth2, r.TokenKey = settings, &OAuth2{TokenURL: Credential(token + "/token"), ClientID: "a", ClientSecret: "b"}, fmt.Sprint(i)
		if a, err := s.Send(t.Context(), r); err != nil || !a.Delivered() {
			t.Errorf("%v, %s: %s", err, a.Error, a.ErrorDetail)
		}
	}
	if got := fmt.Sprint(endpoint.seen(), auth.seen()); got != "[ours ours ours] []" && got != `[ours ours ours] []` {
		t.Errorf("the clients were %q and %q", endpoint.seen(), auth.seen())
	}
}

// TestProxyTLS: a proxy over TLS is verified as itself. It gets neither the webhook's name nor its client certificate, and its authority is not the
// webhook's. lf-edge/eve#2875.
func TestProxyTLS(t *testing.T) {
	proxyCA, ca, dir := newAuthority(t), newAuthority(t), t.TempDir()
	write(t, dir, "ca.pem", proxyCA.text())
	var tunnels []string
	proxy := newTLSPeer(t, false, &tls.Config{Certificates: []tls.Certificate{proxyCA.issue(t, nil)}, ClientAuth: tls.RequestClientCert})
	inner := proxy.Config.Handler
	proxy.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		tunnels = append(tunnels, r.Method+" "+r.Host)
		if r.Method != http.MethodConnect {
			return
		}
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		from, buffered, _ := w.(http.Hijacker).Hijack()
		go func() { io.Copy(to, buffered); to.Close() }()
		go func() { io.Copy(from, to); from.Close() }()
	})
	endpoint := newTLSPeer(t, true, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"hooks.internal"} })},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusting(ca)})
	s := New(Options{AllowNetworks: loopback, CAFile: filepath.Join(dir, "ca.pem")})
	defer s.CloseIdleConnections()
	settings := ca.client(t, forClients("ours"))
	settings.CA, settings.ServerName = ca.text(), "hooks.internal"
	r := requestTo(endpoint.URL)
	r.TLS = settings
	through := func(r Request) Outcome {
		p := poolFor(s, &r)
		u, _ := url.Parse(proxy.URL)
		p.transport.Proxy, p.proxyTLS = noteProxy(http.ProxyURL(u)), s.transports.forProxies
		a, err := s.Send(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := through(r); !a.Delivered() || a.Protocol != "HTTP/2.0" {
		t.Errorf("%s: %s over %s", a.Error, a.ErrorDetail, a.Protocol)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if a := through(requestTo(plain.URL)); a.Status != 200 { // the proxy answers itself
		t.Errorf("%s: %s", a.Error, a.ErrorDetail)
	}
	if got, want := fmt.Sprintf("%q %q %q", proxy.seen(), tunnels, endpoint.seen()), fmt.Sprintf(`["" ""] ["CONNECT %s" "POST %s"] ["ours"]`,
		strings.TrimPrefix(endpoint.URL, "https://"), strings.TrimPrefix(plain.URL, "http://")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	write(t, dir, "ca.pem", ca.text())
	s.RecheckTLS()
	s.CloseIdleConnections()
	a := through(r)
	wantTLSError(t, a, "of the proxy "+strings.TrimPrefix(proxy.URL, "https://")+", the certificate is by an authority that hookbolt does not know",
		"put its certificate into delivery.ca_file")
}

// TestNoInsecureTLS: nothing can switch off the verification of an endpoint. hookbolt's own health check asks this machine's server, whose
// certificate may have any name; and the store refuses a database whose URL switches it off.
func TestNoInsecureTLS(t *testing.T) {
	may := func(path string) bool {
		return strings.HasSuffix(path, "internal/client/ready.go") || strings.HasSuffix(path, "storage/postgres/startcheck.go")
	}
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || may(path) || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, word := range []string{"InsecureSkipVerify", "VerifyPeerCertificate", "VerifyConnection:"} {
			if bytes.Contains(source, []byte(word)) {
				t.Errorf("%s has %s", path, word)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
