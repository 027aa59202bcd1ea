package lossyfs

import (
	"bufio"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Stats is what a file system has counted.
type Stats struct {
	// Ops is how many operations there were since the last cut or reset: a stamp for Log.
	Ops int
	// Syncs is how many syncs were asked for since the last reset.
	Syncs int
	// Refused is how many writes the quota has refused since the last reset.
	Refused int
	// FailedAt is when the sync failed that FailSync chose. Zero while it has not.
	FailedAt time.Time
	// Used is how many bytes the files take.
	Used int64
}

// FS is a file system, mounted and served by a process of its own. Its methods may be called at once.
type FS struct {
	// Dir is where it is mounted.
	Dir string

	mu      sync.Mutex // guards the conversation with the process
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	replies *json.Decoder
}

// Require skips the test where there is no FUSE, and fails it there if HOOKBOLT_REQUIRE_FUSE is 1.
func Require(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		f.Close()
		if os.Geteuid() != 0 {
			err = errors.New("only root may mount it")
		}
	}
	switch {
	case err == nil:
	case os.Getenv("HOOKBOLT_REQUIRE_FUSE") == "1":
		t.Fatalf("HOOKBOLT_REQUIRE_FUSE is set, and FUSE cannot be used: %v", err)
	default:
		t.Skipf("SKIPPED, nothing is tested here: power cuts need FUSE: %v", err)
	}
}

// Start mounts an empty file system until the test ends. Its process is this binary, see Main.
func Start(t testing.TB) *FS {
	t.Helper()
	Require(t)
	f := &FS{Dir: t.TempDir()}
	f.cmd = exec.Command(os.Args[0])
	f.cmd.Env = append(os.Environ(), mountEnv+"="+f.Dir)
	f.cmd.Stderr = os.Stderr
	var err error
	if f.stdin, err = f.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.replies = json.NewDecoder(bufio.NewReader(stdout))
	t.Cleanup(func() {
		f.stdin.Close()
		if err := f.cmd.Wait(); err != nil {
			t.Errorf("lossyfs: %v", err)
		}
	})
	if err := f.replies.Decode(new(reply)); err != nil {
		t.Fatalf("lossyfs: mount: %v", err)
	}
	return f
}

// ask panics where the process that serves the file system is gone: nothing that a test could still find out would be true.
func (f *FS) ask(q request) Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	var a reply
	err := json.NewEncoder(f.stdin).Encode(q)
	if err == nil {
		err = f.replies.Decode(&a)
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		panic(fmt.Errorf("lossyfs: %w", err))
	}
	return a.Stats
}

// Stats tells what was counted.
func (f *FS) Stats() Stats { return f.ask(request{}) }

// Freeze lets nothing change after so many more operations until a cut or a reset, and refuses what tries to: the moment of a
// power cut, in which the processes need not have ended yet.
func (f *FS) Freeze(after int) { f.ask(request{Do: "freeze", N: int64(after)}) }

// Cut is a power cut: what was not synced is lost, or not, as keep says. Files that are open become useless: processes that
// use them should have ended.
func (f *FS) Cut(keep Keep, seed uint64) { f.ask(request{Do: "cut", Keep: keep, Seed: seed}) }

// Reset makes the file system new and empty, with nothing that goes wrong.
func (f *FS) Reset() { f.ask(request{Do: "reset"}) }

// FailSync lets the n-th sync from now on fail, counted from 1, of files or the directory. 0 lets none fail.
func (f *FS) FailSync(n int) { f.ask(request{Do: "fail", N: int64(n)}) }

// SetDelay makes each sync take at least so long.
func (f *FS) SetDelay(d time.Duration) { f.ask(request{Do: "delay", N: int64(d)}) }

// SetQuota makes the disk so large, in bytes; 0 makes it larger than any test needs.
func (f *FS) SetQuota(bytes int64) Stats { return f.ask(request{Do: "quota", N: bytes}) }

// Evict lets the system forget what it holds of the files, but not what waits to be synced. No file may be open.
func (f *FS) Evict() { f.ask(request{Do: "evict"}) }

// Save writes the files to a directory as a cut now would leave them that keeps nothing.
func (f *FS) Save(dir string) { f.ask(request{Do: "save", Path: dir}) }

// Record begins to record the operations. The file system must be new.
func (f *FS) Record() { f.ask(request{Do: "record"}) }

// Log returns the operations since Record. It passes them through the file at path.
func (f *FS) Log(path string) ([]Op, error) {
	f.ask(request{Do: "log", Path: path})
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var ops []Op
	if err := gob.NewDecoder(bufio.NewReader(r)).Decode(&ops); err != nil {
		return nil, fmt.Errorf("lossyfs: log: %w", err)
	}
	return ops, nil
}
