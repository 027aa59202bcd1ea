//go:build unix

package bolt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// openFor opens a database until the end of the test, or until it is closed.
func openFor(t *testing.T, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestOtherNames: a second process does not come to look at a database that is in use, by whatever name it tries.
func TestOtherNames(t *testing.T) {
	dir := t.TempDir()
	path, link, hard := filepath.Join(dir, "a", "hb.db"), filepath.Join(dir, "b", "link.db"), filepath.Join(dir, "b", "hard.db")
	for _, d := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := openFor(t, path, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Symlink(path, link), os.Link(path, hard), os.Symlink("a", filepath.Join(dir, "c")), os.Symlink(link, filepath.Join(dir, "twice.db"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	names := []string{path, link, hard, filepath.Join(dir, "c", "hb.db"), filepath.Join(dir, "twice.db"), "a/hb.db", "b/../a/hb.db", "c/hb.db"}
	for _, first := range names {
		s := openFor(t, first, Options{})
		past := time.Unix(1e9, 0) // whoever writes to the file changes its time
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
		for _, second := range names {
			looked := false
			other, err := Open(second, Options{Inspect: func(string) error { looked = true; return nil }})
			if err == nil {
				other.Close()
			}
			if !errors.Is(err, ErrInUse) || looked || !strings.Contains(err.Error(), second) {
				t.Errorf("open as %s, and again as %s: %v; looked at: %t", first, second, err, looked)
			}
			if _, err := CheckFile(second); !errors.Is(err, ErrInUse) {
				t.Errorf("open as %s, checked as %s: %v", first, second, err)
			}
		}
		if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(past) {
			t.Errorf("open as %s: the file was written to at %v, %v", first, info.ModTime(), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{link + ".lock", filepath.Join(dir, "twice.db.lock"), link + ".tmp"} {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLockedWhileInspected: the lock is there before a database is looked at. Its inspection may read it, and nobody else may open it.
func TestLockedWhileInspected(t *testing.T) {
	dir := t.TempDir()
	path, hard := filepath.Join(dir, "hb.db"), filepath.Join(dir, "hard.db")
	if err := openFor(t, path, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, hard); err != nil {
		t.Fatal(err)
	}
	inspections := 0
	s := openFor(t, path, Options{Inspect: func(named string) error {
		inspections++
		if err := Inspect(named); err != nil {
			t.Errorf("it cannot be inspected: %v", err)
		}
		for _, name := range []string{path, hard} {
			if _, err := Open(name, Options{Inspect: func(string) error { t.Error("it is looked at twice"); return nil }}); !errors.Is(err, ErrInUse) {
				t.Errorf("open as %s meanwhile: %v", name, err)
			}
		}
		return nil
	}})
	if inspections != 1 {
		t.Errorf("%d inspections", inspections)
	}

	// Without the file beside it, the database is still locked. With another database in its place, its name is.
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("without its lock file: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openFor(t, path, Options{})
	if err := os.Rename(path, path+".before"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("in place of one that is open: %v", err)
	}

	// A check that reads the file keeps a start away, too.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err := withFile(hard, false, func(*bbolt.DB) error {
		_, err := Open(path+".before", Options{})
		return err
	})
	if !errors.Is(err, ErrInUse) {
		t.Errorf("opened while it is checked: %v", err)
	}
}

// TestNoRegularFile: what is no file of ours is refused at once, and stays as it is.
func TestNoRegularFile(t *testing.T) {
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	fifo := func(path string) error { return syscall.Mkfifo(path, 0o600) }
	directory := func(path string) error { return os.Mkdir(path, 0o700) }
	to := func(target string) func(string) error {
		return func(path string) error { return os.Symlink(target, path) }
	}
	for _, tc := range []struct {
		suffix string // of the name that it is made at
		make   func(path string) error
		want   string
	}{
		{"", fifo, "is a FIFO and no regular file"},
		{"", directory, "is a directory and no regular file"},
		{"", to(os.DevNull), "is a device and no regular file"},
		{"", to(nowhere), "it is a symbolic link to " + nowhere + ", which does not exist"},
		{".lock", fifo, "is a FIFO and no regular file"},
		{".lock", directory, "is a directory and no regular file"},
		{".lock", to(os.DevNull), "is a symbolic link and no regular file"},
		{".lock", to(precious), "is a symbolic link and no regular file"},
		{".lock", to(nowhere), "is a symbolic link and no regular file"},
	} {
		path := filepath.Join(t.TempDir(), "hb.db")
		if tc.suffix != "" {
			checkAndClose(t, openTest(t, path))
			os.Remove(path + tc.suffix)
		}
		if err := tc.make(path + tc.suffix); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want …%s…", tc.suffix, err, tc.want)
		}
	}
	if b, err := os.ReadFile(precious); string(b) != "precious" || err != nil {
		t.Errorf("the file behind a link has become %q, %v", b, err)
	}
	if _, err := os.Lstat(nowhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made behind a link: %v", err)
	}
}
