package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openAt opens a store and closes it at the end.
func openAt(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ownLanes has a member of a fleet take the lanes of all webhooks, as a Watch does that begins.
func ownLanes(t testing.TB, s *Store) {
	t.Helper()
	lanes := newBalancer(s)
	s.fleet.watching.Store(lanes.joins)
	_, _, err := lanes.step(t.Context())
	s.fleet.watching.Store(0)
	if err != nil {
		t.Fatal(err)
	}
}

// openTest opens a store whose schema and connections others have used before.
func openTest(t *testing.T) *Store {
	t.Helper()
	c := postgrestest.Shared(t)
	d := c.Database(t)
	return openAt(t, Options{URL: c.URL(), Schema: d.Schema, Connections: d})
}

// openFresh opens a store with a schema and connections of its own: for a test that changes tables or the role, fills tables with many rows, or reads the
// server's figures of them.
func openFresh(t *testing.T) *Store {
	t.Helper()
	c := postgrestest.Shared(t)
	return openAt(t, Options{URL: c.URL(), Schema: c.Schema(t)})
}

// sqlOf runs a statement beside the store and returns its first column, as text.
func sqlOf(t *testing.T, s *Store, text string, args ...any) (all []string) {
	t.Helper()
	beside := Store{opts: s.opts}
	if _, ok := s.opts.Connections.(*line); ok { // which may be cut
		beside.opts.Connections = nil
	}
	config, err := pgx.ParseConfig(postgrestest.Shared(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	beside.servers = newServers(config)
	conn, err := beside.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer beside.release(conn)
	rows, err := conn.Query(t.Context(), s.sql(text), args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// appendOne stores a session with a vote, and returns its id.
func appendOne(s *Store) (uuid.UUID, error) {
	id := uuid.New()
	events, err := engine.ParseEvents(fmt.Appendf(nil,
		`{"type":"vote","session_id":%q,"content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","poltio_user_id":1,"question_id":1,"answer_id":1}`, id), benchNow())
	if err == nil {
		_, err = s.AppendEvents(context.Background(), engine.NewAppend(events, benchNow()))
	}
	return id, err
}

// proxy stands between a store and the server. It can withhold an answer: the server has done what it was told, and the client never hears of it.
type proxy struct {
	dir      string
	withhold atomic.Int64 // the number of the answer to withhold, from now on; 0 for none
	lose     atomic.Bool  // withhold the answer to the next commit; then the server is away
	down     atomic.Bool
	stay     atomic.Bool // withholding an answer also sets down
	cut      atomic.Int64
	// hold is a text in the message to the server to hold. The client's connection is cut then. The server gets the message when late is closed, as from a
	// network that was slow.
	hold atomic.Pointer[string]
	late chan struct{}
	// stalled is held for writing while the proxy passes nothing on, and ends no connection.
	stalled sync.RWMutex
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "hbpx")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{dir: dir, late: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(client, server) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait(); os.RemoveAll(dir) })
	return p
}

func (p *proxy) serve(client net.Conn, server string) {
	defer client.Close()
	if p.down.Load() {
		return
	}
	up, err := net.Dial("unix", filepath.Join(server, ".s.PGSQL.5432"))
	if err != nil {
		return
	}
	defer up.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer up.Close()
		p.copyWhile(up, client, func(b []byte) bool {
			if text := p.hold.Load(); text != nil && bytes.Contains(b, []byte(*text)) {
				p.hold.Store(nil)
				p.cut.Add(1)
				client.Close()
				<-p.late
			}
			return !p.down.Load()
		})
	})
	p.copyWhile(client, up, func(b []byte) bool {
		if p.lose.Load() && bytes.Contains(b, []byte("COMMIT\x00")) && bytes.Contains(b, []byte("INSERT ")) { // a reader's has no insert
			p.lose.Store(false)
			p.down.Store(true)
			return false
		}
		if p.withhold.Load() > 0 && p.withhold.Add(-1) == 0 {
			p.cut.Add(1)
			p.down.Store(p.stay.Load())
			return false
		}
		return !p.down.Load()
	})
	client.Close()
	wg.Wait()
}

// pass waits while the proxy is stalled.
func (p *proxy) pass() {
	p.stalled.RLock()
	defer p.stalled.RUnlock()
}

// copyWhile copies until one of the two ends, or more returns false for what was read.
func (p *proxy) copyWhile(to, from net.Conn, more func(b []byte) bool) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		p.pass()
		if err != nil || !more(buf[:n]) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) url() string {
	return (&url.URL{Scheme: "postgres", User: url.User("hookbolt"), Path: "/hookbolt", RawQuery: url.Values{"host": {p.dir}}.Encode()}).String()
}

// A commit whose answer is lost is settled: what was acknowledged is stored once, and nothing is stored twice.
func TestWithheldAnswers(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: time.Minute})
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	var wg sync.WaitGroup
	const cuts = 40
	for range 8 {
		wg.Go(func() {
			for p.cut.Load() < cuts {
				id, err := appendOne(s)
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				acknowledged[id.String()] = true
				if n := len(acknowledged); n%7 == 0 {
					p.withhold.Store(1 + int64(n)%4)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	stored := sqlOf(t, s, "SELECT s.id::text FROM @.sessions s JOIN @.events e ON e.session_no = s.no")
	for _, id := range stored {
		if !acknowledged[id] {
			t.Errorf("%s is stored twice, or was not acknowledged", id)
		}
		delete(acknowledged, id)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged sessions are lost", len(acknowledged))
	}
	if s.settled.Load() == 0 {
		t.Error("no commit had to be settled: the test has shown nothing")
	}
}

// A database that is away for a moment is waited for; beyond that, calls fail and can be repeated, no attempt begins, and the store works again with the
// database.
func TestAway(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: 50 * time.Millisecond})
	p.down.Store(true)
	began := time.Now()
	if _, err := appendOne(s); !errors.Is(err, engine.ErrTransient) {
		t.Errorf("append without a database: got %v, want an ErrTransient", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v, which is no patience of 50 ms", took)
	}
	if _, _, err := s.Session(t.Context(), uuid.New()); !errors.Is(err, engine.ErrTransient) {
		t.Errorf("read without a database: got %v, want an ErrTransient", err)
	}
	if s.Mine(1) {
		t.Error("an attempt may begin that cannot be recorded")
	}
	p.down.Store(false)
	if _, err := appendOne(s); err != nil {
		t.Errorf("append with the database back: %v", err)
	}
	if !s.Mine(1) {
		t.Error("no attempt may begin although the database is back")
	}
}

// A server that ends all connections loses nothing.
func TestTerminatedBackends(t *testing.T) {
	s := openFresh(t)
	for range 5 {
		sqlOf(t, s, "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE application_name = 'hookbolt' AND pid <> pg_backend_pid()")
		id, err := appendOne(s)
		if err != nil {
			t.Fatalf("append: %v", err)
		}
		if _, _, err := s.Session(t.Context(), id); err != nil {
			t.Fatalf("read: %v", err)
		}
	}
}

// Whoever opens the database next is its only writer.
func TestTakenOver(t *testing.T) {
	c := postgrestest.Shared(t)
	o := Options{URL: c.URL(), Schema: c.Schema(t)}
	first := openAt(t, o)
	made, err := first.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Enqueue(t.Context(), engine.Enqueue{WebhookID: made.Webhook.ID, Kind: engine.KindTest, Payload: []byte("{}"), At: benchNow()}); err != nil {
		t.Fatal(err)
	}
	second := openAt(t, o)
	if err := first.write(t.Context(), mutation{run: func(*batch) error { return nil }}); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a look by the one that was shut out: got %v, want an ErrUnavailable", err)
	}
	if _, err := appendOne(first); !errors.Is(err, engine.ErrUnavailable) || errors.Is(err, engine.ErrTransient) {
		t.Errorf("append by the one that was shut out: got %v, want an ErrUnavailable", err)
	}
	<-first.Failed()
	if first.Mine(made.Webhook.ID) {
		t.Error("the one that was shut out may begin attempts")
	}
	if _, err := appendOne(second); err != nil {
		t.Errorf("append by the next one: %v", err)
	}
	err = second.view(t.Context(), func(conn *pgx.Conn) error {
		all, err := second.readCounts(t.Context(), conn)
		if c := all[made.Webhook.ID]; c.byStatus[engine.StatusPending] != 1 {
			t.Errorf("the counts of the one before are lost: %v", all)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Batch rows are folded into the counts, but for the newest, which may have to settle a commit.
func TestFold(t *testing.T) {
	s := openTest(t)
	made, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: made.Webhook.ID, Kind: engine.KindTest, Payload: []byte("{}"), At: benchNow()}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.write(t.Context(), mutation{walks: true, run: (*batch).fold}); err != nil {
			t.Fatal(err)
		}
		err := s.view(t.Context(), func(conn *pgx.Conn) error {
			all, err := s.readCounts(t.Context(), conn)
			if c := all[made.Webhook.ID]; c.byStatus[engine.StatusPending] != 3 {
				t.Errorf("counted are %v, want 3 that are pending", all)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if left := sqlOf(t, s, "SELECT count(*)::text FROM @.batches"); left[0] != "2" { // the newest of before, and the fold's own
			t.Errorf("%s batch rows are left, want 2", left[0])
		}
	}
}

// A mutation that cannot be stored fails alone, and so does one that fails after a change.
func TestCulpritFailsAlone(t *testing.T) {
	s := openTest(t)
	begun, hold := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // the others gather behind it
		_ = s.write(context.Background(), mutation{run: func(*batch) error { close(begun); <-hold; return nil }})
	})
	<-begun
	failure := errors.New("after a change")
	results := make([]error, 3)
	for i, run := range []func(*batch) error{
		func(b *batch) error {
			b.exec("INSERT INTO @.health (webhook_id, health) VALUES (1, $1::text::json)", "no json")
			return nil
		},
		func(b *batch) error {
			b.exec("INSERT INTO @.health (webhook_id, health) VALUES (2, '{}')")
			return failure
		},
		func(b *batch) error { b.exec("INSERT INTO @.health (webhook_id, health) VALUES (3, '{}')"); return nil },
	} {
		wg.Go(func() { results[i] = s.write(context.Background(), mutation{run: run}) })
	}
	for len(s.mutations) < len(results) {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	if pg, ok := errors.AsType[*pgconn.PgError](results[0]); !ok || pg.Code != "22P02" {
		t.Errorf("the culprit got %v", results[0])
	}
	if !errors.Is(results[1], failure) {
		t.Errorf("the one that failed by itself got %v", results[1])
	}
	if results[2] != nil {
		t.Errorf("the innocent one got %v", results[2])
	}
	if stored := sqlOf(t, s, "SELECT webhook_id::text FROM @.health"); strings.Join(stored, " ") != "3" {
		t.Errorf("stored are %v, want 3", stored)
	}
}

// Who waits for a lock for too long begins anew, and is told in the end that it may try again.
func TestSerializationBeginsAnew(t *testing.T) {
	s := openTest(t)
	tries := 0
	err := s.write(t.Context(), mutation{run: func(b *batch) error {
		if tries++; tries < 3 {
			b.exec("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
		}
		b.exec("INSERT INTO @.health (webhook_id, health) VALUES (1, '{}')")
		return nil
	}})
	if err != nil || tries != 3 {
		t.Errorf("got %v after %d tries, want success after 3", err, tries)
	}
	err = s.write(t.Context(), mutation{run: func(b *batch) error { b.exec("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$"); return nil }})
	if !errors.Is(err, engine.ErrTransient) {
		t.Errorf("got %v, want an ErrTransient", err)
	}
	err = s.write(t.Context(), mutation{run: func(b *batch) error { b.exec("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$"); return nil }})
	if !errors.Is(err, engine.ErrFull) {
		t.Errorf("got %v, want an ErrFull", err)
	}
	if _, err := appendOne(s); err != nil {
		t.Errorf("append afterwards: %v", err)
	}
}

// A schema of a newer version is refused if it may not be written to, and taken as it is if it may.
func TestNewerSchema(t *testing.T) {
	c := postgrestest.Shared(t)
	o := Options{URL: c.URL(), Schema: c.Schema(t)}
	s := openAt(t, o)
	sqlOf(t, s, "UPDATE @.schema SET version = 99 RETURNING ''")
	openAt(t, o)
	sqlOf(t, s, "UPDATE @.schema SET writable_by = 99 RETURNING ''")
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrSchema) {
		t.Errorf("got %v, want ErrSchema", err)
	}
}

// A role whose commits may be lost is refused.
func TestAsynchronousCommitIsRefused(t *testing.T) {
	c := postgrestest.Shared(t)
	_, err := Open(t.Context(), Options{URL: c.URL() + "&synchronous_commit=off", Schema: c.Schema(t)})
	if err == nil || !strings.Contains(err.Error(), "ALTER ROLE") {
		t.Errorf("got %v, want a refusal that says what to run", err)
	}
}

// The ids of deliveries grow, whatever the clock does.
func TestIDs(t *testing.T) {
	var m idMaker
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last := m.next(at)
	for i := range 100_000 {
		id := m.next(at.Add(time.Duration(i%7-3) * time.Millisecond))
		if string(id[:]) <= string(last[:]) || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
	for _, full := range []string{"019b7cee-1c88-7000-bfff-ffffffffffff", "019b7cee-1c88-7fff-bfff-ffffffffffff"} {
		m.last = uuid.MustParse(full)
		if id := m.next(time.Time{}); id.String() <= full || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Errorf("%s after %s", id, full)
		}
	}
}
