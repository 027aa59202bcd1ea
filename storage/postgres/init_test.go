package postgres

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/internal/postgrestest"
)

// newDatabase makes an empty database, and returns its URL. Roles are of all databases, so each test has names of its own.
func newDatabase(t *testing.T, name string) string {
	t.Helper()
	admin(t, "CREATE DATABASE "+name)
	return strings.Replace(postgrestest.Shared(t).URL(), "/hookbolt?", "/"+name+"?", 1)
}

// wantLeastRights tries what the role of a server may do, and what it may not.
func wantLeastRights(t *testing.T, url string, u Setup) {
	t.Helper()
	u = u.withDefaults()
	url = as(t, url, u.Role)
	s := openAt(t, Options{URL: url, Schema: u.Schema})
	if _, err := appendOne(s); err != nil {
		t.Fatalf("append: %v", err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, text := range []string{"CREATE TABLE @.x (i int)", "DROP TABLE @.events", "TRUNCATE @.events", "ALTER TABLE @.events ADD COLUMN x int", "UPDATE @.schema SET version = 99",
		"CREATE SCHEMA other", "CREATE ROLE other", u.quoted("SET ROLE $owner")} {
		_, err := conn.Exec(t.Context(), s.sql(text))
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
			t.Errorf("%s: got %v, want a refusal", text, err)
		}
	}
	var timeout string
	if err := conn.QueryRow(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&timeout); err != nil || timeout != "2s" {
		t.Errorf("a session of the role begins with the timeout %q, %v", timeout, err)
	}
}

// Init makes roles with least rights, and may be repeated.
func TestInit(t *testing.T) {
	url := newDatabase(t, "init_0")
	u := Setup{Schema: `s "1`, Owner: "owner_0", Role: `r's "1`}
	for range 2 {
		if err := Init(t.Context(), url, u); err != nil {
			t.Fatal(err)
		}
	}
	wantLeastRights(t, url, u)
	if err := Init(t.Context(), url, u); err != nil {
		t.Errorf("beside a server: %v", err)
	}
	// Tables that the owner makes later, in a migration, are the role's to work with, too.
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var may bool
	text := u.quoted("SET ROLE $owner; CREATE TABLE @.later (i int GENERATED ALWAYS AS IDENTITY)")
	if _, err := conn.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), "SELECT has_table_privilege("+textLiteral(u.Role)+", "+textLiteral(u.quoted("@.later"))+", 'SELECT, INSERT')").Scan(&may); err != nil || !may {
		t.Errorf("the role may not use a later table: %v", err)
	}
}

// Several containers of a deployment may run it at once.
func TestInitAtOnce(t *testing.T) {
	url := newDatabase(t, "init_at_once")
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := Init(t.Context(), url, Setup{Owner: "owner_at_once", Role: "app_at_once"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A name may hold whatever ends or begins a quotation elsewhere. What is run and what is printed are the same.
func TestInitNames(t *testing.T) {
	for i, name := range []string{"a$$b", "$do$", "$role $owner", `o'brien\`, "x.job", "owner'"} {
		for _, isPrinted := range []bool{false, true} {
			database := fmt.Sprintf("init_names_%d_%t", i, isPrinted)
			url := newDatabase(t, database)
			u := Setup{Schema: name + "@", Owner: fmt.Sprintf("%s owner %s", name, database), Role: fmt.Sprintf("%s role %s", name, database)}
			if isPrinted {
				conn, err := pgx.Connect(t.Context(), url)
				if err != nil {
					t.Fatal(err)
				}
				_, err = conn.Exec(t.Context(), u.SQL(), pgx.QueryExecModeSimpleProtocol)
				conn.Close(t.Context())
				if err != nil {
					t.Errorf("the SQL for %q: %v", name, err)
					continue
				}
			} else if err := Init(t.Context(), url, u); err != nil {
				t.Errorf("init of %q: %v", name, err)
				continue
			}
			wantLeastRights(t, url, u)
		}
	}
}

// An administrator need not be a superuser.
func TestInitWithoutSuperuser(t *testing.T) {
	url := newDatabase(t, "init_1")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, text := range []string{"CREATE ROLE administrator LOGIN CREATEROLE", "GRANT CREATE ON DATABASE init_1 TO administrator"} {
		if _, err := conn.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	u := Setup{Owner: "owner_1", Role: "app_1"}
	if err := Init(t.Context(), as(t, url, "administrator"), u); err != nil {
		t.Fatal(err)
	}
	wantLeastRights(t, url, u)
}

// The printed SQL does the same.
func TestInitSQL(t *testing.T) {
	url := newDatabase(t, "init_2")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	u := Setup{Owner: "owner_2", Role: "app_2"}
	text := u.SQL()
	if strings.Contains(text, "@") || strings.Contains(text, "$role") {
		t.Errorf("not all names are filled in:\n%s", text)
	}
	if _, err := conn.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	wantLeastRights(t, url, u)
}

// A role that may not migrate is told who may.
func TestMigrationTakesTheOwner(t *testing.T) {
	url := newDatabase(t, "init_3")
	if err := Init(t.Context(), url, Setup{Owner: "owner_3", Role: "app_3"}); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "UPDATE hookbolt.schema SET version = 0, writable_by = 0"); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{URL: as(t, url, "app_3")})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), `"hookbolt postgres init URL"`) {
		t.Errorf("got %v, want what to do", err)
	}
}
