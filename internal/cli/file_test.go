package cli_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"hookbolt/internal/cli"
	"hookbolt/internal/dbfile"
	"hookbolt/internal/hookbolttest"
	"hookbolt/storage/bolt"
)

// makeDatabase runs a server that takes in n sessions, which wait, and returns the path of its database.
func makeDatabase(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, dir, "", ""), "-allow", "127.0.0.0/8")
	status, answer := hookbolttest.Call(t, "POST", p.URL(t)+"/v1/webhooks", `{"url": "http://127.0.0.1:9/", "delay": 3600}`)
	hookbolttest.WantStatus(t, 201, status, answer)
	var events strings.Builder
	for i := range n {
		events.WriteString(strings.NewReplacer("11111111-2222-4333-8444-555555555555", uuid.New().String(), `"poltio_user_id": 1`,
			fmt.Sprintf(`"poltio_user_id": %d`, i)).Replace(hookbolttest.Session))
	}
	status, answer = hookbolttest.Call(t, "POST", p.URL(t)+"/v1/events", events.String())
	hookbolttest.WantStatus(t, 202, status, answer)
	if code := p.End(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	return filepath.Join(dir, "test.db")
}

// The file is looked after as an operator does it.
func TestCheckAndCompact(t *testing.T) {
	path := makeDatabase(t, 50)
	code, stdout, stderr := hookbolttest.Run(t, "check", path)
	if want := `^ok: 50 sessions, 50 deliveries, 1 webhooks, \d+\.\d MiB, of which \d+\.\d MiB are free\n$`; code != 0 || stderr != "" || !regexp.MustCompile(want).MatchString(stdout) {
		t.Errorf("check: %d, %q, %q", code, stdout, stderr)
	}
	config := filepath.Join(filepath.Dir(path), "config.toml")
	p := hookbolttest.Start(t, "serve", "-config", config)
	status, answer := hookbolttest.Call(t, "DELETE", p.URL(t)+"/v1/visitors/7", "")
	hookbolttest.WantStatus(t, 200, status, answer)
	out := filepath.Join(t.TempDir(), "out.db")
	for _, args := range [][]string{{"check", path}, {"compact", path, out}} {
		if code, stdout, stderr := hookbolttest.Run(t, args...); code != 1 || stdout != "" ||
			stderr != "hookbolt: "+args[0]+" database "+path+": the database is in use by another process\n" {
			t.Errorf("%s beside a server: %d, %q, %q", args[0], code, stdout, stderr)
		}
	}
	p.End(t)

	code, stdout, stderr = hookbolttest.Run(t, "compact", path, out)
	if code != 0 || stderr != "" || !regexp.MustCompile(`^ok: \d+\.\d MiB compacted to 0\.\d MiB\n$`).MatchString(stdout) {
		t.Errorf("compact: %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := hookbolttest.Run(t, "compact", path, out); code != 1 || !strings.Contains(stderr, out+": file already exists") {
		t.Errorf("compact to a file that is there: %d, %q", code, stderr)
	}
	if err := os.Rename(out, path); err != nil {
		t.Fatal(err)
	}
	p = hookbolttest.Start(t, "serve", "-config", config)
	if _, metrics := hookbolttest.Call(t, "GET", p.URL(t)+"/metrics", ""); !strings.Contains(metrics, `hookbolt_deliveries{status="scheduled"} 49`+"\n") {
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
		code, stdout, stderr := hookbolttest.Run(t, "check", broken)
		switch {
		case code == 0 && strings.HasPrefix(stdout, "ok: 300 sessions") && stderr == "": // of what is free
			continue
		case code != 1 || !strings.HasPrefix(stderr, "hookbolt: ") || strings.Count(stderr, "\n") != 1 || strings.Contains(stdout, "goroutine"):
			t.Errorf("byte %d: check: %d, %q, %q", at, code, stdout, stderr)
		}
		bad++
		out := filepath.Join(filepath.Dir(broken), "out.db")
		if code, stdout, stderr := hookbolttest.Run(t, "compact", broken, out); code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 {
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
	t.Setenv(cli.DieVariable, "1")
	out := filepath.Join(t.TempDir(), "out.db")
	for _, args := range [][]string{{"check", path}, {"compact", path, out}} {
		if err := os.WriteFile(out+".tmp", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := hookbolttest.Run(t, args...)
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

// What ends the inspecting process by a signal or a panic is an error of the one that asked.
func TestInspectionThatDies(t *testing.T) {
	t.Setenv(cli.DieVariable, "1")
	err := dbfile.Inspector(slog.New(slog.DiscardHandler))("some.db")
	if err == nil || !strings.Contains(err.Error(), bolt.ErrCorrupt.Error()) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line that says damaged", err)
	}
}
