package cli_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

// checkHealth runs the command and returns its exit code and its only line.
func checkHealth(t *testing.T, args ...string) (int, string) {
	t.Helper()
	code, stdout, stderr := hookbolttest.Run(t, append([]string{"healthcheck"}, args...)...)
	if strings.Count(stdout+stderr, "\n") != 1 || (code == 0) != (stderr == "") {
		t.Errorf("exit code %d, it said %q and %q, want one line", code, stdout, stderr)
	}
	return code, stdout + stderr
}

func TestHealthcheck(t *testing.T) {
	dir := t.TempDir()
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, dir, "", ""))
	api := p.URL(t)
	if code, said := checkHealth(t, "-url", api); code != 0 || said != "ready\n" {
		t.Errorf("a server that is ready: %d, %s", code, said)
	}

	// The same settings lead to it, also where it listens on all addresses.
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(api, "http://"))
	t.Setenv("HOOKBOLT_HTTP_ADMIN_TOKENS", "admin-token-number-1")
	for _, listen := range []string{"127.0.0.1:" + port, ":" + port, "0.0.0.0:" + port} {
		t.Setenv("HOOKBOLT_HTTP_LISTEN", listen)
		if code, said := checkHealth(t); code != 0 {
			t.Errorf("listening on %s: %d, %s", listen, code, said)
		}
	}
	p.End(t)
	if code, said := checkHealth(t); code != cli.ExitFailure || !strings.HasPrefix(said, "hookbolt: healthcheck: ") {
		t.Errorf("a server that has stopped: %d, %s", code, said)
	}
}

// A server on this machine may have a certificate that is made out to another name, or by nobody who is known.
func TestHealthcheckByHTTPS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := hookbolttest.WriteCertificate(t, dir, 1)
	config := hookbolttest.WriteConfig(t, dir, "tls_cert_file = '"+certFile+"'\ntls_key_file = '"+keyFile+"'", "")
	api := hookbolttest.Start(t, "serve", "-config", config).URL(t)
	u, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOOKBOLT_HTTP_LISTEN", u.Host)
	for _, args := range [][]string{{"-config", config}, {"-url", api}, {"-url", "https://localhost:" + u.Port()}} {
		if code, said := checkHealth(t, args...); code != 0 {
			t.Errorf("%v: %d, %s", args, code, said)
		}
	}
}

func TestHealthcheckTellsWhatIsWrong(t *testing.T) {
	full := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteFullDiskConfig(t)).URL(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for url, want := range map[string]string{
		full:             `hookbolt: healthcheck: ` + full + `/readyz: 503: "not ready: no space: `,
		other.URL:        `hookbolt: healthcheck: ` + other.URL + `/readyz: 404: "not an answer of hookbolt"`,
		"127.0.0.1:8080": `hookbolt: healthcheck: -url must be an http or https URL: write https:// in front, as in https://example.com/hook`,
	} {
		if code, said := checkHealth(t, "-url", url); code == 0 || !strings.HasPrefix(said, want) {
			t.Errorf("%s: %d, %s, want %s", url, code, said, want)
		}
	}
}
