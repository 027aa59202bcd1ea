package hookbolttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbolt/internal/teststore"
)

// Path returns the path of a file of the repository. name is its path from the root of the repository.
func Path(t testing.TB, name string) string {
	t.Helper()
	root, err := root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, filepath.FromSlash(name))
}

// root is the directory of the module.
var root = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("there is no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
})

// ReadFile returns the text of a file of the repository. name is its path from the root of the repository.
func ReadFile(t testing.TB, name string) string {
	t.Helper()
	return Read(t, Path(t, name))
}

// Read returns the text of a file.
func Read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n") // git may have changed the line ends on Windows
}

// Write writes a file that only this user can read, and returns its path.
func Write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// WriteConfig writes a configuration file for a free port and a database in dir, or on PostgreSQL (see package teststore), and returns its path. http and delivery are further lines
// of these sections.
func WriteConfig(t testing.TB, dir, http, delivery string) string {
	t.Helper()
	storage := teststore.In(t, dir).Config()
	return Write(t, filepath.Join(dir, "config.toml"), fmt.Sprintf("[http]\nlisten = \"127.0.0.1:0\"\n%s\n[storage]\n%s\n[delivery]\n%s\n", http, storage, delivery))
}

// WriteFullDiskConfig writes a configuration file with which the server finds its disk full.
func WriteFullDiskConfig(t testing.TB) string {
	t.Helper()
	teststore.BoltOnly(t, "another machine has the disk")
	path := WriteConfig(t, t.TempDir(), "", "")
	return Write(t, path, strings.Replace(Read(t, path), "[storage]", "[storage]\nmin_free = \"1000TiB\"", 1))
}

// WriteCertificate writes a certificate for 127.0.0.1 with a serial number, and its key, into dir. pool trusts it.
func WriteCertificate(t testing.TB, dir string, serial int64) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "hookbolt"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile = Write(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	keyFile = Write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	pool = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return certFile, keyFile, pool
}

// FreeAddress returns a free loopback address.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
