package torture

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
)

// A next version of hookbolt: newer adds to the schema as a step may, newerAlone also forbids the versions before to write.
var (
	newer = mutantFlock.shared("newer", edit{file: "storage/postgres/schema.go", old: "var thisSchema = schemaPlan{migrations[:], writableBy}\n",
		new: "var newerStep = `ALTER TABLE @.deliveries ADD COLUMN region text NOT NULL DEFAULT ''; ALTER TABLE @.batches ADD COLUMN region int; CREATE TABLE @.regions (id int PRIMARY KEY);`\n\n" +
			"var thisSchema = schemaPlan{append(migrations[:len(migrations):len(migrations)], mutated(\"newer\", []string{newerStep}, mutated(\"newer-alone\", []string{newerStep}, nil))...), writableBy}\n"})
	newerAlone = mutantFlock.shared("newer-alone", edit{file: "storage/postgres/schema.go", old: "SET version = $1, writable_by = $2\"), last, s.plan.writableBy)",
		new: "SET version = $1, writable_by = $2\"), last, mutated(\"newer-alone\", last, s.plan.writableBy))"})
)

// Three members are replaced under load, one after another, by a version with a further step of the schema, and back: both work side by side, none ends by itself,
// and nothing is lost or repeated.
func TestPostgresRollingUpgrade(t *testing.T) {
	experiment(t)
	this, next := build(t), build(t, newer...)
	var total verdict
	var gap time.Duration
	rounds := scale(1, 10)
	for round := range rounds {
		v, longest := roll(t, this, []string{next, this}[:scale(1, 2)], random(t, "adversary", round))
		total.add(v)
		gap = max(gap, longest)
	}
	summarize(t, "PostgreSQL, %d rolling upgrades of three members: at most %v without an event taken in; %v", rounds*scale(1, 2), gap.Round(time.Millisecond), &total)
	total.hold(t)
	if total.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded", total.Unrecorded)
	}
}

func TestPostgresRollingUpgradeControl(t *testing.T) {
	experiment(t)
	line := caught(t, "a version that shuts the others out", func(r *rand.Rand) *verdict {
		v, _ := roll(t, build(t), []string{build(t, newerAlone...)}, r)
		return v
	})
	if line != "" {
		summarize(t, "PostgreSQL, rolling upgrade, control %q: caught: %s", "a version that shuts the others out", firstLines(line, 1))
	}
}

// roll starts three members, and replaces each by each of the next versions under load. The producers use one member after another, as a balancer's clients
// do. It returns the longest time in which nothing was acknowledged.
func roll(t *testing.T, first string, next []string, r *rand.Rand) (*verdict, time.Duration) {
	t.Helper()
	opts := rigOptions{binary: first, schema: newSchema(t, postgrestest.SharedDurable(t)), manner: difficult, http: "shutdown_delay = \"200ms\""}
	g := newRig(t, opts)
	members := []*server{g.setUp()}
	add := func() bool {
		s := g.launch()
		if _, err := s.awaitReady(startPatience); err != nil {
			g.books.complain("start: %v", err)
			return false
		}
		members = append(members, s)
		return true
	}
	add()
	add()
	load := g.produce(16)
	w := watchPauses(g)
	for _, version := range next {
		g.opts.binary = version
		for range 3 {
			for range 4 { // each is used for a while
				members = append(members[1:], members[0])
				g.announce(members[1].url())
				pass(between(r, 20*time.Millisecond, 150*time.Millisecond), nil)
			}
			oldest := members[0]
			oldest.terminate()
			code, err := oldest.wait(20 * time.Second)
			if err != nil || code != 0 {
				g.books.complain("a member that is replaced: code %d, %v:\n%s", code, err, oldest.log)
				return g.abandon(load), w.end()
			}
			if members = members[1:]; !add() {
				return g.abandon(load), w.end()
			}
			for _, s := range members {
				if !s.running() {
					g.books.complain("a member has ended by itself with code %d:\n%s", s.exitCode(), s.log)
					return g.abandon(load), w.end()
				}
			}
		}
	}
	longest := w.end()
	load.halt()
	last := members[2]
	g.announce(last.url())
	for _, s := range members[:2] {
		s.terminate()
		if code, err := s.wait(20 * time.Second); err != nil || code != 0 {
			g.books.complain("a member that is stopped: code %d, %v:\n%s", code, err, s.log)
		}
	}
	if strings.Contains(last.log.String(), "are shut out") {
		g.books.complain("a member is shut out:\n%s", last.log)
	}
	// What inspects the database is of this version, and the step has only added to it.
	mustExecute(t, opts.schema.direct, strings.ReplaceAll(`UPDATE "@".schema SET version = 2`, "@", opts.schema.name))
	return g.finish(last), longest
}

// pauses measures the longest time in which nothing was acknowledged.
type pauses struct {
	stop chan struct{}
	done chan time.Duration
}

func watchPauses(g *rig) *pauses {
	w := &pauses{make(chan struct{}), make(chan time.Duration)}
	go func() {
		count, at, longest := g.ledger.total(), time.Now(), time.Duration(0)
		for {
			pass(5*time.Millisecond, w.stop)
			if now := g.ledger.total(); now > count {
				longest, count, at = max(longest, time.Since(at)), now, time.Now()
			}
			if isClosed(w.stop) {
				w.done <- max(longest, time.Since(at))
				return
			}
		}
	}()
	return w
}

func (w *pauses) end() time.Duration {
	close(w.stop)
	return <-w.done
}
