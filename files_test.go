package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// dieEnv makes a process that reads a suspect file end as one that a fault has ended.
const dieEnv = "HOOKBOLT_TEST_DIE"

func init() {
	if os.Getenv(asideEnv) != "" && os.Getenv(dieEnv) != "" {
		die := func(context.Context, []string, io.Writer, io.Writer) error { panic("of the test") }
		commands["check"], commands["compact"] = die, die
	}
}

// runToEnd runs a command to its end.
func runToEnd(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := start(t, args...)
	code = p.exit(t)
	return code, p.stdout.String(), p.stderr.String()
}

// makeDatabase runs a server that takes in n sessions, which wait, and returns the path of its database.
func makeDatabase(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	p := start(t, "serve", "-config", writeConfig(t, dir, "", ""), "-allow", "127.0.0.0/8")
	status, answer := call(t, "POST", p.url(t)+"/v1/webhooks", `{"url": "http://127.0.0.1:9/", "delay": 3600}`)
	wantStatus(t, 201, status, answer)
	var events strings.Builder
	for i := range n {
		events.WriteString(strings.NewReplacer("11111111-2222-4333-8444-555555555555", uuid.New().String(), `"poltio_user_id": 1`,
			fmt.Sprintf(`"poltio_user_id": %d`, i)).Replace(testSession))
	}
	status, answer = call(t, "POST", p.url(t)+"/v1/events", events.String())
	wantStatus(t, 202, status, answer)
	if code := p.end(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	return filepath.Join(dir, "test.db")
}

// The file is looked after as an operator does it.
func TestCheckAndCompact(t *testing.T) {
	path := makeDatabase(t, 50)
	code, stdout, stderr := runToEnd(t, "check", path)
	if want := `^ok: 50 sessions, 50 deliveries, 1 webhooks, \d+\.\d MiB, of which \d+\.\d MiB are free\n$`; code != 0 || stderr != "" || !regexp.MustCompile(want).MatchString(stdout) {
		t.Errorf("check: %d, %q, %q", code, stdout, stderr)
	}
	config := filepath.Join(filepath.Dir(path), "config.toml")
	p := start(t, "serve", "-config", config)
	status, answer := call(t, "DELETE", p.url(t)+"/v1/visitors/7", "")
	wantStatus(t, 200, status, answer)
	out := filepath.Join(t.TempDir(), "out.db")
	for _, args := range [][]string{{"check", path}, {"compact", path, out}} {
		if code, stdout, stderr := runToEnd(t, args...); code != 1 || stdout != "" ||
			stderr != "hookbolt: "+args[0]+" database "+path+": the database is in use by another process\n" {
			t.Errorf("%s beside a server: %d, %q, %q", args[0], code, stdout, stderr)
		}
	}
	p.end(t)

	code, stdout, stderr = runToEnd(t, "compact", path, out)
	if code != 0 || stderr != "" || !regexp.MustCompile(`^ok: \d+\.\d MiB compacted to 0\.\d MiB\n$`).MatchString(stdout) {
		t.Errorf("compact: %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := runToEnd(t, "compact", path, out); code != 1 || !strings.Contains(stderr, out+": file already exists") {
		t.Errorf("compact to a file that is there: %d, %q", code, stderr)
	}
	if err := os.Rename(out, path); err != nil {
		t.Fatal(err)
	}
	p = start(t, "serve", "-config", config)
	if _, metrics := call(t, "GET", p.url(t)+"/metrics", ""); !strings.Contains(metrics, `hookbolt_deliveries{status="scheduled"} 49`+"\n") {
		t.Error("49 deliveries should wait in the copy")
	}
}

// Whatever is damaged, check and compact end with an exit code and a line, and compact leaves no copy.
func TestDamagedFiles(t *testing.T) {
	path := makeDatabase(t, 300)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:usedPages(t, whole)*4096]
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	bad := 0
	for i := range 24 {
		damaged := bytes.Clone(whole)
		// What leads from page to page, and what stands in the first pages of the tree, does the most harm.
		at := 2*4096 + random.IntN(len(damaged)-2*4096)
		if i%2 == 0 {
			at = at/4096*4096 + random.IntN(64)
		}
		damaged[at] ^= byte(1 + random.IntN(255))
		if i%4 == 0 {
			copy(damaged[at:], bytes.Repeat([]byte{0xff}, 16))
		}
		broken := filepath.Join(t.TempDir(), "broken.db")
		if err := os.WriteFile(broken, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := runToEnd(t, "check", broken)
		switch {
		case code == 0 && strings.HasPrefix(stdout, "ok: 300 sessions") && stderr == "": // of what is free
			continue
		case code != 1 || !strings.HasPrefix(stderr, "hookbolt: ") || strings.Count(stderr, "\n") != 1 || strings.Contains(stdout, "goroutine"):
			t.Errorf("byte %d: check: %d, %q, %q", at, code, stdout, stderr)
		}
		bad++
		out := filepath.Join(filepath.Dir(broken), "out.db")
		if code, stdout, stderr := runToEnd(t, "compact", broken, out); code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("byte %d: compact: %d, %q, %q", at, code, stdout, stderr)
		}
		if left, _ := filepath.Glob(out + "*"); len(left) > 0 {
			t.Errorf("byte %d: compact left %v", at, left)
		}
	}
	if bad < 5 {
		t.Errorf("%d of 24 files were found to be damaged: the test has seen too little", bad)
	}
}

// Reading a file may end a process. It must not be ours.
func TestReaderThatDies(t *testing.T) {
	path := makeDatabase(t, 1)
	t.Setenv(dieEnv, "1")
	out := filepath.Join(t.TempDir(), "out.db")
	for _, args := range [][]string{{"check", path}, {"compact", path, out}} {
		if err := os.WriteFile(out+".tmp", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := runToEnd(t, args...)
		if want := "hookbolt: " + args[0] + ": " + path + ": stored record is damaged: reading it ended the process (exit status 2: panic: of the test)\n"; code != 1 ||
			stdout != "" || stderr != want {
			t.Errorf("%s: %d, %q, %q; want %q", args[0], code, stdout, stderr, want)
		}
	}
	if left, _ := filepath.Glob(out + "*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// usedPages reads how many pages of a database are in use from the newer of its meta pages.
func usedPages(t *testing.T, db []byte) uint64 {
	t.Helper()
	var txid, pages uint64
	for _, meta := range [][]byte{db, db[4096:]} {
		if id := binary.NativeEndian.Uint64(meta[64:]); id >= txid {
			txid, pages = id, binary.NativeEndian.Uint64(meta[56:])
		}
	}
	return pages
}

// A backup is taken from a server under load, as an operator does it, and a server that starts on it goes on from there.
func TestBackupAndRestore(t *testing.T) {
	got := make(chan string, 1000) // webhook-ids
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("webhook-id") }))
	defer endpoint.Close()
	dir := t.TempDir()
	server, api := spawn(t, writeConfig(t, dir, "", `allow_networks = ["127.0.0.0/8"]`))
	status, answer := call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0, "paused": true}`, endpoint.URL))
	wantStatus(t, 201, status, answer)

	var mu sync.Mutex
	more := sync.NewCond(&mu)
	acknowledged, enough := 0, false // guarded by mu
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for {
				body := strings.ReplaceAll(testSession, "11111111-2222-4333-8444-555555555555", uuid.New().String())
				resp, err := http.Post(api+"/v1/events", "application/json", strings.NewReader(body))
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
	resp, err := http.Get(api + "/v1/backup")
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
	server.Process.Kill()
	server.Wait()

	restored := t.TempDir()
	if err := os.WriteFile(filepath.Join(restored, "test.db"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runToEnd(t, "check", filepath.Join(restored, "test.db"))
	if code != 0 {
		t.Fatalf("%d, %s, %s", code, stdout, stderr)
	}
	server, api = spawn(t, writeConfig(t, restored, "", `allow_networks = ["127.0.0.0/8"]`))
	status, answer = call(t, "PATCH", api+"/v1/webhooks/1", `{"paused": false}`)
	wantStatus(t, 200, status, answer)
	deadline := time.After(2 * testPatience)
	ids := make(map[string]bool)
	for len(ids) < before {
		select {
		case id := <-got:
			ids[id] = true
		case <-deadline:
			t.Fatalf("%d deliveries of %d that were acknowledged before", len(ids), before)
		}
	}
	server.Process.Kill()
	server.Wait()
	t.Logf("%d acknowledged before the backup; %s", before, stdout)
}
