package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// planNode is a node of a plan.
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Cond     string     `json:"Index Cond"`
	TIDCond  string     `json:"TID Cond"`
	Plans    []planNode `json:"Plans"`
}

// smallTables have few rows, whatever is stored.
var smallTables = map[string]bool{"jobs": true, "writers": true, "members": true, "webhooks": true, "health": true, "fan_outs": true, "counts": true, "batches": true, "schema": true}

// walksAll returns the tables that a plan reads as a whole: without a condition on an index, and with no limit above.
func (n *planNode) walksAll(limited bool) (tables []string) {
	limited = limited || n.Type == "Limit"
	isScan := strings.HasSuffix(n.Type, "Scan") && n.Relation != "" && n.Type != "Bitmap Heap Scan"
	if isScan && !smallTables[n.Relation] && (n.Type == "Seq Scan" || n.Cond == "" && n.TIDCond == "" && !limited) {
		tables = append(tables, n.Type+" on "+n.Relation)
	}
	for i := range n.Plans {
		tables = append(tables, n.Plans[i].walksAll(limited)...)
	}
	return tables
}

// wantKeys reports the statements that a connection has prepared whose plans read a whole table.
func wantKeys(t *testing.T, conn *pgx.Conn) (seen int) {
	t.Helper()
	ctx := context.Background()
	rows, err := conn.Query(ctx, "SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements", pgx.QueryExecModeExec)
	if err != nil {
		t.Error(err)
		return 0
	}
	type prepared struct {
		Name, Statement string
		Params          int
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[prepared])
	if err != nil {
		t.Error(err)
		return 0
	}
	for _, p := range all {
		if verb, _, _ := strings.Cut(p.Statement, " "); !strings.Contains("SELECT INSERT UPDATE DELETE", verb) {
			continue
		}
		args := ""
		if p.Params > 0 {
			args = "(" + strings.TrimSuffix(strings.Repeat("NULL, ", p.Params), ", ") + ")"
		}
		var text []byte
		if err := conn.QueryRow(ctx, fmt.Sprintf("EXPLAIN (FORMAT JSON) EXECUTE %q%s", p.Name, args), pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
			t.Errorf("%s: %v", p.Statement, err)
			return seen
		}
		var plans []struct{ Plan planNode }
		if err := json.Unmarshal(text, &plans); err != nil {
			t.Error(err)
			continue
		}
		seen++
		if tables := plans[0].Plan.walksAll(false); len(tables) > 0 {
			t.Errorf("%s: %v", p.Statement, tables)
		}
	}
	return seen
}

// No statement of the background work, of a replay or of an erasure reads a whole table, also not with a plan that was made while the tables were empty
// and the planner knew it.
func TestPlansOfTheKeeper(t *testing.T) {
	s := openFresh(t)
	w := keepHook(t, s)
	life := func(n int) {
		keepVisits(t, s, 1, n)
		keepDeliver(t, s, w, n/2, engine.StatusFailed)
		later := keepHook(t, s)
		for _, r := range []engine.Replay{{WebhookID: later.ID, Scope: engine.ReplayMissing}, {WebhookID: w.ID, Scope: engine.ReplayFailed}, {WebhookID: w.ID, Scope: engine.ReplayAny}} {
			r.Until = time.Now().UTC()
			if _, err := s.Replay(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		keepAll(t, s, time.Now().UTC(), keepForever)
		later.Active = false
		cancels := []engine.Cancellation{{WebhookID: later.ID, Revision: later.Revision, Scope: engine.CancelAll}}
		if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: later, Cancels: cancels, Once: &engine.Once{Key: engine.OnceKey{byte(n)}, At: time.Now().UTC().Add(-48 * time.Hour)}}); err != nil {
			t.Fatal(err)
		}
		keepAll(t, s, time.Now().UTC(), keepForever)
		keepDeliver(t, s, w, n, engine.StatusDelivered)
		keepErase(t, s, engine.Erasure{SessionID: keepVisits(t, s, 7, 2)[0]})
		for _, what := range []engine.Erasure{{Email: "a@example.com", DryRun: true}, visitor(7)} {
			keepErase(t, s, what)
		}
		keepAll(t, s, time.Now().UTC().Add(2*time.Hour), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour})
	}
	life(2)
	life(40)
	planned := func(least int) {
		t.Helper()
		seen := 0
		if err := s.write(t.Context(), mutation{run: func(b *batch) error { seen = wantKeys(t, b.conn); return nil }}); err != nil {
			t.Fatal(err)
		}
		if err := s.view(t.Context(), func(conn *pgx.Conn) error { seen += wantKeys(t, conn); return nil }); err != nil {
			t.Fatal(err)
		}
		if seen < least {
			t.Errorf("only %d statements were seen", seen)
		}
	}
	planned(40)
	for _, table := range []string{"sessions", "events", "marks", "deliveries", "payloads", "attempts", "queue", "exceptions", "expiry"} {
		sqlOf(t, s, "DELETE FROM @."+table)
		sqlOf(t, s, "VACUUM ANALYZE @."+table)
	}
	planned(40)
}
