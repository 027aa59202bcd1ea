package postgres

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// What TestLeaseModel has found, each in the code.

// bareFleet is a member without a database.
func bareFleet() *fleet {
	f := newFleet(&Store{opts: Options{Beat: time.Second}, fanOutWake: make(chan struct{}, 1)})
	f.s.fleet = f
	now := time.Now()
	f.lastRead = now
	f.lastBeat.Store(&now)
	return f
}

// A member may begin a beat while the poll that reads it is under way, which takes a while: a lease counts from then.
func TestWatcherCountsFromTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := bareFleet()
		slow := time.Now()
		time.Sleep(pollTimeout * f.beat)
		begun := time.Now()
		for began := slow; ; time.Sleep(f.beat) {
			if dead := f.note(began, &polled{members: []*member{{id: 7, beat: 1, state: stateWatching}}}); len(dead) > 0 {
				break
			}
			began = time.Now()
		}
		if took := time.Since(begun); took < deadAfter*f.beat {
			t.Errorf("it is taken for dead %s after its last beat was begun", took)
		}
	})
}

// A change may have been made just after the read before. Its caller counts from then: a process that could not read for a while, and then acknowledges nothing,
// begins no attempts by the time at which the call returns.
func TestDebtCountsFromTheReadBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := bareFleet()
		f.note(time.Now(), &polled{})
		changed := time.Now()
		const unread = idleAfter - 1
		time.Sleep(unread * f.beat)
		now := time.Now()
		f.lastBeat.Store(&now)
		f.note(now, &polled{epoch: 1})
		for f.alive() {
			time.Sleep(f.beat / 10)
			now := time.Now()
			f.lastBeat.Store(&now)
		}
		if took := time.Since(changed); took > idleAfter*f.beat {
			t.Errorf("it has begun attempts until %s after the change; the call returns after %s", took, deadAfter*f.beat)
		}
	})
}

// A timer stands still while the machine is suspended. After that the attempts in flight are cut off at once.
func TestCutOffAfterSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := bareFleet()
		f.members[7] = &member{id: 7}
		ctx, cancel := context.WithCancel(t.Context())
		cut := make(chan time.Time, 100)
		go f.cutOff(ctx, func(n engine.News) {
			if n.CutOff {
				cut <- time.Now()
			}
		})
		time.Sleep(f.beat / 2)
		resumed := time.Now()
		f.lastBeat.Store(new(resumed.Add(-time.Hour))) // as the wall clock has it, which has gone on
		select {
		case at := <-cut:
			if took := at.Sub(resumed); took > f.beat {
				t.Errorf("cut off %s after that", took)
			}
		case <-time.After(time.Minute):
			t.Error("not cut off")
		}
		cancel()
	})
}

// A process that cannot read knows of nobody who joins, and is taken over all the same.
func TestCutOffOfOneThatIsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		a := joinFleet(t, schema)
		w := hook(t, a.Store)
		time.Sleep(2 * time.Second)
		if !a.Mine(w.ID) {
			t.Fatal("it does not own its webhook")
		}
		a.line.cut()
		b := joinFleet(t, schema)
		cutOff := func(n engine.News) bool { return n.CutOff }
		for began := time.Now(); !b.Mine(w.ID); time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatal("nobody has taken its lanes over")
			}
		}
		if !a.heard(cutOff) {
			t.Error("its lanes are another one's before its attempts are cut off")
		}
		a.line.mend()
	})
}

// A database that was set back gives no id again, and no number of a session: processes whose rows are gone still go by theirs.
func TestIDsOfADatabaseThatWasSetBack(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		a := joinFleet(t, schema)
		b := joinFleet(t, schema)
		time.Sleep(2 * time.Second)
		was, of := b.memberID.Load(), b.writerID
		if _, err := appendOne(b.Store); err != nil {
			t.Fatal(err)
		}
		a.line.cut()
		b.line.cut()
		for _, text := range []string{
			"WITH gone AS (DELETE FROM @.members RETURNING 1) SELECT count(*)::text FROM gone",
			"WITH gone AS (DELETE FROM @.sessions RETURNING 1) SELECT count(*)::text FROM gone",
			"WITH gone AS (DELETE FROM @.events RETURNING 1) SELECT count(*)::text FROM gone",
			"SELECT setval('@.session_nos', 1, false)::text",
			"SELECT setval(pg_get_serial_sequence('@.members', 'id'), 1)::text", // a joined as 1, and b as 2
			"SELECT setval(pg_get_serial_sequence('@.writers', 'id'), 1)::text",
		} {
			sqlOf(t, a.Store, text)
		}
		a.line.mend()
		for range 3 {
			if _, err := appendOne(a.Store); err != nil {
				t.Fatal(err)
			}
		}
		if a.memberID.Load() == was || a.writerID == of {
			t.Error("it has joined anew by the id of another process")
		}
		b.line.mend()
		for range 3 {
			if _, err := appendOne(b.Store); err != nil {
				t.Errorf("an event at the process that has lost its rows: %v", err)
			}
		}
	})
}
