package postgres

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// damaged are the errors that Maintain has to report, sorted.
func damagedOf(s *Store) (all []string) {
	for _, err := range s.damaged.take() {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	return all
}

// names reports damage that is not named, or named without need.
func names(t *testing.T, s *Store, what string, want ...string) {
	t.Helper()
	got := damagedOf(s)
	for _, part := range want {
		if !slices.ContainsFunc(got, func(text string) bool { return strings.Contains(text, part) }) {
			t.Errorf("%s: named are %q, want one with %q", what, got, part)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: named are %q, want %d", what, got, len(want))
	}
}

// A damaged row hides no other, and is named once.
func TestDamagedRowsArePassed(t *testing.T) {
	s := openTest(t)
	w := newHook(t, s)
	var ids []uuid.UUID
	for range 3 {
		if _, err := appendNew(s); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Deliveries(t.Context(), engine.DeliveryQuery{Limit: 10})
	if err != nil || len(all.Items) != 3 {
		t.Fatalf("%d deliveries (%v), want 3", len(all.Items), err)
	}
	for _, d := range all.Items {
		ids = append(ids, d.ID)
	}
	bad := all.Items[1]
	sqlOf(t, s, "UPDATE @.deliveries SET rest = '\\x00' WHERE id = $1 RETURNING ''", pgID(bad.ID))
	for _, q := range []engine.DeliveryQuery{{}, {WebhookID: w.ID}, {Status: engine.StatusScheduled}} {
		q.Limit = 1
		var got []uuid.UUID
		for {
			page, err := s.Deliveries(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page.Items {
				got = append(got, d.ID)
			}
			if q.Cursor = page.NextCursor; q.Cursor == "" {
				break
			}
		}
		if len(got) != 2 || slices.Contains(got, bad.ID) {
			t.Errorf("listed are %v, want those of %v without the second", got, ids)
		}
	}
	names(t, s, "a delivery", bad.ID.String())
	if _, _, _, err := s.Delivery(t.Context(), bad.ID); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the damaged delivery: got %v", err)
	}
	if _, deliveries, err := s.Session(t.Context(), bad.SessionID); err != nil || len(deliveries) != 0 {
		t.Errorf("its session has %d deliveries (%v), want none", len(deliveries), err)
	}
	names(t, s, "a delivery that was named before")
	if stats, err := s.Stats(t.Context(), benchNow(), false); err != nil || stats.Webhooks[w.ID].Scheduled != 3 {
		t.Errorf("stats are %+v (%v)", stats, err)
	}
}

// What is damaged beside a delivery leaves the delivery readable.
func TestDamagedParts(t *testing.T) {
	s, d := viewed(t, `{}`)
	sqlOf(t, s, "UPDATE @.attempts SET rest = '\\x00' RETURNING ''")
	sqlOf(t, s, "DELETE FROM @.payloads RETURNING ''")
	got, payload, attempts, err := s.Delivery(t.Context(), d.ID)
	if err != nil || got.ID != d.ID || payload != nil || len(attempts) != 0 {
		t.Errorf("got the payload %s and %d attempts (%v)", payload, len(attempts), err)
	}
	names(t, s, "an attempt and a payload", "attempt 1", "payload "+d.ID.String())
	whole := sqlOf(t, s, "SELECT encode(body, 'hex') FROM @.events")[0]
	for _, damage := range []string{"UPDATE @.events SET body = '\\x5b22' RETURNING ''", "DELETE FROM @.events RETURNING ''"} {
		sqlOf(t, s, damage)
		if record, _, err := s.Session(t.Context(), d.SessionID); !errors.Is(err, ErrCorrupt) || record.Batches != nil {
			t.Errorf("a session with damaged events: got %+v and %v", record, err)
		}
		sqlOf(t, s, "INSERT INTO @.events SELECT no, 1, 1, NULL, decode($1, 'hex') FROM @.sessions ON CONFLICT (session_no, n) DO UPDATE SET body = EXCLUDED.body RETURNING ''", whole)
	}
	if _, _, err := s.Session(t.Context(), d.SessionID); err != nil {
		t.Errorf("the whole session: %v", err)
	}
}

// A damaged session is passed by a search; its deliveries are found all the same.
func TestDamagedSession(t *testing.T) {
	s, d := viewed(t, `{}`)
	if _, err := appendNew(s); err != nil {
		t.Fatal(err)
	}
	sqlOf(t, s, "UPDATE @.sessions SET head = '\\x00' WHERE id = $1 RETURNING ''", pgID(d.SessionID))
	sqlOf(t, s, `UPDATE @.events SET body = convert_to('["email", "\u', 'UTF8') RETURNING ''`)
	page, err := s.Sessions(t.Context(), engine.SessionQuery{Limit: 10})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID == d.SessionID {
		t.Errorf("found are %+v (%v), want the other one", page, err)
	}
	if _, _, err := s.Session(t.Context(), d.SessionID); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the damaged one: got %v", err)
	}
	names(t, s, "a session", d.SessionID.String())
	page, err = s.Sessions(t.Context(), engine.SessionQuery{Limit: 10, Email: "a@example.com"})
	if err != nil || len(page.Items) > 0 {
		t.Errorf("found are %+v (%v)", page, err)
	}
	names(t, s, "its events", "events 1 of session number")
	for _, q := range []engine.DeliveryQuery{{}, {Status: engine.StatusPending}, {WebhookID: d.WebhookID}, {Status: engine.StatusPending, WebhookID: d.WebhookID}} {
		q.SessionID, q.Limit = d.SessionID, 10
		if page, err := s.Deliveries(t.Context(), q); err != nil || len(page.Items) != 1 || page.Items[0].ID != d.ID {
			t.Errorf("%+v: found are %+v (%v), want its delivery", q, page, err)
		}
	}
}

// Damaged counts leave lists and the other counts as they are.
func TestDamagedCounts(t *testing.T) {
	s, d := viewed(t, `{}`)
	sqlOf(t, s, "INSERT INTO @.counts VALUES (4711, '\\x00') RETURNING ''")
	for _, q := range []engine.DeliveryQuery{{Status: engine.StatusPending}, {WebhookID: d.WebhookID}} {
		q.Limit = 10
		if page, err := s.Deliveries(t.Context(), q); err != nil || len(page.Items) != 1 {
			t.Errorf("%+v: found are %+v (%v), want one", q, page, err)
		}
	}
	if stats, err := s.Stats(t.Context(), benchNow(), false); err != nil || stats.Webhooks[d.WebhookID].Pending != 1 {
		t.Errorf("stats are %+v (%v)", stats, err)
	}
	names(t, s, "counts", "counts 00")
}

// A damaged delivery at the front of its lane, which is never sent, does not stand for what is late, unless there is nothing else.
func TestDamagedFrontOfALane(t *testing.T) {
	s := openTest(t)
	w := newHook(t, s)
	at := benchNow().Add(time.Hour)
	first, second := enqueue(t, s, w, at), enqueue(t, s, w, at.Add(time.Minute))
	oldest := func(want time.Time, what string) {
		t.Helper()
		stats, err := s.Stats(t.Context(), at.Add(time.Hour), false)
		if got := stats.Webhooks[w.ID].OldestDueAt; err != nil || !got.Equal(want) {
			t.Errorf("%s: the oldest is due at %v (%v), want %v", what, got, err, want)
		}
	}
	oldest(first.NextAttemptAt, "whole")
	sqlOf(t, s, "UPDATE @.deliveries SET rest = '\\x00' WHERE id = $1 RETURNING ''", pgID(first.ID))
	oldest(second.NextAttemptAt, "the first is damaged")
	sqlOf(t, s, "UPDATE @.deliveries SET rest = '\\x00' RETURNING ''")
	oldest(first.NextAttemptAt, "both are damaged")
}

// A replay that cannot be read hides no other.
func TestDamagedJob(t *testing.T) {
	s := openTest(t)
	newHook(t, s)
	sqlOf(t, s, `INSERT INTO @.jobs VALUES (1, '{"replay": "none"}'), (2, '{"replay": {"webhook_id": 1}}') RETURNING ''`)
	stats, err := s.Stats(t.Context(), benchNow(), false)
	if err != nil || len(stats.Replays) != 1 {
		t.Errorf("replays are %+v (%v), want one", stats.Replays, err)
	}
	names(t, s, "a job", "job 1")
}
