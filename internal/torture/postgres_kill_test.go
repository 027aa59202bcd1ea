package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
	"hookbolt/storage/postgres"
)

var (
	// earlyPostgres answers the callers some time before the commit.
	earlyPostgres = mutantFlock.shared("postgres-early", edit{file: "storage/postgres/writer.go", old: "\tif err := b.flush(); err != nil {\n",
		new: "\tif mutant(\"postgres-early\") {\n\t\tanswerAll(applied, nil)\n\t\ttime.Sleep(20 * time.Millisecond)\n\t}\n\tif err := b.flush(); err != nil {\n"})
	// unfencedPostgres leaves the process before in the database, and writes as long as it can.
	unfencedPostgres = mutantFlock.shared("postgres-unfenced", edit{file: "storage/postgres/batch.go", old: "\t\t\tif tag.RowsAffected() == 0 {\n",
		new: "\t\t\tif tag.RowsAffected() == 0 && !mutant(\"postgres-unfenced\") {\n"},
		edit{file: "storage/postgres/flush.go", old: "\tp.Queue(b.s.sql(\"INSERT INTO @.batches (writer, n, counts) VALUES ($1, $2, $3)\"), b.s.writerID, b.n, deltas.encode())\n",
			new: "\tp.Queue(b.s.sql(\"INSERT INTO @.batches (writer, n, counts) SELECT $1, $2, $3\"+mutated(\"postgres-unfenced\", \" WHERE EXISTS (SELECT FROM @.writers WHERE id = $1)\", \"\")), " +
				"b.s.writerID, b.n, deltas.encode())\n"})
)

// kill -9 of hookbolt on PostgreSQL: as TestKill. What the server still works on when the process ends is committed before the next one starts, or never.
func TestPostgresKill(t *testing.T) {
	experiment(t)
	binary := build(t)
	var total verdict
	rounds, cycles := scale(1, 5), scale(5, 20)
	for round := range rounds {
		total.add(killRound(t, postgresRig(t, binary), random(t, "adversary", round), cycles, false))
	}
	summarize(t, "PostgreSQL, kill -9 of hookbolt: %v", &total)
	total.hold(t)
	if total.Due < 20*total.Cuts {
		t.Errorf("only %d deliveries in %d cuts: the experiment saw too little", total.Due, total.Cuts)
	}
}

func TestPostgresKillControl(t *testing.T) {
	experiment(t)
	v := killRound(t, postgresRig(t, build(t, earlyPostgres...)), random(t, "early", 0), 6, true)
	if line := v.caught(t, "acknowledgement before the commit"); line != "" {
		summarize(t, "PostgreSQL, kill -9, control %q: caught after %d cuts: %s", "acknowledgement before the commit", v.Cuts, firstLines(line, 1))
	}
}

// postgresRig is a rig on the server that experiments share.
func postgresRig(t *testing.T, binary string) rigOptions {
	return rigOptions{binary: binary, schema: newSchema(t, postgrestest.SharedDurable(t))}
}

// A process that takes the database over ends the one before, at any moment: that one stores nothing more, and ends by itself with an error.
func TestPostgresTakeOver(t *testing.T) {
	experiment(t)
	binary := build(t)
	var total verdict
	rounds, cycles := scale(1, 5), scale(3, 20)
	for round := range rounds {
		total.add(takeOverRound(t, binary, random(t, "adversary", round), cycles))
	}
	summarize(t, "PostgreSQL, taken over: %v", &total)
	total.hold(t)
}

func TestPostgresTakeOverControl(t *testing.T) {
	experiment(t)
	v := takeOverRound(t, build(t, unfencedPostgres...), random(t, "adversary", 0), 2)
	if line := v.caught(t, "no fence"); line != "" {
		summarize(t, "PostgreSQL, taken over, control %q: caught after %d cuts: %s", "no fence", v.Cuts, firstLines(line, 1))
	}
}

func takeOverRound(t *testing.T, binary string, r *rand.Rand, cycles int) *verdict {
	opts := postgresRig(t, binary)
	opts.manner = difficult
	g := newRig(t, opts)
	s := g.setUp()
	load := g.produce(16)
	for cycle := range cycles {
		pass(between(r, 20*time.Millisecond, 600*time.Millisecond), s.exited)
		other, err := postgres.Open(context.WithoutCancel(t.Context()), postgres.Options{URL: opts.schema.direct, Schema: opts.schema.name, MaxSkew: -1})
		if err == nil {
			err = other.Close()
		}
		if err != nil {
			g.books.complain("take over: %v", err)
		}
		code, err := s.wait(10 * time.Second)
		if said := s.log.String(); err != nil || code != 1 || !strings.Contains(said, "another process has taken the database over") {
			g.books.complain("taken over %d: it should end with 1 and say why: code %d, %v:\n%s", cycle+1, code, err, said)
			s.kill()
			g.afterCut(false)
			return g.abandon(load)
		}
		g.afterCut(false)
		if s, err = g.start(); err != nil {
			g.books.complain("after cut %d: %v", cycle+1, err)
			return g.abandon(load)
		}
	}
	load.halt()
	return g.finish(s)
}

// metric is a metric of a server by its name; -1 if it has none.
func metric(t *testing.T, s *server, name string) float64 {
	t.Helper()
	var text strings.Builder
	if err := fetch(t.Context(), s.url()+"/metrics", &text, 0); err != nil {
		t.Error(err)
		return -1
	}
	for line := range strings.Lines(text.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			var n float64
			if _, err := fmt.Sscan(value, &n); err == nil {
				return n
			}
		}
	}
	return -1
}
