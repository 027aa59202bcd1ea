package bolt

import (
	"testing"
	"time"

	"hookbolt/engine"
)

// A page looks at a bounded number of deliveries, and at none for a status that its webhooks have none of.
func TestLongSearch(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	oldest := addSession(t, s, time.Now().Add(-time.Minute))[0]
	addSessions(t, s, maxListed+1, time.Now().Add(-time.Minute))
	page := func(q engine.DeliveryQuery) engine.DeliveryPage {
		t.Helper()
		q.Limit = 10
		page, err := s.Deliveries(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	for _, status := range []engine.Status{engine.StatusPending, engine.StatusDelivered, engine.StatusFailed, engine.StatusCancelled} {
		for _, id := range []uint32{0, w.ID} {
			if p := page(engine.DeliveryQuery{Status: status, WebhookID: id}); len(p.Items) > 0 || p.NextCursor != "" {
				t.Errorf("%s of webhook %d, of which there is none: %d, and a next page %q", status, id, len(p.Items), p.NextCursor)
			}
		}
	}
	if taken := take(t, s, engine.Lane{WebhookID: w.ID}, 1).Claimed; len(taken) != 1 || taken[0].Delivery.ID != oldest.ID {
		t.Fatalf("took %+v", taken)
	}
	deliver(t, s, oldest, delivered, ok)
	for _, id := range []uint32{0, w.ID} {
		q := engine.DeliveryQuery{Status: engine.StatusDelivered, WebhookID: id}
		first := page(q)
		if len(first.Items) > 0 || first.NextCursor == "" {
			t.Errorf("webhook %d: the first page has %d", id, len(first.Items))
		}
		q.Cursor = first.NextCursor
		if second := page(q); len(second.Items) != 1 || second.Items[0].ID != oldest.ID || second.NextCursor != "" {
			t.Errorf("webhook %d: the second page has %d, and a next page %q", id, len(second.Items), second.NextCursor)
		}
	}
}
