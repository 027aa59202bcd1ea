package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/storage/internal/copying"
)

// migrations are the steps from one version of the schema to the next: migrations[0] makes version 1. They only add, so that a process of an earlier
// version can still read and write; one that must not write any more raises writableBy.
var migrations = [...]string{`
CREATE TABLE @.members (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, version int NOT NULL, began_at bigint NOT NULL);
CREATE TABLE @.writers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, member bigint NOT NULL REFERENCES @.members ON DELETE CASCADE);
CREATE TABLE @.batches (writer bigint NOT NULL, n bigint NOT NULL, counts bytea,
	CONSTRAINT batches_pkey PRIMARY KEY (writer, n),
	CONSTRAINT batches_writer_fkey FOREIGN KEY (writer) REFERENCES @.writers ON DELETE CASCADE);

CREATE SEQUENCE @.webhook_ids MAXVALUE 2147483647;
CREATE TABLE @.webhooks (id int PRIMARY KEY, revision bigint NOT NULL, operations boolean NOT NULL, settings json NOT NULL);
CREATE UNIQUE INDEX webhooks_operations ON @.webhooks (operations) WHERE operations;
CREATE TABLE @.health (webhook_id int PRIMARY KEY, health json NOT NULL);

CREATE SEQUENCE @.session_nos INCREMENT 10000;
CREATE TABLE @.sessions (no bigint PRIMARY KEY, id uuid NOT NULL CONSTRAINT sessions_id_key UNIQUE, content_id uuid NOT NULL, visitor bigint,
	events int NOT NULL, bytes bigint NOT NULL, batches int NOT NULL,
	first_at bigint NOT NULL, last_at bigint NOT NULL, started_at bigint NOT NULL, finished_at bigint NOT NULL, head bytea NOT NULL) WITH (fillfactor = 80);
CREATE TABLE @.events (session_no bigint NOT NULL, n int NOT NULL, received_at bigint NOT NULL, ids bytea, body bytea NOT NULL, PRIMARY KEY (session_no, n));
CREATE TABLE @.marks (session_no bigint NOT NULL, webhook_id int NOT NULL, kind smallint NOT NULL, delivery_id uuid NOT NULL,
	PRIMARY KEY (session_no, webhook_id, kind, delivery_id));

CREATE TABLE @.deliveries (id uuid PRIMARY KEY, webhook_id int NOT NULL, revision bigint NOT NULL, session_no bigint NOT NULL, session_id uuid NOT NULL,
	content_id uuid NOT NULL, visitor bigint, kind smallint NOT NULL, status smallint NOT NULL, created_at bigint NOT NULL, due_at bigint NOT NULL,
	next_at bigint NOT NULL, frozen_at bigint NOT NULL, finished_at bigint NOT NULL, attempts int NOT NULL, tries int NOT NULL, last_status int NOT NULL,
	last_error text NOT NULL, late_events int NOT NULL, has_payload boolean NOT NULL, rest bytea NOT NULL) WITH (fillfactor = 70);
CREATE INDEX deliveries_webhook ON @.deliveries (webhook_id, id);
CREATE TABLE @.payloads (delivery_id uuid PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE @.attempts (delivery_id uuid NOT NULL, n int NOT NULL, started_at bigint NOT NULL, duration bigint NOT NULL, status int NOT NULL,
	error text NOT NULL, rest bytea NOT NULL, PRIMARY KEY (delivery_id, n));
CREATE TABLE @.queue (webhook_id int NOT NULL, class smallint NOT NULL, at bigint NOT NULL, delivery_id uuid NOT NULL,
	PRIMARY KEY (webhook_id, class, at, delivery_id))
	WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE @.exceptions (webhook_id int NOT NULL, status smallint NOT NULL, delivery_id uuid NOT NULL, PRIMARY KEY (webhook_id, status, delivery_id));
CREATE TABLE @.expiry (kind smallint NOT NULL, at bigint NOT NULL, no bigint GENERATED ALWAYS AS IDENTITY, ids bytea NOT NULL, PRIMARY KEY (kind, at, no));

CREATE TABLE @.counts (webhook_id int PRIMARY KEY, counts bytea NOT NULL);
CREATE SEQUENCE @.numbers;
CREATE TABLE @.jobs (no bigint PRIMARY KEY, job json NOT NULL);
CREATE TABLE @.fan_outs (no bigint PRIMARY KEY, sessions int NOT NULL, body bytea NOT NULL);
CREATE TABLE @.request_keys (key bytea PRIMARY KEY, at bigint NOT NULL, done json NOT NULL);
CREATE INDEX request_keys_at ON @.request_keys (at);
CREATE TABLE @.copies (state json NOT NULL);
` + views, `
ALTER TABLE @.members ADD beat bigint NOT NULL DEFAULT 0, ADD state smallint NOT NULL DEFAULT 0, ADD seen bytea, ADD claimed bytea, ADD impeded bytea, ADD about json;
ALTER TABLE @.writers ADD adopted boolean NOT NULL DEFAULT false;
ALTER TABLE @.batches ADD news bytea;
CREATE TABLE @.lanes (webhook_id int PRIMARY KEY, owner bigint REFERENCES @.members ON DELETE SET NULL);
CREATE TABLE @.fleet (epoch bigint NOT NULL, layout bigint NOT NULL);
INSERT INTO @.fleet VALUES (0, 0);
CREATE TABLE @.sign_ins (id bytea PRIMARY KEY, token bytea NOT NULL, end_at bigint NOT NULL);
CREATE TABLE @.history (minute bigint NOT NULL, process bigint NOT NULL, counts bytea NOT NULL, PRIMARY KEY (minute, process));
CREATE TABLE @.recent (webhook_id int PRIMARY KEY, at bigint NOT NULL, last json NOT NULL);
` + views}

// writableBy is the oldest version of hookbolt's schema whose processes may write to this one. Those of version 1 tell others nothing of what they do.
const writableBy = 2

// schemaPlan is how a schema is made. steps[i] makes version i+1.
type schemaPlan struct {
	steps      []string
	writableBy int
}

// version is the one that the last step makes.
func (p schemaPlan) version() int { return len(p.steps) }

var thisSchema = schemaPlan{migrations[:], writableBy}

// ErrSchema is returned by Open when a newer hookbolt made the schema, and this one may not write to it.
var ErrSchema = errors.New("the database was made by a newer version of hookbolt")

const (
	// migrateLock is the key of the advisory lock under which a schema is made or migrated.
	migrateLock int64 = 0x686f6f6b626f6c74
	// A migration that waits for a table lets everybody else wait behind it. So it waits for migratePatience, lets the others pass, and begins anew;
	// maxMigrateTries times, since a backup may read a table for long.
	migratePatience = 2 * time.Second
	migratePause    = time.Second
	maxMigrateTries = 20
)

// migrate makes the schema, or brings it up to date.
func (s *Store) migrate(ctx context.Context, conn *pgx.Conn) error {
	for try := 1; ; try++ {
		err := s.tryMigrate(ctx, conn)
		pg, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pg.Code != "55P03" && pg.Code != "40P01" { // lock_not_available, deadlock_detected
			return err
		}
		if try == maxMigrateTries {
			return fmt.Errorf("%w; something has held a lock on the tables all the time, such as a backup: wait until it has ended", err)
		}
		select {
		case <-time.After(migratePause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryMigrate is migrate in a single transaction.
func (s *Store) tryMigrate(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) // does nothing after a commit
	// A step may write a large table anew.
	_, err = tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', '0', true), pg_advisory_xact_lock($2)",
		milliseconds(migratePatience), migrateLock)
	if err != nil {
		return err
	}
	last := s.plan.version()
	version, writable, err := s.schemaOf(ctx, tx)
	switch {
	case err != nil:
		return err
	case writable > last:
		return s.newerSchema(version)
	case version >= last:
		return s.refuseCopy(ctx, tx)
	}
	for _, step := range s.plan.steps[version:] {
		if _, err := tx.Exec(ctx, s.sql(step), pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("migrate from version %d: %w", version, err)
		}
	}
	if _, err := tx.Exec(ctx, s.sql("UPDATE @.schema SET version = $1, writable_by = $2"), last, s.plan.writableBy); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (s *Store) newerSchema(version int) error {
	return fmt.Errorf("%w (its schema has version %d, and this one knows %d)", ErrSchema, version, s.plan.version())
}

// refuseNewer returns an ErrSchema if this version must not write to the schema.
func (s *Store) refuseNewer(ctx context.Context, tx pgx.Tx) error {
	var version, writable int
	err := tx.QueryRow(ctx, s.sql("SELECT version, writable_by FROM @.schema")).Scan(&version, &writable)
	if err == nil && writable > s.plan.version() {
		err = s.newerSchema(version)
	}
	return err
}

// refuseCopy returns a copying.ErrUnfinished if a copy into the database is not complete.
func (s *Store) refuseCopy(ctx context.Context, tx pgx.Tx) error {
	var unfinished bool
	err := tx.QueryRow(ctx, s.sql("SELECT EXISTS (SELECT FROM @.copies)")).Scan(&unfinished)
	if err == nil && unfinished {
		err = copying.ErrUnfinished
	}
	return err
}

// schemaTable makes the table that has the version of the schema.
const schemaTable = "CREATE TABLE @.schema (version int NOT NULL, writable_by int NOT NULL); INSERT INTO @.schema VALUES (0, 0)"

// schemaOf returns the version of the schema, 0 for an empty one, which it makes where there is none. A role that may not make a schema can use one
// that somebody has made for it.
func (s *Store) schemaOf(ctx context.Context, tx pgx.Tx) (version, writable int, err error) {
	var hasSchema, hasTable bool
	err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1), "+
		"EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'schema')", s.opts.Schema).Scan(&hasSchema, &hasTable)
	if err != nil {
		return 0, 0, err
	}
	if !hasTable {
		text := schemaTable
		if !hasSchema {
			text = "CREATE SCHEMA IF NOT EXISTS @; " + text
		}
		_, err := tx.Exec(ctx, s.sql(text), pgx.QueryExecModeSimpleProtocol)
		return 0, 0, err
	}
	err = tx.QueryRow(ctx, s.sql("SELECT version, writable_by FROM @.schema")).Scan(&version, &writable)
	return version, writable, err
}
