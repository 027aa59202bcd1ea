package postgres

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// anHour keeps all for an hour.
var anHour = engine.Retention{Sessions: time.Hour, Deliveries: time.Hour}

// Retention goes on behind a page that the server cannot read, in whatever table or index it is: only what the page has a part of stays, and is named.
func TestRetentionPassesDamagedPages(t *testing.T) {
	t.Parallel() // mostly starts of clusters and copies of databases
	c, admin := startForDamage(t)
	const n = 600
	keys := storeOld(t, c.URL(), n)
	for _, damaged := range []struct {
		pages string // 1 of these tables and indexes; the first page of the records of an index
		named string
		// How many sessions, deliveries and requests may stay.
		sessions, deliveries, requests int
	}{
		{pages: "sessions", named: "session number", sessions: 100},
		{pages: "sessions_pkey", named: "session number", sessions: n * 2 / 3},
		{pages: "events", named: "session number", sessions: 100},
		{pages: "events_pkey", named: "session number", sessions: n * 2 / 3},
		{pages: "deliveries", named: "delivery", sessions: 100, deliveries: 100},
		{pages: "deliveries_pkey", named: "delivery", sessions: n * 2 / 3, deliveries: n * 2 / 3},
		{pages: "attempts", named: "delivery", deliveries: 200},
		{pages: "exceptions", named: "delivery", deliveries: 200},
		{pages: "payloads", named: "delivery", deliveries: 200},
		{pages: "expiry", named: "expiry"},
		{pages: "expiry_pkey", named: "expiry"},
		{pages: "expiry sessions", named: "sessions, from number", sessions: 100},
		{pages: "expiry deliveries", named: "deliveries, from about", sessions: 100, deliveries: 100},
		{pages: "request_keys", named: "requests", requests: 150},
		{pages: "request_keys_at", named: "requests", requests: n * 2 / 3},
	} {
		t.Run(damaged.pages, func(t *testing.T) {
			s := openAt(t, Options{URL: damagePages(t, c, admin, 1, strings.Fields(damaged.pages)...)})
			at := time.Now().UTC().Add(48 * time.Hour)
			first, last := retainAll(t, s, at, anHour)
			if r := first.Expired; r.Sessions < n-damaged.sessions || r.Deliveries < n-damaged.deliveries {
				t.Errorf("of %d sessions and deliveries have gone %+v", n, r)
			}
			kept := 0
			for _, key := range keys {
				if _, err := s.Done(t.Context(), key); !errors.Is(err, engine.ErrNotFound) {
					kept++
				}
			}
			if kept > damaged.requests {
				t.Errorf("%d requests are kept, want at most %d", kept, damaged.requests)
			}
			wantNamed(t, first.Damaged, damaged.named)
			if bound := n + 10; len(first.Damaged) > bound {
				t.Errorf("%d are named", len(first.Damaged))
			}
			// A day later it tries again what has stayed, and names nothing again.
			again, _ := retainAll(t, s, last.Add(damagedRecheck+time.Hour), anHour)
			if len(again.Damaged) > 0 || again.Expired.Sessions > damaged.sessions || again.Expired.Deliveries > damaged.deliveries {
				t.Errorf("a day later have gone %+v, and %d are named: %v", again.Expired, len(again.Damaged), again.Damaged)
			}
		})
	}
}

// A session that has lost its place in expiry, and has gone on since it had its first events, goes at its own time.
func TestSweepOfSessionsThatGoOn(t *testing.T) {
	s := openTest(t)
	start := time.Now().UTC()
	keepVisits(t, s, 1, 2)
	sqlOf(t, s, "UPDATE @.sessions SET last_at = $1 WHERE no = (SELECT min(no) FROM @.sessions) RETURNING ''", start.Add(30*time.Minute).UnixNano())
	sqlOf(t, s, "UPDATE @.expiry SET ids = '\\x00' RETURNING ''")
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{59 * time.Minute, 0}, {62 * time.Minute, 1}, {89 * time.Minute, 0}, {92 * time.Minute, 1}} {
		if total, _ := keepAll(t, s, start.Add(step.after), anHour); total.Expired.Sessions != step.want {
			t.Errorf("after %s have gone %+v, want %d sessions", step.after, total.Expired, step.want)
		}
	}
}

// storeOld stores sessions with a delivery that has failed or was delivered, in many small batches, and requests with keys.
func storeOld(t *testing.T, url string, n int) (keys []engine.OnceKey) {
	t.Helper()
	s, err := Open(t.Context(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := keepHook(t, s)
	for i := 0; i < n; i += 2 {
		keepVisits(t, s, 1, 2)
		keepDeliver(t, s, w, 2, engine.StatusFailed)
	}
	for range n {
		key := engine.OnceKey(append(uuid.Must(uuid.NewRandom()).NodeID(), make([]byte, 26)...))
		keys = append(keys, key)
		at := time.Now().UTC()
		if _, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte("{}"), At: at,
			Once: &engine.Once{Key: key, Request: []byte("r"), At: at}}); err != nil {
			t.Fatal(err)
		}
	}
	w.Active = false
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w}); err != nil {
		t.Fatal(err)
	}
	return keys
}

// retainAll carries out background work, each time when it asks to be called, until it asks for no call within ten minutes. It returns when that was.
func retainAll(t *testing.T, s *Store, at time.Time, r engine.Retention) (total engine.Maintained, last time.Time) {
	t.Helper()
	for calls := range 5000 {
		m, err := s.Maintain(t.Context(), at, r)
		if err != nil {
			t.Fatal(err)
		}
		total.Expired.Sessions += m.Expired.Sessions
		total.Expired.Deliveries += m.Expired.Deliveries
		total.Cancelled += m.Cancelled
		total.Queued = append(total.Queued, m.Queued...)
		total.Damaged = append(total.Damaged, m.Damaged...)
		if m.Next.Sub(at) > 10*time.Minute {
			t.Logf("%d calls until %s: gone are %+v, cancelled %d, named %d", calls+1, at.Format(time.TimeOnly), total.Expired, total.Cancelled, len(total.Damaged))
			return total, at
		}
		if m.Next.After(at) {
			at = m.Next
		}
	}
	t.Fatalf("Maintain comes to no end: gone are %+v, named %v", total.Expired, errors.Join(total.Damaged...))
	return total, at
}

// A cancellation goes on behind a page that the server cannot read, and does not end: what it could not cancel stays covered. The replay behind it is carried out.
// The next day the cancellation looks once more.
func TestCancellationPassesDamagedPages(t *testing.T) {
	t.Parallel() // mostly starts of clusters and copies of databases
	c, admin := startForDamage(t)
	const n, failed = 600, 50
	s, err := Open(t.Context(), Options{URL: c.URL()})
	if err != nil {
		t.Fatal(err)
	}
	first := keepHook(t, s)
	keepVisits(t, s, 1, n-failed)
	second := keepHook(t, s)
	keepVisits(t, s, 1, failed)
	keepDeliver(t, s, second, failed, engine.StatusFailed)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []struct {
		page, named string
		stay        int // deliveries that may not be cancelled
	}{
		{"deliveries", "delivery", 100},
		{"deliveries_pkey", "delivery", n * 2 / 3},
		{"queue", "the queue of webhook", 200},
		{"queue_pkey", "the queue of webhook", n * 2 / 3},
	} {
		t.Run(damaged.page, func(t *testing.T) {
			s := openAt(t, Options{URL: damagePages(t, c, admin, 1, damaged.page)})
			// The replay begins first, because it counts what the cancellation leaves.
			count, err := s.Replay(t.Context(), engine.Replay{WebhookID: second.ID, Scope: engine.ReplayFailed, Until: time.Now().UTC()})
			if err != nil || count != failed {
				t.Fatalf("%d to replay (%v), want %d", count, err, failed)
			}
			w := first
			w.Active, w.CancelledUpTo = false, w.Revision
			cancels := []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelAll}}
			if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Cancels: cancels}); err != nil {
				t.Fatal(err)
			}
			total, last := retainAll(t, s, time.Now().UTC(), keepForever)
			if total.Cancelled < n-damaged.stay || total.Cancelled == n || len(total.Queued) != failed {
				t.Errorf("%d are cancelled and %d are sent again, want at least %d and %d", total.Cancelled, len(total.Queued), n-damaged.stay, failed)
			}
			wantNamed(t, total.Damaged, damaged.named)
			covered := func() bool {
				return s.Webhooks().Covered(&engine.Delivery{WebhookID: first.ID, WebhookRevision: first.Revision, Status: engine.StatusScheduled, Kind: engine.KindComplete})
			}
			if !covered() {
				t.Error("what could not be cancelled is not covered any more")
			}
			again, _ := retainAll(t, s, last.Add(damagedRecheck+time.Hour), keepForever)
			if again.Cancelled > 0 || len(again.Damaged) > 0 || !covered() {
				t.Errorf("a day later %d are cancelled, %v are named, and the others are covered: %t", again.Cancelled, again.Damaged, covered())
			}
		})
	}
}

// A replay that meets a page that the server cannot read is postponed, and hides no other.
func TestReplayIsPostponed(t *testing.T) {
	c, admin := startForDamage(t)
	s, err := Open(t.Context(), Options{URL: c.URL()})
	if err != nil {
		t.Fatal(err)
	}
	const failed = 50
	keepVisits(t, s, 1, 300)
	missing := keepHook(t, s)
	w := keepHook(t, s)
	keepVisits(t, s, 1, failed)
	keepDeliver(t, s, w, failed, engine.StatusFailed)
	for _, r := range []engine.Replay{{WebhookID: missing.ID, Scope: engine.ReplayMissing}, {WebhookID: w.ID, Scope: engine.ReplayFailed}} {
		r.Until = time.Now().UTC()
		if _, err := s.Replay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, Options{URL: damagePages(t, c, admin, 1, "sessions")})
	total, last := retainAll(t, s, time.Now().UTC(), keepForever)
	if len(total.Queued) != failed {
		t.Errorf("%d are sent again, want %d", len(total.Queued), failed)
	}
	wantNamed(t, total.Damaged, "what is met by job")
	again, _ := retainAll(t, s, last.Add(damagedRecheck+time.Hour), keepForever)
	if len(again.Queued) > 0 || len(again.Damaged) > 0 {
		t.Errorf("a day later %d are sent again, and %v are named", len(again.Queued), again.Damaged)
	}
	stats, err := s.Stats(t.Context(), benchNow(), false)
	if err != nil || len(stats.Replays) != 1 {
		t.Errorf("replays in progress are %+v (%v), want one", stats.Replays, err)
	}
}
