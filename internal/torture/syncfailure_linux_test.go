package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hookbolt/internal/torture/lossyfs"
)

var (
	// stubbornWriter goes on writing after a commit that failed.
	stubbornWriter = []edit{{"storage/bolt/writer.go", "\t\tif err := s.commit(mutations); err != nil {\n\t\t\ts.fail(err)\n\t\t\treturn\n\t\t}\n", "\t\ts.commit(mutations)\n"}}
	// noHealing opens the database as it seems to be.
	noHealing = []edit{{"storage/bolt/store.go", "\tif err := heal(s.file); err != nil {\n", "\tif err := error(nil); err != nil {\n"}}
)

func init() { mutants = append(mutants, stubbornWriter, noHealing) }

// maxFailStop is how long a process may take to end after a sync has failed: a second. The short form runs beside other things, on
// machines that stall for longer than that.
func maxFailStop() time.Duration { return scale(5*time.Second, time.Second) }

// The n-th sync fails, for every n of a run from the first start to the clean stop; then the power is cut, at once or after
// further starts, in whose healing a sync may fail too. Nothing that was acknowledged may be lost.
func TestSyncFailure(t *testing.T) {
	experiment(t)
	c := &syncCases{t: t, f: lossyfs.Start(t), v: newVerifier(t), scratch: inMemory(t), binary: build(t, driver(t))}
	rng := random(t, "cases", 0)
	const steps = 5
	n, rounds := 0, 0
	for c.cases < scale(60, 2000) {
		n++
		if !c.run(rng, n, steps) {
			if n < 20 {
				t.Fatalf("only %d syncs in a run", n)
			}
			n, rounds = 0, rounds+1
		}
	}
	c.report(t)

	// The writer that goes on must be seen within as many cases as there are syncs in a run, and what no healing leads to (the sync of a
	// meta page fails, the process ends, the next one goes on, and the power is cut in one of its first commits) in a few.
	var tries [2]int
	for i, mutant := range [][]edit{stubbornWriter, noHealing} {
		m := &syncCases{t: t, f: c.f, v: c.v, scratch: c.scratch, binary: build(t, append(mutant, driver(t))...), unhealed: i == 1}
		for n := 8; len(m.trouble) == 0 && m.cases < 60; n++ {
			if !m.run(rng, n, steps) {
				n = 8
			}
		}
		if tries[i] = m.cases; len(m.trouble) == 0 {
			t.Errorf("control %d: nothing was seen in %d cases: this test sees nothing", i, m.cases)
		} else {
			t.Logf("control %d: seen in case %d: %s", i, m.cases, m.trouble[0])
		}
	}
	summarize(t, "failed syncs: %d cases (%d rounds of each sync of a run), slowest end %v after it; %d further starts, in %d of which a sync failed too; %d with something lost or wrong; controls: writer that goes on seen in case %d, no healing in case %d",
		c.cases, rounds, c.slowest.Round(time.Millisecond), c.restarts, c.healings, len(c.trouble), tries[0], tries[1])
}

// syncCases are cases of one build.
type syncCases struct {
	t        *testing.T
	f        *lossyfs.FS
	v        *verifier
	scratch  string
	binary   string
	unhealed bool // only cases that take healing

	cases, restarts, healings int
	slowest                   time.Duration
	trouble                   []string
}

func (c *syncCases) complain(format string, args ...any) {
	c.trouble = append(c.trouble, fmt.Sprintf(format, args...))
}

func (c *syncCases) report(t *testing.T) {
	t.Helper()
	for i, line := range c.trouble {
		if i == 20 {
			t.Errorf("and %d more", len(c.trouble)-i)
			break
		}
		t.Error(line)
	}
}

// run is one case: the n-th sync of a run fails. It returns false if the run had fewer.
func (c *syncCases) run(rng *rand.Rand, n, steps int) bool {
	c.f.Reset()
	c.f.FailSync(n)
	name := fmt.Sprintf("sync %d fails", n)
	first := runDriver(c.t, c.binary, c.f, 0, steps)
	if c.f.Stats().FailedAt.IsZero() {
		if !first.closed {
			c.complain("%s: it has not, and the driver ended with %d: %s", name, first.code, first.stderr)
		}
		return false
	}
	c.cases++
	c.failStop(name, first)
	items := first.items

	for restarts := rng.IntN(3); restarts > 0 || c.unhealed; restarts-- {
		c.restarts++
		if !c.unhealed && rng.IntN(3) == 0 {
			name += ", what was clean is forgotten"
			c.f.Evict()
		}
		if !c.unhealed && rng.IntN(3) == 0 {
			again := 1 + rng.IntN(4)
			name += fmt.Sprintf(", sync %d of the next start fails", again)
			c.healings++
			c.f.FailSync(again)
			next := runDriver(c.t, c.binary, c.f, 1000*c.restarts, steps)
			items = append(items, next.items...)
			c.failStop(name, next)
			continue
		}
		after := 1 + rng.IntN(60)
		name += fmt.Sprintf(", the next start goes on for %d operations", after)
		c.f.Freeze(after)
		next := runDriver(c.t, c.binary, c.f, 1000*c.restarts, steps)
		items = append(items, next.items...)
		if next.closed && after < 20 {
			c.complain("%s: it did not even notice", name)
		}
		break
	}

	keep, seed := keeps[rng.IntN(len(keeps))], rng.Uint64()
	if c.unhealed {
		keep = lossyfs.KeepSome
	}
	name += fmt.Sprintf(", power cut that keeps %s (%d)", keep, seed)
	c.f.Cut(keep, seed)
	dir, ledger := filepath.Join(c.scratch, "image"), filepath.Join(c.scratch, fmt.Sprintf("ledger-%d", c.cases))
	defer os.RemoveAll(dir)
	defer os.Remove(ledger)
	c.f.Save(dir)
	writeLedger(c.t, ledger, items)
	if a := c.v.judge(question{Dir: dir, Ledger: ledger, Create: len(items) == 0}); !a.whole() {
		c.complain("%s: %d were acknowledged: %v", name, len(items), &a)
	}
	return true
}

// failStop holds the end of a run against what must follow the failure of a sync.
func (c *syncCases) failStop(name string, d *drive) {
	took := d.endedAt.Sub(c.f.Stats().FailedAt)
	c.slowest = max(c.slowest, took)
	switch {
	case d.code == 0 || d.closed:
		c.complain("%s: the process ended as if nothing had been", name)
	case d.stderr == "":
		c.complain("%s: the process ended without a word", name)
	case took > maxFailStop():
		c.complain("%s: the process ended %v after it", name, took)
	}
	if d.afterError > 0 {
		c.complain("%s: %d acknowledgements after an error", name, d.afterError)
	}
}

// A sync fails under the whole binary at full load.
func TestSyncFailureUnderLoad(t *testing.T) {
	experiment(t)
	f := lossyfs.Start(t)
	binary := build(t)
	var total verdict
	var slowest time.Duration
	rounds, cycles := scale(1, 5), scale(4, 20)
	for round := range rounds {
		v, slow := syncFailureRound(t, f, binary, random(t, "adversary", round), cycles)
		total.add(v)
		slowest = max(slowest, slow)
	}
	summarize(t, "failed syncs under load: %v; slowest end %v after the failure", &total, slowest.Round(time.Millisecond))
	total.hold(t)
}

func syncFailureRound(t *testing.T, f *lossyfs.FS, binary string, r *rand.Rand, cycles int) (*verdict, time.Duration) {
	f.Reset()
	g := newRig(t, rigOptions{binary: binary, databaseDir: f.Dir, manner: manner{failing: 0.08, slow: 0.05, slowness: 200 * time.Millisecond}})
	s := g.setUp()
	load := g.produce(16)
	var slowest time.Duration
	ended := func(s *server) bool {
		code, err := s.wait(20 * time.Second)
		took := time.Since(f.Stats().FailedAt)
		slowest = max(slowest, took)
		if err != nil || code == 0 || took > maxFailStop() || s.log.String() == "" {
			g.books.complain("after a failed sync: code %d, %v later (%v):\n%s", code, took, err, s.log)
			return false
		}
		return true
	}
	abandon := func() (*verdict, time.Duration) {
		s.kill()
		g.afterCut(false)
		return g.abandon(load), slowest
	}
	for cycle := range cycles {
		if f.FailSync(1 + r.IntN(300)); !ended(s) {
			return abandon()
		}
		switch r.IntN(4) {
		case 0:
			f.Evict()
		case 1:
			f.FailSync(1)
			if s = g.launch(); !ended(s) {
				return abandon()
			}
		default:
			f.Cut(keeps[r.IntN(len(keeps))], r.Uint64())
		}
		g.afterCut(false)
		var err error
		if s, err = g.start(); err != nil {
			g.books.complain("after failure %d: %v", cycle+1, err)
			return abandon()
		}
	}
	load.halt()
	return g.finish(s), slowest
}
