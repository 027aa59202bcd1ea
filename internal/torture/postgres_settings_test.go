package torture

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/internal/postgrestest"
)

// trustingPostgres looks at the server's settings at the start alone.
var trustingPostgres = mutantFlock.shared("postgres-trusting", edit{file: "storage/postgres/startcheck.go", old: "\tcase synchronous == \"off\":\n", new: "\tcase synchronous == \"off\" && !mutant(\"postgres-trusting\"):\n"})

// roleSettings are what somebody may have set for hookbolt's role, all at once: hookbolt works with them.
var roleSettings = []string{
	"statement_timeout = '200ms'", "lock_timeout = '50ms'", "idle_session_timeout = '300ms'", "idle_in_transaction_session_timeout = '100ms'", "TimeZone = 'Asia/Kathmandu'",
	"bytea_output = 'escape'", "standard_conforming_strings = 'off'", "search_path = 'pg_temp'", "default_transaction_isolation = 'serializable'", "client_encoding = 'LATIN1'",
	"DateStyle = 'German, DMY'", "IntervalStyle = 'sql_standard'", "extra_float_digits = 0", "quote_all_identifiers = on", "default_transaction_deferrable = on", "work_mem = '64kB'",
	"enable_indexscan = off", "enable_indexonlyscan = off", "row_security = off", "array_nulls = off", "escape_string_warning = off", "client_min_messages = 'debug5'",
	"plan_cache_mode = 'force_custom_plan'", "synchronous_commit = 'local'",
}

// A role has settings of all kinds, from the start or from some moment on: hookbolt works with them as with none. Where it would lose events, or cannot write, it
// says so at its start in one line, and a process that runs answers 503 until it is mended.
func TestPostgresSettings(t *testing.T) {
	experiment(t)
	c := postgrestest.SharedDurable(t)
	binary := build(t)
	r := random(t, "adversary", 0)
	v := settingsRound(t, c, binary, r, roleSettings)
	if *longForm {
		for _, one := range roleSettings {
			v.add(settingsRound(t, c, binary, r, []string{one}))
		}
	}
	for setting, says := range map[string]string{"synchronous_commit = off": "synchronous_commit is off", "default_transaction_read_only = on": "transactions are read only here"} {
		g := newRig(t, rigOptions{binary: binary, schema: newRole(t, c, setting).schema})
		if wrong := refuses(g.launch(), says); wrong != "" {
			t.Errorf("%s: %s", setting, wrong)
		}
	}
	summarize(t, "PostgreSQL, settings of the role: %d together, 2 refused; %v", len(roleSettings), v)
	v.hold(t)
}

func TestPostgresSettingsControl(t *testing.T) {
	experiment(t)
	line := caught(t, "settings looked at once", func(r *rand.Rand) *verdict {
		return settingsRound(t, postgrestest.SharedDurable(t), build(t, trustingPostgres...), r, nil)
	})
	if line != "" {
		summarize(t, "PostgreSQL, settings of the role, control %q: caught: %s", "settings looked at once", firstLines(line, 1))
	}
}

// refuses says what is wrong with how a process refused to start; "" if it says why in one line.
func refuses(s *server, why string) string {
	code, err := s.wait(20 * time.Second)
	if err != nil {
		s.kill()
		return err.Error()
	}
	said := s.log.String()
	_, last, _ := strings.Cut("\n"+said, "\nhookbolt: ") // what it says of the server comes before
	if code != 1 || strings.Count(last, "\n") != 1 || !strings.Contains(last, why) {
		return fmt.Sprintf("it should say %q in one line, and exit with 1; it has exited with %d:\n%s", why, code, said)
	}
	return ""
}

// role is a role that signs in, and a schema of its own.
type role struct {
	*schema
	name string // quoted
}

var roles atomic.Int64

// newRole makes a role with settings, which may make a schema.
func newRole(t *testing.T, c *postgrestest.Cluster, settings ...string) role {
	t.Helper()
	name := fmt.Sprintf("role %d", roles.Add(1))
	v := role{newSchema(t, c), pgx.Identifier{name}.Sanitize()}
	all := []string{"CREATE ROLE " + v.name + " LOGIN", "GRANT CREATE ON DATABASE hookbolt TO " + v.name}
	for _, one := range settings {
		all = append(all, "ALTER ROLE "+v.name+" SET "+one)
	}
	for _, text := range all {
		if err := execute(t, c.URL(), text); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(name)
	v.schema.url = u.String()
	return v
}

// settingsRound lets a rig work with a role that has settings, and that gets one which would lose events for a while.
func settingsRound(t *testing.T, c *postgrestest.Cluster, binary string, r *rand.Rand, settings []string) *verdict {
	who := newRole(t, c, settings...)
	g := newRig(t, rigOptions{binary: binary, schema: who.schema, manner: difficult})
	s := g.setUp()
	const name = "Grüße, привет, 🎉"
	if err := call(t.Context(), "PATCH", s.url()+"/v1/webhooks/1", map[string]any{"name": name}, nil); err != nil {
		g.books.complain("%v", err)
	}
	load := g.produce(8)
	reconnect := func() {
		err := execute(t, c.URL(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", strings.Trim(who.name, `"`))
		if err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		pass(between(r, 400*time.Millisecond, time.Second), s.exited)
		reconnect()
		if _, err := g.takenIn(s, 20*time.Second); err != nil {
			g.books.complain("%v", err)
			return g.abandon(load)
		}
	}
	change := func(text string) {
		if err := execute(t, c.URL(), "ALTER ROLE "+who.name+text); err != nil {
			t.Error(err)
		}
		reconnect()
	}
	change(" SET synchronous_commit = off")
	why := ""
	if !await(5*time.Second, func() bool { why = notReady(s); return strings.Contains(why, "synchronous_commit") }) {
		g.books.complain("/readyz does not tell of synchronous_commit: %s", why)
	}
	pass(time.Second, s.exited) // for what was acknowledged before
	if _, err := g.takenIn(s, 2*time.Second); err == nil {
		g.books.complain("events are acknowledged although a crash may lose them")
	}
	change(" RESET synchronous_commit")
	if _, err := g.takenIn(s, 20*time.Second); err != nil {
		g.books.complain("%v", err)
		return g.abandon(load)
	}
	load.halt()
	v := g.finish(s)
	if err := execute(t, c.URL(), "SELECT 1 / count(*) FROM "+pgx.Identifier{who.schema.name}.Sanitize()+".webhooks WHERE settings->>'name' = $1", name); err != nil {
		v.trouble = append(v.trouble, fmt.Sprintf("%s: the webhook %q has another name in the database: %v", settings, name, err))
	}
	return v
}

// notReady is what /readyz says.
func notReady(s *server) string {
	resp, err := http.Get(s.url() + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return resp.Status + " " + string(body)
}
