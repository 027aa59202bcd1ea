package torture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// impatientEngine cuts attempts off at a stop instead of letting them end.
var impatientEngine = mutantFlock.shared("impatient", edit{file: "engine/engine.go", old: "time.AfterFunc(e.config().ShutdownTimeout, func() { sends.end(errShutdown) })",
	new: "time.AfterFunc(mutated(\"impatient\", 0, e.config().ShutdownTimeout), func() { sends.end(errShutdown) })"})

// SIGTERM under load, again and again: all that was under way is finished and recorded, so nothing is lost and nothing at all is repeated.
// A second process on the same database is sent away at any time.
func TestTerminate(t *testing.T) {
	experiment(t)
	binary := build(t)
	var total verdict
	var refused int
	rounds, cycles := scale(1, 5), scale(6, 20)
	for round := range rounds {
		v, n := terminateRound(t, binary, random(t, "adversary", round), cycles, false)
		total.add(v)
		refused += n
	}
	summarize(t, "SIGTERM: %v, %d second processes refused", &total, refused)
	total.hold(t)
	if total.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded after clean stops", total.Unrecorded)
	}
	if refused < rounds*cycles {
		t.Errorf("%d second processes were refused, want %d", refused, rounds*cycles)
	}
}

func TestTerminateControl(t *testing.T) {
	experiment(t)
	line := caught(t, "no patience at a stop", func(r *rand.Rand) *verdict {
		v, _ := terminateRound(t, build(t, impatientEngine...), r, 10, true)
		return v
	})
	if line != "" {
		summarize(t, "SIGTERM, control %q: caught: %s", "no patience at a stop", firstLines(line, 1))
	}
}

func terminateRound(t *testing.T, binary string, r *rand.Rand, cycles int, enough bool) (v *verdict, refused int) {
	g := newRig(t, rigOptions{binary: binary, manner: manner{failing: 0.08, slow: 0.1, slowness: 300 * time.Millisecond}})
	s := g.setUp()
	load := g.produce(16)
	for cycle := range cycles {
		pass(between(r, 50*time.Millisecond, 600*time.Millisecond), s.exited)
		if refusal := g.refusal(g.launch()); refusal != "" {
			g.books.complain("stop %d: a second process on the same database: %s", cycle+1, refusal)
		} else {
			refused++
		}
		s.terminate()
		code, err := s.wait(20 * time.Second)
		if err != nil {
			g.books.complain("stop %d: %v", cycle+1, err)
			s.kill()
		} else if code != 0 {
			g.books.complain("stop %d: exit code %d, want 0:\n%s", cycle+1, code, s.log)
		}
		g.afterCut(true)
		if enough && len(g.verdict().trouble) > 0 {
			return g.abandon(load), refused
		}
		if s, err = g.start(); err != nil {
			g.books.complain("after stop %d: %v", cycle+1, err)
			return g.abandon(load), refused
		}
	}
	load.halt()
	return g.finish(s), refused
}

// refusal says what is wrong with how a second process was sent away; "" if nothing is.
func (g *rig) refusal(second *server) string {
	code, err := second.wait(10 * time.Second)
	if err != nil {
		second.kill()
		return err.Error()
	}
	said := second.log.String()
	if code != 1 || strings.Count(said, "\n") != 1 || !strings.Contains(said, "in use by another process") || !strings.Contains(said, g.database) {
		return fmt.Sprintf("it should say in one line that the database is in use, and exit with 1; it has exited with %d:\n%s", code, said)
	}
	return ""
}
