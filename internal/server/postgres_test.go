package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/postgrestest"
)

// writePostgresConfig writes a configuration file for a free port and a schema of PostgreSQL that nobody uses, and returns its path.
func writePostgresConfig(t *testing.T) (path, schema string) {
	t.Helper()
	c := postgrestest.Shared(t)
	schema = c.Schema(t)
	return hookbolttest.Write(t, filepath.Join(t.TempDir(), "config.toml"), fmt.Sprintf(
		"[http]\nlisten = \"127.0.0.1:0\"\n[storage]\ndriver = \"postgres\"\npostgres_url = %q\npostgres_schema = %q\n[delivery]\nallow_networks = [\"127.0.0.0/8\"]\n", c.URL(), schema)), schema
}

// TestServePostgres does the main job of the README on PostgreSQL: a webhook is made, a session is posted and delivered, lists and pages show it, also
// after a restart, and it is erased.
func TestServePostgres(t *testing.T) {
	bodies := make(chan string, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { bodies <- r.Header.Get("webhook-id") }))
	defer endpoint.Close()
	config, _ := writePostgresConfig(t)
	p := hookbolttest.Start(t, "serve", "-config", config)
	api := p.URL(t)
	call := func(want int, method, path, body string) string {
		t.Helper()
		status, answer := hookbolttest.Call(t, method, api+path, body)
		hookbolttest.WantStatus(t, want, status, answer)
		return answer
	}
	call(201, "POST", "/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	call(202, "POST", "/v1/events", hookbolttest.Session)
	var id string
	select {
	case id = <-bodies:
	case <-time.After(hookbolttest.Timeout):
		t.Fatal("no webhook arrived")
	}
	delivered := func() bool {
		var list struct{ Items []struct{ ID, Status string } }
		if err := json.Unmarshal([]byte(call(200, "GET", "/v1/deliveries", "")), &list); err != nil {
			t.Fatal(err)
		}
		return len(list.Items) == 1 && list.Items[0].ID == id && list.Items[0].Status == "delivered"
	}
	for end := time.Now().Add(hookbolttest.Timeout); !delivered(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the delivery is not listed as delivered")
		}
	}
	call(200, "GET", "/", "")
	call(200, "GET", "/readyz", "")
	if answer := call(409, "GET", "/v1/backup", ""); !strings.Contains(answer, "pg_dump") {
		t.Errorf("backup: %s", answer)
	}
	if metrics := call(200, "GET", "/metrics", ""); !strings.Contains(metrics, "\nhookbolt_postgres_up 1\n") || strings.Contains(metrics, "hookbolt_storage_disk_free_bytes") ||
		!strings.Contains(metrics, `hookbolt_deliveries{status="delivered"} 1`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	if code := p.End(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}

	api = hookbolttest.Start(t, "serve", "-config", config).URL(t)
	if !delivered() {
		t.Error("the delivery is lost with the restart")
	}
	var sessions struct{ Items []struct{ SessionID string } }
	if err := json.Unmarshal([]byte(strings.ReplaceAll(call(200, "GET", "/v1/sessions", ""), "session_id", "SessionID")), &sessions); err != nil || len(sessions.Items) != 1 {
		t.Fatalf("sessions: %+v, %v", sessions, err)
	}
	call(200, "DELETE", "/v1/sessions/"+sessions.Items[0].SessionID, "")
	call(404, "GET", "/v1/sessions/"+sessions.Items[0].SessionID, "")
	call(404, "GET", "/v1/deliveries/"+id, "")
	select {
	case again := <-bodies:
		t.Errorf("%s was sent again", again)
	default:
	}
}

// A server does not end with its database: it says what is wrong, and goes on when it is back. Its watchdog is reset meanwhile.
func TestServeWithoutItsDatabase(t *testing.T) {
	config, _ := writePostgresConfig(t)
	p := hookbolttest.Start(t, "serve", "-config", config)
	api := p.URL(t)
	conn, err := pgx.Connect(t.Context(), strings.Replace(postgrestest.Shared(t).URL(), "/hookbolt?", "/postgres?", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	open := func() error {
		_, err := conn.Exec(context.Background(), "ALTER DATABASE hookbolt ALLOW_CONNECTIONS true")
		return err
	}
	defer open()
	before := len(p.Stderr.String())
	for _, text := range []string{"ALTER DATABASE hookbolt ALLOW_CONNECTIONS false", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hookbolt'"} {
		if _, err := conn.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(want int, detail string) {
		t.Helper()
		for end := time.Now().Add(2 * hookbolttest.Timeout); ; time.Sleep(20 * time.Millisecond) {
			status, answer := hookbolttest.Call(t, "GET", api+"/readyz", "")
			if status == want && strings.Contains(answer, detail) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("/readyz says %d %s, want %d %s", status, answer, want, detail)
			}
		}
	}
	wait(503, "not ready: the database ")
	for range 3 { // it is no news to those who ask
		for _, path := range []string{"/metrics", "/", "/v1/deliveries", "/readyz"} {
			hookbolttest.Call(t, "GET", api+path, "")
		}
	}
	status, answer := hookbolttest.Call(t, "GET", api+"/healthz", "")
	hookbolttest.WantStatus(t, 200, status, answer)
	if err := open(); err != nil {
		t.Fatal(err)
	}
	wait(200, "ready")
	lines := strings.Split(strings.TrimSpace(p.Stderr.String()[before:]), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "the database is away") || !strings.Contains(lines[1], "the database is back") {
		t.Errorf("the log has %d lines of the outage, want one of its begin and one of its end:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	status, answer = hookbolttest.Call(t, "POST", api+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, status, answer)
}
