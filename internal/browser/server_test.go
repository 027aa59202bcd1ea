package browser

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hookbolt/internal/teststore"
)

// server is a child process of hookbolt.
type server struct {
	t    *testing.T
	url  string // without a slash at the end
	stop func() // before the end of the test; may be called twice
}

// adminToken is the admin token of a server that was started with withTokens.
const adminToken = "correct-horse-battery-staple"

// withTokens makes a server require adminToken.
const withTokens = `http.admin_tokens = ["` + adminToken + `"]`

// allowNothing makes a server refuse endpoints on loopback, as it does by default.
const allowNothing = `delivery.allow_networks = []`

// startServer starts hookbolt on a free loopback port with its own database, unless the settings name one. It builds the binary once for each run. Endpoints on loopback are
// allowed unless allowNothing is among the settings. Settings are lines of the configuration with full keys, such as
// `delivery.timeout = "2s"`. The server is stopped at the end of the test, and must exit with 0.
func startServer(t *testing.T, settings ...string) *server {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs signals")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	if !slices.Contains(settings, allowNothing) {
		settings = append(settings, `delivery.allow_networks = ["127.0.0.0/8"]`)
	}
	lines := append([]string{`http.listen = "127.0.0.1:0"`}, settings...)
	if !slices.ContainsFunc(settings, func(s string) bool { return strings.HasPrefix(s, "storage.") }) {
		for line := range strings.Lines(teststore.In(t, dir).Config()) {
			lines = append(lines, "storage."+strings.TrimSpace(line))
		}
	}
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(hookbolt(t), "serve", "-config", config)
	log := &serverLog{ready: make(chan string, 1)}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	stop := sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("the server: %v", err)
			}
		case <-time.After(patience):
			cmd.Process.Kill()
			<-exited
			t.Errorf("the server still ran %v after SIGTERM", patience)
		}
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("the server's log:\n%s", log)
		}
	})
	select {
	case url := <-log.ready:
		return &server{t: t, url: url, stop: stop}
	case err := <-exited:
		exited <- err
		t.Fatalf("the server ended before it was ready: %v", err)
	case <-time.After(patience):
		t.Fatalf("the server is not ready after %v", patience)
	}
	return nil
}

// call calls the API and returns the response body. The status must be 2xx. Call it only from the test's goroutine.
func (s *server) call(method, path, body string) []byte {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken) // ignored by a server without tokens
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		s.t.Fatalf("%s %s: %s\n%s", method, path, resp.Status, answer)
	}
	return answer
}

// read makes a call and decodes the response.
func (s *server) read(into any, method, path, body string) {
	s.t.Helper()
	if err := json.Unmarshal(s.call(method, path, body), into); err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
}

var builds struct {
	sync.Mutex
	done bool
}

// hookbolt returns the path of the binary.
func hookbolt(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(workDir, "hookbolt")
	builds.Lock()
	defer builds.Unlock()
	if builds.done {
		return binary
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	builds.done = true
	return binary
}

// serverLog keeps what a server prints, and sends its URL once it is ready.
type serverLog struct {
	ready chan string // capacity 1

	mu    sync.Mutex
	buf   bytes.Buffer // guarded by mu
	found bool         // guarded by mu; the URL was sent
}

var readyLine = regexp.MustCompile(`msg=ready url=(\S+)\s`)

func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if m := readyLine.FindSubmatch(l.buf.Bytes()); m != nil && !l.found {
		l.found = true
		l.ready <- string(m[1])
	}
	return len(p), nil
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
