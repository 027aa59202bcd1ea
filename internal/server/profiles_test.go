package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

func TestPprof(t *testing.T) {
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), "", ""), "-pprof", "127.0.0.1:0")
	url := p.Stderr.Find(t, `msg=profiles url=(\S+)`)
	get := func(path, host string) (status int, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for path, want := range map[string]string{"": "goroutine", "goroutine?debug=1": "goroutine profile", "cmdline": "test", "symbol": "num_symbols"} {
		if status, body := get(path, ""); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.100q, want %q", path, status, body, want)
		}
	}
	// A web page may have its own name lead to this machine.
	if status, body := get("goroutine?debug=1", "evil.example"); status != http.StatusForbidden || strings.Contains(body, "goroutine") {
		t.Errorf("for another host: %d %.100q", status, body)
	}
	// It may also call this machine by its right name, and cannot read the answer: but a profile costs time.
	for site, want := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 200, "none": 200} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url+"cmdline", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Sec-Fetch-Site", site)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", site, resp.StatusCode)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if code := p.End(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("the profiles outlive the server")
	}
}

func TestPprofRefusesOtherAddresses(t *testing.T) {
	for _, address := range []string{":6060", "0.0.0.0:6060", "192.0.2.1:6060", "example.com:6060", "6060"} {
		p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), "", ""), "-pprof", address)
		if code := p.Exit(t); code != cli.ExitUsage || !strings.Contains(p.Stderr.String(), "-pprof must be an address of this machine only") {
			t.Errorf("%s: exit code %d, and it said %s", address, code, p.Stderr)
		}
	}
}
