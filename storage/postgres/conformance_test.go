package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
	"hookbolt/storage/postgres"
	"hookbolt/storage/storetest"
)

// checked is a store whose database is checked after it was closed.
type checked struct {
	*postgres.Store
	opts postgres.Options
}

func (s checked) Close() error {
	if err := s.Store.Close(); err != nil {
		return err
	}
	report, err := postgres.Check(context.Background(), s.opts)
	return errors.Join(err, errors.Join(report.Violations...))
}

// The store keeps all promises of engine.Store, also those that are about several processes, and its tables fit each other whenever it was closed.
func TestConformancePostgres(t *testing.T) {
	cluster := postgrestest.Shared(t)
	storetest.Run(t, storetest.Backend{Shared: true, New: func(tb storetest.TB) storetest.Opener {
		database := cluster.Database(tb)
		var first *postgres.Store
		return func() (storetest.Store, error) {
			o := postgres.Options{URL: cluster.URL(), Schema: database.Schema, Connections: database, Shared: true, Beat: 600 * time.Millisecond}
			s, err := postgres.Open(tb.Context(), o)
			if err != nil {
				return nil, err
			}
			if first == nil {
				first = s
			} else {
				postgres.AwaitMember(first, s)
			}
			return checked{s, o}, nil
		}
	}})
}
