package postgres

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// A failover that loses what was acknowledged is told of, and the process goes on with what is there.
func TestSetBack(t *testing.T) {
	c := postgrestest.Shared(t)
	var log bytes.Buffer
	l := new(line)
	s := openAt(t, Options{URL: c.URL(), Schema: c.Schema(t), Connections: l, Log: slog.New(slog.NewTextHandler(&log, nil)), Patience: 30 * time.Second})
	kept, err := appendOne(s)
	if err != nil {
		t.Fatal(err)
	}
	w := hook(t, s)
	queueTest(t, s, w, benchNow())
	d := claimIn(t, s, testsOf(w), 1).Claimed[0].Delivery
	undo := func(texts ...string) {
		t.Helper()
		l.cut()
		for _, text := range texts {
			sqlOf(t, s, "WITH gone AS ("+text+" RETURNING 1) SELECT count(*)::text FROM gone")
		}
		l.mend()
	}
	undo() // a failover that loses nothing
	lost, err := appendOne(s)
	if err != nil || s.Figures().SetBacks != 0 {
		t.Fatalf("%v, set back %d times", err, s.Figures().SetBacks)
	}
	undo("DELETE FROM @.batches WHERE n = (SELECT max(n) FROM @.batches)", "DELETE FROM @.sessions WHERE no = (SELECT max(no) FROM @.sessions)", "DELETE FROM @.events WHERE session_no NOT IN (SELECT no FROM @.sessions)")
	later, err := appendOne(s)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Figures().SetBacks; n != 1 {
		t.Errorf("set back %d times, want 1", n)
	}
	if n := strings.Count(log.String(), "has lost changes that were acknowledged"); n != 1 {
		t.Errorf("it is told %d times, want once:\n%s", n, log.String())
	}
	for _, id := range [][16]byte{kept, later} {
		if _, _, err := s.Session(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := s.Session(t.Context(), lost); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the lost session: %v", err)
	}
	if _, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}); err != nil {
		t.Errorf("a record of a delivery that is there: %v", err)
	}
	undo() // and nothing is lost any more
	if _, err := appendOne(s); err != nil || s.Figures().SetBacks != 1 {
		t.Errorf("%v, set back %d times", err, s.Figures().SetBacks)
	}
}

// The keeper removes the row of the last batch that was acknowledged as soon as there is a newer one: that of a commit whose answer was lost, or the one that
// a connection has settled it with, which broke before it was used. Nothing is lost then.
func TestNewerBatchIsNoSetBack(t *testing.T) {
	for name, counts := range map[string]string{"carried out": "(array_agg(counts ORDER BY n DESC))[1]", "given up": "NULL"} {
		t.Run(name, func(t *testing.T) {
			c := postgrestest.Shared(t)
			l := new(line)
			s := openAt(t, Options{URL: c.URL(), Schema: c.Schema(t), Connections: l, Patience: 30 * time.Second})
			if _, err := appendOne(s); err != nil {
				t.Fatal(err)
			}
			l.cut()
			sqlOf(t, s, "WITH gone AS (DELETE FROM @.batches RETURNING writer, n, counts), newer AS (INSERT INTO @.batches (writer, n, counts) SELECT writer, max(n) + 1000, "+counts+
				" FROM gone GROUP BY writer RETURNING 1) SELECT count(*)::text FROM newer")
			l.mend()
			if _, err := appendOne(s); err != nil || s.Figures().SetBacks != 0 {
				t.Errorf("%v, set back %d times", err, s.Figures().SetBacks)
			}
		})
	}
}

// One of several processes joins anew: others may have taken its lanes over in what was lost.
func TestSetBackInAFleet(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		hooks := hooksOf(t, all)
		a, w := all[0], hooks[0][0]
		queueTest(t, a.Store, w, benchNow())
		d := claimIn(t, a.Store, testsOf(w), 1).Claimed[0].Delivery
		if _, err := appendOne(a.Store); err != nil {
			t.Fatal(err)
		}
		a.line.cut()
		sqlOf(t, a.Store, "WITH gone AS (DELETE FROM @.batches WHERE writer IN (SELECT id FROM @.writers WHERE member = $1) RETURNING 1) SELECT count(*)::text FROM gone", a.memberID.Load())
		a.line.mend()
		if _, err := appendOne(a.Store); err != nil {
			t.Fatal(err)
		}
		if err := <-a.ended; !errors.Is(err, engine.ErrLost) || a.Figures().SetBacks != 1 {
			t.Errorf("its Watch has ended with %v, set back %d times", err, a.Figures().SetBacks)
		}
		if _, err := a.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}); !errors.Is(err, engine.ErrLost) {
			t.Errorf("a record of what was claimed before: %v", err)
		}
		a.watch()
		time.Sleep(12 * time.Second) // the member that it was is dead by then
		for _, list := range hooks {
			for _, w := range list {
				if a.Mine(w.ID) == all[1].Mine(w.ID) {
					t.Errorf("webhook %d: owned by both or by nobody", w.ID)
				}
			}
		}
	})
}
