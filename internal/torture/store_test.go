package torture

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
	"hookbolt/storage/postgres"
)

// store is where the data of a rig is.
type store interface {
	// settings are the lines that name it in the section [storage] of the configuration.
	settings() string
	// inspect checks it whole and reads it, while no process has it open. requests are how many came under each id.
	inspect(ctx context.Context, scratch string, requests map[uuid.UUID]int) (inspection, error)
}

// file is a bbolt database.
type file struct{ path string }

func (f file) settings() string { return fmt.Sprintf("path = %q", f.path) }

func (f file) inspect(ctx context.Context, scratch string, _ map[uuid.UUID]int) (inspection, error) {
	return inspect(ctx, f.path, scratch)
}

// schema is a database in PostgreSQL.
type schema struct {
	direct string // the URL of the server
	url    string // the one for hookbolt, which may lead through something in between
	name   string
}

// newSchema makes a place for a rig in a cluster.
func newSchema(t *testing.T, c *postgrestest.Cluster) *schema {
	return &schema{direct: c.URL(), url: c.URL(), name: c.Schema(t)}
}

func (s *schema) settings() string {
	return fmt.Sprintf("driver = \"postgres\"\npostgres_url = %q\npostgres_schema = %q", s.url, s.name)
}

// inspect takes the database over first: after that, nothing that the server still works on can be committed. Attempts are read where more requests came
// than are recorded, because each read is a few round trips.
func (s *schema) inspect(ctx context.Context, _ string, requests map[uuid.UUID]int) (found inspection, err error) {
	o := postgres.Options{URL: s.direct, Schema: s.name, MaxSkew: -1}
	opened, err := postgres.Open(ctx, o)
	if err != nil {
		return found, err
	}
	defer opened.Close()
	report, err := postgres.Check(ctx, o)
	if err != nil {
		return found, err
	}
	for _, v := range report.Violations {
		found.Violations = append(found.Violations, v.Error())
	}
	return found, found.read(ctx, opened, func(d *engine.Delivery) bool { return requests[d.ID] > d.Attempts })
}
