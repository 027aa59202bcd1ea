//go:build unix

package torture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// hopefulPostgres takes a change that others were in the way of for done when it has lost its patience.
var hopefulPostgres = mutantFlock.shared("postgres-hopeful", edit{file: "storage/postgres/writer.go", old: "\t\tcase v == lost, v == again && time.Until(giveUp) < waitOf(failure):\n\t\t\tanswerAll(left, s.transient(failure))\n",
	new: "\t\tcase v == lost, v == again && time.Until(giveUp) < waitOf(failure):\n\t\t\tanswerAll(left, mutated(\"postgres-hopeful\", nil, s.transient(failure)))\n"})

// Others hold locks on hookbolt's tables and rows, cancel its statements, and it is stopped in the middle of transactions, which the server ends then: hookbolt
// waits or answers 503, and goes on. Nothing is lost, stored twice or repeated.
func TestPostgresLocks(t *testing.T) {
	experiment(t)
	var total verdict
	var l lockings
	for round := range scale(1, 5) {
		total.add(l.round(t, build(t), random(t, "adversary", round), scale(3, 20), scale(1, 3), false))
	}
	summarize(t, "PostgreSQL, locks: %v; %v", &l, &total)
	total.hold(t)
	if total.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded", total.Unrecorded)
	}
}

func TestPostgresLocksControl(t *testing.T) {
	experiment(t)
	var l lockings
	line := caught(t, "impatient, and hopeful", func(r *rand.Rand) *verdict { return l.round(t, build(t, hopefulPostgres...), r, 0, 1, true) })
	if line != "" {
		summarize(t, "PostgreSQL, locks, control %q: caught: %s", "impatient, and hopeful", firstLines(line, 1))
	}
}

// lockings counts what was in hookbolt's way.
type lockings struct {
	short, long, cancelled, stopped int
	slowest                         time.Duration // until events were taken in again
}

func (l *lockings) String() string {
	return fmt.Sprintf("%d short and %d long locks, %d statements cancelled, %d stops in a transaction, events taken in again at most %v later", l.short, l.long, l.cancelled, l.stopped,
		l.slowest.Round(time.Millisecond))
}

// locks are those that others take.
var locks = []string{
	"LOCK TABLE @.sessions IN ACCESS EXCLUSIVE MODE", "LOCK TABLE @.batches IN ACCESS EXCLUSIVE MODE", "LOCK TABLE @.queue IN SHARE MODE", "SELECT FROM @.writers FOR UPDATE",
	"SELECT FROM @.deliveries FOR UPDATE", "LOCK TABLE @.attempts IN EXCLUSIVE MODE", "SELECT FROM @.sessions FOR UPDATE",
}

// round is in the way of a rig under load: short times as long as hookbolt waits for, and long times longer than that. With enough it ends
// then.
func (l *lockings) round(t *testing.T, binary string, r *rand.Rand, short, long int, enough bool) *verdict {
	opts := postgresRig(t, binary)
	opts.manner = difficult
	g := newRig(t, opts)
	s := g.setUp()
	load := g.produce(16)
	for i := range short + long {
		pass(between(r, 100*time.Millisecond, 500*time.Millisecond), s.exited)
		var err error
		switch kind := r.IntN(4); {
		case i >= short:
			l.long++
			// Those of the table attempts leave requests alone, so they come with another lock.
			err = lock(t, opts.schema, locks[r.IntN(4)], between(r, 6*time.Second, 9*time.Second))
		case kind == 0:
			l.stopped++
			s.cmd.Process.Signal(syscall.SIGSTOP)
			pass(between(r, 2500*time.Millisecond, 3*time.Second), nil) // idle_in_transaction_session_timeout is 2 s
			s.cmd.Process.Signal(syscall.SIGCONT)
		case kind == 1:
			for range 20 {
				l.cancelled++
				err = execute(t, opts.schema.direct, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'hookbolt' AND state = 'active'")
				pass(between(r, 0, 20*time.Millisecond), s.exited)
			}
		default:
			l.short++
			err = lock(t, opts.schema, locks[r.IntN(len(locks))], between(r, 100*time.Millisecond, 2*time.Second))
		}
		if err != nil {
			t.Error(err)
		}
		if enough {
			s.kill()
			g.afterCut(false)
			return g.abandon(load)
		}
		took, err := g.takenIn(s, 20*time.Second)
		if l.slowest = max(l.slowest, took); err != nil {
			g.books.complain("%v", err)
			return g.abandon(load)
		}
	}
	load.halt()
	return g.finish(s)
}

// lock holds a lock for some time.
func lock(t *testing.T, where *schema, text string, d time.Duration) error {
	ctx, cancel := beside(t)
	defer cancel()
	conn, err := pgx.Connect(ctx, where.direct)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, strings.ReplaceAll(text, "@", pgx.Identifier{where.name}.Sanitize()))
		pass(d, nil)
		return err
	})
}
