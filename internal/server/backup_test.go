package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/teststore"
)

// A backup is taken from a server under load, as an operator does it, and a server that starts on it goes on from there.
func TestBackupAndRestore(t *testing.T) {
	teststore.BoltOnly(t, "PostgreSQL has pg_dump")
	got := make(chan string, 1000) // webhook-ids
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("webhook-id") }))
	defer endpoint.Close()
	dir := t.TempDir()
	child := hookbolttest.Spawn(t, hookbolttest.WriteConfig(t, dir, "", `allow_networks = ["127.0.0.0/8"]`))
	status, answer := hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0, "paused": true}`, endpoint.URL))
	hookbolttest.WantStatus(t, 201, status, answer)

	var mu sync.Mutex
	more := sync.NewCond(&mu)
	acknowledged, enough := 0, false // guarded by mu
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for {
				body := hookbolttest.NewSession()
				resp, err := http.Post(child.URL+"/v1/events", "application/json", strings.NewReader(body))
				if err == nil {
					resp.Body.Close()
				}
				mu.Lock()
				acknowledged++
				done := enough
				more.Signal()
				mu.Unlock()
				if err != nil || resp.StatusCode != http.StatusAccepted {
					t.Errorf("%v: %v", resp, err)
					done = true
				}
				if done {
					return
				}
			}
		})
	}
	mu.Lock()
	for acknowledged < 100 {
		more.Wait()
	}
	before := acknowledged
	mu.Unlock()
	resp, err := http.Get(child.URL + "/v1/backup")
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || int64(len(content)) != resp.ContentLength {
		t.Fatalf("%s with %d bytes of %d: %v", resp.Status, len(content), resp.ContentLength, err)
	}
	mu.Lock()
	enough = true
	mu.Unlock()
	load.Wait()
	if left, _ := filepath.Glob(filepath.Join(dir, "*.backup")); len(left) > 0 && runtime.GOOS != "windows" {
		t.Errorf("left: %v", left)
	}
	child.Process.Kill()
	child.Wait()

	restored := t.TempDir()
	if err := os.WriteFile(filepath.Join(restored, "test.db"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := hookbolttest.Run(t, "check", filepath.Join(restored, "test.db"))
	if code != 0 {
		t.Fatalf("%d, %s, %s", code, stdout, stderr)
	}
	child = hookbolttest.Spawn(t, hookbolttest.WriteConfig(t, restored, "", `allow_networks = ["127.0.0.0/8"]`))
	status, answer = hookbolttest.Call(t, "PATCH", child.URL+"/v1/webhooks/1", `{"paused": false}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	deadline := time.After(2 * hookbolttest.Timeout)
	ids := make(map[string]bool)
	for len(ids) < before {
		select {
		case id := <-got:
			ids[id] = true
		case <-deadline:
			t.Fatalf("%d deliveries of %d that were acknowledged before", len(ids), before)
		}
	}
	child.Process.Kill()
	child.Wait()
	t.Logf("%d acknowledged before the backup; %s", before, stdout)
}
