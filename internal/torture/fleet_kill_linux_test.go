package torture

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	// orphanedFleet leaves the lanes of a member that has ended alone.
	orphanedFleet = mutantFlock.shared("fleet-orphaned", edit{file: "storage/postgres/poll.go", old: "	if m == nil || f.taking[id] {\n", new: "	if m == nil || f.taking[id] || mutant(\"fleet-orphaned\") {\n"})
	// rashFleet takes members for dead that are not.
	rashFleet = mutantFlock.shared("fleet-rash", edit{file: "storage/postgres/poll.go", old: " || m.about.Process.hasEnded(f.about.Process) {\n",
		new: " || m.about.Process.hasEnded(f.about.Process) || mutant(\"fleet-rash\") && m.beat%5 == 4 {\n"})
	// hastyFleet gives lanes to others while it has claims in them.
	hastyFleet = mutantFlock.shared("fleet-hasty", edit{file: "storage/postgres/lanes.go", old: "		if counts[engine.Lane{WebhookID: id}]+counts[engine.Lane{WebhookID: id, Test: true}] == 0 {\n",
		new: "		if counts[engine.Lane{WebhookID: id}]+counts[engine.Lane{WebhookID: id, Test: true}] == 0 || mutant(\"fleet-hasty\") {\n"})
)

// kill -9 of one of three processes, at any moment: the others go on with its lanes soon. Nothing that was acknowledged is lost or stored twice, nothing is sent
// again that was recorded as delivered, and only what was unrecorded of the one that was killed is repeated.
func TestFleetKill(t *testing.T) {
	experiment(t)
	binary := build(t)
	var total verdict
	var kills fleetKills
	rounds, n := scale(1, 15), scale(3, 20)
	for round := range rounds {
		total.add(kills.round(t, binary, random(t, "adversary", round), n, false))
	}
	summarize(t, "fleet, kill -9: %v; %v", &kills, &total)
	total.hold(t)
	kills.seen.hold(t, resumeWithin())
	kills.unseen.hold(t, resumeWithin())
	if total.Due < 50*total.Cuts {
		t.Errorf("only %d deliveries in %d kills: the experiment saw too little", total.Due, total.Cuts)
	}
}

func TestFleetKillOrphanedControl(t *testing.T) {
	fleetExperiment(t)
	fleetKillControl(t, "lanes that nobody takes over", orphanedFleet)
}

func TestFleetKillRashControl(t *testing.T) {
	fleetExperiment(t)
	fleetKillControl(t, "members that are taken for dead", rashFleet)
}

func fleetKillControl(t *testing.T, name string, edits []edit) {
	var kills fleetKills
	line := caught(t, name, func(r *rand.Rand) *verdict { return kills.round(t, build(t, edits...), r, scale(2, 10), true) })
	if line != "" {
		summarize(t, "fleet, kill -9, control %q: caught: %s", name, firstLines(line, 1))
	}
}

// fleetKills measures how soon deliveries go on, by how the others find out.
type fleetKills struct{ seen, unseen gaps }

func (k *fleetKills) String() string {
	return fmt.Sprintf("went on, where the others see processes end: %v; where they do not: %v", k.seen, k.unseen)
}

// round kills a member n times. The last member sees nobody's process, and nobody sees its.
func (k *fleetKills) round(t *testing.T, binary string, r *rand.Rand, n int, enough bool) *verdict {
	f := newFleet(t, fleetOptions{rigOptions: rigOptions{binary: binary, manner: difficult}, apart: requireApart(t), spread: !enough})
	for i := range n {
		m, err := f.victim(r, func(m *fleetMember) bool { return *longForm || enough || m.apart == (i == 0 && f.opts.apart) })
		if f.complains(err) {
			break
		}
		paths, pid := f.lanesOf(m.pid()), m.pid()
		if r.IntN(100) < scale(0, 15) { // while it stops
			m.terminate()
			pass(between(r, 0, 300*time.Millisecond), m.exited)
		}
		f.forget(pid)
		from := time.Now()
		m.kill()
		f.strikes = append(f.strikes, strike{pid: pid, from: from, until: time.Now().Add(readLate), ended: true})
		f.tell()
		found := f.resumed(paths, from, resumeWithin())
		if m.apart {
			k.unseen = append(k.unseen, found...)
		} else {
			k.seen = append(k.seen, found...)
		}
		if enough && len(f.books.trouble) > 0 {
			break
		}
		if f.complains(f.restart(m)) {
			break
		}
	}
	return f.finish(len(f.books.trouble) > 0, 30*time.Second)
}

// SIGTERM of one process after another under load: its lanes go on within seconds, and nothing at all is repeated.
func TestFleetRestart(t *testing.T) {
	fleetExperiment(t)
	binary := build(t)
	var total verdict
	var all gaps
	rounds, n := scale(1, 3), scale(1, 10)
	for round := range rounds {
		v, found := restartRound(t, binary, random(t, "adversary", round), n)
		total.add(v)
		all = append(all, found...)
	}
	summarize(t, "fleet, rolling restart: %d, %d processes; went on: %v; %v", rounds*n, rounds*n*fleetSize, all, &total)
	total.hold(t)
	all.hold(t, resumeWithinTerm())
}

func TestFleetRestartControl(t *testing.T) {
	fleetExperiment(t)
	line := caught(t, "lanes given away with their claims", func(r *rand.Rand) *verdict {
		v, _ := restartRound(t, build(t, hastyFleet...), r, scale(2, 5))
		return v
	})
	if line != "" {
		summarize(t, "fleet, rolling restart, control %q: caught: %s", "lanes given away with their claims", firstLines(line, 1))
	}
}

// restartRound restarts all members n times, one after another.
func restartRound(t *testing.T, binary string, r *rand.Rand, n int) (*verdict, gaps) {
	f := newFleet(t, fleetOptions{rigOptions: rigOptions{binary: binary, manner: manner{failing: 0.08, slow: 0.3, slowness: 600 * time.Millisecond}}})
	var all gaps
	for i := range n * fleetSize {
		m := f.members[i%fleetSize]
		pass(between(r, 1200*time.Millisecond, 2*time.Second), m.exited)
		paths := f.lanesOf(m.pid())
		f.forget(m.pid())
		from := time.Now()
		m.terminate()
		code, err := m.wait(20 * time.Second)
		if err == nil && code != 0 {
			err = fmt.Errorf("exit code %d, want 0:\n%s", code, m.log)
		}
		f.tell()
		if f.complains(err) {
			break
		}
		all = append(all, f.resumed(paths, from, resumeWithinTerm())...)
		if f.complains(f.restart(m)) {
			break
		}
	}
	return f.finish(len(f.books.trouble) > 0, 30*time.Second), all
}
