package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// later returns the schema of the next version, if it were made now. Its step does what steps may: it adds. It would take longer than other statements may on a large table.
func later() schemaPlan {
	return schemaPlan{append(slices.Clone(thisSchema.steps), `
		ALTER TABLE @.deliveries ADD COLUMN region text NOT NULL DEFAULT '';
		ALTER TABLE @.sessions ADD COLUMN region text;
		ALTER TABLE @.batches ADD COLUMN region int;
		CREATE INDEX deliveries_region ON @.deliveries (region, id);
		CREATE TABLE @.regions (id int PRIMARY KEY);
		DO $$ BEGIN IF current_setting('statement_timeout') <> '0' THEN RAISE 'a step may not take its time'; END IF; END $$`), writableBy}
}

// load appends sessions and delivers them, until it is stopped or the store ends.
type load struct {
	s    *Store
	hook engine.Webhook
	stop chan struct{}
	all  sync.WaitGroup

	mu     sync.Mutex
	stored []uuid.UUID // acknowledged
	failed []error
}

func startLoad(t *testing.T, s *Store) *load {
	t.Helper()
	l := &load{s: s, hook: hook(t, s), stop: make(chan struct{})}
	for range 4 {
		l.all.Go(l.run)
	}
	return l
}

func (l *load) run() {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		id, err := liveOnce(l.s, l.hook)
		l.mu.Lock()
		if err != nil {
			l.failed = append(l.failed, err)
		}
		if id != uuid.Nil {
			l.stored = append(l.stored, id)
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// liveOnce stores a finished session and delivers it. The id is that of the session if it was stored.
func liveOnce(s *Store, w engine.Webhook) (uuid.UUID, error) {
	id := uuid.New()
	events, err := engine.ParseEvents([]byte(eventOf(id, `"type":"finish"`)), benchNow())
	if err != nil {
		return uuid.Nil, err
	}
	a := engine.NewAppend(events, benchNow())
	a.Open = map[uint32]bool{w.ID: true}
	a.Sessions[0].Payloads = []engine.RenderedPayload{{WebhookID: w.ID, Revision: w.Revision, Body: []byte("{}")}}
	done, err := s.AppendEvents(context.Background(), a)
	if err != nil {
		return uuid.Nil, err
	}
	if len(done.Claimed) != 1 {
		return id, fmt.Errorf("%d deliveries are claimed, want 1", len(done.Claimed))
	}
	_, err = s.RecordAttempt(context.Background(), engine.AttemptRecord{Delivery: done.Claimed[0].Delivery, Attempt: benchAttempt,
		Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()})
	return id, err
}

// count returns how many sessions were stored so far.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.stored)
}

// more waits until n further sessions were stored.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	for want := l.count() + n; l.count() < want; {
		select {
		case <-t.Context().Done():
			t.Fatal("the load has ended")
		case <-time.After(5 * time.Millisecond):
		}
		l.mu.Lock()
		failed := errors.Join(l.failed...)
		l.mu.Unlock()
		if failed != nil {
			t.Fatal(failed)
		}
	}
}

// Each older schema whose processes may go on is migrated while one works on it. A migration beside it disturbs nobody. Then the newer process takes the
// database over: what was acknowledged is there.
func TestMigrationsUnderLoad(t *testing.T) {
	t.Parallel()
	to := later()
	for from := writableBy; from < to.version(); from++ {
		t.Run(fmt.Sprintf("from %d", from), func(t *testing.T) {
			c := postgrestest.Shared(t)
			o := Options{URL: c.URL(), Schema: c.Schema(t)}
			old := schemaPlan{to.steps[:from], writableBy}
			before := openWith(t, o, old)
			l := startLoad(t, before)
			l.more(t, 50)

			migrateBeside(t, before, to, func() { l.more(t, 50) })
			l.more(t, 50)
			after := openWith(t, o, to)
			l.all.Wait()
			for _, err := range l.failed {
				if !errors.Is(err, engine.ErrUnavailable) {
					t.Errorf("a caller of the older process got %v, want an ErrUnavailable", err)
				}
			}
			for _, id := range l.stored {
				if _, _, err := after.Session(t.Context(), id); err != nil {
					t.Errorf("session %s was acknowledged: %v", id, err)
				}
			}
			if _, err := liveOnce(after, l.hook); err != nil {
				t.Errorf("after the migration: %v", err)
			}
			conn, err := after.connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer closeConn(conn)
			if report, err := checkOn(t.Context(), after, conn); err != nil || len(report.Violations) > 0 {
				t.Errorf("the tables: %v, %v", report.Violations, err)
			}
			if _, err := liveOnce(openWith(t, o, old), l.hook); err != nil {
				t.Errorf("the older version goes back to work: %v", err)
			}
		})
	}
}

func openWith(t *testing.T, o Options, plan schemaPlan) *Store {
	t.Helper()
	s, err := open(t.Context(), o, plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// migrateBeside migrates while s works, and while a backup reads the tables for longer than a migration waits. meanwhile is called after that has been so.
func migrateBeside(t *testing.T, s *Store, to schemaPlan, meanwhile func()) {
	t.Helper()
	backup, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(backup)
	if _, err := backup.Exec(t.Context(), s.sql("SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE @.deliveries IN ACCESS SHARE MODE"), pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	m := newStore(s.opts, s.servers.all[0])
	m.plan = to
	conn, err := m.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	migrated := make(chan error, 1)
	go func() { migrated <- m.migrate(t.Context(), conn) }()
	time.Sleep(migratePatience + migratePause/2) // for a lock that the server holds, whose clock nobody can set
	meanwhile()
	if _, err := backup.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Fatalf("migrate: %v", err)
	}
}

// A schema whose processes may not go on is migrated as well: they are shut out, and what they have stored is there.
func TestMigrationFromShutOut(t *testing.T) {
	t.Parallel()
	c := postgrestest.Shared(t)
	for from := 1; from < writableBy; from++ {
		o := Options{URL: c.URL(), Schema: c.Schema(t)}.withDefaults()
		config, err := parseURL(o.URL, false)
		if err != nil {
			t.Fatal(err)
		}
		old := newStore(o, config)
		old.plan = schemaPlan{thisSchema.steps[:from], from}
		conn, err := old.connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer closeConn(conn)
		if err := old.migrate(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{
			`INSERT INTO @.members (version, began_at) VALUES (1, 1); INSERT INTO @.writers (member) SELECT id FROM @.members; INSERT INTO @.batches SELECT id, 7, '\x01' FROM @.writers`,
			`INSERT INTO @.webhooks (id, revision, operations, settings) VALUES (7, 1, false, '{"id": 7, "revision": 1, "active": true, "url": "https://a.example/"}')`,
		} {
			if _, err := conn.Exec(t.Context(), old.sql(text), pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
		}
		o.Shared = true
		s := openWith(t, o, thisSchema)
		if left := sqlOf(t, s, "SELECT version::text FROM @.members ORDER BY id"); !slices.Equal(left, []string{fmt.Sprint(thisSchema.version())}) {
			t.Errorf("from %d: the members have the versions %q: the older process goes on", from, left)
		}
		if adopted := sqlOf(t, s, "SELECT n::text FROM @.batches b JOIN @.writers w ON w.id = b.writer WHERE w.adopted"); !slices.Equal(adopted, []string{"7"}) {
			t.Errorf("from %d: the batches %q are left of it, want 7", from, adopted)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		o.Shared = false // which owns all lanes
		s = openWith(t, o, thisSchema)
		w := s.Webhooks().Get(7)
		if w == nil {
			t.Fatalf("from %d: the webhook is not there", from)
		}
		if _, err := liveOnce(s, *w); err != nil {
			t.Errorf("from %d: %v", from, err)
		}
		if _, err := open(t.Context(), o, old.plan); !errors.Is(err, ErrSchema) {
			t.Errorf("from %d: the older version goes back to work: %v", from, err)
		}
	}
}

// A running member is shut out as well, by the first one whose version forbids it to write, and ends: what it has stored is there, and nothing comes later.
func TestContractionInAFleet(t *testing.T) {
	t.Parallel()
	c := postgrestest.Shared(t)
	o := Options{URL: c.URL(), Schema: c.Schema(t), Shared: true}
	old := openWith(t, o, thisSchema)
	ids := appendMany(t, old, 3)
	to := later()
	to.writableBy = to.version()
	began := time.Now()
	s := openWith(t, o, to)
	if id, err := appendOne(old); !errors.Is(err, engine.ErrUnavailable) || !errors.Is(err, ErrSchema) {
		t.Errorf("the older process stores session %s: %v, want an ErrUnavailable that is an ErrSchema", id, err)
	}
	select {
	case <-old.Failed():
	case <-time.After(deadAfter * defaultBeat):
		t.Error("the older process goes on")
	}
	for _, id := range ids {
		if _, _, err := s.Session(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took >= deadAfter*defaultBeat {
		t.Errorf("it took %v: the older process was taken for dead, not shut out", took)
	}
}

// A version that an older process must not write to shuts it out.
func TestContraction(t *testing.T) {
	t.Parallel()
	c := postgrestest.Shared(t)
	o := Options{URL: c.URL(), Schema: c.Schema(t)}
	to := later()
	to.writableBy = to.version()
	openWith(t, o, to)
	if _, err := open(t.Context(), o, thisSchema); !errors.Is(err, ErrSchema) {
		t.Errorf("got %v, want ErrSchema", err)
	}
}
