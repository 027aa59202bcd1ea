package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/internal/postgrestest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority of one's own"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	a.cert.Raw = a.sign(t, a.cert, &key.PublicKey)
	return a
}

func (a *authority) sign(t *testing.T, cert *x509.Certificate, key *ecdsa.PublicKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// install gives the server a certificate and has it read that.
func (a *authority) install(t *testing.T, c *postgrestest.Cluster, admin *pgx.Conn, cert x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert.SerialNumber = big.NewInt(2)
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: a.sign(t, &cert, &key.PublicKey)}, "server.key": {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		// The server copies the file, so that it is its user's: the tests may be root's.
		path := filepath.Join(c.Dir(), "data", name)
		text := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(block))
		_, err := admin.Exec(t.Context(), fmt.Sprintf("COPY (SELECT '%s') TO PROGRAM 'base64 -d >%s && chmod 600 %s'", text, path, path))
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.Exec(t.Context(), "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
}

// A server on another machine must show a certificate for its name, from an authority that is trusted, and one that has not ended.
func TestTLS(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("left out: it needs an address of its own in 127.0.0.0/8")
	}
	address := fmt.Sprintf("127.%d.%d.%d", 1+mrand.IntN(250), mrand.IntN(250), 1+mrand.IntN(250))
	c := postgrestest.Start(t, postgrestest.Options{Settings: []string{"listen_addresses = '" + address + "'"}})
	admin, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	own, foreign := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("hookbolt", "a:b/c?d@e#%"), Host: address, Path: "/hookbolt", RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {file}}.Encode()}
	good := x509.Certificate{NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(address)}}
	own.install(t, c, admin, good)
	if _, err := admin.Exec(t.Context(), "ALTER SYSTEM SET ssl = on"); err != nil {
		t.Fatal(err)
	}
	expired, other := good, good
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	other.IPAddresses, other.DNSNames = nil, []string{"db.example.com"}
	for _, test := range []struct {
		what string
		by   *authority
		cert x509.Certificate
		want string // in the error; "" for none
	}{
		{"a good one", own, good, ""},
		{"of a foreign authority", foreign, good, "the certificate of the database server is not accepted: "},
		{"that has ended", own, expired, "the certificate of the database server is not accepted: "},
		{"for another host", own, other, "the certificate of the database server is not accepted: "},
	} {
		test.by.install(t, c, admin, test.cert)
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the server reads it soon
			s, err := Open(t.Context(), Options{URL: u.String(), StartPatience: time.Millisecond})
			if err == nil {
				var encrypted bool
				err := s.conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted)
				if err != nil || !encrypted {
					t.Errorf("%s: encrypted is %v (%v)", test.what, encrypted, err)
				}
				_ = s.Close()
			}
			if err == nil && test.want == "" || err != nil && test.want != "" && strings.Contains(err.Error(), test.want) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("a certificate %s: got %v, want %q", test.what, err, test.want)
			}
		}
	}
}
