package copying_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
	"hookbolt/storage/bolt"
	"hookbolt/storage/internal/copying"
	"hookbolt/storage/postgres"
	"hookbolt/storage/storetest"
)

// moved is a store that lives in a file and in a database by turns: when it is closed, it is copied to the other one.
type moved struct {
	storetest.Store
	move func() error
}

func (m moved) Close() error { return errors.Join(m.Store.Close(), m.move()) }

// fleet is where a moved store lives.
type fleet struct {
	file     string // "" for none
	database postgres.Options
	dir      string
	n        int
	schema   func() string
}

// toDatabase copies the file to a new schema, and toFile copies that to a new file.
func (f *fleet) toDatabase() error {
	f.database.Schema = f.schema()
	err := bolt.ReadFile(f.file, func(r copying.Reader) error {
		return postgres.WriteDatabase(context.Background(), f.database, func(w copying.Writer) error { return run(r, w) })
	})
	f.file = ""
	return err
}

func (f *fleet) toFile() error {
	f.n++
	f.file = filepath.Join(f.dir, fmt.Sprintf("%d.db", f.n))
	return postgres.ReadDatabase(context.Background(), f.database, func(r copying.Reader) error {
		return bolt.WriteFile(f.file, func(w copying.Writer) error { return run(r, w) })
	})
}

func run(r copying.Reader, w copying.Writer) error {
	_, _, err := copying.Run(context.Background(), r, w, copying.Options{Damaged: func(error) {}, Progress: func(string, int64, int64) {}})
	return err
}

func (f *fleet) open(ctx context.Context) (storetest.Store, error) {
	if f.file == "" {
		s, err := postgres.Open(ctx, f.database)
		return moved{s, f.toFile}, err
	}
	s, err := bolt.Open(f.file, bolt.Options{})
	return moved{s, func() error {
		report, err := bolt.CheckFile(f.file)
		return errors.Join(err, errors.Join(report.Violations...), f.toDatabase())
	}}, err
}

var tryAll = flag.Bool("copy.all", false, "try all rules on moved stores, which takes minutes")

// everyNth is which rules are tried on moved stores without -copy.all.
const everyNth = 30

// A store keeps all promises also if it is moved from a file to a database, or back, whenever it was closed.
func TestConformanceOfMovedStores(t *testing.T) {
	cluster := postgrestest.Shared(t)
	for _, first := range []string{"file", "database"} {
		t.Run(first, func(t *testing.T) {
			backend := storetest.Backend{New: func(tb storetest.TB) storetest.Opener {
				f := &fleet{dir: t.TempDir(), database: postgres.Options{URL: cluster.URL(), FoldInterval: 40 * time.Millisecond},
					schema: func() string { return cluster.Schema(tb) }}
				f.database.Schema = f.schema()
				if first == "file" {
					f.file = filepath.Join(f.dir, "0.db")
				}
				return func() (storetest.Store, error) { return f.open(tb.Context()) }
			}}
			for i, rule := range storetest.Rules {
				if rule.Shared || !*tryAll && i%everyNth != 0 {
					continue
				}
				t.Run(rule.Name, func(t *testing.T) {
					t.Parallel()
					rule.Check(t, backend)
				})
			}
		})
	}
}
