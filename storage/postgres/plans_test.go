package postgres

import (
	"testing"

	"hookbolt/engine"
)

// No statement of the life of a delivery reads a whole table, also not with a plan that was made while the tables were empty.
func TestPlansUseKeys(t *testing.T) {
	s := openFresh(t)
	made, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	life := func() {
		t.Helper()
		if _, err := appendNew(s); err != nil {
			t.Fatal(err)
		}
		results, err := s.ClaimDue(t.Context(), benchNow(), []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: made.Webhook.ID}, Room: 10}})
		if err != nil || len(results[0].Claimed) != 1 {
			t.Fatalf("claimed %d (%v)", len(results[0].Claimed), err)
		}
		d := results[0].Claimed[0].Delivery
		if _, err := s.Freeze(t.Context(), engine.Freeze{Delivery: d, Payload: benchPayload, Events: 5, At: benchNow()}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Session(t.Context(), d.SessionID); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := s.Delivery(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
	}
	const lives = 20
	for range lives {
		life()
	}
	if err := s.Close(); err != nil { // a connection reports its figures at its end at the latest
		t.Fatal(err)
	}
	for _, table := range []string{"sessions", "events", "deliveries", "payloads", "attempts", "queue"} {
		got := sqlOf(t, s, "SELECT relname || ': ' || seq_scan || ' whole, ' || idx_scan || ' by key' FROM pg_stat_user_tables "+
			"WHERE schemaname = $1 AND relname = $2 AND seq_scan > 5", s.opts.Schema, table)
		if len(got) > 0 {
			t.Errorf("%v", got)
		}
	}
}
