package bolt

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"hookbolt/engine"
)

func readyAppend(w engine.Webhook, events []engine.Event) engine.Append {
	a := engine.NewAppend(events, now())
	a.Open = map[uint32]bool{w.ID: true}
	a.Sessions[0].Payloads = []engine.RenderedPayload{{WebhookID: w.ID, Revision: w.Revision, Body: []byte(`{"n":1}`)}}
	return a
}

// A commit that was refused has made no claim: the numbers are drawn again.
func TestReadyIsNotClaimedWithoutACommit(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	id := uuid.New()
	a := readyAppend(w, session(t, id, now()))
	failed := errors.New("failed")
	err := s.write(t.Context(), 1, func(b *batch) error {
		plans, err := b.planSessions(&a, new(engine.Appended))
		if err != nil {
			return err
		}
		if err := b.appendToSession(&plans[0], new(engine.Appended)); err != nil {
			return err
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatalf("the change ended with %v", err)
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, id, now()), now())); err != nil {
		t.Fatal(err)
	}
	if got := take(t, s, engine.Lane{WebhookID: w.ID}, 10); len(got.Claimed) != 1 {
		t.Errorf("%d claimed, want the one that was stored", len(got.Claimed))
	}
}
