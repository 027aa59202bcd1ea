package torture

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wantCaught builds the tests of a package with a flock's mutants, and wants those that match run to pass without a mutant, and to fail with
// each of them, which get further arguments. The short form draws a quarter of the mutants.
func wantCaught(t *testing.T, f *flock, pkg, run string, args ...string) {
	t.Helper()
	binary := compile(t, f.all(), "test", "-c", pkg)
	test := func(name string, args ...string) (string, error) {
		named := filepath.Join(workDir, "hookbolt-"+name)
		if err := os.Link(binary, named); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), named, append([]string{"-test.timeout=3m", "-test.failfast", "-test.run", run}, args...)...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := test("unbroken"); err != nil {
		t.Fatalf("without a mutant: %v\n%s", err, firstLines(out, 30))
	}
	names := slices.Sorted(maps.Values(f.names))
	if !*longForm { // others the next time
		random(t, "mutants", 0).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		names = names[:(len(names)+3)/4]
	}
	for _, name := range names {
		if out, err := test(name, args...); err == nil || !strings.Contains(out, "--- FAIL") {
			t.Errorf("mutant %q: not caught: %v\n%s", name, err, firstLines(out, 10))
		}
	}
	summarize(t, "%s: %d of %d mutants are caught", pkg, len(names), len(f.names))
}
