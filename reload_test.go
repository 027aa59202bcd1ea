package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hangUp has a process read its settings again, and waits for what it says of it, which must be another line than it has said before.
func hangUp(t *testing.T, cmd *exec.Cmd, out *output, want string) {
	t.Helper()
	before := len(out.String())
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	out.find(t, fmt.Sprintf(`(?s)^.{%d}.*`, before)+want)
}

// spawnSaying is spawn for a test that reads the log.
func spawnSaying(t *testing.T, config string, env ...string) (*exec.Cmd, string, *output) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent SIGHUP on Windows")
	}
	cmd, url := spawn(t, config, env...)
	return cmd, url, cmd.Stderr.(*output)
}

func TestReload(t *testing.T) {
	arrived := make(chan string, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- r.Header.Get("webhook-id") }))
	defer endpoint.Close()
	dir := t.TempDir()
	const old, fresh = "the-token-of-before", "the-token-of-afterwards"
	config := writeConfig(t, dir, `admin_tokens = ["`+old+`"]`, `retry_schedule = ["1h"]`)
	cmd, url, out := spawnSaying(t, config)
	rewrite := func(token, delivery, more string) {
		writeConfig(t, dir, `admin_tokens = ["`+token+`"]`, delivery+more)
	}
	hook := fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL)
	status, answer := callAs(t, old, "POST", url+"/v1/webhooks", hook)
	wantStatus(t, 400, status, answer) // its address is refused

	rewrite(fresh, `retry_schedule = ["1h"]`+"\n"+`allow_networks = ["127.0.0.1"]`+"\nproxy_from_environment = true", "\n[log]\nlevel = \"debug\"\nformat = \"json\"")
	hangUp(t, cmd, out, `msg="settings reloaded; some take a restart" changed="\[http.admin_tokens delivery.allow_networks log.level\]" take_a_restart="\[delivery.proxy_from_environment log.format\]"`)
	status, answer = callAs(t, old, "GET", url+"/v1/webhooks", "")
	wantStatus(t, 401, status, answer)
	status, answer = callAs(t, fresh, "POST", url+"/v1/webhooks", hook)
	wantStatus(t, 201, status, answer)
	status, answer = callAs(t, fresh, "POST", url+"/v1/events", testSession)
	wantStatus(t, 202, status, answer)
	select {
	case <-arrived:
	case <-time.After(testPatience):
		t.Fatal("nothing arrived")
	}

	// What is refused changes nothing, not even the half of it.
	rewrite("another-token-altogether", `timeout = "5h"`, "")
	hangUp(t, cmd, out, `level=ERROR msg="the settings were not reloaded; those before hold" error="\S*config.toml: delivery.timeout: must be 1s to 2m \(got 5h\)"`)
	status, answer = callAs(t, fresh, "GET", url+"/v1/webhooks", "")
	wantStatus(t, 200, status, answer)

	// What is no longer allowed is not reached over the connection that is there, either.
	rewrite(fresh, `retry_schedule = ["1h"]`, "")
	hangUp(t, cmd, out, `msg="settings reloaded" changed="\[delivery.allow_networks log.level\]"`)
	status, answer = callAs(t, fresh, "POST", url+"/v1/events", strings.ReplaceAll(testSession, "1111", "2222"))
	wantStatus(t, 202, status, answer)
	for deadline := time.Now().Add(testPatience); !strings.Contains(answer, `"last_error":"address_refused"`); {
		if _, answer = callAs(t, fresh, "GET", url+"/v1/deliveries?limit=1", ""); time.Now().After(deadline) {
			t.Fatal(answer)
		}
	}
	if len(arrived) > 0 {
		t.Error("it arrived at an address that is refused")
	}
	if log := out.String(); strings.Contains(log, old) || strings.Contains(log, fresh) {
		t.Errorf("a token is in the log:\n%s", log)
	}
}

// TestReloadKeepsTheDoorShut: a server that others can reach goes on to ask for a token, although one that only listens where the file now
// says could do without: its port stays.
func TestReloadKeepsTheDoorShut(t *testing.T) {
	cfg := DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.HTTP.AdminTokens = []string{"an-admin-token-of-mine"}
	cfg.Storage.Path = filepath.Join(t.TempDir(), "test.db")
	out := newOutput()
	logger, level := cfg.Log.logger(out)
	a, err := newApp(cfg, logger)
	if err != nil {
		t.Fatal(err)
	}
	a.cfg.HTTP.Listen = "192.0.2.1:80" // as if: tests open no port to others
	a.reloader = reloader{level: level, load: func() (Config, origins, error) {
		open := cfg
		open.HTTP.AdminTokens, open.Storage.Path, open.Delivery.MaxInFlight = nil, "other.db", 7
		return open, nil, open.Validate()
	}}
	a.reload()
	if code := serveLocal(a.api, "GET", "/v1/webhooks"); code != http.StatusUnauthorized {
		t.Errorf("without a token it answers %d", code)
	}
	if got := a.engine.Config().MaxInFlight; got == 7 {
		t.Error("the rest was reloaded")
	}
	out.find(t, `level=ERROR msg="the settings were not reloaded; those before hold".*http.listen: 192.0.2.1:80 can be reached from other machines.*this takes a restart: http.listen, storage.path`)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := a.run(ctx); err != nil {
		t.Error(err)
	}
}

// serveLocal makes a call without a token and returns the answer's status.
func serveLocal(h http.Handler, method, path string) int {
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, "http://localhost"+path, nil)
	h.ServeHTTP(w, r)
	return w.Code
}

// TestHangUpWithoutFiles: where there is nothing to read again, a closed terminal ends the server like any other command.
func TestHangUpWithoutFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent SIGHUP on Windows")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "serve")
	cmd.Env = append(os.Environ(), "HOOKBOLT_TEST_MAIN=1", "HOOKBOLT_HTTP_LISTEN=127.0.0.1:0", "HOOKBOLT_STORAGE_PATH="+filepath.Join(t.TempDir(), "x.db"))
	out := newOutput()
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.find(t, "msg=ready")
	cmd.Process.Signal(syscall.SIGHUP)
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "hangup") {
		t.Errorf("it ended with %v", err)
	}
}

// writeCertificate puts a certificate of a serial number for 127.0.0.1, and its key, into dir, and returns it.
func writeCertificate(t *testing.T, dir string, serial int64) (certFile, keyFile string, pool *x509.CertPool) {
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
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return certFile, keyFile, pool
}

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
	certFile, keyFile, pool := writeCertificate(t, dir, 1)
	cmd, url, out := spawnSaying(t, writeConfig(t, dir, "tls_cert_file = '"+certFile+"'\ntls_key_file = '"+keyFile+"'", ""))
	if serial, proto := servedSerial(t, url, pool); serial != 1 || proto != "HTTP/2.0" || !strings.HasPrefix(url, "https://") {
		t.Errorf("%s: serial number %d, %s", url, serial, proto)
	}
	// A client that does not trust it, or speaks no TLS, is nothing to log: the line would have a stranger's address.
	if _, err := http.Get(url); err == nil {
		t.Error("an unknown certificate was taken")
	}
	resp, err := http.Get("http" + strings.TrimPrefix(url, "https"))
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}

	_, _, pool = writeCertificate(t, dir, 2)
	hangUp(t, cmd, out, `msg="settings reloaded" changed=\[\]`)
	if serial, _ := servedSerial(t, url, pool); serial != 2 {
		t.Errorf("after a reload the serial number is %d", serial)
	}
	if err := os.WriteFile(keyFile, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangUp(t, cmd, out, `level=ERROR msg="the settings were not reloaded; those before hold" error="http.tls_cert_file, http.tls_key_file: tls: `)
	if serial, _ := servedSerial(t, url, pool); serial != 2 {
		t.Errorf("after a bad reload the serial number is %d", serial)
	}
	if log := out.String(); strings.Contains(log, "handshake") {
		t.Errorf("the log:\n%s", log)
	}

	// What serve would not start with.
	p := start(t, "config", "check", "-config", filepath.Join(dir, "config.toml"))
	if code := p.exit(t); code != exitFailure || !strings.HasPrefix(p.stderr.String(), "hookbolt: http.tls_cert_file, http.tls_key_file: tls: ") {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
}

// TestRenewedCertificate shows that files that somebody renews are found without a word.
func TestRenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := writeCertificate(t, dir, 1)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := readCertificate(&HTTPConfig{TLSCertFile: certFile, TLSKeyFile: keyFile}, log)
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	later := func() { c.lookedAt = c.lookedAt.Add(-certificateLook) }
	writeCertificate(t, dir, 22)
	if got := serial(); got != 1 {
		t.Errorf("it was looked at too soon: %d", got)
	}
	later()
	if got := serial(); got != 22 {
		t.Errorf("after a minute: %d", got)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	later()
	if got := serial(); got != 22 {
		t.Errorf("without a key: %d", got)
	}
	writeCertificate(t, dir, 333)
	later()
	if got := serial(); got != 333 {
		t.Errorf("whole again: %d", got)
	}
}
