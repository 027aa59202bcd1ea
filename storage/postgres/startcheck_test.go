package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// admin runs statements as the superuser of the shared cluster.
func admin(t *testing.T, texts ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), postgrestest.Shared(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, text := range texts {
		if _, err := conn.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// endSessionsOf is a statement that ends the sessions of a role, and returns when they have ended.
func endSessionsOf(role string) string {
	return fmt.Sprintf(`DO $$
DECLARE these int[] := ARRAY(SELECT pid FROM pg_stat_activity WHERE usename = '%s');
BEGIN
	PERFORM pg_terminate_backend(pid) FROM unnest(these) pid;
	WHILE EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY(these)) LOOP
		PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
	END LOOP;
END $$`, role)
}

// newRole makes a role that may create a schema in the database, with some settings, and returns its URL.
func newRole(t *testing.T, name, settings string) string {
	t.Helper()
	admin(t, "CREATE ROLE "+name+" LOGIN", "GRANT CREATE ON DATABASE hookbolt TO "+name)
	if settings != "" {
		admin(t, "ALTER ROLE "+name+" SET "+settings)
	}
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), postgrestest.Shared(t).URL())
		if err != nil {
			return // the cluster is thrown away
		}
		defer conn.Close(context.Background())
		_, _ = conn.Exec(context.Background(), "DROP OWNED BY "+name+" CASCADE; DROP ROLE "+name, pgx.QueryExecModeSimpleProtocol)
	})
	return as(t, postgrestest.Shared(t).URL(), name)
}

// as returns the URL of a database for another role.
func as(t *testing.T, raw, role string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

func TestURL(t *testing.T) {
	const password = "a-password-of-mine"
	user := "postgres://hookbolt:" + password + "@"
	for _, tc := range []struct{ url, want string }{
		{user + "127.0.0.1/db", ""},
		{user + "[::1]:5433/db", ""},
		{user + "localhost/db?sslmode=disable", ""},
		{user + "/db?host=/run/postgresql", ""},
		{"host=/run/postgresql dbname=db", ""},
		{user + "db.example.com/db?sslmode=verify-full", ""},
		{user + "a.example.com,b.example.com/db?sslmode=verify-full&target_session_attrs=read-write", ""},
		{user + "db.example.com/db", "the server db.example.com is another machine, so the URL needs sslmode=verify-full"},
		{user + "db.example.com/db?sslmode=require", "sslmode=verify-full"},
		{user + "db.example.com/db?sslmode=verify-ca", "sslmode=verify-full"},
		{user + "192.0.2.1/db?sslmode=disable", "sslmode=verify-full"},
		{user + "127.0.0.1,db.example.com/db?sslmode=prefer", "the server db.example.com is another machine"},
		{user + "db.example.com/db?sslmode=verify", `must be a URL such as "postgres://user:password@host/database"`},
		{user + "db.example.com:port/db", `must be a URL such as "postgres://user:password@host/database"`},
		{"postgres://hookbolt:a-pass word%@db.example.com/db", `must be a URL such as "postgres://user:password@host/database"`},
		{"db.example.com " + password, `must be a URL such as`},
	} {
		err := CheckURL(tc.url, false)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.url, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want %s", tc.url, err, tc.want)
		case err != nil && (strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "a-pass") || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: shows the password, or has several lines: %q", tc.url, err)
		}
		if err := CheckURL(tc.url, true); err != nil && (tc.want == "" || strings.Contains(tc.want, "another machine") || strings.HasPrefix(tc.want, "sslmode")) {
			t.Errorf("%s, insecure: %v", tc.url, err)
		}
	}
}

// A server that would break a promise is refused, with what to do.
func TestStartRefuses(t *testing.T) {
	c := postgrestest.Shared(t)
	admin(t, "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
	admin(t, "CREATE ROLE no_schema LOGIN")
	for _, tc := range []struct{ name, url, want string }{
		{"asynchronous commits", newRole(t, "careless", "synchronous_commit = off"), `synchronous_commit is off: a crash would lose events that were acknowledged: ALTER ROLE "careless" SET synchronous_commit = on`},
		{"read only", newRole(t, "reader", "default_transaction_read_only = on"), `transactions are read only here: ALTER ROLE "reader" SET default_transaction_read_only = off`},
		{"another encoding", strings.Replace(c.URL(), "/hookbolt?", "/ascii?", 1), `the database has the encoding SQL_ASCII, and must have UTF8`},
		{"no such database", strings.Replace(c.URL(), "/hookbolt?", "/none?", 1), `the database does not exist: `},
		{"no such role", as(t, c.URL(), "nobody_knows"), `the database server refuses hookbolt's role or its password: `},
		{"no right to make a schema", as(t, c.URL(), "no_schema"), `hookbolt postgres init URL`},
		{"no server", "postgres://hookbolt@/hookbolt?host=" + t.TempDir(), `the database server cannot be reached: `},
		{"another machine", "postgres://hookbolt@db.example.com/hookbolt", `storage.postgres_url: the server db.example.com is another machine`},
	} {
		s, err := Open(t.Context(), Options{URL: tc.url, Schema: "refused"})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}

// The start tells of what may lose events although it is allowed.
func TestStartWarns(t *testing.T) {
	c := postgrestest.Shared(t)
	var log bytes.Buffer
	openAt(t, Options{URL: c.URL(), Schema: c.Schema(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, want := range []string{"level=WARN msg=\"fsync is off", "msg=PostgreSQL server=", "synchronous_commit=on", "synchronous_standby_names"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in the log:\n%s", want, &log)
		}
	}
}

// pooler stands between a store and the server as PgBouncer does: the key with which a client may cancel is not that of the server's process.
func pooler(t *testing.T, raw string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hbpb")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { pool(client, filepath.Join(postgrestest.Shared(t).Dir(), ".s.PGSQL.5432")) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait(); os.RemoveAll(dir) })
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = url.Values{"host": {dir}}.Encode()
	return u.String()
}

func pool(client net.Conn, server string) {
	defer client.Close()
	up, err := net.Dial("unix", server)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(up, client); up.Close() })
	defer wg.Wait()
	defer up.Close()
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(up, head); err != nil {
			break
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(up, body); err != nil {
			break
		}
		if head[0] == 'K' {
			binary.BigEndian.PutUint32(body, binary.BigEndian.Uint32(body)+1)
		}
		if _, err := client.Write(append(head, body...)); err != nil {
			break
		}
	}
	client.Close()
}

// Behind a pooler a role must have the settings of a session: it gets them, if nobody else uses the role.
func TestPoolerNeedsSettingsOfTheRole(t *testing.T) {
	c := postgrestest.Shared(t)
	direct := newRole(t, "pooled", "")
	o := Options{URL: pooler(t, direct), Schema: c.Schema(t)}
	admin(t, "CREATE SCHEMA "+pgx.Identifier{o.Schema}.Sanitize()+" AUTHORIZATION pooled")
	first := openAt(t, o)
	got := sqlOf(t, first, "SELECT unnest(setconfig) FROM pg_catalog.pg_db_role_setting JOIN pg_catalog.pg_roles r ON r.oid = setrole WHERE rolname = 'pooled'")
	if len(got) != len(settings)-1 /* the isolation is that of PostgreSQL */ || !strings.Contains(strings.Join(got, " "), "idle_in_transaction_session_timeout=2000") {
		t.Errorf("the role has %q", got)
	}
	// What somebody else has chosen stays, if it will do.
	admin(t, "ALTER ROLE pooled SET lock_timeout = '7s'")
	openAt(t, o)
	if got := sqlOf(t, first, "SELECT unnest(setconfig) FROM pg_catalog.pg_db_role_setting JOIN pg_catalog.pg_roles r ON r.oid = setrole WHERE rolname = 'pooled'"); !strings.Contains(strings.Join(got, " "), "lock_timeout=7s") {
		t.Errorf("the role has %q, and lock_timeout=7s is somebody's choice", got)
	}
	// A superuser is not changed: others use it, too.
	_, err := Open(t.Context(), Options{URL: pooler(t, c.URL()), Schema: c.Schema(t)})
	if err == nil || !strings.Contains(err.Error(), `ALTER ROLE "hookbolt" SET idle_in_transaction_session_timeout = '2000'`) {
		t.Errorf("got %v, want the SQL to run", err)
	}
}

func TestSuits(t *testing.T) {
	for _, tc := range []struct {
		name, value, unit string
		want              bool
	}{
		{"lock_timeout", "0", "ms", false}, {"lock_timeout", "5000", "ms", true}, {"lock_timeout", "60001", "ms", false}, {"lock_timeout", "1", "ms", false},
		{"enable_seqscan", "on", "", false}, {"enable_seqscan", "off", "", true}, {"plan_cache_mode", "auto", "", false},
	} {
		if got := suits(tc.name, tc.value, tc.unit); got != tc.want {
			t.Errorf("%s = %s %s: got %v", tc.name, tc.value, tc.unit, got)
		}
	}
}

// The clock of a bubble is years behind that of the server, so the store is not ready.
func TestSkewIsNotReady(t *testing.T) {
	c := postgrestest.Shared(t)
	schema := c.Schema(t)
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			max  time.Duration
			want bool
		}{{0, false}, {-1, true}, {100 * 365 * 24 * time.Hour, true}} {
			var log bytes.Buffer
			s, err := Open(t.Context(), Options{URL: c.URL(), Schema: schema, MaxSkew: tc.max, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * skewInterval)
			err = s.Ready(t.Context())
			if (err == nil) != tc.want {
				t.Errorf("with at most %s: %v", tc.max, err)
			}
			if e, ok := errors.AsType[*engine.NotReadyError](err); !tc.want && (!ok || !strings.HasPrefix(e.Why, "the clocks of hookbolt's machine and of the database differ by ") || !errors.Is(err, engine.ErrTransient)) {
				t.Errorf("got %v", err)
			}
			if got := strings.Count(log.String(), "synchronize them"); got != map[bool]int{true: 1, false: 0}[tc.max >= 0] {
				t.Errorf("with at most %s the log tells of it %d times", tc.max, got)
			}
			s.Close()
		}
	})
}

// A store says in words why it is not ready, and is ready again with its database. It does not fail.
func TestReady(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: 50 * time.Millisecond})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.down.Store(true)
	endSessions(t, s)
	for range 2 { // the second one does not wait
		err := s.Ready(t.Context())
		if e, ok := errors.AsType[*engine.NotReadyError](err); !ok || e.Why != "the database server cannot be reached" || !errors.Is(err, engine.ErrTransient) {
			t.Errorf("got %v", err)
		}
	}
	if !s.Figures().Away || s.Figures().Retries == 0 {
		t.Errorf("%+v", s.Figures())
	}
	p.down.Store(false)
	if _, err := appendOne(s); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil || s.Figures().Away {
		t.Errorf("with the database back: %v", err)
	}
	select {
	case <-s.Failed():
		t.Error("the store has failed")
	default:
	}
}

// endSessions has the server end all connections, so that the next transaction needs a new one.
func endSessions(t *testing.T, s *Store) {
	t.Helper()
	sqlOf(t, s, "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE application_name = 'hookbolt' AND pid <> pg_backend_pid()")
}

// Another hookbolt has the database: this one is not ready for good.
func TestReadyAfterTakeover(t *testing.T) {
	c := postgrestest.Shared(t)
	o := Options{URL: c.URL(), Schema: c.Schema(t)}
	first := openAt(t, o)
	openAt(t, o)
	for range 2 {
		err := first.Ready(t.Context())
		if e, ok := errors.AsType[*engine.NotReadyError](err); !ok || e.Why != "another hookbolt has taken the database over" || errors.Is(err, engine.ErrTransient) {
			t.Errorf("got %v", err)
		}
	}
}

var errFull = &pgconn.PgError{Code: "53100", Message: "could not extend file: No space left on device"}

// A full disk is told of for a while; then a change must be let in, to find that there is room again.
func TestReadyFull(t *testing.T) {
	s := openTest(t)
	s.met(full, fmt.Errorf("disk: %w", errFull))
	if err := s.Ready(t.Context()); !errors.Is(err, engine.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	s.trouble.Store(&failure{errFull, time.Now().Add(-fullFor)})
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("later: %v", err)
	}
	s.met(full, errFull)
	if _, err := appendOne(s); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("after a commit: %v", err)
	}
}

// A role whose settings change while the store works: what would lose events is refused until it is mended, also by a store that runs, and the isolation is
// hookbolt's own.
func TestRoleChangesLater(t *testing.T) {
	c := postgrestest.Shared(t)
	s := openAt(t, Options{URL: newRole(t, "changing", "default_transaction_isolation = serializable"), Schema: c.Schema(t), Patience: 200 * time.Millisecond})
	if _, err := appendOne(s); err != nil {
		t.Fatal(err)
	}
	err := s.write(t.Context(), mutation{run: func(b *batch) error {
		var level string
		if err := b.query(func(found pgx.Rows) error { return found.Scan(&level) }, "SELECT current_setting('transaction_isolation')"); err != nil {
			return err
		}
		if level != "read committed" {
			t.Errorf("a transaction is %s", level)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	change := func(text string) {
		admin(t, "ALTER ROLE changing "+text, endSessionsOf("changing"))
	}
	change("SET synchronous_commit = off")
	if _, err := appendOne(s); !errors.Is(err, engine.ErrTransient) {
		t.Errorf("with asynchronous commits: got %v, want an ErrTransient", err)
	}
	if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "synchronous_commit is off") {
		t.Errorf("Ready: got %v", err)
	}
	change("RESET synchronous_commit")
	if _, err := appendOne(s); err != nil {
		t.Errorf("mended: %v", err)
	}
}
