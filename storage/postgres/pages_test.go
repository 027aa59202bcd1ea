package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// A page of a table that the server cannot read hides the rows in it, and no other.
func TestDamagedPages(t *testing.T) {
	t.Parallel() // mostly starts of clusters and copies of databases
	c, admin := startForDamage(t)
	const sessions = 400
	storeSessions(t, c.URL(), sessions)
	for _, table := range []string{"deliveries", "queue", "sessions", "events"} {
		t.Run(table, func(t *testing.T) {
			// The files are copied as they are, and nothing of the copy is in the server's memory.
			s := openAt(t, Options{URL: damagePages(t, c, admin, 1, table), Shared: true})
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

// startForDamage starts a server for damagePage, and connects to it. Nothing but the tests may change pages there.
func startForDamage(t *testing.T) (*postgrestest.Cluster, *pgx.Conn) {
	t.Helper()
	c := postgrestest.Start(t, postgrestest.Options{Checksums: true, Settings: []string{"autovacuum = off"}})
	admin, err := pgx.Connect(t.Context(), strings.Replace(c.URL(), "/hookbolt?", "/postgres?", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	return c, admin
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

// damagePages copies the database to another one, and damages a page of each of some tables and indexes in the copy. The server is one of startForDamage. It
// returns the URL of the copy.
func damagePages(t *testing.T, c *postgrestest.Cluster, admin *pgx.Conn, page int64, relations ...string) string {
	t.Helper()
	name := "copy_" + strings.Join(relations, "_")
	var paths []string
	for _, relation := range relations {
		paths = append(paths, filepath.Join(c.Dir(), "data", relationPath(t, c, "hookbolt."+relation)))
	}
	flip := func() { // and back again
		for _, path := range paths {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
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
	}
	// The copy begins with a checkpoint, which would write a changed page over the damage.
	if _, err := admin.Exec(t.Context(), "CHECKPOINT"); err != nil {
		t.Fatal(err)
	}
	strategy := ""
	if err := admin.QueryRow(t.Context(), "SELECT CASE WHEN current_setting('server_version_num')::int >= 150000 THEN 'STRATEGY file_copy' ELSE '' END").Scan(&strategy); err != nil {
		t.Fatal(err)
	}
	flip()
	var err error
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
	return strings.Replace(c.URL(), "/hookbolt?", "/"+name+"?", 1)
}

// relationPath returns the file of a table or index, below the directory of the data.
func relationPath(t *testing.T, c *postgrestest.Cluster, relation string) (path string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(conn.QueryRow(t.Context(), "SELECT pg_relation_filepath($1::text::regclass)", relation).Scan(&path), conn.Close(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return path
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
	ownLanes(t, s)
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

// What is passed is the run of entries that cannot be read, and nothing behind it, whichever halves of their ids and times the entries share.
func TestPassDamage(t *testing.T) {
	type entry struct {
		at int64
		id uuid.UUID
	}
	made := func(at int64, high, low uint64) (e entry) {
		e.at = at
		binary.BigEndian.PutUint64(e.id[:8], high)
		binary.BigEndian.PutUint64(e.id[8:], low)
		return e
	}
	var all []entry
	for _, at := range []int64{7, 1000, 1001} {
		for _, high := range []uint64{5, 6, 1 << 60} {
			for low := range uint64(4) {
				all = append(all, made(at, high, low<<62|9))
			}
		}
	}
	compare := func(a, b entry) int { return cmp.Or(cmp.Compare(a.at, b.at), bytes.Compare(a.id[:], b.id[:])) }
	for _, down := range []bool{false, true} {
		list, sign, end := all, 1, int64(math.MaxInt64)
		if down {
			list = slices.Clone(all)
			slices.Reverse(list)
			sign, end = -1, 0
		}
		for first := range list {
			for behind := first + 1; behind < len(list); behind++ {
				var got int
				read := func(at int64, id uuid.UUID) error {
					got = slices.IndexFunc(list, func(e entry) bool { return sign*compare(e, entry{at, id}) >= 0 })
					if first <= got && got < behind {
						return &pgconn.PgError{Code: "XX001"}
					}
					return nil
				}
				if found, err := passDamageInQueue(list[first].at, list[first].id, end, read); err != nil || !found || got != behind {
					t.Fatalf("down %t, of %d: those from %d up to %d cannot be read, and it goes on with %d (%v)", down, len(list), first, behind, got, err)
				}
			}
		}
	}
}
