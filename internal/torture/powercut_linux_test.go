package torture

import (
	"math/rand/v2"
	"testing"
	"time"

	"hookbolt/internal/torture/lossyfs"
)

// Power cuts at full load, at random moments: what was not synced is gone, or in part, or not, and half of the time syncs are slow, so
// that more of it is. The disk after the cut is the truth about what was recorded.
func TestPowerCut(t *testing.T) {
	experiment(t)
	f := lossyfs.Start(t)
	binary := build(t)
	var total verdict
	rounds, cycles := scale(1, 10), scale(8, 20)
	for round := range rounds {
		total.add(powerCutRound(t, f, binary, random(t, "adversary", round), cycles, false))
	}
	summarize(t, "power cut: %v", &total)
	total.hold(t)
	if total.Due < 20*total.Cuts {
		t.Errorf("only %d deliveries in %d cuts: the experiment saw too little", total.Due, total.Cuts)
	}
}

// Both of these hold out against kill -9, or nearly so.
func TestPowerCutControls(t *testing.T) {
	experiment(t)
	f := lossyfs.Start(t)
	for _, c := range []struct {
		name  string
		edits []edit
	}{
		{"no sync", noSync},
		{"acknowledgement 20 ms before the commit", earlyAcknowledgement},
	} {
		line := caught(t, c.name, func(r *rand.Rand) *verdict { return powerCutRound(t, f, build(t, c.edits...), r, 5, true) })
		if line != "" {
			summarize(t, "power cut, control %q: caught: %s", c.name, firstLines(line, 1))
		}
	}
}

const slowSync = 20 * time.Millisecond

// powerCutRound puts a fresh database under load, cuts the power again and again, and returns the verdict. With enough it ends as soon
// as there is something to complain about.
func powerCutRound(t *testing.T, f *lossyfs.FS, binary string, r *rand.Rand, cycles int, enough bool) *verdict {
	f.Reset()
	g := newRig(t, rigOptions{binary: binary, databaseDir: f.Dir, manner: manner{failing: 0.08, slow: 0.05, slowness: 200 * time.Millisecond}})
	s := g.setUp()
	load := g.produce(16)
	for cycle := range cycles {
		if cycle%2 == 1 {
			f.SetDelay(slowSync)
		}
		pass(between(r, 50*time.Millisecond, 900*time.Millisecond), s.exited)
		if !s.running() {
			g.books.complain("it ended by itself with code %d:\n%s", s.exitCode(), s.log)
		}
		f.Freeze(0)
		s.kill()
		f.SetDelay(0)
		f.Cut(keeps[r.IntN(len(keeps))], r.Uint64())
		g.afterCut(false)
		if enough && len(g.verdict().trouble) > 0 {
			return g.abandon(load)
		}
		var err error
		if s, err = g.start(); err != nil {
			g.books.complain("after cut %d: %v", cycle+1, err)
			s.kill()
			return g.abandon(load)
		}
	}
	load.halt()
	return g.finish(s)
}
