package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hookbolt/internal/torture/lossyfs"
)

// directCreation makes a new database in its place, as bbolt would by itself.
var directCreation = []edit{{"storage/bolt/create.go", "\ttmp := path + \".tmp\"\n", "\ttmp := path\n"}}

func init() { mutants = append(mutants, directCreation) }

// The power is cut at every operation of the first start. The next start must find a whole database, or none and make one.
func TestFirstStartCut(t *testing.T) {
	experiment(t)
	f := lossyfs.Start(t)
	v := newVerifier(t)
	scratch := inMemory(t)
	random := scale(7, 40)

	cuts, unusable := cutCreation(t, f, v, scratch, random)
	for _, line := range unusable {
		t.Error(line)
	}
	if cuts < 180 {
		t.Errorf("only %d cuts", cuts)
	}

	// The same for the whole binary, for real.
	starts := 0
	binary := build(t, driver(t))
	config := filepath.Join(scratch, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "[http]\nlisten = \"127.0.0.1:0\"\n[storage]\npath = %q\n", filepath.Join(f.Dir, "hookbolt.db")), 0o600); err != nil {
		t.Fatal(err)
	}
	for after := 1; ; after += scale(4, 1) {
		f.Reset()
		f.Freeze(after)
		s := launch(t, binary, nil, "serve", "-config", config)
		_, err := s.awaitReady(startPatience)
		if err == nil { // it was frozen after its start, if at all
			s.kill()
			break
		}
		s.kill()
		f.Cut(keeps[after%len(keeps)], uint64(after))
		s = launch(t, binary, nil, "serve", "-config", config)
		if _, err := s.awaitReady(startPatience); err != nil {
			t.Errorf("after a cut at operation %d (%s): %v", after, keeps[after%len(keeps)], err)
		}
		s.kill()
		starts++
	}

	_, caught := cutCreation(t, f, v, scratch, random, directCreation...)
	if len(caught) == 0 {
		t.Error("control: a database that is made in its place was never unusable: this test sees nothing")
	}
	summarize(t, "first start: %d cuts, %d unusable; %d starts of the whole binary after one; control (made in its place): %d unusable",
		cuts, len(unusable), starts, len(caught))
}

// cutCreation records the making of a database, cuts the power after each operation in each way, by chance so many times, and
// returns what a start could not use.
func cutCreation(t *testing.T, f *lossyfs.FS, v *verifier, scratch string, random int, edits ...edit) (cuts int, unusable []string) {
	t.Helper()
	f.Reset()
	f.Record()
	if d := runDriver(t, build(t, append(edits, driver(t))...), f, 0, 0); !d.closed {
		t.Fatalf("the driver has failed: %s", d.stderr)
	}
	ops, err := f.Log(filepath.Join(scratch, "log"))
	if err != nil {
		t.Fatal(err)
	}
	disk := lossyfs.NewDisk()
	for n := 0; ; n++ {
		for i := range 2 + random {
			keep, seed := lossyfs.KeepSome, uint64(n*1000+i)
			if i < 2 {
				keep = []lossyfs.Keep{lossyfs.KeepNone, lossyfs.KeepAll}[i]
			}
			dir := filepath.Join(scratch, "image")
			if err := disk.Cut(keep, newRand(seed)).Save(dir); err != nil {
				t.Fatal(err)
			}
			cuts++
			if a := v.judge(question{Dir: dir, Create: true}); !a.whole() {
				unusable = append(unusable, fmt.Sprintf("cut after operation %d (%s, %d): %v", n, keep, seed, &a))
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		if n == len(ops) {
			return cuts, unusable
		}
		if err := disk.Apply(ops[n]); err != nil {
			t.Fatal(err)
		}
	}
}
