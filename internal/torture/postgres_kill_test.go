package torture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"hookbolt/internal/postgrestest"
)

var (
	// earlyPostgres answers the callers some time before the commit.
	earlyPostgres = mutantFlock.shared("postgres-early", edit{file: "storage/postgres/writer.go", old: "\terr = b.flush()\n",
		new: "\tif mutant(\"postgres-early\") {\n\t\tanswerAll(applied, nil)\n\t\ttime.Sleep(20 * time.Millisecond)\n\t}\n\terr = b.flush()\n"})
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
	line := caught(t, "acknowledgement before the commit", func(r *rand.Rand) *verdict {
		return killRound(t, postgresRig(t, build(t, earlyPostgres...)), r, 6, true)
	})
	if line != "" {
		summarize(t, "PostgreSQL, kill -9, control %q: caught: %s", "acknowledgement before the commit", firstLines(line, 1))
	}
}

// postgresRig is a rig on the server that experiments share.
func postgresRig(t *testing.T, binary string) rigOptions {
	return rigOptions{binary: binary, schema: newSchema(t, postgrestest.SharedDurable(t))}
}

// metric is a metric of a server by its name; -1 if it has none.
func metric(t *testing.T, s *server, name string) float64 {
	t.Helper()
	var text strings.Builder
	ctx, cancel := beside(t)
	defer cancel()
	if err := fetch(ctx, s.url()+"/metrics", &text, 0); err != nil {
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
