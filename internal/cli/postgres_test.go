package cli_test

import (
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/postgrestest"
)

// urlOf is the URL of a database of a cluster, for a role.
func urlOf(c *postgrestest.Cluster, role, database string) string {
	return (&url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database, RawQuery: url.Values{"host": {c.Dir()}}.Encode()}).String()
}

// The command makes what the server needs: the SQL that it prints and what it runs are the same, it may be repeated, and the role that it makes can serve and can
// make no table.
func TestPostgresInit(t *testing.T) {
	c := postgrestest.Start(t, postgrestest.Options{})
	admin, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	for _, name := range []string{"printed", `"with-Capitals"`} {
		if _, err := admin.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
			t.Fatal(err)
		}
	}
	code, sql, log := hookbolttest.Run(t, "postgres", "init", "-print")
	if code != 0 || !strings.Contains(sql, "CREATE TABLE") {
		t.Fatalf("-print: exit code %d\n%s%s", code, sql, log)
	}
	if psql, err := exec.LookPath("psql"); err == nil {
		for range 2 {
			cmd := exec.CommandContext(t.Context(), psql, "-v", "ON_ERROR_STOP=1", "-q", urlOf(c, "hookbolt", "printed"))
			cmd.Stdin = strings.NewReader(sql)
			if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "already") {
				t.Fatalf("psql: %v\n%s", err, out)
			}
		}
	}
	const schema, role = "Hooks-1", "the app"
	database := urlOf(c, "hookbolt", "with-Capitals")
	for range 2 { // it may be repeated
		code, out, log := hookbolttest.Run(t, "postgres", "init", "-schema", schema, "-role", role, "-owner", "the owner", database)
		if want := "the schema \"Hooks-1\" is ready for the role \"the app\"; a new role has no password yet: \\password \"the app\" "; code != 0 || !strings.HasPrefix(out, want) {
			t.Fatalf("init: exit code %d\n%s%s", code, out, log)
		}
	}
	app := urlOf(c, role, "with-Capitals")
	config := hookbolttest.Write(t, filepath.Join(t.TempDir(), "config.toml"),
		fmt.Sprintf("[http]\nlisten = \"127.0.0.1:0\"\n[storage]\ndriver = \"postgres\"\npostgres_url = %q\npostgres_schema = %q\n", app, schema))
	p := hookbolttest.Start(t, "serve", "-config", config)
	status, answer := hookbolttest.Call(t, "POST", p.URL(t)+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, status, answer)
	code, out, log := hookbolttest.Run(t, "status", "-url", p.URL(t))
	if !strings.Contains(out, ", ready") || strings.Contains(out, "?") || strings.Contains(out, "NaN") || strings.Contains(out, "file") {
		t.Errorf("status: exit code %d\n%s%s", code, out, log)
	}

	if code, out, log := hookbolttest.Run(t, "healthcheck", "-url", p.URL(t)); code != 0 || out != "ready\n" {
		t.Errorf("healthcheck: exit code %d\n%s%s", code, out, log)
	}
	code, webhooks, log := hookbolttest.Run(t, "dump", "-url", p.URL(t))
	if code != 0 {
		t.Errorf("dump: exit code %d\n%s%s", code, webhooks, log)
	}
	conn, err := pgx.Connect(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, forbidden := range []string{`CREATE TABLE "Hooks-1".mine (n int)`, `DROP TABLE "Hooks-1".sessions`, `TRUNCATE "Hooks-1".sessions`, "CREATE SCHEMA mine"} {
		if _, err := conn.Exec(t.Context(), forbidden); err == nil {
			t.Errorf("the role of the server may: %s", forbidden)
		}
	}
}

// What cannot be done is told in words, without the password.
func TestPostgresInitErrors(t *testing.T) {
	c := postgrestest.Shared(t)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"postgres"}, 2, "the only subcommand is init"},
		{[]string{"postgres", "init"}, 2, "URL"},
		{[]string{"postgres", "init", "nothing"}, 1, "postgres init: "},
		{[]string{"postgres", "init", "-schema", "pg_mine", c.URL()}, 2, `-schema: must be a name of 1 to 63 bytes that does not begin with "pg_" (got "pg_mine")`},
		{[]string{"postgres", "init", "-print", "-role", strings.Repeat("r", 64)}, 2, "-role: must be a name of 1 to 63 bytes"},
		{[]string{"postgres", "init", "-owner", "", c.URL()}, 2, "-owner: must be a name of 1 to 63 bytes"},
		{[]string{"check", "-schema", "", c.URL()}, 2, "-schema: must be a name of 1 to 63 bytes"},
		{[]string{"postgres", "init", "postgres://hookbolt:hunter2@127.0.0.1:1/hookbolt"}, 1, "the database server cannot be reached"},
		{[]string{"postgres", "init", "postgres://hookbolt:hun%ter2@127.0.0.1:1/hookbolt"}, 1, "the special characters of the password as %XX"},
		{[]string{"postgres", "init", urlOf(c, "hookbolt", "nowhere")}, 1, "the database does not exist"},
		{[]string{"postgres", "init", urlOf(c, "nobody", "hookbolt")}, 1, "the database server refuses hookbolt's role"},
	} {
		code, out, log := hookbolttest.Run(t, test.args...)
		if code != test.code || !strings.Contains(out+log, test.want) || strings.Contains(out+log, "hunter2") || strings.Contains(out+log, "ter2@") {
			t.Errorf("%q: exit code %d, want %d and %q\n%s%s", test.args, code, test.code, test.want, out, log)
		}
	}
}
