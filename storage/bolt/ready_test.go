package bolt

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// readyAdmit lets every trigger be built at once, and hands what is claimed to take.
func readyAdmit(build func([]engine.Event, time.Time) ([]byte, error), take func(engine.Taken)) engine.Decide {
	return func(head engine.SessionHead, fresh []engine.Event, hooks *engine.WebhookSet) (engine.Decision, error) {
		d, err := engine.Admit(head, fresh, hooks)
		for i := range d.Triggers {
			d.Triggers[i].Ready = &engine.Ready{Build: build, Take: take}
		}
		return d, err
	}
}

// What is ready is stored with its payload, claimed and handed over, all with the events; nobody else gets it before it is given back.
func TestReady(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	lane := engine.Lane{WebhookID: w.ID}
	id, at := uuid.New(), now()
	events := session(t, id, at)
	var types []engine.EventType
	build := func(events []engine.Event, _ time.Time) ([]byte, error) {
		types = nil
		for _, ev := range events {
			types = append(types, ev.Type)
		}
		return []byte(`{"n":1}`), nil
	}
	var taken []engine.Taken
	admit := readyAdmit(build, func(tk engine.Taken) {
		d, payload, _, err := s.Delivery(context.Background(), tk.Delivery.ID)
		if err != nil || d != tk.Delivery || string(payload) != string(tk.Payload) {
			t.Errorf("as it is handed over, %+v is stored with %s: %v", d, payload, err)
		}
		taken = append(taken, tk)
	})
	// The first request finishes nothing; the payload is of both.
	for _, part := range [][]engine.Event{events[:1], events[1:]} {
		queued, err := s.AppendEvents(t.Context(), part, admit)
		if err != nil || len(queued) != 0 {
			t.Fatalf("queued %v: %v", queued, err)
		}
	}
	if want := []engine.EventType{engine.EventStart, engine.EventVote, engine.EventFinish}; !slices.Equal(types, want) {
		t.Errorf("the payload was built of %v, want %v", types, want)
	}
	if len(taken) != 1 || taken[0].Delivery.Status != engine.StatusPending || taken[0].Delivery.FrozenAt.IsZero() || string(taken[0].Payload) != `{"n":1}` {
		t.Fatalf("handed over: %+v", taken)
	}
	if again := take(t, s, lane, 10); len(again.Taken) != 0 {
		t.Errorf("what is claimed was taken once more: %+v", again.Taken)
	}
	s.Release([]engine.Delivery{taken[0].Delivery})
	back := take(t, s, lane, 10)
	if len(back.Taken) != 1 || back.Taken[0].Delivery != taken[0].Delivery || string(back.Taken[0].Payload) != `{"n":1}` {
		t.Fatalf("given back and taken: %+v", back.Taken)
	}
	if d := deliver(t, s, back.Taken[0].Delivery, delivered, ok); d.Status != engine.StatusDelivered {
		t.Errorf("after the attempt it is %s", d.Status)
	}
}

// What cannot be built is queued as if it had not been ready.
func TestReadyThatFails(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	admit := readyAdmit(func([]engine.Event, time.Time) ([]byte, error) { return nil, errors.New("no") },
		func(tk engine.Taken) { t.Errorf("handed over: %+v", tk) })
	queued, err := s.AppendEvents(t.Context(), session(t, uuid.New(), now()), admit)
	if err != nil || len(queued) != 1 {
		t.Fatalf("queued %v: %v", queued, err)
	}
	got := take(t, s, engine.Lane{WebhookID: w.ID}, 10)
	if len(got.Taken) != 1 || got.Taken[0].Session == nil {
		t.Errorf("taken: %+v", got.Taken)
	}
	for _, tk := range got.Taken {
		deliver(t, s, tk.Delivery, delivered, ok)
	}
}

// A commit that was refused has made no claim: the numbers are drawn again.
func TestReadyIsNotClaimedWithoutACommit(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	admit := readyAdmit(func([]engine.Event, time.Time) ([]byte, error) { return []byte(`{}`), nil },
		func(tk engine.Taken) { t.Errorf("handed over: %+v", tk) })
	id := uuid.New()
	spoilt := errors.New("spoilt")
	err := s.write(t.Context(), 1, func(b *batch) error {
		p, err := b.planSession(session(t, id, now()), admit)
		if err != nil {
			return err
		}
		if _, err := b.appendToSession(p); err != nil {
			return err
		}
		return spoilt
	})
	if !errors.Is(err, spoilt) {
		t.Fatalf("the change ended with %v", err)
	}
	if _, err := s.AppendEvents(t.Context(), session(t, id, now()), engine.Admit); err != nil {
		t.Fatal(err)
	}
	if got := take(t, s, engine.Lane{WebhookID: w.ID}, 10); len(got.Taken) != 1 {
		t.Errorf("%d taken, want the one that was stored", len(got.Taken))
	}
}
