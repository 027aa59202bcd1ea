package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Setup says what Init makes: a schema whose tables belong to a role that nobody signs in with, and a role for hookbolt that may only work with their rows.
type Setup struct {
	// Schema defaults to "hookbolt".
	Schema string
	// Owner is the role that owns the tables, and migrates them. Defaults to "hookbolt_owner".
	Owner string
	// Role is the one of Options.URL. Defaults to "hookbolt".
	Role string
}

func (u Setup) withDefaults() Setup {
	u.Schema, u.Owner, u.Role = cmp.Or(u.Schema, defaultSchema), cmp.Or(u.Owner, "hookbolt_owner"), cmp.Or(u.Role, "hookbolt")
	return u
}

// quoted puts quoted names in the place of $schema, $owner and $role, and of the @ of migrations.
func (u Setup) quoted(text string) string {
	schema := pgx.Identifier{u.Schema}.Sanitize()
	return strings.NewReplacer("@", schema, "$schema", schema, "$owner", pgx.Identifier{u.Owner}.Sanitize(), "$role", pgx.Identifier{u.Role}.Sanitize()).Replace(text)
}

// makeRole is the SQL that makes a role if it is missing.
func makeRole(name, can string) string {
	return "DO " + textLiteral(fmt.Sprintf("BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %s) THEN CREATE ROLE %s %s; END IF; END",
		textLiteral(name), pgx.Identifier{name}.Sanitize(), can))
}

func textLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// rolesSQL makes the roles and the schema where they are missing. It takes a role that may make roles, in a database of its own.
func (u Setup) rolesSQL() []string {
	texts := []string{makeRole(u.Owner, "NOLOGIN"), makeRole(u.Role, "LOGIN")}
	for _, text := range []string{
		"GRANT $owner TO CURRENT_USER",
		"CREATE SCHEMA IF NOT EXISTS $schema AUTHORIZATION $owner",
		"GRANT USAGE ON SCHEMA $schema TO $role",
		"ALTER DEFAULT PRIVILEGES FOR ROLE $owner IN SCHEMA $schema GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO $role",
		"ALTER DEFAULT PRIVILEGES FOR ROLE $owner IN SCHEMA $schema GRANT USAGE, SELECT ON SEQUENCES TO $role",
	} {
		texts = append(texts, u.quoted(text))
	}
	return append(texts, RoleSettings(pgx.Identifier{u.Role}.Sanitize())...)
}

// rightsSQL gives the role what it needs, as the owner. The version of the schema is the owner's to change.
func (u Setup) rightsSQL() []string {
	return []string{
		u.quoted("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA $schema TO $role"),
		u.quoted("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA $schema TO $role"),
		u.quoted("REVOKE INSERT, UPDATE, DELETE ON $schema.schema FROM $role"),
	}
}

// SQL returns the script for psql that does what Init does to a database without the schema.
func (u Setup) SQL() string {
	u = u.withDefaults()
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	write := func(texts ...string) {
		for _, text := range texts {
			b.WriteString(strings.TrimRight(strings.TrimSpace(text), ";") + ";\n")
		}
	}
	write(u.rolesSQL()...)
	write(u.quoted("SET LOCAL ROLE $owner"), u.quoted(schemaTable))
	for _, step := range thisSchema.steps {
		write(u.quoted(step))
	}
	write(u.quoted(fmt.Sprintf("UPDATE @.schema SET version = %d, writable_by = %d", thisSchema.version(), thisSchema.writableBy)))
	write(u.rightsSQL()...)
	b.WriteString("COMMIT;\n")
	return b.String()
}

// Init makes the roles and the schema in the database at url, or brings them up to date: it may be called again, and must be after an update of hookbolt
// that migrates. The role of url must be a superuser, or may make roles and schemas. A new role has no password.
func Init(ctx context.Context, url string, u Setup) error {
	u = u.withDefaults()
	config, err := parseURL(url, true) // somebody is at the keyboard
	if err != nil {
		return err
	}
	conn, err := newServers(config).connect(ctx, pgx.ConnectConfig)
	if err != nil {
		return startError(err)
	}
	defer closeConn(conn)
	run := func(texts ...string) error {
		for _, text := range texts {
			if _, err := conn.Exec(ctx, text, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		return nil
	}
	// Several may run at once. They take turns: roles belong to all databases, and the server lets only one of them be made at a time.
	roles := append([]string{"BEGIN", fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", migrateLock)}, u.rolesSQL()...)
	if err := run(append(roles, "COMMIT", u.quoted("SET ROLE $owner"))...); err != nil {
		return err
	}
	s := newStore(Options{Schema: u.Schema}, config)
	if err := s.migrate(ctx, conn); err != nil {
		return err
	}
	return run(append(append([]string{"BEGIN", fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", migrateLock)}, u.rightsSQL()...), "COMMIT")...)
}

// DropSchema removes a schema with all that is in it. Whoever has it open cannot write any more.
func DropSchema(ctx context.Context, o Options) error {
	config, err := parseURL(o.URL, o.Insecure)
	if err != nil {
		return fmt.Errorf("storage.postgres_url: %w", err)
	}
	conn, err := newServers(config).connect(ctx, pgx.ConnectConfig)
	if err == nil {
		defer closeConn(conn)
		_, err = conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{o.Schema}.Sanitize()+" CASCADE")
	}
	if err != nil {
		return fmt.Errorf("drop the schema %s: %w", o.Schema, startError(err))
	}
	return nil
}

// explainRights adds what to do to the error of a role that may not migrate.
func explainRights(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "42501" || pg.Code == "3F000") { // the latter: a schema that it could not make
		return fmt.Errorf("%w; the owner of the tables must make or migrate them: \"hookbolt postgres init URL\" with the URL of an administrator", err)
	}
	return err
}
