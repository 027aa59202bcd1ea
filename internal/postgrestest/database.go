package postgrestest

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Database is a schema and its connections, which tests use one after another. It finds its tables empty, and its connections warm: the server knows the
// tables and has plans for the statements. A new schema with new connections takes the server half a second, and this one some milliseconds.
//
// A Database implements the Connections of package postgres. A test that changes tables, roles or the server needs a [Cluster.Schema].
type Database struct {
	// Schema is the name of the schema. The first store that is opened on it makes its tables.
	Schema string

	cluster *Cluster

	mu   sync.Mutex
	idle []*pgx.Conn // guarded by mu
}

// Database lends a database to a test, which gives it back empty at its end. Its stores must be closed by then.
func (c *Cluster) Database(tb interface{ Cleanup(func()) }) *Database {
	c.filing.Lock()
	defer c.filing.Unlock()
	var d *Database
	if last := len(c.databases) - 1; last >= 0 {
		d, c.databases = c.databases[last], c.databases[:last]
	} else {
		d = &Database{Schema: newSchema(), cluster: c}
	}
	tb.Cleanup(func() {
		if !d.empty() { // a test has changed the tables, or holds a lock
			return
		}
		c.filing.Lock()
		defer c.filing.Unlock()
		c.databases = append(c.databases, d)
	})
	return d
}

// Open returns a connection that works: one that was released, or a new one.
func (d *Database) Open(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	for {
		d.mu.Lock()
		last := len(d.idle) - 1
		if last < 0 {
			d.mu.Unlock()
			return dial(ctx, config)
		}
		conn := d.idle[last]
		d.idle = d.idle[:last]
		d.mu.Unlock()
		if conn.Ping(ctx) == nil {
			return conn, nil
		}
		_ = conn.Close(ctx) // it does not work
	}
}

// Release keeps a connection for the next store.
func (d *Database) Release(conn *pgx.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle = append(d.idle, conn)
}

// layoutSQL describes the tables, functions and triggers of a schema.
const layoutSQL = `SELECT concat_ws(' ', (SELECT string_agg(relname || relkind::text || relnatts, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = n.oid),
	(SELECT count(*) FROM pg_proc WHERE pronamespace = n.oid), (SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = n.oid AND NOT tgisinternal))
	FROM pg_namespace n WHERE nspname = $1`

// emptySQL makes the statements that remove all rows but those that a new schema has, and begin its sequences anew.
const emptySQL = `SELECT format('DELETE FROM %I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = $1 AND tablename NOT IN ('schema', 'fleet')
	UNION ALL SELECT format('SELECT setval(%L, %s, false)', format('%I.%I', schemaname, sequencename), start_value) FROM pg_sequences WHERE schemaname = $1`

// empty makes the schema empty for the next test, and reports whether it can be used again.
func (d *Database) empty() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var layout string
	var texts []string
	err := d.use(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, layoutSQL, d.Schema).Scan(&layout); err != nil {
			return err // a missing schema, too
		}
		rows, err := conn.Query(ctx, emptySQL, d.Schema)
		if err != nil {
			return err
		}
		texts, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err == nil {
		err = d.exec(texts...)
	}
	d.cluster.filing.Lock()
	defer d.cluster.filing.Unlock()
	d.cluster.layout = cmp.Or(d.cluster.layout, layout)
	return err == nil && layout == d.cluster.layout
}

// use calls f with a connection.
func (d *Database) use(ctx context.Context, f func(*pgx.Conn) error) error {
	config, err := pgx.ParseConfig(d.cluster.URL())
	if err != nil {
		return err
	}
	conn, err := d.Open(ctx, config)
	if err != nil {
		return err
	}
	if err := f(conn); err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	d.Release(conn)
	return nil
}

// exec runs statements in a transaction.
func (d *Database) exec(texts ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return d.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET client_min_messages = warning;"+strings.Join(texts, ";"), pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// dials has the connections that a test wants; nil without Run.
var dials chan dialing

type dialing struct {
	config *pgx.ConnConfig
	answer func(*pgx.Conn, error)
}

// Run runs the tests of a package some of which use a Database within a bubble of testing/synctest. What such a test makes ends with its bubble, so
// connections are opened by a goroutine outside. It starts the cluster that [Shared] returns, for the same reason.
func Run(m interface{ Run() int }) int {
	_, _ = shared() // the first test reports the error
	dials = make(chan dialing)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for d := range dials {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			d.answer(pgx.ConnectConfig(ctx, d.config))
			cancel()
		}
	}()
	defer func() {
		close(dials)
		<-done
	}()
	return m.Run()
}

func dial(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	if dials == nil {
		return pgx.ConnectConfig(ctx, config)
	}
	var mu sync.Mutex
	var conn *pgx.Conn
	var err error
	mu.Lock()
	dials <- dialing{config, func(c *pgx.Conn, e error) {
		conn, err = c, e
		mu.Unlock()
	}}
	mu.Lock() // not a channel: one of a bubble cannot be used outside
	defer mu.Unlock()
	return conn, err
}
