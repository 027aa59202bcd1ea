package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/teststore"
	"hookbolt/storage/bolt"
)

func TestMain(m *testing.M) { hookbolttest.Main(m) }

func TestServe(t *testing.T) {
	requests := make(chan *http.Request, 1)
	bodies := make(chan []byte, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r
		bodies <- body
	}))
	defer endpoint.Close()
	dir := t.TempDir()
	config := hookbolttest.WriteConfig(t, dir, "", "")

	// The second run finds what the first one has left.
	for round, id := range []string{"1", "2"} {
		p := hookbolttest.Start(t, "serve", "-config", config, "-allow", "127.0.0.0/8")
		api := p.URL(t)
		session := strings.ReplaceAll(hookbolttest.Session, "11111111", strings.Repeat(id, 8))

		status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
		hookbolttest.WantStatus(t, 201, status, answer)
		var hook struct {
			ID     json.Number   `json:"id"`
			Secret engine.Secret `json:"secret"`
		}
		if err := json.Unmarshal([]byte(answer), &hook); err != nil || hook.ID.String() != id {
			t.Fatalf("webhook %s, want %s: %v", hook.ID, id, err)
		}
		if round == 1 {
			status, answer = hookbolttest.Call(t, "DELETE", api+"/v1/webhooks/1", "")
			hookbolttest.WantStatus(t, 204, status, answer)
		}
		status, answer = hookbolttest.Call(t, "POST", api+"/v1/events", session)
		hookbolttest.WantStatus(t, 202, status, answer)
		select {
		case r := <-requests:
			body := <-bodies
			if err := engine.Verify(r.Header, hook.Secret, body, time.Now()); err != nil {
				t.Error(err)
			}
			if !bytes.Contains(body, []byte(`"complete_session":true`)) {
				t.Errorf("got %s", body)
			}
		case <-time.After(hookbolttest.Timeout):
			t.Fatal("no webhook")
		}
		for path, want := range map[string]string{
			"/healthz": "ok", "/readyz": "ready",
			"/metrics": `hookbolt_build_info{go_version="` + runtime.Version() + `"`,
		} {
			status, answer = hookbolttest.Call(t, "GET", api+path, "")
			hookbolttest.WantStatus(t, 200, status, answer)
			if !strings.Contains(answer, want) {
				t.Errorf("%s lacks %s:\n%s", path, want, answer)
			}
		}
		if code := p.End(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		for _, line := range []string{"msg=stopping cause=\"signal: of the test\"", "msg=stopped"} {
			if !strings.Contains(p.Stderr.String(), line) {
				t.Errorf("the log lacks %s:\n%s", line, p.Stderr)
			}
		}
		if p.Stdout.String() != "" {
			t.Errorf("on stdout: %s", p.Stdout)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	teststore.BoltOnly(t, "a second process takes the database over")
	config := hookbolttest.WriteConfig(t, t.TempDir(), "", "")
	first := hookbolttest.Start(t, "-config", config) // serve is the default
	api := first.URL(t)
	second := hookbolttest.Start(t, "-config", config)
	if code := second.Exit(t); code != cli.ExitFailure {
		t.Errorf("exit code %d", code)
	}
	if got := second.Stderr.String(); !strings.Contains(got, "in use by another process") || strings.Count(got, "\n") != 1 {
		t.Errorf("it said %q", got)
	}
	status, answer := hookbolttest.Call(t, "GET", api+"/readyz", "")
	hookbolttest.WantStatus(t, 200, status, answer)
}

func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	config := hookbolttest.WriteConfig(t, dir, "", "")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("127.0.0.1:0"), []byte(taken.Addr().String()), 1)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time to see that the database was closed
		p := hookbolttest.Start(t, "serve", "-config", config)
		if code := p.Exit(t); code != cli.ExitFailure {
			t.Errorf("exit code %d", code)
		}
		got := p.Stderr.String()
		if teststore.Postgres() { // the start has told of the server before
			got = got[strings.LastIndex(strings.TrimSuffix(got, "\n"), "\n")+1:]
		}
		if !strings.HasPrefix(got, "hookbolt: http.listen: ") || !strings.Contains(got, taken.Addr().String()) || strings.Count(got, "\n") != 1 {
			t.Errorf("it said %q", got)
		}
	}
}

// A damaged database keeps the server from starting, with one line that says so, whatever it would do to the process that reads it.
func TestDamagedDatabaseIsRefused(t *testing.T) {
	teststore.BoltOnly(t, "it damages the file")
	dir := t.TempDir()
	config := hookbolttest.WriteConfig(t, dir, "", "")
	path := filepath.Join(dir, "test.db")
	p := hookbolttest.Start(t, "serve", "-config", config)
	hookbolttest.Call(t, "POST", p.URL(t)+"/v1/webhooks", `{"url":"https://example.com/"}`)
	if code := p.End(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	damage := map[string][]byte{
		"truncated": whole[:len(whole)/2/page*page],
		"tiny":      whole[:100],
		"nothing":   nil,
		"zeroed":    append(append([]byte(nil), whole[:2*page]...), make([]byte, len(whole)-2*page)...),
		"garbage":   append(append([]byte(nil), whole[:2*page]...), bytes.Repeat([]byte{0xa5}, len(whole)-2*page)...),
		"no metas":  append(make([]byte, 2*page), whole[2*page:]...),
	}
	for name, content := range damage {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			code, _, line := hookbolttest.Run(t, "serve", "-config", config)
			if code != cli.ExitFailure {
				t.Errorf("exit code %d, want %d", code, cli.ExitFailure)
			}
			if strings.Count(line, "\n") != 1 || !strings.Contains(line, path) ||
				!strings.Contains(line, bolt.ErrCorrupt.Error()) && !strings.Contains(line, bolt.ErrNotDatabase.Error()) {
				t.Errorf("it said %q, want one line that names the file and what it is", line)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := hookbolttest.Start(t, "serve", "-config", config).End(t); code != 0 {
		t.Errorf("the undamaged file: exit code %d", code)
	}
}
