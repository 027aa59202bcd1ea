package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/server"
)

// servedSerial connects anew and returns the serial number of the certificate, and the protocol of the answer.
func servedSerial(t *testing.T, url string, pool *x509.CertPool) (int64, string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("answer %d", resp.StatusCode)
	}
	return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), resp.Proto
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, pool := hookbolttest.WriteCertificate(t, dir, 1)
	child := spawnForSignals(t, hookbolttest.WriteConfig(t, dir, "tls_cert_file = '"+certFile+"'\ntls_key_file = '"+keyFile+"'", ""))
	if serial, proto := servedSerial(t, child.URL, pool); serial != 1 || proto != "HTTP/2.0" || !strings.HasPrefix(child.URL, "https://") {
		t.Errorf("%s: serial number %d, %s", child.URL, serial, proto)
	}
	// A client that does not trust it, or speaks no TLS, is nothing to log: the line would have a stranger's address.
	if _, err := http.Get(child.URL); err == nil {
		t.Error("an unknown certificate was taken")
	}
	resp, err := http.Get("http" + strings.TrimPrefix(child.URL, "https"))
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}

	_, _, pool = hookbolttest.WriteCertificate(t, dir, 2)
	hangUp(t, child, `msg="settings reloaded" changed=\[\]`)
	if serial, _ := servedSerial(t, child.URL, pool); serial != 2 {
		t.Errorf("after a reload the serial number is %d", serial)
	}
	if err := os.WriteFile(keyFile, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangUp(t, child, `level=ERROR msg="the settings were not reloaded; the previous ones stay in effect" error="http.tls_cert_file, http.tls_key_file: tls: `)
	if serial, _ := servedSerial(t, child.URL, pool); serial != 2 {
		t.Errorf("after a bad reload the serial number is %d", serial)
	}
	if log := child.Log.String(); strings.Contains(log, "handshake") {
		t.Errorf("the log:\n%s", log)
	}

	// What serve would not start with.
	p := hookbolttest.Start(t, "config", "check", "-config", filepath.Join(dir, "config.toml"))
	if code := p.Exit(t); code != cli.ExitFailure || !strings.HasPrefix(p.Stderr.String(), "hookbolt: http.tls_cert_file, http.tls_key_file: tls: ") {
		t.Errorf("exit code %d: %s", code, p.Stderr)
	}
}

// TestRenewedCertificate shows that files that somebody renews are found without a word.
func TestRenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := hookbolttest.WriteCertificate(t, dir, 1)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := server.ReadCertificate(certFile, keyFile, log)
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		got, err := c.Serial()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	hookbolttest.WriteCertificate(t, dir, 22)
	if got := serial(); got != 1 {
		t.Errorf("it was looked at too soon: %d", got)
	}
	c.LookAgain()
	if got := serial(); got != 22 {
		t.Errorf("after a minute: %d", got)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	c.LookAgain()
	if got := serial(); got != 22 {
		t.Errorf("without a key: %d", got)
	}
	hookbolttest.WriteCertificate(t, dir, 333)
	c.LookAgain()
	if got := serial(); got != 333 {
		t.Errorf("whole again: %d", got)
	}
}
