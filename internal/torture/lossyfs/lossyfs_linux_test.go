package lossyfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func create(t *testing.T, f *FS, name, content string) *os.File {
	t.Helper()
	w, err := os.Create(filepath.Join(f.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if _, err := w.WriteString(content); err != nil {
		t.Fatal(err)
	}
	return w
}

func syncFile(t *testing.T, f *os.File) {
	t.Helper()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func syncDir(f *FS) error {
	d, err := os.Open(f.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// wantFiles compares what is in the directory with pairs of names and contents.
func wantFiles(t *testing.T, f *FS, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(f.Dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Name(), string(content))
	}
	if g, w := strings.Join(got, "|"), strings.Join(want, "|"); g != w {
		t.Errorf("got %q, want %q", g, w)
	}
}

func TestCut(t *testing.T) {
	f := Start(t)
	for _, test := range []struct {
		name string
		do   func(t *testing.T)
		none []string // what is left when nothing is kept that was not synced
		all  []string // and when everything is kept
	}{
		{"data without a sync", func(t *testing.T) {
			a := create(t, f, "a", "")
			if err := syncDir(f); err != nil {
				t.Fatal(err)
			}
			a.WriteString("lost")
		}, []string{"a", ""}, []string{"a", "lost"}},
		{"synced data stay, what follows does not", func(t *testing.T) {
			a := create(t, f, "a", "stays")
			syncFile(t, a)
			if err := syncDir(f); err != nil {
				t.Fatal(err)
			}
			a.WriteAt([]byte("LO"), 1)
			a.Truncate(4)
		}, []string{"a", "stays"}, []string{"a", "sLOy"}},
		{"a name without a sync of the directory", func(t *testing.T) {
			syncFile(t, create(t, f, "a", "synced"))
		}, nil, []string{"a", "synced"}},
		{"a rename without a sync of the directory", func(t *testing.T) {
			syncFile(t, create(t, f, "old", "new content"))
			syncFile(t, create(t, f, "to", "old content"))
			if err := syncDir(f); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(f.Dir, "old"), filepath.Join(f.Dir, "to")); err != nil {
				t.Fatal(err)
			}
		}, []string{"old", "new content", "to", "old content"}, []string{"to", "new content"}},
		{"a removal without a sync of the directory", func(t *testing.T) {
			syncFile(t, create(t, f, "a", "back"))
			if err := syncDir(f); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(f.Dir, "a")); err != nil {
				t.Fatal(err)
			}
		}, []string{"a", "back"}, nil},
		{"a rename with its sync, of data without one", func(t *testing.T) {
			create(t, f, "tmp", "lost")
			if err := os.Rename(filepath.Join(f.Dir, "tmp"), filepath.Join(f.Dir, "a")); err != nil {
				t.Fatal(err)
			}
			if err := syncDir(f); err != nil {
				t.Fatal(err)
			}
		}, []string{"a", ""}, []string{"a", "lost"}},
	} {
		for keep, want := range map[Keep][]string{KeepNone: test.none, KeepAll: test.all} {
			t.Run(test.name+"/"+keep.String(), func(t *testing.T) {
				f.Reset()
				test.do(t)
				wantFiles(t, f, test.all...)
				f.Cut(keep, 1)
				wantFiles(t, f, want...)
				f.Cut(KeepNone, 1) // what a cut leaves is on the disk
				wantFiles(t, f, want...)
			})
		}
	}
}

// What was open before a cut must do nothing to the file after it.
func TestCutEndsOpenFiles(t *testing.T) {
	f := Start(t)
	a := create(t, f, "a", "stays")
	syncFile(t, a)
	if err := syncDir(f); err != nil {
		t.Fatal(err)
	}
	f.Freeze(1)
	a.WriteAt([]byte("S"), 0)
	if _, err := a.WriteString("more"); !errors.Is(err, syscall.EIO) {
		t.Errorf("write while frozen: %v", err)
	}
	f.Cut(KeepNone, 1)
	if _, err := a.WriteString("more"); !errors.Is(err, syscall.EIO) {
		t.Errorf("write after the cut: %v", err)
	}
	if err := a.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync after the cut: %v", err)
	}
	wantFiles(t, f, "a", "stays")
}

func TestFailedSync(t *testing.T) {
	f := Start(t)
	a := create(t, f, "a", "first")
	f.FailSync(3)
	syncFile(t, a)
	if err := syncDir(f); err != nil {
		t.Fatal(err)
	}
	a.WriteAt([]byte("SECOND"), 0)
	if err := a.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("third sync: %v, want EIO", err)
	}
	if at := f.Stats().FailedAt; time.Since(at) > time.Minute {
		t.Errorf("failed at %v", at)
	}
	wantFiles(t, f, "a", "SECOND") // the cache shows it
	a.WriteAt([]byte("!"), 9)
	syncFile(t, a) // and takes it for clean
	f.Evict()
	wantFiles(t, f, "a", "first\x00\x00\x00\x00!")
	f.Cut(KeepAll, 1)
	wantFiles(t, f, "a", "first\x00\x00\x00\x00!")

	// The journal does not lose what a sync of the directory has failed to bring to the disk.
	syncFile(t, create(t, f, "b", "b"))
	f.FailSync(1)
	if err := syncDir(f); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync of the directory: %v, want EIO", err)
	}
	if err := syncDir(f); err != nil {
		t.Fatal(err)
	}
	f.Cut(KeepNone, 1)
	wantFiles(t, f, "a", "first\x00\x00\x00\x00!", "b", "b")
}

// A cut in the middle of a sync leaves what was synced before.
func TestSlowSync(t *testing.T) {
	f := Start(t)
	const delay = 50 * time.Millisecond
	a := create(t, f, "a", "first")
	syncFile(t, a)
	if err := syncDir(f); err != nil {
		t.Fatal(err)
	}
	f.SetDelay(delay)
	started := time.Now()
	a.WriteAt([]byte("F"), 0)
	syncFile(t, a)
	if took := time.Since(started); took < delay {
		t.Errorf("the sync took %v, want %v", took, delay)
	}
	a.WriteAt([]byte("I"), 1)
	done := make(chan error, 1)
	syncs := f.Stats().Syncs
	go func() { done <- a.Sync() }()
	for f.Stats().Syncs == syncs { // until it has begun
	}
	f.Cut(KeepNone, 1)
	if err := <-done; !errors.Is(err, syscall.EIO) {
		t.Errorf("sync that a cut has ended: %v, want EIO", err)
	}
	wantFiles(t, f, "a", "First")
}

func TestQuota(t *testing.T) {
	f := Start(t)
	f.SetQuota(3 * pageSize)
	page := strings.Repeat("x", pageSize)
	a := create(t, f, "a", page+page)
	if _, err := a.WriteString(page + page); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write beyond the quota: %v, want ENOSPC", err)
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(f.Dir, &stat); err != nil || stat.Bavail != 1 || stat.Blocks != 3 {
		t.Errorf("statfs: %d of %d pages are free (%v), want 1 of 3", stat.Bavail, stat.Blocks, err)
	}
	if err := a.Truncate(100 * pageSize); err != nil {
		t.Errorf("a hole takes no space: %v", err)
	}
	if _, err := a.WriteAt([]byte(page), 0); err != nil {
		t.Errorf("what is there may be written again: %v", err)
	}
	f.SetQuota(4 * pageSize)
	if _, err := a.WriteAt([]byte(page+page), 2*pageSize); err != nil {
		t.Errorf("write after the quota was raised: %v", err)
	}
	if n := f.Stats().Refused; n != 1 {
		t.Errorf("%d writes counted as refused, want 1", n)
	}
}

// mmap shows what was written, as bbolt needs it.
func TestMap(t *testing.T) {
	f := Start(t)
	a := create(t, f, "a", strings.Repeat("x", pageSize))
	m, err := syscall.Mmap(int(a.Fd()), 0, 4*pageSize, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(m)
	if m[7] != 'x' {
		t.Errorf("got %q", m[7])
	}
	a.WriteAt([]byte("new"), 6)
	a.WriteAt([]byte("more"), 2*pageSize)
	if got := string(m[5:10]) + string(m[2*pageSize:2*pageSize+4]); got != "xnewxmore" {
		t.Errorf("got %q", got)
	}
}

// The log, carried out again, gives the same disk, and cuts of it give what cuts of the file system would.
func TestLog(t *testing.T) {
	f := Start(t)
	f.Record()
	syncFile(t, create(t, f, "tmp", strings.Repeat("a", 3*pageSize)))
	if err := os.Rename(filepath.Join(f.Dir, "tmp"), filepath.Join(f.Dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := syncDir(f); err != nil {
		t.Fatal(err)
	}
	a, err := os.OpenFile(filepath.Join(f.Dir, "a"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.WriteAt(bytes.Repeat([]byte("b"), 2*pageSize), 100)
	create(t, f, "gone", "")
	if err := os.Remove(filepath.Join(f.Dir, "gone")); err != nil {
		t.Fatal(err)
	}
	ops, err := f.Log(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := f.Stats().Ops; len(ops) != n {
		t.Errorf("%d operations in the log, %d counted", len(ops), n)
	}
	d := NewDisk()
	for _, op := range ops {
		if err := d.Apply(op); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(20) {
		dir := t.TempDir()
		if err := d.Cut(KeepSome, rand.New(rand.NewPCG(seed, 0))).Save(dir); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(dir, "a"))
		if err != nil {
			t.Fatal(err)
		}
		// Torn at the sectors' ends only.
		for i := 0; i < len(content); i += sectorSize {
			sector := content[i : i+sectorSize]
			if i == 0 || i == 2*pageSize {
				sector = sector[:100]
				if i == 0 {
					sector = content[100:sectorSize]
				}
			}
			if n := bytes.Count(sector, sector[:1]); n != len(sector) {
				t.Errorf("seed %d: the sector at %d has %d bytes of %q", seed, i, n, sector[0])
			}
		}
	}
	// What the disk leaves by chance is the same for the same seed.
	dir := t.TempDir()
	if err := d.Cut(KeepSome, rand.New(rand.NewPCG(7, 0))).Save(dir); err != nil {
		t.Fatal(err)
	}
	f.Cut(KeepSome, 7)
	x, err := os.ReadFile(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(filepath.Join(f.Dir, "a"))
	if err != nil || !bytes.Equal(x, y) {
		t.Errorf("the same cut of the log and of the file system differ (%v)", err)
	}
	r, err := os.Open(filepath.Join(f.Dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if end, err := r.Seek(0, io.SeekEnd); err != nil || end != 3*pageSize {
		t.Errorf("the file ends at %d (%v)", end, err)
	}
}
