package postgres

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// viewRow reads the only row of a query as text, NULL as "-".
func viewRow(t *testing.T, s *Store, columns, from string, args ...any) string {
	t.Helper()
	var parts []string
	for column := range strings.SplitSeq(columns, ", ") {
		parts = append(parts, "COALESCE(("+column+")::text, '-')")
	}
	all := sqlOf(t, s, "SELECT concat_ws(' | ', "+strings.Join(parts, ", ")+") FROM "+from, args...)
	if len(all) != 1 {
		t.Fatalf("%s: %d rows, want 1", from, len(all))
	}
	return all[0]
}

// viewTime is a time as viewRow shows it.
func viewTime(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	text := at.UTC().Format("2006-01-02 15:04:05.000000")
	return strings.TrimRight(strings.TrimRight(text, "0"), ".") + "+00"
}

// viewed is a store with a session whose delivery was tried once.
func viewed(t *testing.T, payload string) (s *Store, d engine.Delivery) {
	t.Helper()
	s = openFresh(t)
	sqlOf(t, s, "ALTER ROLE hookbolt SET timezone = 'UTC'")
	made, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, Name: "CRM", URL: "https://a.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendNew(s); err != nil {
		t.Fatal(err)
	}
	results, err := s.ClaimDue(t.Context(), benchNow(), []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: made.Webhook.ID}, Room: 1}})
	if err != nil || len(results[0].Claimed) != 1 {
		t.Fatalf("claimed %+v (%v)", results, err)
	}
	d = results[0].Claimed[0].Delivery
	if _, err := s.Freeze(t.Context(), engine.Freeze{Delivery: d, Payload: []byte(payload), Events: 5, At: benchNow()}); err != nil {
		t.Fatal(err)
	}
	attempt := engine.Attempt{Outcome: engine.Outcome{StartedAt: benchNow(), Status: 503, Error: "http_status", Duration: 1500 * time.Microsecond}}
	r, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: attempt, At: benchNow(),
		Next: engine.Next{Status: engine.StatusPending, At: benchNow().Add(time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	return s, r.Delivery
}

// The views show what is stored as people read it.
func TestViews(t *testing.T) {
	s, d := viewed(t, `{"answers": ["ä"]}`)
	record, _, err := s.Session(t.Context(), d.SessionID)
	if err != nil {
		t.Fatal(err)
	}
	_, _, attempts, err := s.Delivery(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	h, a := record.Head, attempts[0]
	for _, c := range []struct{ columns, from, want string }{
		{"session_id, state, content_id, poltio_user_id, events, bytes, first_received_at, last_received_at, started_at, finished_at", "@.view_sessions",
			fmt.Sprint(h.ID, " | complete | ", h.Identity.ContentID, " | 88120457 | 5 | ", h.Bytes, " | ", viewTime(h.FirstReceivedAt), " | ", viewTime(h.LastReceivedAt), " | ",
				viewTime(h.StartedAt), " | ", viewTime(h.FinishedAt))},
		{"id, webhook_id, webhook, session_id, content_id, poltio_user_id, kind, status", "@.view_deliveries",
			fmt.Sprint(d.ID, " | ", d.WebhookID, " | CRM | ", h.ID, " | ", h.Identity.ContentID, " | 88120457 | complete | pending")},
		{"created_at, due_at, next_attempt_at, frozen_at, finished_at, attempts_made, last_status, last_error, late_events", "@.view_deliveries",
			fmt.Sprint(viewTime(d.CreatedAt), " | ", viewTime(d.DueAt), " | ", viewTime(d.NextAttemptAt), " | ", viewTime(d.FrozenAt), " | - | 1 | 503 | http_status | 0")},
		{"payload->'answers'->>0, payload_text", "@.view_deliveries", `ä | {"answers": ["ä"]}`},
		{"delivery_id, n, webhook_id, webhook, session_id, started_at, duration_ms::float, status, error", "@.view_attempts",
			fmt.Sprint(d.ID, " | 1 | ", d.WebhookID, " | CRM | ", h.ID, " | ", viewTime(a.StartedAt), " | 1.5 | 503 | http_status")},
		{"webhook_id, webhook, test, next_attempt_at, due, delivery_id, session_id, kind, status, attempts_made, last_status, last_error", "@.view_waiting",
			fmt.Sprint(d.WebhookID, " | CRM | false | ", viewTime(d.NextAttemptAt), " | false | ", d.ID, " | ", h.ID, " | complete | pending | 1 | 503 | http_status")},
	} {
		if got := viewRow(t, s, c.columns, c.from); got != c.want {
			t.Errorf("%s has\n%s\nwant\n%s", c.from, got, c.want)
		}
	}
}

// A body that is not JSON, or not text, does not end a query.
func TestViewsOfAnyPayload(t *testing.T) {
	s, d := viewed(t, `{}`)
	for body, want := range map[string]string{
		`{"a":1}`:                    `{"a":1} | {"a":1}`,
		"a=1&b=2":                    "- | a=1&b=2",
		"\xff\xfe":                   "- | -",
		"{\"a\":\"\x00\"}":           "- | -",
		"\"\\u0000\"":                "\"\\ufffd\" | \"\\u0000\"",
		strings.Repeat("[", 100_000): "- | " + strings.Repeat("[", 100_000),
		"":                           "- | ",
	} {
		sqlOf(t, s, "UPDATE @.payloads SET body = $1 WHERE delivery_id = $2 RETURNING ''", []byte(body), pgID(d.ID))
		if got := viewRow(t, s, "payload, payload_text", "@.view_deliveries"); got != want {
			t.Errorf("the body %.40q is shown as %.80q, want %.80q", body, got, want)
		}
	}
}

// The operators of PostgreSQL refuse JSON with \u0000, which visitors can send. One such payload, or name of a webhook, ends no query, and shows the rest.
func TestViewsOfNUL(t *testing.T) {
	s, d := viewed(t, `{}`)
	w := *s.Webhooks().Get(d.WebhookID)
	w.Name = "C\x00M \\u0000"
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w}); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{"a":"\u0000b\u0000\u0000","c":"d"}`: "C\ufffdM \\u0000 | \ufffdb\ufffd\ufffd | d",
		`{"a":"\\u0000","c":"\\\u0000"}`:      `C` + "\ufffd" + `M \u0000 | \u0000 | \` + "\ufffd",
		`{"a":"\ud83d\ude00","c":"\u00e4"}`:   "C\ufffdM \\u0000 | 😀 | ä",
		`{"a":"\ud83d","c":"d"}`:              "C\ufffdM \\u0000 | - | -",
	} {
		sqlOf(t, s, "UPDATE @.payloads SET body = $1 WHERE delivery_id = $2 RETURNING ''", []byte(body), pgID(d.ID))
		if got := viewRow(t, s, "webhook, payload->>'a', payload->>'c'", "@.view_deliveries"); got != want {
			t.Errorf("the body %s is shown as %q, want %q", body, got, want)
		}
	}
	for _, view := range []string{"@.view_attempts", "@.view_waiting"} {
		if got, want := viewRow(t, s, "webhook", view), "C\ufffdM \\u0000"; got != want {
			t.Errorf("%s shows the name %q, want %q", view, got, want)
		}
	}
}

// Every state and kind has the name that the API gives it.
func TestViewsNameAll(t *testing.T) {
	s := openFresh(t)
	for _, status := range engine.Statuses {
		if got := sqlOf(t, s, "SELECT @.view_status($1)", int16(status)); got[0] != status.String() {
			t.Errorf("status %d is named %s, want %s", status, got[0], status)
		}
	}
	for kind := engine.KindComplete; kind <= engine.KindUpdate; kind++ {
		if got := sqlOf(t, s, "SELECT @.view_kind($1)", int16(kind)); got[0] != kind.String() {
			t.Errorf("kind %d is named %s, want %s", kind, got[0], kind)
		}
	}
	if next := engine.KindUpdate + 1; !strings.HasPrefix(next.String(), "Kind(") {
		t.Errorf("the kind %s is new: name it in a migration", next)
	}
}

// What the page says can be run, and a role that has the views alone sees nothing else: the settings of webhooks have secrets.
func TestViewsAsDocumented(t *testing.T) {
	s, d := viewed(t, `{"leads": []}`)
	page, err := os.ReadFile("../../docs/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	role := fmt.Sprintf("reporter_%d", time.Now().UnixNano())
	here := strings.NewReplacer("hookbolt.", s.sql("@."), "SCHEMA hookbolt", s.sql("SCHEMA @"), "reporter", role, "018f3b5a-0000-7000-8000-000000000000", d.ID.String())
	conn, err := pgx.Connect(t.Context(), postgrestest.Shared(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	t.Cleanup(func() {
		if conn, err := pgx.Connect(context.Background(), postgrestest.Shared(t).URL()); err == nil {
			_, _ = conn.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role, pgx.QueryExecModeSimpleProtocol)
			closeConn(conn)
		}
	})
	blocks := regexp.MustCompile("(?ms)^```sql.*?\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 3 {
		t.Fatalf("the page has %d blocks of SQL", len(blocks))
	}
	for _, b := range blocks {
		if _, err := conn.Exec(t.Context(), here.Replace(b[1]), pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("%v\n%s", err, b[1])
		}
	}
	if _, err := conn.Exec(t.Context(), "SET ROLE "+role); err != nil {
		t.Fatal(err)
	}
	for _, view := range []string{"sessions", "deliveries", "attempts", "waiting"} {
		var n int
		if err := conn.QueryRow(t.Context(), s.sql("SELECT count(*) FROM @.view_"+view)).Scan(&n); err != nil || n != 1 {
			t.Errorf("the view %s shows %d rows (%v), want 1", view, n, err)
		}
		documented := sqlOf(t, s, "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0", s.sql("@.view_"+view))
		for _, column := range documented {
			if !strings.Contains(string(page), "`"+column+"`") {
				t.Errorf("the page lacks %s of %s", column, view)
			}
		}
	}
	for _, text := range []string{"SELECT FROM @.webhooks", "SELECT FROM @.sessions", "SELECT FROM @.deliveries", "SELECT FROM @.payloads", "SELECT payload FROM @.view_deliveries"} {
		if _, err := conn.Exec(t.Context(), s.sql(text)); err == nil {
			t.Errorf("the role may run %s", text)
		}
	}
}
