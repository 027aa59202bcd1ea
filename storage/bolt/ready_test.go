package bolt

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// appendReady stores events of one session, whose webhook's lane is open, with a payload for it in case the session is new.
func appendReady(t testing.TB, s *Store, w engine.Webhook, events []engine.Event) engine.Appended {
	t.Helper()
	done, err := s.AppendEvents(t.Context(), readyAppend(w, events))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

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
		plans, err := b.planSessions(&a)
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

// What is claimed as it is stored is nobody else's before it is given back; it is frozen if its payload came with it.
func TestReady(t *testing.T) {
	for name, split := range map[string]bool{"whole": false, "in pieces": true} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, newPath(t))
			w := putWebhook(t, s, engine.Webhook{})
			lane := engine.Lane{WebhookID: w.ID}
			events := session(t, uuid.New(), now())
			if split {
				if done := appendReady(t, s, w, events[:1]); len(done.Claimed)+len(done.Queued) != 0 {
					t.Fatalf("a start has led to %+v", done)
				}
				events = events[1:]
			}
			done := appendReady(t, s, w, events)
			if len(done.Claimed) != 1 || len(done.Queued) != 0 {
				t.Fatalf("it has led to %+v", done)
			}
			c := done.Claimed[0]
			d, payload, _, err := s.Delivery(t.Context(), c.Delivery.ID)
			if err != nil || d != c.Delivery || string(payload) != string(c.Payload) {
				t.Errorf("%+v is stored with %s: %v", d, payload, err)
			}
			if split {
				if d.Status != engine.StatusScheduled || c.Session == nil || len(c.Session.Batches) != 2 {
					t.Errorf("claimed %+v", c)
				}
			} else if d.Status != engine.StatusPending || !d.FrozenAt.Equal(d.CreatedAt) || string(payload) != `{"n":1}` {
				t.Errorf("claimed %+v with %s", d, payload)
			}
			if again := take(t, s, lane, 10); len(again.Claimed) != 0 {
				t.Errorf("what is claimed was claimed once more: %+v", again.Claimed)
			}
			if err := s.Release(t.Context(), []engine.Delivery{d}); err != nil {
				t.Error(err)
			}
			back := take(t, s, lane, 10)
			if len(back.Claimed) != 1 || back.Claimed[0].Delivery != d {
				t.Fatalf("given back and claimed: %+v", back.Claimed)
			}
			if d := deliver(t, s, d, delivered, ok); d.Status != engine.StatusDelivered {
				t.Errorf("after the attempt it is %s", d.Status)
			}
		})
	}
}
