package postgrestest

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { os.Exit(Run(m)) }

// The watchdog stops the server and removes its files when the pipe ends, as it does when the test binary is killed.
func TestNothingIsLeft(t *testing.T) {
	c := Start(t, Options{})
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var fsync string
	if err := conn.QueryRow(t.Context(), "SHOW fsync").Scan(&fsync); err != nil || fsync != "off" {
		t.Errorf("fsync is %q (%v), want off", fsync, err)
	}
	c.stop()
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the server still answers")
	}
}

// A cluster takes a moment, not minutes: it is started by each test binary.
func TestSharedIsOne(t *testing.T) {
	first := Shared(t)
	began := time.Now()
	if Shared(t) != first || time.Since(began) > time.Second {
		t.Error("the second call has started another cluster")
	}
}

// A test finds the tables of a database empty, and its connections open, unless somebody has changed the tables.
func TestDatabaseIsLentAgain(t *testing.T) {
	c := Shared(t)
	exec := func(d *Database, text string, into ...any) error {
		config, err := pgx.ParseConfig(c.URL())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := d.Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Release(conn)
		rows, err := conn.Query(t.Context(), strings.ReplaceAll(text, "@", pgx.Identifier{d.Schema}.Sanitize()))
		if err != nil {
			return err
		}
		if rows.Next() && len(into) > 0 {
			err = rows.Scan(into...)
		}
		rows.Close()
		return errors.Join(err, rows.Err())
	}
	var schemas []string
	var pids []int
	lend := func(t *testing.T, test func(d *Database)) {
		t.Helper()
		t.Run("", func(t *testing.T) {
			d := c.Database(t)
			schemas = append(schemas, d.Schema)
			var pid int
			if err := exec(d, "SELECT pg_backend_pid()", &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
			test(d)
		})
	}
	run := func(d *Database, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if err := exec(d, text); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	}
	lend(t, func(d *Database) {
		run(d, "CREATE SCHEMA @", "CREATE TABLE @.schema (version int)", "INSERT INTO @.schema VALUES (1)", "CREATE TABLE @.x (i int GENERATED ALWAYS AS IDENTITY)", "INSERT INTO @.x DEFAULT VALUES")
	})
	lend(t, func(d *Database) {
		var rows, versions, next int
		if err := exec(d, "SELECT (SELECT count(*) FROM @.x), (SELECT count(*) FROM @.schema)", &rows, &versions); err != nil || rows != 0 || versions != 1 {
			t.Errorf("%d rows and %d versions (%v), want 0 and 1", rows, versions, err)
		}
		if err := exec(d, "INSERT INTO @.x DEFAULT VALUES RETURNING i", &next); err != nil || next != 1 {
			t.Errorf("the sequence goes on with %d (%v), want 1", next, err)
		}
		run(d, "ALTER TABLE @.x ADD COLUMN other int")
	})
	lend(t, func(d *Database) {})
	if schemas[0] != schemas[1] || pids[0] != pids[1] || schemas[2] == schemas[1] {
		t.Errorf("schemas %q, processes %d: want one and the same for the first two", schemas, pids)
	}
}

// Within a bubble, a connection is opened outside of it, so that it lasts.
func TestDatabaseInABubble(t *testing.T) {
	c := Shared(t)
	d := c.Database(t)
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			if err := d.use(context.Background(), func(conn *pgx.Conn) error { return conn.Ping(context.Background()) }); err != nil {
				t.Error(err)
			}
		})
	}
	if len(d.idle) != 1 {
		t.Errorf("%d connections, want 1", len(d.idle))
	}
}
