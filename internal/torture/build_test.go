package torture

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// edit changes the source for one build: a mutant. old must stand in the file exactly once; where it is "", the file is a new one.
type edit struct {
	file     string // relative to the module's directory; "GOROOT/..." for the standard library
	old, new string
}

// flock is mutants that are built together, for a build takes longer than many an experiment. Their edits change something only where
// mutant("NAME"), or mutated("NAME", THIS, OTHERWISE), says so: each mutant is a name of the same binary.
type flock struct {
	edits []edit
	names map[edit]string // the mutants by their edits
}

var (
	// mutantFlock is of the source as it is, clockFlock has a clock that jumps.
	mutantFlock = &flock{names: make(map[edit]string)}
	clockFlock  = &flock{names: make(map[edit]string)}
)

// shared makes a mutant of a flock.
func (f *flock) shared(name string, edits ...edit) []edit {
	f.edits = append(f.edits, edits...)
	f.names[edits[0]] = name
	return edits
}

// askMutant is added to each package that a flock's edits are in.
const askMutant = `package %s

import (
	"os"
	"path/filepath"
)

func mutant(name string) bool { return filepath.Base(os.Args[0]) == "hookbolt-"+name }

func mutated[T any](name string, this, otherwise T) T {
	if mutant(name) {
		return this
	}
	return otherwise
}
`

// all are the edits of a whole flock, and what they ask.
func (f *flock) all() []edit {
	edits := slices.Clone(f.edits)
	asking := make(map[string]bool)
	for _, e := range f.edits {
		if dir := path.Dir(e.file); !strings.HasPrefix(dir, "GOROOT") && !asking[dir] {
			asking[dir] = true
			edits = append(edits, edit{file: dir + "/ask_mutant.go", new: fmt.Sprintf(askMutant, path.Base(dir))})
		}
	}
	return edits
}

// The mutants that several experiments use as failing controls.
var (
	// noSync never syncs: what was acknowledged may be lost with the power.
	noSync = mutantFlock.shared("no-sync", edit{file: "storage/bolt/store.go", old: "\t\tNoFreelistSync: true,\n",
		new: "\t\tNoFreelistSync: true,\n\t\tNoSync: mutant(\"no-sync\"),\n"})
	// earlyAcknowledgement answers the callers some time before the commit.
	earlyAcknowledgement = mutantFlock.shared("early", edit{file: "storage/bolt/writer.go", old: "\t\tstarted, txid := time.Now()",
		new: "\t\tif mutant(\"early\") {\n\t\t\tfor _, m := range applied {\n\t\t\t\tm.answer(nil)\n\t\t\t}\n\t\t\ttime.Sleep(20 * time.Millisecond)\n\t\t}\n" +
			"\t\tstarted, txid := time.Now()"})
	// forgetfulEngine records no attempt: every delivery is made again after each start.
	forgetfulEngine = mutantFlock.shared("forgetful", edit{file: "engine/deliver.go", old: "\tnextAt = e.record(ctx, c, a, w)\n",
		new: "\tif nextAt = (time.Time{}); !mutant(\"forgetful\") {\n\t\tnextAt = e.record(ctx, c, a, w)\n\t}\n"})
)

var builds struct {
	sync.Mutex
	byKey map[string]string // the binary's path by what it was made of
}

// build compiles hookbolt, with edits, once for each run, and returns the binary's path.
func build(t *testing.T, edits ...edit) string {
	t.Helper()
	for _, f := range []*flock{mutantFlock, clockFlock} {
		if len(edits) == 0 || f.names[edits[0]] == "" {
			continue
		}
		named := filepath.Join(workDir, "hookbolt-"+f.names[edits[0]])
		if err := os.Link(compile(t, f.all(), "build", "."), named); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		return named
	}
	return compile(t, edits, "build", ".")
}

// buildTests compiles these tests, with edits of what they use.
func buildTests(t *testing.T, edits ...edit) string {
	t.Helper()
	return compile(t, edits, "test", "-c", "./internal/torture")
}

func compile(t *testing.T, edits []edit, args ...string) string {
	t.Helper()
	key := sha256.Sum256(fmt.Append(nil, args, edits))
	name := filepath.Join(workDir, "hookbolt-"+hex.EncodeToString(key[:4]))
	builds.Lock()
	defer builds.Unlock()
	if built, ok := builds.byKey[name]; ok {
		return built
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"-o", name}
	if len(edits) > 0 {
		flags = append(flags, "-overlay", overlay(t, root, name, edits))
	}
	cmd := exec.CommandContext(t.Context(), "go", slices.Concat(args[:len(args)-1], flags, args[len(args)-1:])...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", args[0], err, out)
	}
	if builds.byKey == nil {
		builds.byKey = make(map[string]string)
	}
	builds.byKey[name] = name
	return name
}

// overlay writes down the edited files and returns the path of the list that go build -overlay takes.
func overlay(t *testing.T, root, name string, edits []edit) string {
	t.Helper()
	edited := make(map[string]string) // text by real path
	for _, e := range edits {
		path := filepath.Join(root, filepath.FromSlash(e.file))
		if rest, ok := strings.CutPrefix(e.file, "GOROOT/"); ok {
			path = filepath.Join(goroot(t), filepath.FromSlash(rest))
		}
		if e.old == "" {
			edited[path] = e.new
			continue
		}
		text, ok := edited[path]
		if !ok {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Fatalf("mutant: %s has this text %d times, want once; the source has changed, so must the mutant:\n%s", e.file, n, e.old)
		}
		edited[path] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := make(map[string]string)
	for path, text := range edited {
		replace[path] = fmt.Sprintf("%s-%d-%s", name, len(replace), filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".json", list, 0o600); err != nil {
		t.Fatal(err)
	}
	return name + ".json"
}

func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// Every mutant must still apply to the source, which is cheap to see, also where no experiment runs.
func TestMutantsApply(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command of", runtime.Version())
	}
	for i, edits := range append(mutants, mutantFlock.all(), clockFlock.all(), throttleFlock.all(), sendFlock.all(), lateFlock.all(), programFlock.all()) {
		overlay(t, root, filepath.Join(t.TempDir(), fmt.Sprint(i)), edits)
	}
}

// mutants are those that are built by themselves.
var mutants [][]edit
