package engine_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// A session that is posted whole is frozen with its events and sent: the store is asked for no other freezing.
func TestDueOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		full := w.crowd()
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		full.freeze.Store(true)
		synctest.Wait() // until it delivers
		id := uuid.New()
		w.ingest(event("start", id) + event("vote", id, `"question_id":1`, `"answer_id":11`) + event("finish", id))
		synctest.Wait()
		got := w.net.all()
		if len(got) != 1 || !bytes.Contains(got[0].body, []byte(`"answer_id":11`)) {
			t.Fatalf("%d requests: %v", len(got), got)
		}
		d := w.only(engine.DeliveryQuery{})
		if d.Status != engine.StatusDelivered || !d.FrozenAt.Equal(d.CreatedAt) || full.refused.Load() != 0 {
			t.Errorf("%+v, and %d payloads were to be frozen apart", d, full.refused.Load())
		}
	})
}

// What finishes a session that came in pieces is claimed as it is stored, and frozen with all the session's events, without a look at the
// queue.
func TestDueOnArrivalInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		var claims, frozen int
		w.restartHooked(&hooked{
			afterClaim:   func(results []engine.ClaimResult) { claims += len(results[0].Claimed) },
			beforeFreeze: func(engine.Freeze) { frozen++ },
		})
		synctest.Wait() // until it delivers
		id := uuid.New()
		w.ingest(event("start", id))
		w.ingest(event("vote", id, `"question_id":1`, `"answer_id":11`))
		w.ingest(event("finish", id))
		synctest.Wait()
		got := w.net.all()
		if len(got) != 1 || !bytes.Contains(got[0].body, []byte(`"answer_id":11`)) {
			t.Fatalf("%d requests: %v", len(got), got)
		}
		if d := w.only(engine.DeliveryQuery{}); d.Status != engine.StatusDelivered || claims != 0 || frozen != 1 {
			t.Errorf("%+v, %d claimed from the queue, %d frozen apart; want none and one", d, claims, frozen)
		}
	})
}

// A session that looks whole and is not gets all of its events into the payload, and one that was posted before is not sent again.
func TestWholeThatIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":0}`)
		id := uuid.New()
		w.ingest(event("vote", id, `"question_id":1`, `"answer_id":11`))
		whole := event("start", id) + event("vote", id, `"question_id":2`, `"answer_id":22`) + event("finish", id)
		w.ingest(whole)
		w.ingest(whole)
		synctest.Wait()
		got := w.net.all()
		if len(got) != 1 || !bytes.Contains(got[0].body, []byte(`"answer_id":11`)) || !bytes.Contains(got[0].body, []byte(`"answer_id":22`)) {
			t.Fatalf("%d requests: %v", len(got), got)
		}
	})
}

// The payload is the same as if it were built from what is stored.
func TestDueOnArrivalIsAsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":0}`)
		time.Sleep(123456789 * time.Nanosecond)
		id := uuid.New()
		w.ingest(event("vote", id, `"question_id":1`, `"question":"\u00e4<b>"`, `"answers":[{"answer_id":11,"addon":"x\n"},{"answer_id":12}]`) +
			fmt.Sprintf(`{"type":"lead","session_id":%q,"lead":{"email":"a@example.com"}}{"type":"result_view","session_id":%[1]q,"result":{"result_id":4}}`, id))
		stored, err := w.Preview(t.Context(), engine.PreviewRequest{WebhookID: hook.ID, SessionID: id})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.net.all(); len(got) != 1 || !bytes.Equal(got[0].body, stored.Body) {
			t.Errorf("sent %v, and stored is\n%s", got, stored.Body)
		}
	})
}

// What is not sent at once is not frozen on arrival: what happens meanwhile belongs to it, and so do the webhook's settings then.
func TestNotReadyOnArrival(t *testing.T) {
	for name, tt := range map[string]struct {
		settings string
		prepare  func(w *world, hook uint32)
		session  func(w *world)
	}{
		"due later":    {settings: `"delay":1`},
		"paused":       {settings: `"delay":0,"paused":true`},
		"rate limited": {settings: `"delay":0,"rate_limit":0.1`, prepare: func(w *world, _ uint32) { w.session() }},
		"failing": {settings: `"delay":0`, prepare: func(w *world, _ uint32) {
			w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
			w.sessions(5)
		}},
		"long": {settings: `"delay":0,"max_in_flight":1`, session: func(w *world) {
			w.net.answer = hang
			w.sessions(2) // as many as may be taken up
			id := uuid.New()
			w.ingest(event("vote", id, `"question_id":1`, `"answer_id":11`, fmt.Sprintf(`"answer":"%032768d"`, 1)) + event("finish", id))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				hook := w.webhook(`{"url":"https://a.example/",` + tt.settings + `}`)
				if tt.prepare != nil {
					tt.prepare(w, hook.ID)
					synctest.Wait()
				}
				if tt.session == nil {
					tt.session = func(w *world) { w.session() }
				}
				tt.session(w)
				synctest.Wait()
				if d := w.list(engine.DeliveryQuery{})[0]; d.Status != engine.StatusScheduled {
					t.Errorf("it is %s", d.Status)
				}
			})
		})
	}
}

// However many arrive at once, each is sent once and in the order of their arrival, within what the lane may have under way.
func TestManyDueOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Millisecond)
			return answer(200), nil
		}
		var want []uuid.UUID
		for range 5 {
			want = append(want, w.sessions(20)...)
			time.Sleep(35 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got := w.net.all()
		if len(got) != len(want) {
			t.Fatalf("%d requests, want %d", len(got), len(want))
		}
		for i, r := range got {
			if !bytes.Contains(r.body, []byte(want[i].String())) {
				t.Fatalf("request %d is of another session", i)
			}
		}
	})
}

// One that waits in line can be cancelled, and those of a webhook that is switched off are.
func TestCancelDueOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answer(200), nil
		}
		w.sessions(2)
		synctest.Wait()
		if _, err := w.Cancel(t.Context(), w.list(engine.DeliveryQuery{})[0].ID); err != nil {
			t.Error(err)
		}
		w.sessions(3)
		synctest.Wait()
		w.patch(hook.ID, `{"active":false}`)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(w.net.all()); n != 1 {
			t.Errorf("%d requests, want the one that was under way", n)
		}
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusCancelled})); n != 4 {
			t.Errorf("%d are cancelled, want 4", n)
		}
	})
}

// A stop gives back what has arrived and was not sent; the next start sends it, once.
func TestStopWithArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(cfg *engine.Config) { cfg.ShutdownTimeout = 0 })
		w.webhook(`{"url":"https://a.example/","delay":0,"max_in_flight":1}`)
		w.net.answer = hang
		w.sessions(4)
		synctest.Wait()
		w.net.answer = nil
		w.restart()
		time.Sleep(time.Second)
		synctest.Wait()
		sent := make(map[string]int)
		for _, r := range w.net.all() {
			sent[r.id]++
		}
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 4 || len(sent) != 4 {
			t.Errorf("%d delivered of %d that were sent, want 4", n, len(sent))
		}
	})
}
