package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
	"hookbolt/storage/internal/fields"
)

// newHook makes a webhook.
func newHook(t *testing.T, s *Store) engine.Webhook {
	t.Helper()
	made, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	return made.Webhook
}

// enqueue queues a body.
func enqueue(t *testing.T, s *Store, w engine.Webhook, at time.Time) engine.Delivery {
	t.Helper()
	d, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindOperation, Payload: []byte("{}"), At: at})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The count of what is due is right after any changes and any times, also where a call may count only a few.
func TestDueIsCounted(t *testing.T) {
	s := openTest(t)
	hooks := []engine.Webhook{newHook(t, s), newHook(t, s), newHook(t, s)}
	begin := benchNow()
	var waiting []engine.Delivery
	random := rand.New(rand.NewPCG(1, 2))
	at := func() time.Time { return begin.Add(time.Duration(random.IntN(20)) * time.Second) } // several at the same time
	for step := range 80 {
		for range random.IntN(6) {
			waiting = append(waiting, enqueue(t, s, hooks[random.IntN(len(hooks))], at()))
		}
		if len(waiting) > 0 && random.IntN(2) == 0 {
			i := random.IntN(len(waiting))
			if _, err := s.Reschedule(t.Context(), waiting[i].ID, engine.RescheduleNever, begin); err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting[:i], waiting[i+1:]...)
		}
		now, most := at(), 1+random.IntN(30)
		want := make(map[uint32]int64)
		for i := range waiting {
			if !waiting[i].NextAttemptAt.After(now) {
				want[waiting[i].WebhookID]++
			}
		}
		ids := []uint32{hooks[0].ID, hooks[1].ID, hooks[2].ID}
		if random.IntN(5) == 0 {
			ids = ids[:2] // the mark of the third is forgotten
		}
		var due map[uint32]int64
		calls := 0
		for right := false; !right; calls++ {
			err := s.write(t.Context(), mutation{walks: true, run: func(b *batch) (err error) {
				due, err = b.countDue(ids, fields.Instant(now), most)
				return err
			}})
			if err != nil {
				t.Fatal(err)
			}
			right = true
			for _, id := range ids {
				right = right && due[id] == want[id]
			}
			if calls > len(waiting)+1 {
				t.Fatalf("step %d: due are %v, want %v", step, due, want)
			}
		}
	}
}

// afterQuery calls a function after each statement of a connection.
type afterQuery func()

func (afterQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (f afterQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) { f() }

// Counts are right while batch rows are folded, whenever that happens.
func TestStatsWhileFolding(t *testing.T) {
	s := openTest(t)
	w := newHook(t, s)
	foldAfter := 0 // this many statements
	s.servers.all[0].Tracer = afterQuery(func() {
		if foldAfter--; foldAfter != 0 {
			return
		}
		for range 2 { // the newest row is not folded
			if err := s.write(context.Background(), mutation{walks: true, run: (*batch).fold}); err != nil {
				t.Error(err)
			}
		}
	})
	n := 0
	for after := range 8 { // a connection has one to set its session up
		foldAfter = after
		stats, err := s.Stats(t.Context(), benchNow(), false)
		if err != nil {
			t.Fatal(err)
		}
		if c := stats.Webhooks[w.ID]; c.Pending != int64(n) || c.Due != int64(n) {
			t.Errorf("counted are %+v, want %d that are pending and due", c, n)
		}
		enqueue(t, s, w, benchNow())
		n++
		foldAfter = after
		page, err := s.Deliveries(t.Context(), engine.DeliveryQuery{Status: engine.StatusPending, Limit: 100})
		if err != nil || len(page.Items) != n {
			t.Errorf("listed are %d (%v), want %d", len(page.Items), err, n)
		}
		enqueue(t, s, w, benchNow())
		n++
	}
}

// Stats returns when its context ends, whatever hangs.
func TestStatsOfAHangingStore(t *testing.T) {
	s := openTest(t)
	newHook(t, s)
	if _, err := s.Stats(t.Context(), benchNow(), true); err != nil { // so that there is a connection
		t.Fatal(err)
	}
	hang := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		if stats, err := s.Stats(ctx, benchNow(), true); !errors.Is(err, context.DeadlineExceeded) || stats.Webhooks != nil {
			t.Errorf("%s: got %+v and %v", what, stats, err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: Stats has taken %v", what, took)
		}
	}
	release := make(chan struct{})
	begun := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.write(context.Background(), mutation{run: func(*batch) error { close(begun); <-release; return nil }})
	})
	<-begun
	hang("a writer that hangs")
	close(release)
	wg.Wait()
	conn, err := pgx.Connect(t.Context(), postgrestest.Shared(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(t.Context(), s.sql("BEGIN; LOCK TABLE @.counts"), pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	hang("a lock")
	if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stats(t.Context(), benchNow(), true); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A probe tells whether the store can write, and how: an error, or no room.
func TestProbe(t *testing.T) {
	s := openFresh(t)
	newHook(t, s)
	refuse := func(code string) {
		t.Helper()
		sqlOf(t, s, "DROP TRIGGER IF EXISTS refuse ON @.batches")
		sqlOf(t, s, "CREATE OR REPLACE FUNCTION @.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE SQLSTATE '"+code+"'; END$$")
		sqlOf(t, s, "CREATE TRIGGER refuse BEFORE INSERT ON @.batches FOR EACH ROW EXECUTE FUNCTION @.refuse()")
	}
	if stats, err := s.Stats(t.Context(), benchNow(), true); err != nil || stats.Full != nil {
		t.Errorf("got %v, and %v", stats.Full, err)
	}
	refuse("42501")
	if _, err := s.Stats(t.Context(), benchNow(), false); err != nil {
		t.Errorf("without a probe: %v", err)
	}
	if _, err := s.Stats(t.Context(), benchNow(), true); err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("with a probe: got %v, want the error of the database", err)
	}
	refuse("53100")
	if stats, err := s.Stats(t.Context(), benchNow(), true); err != nil || !errors.Is(stats.Full, engine.ErrFull) {
		t.Errorf("without room: got %v and the error %v", stats.Full, err)
	}
}
