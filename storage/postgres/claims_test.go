package postgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// makeWebhook makes a webhook.
func makeWebhook(t testing.TB, s *Store) engine.Webhook {
	t.Helper()
	made, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: engine.Webhook{Active: true, URL: "https://a.example/"}})
	if err != nil {
		t.Fatal(err)
	}
	return made.Webhook
}

// queueTest queues a test for a webhook, due at that time.
func queueTest(t testing.TB, s *Store, w engine.Webhook, at time.Time) engine.Delivery {
	t.Helper()
	d, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte(`{}`), At: at})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// claimIn claims what is due in a lane.
func claimIn(t testing.TB, s *Store, lane engine.Lane, room int) engine.ClaimResult {
	t.Helper()
	results, err := s.ClaimDue(t.Context(), benchNow(), []engine.ClaimRequest{{Lane: lane, Room: room}})
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

func testsOf(w engine.Webhook) engine.Lane { return engine.Lane{WebhookID: w.ID, Test: true} }

// fill puts copies of a delivery into its lane by SQL, a nanosecond apart from at on, and returns their ids in that order.
func fill(t testing.TB, s *Store, d engine.Delivery, n int, at time.Time) (ids []uuid.UUID) {
	t.Helper()
	list := make(uuids, n)
	for i := range list {
		list[i] = uuid.New()
	}
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	for _, text := range []string{
		"INSERT INTO @.deliveries (" + deliveryColumns + ") SELECT t.id, " + strings.Replace(strings.TrimPrefix(deliveryColumns, "id, "), "next_at", "$3 + t.n - 1", 1) +
			" FROM unnest($1::uuid[]) WITH ORDINALITY t(id, n) JOIN LATERAL (SELECT " + strings.TrimPrefix(deliveryColumns, "id, ") + " FROM @.deliveries WHERE id = $2) d ON true",
		"INSERT INTO @.payloads (delivery_id, body) SELECT t.id, p.body FROM unnest($1::uuid[]) WITH ORDINALITY t(id, n) JOIN @.payloads p ON p.delivery_id = $2 WHERE $3::bigint <> 0",
		"INSERT INTO @.queue (webhook_id, class, at, delivery_id) SELECT q.webhook_id, q.class, $3 + t.n - 1, t.id FROM unnest($1::uuid[]) WITH ORDINALITY t(id, n) " +
			"JOIN @.queue q ON q.delivery_id = $2",
	} {
		if _, err := conn.Exec(t.Context(), s.sql(text), list, pgID(d.ID), at.UnixNano()); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// A delivery that cannot be read stays claimed, is named, and hides none behind it.
func TestClaimNamesDamaged(t *testing.T) {
	s := openTest(t)
	spoil := func(text string) func(t *testing.T, d engine.Delivery) {
		return func(t *testing.T, d engine.Delivery) { sqlOf(t, s, text+" RETURNING ''", pgID(d.ID)) }
	}
	ofSession := func(text string) func(t *testing.T, d engine.Delivery) {
		return func(t *testing.T, d engine.Delivery) { sqlOf(t, s, text+" RETURNING ''", pgID(d.SessionID)) }
	}
	for name, damage := range map[string]func(t *testing.T, d engine.Delivery){
		"a record":         spoil("UPDATE @.deliveries SET rest = '\\x01ff' WHERE id = $1"),
		"a state":          spoil("UPDATE @.deliveries SET status = 77 WHERE id = $1"),
		"no record":        spoil("DELETE FROM @.deliveries WHERE id = $1"),
		"another place":    spoil("UPDATE @.deliveries SET next_at = next_at - 1 WHERE id = $1"),
		"ended and queued": spoil("UPDATE @.deliveries SET status = 3 WHERE id = $1"),
		"no webhook":       spoil("UPDATE @.deliveries SET webhook_id = -1 WHERE id = $1"),
		"no payload":       spoil("UPDATE @.deliveries SET has_payload = true WHERE id = $1"),
		"a session":        ofSession("UPDATE @.sessions SET head = '' WHERE id = $1"),
		"no session":       ofSession("DELETE FROM @.sessions WHERE id = $1"),
		"no events":        ofSession("DELETE FROM @.events WHERE session_no = (SELECT no FROM @.sessions WHERE id = $1)"),
	} {
		t.Run(name, func(t *testing.T) {
			w := makeWebhook(t, s)
			lane := engine.Lane{WebhookID: w.ID}
			for range 2 {
				if _, err := appendNew(s); err != nil {
					t.Fatal(err)
				}
			}
			for _, other := range s.Webhooks().All() { // each case has a lane of its own
				if other.ID != w.ID {
					claimIn(t, s, engine.Lane{WebhookID: other.ID}, 10)
				}
			}
			first := claimIn(t, s, lane, 2).Claimed
			for i := range first {
				if err := s.Release(t.Context(), []engine.Delivery{first[i].Delivery}); err != nil {
					t.Fatal(err)
				}
			}
			damage(t, first[0].Delivery)
			both := claimIn(t, s, lane, 3)
			if len(both.Claimed) != 1 || both.Claimed[0].Delivery.ID != first[1].Delivery.ID {
				t.Errorf("claimed are %v, want the one behind", both.Claimed)
			}
			if len(both.Damaged) != 1 || !errors.Is(both.Damaged[0], ErrCorrupt) {
				t.Fatalf("damaged are %v, want the first", both.Damaged)
			}
			if text := both.Damaged[0].Error(); !strings.Contains(text, first[0].Delivery.ID.String()) && !strings.Contains(text, first[0].Delivery.SessionID.String()) {
				t.Errorf("the damage is told as %q, without an id", text)
			}
			if again := claimIn(t, s, lane, 3); len(again.Claimed)+len(again.Damaged) > 0 || !again.Next.IsZero() {
				t.Errorf("then there are %+v, want nothing: it stays claimed", again)
			}
		})
	}
}

// What the server cannot read is one delivery, and not the lane, nor the other lanes of the call.
func TestClaimPassesUnreadable(t *testing.T) {
	s := openFresh(t)
	w := makeWebhook(t, s)
	bad := queueTest(t, s, w, benchNow().Add(-time.Hour))
	good := queueTest(t, s, w, benchNow())
	for _, text := range []string{
		"ALTER TABLE @.payloads RENAME TO whole_payloads",
		"CREATE FUNCTION @.unreadable(body bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE SQLSTATE 'XX001'; END $$",
		"CREATE VIEW @.payloads AS SELECT delivery_id, CASE WHEN delivery_id = '" + bad.ID.String() + "' THEN @.unreadable(body) ELSE body END AS body FROM @.whole_payloads",
	} {
		sqlOf(t, s, text)
	}
	got := claimIn(t, s, testsOf(w), 5)
	if len(got.Claimed) != 1 || got.Claimed[0].Delivery.ID != good.ID || len(got.Damaged) != 1 || !strings.Contains(got.Damaged[0].Error(), bad.ID.String()) {
		t.Errorf("claimed %v, damaged %v", got.Claimed, got.Damaged)
	}
}

// However many claimed deliveries stand before it, what is due is found, and those that are released are found again.
func TestClaimBehindManyClaimed(t *testing.T) {
	s := openTest(t)
	w := makeWebhook(t, s)
	last := queueTest(t, s, w, benchNow())
	ids := fill(t, s, last, 2*maxSkipped+500, benchNow().Add(-time.Hour))
	for _, id := range ids {
		s.claim(claim{id, testsOf(w)})
	}
	found := func(want uuid.UUID) {
		t.Helper()
		now := benchNow()
		for looks := range 50 {
			results, err := s.ClaimDue(t.Context(), now, []engine.ClaimRequest{{Lane: testsOf(w), Room: 5}})
			if err != nil {
				t.Fatal(err)
			}
			if got := results[0].Claimed; len(got) > 0 {
				if got[0].Delivery.ID != want || looks > 5 {
					t.Errorf("found %s after %d looks, want %s after a few", got[0].Delivery.ID, looks, want)
				}
				return
			}
			if results[0].Next.IsZero() {
				t.Fatal("nothing is left to be looked at")
			}
			now = results[0].Next
		}
		t.Errorf("%s was not found", want)
	}
	found(last.ID)
	s.unclaim(ids[maxSkipped+100])
	found(ids[maxSkipped+100])
	if got := claimIn(t, s, testsOf(w), 5); len(got.Claimed) > 0 || got.Next.IsZero() {
		t.Fatalf("got %+v, want a look that is to be continued", got)
	}
	s.unclaim(ids[0]) // behind it
	found(ids[0])
}

// However many covered deliveries stand before it, what is due is found.
func TestClaimBehindManyCovered(t *testing.T) {
	s := openTest(t)
	w := makeWebhook(t, s)
	d := queueTest(t, s, w, benchNow())
	fill(t, s, d, 3*maxCovered, benchNow().Add(-time.Hour))
	changed, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Cancels: []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelAll}}})
	if err != nil {
		t.Fatal(err)
	}
	want := queueTest(t, s, changed.Webhook, benchNow())
	now := benchNow()
	for range 10 {
		results, err := s.ClaimDue(t.Context(), now, []engine.ClaimRequest{{Lane: testsOf(w), Room: 5}})
		if err != nil {
			t.Fatal(err)
		}
		if got := results[0].Claimed; len(got) > 0 {
			if len(got) != 1 || got[0].Delivery.ID != want.ID {
				t.Errorf("claimed are %v", got)
			}
			return
		}
		now = results[0].Next
	}
	t.Error("what is not covered was not found")
}

// A look that began before a claim ended does not claim the delivery, whatever it still sees.
func TestLookFromBeforeTheEndOfAClaim(t *testing.T) {
	s := openTest(t)
	w := makeWebhook(t, s)
	queueTest(t, s, w, benchNow())
	d := claimIn(t, s, testsOf(w), 1).Claimed[0].Delivery
	l, lanes := s.beginLook(benchNow(), []engine.ClaimRequest{{Lane: testsOf(w), Room: 1}})
	find := func() {
		t.Helper()
		err := s.view(t.Context(), func(conn *pgx.Conn) error { return s.findDue(t.Context(), conn, s.Webhooks(), benchNow(), lanes) })
		if err != nil || len(lanes[0].found) != 1 {
			t.Fatalf("found %v (%v), want one", lanes[0].found, err)
		}
	}
	find()
	if _, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}); err != nil {
		t.Fatal(err)
	}
	var result engine.ClaimResult
	if got := s.claimLane(l, benchNow(), 0, &lanes[0], &result, nil); len(got) > 0 {
		t.Errorf("claimed is %v, which has ended", got)
	}
	if result.Next.IsZero() {
		t.Error("nobody looks again")
	}
	s.endLook(l, benchNow(), lanes)
	if got := claimIn(t, s, testsOf(w), 1); len(got.Claimed) > 0 || !got.Next.IsZero() {
		t.Errorf("then there is %+v, want nothing", got)
	}
}

// What changes between the two reads of a look is not claimed.
func TestChangedBetweenTheReadsOfALook(t *testing.T) {
	s := openTest(t)
	w := makeWebhook(t, s)
	for name, change := range map[string]func(d engine.Delivery) error{
		"cancelled": func(d engine.Delivery) error {
			_, err := s.Reschedule(t.Context(), d.ID, engine.RescheduleNever, benchNow())
			return err
		},
		"moved": func(d engine.Delivery) error {
			_, err := s.Reschedule(t.Context(), d.ID, engine.RescheduleNow, benchNow().Add(time.Second))
			return err
		},
	} {
		d := queueTest(t, s, w, benchNow())
		l, lanes := s.beginLook(benchNow(), []engine.ClaimRequest{{Lane: testsOf(w), Room: 1}})
		results := make([]engine.ClaimResult, 1)
		err := s.view(t.Context(), func(conn *pgx.Conn) error {
			if err := s.findDue(t.Context(), conn, s.Webhooks(), benchNow(), lanes); err != nil {
				return err
			}
			claimed := s.claimLane(l, benchNow(), 0, &lanes[0], &results[0], nil)
			if len(claimed) != 1 {
				return fmt.Errorf("claimed are %v", claimed)
			}
			if err := change(d); err != nil {
				return err
			}
			return s.readClaimed(t.Context(), conn, l, claimed, results)
		})
		if err != nil {
			t.Fatal(err)
		}
		s.endLook(l, benchNow(), lanes)
		if len(results[0].Claimed)+len(results[0].Damaged) > 0 || results[0].Next.IsZero() || s.isClaimed(d.ID) {
			t.Errorf("%s: %+v, claimed: %t", name, results[0], s.isClaimed(d.ID))
		}
		for _, c := range claimIn(t, s, testsOf(w), 5).Claimed {
			_, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: c.Delivery, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A look begins where its lane begins, and finds what comes to wait before that, also during a look.
func TestFrontOfALane(t *testing.T) {
	s := openTest(t)
	w := makeWebhook(t, s)
	at := benchNow().Add(-time.Minute)
	first := queueTest(t, s, w, at)
	if got := claimIn(t, s, testsOf(w), 5).Claimed; len(got) != 1 {
		t.Fatalf("claimed %v", got)
	}
	if f := s.claims.fronts[testsOf(w)]; f.id != first.ID {
		t.Errorf("the lane begins at %v, want %s", f, first.ID)
	}
	earlier := queueTest(t, s, w, at.Add(-time.Second))
	if got := claimIn(t, s, testsOf(w), 5).Claimed; len(got) != 1 || got[0].Delivery.ID != earlier.ID {
		t.Fatalf("claimed %v, want what came before the front", got)
	}
	l, lanes := s.beginLook(benchNow(), []engine.ClaimRequest{{Lane: testsOf(w), Room: 5}})
	err := s.view(t.Context(), func(conn *pgx.Conn) error { return s.findDue(t.Context(), conn, s.Webhooks(), benchNow(), lanes) })
	if err != nil {
		t.Fatal(err)
	}
	during := queueTest(t, s, w, at.Add(-time.Hour))
	s.endLook(l, benchNow(), lanes)
	if got := claimIn(t, s, testsOf(w), 5).Claimed; len(got) != 1 || got[0].Delivery.ID != during.ID {
		t.Fatalf("claimed %v, want what was queued during a look", got)
	}
	s.claims.fronts[testsOf(w)] = front{lastKey, benchNow().Add(frontFor)} // as if somebody else had queued one
	hidden := queueTest(t, s, w, benchNow())
	s.claims.fronts[testsOf(w)] = front{lastKey, benchNow().Add(-time.Second)}
	if got := claimIn(t, s, testsOf(w), 5).Claimed; len(got) != 1 || got[0].Delivery.ID != hidden.ID {
		t.Errorf("claimed %v, want what stands before a front that has served its time", got)
	}
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Deleted: true}); err != nil {
		t.Fatal(err)
	}
	if len(s.claims.fronts) > 0 {
		t.Errorf("fronts of deleted webhooks are kept: %v", s.claims.fronts)
	}
}

// Those who claim, beside those who queue at any time, retry, cancel and release: each delivery has one claim at a time, and none is forgotten.
func TestClaimsBesideTheWriter(t *testing.T) {
	s := openTest(t)
	w := makeWebhook(t, s)
	const writers, each, claimers = 3, 60, 3
	var mu sync.Mutex
	held, left := make(map[uuid.UUID]bool), writers*each
	take := func(id uuid.UUID) {
		mu.Lock()
		defer mu.Unlock()
		if held[id] {
			t.Errorf("%s was claimed twice", id)
		}
		held[id] = true
	}
	give := func(id uuid.UUID, ended bool) {
		mu.Lock()
		defer mu.Unlock()
		delete(held, id)
		if ended {
			left--
		}
	}
	finish := func(d engine.Delivery) {
		r := engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}
		switch rand.IntN(4) {
		case 0:
			give(d.ID, false)
			_ = s.Release(t.Context(), []engine.Delivery{d})
			return
		case 1:
			r.Next = engine.Next{Status: engine.StatusPending, At: benchNow().Add(-rand.N(time.Minute))}
		}
		give(d.ID, r.Next.Status == engine.StatusDelivered) // before it may be claimed again
		if _, err := s.RecordAttempt(t.Context(), r); err != nil {
			t.Errorf("RecordAttempt: %v", err)
		}
	}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				queueTest(t, s, w, benchNow().Add(-rand.N(time.Hour)))
			}
		})
	}
	end := time.Now().Add(30 * time.Second)
	for range claimers {
		wg.Go(func() {
			for time.Now().Before(end) {
				mu.Lock()
				done := left == 0
				mu.Unlock()
				if done {
					return
				}
				for _, c := range claimIn(t, s, testsOf(w), 1+rand.IntN(8)).Claimed {
					take(c.Delivery.ID)
					finish(c.Delivery)
				}
			}
		})
	}
	wg.Wait()
	if left != 0 || len(s.claims.of) > 0 || len(s.claims.inLane) > 0 || len(s.claims.looks) > 0 {
		t.Errorf("%d are left, %d claims, %v, %d looks", left, len(s.claims.of), s.claims.inLane, len(s.claims.looks))
	}
}

// Who has no claim neither freezes nor records.
func TestWithoutAClaim(t *testing.T) {
	s := openTest(t)
	w := makeWebhook(t, s)
	d := queueTest(t, s, w, benchNow())
	if _, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: benchAttempt, Next: engine.Next{Status: engine.StatusDelivered}, At: benchNow()}); !errors.Is(err, errNotClaimed) {
		t.Errorf("RecordAttempt: got %v", err)
	}
	if _, err := s.Freeze(t.Context(), engine.Freeze{Delivery: d, Payload: []byte(`{}`), At: benchNow()}); !errors.Is(err, errNotClaimed) {
		t.Errorf("Freeze: got %v", err)
	}
	if got, _, attempts, err := s.Delivery(t.Context(), d.ID); err != nil || got.Status != engine.StatusPending || len(attempts) > 0 {
		t.Errorf("then it is %+v with %d attempts (%v)", got, len(attempts), err)
	}
}
