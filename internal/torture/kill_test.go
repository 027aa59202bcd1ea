package torture

import (
	"math/rand/v2"
	"testing"
	"time"
)

// kill -9 at full load, at random moments, also during starts and stops: nothing that was acknowledged is lost, nothing that was
// recorded as delivered comes again, and only what was unrecorded at the kill is repeated.
func TestKill(t *testing.T) {
	experiment(t)
	binary := build(t)
	var total verdict
	// The database of a round stays small enough to be checked whole at each cut.
	rounds, cycles := scale(1, 10), scale(8, 20)
	for round := range rounds {
		total.add(killRound(t, rigOptions{binary: binary}, random(t, "adversary", round), cycles, false))
	}
	summarize(t, "kill -9: %v", &total)
	total.hold(t)
	if total.Due < 50*total.Cuts {
		t.Errorf("only %d deliveries in %d cuts: the experiment saw too little", total.Due, total.Cuts)
	}
}

// The harness must see a hookbolt that is not to be trusted.
func TestKillControls(t *testing.T) {
	experiment(t)
	for _, c := range []struct {
		name  string
		edits []edit
	}{
		{"attempts that are not recorded", forgetfulEngine},
		{"acknowledgement 20 ms before the commit", earlyAcknowledgement},
	} {
		line := caught(t, c.name, func(r *rand.Rand) *verdict { return killRound(t, rigOptions{binary: build(t, c.edits...)}, r, 5, true) })
		if line != "" {
			summarize(t, "kill -9, control %q: caught: %s", c.name, firstLines(line, 1))
		}
	}
}

// killRound puts a fresh database under load, kills its server again and again, and returns the verdict. With enough it ends
// as soon as there is something to complain about.
func killRound(t *testing.T, opts rigOptions, r *rand.Rand, cycles int, enough bool) *verdict {
	opts.manner = difficult
	g := newRig(t, opts)
	s := g.setUp()
	load := g.produce(16)
	for cycle := range cycles {
		switch moment := r.IntN(100); {
		case moment < 70: // in the middle of the work
			pass(between(r, 20*time.Millisecond, 900*time.Millisecond), s.exited)
		case moment < 85: // while it stops
			pass(between(r, 20*time.Millisecond, 500*time.Millisecond), s.exited)
			s.terminate()
			pass(between(r, 0, 40*time.Millisecond), s.exited)
		default: // while the next one starts
			pass(between(r, 20*time.Millisecond, 500*time.Millisecond), s.exited)
			s.kill()
			g.afterCut(false)
			s = g.launch()
			pass(between(r, 0, 60*time.Millisecond), s.exited)
		}
		if !s.running() && s.exitCode() != 0 {
			g.books.complain("it ended by itself with code %d:\n%s", s.exitCode(), s.log)
		}
		s.kill()
		g.afterCut(false)
		if enough && len(g.verdict().trouble) > 0 {
			return g.abandon(load)
		}
		var err error
		if s, err = g.start(); err != nil {
			g.books.complain("after cut %d: %v", cycle+1, err)
			return g.abandon(load)
		}
	}
	load.halt()
	return g.finish(s)
}
