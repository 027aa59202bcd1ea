package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// A page of a table that the server cannot read hides the rows in it, and no other.
func TestDamagedPages(t *testing.T) {
	c := postgrestest.Start(t, postgrestest.Options{Checksums: true})
	admin, err := pgx.Connect(t.Context(), strings.Replace(c.URL(), "/hookbolt?", "/postgres?", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	const sessions = 400
	storeSessions(t, c.URL(), sessions)
	if _, err := admin.Exec(t.Context(), "CHECKPOINT"); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"deliveries", "queue", "sessions", "events"} {
		t.Run(table, func(t *testing.T) {
			// The files are copied as they are, and nothing of the copy is in the server's memory.
			damagePage(t, c, admin, table, 1)
			s := openAt(t, Options{URL: strings.Replace(c.URL(), "/hookbolt?", "/copy_"+table+"?", 1)})
			least := sessions / 2
			if n := listDeliveries(t, s, engine.DeliveryQuery{}); n < least || table == "deliveries" && n == 2*sessions {
				t.Errorf("%d deliveries are listed", n)
			}
			for _, w := range s.Webhooks().All() {
				if n := listDeliveries(t, s, engine.DeliveryQuery{WebhookID: w.ID, Status: engine.StatusScheduled}); n < least/2 {
					t.Errorf("%d waiting deliveries of webhook %d are listed", n, w.ID)
				}
			}
			if n := listSessions(t, s, engine.SessionQuery{}); n < least || table == "sessions" && n == sessions {
				t.Errorf("%d sessions are listed", n)
			}
			if n := listSessions(t, s, engine.SessionQuery{Email: "a@b.example"}); n < least || table == "events" && n == sessions {
				t.Errorf("%d sessions of a person are listed", n)
			}
			if n := claimAll(t, s); n < least || n == 2*sessions {
				t.Errorf("%d deliveries are claimed", n)
			}
			if _, err := s.Stats(t.Context(), benchNow(), true); err != nil {
				t.Errorf("stats: %v", err)
			}
			if _, err := s.Maintain(t.Context(), benchNow(), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour}); err != nil {
				t.Errorf("maintain: %v", err)
			}
			if _, err := appendOne(s); err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
}

// storeSessions stores sessions of a person, each with a delivery for two webhooks.
func storeSessions(t *testing.T, url string, sessions int) {
	s, err := Open(t.Context(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	hook(t, s)
	hook(t, s)
	for range sessions / 50 {
		var events []string
		for range 50 {
			id := uuid.New()
			events = append(events, eventOf(id, startEvent), eventOf(id, leadEvent), eventOf(id, finishEvent))
		}
		mustPost(t, s, nil, events...)
	}
}

// damagePage copies the database to another one, and damages a page of a table in the copy.
func damagePage(t *testing.T, c *postgrestest.Cluster, admin *pgx.Conn, table string, page int64) {
	t.Helper()
	name := "copy_" + table
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	var path string
	err = errors.Join(conn.QueryRow(t.Context(), "SELECT pg_relation_filepath($1::text::regclass)", "hookbolt."+table).Scan(&path), conn.Close(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	flip := func() { // and back again
		f, err := os.OpenFile(filepath.Join(c.Dir(), "data", path), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b, at := make([]byte, 16), page*8192+6000
		_, err = f.ReadAt(b, at)
		for i := range b {
			b[i] ^= 0xff
		}
		_, writeErr := f.WriteAt(b, at)
		if err := errors.Join(err, writeErr, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	strategy := ""
	if err := admin.QueryRow(t.Context(), "SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'STRATEGY file_copy' ELSE '' END").Scan(&strategy); err != nil {
		t.Fatal(err)
	}
	flip()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) { // sessions may not have ended yet
		_, err = admin.Exec(t.Context(), fmt.Sprintf("CREATE DATABASE %s TEMPLATE hookbolt %s", name, strategy))
		if err == nil || time.Now().After(end) {
			break
		}
	}
	flip()
	if err != nil {
		t.Fatal(err)
	}
}

// listDeliveries and listSessions count what all pages have.
func listDeliveries(t *testing.T, s *Store, q engine.DeliveryQuery) (n int) {
	t.Helper()
	q.Limit = 50
	for {
		page, err := s.Deliveries(t.Context(), q)
		if err != nil {
			t.Errorf("deliveries: %v", err)
			return n
		}
		n += len(page.Items)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return n
		}
	}
}

func listSessions(t *testing.T, s *Store, q engine.SessionQuery) (n int) {
	t.Helper()
	q.Limit = 50
	for {
		page, err := s.Sessions(t.Context(), q)
		if err != nil {
			t.Errorf("sessions: %v", err)
			return n
		}
		n += len(page.Items)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return n
		}
	}
}

// claimAll claims what is due of all webhooks, and counts it.
func claimAll(t *testing.T, s *Store) (n int) {
	t.Helper()
	var requests []engine.ClaimRequest
	for _, w := range s.Webhooks().All() {
		requests = append(requests, engine.ClaimRequest{Lane: engine.Lane{WebhookID: w.ID}, Room: 40})
	}
	for range 60 {
		results, err := s.ClaimDue(t.Context(), benchNow().Add(24*time.Hour), requests)
		if err != nil {
			t.Errorf("claim: %v", err)
			return n
		}
		for _, r := range results {
			n += len(r.Claimed)
		}
	}
	return n
}
