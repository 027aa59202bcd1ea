// Package teststore opens the stores of tests that work on any store: a bbolt file, or PostgreSQL if HOOKBOLT_TEST_STORE is postgres.
//
//	HOOKBOLT_TEST_STORE=postgres go test ./httpapi/... ./engine
//
// A package whose tests open a store calls [Main] in TestMain. A test that holds for one store alone says so with [BoltOnly].
package teststore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/memdir"
	"hookbolt/internal/postgrestest"
	"hookbolt/storage/bolt"
	"hookbolt/storage/postgres"
)

// storeVar is the environment variable that names the store. Without it, tests use bbolt.
const storeVar = "HOOKBOLT_TEST_STORE"

// Postgres reports whether tests use PostgreSQL.
func Postgres() bool { return os.Getenv(storeVar) == "postgres" }

// Main is the run of a package's tests, for goleak.VerifyTestMain. Their files are in memory, see package memdir: the store
// syncs as ever, but waits for no disk. A crash is one of the process here, so that makes no difference for what is left.
type Main struct{ *testing.M }

// Run runs the tests.
func (m Main) Run() int {
	defer memdir.Use()()
	switch os.Getenv(storeVar) {
	case "", "bolt":
		return m.M.Run()
	case "postgres":
		return postgrestest.Run(m.M)
	}
	fmt.Fprintf(os.Stderr, "%s must be bolt or postgres\n", storeVar)
	return 2
}

// BoltOnly skips a test that does not hold for PostgreSQL, and says why.
func BoltOnly(tb testing.TB, why string) {
	tb.Helper()
	if Postgres() {
		tb.Skip("not on PostgreSQL: " + why)
	}
}

// Store is a store under test.
type Store interface {
	engine.Store
	Close() error
}

// Database is an empty database.
type Database struct {
	path     string           // of the file
	postgres postgres.Options // if it is no file
}

// New makes a database, which is removed at the end of the test.
func New(tb testing.TB) *Database {
	tb.Helper()
	return In(tb, "")
}

// In is New with a directory for the file, which is test.db, in place of the test's own. On PostgreSQL it returns the same database for the same directory of a test.
func In(tb testing.TB, dir string) *Database {
	tb.Helper()
	if !Postgres() {
		if dir == "" {
			dir = tb.TempDir()
		}
		return &Database{path: filepath.Join(dir, "test.db")}
	}
	if known, ok := inDir.Load(dir); ok && dir != "" {
		return known.(*Database)
	}
	c := postgrestest.Shared(tb)
	d := c.Database(tb)
	// The clock of a bubble differs from the server's, so they are not compared; and its days are long, so the background work rests.
	made := &Database{postgres: postgres.Options{URL: c.URL(), Schema: d.Schema, Connections: d, MaxSkew: -1, FoldInterval: 10 * time.Minute}}
	if dir != "" {
		inDir.Store(dir, made)
		tb.Cleanup(func() { inDir.Delete(dir) })
	}
	return made
}

// inDir has the databases on PostgreSQL that stand for a file in a directory.
var inDir sync.Map

// Config returns the lines of the section "storage" of a configuration file.
func (d *Database) Config() string {
	if d.path != "" {
		return fmt.Sprintf("path = '%s'", d.path)
	}
	return fmt.Sprintf("driver = \"postgres\"\npostgres_url = %q\npostgres_schema = %q", d.postgres.URL, d.postgres.Schema)
}

// Path returns the path of the file, "" on PostgreSQL.
func (d *Database) Path() string { return d.path }

// Open opens the store. It is checked and closed when the test ends, unless the test has closed it with Close.
func (d *Database) Open(tb testing.TB) Store {
	tb.Helper()
	s, err := d.open(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { Close(tb, s) })
	return s
}

func (d *Database) open(ctx context.Context) (Store, error) {
	if d.path == "" {
		s, err := postgres.Open(ctx, d.postgres)
		if err != nil {
			return nil, err
		}
		return &onPostgres{s, d.postgres}, nil
	}
	return bolt.Open(d.path, bolt.Options{})
}

// Open opens a store on a new database. It is checked and closed when the test ends.
func Open(tb testing.TB) Store {
	tb.Helper()
	return New(tb).Open(tb)
}

// onPostgres is a store, and what it was opened with.
type onPostgres struct {
	*postgres.Store
	opts postgres.Options
}

var closed sync.Map // Store to true

// Close checks and closes a store that Open has opened, unless that was done before.
func Close(tb testing.TB, s Store) {
	tb.Helper()
	if _, done := closed.Swap(s, true); done {
		return
	}
	var violations []error
	var err error
	switch s := s.(type) {
	case *bolt.Store:
		violations = s.Check()
		err = s.Close()
	case *onPostgres:
		if err = s.Close(); err == nil {
			var report postgres.Report
			report, err = postgres.Check(context.WithoutCancel(tb.Context()), s.opts)
			violations = report.Violations
		}
	}
	for _, err := range violations {
		tb.Errorf("database check: %v", err)
	}
	if err != nil {
		tb.Error(err)
	}
}
