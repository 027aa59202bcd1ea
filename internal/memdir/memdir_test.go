package memdir

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUse(t *testing.T) {
	given := t.TempDir()
	t.Setenv("TMPDIR", given)
	Use()()
	if got := os.TempDir(); got != given {
		t.Errorf("the tests use %s, though TMPDIR is set", got)
	}
	os.Unsetenv("TMPDIR")
	remove := Use()
	dir := os.TempDir()
	if inMemory := filepath.Dir(dir) == parent; inMemory != (free(parent) >= minFree) {
		t.Errorf("the tests use %s, with %d bytes free in memory", dir, free(parent))
	} else if inMemory {
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
		remove()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	if got := os.Getenv("TMPDIR"); got != "" {
		t.Errorf("at the end TMPDIR is %q", got)
	}
}

func TestFree(t *testing.T) {
	if n := free(filepath.Join(t.TempDir(), "missing")); n != 0 {
		t.Errorf("%d bytes are free where nothing is", n)
	}
}
