package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// Each violation is named, and a whole database has none.
func TestCheckNamesEachViolation(t *testing.T) {
	s := openTest(t)
	w := keepHook(t, s)
	keepVisits(t, s, 1, 4)
	keepDeliver(t, s, w, 1, engine.StatusDelivered)
	keepDeliver(t, s, w, 1, engine.StatusFailed)
	once := &engine.Once{Key: engine.OnceKey{1}, Request: []byte("r"), At: time.Now().UTC()}
	if _, err := s.Replay(t.Context(), engine.Replay{WebhookID: w.ID, Scope: engine.ReplayFailed, Until: time.Now().UTC(), Once: once}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, s)
	conn, err := pgx.Connect(t.Context(), s.opts.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	exec := func(text string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), s.sql(text), pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	copied := make(map[string]bool)
	for _, b := range []struct{ table, sql, name string }{
		{"deliveries", "UPDATE @.deliveries SET rest = ''", "damaged: delivery"},
		{"deliveries", "UPDATE @.deliveries SET next_at = next_at + 1 WHERE status = 1", "not at its place in the queue"},
		{"deliveries", "UPDATE @.deliveries SET status = 5 WHERE status = 4", "not at its place in exceptions"},
		{"deliveries", "UPDATE @.deliveries SET finished_at = 1 WHERE status = 1", "finished at"},
		{"deliveries", "UPDATE @.deliveries SET has_payload = false WHERE status = 3", "delivered, without a payload"},
		{"deliveries", "UPDATE @.deliveries SET frozen_at = 1 WHERE status = 1", "scheduled, frozen"},
		{"deliveries", "UPDATE @.deliveries SET session_id = gen_random_uuid() WHERE status = 1", "is another one"},
		{"deliveries", "UPDATE @.deliveries SET kind = 2", "does not name it"},
		{"deliveries", "UPDATE @.deliveries SET webhook_id = 9", "counts of webhook 9"},
		{"deliveries", "DELETE FROM @.deliveries", "belongs to nothing"},
		{"queue", "DELETE FROM @.queue", "not at its place in the queue"},
		{"queue", "INSERT INTO @.queue VALUES (1, 0, 1, gen_random_uuid())", "not the place of a delivery"},
		{"queue", "UPDATE @.queue SET class = 1", "not the place of a delivery"},
		{"exceptions", "DELETE FROM @.exceptions", "not at its place in exceptions"},
		{"exceptions", "INSERT INTO @.exceptions VALUES (1, 4, gen_random_uuid())", "not the place of a delivery"},
		{"expiry", "DELETE FROM @.expiry WHERE kind = 0", "session"},
		{"expiry", "DELETE FROM @.expiry WHERE kind = 1", "delivered, does not expire"},
		{"expiry", "UPDATE @.expiry SET at = 1 WHERE kind = 1", "delivered, does not expire"},
		{"expiry", "UPDATE @.expiry SET ids = ids || '\\x00'", "of kind 0"},
		{"payloads", "DELETE FROM @.payloads", "it is stored: false"},
		{"payloads", "UPDATE @.payloads SET body = 'x'", "no JSON"},
		{"payloads", "INSERT INTO @.payloads VALUES (gen_random_uuid(), '{}')", "belongs to nothing"},
		{"attempts", "DELETE FROM @.attempts", "0 attempts stored, 1 counted"},
		{"attempts", "UPDATE @.attempts SET n = 2", "is numbered 2"},
		{"attempts", "UPDATE @.attempts SET rest = ''", "damaged: attempt"},
		{"attempts", "UPDATE @.attempts SET delivery_id = gen_random_uuid() WHERE delivery_id = (SELECT delivery_id FROM @.attempts LIMIT 1)", "belongs to nothing"},
		{"sessions", "UPDATE @.sessions SET head = ''", "damaged: session"},
		{"sessions", "UPDATE @.sessions SET events = 9", "9 in 1 counted"},
		{"sessions", "UPDATE @.sessions SET bytes = 9", "9 counted"},
		{"sessions", "DELETE FROM @.sessions", "is gone"},
		{"sessions", "UPDATE @.sessions SET no = no + 100000 WHERE no = (SELECT max(no) FROM @.sessions)", "the sequence goes on"},
		{"events", "DELETE FROM @.events", "0 events in 0 rows stored"},
		{"events", "UPDATE @.events SET body = 'x'", "cannot be read"},
		{"events", "UPDATE @.events SET ids = '\\x01'", "an id is not kept"},
		{"events", "UPDATE @.events SET n = 2", "should be number 1"},
		{"marks", "INSERT INTO @.marks SELECT min(no), 1, 2, gen_random_uuid() FROM @.sessions", "1 marks stored, 0 counted"},
		{"marks", "INSERT INTO @.marks SELECT min(no), 1, 1, gen_random_uuid() FROM @.sessions", "two complete deliveries"},
		{"marks", "INSERT INTO @.marks VALUES (0, 1, 1, gen_random_uuid())", "belongs to nothing"},
		{"batches", "UPDATE @.batches SET counts = NULL", "counts of webhook"},
		{"batches", "UPDATE @.batches SET counts = '\\x'", "damaged: counts"},
		{"webhooks", "UPDATE @.webhooks SET settings = '{}'", "webhook 1: cannot be read"},
		{"health", "INSERT INTO @.health VALUES (1, '{}')", "health of webhook 1: cannot be read"},
		{"health", "INSERT INTO @.health VALUES (2, '{}')", "belongs to nothing"},
		{"jobs", "UPDATE @.jobs SET job = '{}'", "job 1: cannot be read"},
		{"jobs", "UPDATE @.jobs SET no = 99", "99 is stored"},
		{"request_keys", "UPDATE @.request_keys SET at = 1", "request 01"},
		{"fan_outs", "INSERT INTO @.fan_outs VALUES (1, 1, '')", "damaged: fan-out"},
		{"fan_outs", "INSERT INTO @.fan_outs VALUES (1, 1, '\\x010000')", "0 sessions stored, 1 counted"},
	} {
		if !copied[b.table] {
			exec("CREATE TEMP TABLE copy_" + b.table + " AS TABLE @." + b.table)
			copied[b.table] = true
		}
		exec(b.sql)
		report, err := Check(t.Context(), s.opts)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, v := range report.Violations {
			all = append(all, v.Error())
		}
		if !strings.Contains(strings.Join(all, "\n"), b.name) {
			t.Errorf("%s: want a violation with %q, got %q", b.sql, b.name, all)
		}
		exec("DELETE FROM @." + b.table + "; INSERT INTO @." + b.table + " OVERRIDING SYSTEM VALUE SELECT * FROM copy_" + b.table)
	}
	wantWhole(t, s)
}

// A check ends with its list when that is long.
func TestCheckEndsItsList(t *testing.T) {
	s := openTest(t)
	sqlOf(t, s, "INSERT INTO @.payloads SELECT gen_random_uuid(), '{}' FROM generate_series(1, 99)")
	sqlOf(t, s, "INSERT INTO @.attempts SELECT gen_random_uuid(), 1, 0, 0, 0, '', '' FROM generate_series(1, 99)")
	report, err := Check(t.Context(), s.opts)
	if err != nil || len(report.Violations) != maxViolations+1 || report.Violations[maxViolations] != errTooMany {
		t.Errorf("%d violations: %v", len(report.Violations), err)
	}
}

// A session's deliveries are erased in steps if there are many, and each step leaves the database whole.
func TestEraseManyDeliveriesOfASession(t *testing.T) {
	s := openTest(t)
	const n = maxMarksInHead + 26
	for range n {
		keepHook(t, s)
	}
	id := keepVisits(t, s, 7, 1)[0]
	var total engine.ErasedStep
	for i, want := range []int64{maxMarksInHead + 10, n} {
		err := s.write(t.Context(), mutation{walks: true, run: func(b *batch) error {
			r, err := b.session(id)
			if err != nil {
				return err
			}
			_, done, err := b.eraseSession(r, 10, &total)
			if done != (i == 1) {
				t.Errorf("after step %d it is gone: %t", i, done)
			}
			return err
		}})
		if err != nil || total.Erased.Deliveries != want {
			t.Fatalf("%d are erased, want %d: %v", total.Erased.Deliveries, want, err)
		}
		wantWhole(t, s)
	}
	if len(total.Deleted) != n || total.Erased.Sessions != 1 {
		t.Errorf("%d are named, and %d sessions", len(total.Deleted), total.Erased.Sessions)
	}
}

// A damaged row keeps nobody from being erased, and is named: a session or a delivery of somebody, who is not known any more, and events, of which the payloads tell.
func TestErasePassesDamage(t *testing.T) {
	for _, damaged := range []struct {
		sql, name  string
		sessions   int64
		deliveries int64
	}{
		{"UPDATE @.sessions SET head = '' WHERE visitor = 1", "session", 3, 3},
		{"UPDATE @.deliveries SET rest = '' WHERE visitor = 1", "", 3, 3},
		{"UPDATE @.deliveries SET rest = '' WHERE id = (SELECT max(id::text)::uuid FROM @.deliveries WHERE visitor = 7)", "delivery", 3, 2},
		{"UPDATE @.sessions SET head = '' WHERE no = (SELECT max(no) FROM @.sessions WHERE visitor = 7)", "session", 2, 3},
		{"UPDATE @.events SET body = '\\x5c75' WHERE session_no = (SELECT max(no) FROM @.sessions WHERE visitor = 7)", "", 3, 3},
		{"UPDATE @.events SET body = '\\x5c75' WHERE session_no = (SELECT no FROM @.sessions WHERE visitor = 1)", "events", 3, 3},
	} {
		s := openTest(t)
		keepHook(t, s)
		keepVisits(t, s, 1, 1)
		keepVisits(t, s, 7, 3)
		sqlOf(t, s, damaged.sql)
		total, errs := keepErase(t, s, visitor(7))
		if total.Sessions != damaged.sessions || total.Deliveries != damaged.deliveries {
			t.Errorf("%s: erased are %+v", damaged.sql, total)
		}
		if damaged.name != "" {
			wantNamed(t, errs, damaged.name)
		}
		left := sqlOf(t, s, "SELECT (4 - count(*))::text FROM @.sessions")
		if left[0] != string(rune('0'+damaged.sessions)) {
			t.Errorf("%s: %s sessions are gone", damaged.sql, left[0])
		}
	}
}

// The events of a session cannot be read: whose it is, the payloads of its deliveries tell, and it is erased with what is damaged.
func TestErasePersonOfDamagedEvents(t *testing.T) {
	s := openTest(t)
	w := keepHook(t, s)
	keepVisits(t, s, 7, 2)
	keepDeliver(t, s, w, 1, engine.StatusDelivered) // its payload names visitor 1
	sqlOf(t, s, "UPDATE @.events SET body = '\\x5c75'")
	total, damaged := keepErase(t, s, visitor(1))
	if total.Sessions != 1 || total.Deliveries != 1 || len(damaged) == 0 {
		t.Errorf("erased are %+v, and damaged %v", total, damaged)
	}
}

// Where a search has looked at as much as a step may, it goes on behind it.
func TestEraseInSteps(t *testing.T) {
	s := openTest(t)
	keepHook(t, s)
	keepVisits(t, s, 1, 300)
	ids := keepVisits(t, s, 7, 2*eraseFinds+1)
	keepVisits(t, s, 1, 300)
	sqlOf(t, s, "UPDATE @.sessions SET bytes = 100000")
	dry := visitor(7)
	dry.DryRun = true
	want := engine.Erased{Sessions: int64(len(ids)), Events: 2 * int64(len(ids)), Deliveries: int64(len(ids))}
	for _, what := range []engine.Erasure{dry, visitor(7)} {
		if total, _ := keepErase(t, s, what); total != want {
			t.Errorf("erased are %+v, want %+v", total, want)
		}
	}
	step, err := s.Erase(t.Context(), dry, "")
	first, parseErr := parseErasePlace(step.Next)
	if n := sqlOf(t, s, "SELECT count(*)::text FROM @.sessions WHERE no <= $1", first.session); err != nil || parseErr != nil || n[0] != "41" {
		t.Errorf("a step reads the events of %s sessions of 100 kB each, want 41: %v", n[0], err)
	}
	what := engine.Erasure{SessionID: uuid.MustParse(sqlOf(t, s, "SELECT id::text FROM @.sessions LIMIT 1")[0])}
	keepAll(t, s, time.Now().UTC().Add(time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: keepForever.Deliveries})
	if total, _ := keepErase(t, s, what); total != (engine.Erased{Sessions: 1, Events: 2, Deliveries: 1}) {
		t.Errorf("of a session erased are %+v", total)
	}
}
