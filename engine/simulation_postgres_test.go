package engine_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
	"hookbolt/storage/postgres"
)

// postgresDatabase is a schema of a PostgreSQL server. A crash is that the next process takes the schema over: the one before can store nothing
// more, and what it had in memory is gone.
type postgresDatabase struct {
	*postgres.Store
	next func() (*postgres.Store, error)
	left *postgres.Store // set by crash: the store of the next process
}

// onPostgres has a simulation use a schema. The clocks differ, so they are not compared; and days are long, so the background work rests.
func (s *sim) onPostgres(url, schema string) {
	open := func() (*postgres.Store, error) {
		return postgres.Open(s.ctx, postgres.Options{URL: url, Schema: schema, MaxSkew: -1, FoldInterval: 10 * time.Minute})
	}
	var last *postgresDatabase
	s.database = func() (simDatabase, error) {
		d := &postgresDatabase{next: open}
		var err error
		if last != nil && last.left != nil {
			d.Store = last.left
		} else if d.Store, err = open(); err != nil {
			return nil, err
		}
		last = d
		return d, nil
	}
}

func (d *postgresDatabase) Check() []error { return nil }

func (d *postgresDatabase) saveStale() error { return errors.New("a server cannot be set back") }

func (d *postgresDatabase) crash() (err error) {
	d.left, err = d.next()
	return err
}

func (d *postgresDatabase) end(crashed bool) error {
	if err := d.Close(); !crashed {
		return err
	}
	return nil // it was shut out
}

// TestSimulationPostgres is TestSimulation on PostgreSQL, for the first seeds of it. A day takes much longer than on a file: each of its commits is two
// round trips.
func TestSimulationPostgres(t *testing.T) {
	cluster := postgrestest.Shared(t)
	seeds, days := (*simSeeds+3)/4, (*simDays+2)/3
	simulate(t, seeds, days, func(t *testing.T) func(*sim) {
		schema := cluster.Schema(t)
		return func(s *sim) { s.onPostgres(cluster.URL(), schema) }
	})
}

// TestPostgresInABubble holds that the store can live in a simulation: time passes there only while it has nothing to do, and a crash leaves the
// database to the next process.
func TestPostgresInABubble(t *testing.T) {
	cluster := postgrestest.Shared(t)
	schema := cluster.Schema(t)
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, 1, 1)
		s.onPostgres(cluster.URL(), schema)
		first, err := s.database()
		if err != nil {
			t.Fatal(err)
		}
		for day := range 3 {
			begun := time.Now()
			if _, err := first.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took != 0 {
				t.Errorf("day %d: a call took %s of the bubble's time", day, took)
			}
			time.Sleep(24 * time.Hour)
		}
		if err := first.crash(); err != nil {
			t.Fatal(err)
		}
		second, err := s.database()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(second.Webhooks().All()); n != 3 {
			t.Errorf("after the crash there are %d webhooks, want 3", n)
		}
		if err := errors.Join(first.end(true), second.end(false)); err != nil {
			t.Error(err)
		}
	})
}
