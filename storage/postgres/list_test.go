package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
	"hookbolt/storage/internal/fields"
)

// large are the numbers of rows that fillLarge makes.
const (
	largeDeliveries = 30_000
	largeSessions   = 15_000
	largeWebhooks   = 30
)

// fillLarge fills a store by SQL: sessions with events, and deliveries in all states, one each second until now. Of each webhook most are delivered. Of 20
// of them one is scheduled, one failed and one filtered. It returns the time of the first delivery.
func fillLarge(t *testing.T, s *Store) (first time.Time) {
	t.Helper()
	first = benchNow().Add(-largeDeliveries * time.Second)
	session, delivery := &sessionRow{SessionHead: engine.SessionHead{Identity: engine.Identity{ContentType: "quiz"}}}, &deliveryRow{}
	conn, err := pgx.Connect(t.Context(), postgrestest.Shared(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	run := func(text string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), s.sql(text), args...); err != nil {
			t.Fatal(err)
		}
	}
	run("INSERT INTO @.sessions ("+sessionColumns+") SELECT n, md5('s' || n)::uuid, md5('c' || n % 7)::uuid, n % 1000, 1, 100, 1, "+
		"$1::bigint + n * 2000000000::bigint, 1, 1, CASE n % 3 WHEN 0 THEN 0 ELSE 1 END, $2 FROM generate_series(1, $3) n", fields.Instant(first), session.head(), largeSessions)
	run(`INSERT INTO @.events (session_no, n, received_at, body) SELECT n, 1, 1, convert_to('[{"session_id":"' || md5('s' || n)::uuid || '","type":"lead","lead":{"email":"' || n || '@example.com"}}]', 'UTF8') `+
		"FROM generate_series(1, $1) n", largeSessions)
	run("INSERT INTO @.deliveries ("+deliveryColumns+") SELECT (lpad(to_hex($1::bigint / 1000000 + n * 1000::bigint), 12, '0') || '7000b' || lpad(to_hex(n), 15, '0'))::uuid, n % $3 + 1, 1, n / 2, md5('s' || n / 2)::uuid, "+
		"md5('c' || n / 2 % 7)::uuid, NULL, 1, CASE n / $3 % 20 WHEN 0 THEN 1 WHEN 1 THEN 4 WHEN 2 THEN 6 ELSE 3 END, "+
		"$1::bigint + n * 1000000000::bigint, 1, CASE n / $3 % 20 WHEN 0 THEN $1::bigint + n * 1000000000::bigint ELSE 0 END, 1, 1, 0, 0, 0, '', 0, false, $2 "+
		"FROM generate_series(1, $4) n", fields.Instant(first), delivery.rest(), largeWebhooks, largeDeliveries)
	run("INSERT INTO @.queue SELECT webhook_id, 0, next_at, id FROM @.deliveries WHERE status = 1")
	run("INSERT INTO @.exceptions SELECT webhook_id, status, id FROM @.deliveries WHERE status IN (4, 6)")
	all := make(deltas)
	for n := range largeDeliveries {
		r := &deliveryRow{Delivery: engine.Delivery{WebhookID: uint32((n+1)%largeWebhooks + 1), Status: engine.StatusDelivered}}
		switch (n + 1) / largeWebhooks % 20 {
		case 0:
			r.Status = engine.StatusScheduled
		case 1:
			r.Status = engine.StatusFailed
		case 2:
			r.Status = engine.StatusFiltered
		}
		all.add(r, 1)
	}
	for id, c := range all {
		run("INSERT INTO @.counts VALUES ($1, $2)", int32(id), deltas{id: c}.encode())
	}
	return first
}

// recorder records the statements of connections that are made from now on.
type recorder struct {
	mu  sync.Mutex
	all []statement // guarded by mu
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.Contains(data.SQL, " FROM ") && !strings.Contains(data.SQL, "set_config") {
		r.all = append(r.all, statement{data.SQL, data.Args})
	}
	return ctx
}

func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// literal is an argument as it stands in SQL.
func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case pgtype.UUID:
		if !v.Valid {
			return "NULL"
		}
		return "'" + uuid.UUID(v.Bytes).String() + "'"
	case uuids:
		var all []string
		for _, id := range v {
			all = append(all, id.String())
		}
		return "'{" + strings.Join(all, ",") + "}'"
	case string:
		return "'" + v + "'"
	case []int16, []int32, []int64:
		return "'{" + strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]") + "}'"
	}
	return fmt.Sprint(v)
}

// plan is a node of what EXPLAIN returns.
type plan struct {
	Kind   string  `json:"Node Type"`
	Table  string  `json:"Relation Name"`
	Rows   float64 `json:"Actual Rows"`
	Loops  float64 `json:"Actual Loops"`
	Remove float64 `json:"Rows Removed by Filter"`
	Plans  []plan
}

// read returns how many rows a plan has read from tables of the store, and reports scans of whole tables.
func (p *plan) read(t *testing.T, sql string) (rows float64) {
	if p.Kind == "Seq Scan" && strings.Contains("sessions events deliveries queue exceptions marks attempts payloads", p.Table) {
		t.Errorf("%s is read as a whole by %s", p.Table, sql)
	}
	if p.Table != "" && !strings.HasPrefix(p.Table, "pg_") {
		rows = (p.Rows + p.Remove) * p.Loops
	}
	for i := range p.Plans {
		rows += p.Plans[i].read(t, sql)
	}
	return rows
}

// readBy returns how many rows statements read, by plans that are made without regard to their arguments.
func readBy(t *testing.T, s *Store, all []statement) (rows float64) {
	t.Helper()
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	for i, st := range all {
		name := fmt.Sprintf("st%d", i)
		var args []string
		for _, v := range st.args {
			args = append(args, literal(v))
		}
		text := "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE " + name
		if len(args) > 0 {
			text += "(" + strings.Join(args, ", ") + ")"
		}
		if _, err := conn.Exec(t.Context(), "PREPARE "+name+" AS "+st.sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", st.sql, err)
		}
		var body []byte
		if err := conn.QueryRow(t.Context(), text, pgx.QueryExecModeSimpleProtocol).Scan(&body); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var plans []struct{ Plan plan }
		if err := json.Unmarshal(body, &plans); err != nil {
			t.Fatal(err)
		}
		rows += plans[0].Plan.read(t, st.sql)
	}
	return rows
}

// A page reads about as many rows as it shows, also from large tables, whatever the planner knows of them.
func TestPagesAreBounded(t *testing.T) {
	s := openFresh(t)
	first := fillLarge(t, s)
	r := new(recorder)
	s.servers.all[0].Tracer = r
	middle := first.Add(largeDeliveries / 2 * time.Second)
	deliveries := func(q engine.DeliveryQuery) func(string) (string, error) {
		return func(cursor string) (string, error) {
			q.Limit, q.Cursor = 20, cursor
			page, err := s.Deliveries(t.Context(), q)
			if len(page.Items) == 0 {
				t.Errorf("%+v: a page has no deliveries", q)
			}
			return page.NextCursor, err
		}
	}
	sessions := func(q engine.SessionQuery) func(string) (string, error) {
		return func(cursor string) (string, error) {
			q.Limit, q.Cursor = 20, cursor
			page, err := s.Sessions(t.Context(), q)
			return page.NextCursor, err
		}
	}
	pages := []struct {
		name string
		most float64 // rows, for two pages
		page func(cursor string) (string, error)
	}{
		{"all", 300, deliveries(engine.DeliveryQuery{})},
		{"all, until", 1000, deliveries(engine.DeliveryQuery{Until: middle})},
		{"of a webhook", 500, deliveries(engine.DeliveryQuery{WebhookID: 7})},
		{"of a webhook, since and until", 1000, deliveries(engine.DeliveryQuery{WebhookID: 7, Until: middle, Since: first})},
		{"delivered", 1000, deliveries(engine.DeliveryQuery{Status: engine.StatusDelivered})},
		{"delivered of a webhook", 1500, deliveries(engine.DeliveryQuery{Status: engine.StatusDelivered, WebhookID: 7})},
		{"failed", 8000, deliveries(engine.DeliveryQuery{Status: engine.StatusFailed})},
		{"filtered of a webhook, until", 500, deliveries(engine.DeliveryQuery{Status: engine.StatusFiltered, WebhookID: 7, Until: middle})},
		{"scheduled", 8000, deliveries(engine.DeliveryQuery{Status: engine.StatusScheduled})},
		{"scheduled of a webhook", 500, deliveries(engine.DeliveryQuery{Status: engine.StatusScheduled, WebhookID: 7})},
		{"sessions", 500, sessions(engine.SessionQuery{})},
		{"sessions since and until", 3000, sessions(engine.SessionQuery{Since: first, Until: middle})},
		{"sessions with a person", 4 * largeSessions, sessions(engine.SessionQuery{Email: "nobody@example.com"})},
		{"incomplete sessions", 2000, sessions(engine.SessionQuery{State: engine.SessionIncomplete})},
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			analyze(t, s)
		}
		for _, p := range pages {
			r.all = nil
			cursor, err := p.page("")
			if err == nil && cursor != "" {
				_, err = p.page(cursor)
			}
			if err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
			if rows := readBy(t, s, r.all); rows > p.most {
				t.Errorf("%s, analyzed: %t: two pages have read %v rows, want %v at most", p.name, analyzed, rows, p.most)
			}
		}
	}
}

// analyze lets the planner know the tables.
func analyze(t *testing.T, s *Store) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), postgrestest.Shared(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, table := range []string{"sessions", "events", "deliveries", "queue", "exceptions"} {
		if _, err := conn.Exec(t.Context(), s.sql("VACUUM ANALYZE @."+table)); err != nil {
			t.Fatal(err)
		}
	}
}

// Lanes of which one statement reads a part are put together in order, with nothing left out.
func TestLanesArePutTogether(t *testing.T) {
	s := openFresh(t)
	first := fillLarge(t, s)
	for _, q := range []engine.DeliveryQuery{{Status: engine.StatusScheduled}, {Status: engine.StatusFailed}, {Status: engine.StatusFailed, Since: first.Add(time.Hour), Until: first.Add(2 * time.Hour)}} {
		err := s.snapshot(t.Context(), func(tx pgx.Tx) error {
			walk := func(step int) (all []spot) {
				w, err := s.chooseWalk(t.Context(), tx, &q)
				if err != nil {
					t.Fatal(err)
				}
				w.from = lastSpot
				for more := true; more; {
					var spots []spot
					if spots, more, err = s.nextSpots(t.Context(), tx, w, step); err != nil {
						t.Fatal(err)
					}
					all = append(all, spots...)
					w.from = all[len(all)-1]
				}
				return all
			}
			whole := walk(largeDeliveries)
			if len(whole) < 100 || !slices.IsSortedFunc(whole, func(a, b spot) int { return b.compare(a) }) {
				t.Errorf("%+v: %d places, in no order", q, len(whole))
			}
			if parts := walk(7); !slices.Equal(parts, whole) {
				t.Errorf("%+v: in parts %d places, want %d, or others", q, len(parts), len(whole))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// The deliveries of one session that wait come by their next attempt, as all that wait.
func TestSessionsWaitingByNextAttempt(t *testing.T) {
	s := openTest(t)
	for i := range 5 {
		w := engine.Webhook{Active: true, URL: "https://a.example/", Delay: int64(60 * (i * 3 % 5))}
		if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := appendNew(s); err != nil {
		t.Fatal(err)
	}
	q := engine.DeliveryQuery{Status: engine.StatusScheduled, Limit: 2}
	all, err := s.Deliveries(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	q.SessionID = all.Items[0].SessionID
	var got []engine.Delivery
	for {
		page, err := s.Deliveries(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page.Items...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
	}
	if len(got) != 5 || !slices.IsSortedFunc(got, func(a, b engine.Delivery) int { return b.NextAttemptAt.Compare(a.NextAttemptAt) }) {
		t.Errorf("%d deliveries, in no order", len(got))
	}
}
