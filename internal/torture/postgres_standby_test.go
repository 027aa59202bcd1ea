package torture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/internal/postgrestest"
)

// untoldSetBack does not look whether the database has what it has acknowledged.
var untoldSetBack = mutantFlock.shared("untold-set-back", edit{file: "storage/postgres/setback.go", old: "\treturn writer && !batch, err\n",
	new: "\treturn writer && !batch && !mutant(\"untold-set-back\"), err\n"})

// The primary crashes under load, and a synchronous standby is promoted: nothing that was acknowledged is lost or repeated, and hookbolt goes on.
func TestPostgresPromotion(t *testing.T) {
	experiment(t)
	binary := build(t)
	var total verdict
	var slowest time.Duration
	rounds := scale(1, 20)
	for round := range rounds {
		p := promote(t, binary, random(t, "adversary", round), true)
		total.add(p.verdict)
		if slowest = max(slowest, p.took); p.told > 0 || p.setBacks > 0 {
			t.Errorf("round %d: a loss is told that was none", round)
		}
	}
	summarize(t, "PostgreSQL, a synchronous standby promoted %d times: events taken in again at most %v after it took writes; %v", rounds, slowest.Round(time.Millisecond), &total)
	total.hold(t)
	if total.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded", total.Unrecorded)
	}
}

// The standby is not synchronous, and has missed the last moments: what it lacks is lost, and hookbolt says so, in its log and by a metric. This is also the
// control of TestPostgresPromotion, which would see a loss.
func TestPostgresPromotionThatLoses(t *testing.T) {
	experiment(t)
	binary := build(t)
	rounds := scale(1, 5)
	lost, acknowledged := 0, 0
	for round := range rounds {
		p := promote(t, binary, random(t, "adversary", round), false)
		if lost, acknowledged = lost+p.verdict.Lost, acknowledged+p.verdict.Due; p.verdict.Lost == 0 {
			t.Errorf("round %d: nothing is lost: the experiment sees too little", round)
		}
		if p.told != 1 || p.setBacks != 1 {
			t.Errorf("round %d: %d deliveries are lost, the log tells it %d times and the metric %g times; want once", round, p.verdict.Lost, p.told, p.setBacks)
		}
	}
	summarize(t, "PostgreSQL, an asynchronous standby that lags promoted %d times: %d deliveries acknowledged, %d lost, and told each time", rounds, acknowledged, lost)
}

func TestPostgresPromotionControl(t *testing.T) {
	experiment(t)
	if p := promote(t, build(t, untoldSetBack...), random(t, "untold", 0), false); p.verdict.Lost == 0 || p.told > 0 || p.setBacks > 0 {
		t.Errorf("control %q: %d deliveries are lost, and it is told %d times: nothing would be noticed", "no look at what was acknowledged", p.verdict.Lost, p.told)
	}
}

// promotion is what came of one.
type promotion struct {
	verdict  *verdict
	took     time.Duration // until events were taken in again
	told     int           // lines of the log
	setBacks float64       // the metric
}

const promotionProducers = 16

// promote runs a rig's load on a primary with a standby, crashes the primary and promotes the standby.
func promote(t *testing.T, binary string, r *rand.Rand, synchronous bool) (p promotion) {
	t.Helper()
	o := postgrestest.Options{Durable: true, Replicates: true}
	primary := postgrestest.Start(t, o)
	standby := primary.Standby(t, "other", o)
	s := newSchema(t, primary)
	// The standby comes first: hookbolt passes it over while it takes no writes.
	s.direct = fmt.Sprintf("host=%s,%s port=5432,5432 user=hookbolt dbname=hookbolt", standby.Dir(), primary.Dir())
	s.url = s.direct
	g := newRig(t, rigOptions{binary: binary, schema: s, manner: difficult})
	hookbolt := g.setUp()
	if synchronous {
		mustExecute(t, primary.URL(), "ALTER SYSTEM SET synchronous_standby_names = 'other'")
		mustExecute(t, primary.URL(), "SELECT pg_reload_conf()")
	}
	want := "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1 AND flush_lsn >= $2::pg_lsn"
	state, at := "async", ""
	if synchronous {
		state = "sync"
	}
	ask(t, primary.URL(), "SELECT pg_current_wal_lsn()::text", &at)
	if !await(20*time.Second, func() bool { n := 0; ask(t, primary.URL(), want, &n, state, at); return n == 1 }) {
		t.Fatalf("the standby does not follow:\n%s\n%s", primary.Log(), standby.Log())
	}
	load := g.produce(promotionProducers)
	pass(between(r, 200*time.Millisecond, 900*time.Millisecond), hookbolt.exited)
	missed := func() error { return g.misses(hookbolt, r) }
	if synchronous {
		missed = nil
	}
	if err := failOver(primary, standby, missed); err != nil {
		t.Fatal(err)
	}
	took, err := g.takenIn(hookbolt, 30*time.Second)
	if p.took = took; err != nil {
		g.books.complain("after the promotion: %v", err)
		p.verdict = g.abandon(load)
		return p
	}
	pass(200*time.Millisecond, hookbolt.exited)
	load.halt()
	p.setBacks = metric(t, hookbolt, "hookbolt_postgres_set_backs_total")
	p.verdict = g.finish(hookbolt)
	p.told = strings.Count(hookbolt.log.String(), "the database has lost changes that were acknowledged")
	return p
}

// misses waits until more requests were acknowledged than may have been under way when the standby was stopped, so that it lacks some for sure.
func (g *rig) misses(hookbolt *server, r *rand.Rand) error {
	before := g.ledger.answered()
	if !await(20*time.Second, func() bool { return g.ledger.answered() >= before+3*promotionProducers || !hookbolt.running() }) {
		return fmt.Errorf("the primary takes nothing in without its standby: %s", hookbolt.log)
	}
	pass(between(r, 0, 300*time.Millisecond), hookbolt.exited)
	return nil
}

// failOver crashes the primary and promotes the standby. One that is not synchronous misses what happens until missed returns.
func failOver(primary, standby *postgrestest.Cluster, missed func() error) error {
	if missed != nil {
		if err := standby.Stop(postgrestest.Fast); err != nil {
			return err
		}
		if err := missed(); err != nil {
			return err
		}
	}
	if err := primary.Stop(postgrestest.Immediately); err != nil {
		return err
	}
	if missed != nil {
		if err := standby.Restart(); err != nil {
			return err
		}
	}
	return standby.Promote()
}

func mustExecute(t *testing.T, url, text string) {
	t.Helper()
	if err := execute(t, url, text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// ask reads one value beside hookbolt.
func ask(t *testing.T, url, text string, into any, args ...any) {
	t.Helper()
	ctx, cancel := beside(t)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, text, args...).Scan(into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
