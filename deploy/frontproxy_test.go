package deploy

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
	"hookbolt/storage/bolt"
)

// lookFor returns the path of a reverse proxy's binary, without which a test is skipped, unless HOOKBOLT_REQUIRE_PROXIES=1.
func lookFor(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("HOOKBOLT_REQUIRE_PROXIES") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

const frontToken = "admin-token-number-1"

// backend starts a server to stand behind a proxy, and returns its host and port.
func backend(t *testing.T) string {
	t.Helper()
	api := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), "max_body = \"2MiB\"\nadmin_tokens = [\""+frontToken+"\"]", "")).URL(t)
	return strings.TrimPrefix(api, "http://")
}

// echo starts a server that answers with the headers by which a proxy tells of a client, and returns its host and port.
func echo(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"])
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// wantOwnWords: what a client says of its address and scheme does not get through a proxy.
func wantOwnWords(t *testing.T, base string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.9")
	req.Header.Set("X-Forwarded-Proto", "http")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "[127.0.0.1] [https]" {
		t.Errorf("it passes on %s, %v", body, err)
	}
}

func TestBehindCaddy(t *testing.T) {
	caddy := lookFor(t, "caddy")
	useThroughProxy(t, startCaddy(t, caddy, backend(t)))
	wantOwnWords(t, startCaddy(t, caddy, echo(t)))
}

// startCaddy starts Caddy in front of a server, and returns its URL.
func startCaddy(t *testing.T, caddy, upstream string) string {
	t.Helper()
	return runCaddy(t, caddy, hookbolttest.ReadFile(t, "deploy/Caddyfile"), "HOOKBOLT_UPSTREAM="+upstream)
}

// runCaddy starts Caddy with a site, and returns its URL. env says which servers are behind it.
func runCaddy(t *testing.T, caddy, site, env string) string {
	t.Helper()
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(hookbolttest.FreeAddress(t))
	base := "https://localhost:" + port // a name, since TLS asks for one by its name
	// What concerns the machine and not the site: nothing of it is touched.
	global := fmt.Sprintf("{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n\tstorage file_system %s\n}\n", dir)
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte(global+site), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), caddy, "run", "--adapter", "caddyfile", "--config", config)
	cmd.Env = append(os.Environ(), "HOME="+dir, "HOOKBOLT_DOMAIN="+base, env)
	out := hookbolttest.NewOutput()
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	out.Find(t, "certificate obtained successfully")
	for began := time.Now(); ; { // it is used a moment later, and nothing says so
		conn, err := tls.Dial("tcp", strings.TrimPrefix(base, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			conn.Close()
			break
		}
		if time.Since(began) > hookbolttest.Timeout {
			t.Fatalf("%v; it said:\n%s", err, out)
		}
	}
	return base
}

func TestBehindNginx(t *testing.T) {
	nginx := lookFor(t, "nginx")
	address, plain := startNginx(t, nginx, backend(t))
	useThroughProxy(t, "https://"+address)
	wantLimits(t, "https://"+address)

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + plain + "/deliveries?status=failed")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusMovedPermanently || got != "https://"+address+"/deliveries?status=failed" {
		t.Errorf("without HTTPS: %d, to %q", resp.StatusCode, got)
	}

	address, _ = startNginx(t, nginx, echo(t))
	wantOwnWords(t, "https://"+address)
}

// wantLimits: an address that guesses tokens, or floods, is told to wait. Others of its calls go through.
func wantLimits(t *testing.T, base string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for path, most := range map[string]int64{"/sign-in": 200, "/v1/events": 20_000} {
		if !isLimited(t, client, base+path, most) {
			t.Errorf("%s: all of %d requests go through", path, most)
		}
	}
	resp, err := client.Get(base + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("another call is answered with %d", resp.StatusCode)
	}
}

// isLimited reports whether one of so many requests is answered 429. It sends 32 at once: a machine that is slow with one after the other would
// not come to the limit. That is half of the requests that the site allows at a time.
func isLimited(t *testing.T, client *http.Client, url string, most int64) bool {
	t.Helper()
	var sent atomic.Int64
	var limited atomic.Bool
	var work sync.WaitGroup
	for range 32 {
		work.Go(func() {
			for sent.Add(1) <= most && !limited.Load() {
				resp, err := client.Post(url, "application/x-www-form-urlencoded", strings.NewReader("token=a-token-of-nobody"))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusTooManyRequests {
					limited.Store(true)
				}
			}
		})
	}
	work.Wait()
	return limited.Load()
}

// startNginx starts nginx in front of a server, and returns its addresses with and without TLS.
func startNginx(t *testing.T, nginx, upstream string) (address, plain string) {
	t.Helper()
	return runNginx(t, nginx, replaceOnce(t, hookbolttest.ReadFile(t, "deploy/nginx.conf"), "server 127.0.0.1:8080;", "server "+upstream+";"))
}

// runNginx starts nginx with a site, and returns its addresses with and without TLS.
func runNginx(t *testing.T, nginx, site string) (address, plain string) {
	t.Helper()
	dir := t.TempDir()
	address, plain = hookbolttest.FreeAddress(t), hookbolttest.FreeAddress(t)
	certFile, keyFile, _ := hookbolttest.WriteCertificate(t, dir, 1)
	for pattern, value := range map[string]string{
		`(?m)^\tlisten \[::\].*\n`:    "",
		`listen 443 `:                 "listen " + address + " ",
		`listen 80;`:                  "listen " + plain + ";",
		`ssl_certificate .*;`:         "ssl_certificate " + certFile + ";",
		`ssl_certificate_key .*;`:     "ssl_certificate_key " + keyFile + ";",
		`server_name hooks\S+;`:       "server_name 127.0.0.1;",
		`https://\$host\$request_uri`: "https://" + address + "$$request_uri",
	} {
		re := regexp.MustCompile(pattern)
		if !re.MatchString(site) {
			t.Fatalf("nginx.conf has no %s", pattern)
		}
		site = re.ReplaceAllString(site, value)
	}
	var paths strings.Builder
	workers := "" // as who has started it
	if os.Getuid() == 0 {
		workers = "user root;\n"
	}
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		paths.WriteString(fmt.Sprintf("%s_temp_path %s;\n", what, filepath.Join(dir, what)))
	}
	config, pid := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "pid")
	text := fmt.Sprintf("%spid %s;\nerror_log %s;\nevents {}\nhttp {\n%s%s}\n", workers, pid, filepath.Join(dir, "error.log"), paths.String(), site)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// It goes into the background once it listens.
	if out, err := exec.CommandContext(t.Context(), nginx, "-c", config).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(nginx, "-c", config, "-s", "stop").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return address, plain
}

// useThroughProxy uses a server through a proxy as its users do.
func useThroughProxy(t *testing.T, base string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	send := func(method, path, body string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	text := func(resp *http.Response) string {
		t.Helper()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	bearer := []string{"Authorization", "Bearer " + frontToken}

	// The page, as a browser asks for it: the form says where it comes from, and the cookie is for HTTPS alone.
	form := url.Values{"token": {frontToken}, "next": {"/deliveries"}}.Encode()
	resp := send("POST", "/sign-in", form, "Content-Type", "application/x-www-form-urlencoded", "Origin", base)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/deliveries" || len(resp.Cookies()) != 1 {
		t.Fatalf("the sign-in is answered with %d and %v: %s", resp.StatusCode, resp.Header, text(resp))
	}
	cookie := resp.Cookies()[0]
	if !cookie.Secure {
		t.Error("the cookie may go without HTTPS")
	}
	if resp := send("GET", "/", "", "Cookie", cookie.Name+"="+cookie.Value); resp.StatusCode != http.StatusOK {
		t.Errorf("the page is answered with %d: %s", resp.StatusCode, text(resp))
	}

	// Events, up to the limit of hookbolt, which says so itself beyond.
	resp = send("POST", "/v1/events", hookbolttest.Session, bearer...)
	hookbolttest.WantStatus(t, http.StatusAccepted, resp.StatusCode, text(resp))
	resp = send("POST", "/v1/events", hookbolttest.Session+strings.Repeat(" ", 2<<20-len(hookbolttest.Session)), bearer...)
	hookbolttest.WantStatus(t, http.StatusAccepted, resp.StatusCode, text(resp))
	resp = send("POST", "/v1/events", hookbolttest.Session+strings.Repeat(" ", 2<<20), bearer...)
	hookbolttest.WantStatus(t, http.StatusRequestEntityTooLarge, resp.StatusCode, "")
	var problem struct{ Detail string }
	if err := json.Unmarshal([]byte(text(resp)), &problem); err != nil || problem.Detail == "" {
		t.Errorf("a request that is too large gets no answer of hookbolt's: %v", err)
	}
	resp = send("GET", "/v1/deliveries", "")
	hookbolttest.WantStatus(t, http.StatusUnauthorized, resp.StatusCode, text(resp))

	// A backup is a whole database.
	resp = send("GET", "/v1/backup", "", bearer...)
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := os.WriteFile(path, []byte(text(resp)), 0o600); err != nil {
		t.Fatal(err)
	}
	if report, err := bolt.CheckFile(path); err != nil || len(report.Violations) > 0 || report.Sessions != 1 {
		t.Errorf("the backup is not what it should be: %+v, %v", report, err)
	}
}
