package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
)

// keepForever keeps all.
var keepForever = engine.Retention{Sessions: 100_000 * time.Hour, Deliveries: 100_000 * time.Hour}

// keepHook makes a webhook for all contents, whose deliveries are due at once.
func keepHook(t *testing.T, s *Store) engine.Webhook {
	t.Helper()
	w := engine.DefaultWebhook()
	w.URL, w.Delay = "https://a.example/", 0
	made, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w})
	if err != nil {
		t.Fatal(err)
	}
	return made.Webhook
}

// keepVisits stores n sessions of a visitor, some hundreds in a batch, and returns their ids.
func keepVisits(t *testing.T, s *Store, visitor int64, n int) (ids []uuid.UUID) {
	t.Helper()
	const most = 400 // more would fan out
	if n > most {
		return append(keepVisits(t, s, visitor, most), keepVisits(t, s, visitor, n-most)...)
	}
	at := time.Now().UTC()
	var body strings.Builder
	for range n {
		id := uuid.New()
		ids = append(ids, id)
		fmt.Fprintf(&body, `{"type":"vote","id":"v","session_id":%q,"content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","content_type":"quiz","poltio_user_id":%d,"question_id":1,"answer_id":1}`+"\n", id, visitor)
		fmt.Fprintf(&body, `{"type":"finish","session_id":%q,"time":%q}`+"\n", id, at.Format(time.RFC3339Nano))
	}
	events, err := engine.ParseEvents([]byte(body.String()), at)
	if err == nil {
		_, err = s.AppendEvents(t.Context(), engine.NewAppend(events, at))
	}
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// keepDeliver claims what is due for a webhook, at most so many, and delivers it.
func keepDeliver(t *testing.T, s *Store, w engine.Webhook, room int, next engine.Status) (all []engine.Delivery) {
	t.Helper()
	results, err := s.ClaimDue(t.Context(), time.Now().UTC(), []engine.ClaimRequest{{Lane: engine.Lane{WebhookID: w.ID}, Room: room}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range results[0].Claimed {
		d := c.Delivery
		if d.FrozenAt.IsZero() {
			if _, err := s.Freeze(t.Context(), engine.Freeze{Delivery: d, Payload: []byte(`{"poltio_user_id":1}`), Events: c.Session.Head.Events, At: time.Now().UTC()}); err != nil {
				t.Fatal(err)
			}
			d.Status, d.FrozenAt = engine.StatusPending, time.Now().UTC()
		}
		done, err := s.RecordAttempt(t.Context(), engine.AttemptRecord{Delivery: d, Attempt: engine.Attempt{Outcome: engine.Outcome{Status: 200}}, Next: engine.Next{Status: next}, At: time.Now().UTC()})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, done.Delivery)
	}
	return all
}

// keepAll carries out all background work that waits at a time. It returns the most that a step has removed or changed.
func keepAll(t *testing.T, s *Store, at time.Time, r engine.Retention) (total engine.Maintained, most int) {
	t.Helper()
	for range 1000 {
		m, err := s.Maintain(t.Context(), at, r)
		if err != nil {
			t.Fatal(err)
		}
		total.Cancelled += m.Cancelled
		total.Expired.Sessions += m.Expired.Sessions
		total.Expired.Deliveries += m.Expired.Deliveries
		total.Queued = append(total.Queued, m.Queued...)
		total.Damaged = append(total.Damaged, m.Damaged...)
		total.Erasures = append(total.Erasures, m.Erasures...)
		most = max(most, m.Cancelled, m.Expired.Sessions, m.Expired.Deliveries, len(m.Queued))
		if m.Next.After(at) {
			return total, most
		}
	}
	t.Fatal("Maintain comes to no end")
	return total, most
}

// keepErase carries out an erasure.
func keepErase(t *testing.T, s *Store, what engine.Erasure) (total engine.Erased, damaged []error) {
	t.Helper()
	for place, steps := "", 0; steps < 1000; steps++ {
		step, err := s.Erase(t.Context(), what, place)
		if err != nil {
			t.Fatal(err)
		}
		total.Add(step.Erased)
		damaged = append(damaged, step.Damaged...)
		if place = step.Next; place == "" {
			return total, damaged
		}
	}
	t.Fatal("Erase comes to no end")
	return total, damaged
}

// wantWhole reports what Check finds.
func wantWhole(t *testing.T, s *Store) {
	t.Helper()
	report, err := Check(context.Background(), s.opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		t.Error(v)
	}
}

// wantNamed reports an error that is not among some.
func wantNamed(t *testing.T, errs []error, text string) {
	t.Helper()
	if err := errors.Join(errs...); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%q is not named by %v", text, errs)
	}
}

func visitor(id int64) engine.Erasure { return engine.Erasure{Visitor: &id} }

// What shares a row of expiry goes at its own time: what is old, what has gone on since, what waits, and what is too much for one step.
func TestExpiryTogether(t *testing.T) {
	s := openTest(t)
	w := keepHook(t, s)
	start := time.Now().UTC()
	ids := keepVisits(t, s, 1, expireStep+50)
	keepDeliver(t, s, w, len(ids)-1, engine.StatusDelivered)
	late, err := engine.ParseEvents(fmt.Appendf(nil, `{"type":"lead","session_id":%q,"lead":{"name":"n"}}`, sqlOf(t, s, "SELECT id::text FROM @.sessions WHERE no NOT IN "+
		"(SELECT session_no FROM @.deliveries WHERE status = 1) ORDER BY no LIMIT 1")[0]), start.Add(30*time.Minute))
	if err == nil {
		late[0].ReceivedAt = start.Add(30 * time.Minute)
		err = s.write(t.Context(), mutation{run: func(b *batch) error { // as late events do
			r, err := b.session(late[0].SessionID)
			if err != nil {
				return err
			}
			after := *r
			after.LastReceivedAt = late[0].ReceivedAt
			b.putSession(&after)
			return nil
		}})
	}
	if err != nil {
		t.Fatal(err)
	}
	keep := engine.Retention{Sessions: time.Hour, Deliveries: time.Hour}
	if total, _ := keepAll(t, s, start.Add(59*time.Minute), keep); total.Expired != (engine.Removed{}) {
		t.Errorf("before their time went %+v", total.Expired)
	}
	total, most := keepAll(t, s, start.Add(62*time.Minute), keep)
	if total.Expired != (engine.Removed{Sessions: len(ids) - 2, Deliveries: len(ids) - 1}) || most > expireStep {
		t.Errorf("at their time went %+v, up to %d in a step", total.Expired, most)
	}
	wantWhole(t, s)
	if total, _ := keepAll(t, s, start.Add(92*time.Minute), keep); total.Expired.Sessions != 1 {
		t.Errorf("half an hour later went %+v", total.Expired)
	}
	keepDeliver(t, s, w, 1, engine.StatusDelivered)
	if total, _ := keepAll(t, s, start.Add(50*time.Hour), keep); total.Expired != (engine.Removed{Sessions: 1, Deliveries: 1}) {
		t.Errorf("when its delivery had ended went %+v", total.Expired)
	}
	if left := sqlOf(t, s, "SELECT count(*)::text FROM @.expiry"); left[0] != "0" {
		t.Errorf("%s rows of expiry are left", left[0])
	}
	wantWhole(t, s)
}

// A damaged row is named and hides no other: what it keeps company with expires, is cancelled, is sent again.
func TestMaintainPassesDamage(t *testing.T) {
	for _, damaged := range []struct{ sql, name string }{
		{"UPDATE @.sessions SET head = '' WHERE no = (SELECT min(no) FROM @.sessions) RETURNING ''", "session"},
		{"UPDATE @.deliveries SET rest = '' WHERE id = (SELECT id FROM @.deliveries ORDER BY id LIMIT 1) RETURNING ''", "delivery"},
		{"UPDATE @.expiry SET ids = ids || '\\x00' WHERE kind = 0 RETURNING ''", "expiry"},
		{"UPDATE @.expiry SET ids = '' WHERE kind = 1 RETURNING ''", "expiry"},
		{"INSERT INTO @.jobs VALUES (0, '{}') RETURNING ''", "job 0"},
	} {
		s := openTest(t)
		w := keepHook(t, s)
		const n = 20
		keepVisits(t, s, 1, n)
		keepDeliver(t, s, w, n, engine.StatusFailed)
		later := keepHook(t, s)
		sqlOf(t, s, damaged.sql)
		for _, r := range []engine.Replay{{WebhookID: later.ID, Scope: engine.ReplayMissing}, {WebhookID: w.ID, Scope: engine.ReplayFailed}} {
			r.Until = time.Now().UTC()
			if count, err := s.Replay(t.Context(), r); err != nil || count < n-1 {
				t.Fatalf("%s: %d to replay: %v", damaged.name, count, err)
			}
		}
		total, _ := keepAll(t, s, time.Now().UTC(), keepForever)
		if len(total.Queued) < 2*n-2 {
			t.Errorf("%s: %d are queued", damaged.name, len(total.Queued))
		}
		for _, w := range []engine.Webhook{w, later} {
			w.Active = false
			cancels := []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelAll}}
			if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Cancels: cancels}); err != nil {
				t.Fatalf("%s: %v", damaged.name, err)
			}
		}
		more, _ := keepAll(t, s, time.Now().UTC(), keepForever)
		if more.Cancelled < 2*n-2 {
			t.Errorf("%s: %d are cancelled", damaged.name, more.Cancelled)
		}
		last, _ := keepAll(t, s, time.Now().UTC().Add(2*time.Hour), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour})
		wantNamed(t, append(append(total.Damaged, more.Damaged...), last.Damaged...), damaged.name)
		if left := sqlOf(t, s, "SELECT count(*)::text FROM @.sessions UNION ALL SELECT count(*)::text FROM @.deliveries"); left[0] > "1" || left[1] > "2" {
			t.Errorf("%s: %s sessions and %s deliveries are left", damaged.name, left[0], left[1])
		}
	}
}

// What a webhook that is switched off had cancelled is cancelled in the end, though the row of the cancellation cannot be read any more.
func TestLostCancellation(t *testing.T) {
	s := openTest(t)
	w := keepHook(t, s)
	keepVisits(t, s, 1, 3)
	w.Active, w.CancelledUpTo = false, w.Revision
	cancels := []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelAll}}
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Cancels: cancels}); err != nil {
		t.Fatal(err)
	}
	sqlOf(t, s, "UPDATE @.jobs SET job = '7' RETURNING ''")
	next := openAt(t, s.opts)
	d := engine.Delivery{WebhookID: w.ID, WebhookRevision: w.CancelledUpTo, Status: engine.StatusScheduled, Kind: engine.KindComplete}
	if !next.Webhooks().Covered(&d) {
		t.Error("the next process does not know what was cancelled")
	}
	total, _ := keepAll(t, next, time.Now().UTC(), keepForever)
	if total.Cancelled != 3 {
		t.Errorf("%d are cancelled, want 3", total.Cancelled)
	}
	wantNamed(t, total.Damaged, "job")
}

// A walk through a long lane, or through many sessions, goes on step by step.
func TestJobsInSteps(t *testing.T) {
	s := openTest(t)
	w := keepHook(t, s)
	const n = replayLooks + 100
	keepVisits(t, s, 1, n)
	later := keepHook(t, s)
	count, err := s.Replay(t.Context(), engine.Replay{WebhookID: later.ID, Scope: engine.ReplayMissing, Until: time.Now().UTC()})
	if err != nil || count != n {
		t.Fatalf("%d to replay: %v", count, err)
	}
	total, most := keepAll(t, s, time.Now().UTC(), keepForever)
	if len(total.Queued) != n || most > replayStep {
		t.Errorf("queued are %d, up to %d in a step", len(total.Queued), most)
	}
	w.Active = false
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w, Cancels: []engine.Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: engine.CancelAll}}}); err != nil {
		t.Fatal(err)
	}
	total, most = keepAll(t, s, time.Now().UTC(), keepForever)
	if total.Cancelled != n || most > cancelStep {
		t.Errorf("cancelled are %d, up to %d in a step", total.Cancelled, most)
	}
	w.Active, w.Revision = true, w.Revision+1
	if _, err := s.PutWebhook(t.Context(), engine.WebhookChange{Webhook: w}); err != nil {
		t.Fatal(err)
	}
	for scope, want := range map[engine.ReplayScope]int64{engine.ReplayFailed: 0, engine.ReplayAny: n, engine.ReplayMissing: n} {
		if count, err := s.Replay(t.Context(), engine.Replay{WebhookID: w.ID, Scope: scope, Until: time.Now().UTC(), DryRun: true}); err != nil || count != want {
			t.Errorf("%s: %d to replay, want %d: %v", scope, count, want, err)
		}
	}
	wantWhole(t, s)
}

// An erasure that was stored although its caller was told that this is not known is given to the process, once, and is not lost.
func TestErasureOfUnknownOutcome(t *testing.T) {
	c := postgrestest.Shared(t)
	p := newProxy(t, c.Dir())
	s := openAt(t, Options{URL: p.url(), Schema: c.Schema(t), Patience: 100 * time.Millisecond})
	keepVisits(t, s, 7, 1)
	p.stay.Store(true)
	for i := range int64(6) {
		if _, err := s.Erase(t.Context(), visitor(7), ""); err != nil { // so that there is a connection, and its statements are prepared
			t.Fatal(err)
		}
		sqlOf(t, s, "DELETE FROM @.jobs RETURNING ''")
		p.withhold.Store(1 + i)
		_, err := s.Erase(t.Context(), visitor(7), "")
		p.withhold.Store(0)
		p.down.Store(false)
		if errors.Is(err, engine.ErrTransient) && sqlOf(t, s, "SELECT count(*)::text FROM @.jobs")[0] != "0" {
			m, _ := keepAll(t, s, time.Now().UTC(), keepForever)
			if len(m.Erasures) != 1 {
				t.Errorf("%d erasures are given, want 1", len(m.Erasures))
			}
			if m, _ := keepAll(t, s, time.Now().UTC(), keepForever); len(m.Erasures) != 0 {
				t.Error("an erasure is given twice")
			}
			return
		}
	}
	t.Error("no commit was withheld: the test has shown nothing")
}

// Of more requests with keys than are remembered, the oldest are forgotten, whichever process has remembered them.
func TestMaxOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, schema string) {
		all := fleetOf(t, schema, 2)
		w, at := hook(t, all[0].Store), time.Now().UTC()
		remember := func(n *node, i int) {
			t.Helper()
			q := engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte("{}"), At: at, Once: &engine.Once{Key: engine.OnceKey{byte(i)}, Request: []byte("r"), At: at.Add(time.Duration(i))}}
			if _, err := n.Enqueue(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		keys := func() string {
			return strings.Join(sqlOf(t, all[0].Store, "SELECT encode(substr(key, 1, 1), 'hex') FROM @.request_keys ORDER BY key"), " ")
		}
		for _, n := range all {
			n.maxOnce = 3
		}
		for i := range 8 {
			remember(all[i%2], i)
		}
		if got := keys(); got != "00 01 02 03 04 05 06 07" {
			t.Errorf("before anybody looks, remembered are %s", got)
		}
		all[0].untrimmed = onceSlack - 2 // nobody writes meanwhile
		remember(all[0], 8)
		remember(all[0], 9)
		if got := keys(); got != "06 07 08 09" { // the last one was not stored when the process looked
			t.Errorf("remembered are %s, want the newest", got)
		}
		if all[0].untrimmed != 0 {
			t.Errorf("after it has looked, %d are to come until it looks again", all[0].untrimmed)
		}
		// What another process or retention has removed counts no more: nothing is forgotten early.
		sqlOf(t, all[0].Store, "DELETE FROM @.request_keys RETURNING 1")
		all[1].untrimmed = onceSlack - 1
		remember(all[1], 10)
		remember(all[1], 11)
		if got := keys(); got != "0a 0b" {
			t.Errorf("of two, remembered are %s", got)
		}
	})
}
