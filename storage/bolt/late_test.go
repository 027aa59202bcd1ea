package bolt

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// addSent stores finished sessions of about 20 KiB whose complete payloads are built.
func addSent(t *testing.T, s *Store, w engine.Webhook, n int) (ids []uuid.UUID) {
	t.Helper()
	text := strings.Repeat("x", 20<<10)
	for range n {
		id := uuid.New()
		events := session(t, id, now())
		events = append(events, parseAll(t, fmt.Sprintf(`{"type":"lead","session_id":%q,"lead":{"comment":%q}}`, id, text))...)
		if _, err := s.AppendEvents(t.Context(), engine.NewAppend(events, now())); err != nil {
			t.Fatal(err)
		}
		d := take(t, s, engine.Lane{WebhookID: w.ID}, 1).Claimed[0].Delivery
		if err := freeze(t.Context(), s, d, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func parseAll(t *testing.T, body string) []engine.Event {
	t.Helper()
	events, err := engine.ParseEvents([]byte(body), now())
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// updatesOf returns the updates of a session.
func updatesOf(t *testing.T, s *Store, id uuid.UUID) (list []engine.Delivery) {
	t.Helper()
	_, deliveries, err := s.Session(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(deliveries, func(d engine.Delivery) bool { return d.Kind != engine.KindUpdate })
}

// One request with a late event for many sessions compares the payloads of the first ones only: the writer reads a bounded part of the sessions.
func TestLateReadsABoundedPart(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{SendAnswers: true, SendLeads: true, SendUpdates: true})
	ids := addSent(t, s, w, 60)
	var body strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&body, `{"type":"undo","session_id":%q,"question_id":999}`, id) // it changes nothing
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(parseAll(t, body.String()), now())); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i, id := range ids {
		if len(updatesOf(t, s, id)) > 0 {
			continue
		}
		if compared++; compared != i+1 {
			t.Errorf("session %d was compared, after one that was not", i)
		}
	}
	if bytes := compared * 20 << 10; bytes > engine.MaxCompared || bytes < engine.MaxCompared*8/10 {
		t.Errorf("%d sessions of 20 KiB were compared, want %d bytes of them", compared, engine.MaxCompared)
	}
}

// A walk from the newest mark has the marks of one session and webhook, wherever they stand, and begins with the newest update.
func TestNewestRefsTo(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{SendAnswers: true, SendUpdates: true})
	other := putWebhook(t, s, engine.Webhook{SendAnswers: true, SendUpdates: true})
	id := addSent(t, s, w, 3)[1]
	const updates = maxMarksInHead + 10
	for i := range updates {
		events := parseAll(t, fmt.Sprintf(`{"type":"vote","session_id":%q,"question_id":%d,"answer_id":1}`, id, i))
		if _, err := s.AppendEvents(t.Context(), engine.NewAppend(events, now().Add(-time.Minute))); err != nil {
			t.Fatal(err)
		}
		for _, c := range take(t, s, engine.Lane{WebhookID: w.ID}, 10).Claimed {
			if err := freeze(t.Context(), s, c.Delivery, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := updatesOf(t, s, id)
	newest := slices.MaxFunc(all, func(a, b engine.Delivery) int { return a.BuiltFrom - b.BuiltFrom })
	err := s.viewSession(t.Context(), id, func(tx *bbolt.Tx, session finder) error {
		r, err := session.read(tx)
		if err != nil {
			return err
		}
		for _, webhook := range []uint32{w.ID, other.ID} {
			got, want := slices.Collect(s.newestRefsTo(tx, &r, webhook)), slices.Collect(s.refsTo(tx, &r, webhook))
			if webhook == w.ID && (len(got) != updates+1 || got[0].ID != newest.ID) {
				t.Errorf("%d marks, the first of %s; want %d, the first of %s", len(got), got[0].ID, updates+1, newest.ID)
			}
			byID := func(a, b engine.DeliveryRef) int { return strings.Compare(a.ID.String(), b.ID.String()) }
			slices.SortFunc(got, byID)
			slices.SortFunc(want, byID)
			if !slices.Equal(got, want) {
				t.Errorf("webhook %d: %d marks, want %d", webhook, len(got), len(want))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
