package bolt

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// addTogether stores n sessions in one batch, which gives them one entry in expiry.
func addTogether(t *testing.T, s *Store, n int) []uuid.UUID {
	t.Helper()
	var ids []uuid.UUID
	var events []engine.Event
	for range n {
		ids = append(ids, uuid.New())
		events = append(events, session(t, ids[len(ids)-1], now())...)
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(events, now())); err != nil {
		t.Fatal(err)
	}
	return ids
}

func expiryEntries(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.db.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket(bucketExpiry).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What shares an entry goes at its own time: what is old, what has gone on since, what waits, and what is too much for one step.
func TestExpiryTogether(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	ids := addTogether(t, s, expireStep+50)
	if n := expiryEntries(t, s); n != 1 {
		t.Fatalf("%d entries, want 1", n)
	}
	keep := engine.Retention{Sessions: time.Hour, Deliveries: time.Hour}
	start := now()
	for _, tk := range take(t, s, engine.Lane{WebhookID: w.ID}, len(ids)-1).Claimed {
		deliver(t, s, tk.Delivery, delivered, ok)
	}
	// The last one's delivery waits; the one before goes on half an hour later.
	late, err := engine.ParseEvents([]byte(`{"type":"lead","session_id":"`+ids[len(ids)-2].String()+`","lead":{"name":"n"}}`), start.Add(30*time.Minute))
	if err == nil {
		_, err = s.AppendEvents(t.Context(), engine.NewAppend(late, now()))
	}
	if err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		for _, id := range ids {
			switch _, _, err := s.Session(t.Context(), id); {
			case err == nil:
				n++
			case !errors.Is(err, engine.ErrNotFound):
				t.Fatal(err)
			}
		}
		return n
	}
	maintain := func(at time.Time) (total engine.Removed, steps int) {
		for {
			m, err := s.Maintain(t.Context(), at, keep)
			if err != nil || len(m.Damaged) > 0 {
				t.Fatal(err, m.Damaged)
			}
			steps++
			total.Sessions += m.Expired.Sessions
			total.Deliveries += m.Expired.Deliveries
			if m.Next.After(at) {
				return total, steps
			}
		}
	}
	if total, _ := maintain(start.Add(59 * time.Minute)); total != (engine.Removed{}) || left() != len(ids) {
		t.Errorf("before their time went %+v", total)
	}
	total, steps := maintain(start.Add(61 * time.Minute))
	if total.Sessions != len(ids)-2 || total.Deliveries != len(ids)-1 || left() != 2 || steps < 3 {
		t.Errorf("at their time went %+v in %d steps, and %d sessions are left; want %d, %d and 2", total, steps, left(), len(ids)-2, len(ids)-1)
	}
	if total, _ := maintain(start.Add(91 * time.Minute)); total.Sessions != 1 {
		t.Errorf("half an hour later went %+v", total)
	}
}

// Retention by size passes over what stays in an entry, however much that is, and takes what stands behind it.
func TestEvictionWithinAnEntry(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	ids := addTogether(t, s, 2*expireStep+50)
	waiting := take(t, s, engine.Lane{WebhookID: w.ID}, len(ids)).Claimed
	for _, tk := range waiting[2*expireStep:] { // the deliveries of the last 50 are done
		deliver(t, s, tk.Delivery, delivered, ok)
	}
	s.space.maxBytes = 1 // crowded
	var evicted engine.Removed
	for range 20 {
		m, err := s.Maintain(t.Context(), now(), engine.Retention{Sessions: 1000 * time.Hour, Deliveries: 1000 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		evicted.Sessions += m.Evicted.Sessions
		evicted.Deliveries += m.Evicted.Deliveries
	}
	if evicted != (engine.Removed{Sessions: 50, Deliveries: 50}) {
		t.Errorf("evicted %+v, want 50 sessions and their deliveries", evicted)
	}
	s.space.maxBytes = 0
}

func FuzzExpiry(f *testing.F) {
	key := expiryKey(expirySession, time.Unix(1, 0), 7)
	f.Add(key, encodeExpiry(key, []uint64{8, 300, 1 << 40}))
	f.Add(key, []byte(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) != 17 {
			return
		}
		numbers, err := decodeExpiry(key, value)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Error(err)
			}
			return
		}
		again, err := decodeExpiry(key, encodeExpiry(key, numbers[1:]))
		if err != nil || !slices.Equal(again, numbers) {
			t.Errorf("%v became %v: %v", numbers, again, err)
		}
	})
}
