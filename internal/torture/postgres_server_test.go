package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/internal/postgrestest"
)

var (
	// asynchronous lets the server answer a commit before it is on the disk.
	asynchronous = mutantFlock.shared("asynchronous", edit{file: "storage/postgres/batch.go", old: "\t\tp.Queue(\"BEGIN\")\n",
		new: "\t\tp.Queue(\"BEGIN\")\n\t\tif mutant(\"asynchronous\") {\n\t\t\tp.Queue(\"SET LOCAL synchronous_commit = off\")\n\t\t}\n"})
	// carelessRetry ends the claims of what it records when a transaction fails, and not when it is done.
	carelessRetry = mutantFlock.shared("careless-retry", edit{file: "storage/postgres/writer.go", old: "\tfor _, c := range u.b.claims {\n\t\ts.unclaim(c.id)\n\t}\n",
		new: "\tfor _, c := range u.b.claims {\n\t\ts.unclaim(c.id)\n\t}\n\tif mutant(\"careless-retry\") {\n\t\ts.unclaim(u.b.ends...)\n\t}\n"})
)

// The server of the database crashes, is stopped, or loses a process, again and again under load, while hookbolt goes on: it does not end, nothing that was
// acknowledged is lost or stored twice, and nothing at all is repeated, because hookbolt records what it has sent when the server is back.
func TestPostgresServerKill(t *testing.T) {
	experiment(t)
	binary := build(t)
	c := postgrestest.Start(t, postgrestest.Options{Durable: true})
	var total verdict
	var kills serverKills
	rounds, n := scale(1, 5), scale(6, 20)
	for round := range rounds {
		total.add(kills.round(t, c, binary, random(t, "adversary", round), n, false))
	}
	summarize(t, "PostgreSQL, its server: %v; %v", &kills, &total)
	total.hold(t)
	if total.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded", total.Unrecorded)
	}
}

func TestPostgresServerKillControls(t *testing.T) {
	experiment(t)
	c := postgrestest.Start(t, postgrestest.Options{Durable: true})
	for _, m := range []struct {
		name  string
		edits []edit
		n     int
	}{
		{"commits that are not waited for", asynchronous, scale(3, 20)},
		{"claims that end with a failure", carelessRetry, scale(8, 40)},
	} {
		var kills serverKills
		line := caught(t, m.name, func(r *rand.Rand) *verdict { return kills.round(t, c, build(t, m.edits...), r, m.n, true) })
		if line != "" {
			summarize(t, "PostgreSQL, its server, control %q: caught after %d: %s", m.name, kills.all(), firstLines(line, 1))
		}
	}
}

// serverKills counts what was done to the server, and measures how long events were not taken in.
type serverKills struct {
	crashed, killed, ended, stopped int
	slowest                         time.Duration // until events were taken in again
	settled                         float64       // commits whose answer was lost
}

func (k *serverKills) all() int { return k.crashed + k.killed + k.ended + k.stopped }

func (k *serverKills) String() string {
	return fmt.Sprintf("%d crashes, %d processes killed, %d sessions ended, %d stops, %g commits settled, events taken in again at most %v after it was back", k.crashed, k.killed, k.ended,
		k.stopped, k.settled, k.slowest.Round(time.Millisecond))
}

// strike does something to the server, which is there again when it returns. A crash is the most frequent, or the only one.
func (k *serverKills) strike(t *testing.T, c *postgrestest.Cluster, r *rand.Rand, crash bool) error {
	restart := func(signal string) error {
		if err := c.Stop(signal); err != nil {
			return err
		}
		pass(between(r, 0, 400*time.Millisecond), nil)
		return c.Restart()
	}
	switch n := r.IntN(100); {
	case crash || n < 45:
		k.crashed++
		return restart(postgrestest.Immediately)
	case n < 65: // the server ends all others as well, and recovers
		k.killed++
		pids, err := backends(t, c, r)
		if err != nil || len(pids) == 0 {
			return err
		}
		return killBackend(t, c, pids[0])
	case n < 90:
		k.ended++
		pids, err := backends(t, c, r)
		if err != nil || len(pids) == 0 {
			return err
		}
		return execute(t, c.URL(), "SELECT pg_terminate_backend($1)", pids[0])
	default:
		k.stopped++
		return restart(postgrestest.Fast)
	}
}

// killBackend kills a process of the server, which then ends all others and recovers. It returns when the server is there again: until it has recovered, PostgreSQL 15
// takes a fast stop and never ends.
func killBackend(t *testing.T, c *postgrestest.Cluster, pid int) error {
	ctx, cancel := beside(t)
	defer cancel()
	witness, err := pgx.Connect(ctx, c.URL())
	if err != nil {
		return err
	}
	defer witness.Close(ctx)
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if err := p.Kill(); errors.Is(err, os.ErrProcessDone) {
		return nil // it had just ended by itself
	} else if err != nil {
		return err
	}
	if _, err := witness.Exec(ctx, "SELECT pg_sleep(5)"); err == nil {
		return nil // it was about to end by itself
	}
	return c.Await()
}

// backends are the server's processes that work for hookbolt; the first one is drawn, and is the one for changes more often than not.
func backends(t *testing.T, c *postgrestest.Cluster, r *rand.Rand) (pids []int, err error) {
	ctx, cancel := beside(t)
	defer cancel()
	var conn *pgx.Conn
	await(20*time.Second, func() bool { // it may recover
		conn, err = pgx.Connect(ctx, c.URL())
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT pid::bigint FROM pg_stat_activity WHERE application_name = 'hookbolt' ORDER BY query LIKE '%batches%' OR query LIKE '%COMMIT%' DESC, pid")
	if err != nil {
		return nil, err
	}
	pids, err = pgx.CollectRows(rows, pgx.RowTo[int])
	if len(pids) > 1 && r.IntN(3) == 0 {
		i := r.IntN(len(pids))
		pids[0], pids[i] = pids[i], pids[0]
	}
	return pids, err
}

// beside bounds what is asked beside hookbolt: a server that was struck may take a connection and never answer. It outlives the test, for cleanups.
func beside(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
}

// execute runs a statement beside hookbolt.
func execute(t *testing.T, url, text string, args ...any) error {
	ctx, cancel := beside(t)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, text, args...)
	return err
}

// query reads a value beside hookbolt.
func query(t *testing.T, where *schema, to any, text string) error {
	ctx, cancel := beside(t)
	defer cancel()
	conn, err := pgx.Connect(ctx, where.direct)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.QueryRow(ctx, strings.ReplaceAll(text, "@", pgx.Identifier{where.name}.Sanitize())).Scan(to)
}

// round strikes a server n times under a rig's load.
func (k *serverKills) round(t *testing.T, c *postgrestest.Cluster, binary string, r *rand.Rand, n int, enough bool) *verdict {
	g := newRig(t, rigOptions{binary: binary, schema: newSchema(t, c), manner: difficult})
	s := g.setUp()
	load := g.produce(16)
	for i := range n {
		pass(between(r, 20*time.Millisecond, 900*time.Millisecond), s.exited)
		if err := k.strike(t, c, r, enough && i%2 == 0); err != nil {
			t.Error(err)
			break
		}
		took, err := g.takenIn(s, 20*time.Second)
		if k.slowest = max(k.slowest, took); err != nil {
			g.books.complain("strike %d: %v", i+1, err)
			return g.abandon(load)
		}
	}
	k.settled += max(metric(t, s, "hookbolt_postgres_settled_commits_total"), 0)
	load.halt()
	return g.finish(s)
}

// takenIn waits until events are taken in again, and returns how long it took.
func (g *rig) takenIn(s *server, patience time.Duration) (time.Duration, error) {
	began, before := time.Now(), g.ledger.total()
	if !await(patience, func() bool { return g.ledger.total() > before || !s.running() }) {
		return time.Since(began), fmt.Errorf("no events were taken in for %v, %d deliveries are owed:\n%s", patience, g.ledger.owing(), s.log)
	}
	if !s.running() {
		return 0, fmt.Errorf("it ended by itself with code %d:\n%s", s.exitCode(), s.log)
	}
	return time.Since(began), nil
}
