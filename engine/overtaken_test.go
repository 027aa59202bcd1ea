package engine_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// What the deliveries of one session to one webhook mean for each other.

// eventAt is the JSON of an event that happens at a time.
func eventAt(kind string, session uuid.UUID, at time.Time, fields ...string) string {
	return strings.Replace(event(kind, session, fields...), time.Now().UTC().Format(time.RFC3339Nano), at.UTC().Format(time.RFC3339Nano), 1)
}

const leadField = `"lead":{"email":"n@a.example"}`

// newLateWorld is a world in which events may have happened hours ago: none may be from before 2000, when the time of a bubble begins.
func newLateWorld(t *testing.T) *world {
	w := newWorld(t)
	time.Sleep(24 * time.Hour)
	return w
}

// of returns the only delivery of that kind.
func (w *world) of(kind engine.Kind) engine.Delivery {
	w.t.Helper()
	var found []engine.Delivery
	for _, d := range w.list(engine.DeliveryQuery{}) {
		if d.Kind == kind {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("%d deliveries of kind %s, want 1", len(found), kind)
	}
	return found[0]
}

func kindOf(r received) string { return r.header.Get("hookbolt-kind") }

// The complete delivery of a session waits until the attempt of the incomplete one has ended, with its payload, too. Others of the lane do not wait.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(t)
		slow := uuid.New()
		var ended time.Time
		w.net.answer = func(r received, req *http.Request) (*http.Response, error) {
			if kindOf(r) == "incomplete" && bytes.Contains(r.body, []byte(slow.String())) {
				time.Sleep(10 * time.Second)
				ended = time.Now()
			}
			return answer(500), nil
		}
		w.webhook(`{"url":"https://a.example/","delay":5,"send_incomplete":true,"incomplete_delay":60,"retry_schedule":["1h"]}`)
		w.ingest(event("start", slow))
		time.Sleep(57 * time.Second)
		// Its complete delivery is due 5 s after the incomplete one, which takes 10 s.
		w.ingest(eventAt("finish", slow, time.Now().Add(3*time.Second+time.Millisecond)))
		time.Sleep(2*time.Second + time.Millisecond)
		other := uuid.New()
		w.ingest(event("start", other) + event("finish", other)) // due while the other one waits
		time.Sleep(7 * time.Second)
		w.ingest(event("lead", slow, leadField)) // at 66 s: after the complete one was due, and before it may be built
		time.Sleep(time.Minute)
		synctest.Wait()
		got := w.net.all()
		if len(got) != 3 || kindOf(got[0]) != "incomplete" || kindOf(got[1]) != "complete" || kindOf(got[2]) != "complete" {
			t.Fatalf("%d requests", len(got))
		}
		if !bytes.Contains(got[1].body, []byte(other.String())) || got[1].at.After(ended.Add(-time.Second)) {
			t.Errorf("the other session of the lane was sent at %v, want it during the attempt that ended at %v", got[1].at, ended)
		}
		if !got[2].at.Equal(ended) || !bytes.Contains(got[2].body, []byte("n@a.example")) {
			t.Errorf("the complete one was sent at %v, want %v, with the lead: %s", got[2].at, ended, got[2].body)
		}
		complete, incomplete := engine.Delivery{}, w.of(engine.KindIncomplete)
		for _, d := range w.list(engine.DeliveryQuery{SessionID: slow}) {
			if d.Kind == engine.KindComplete {
				complete = d
			}
		}
		if incomplete.Status != engine.StatusCancelled || incomplete.SupersededBy != complete.ID || incomplete.Attempts != 1 || !incomplete.NextAttemptAt.IsZero() {
			t.Errorf("the incomplete one is %+v, want it cancelled for %s", incomplete, complete.ID)
		}
		if complete.BuiltFrom != 3 || !complete.FrozenAt.Equal(ended) {
			t.Errorf("the complete one is %+v, want it built from 3 events at %v", complete, ended)
		}
	})
}

// An event that comes between the claim of a delivery and the freezing of its payload is in the payload.
func TestPayloadHoldsWhatCameMeanwhile(t *testing.T) {
	for _, incomplete := range []bool{false, true} {
		t.Run(fmt.Sprint("incomplete=", incomplete), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newLateWorld(t)
				id, late := uuid.New(), 0
				w.restartHooked(&hooked{beforeFreeze: func(engine.Freeze) {
					if late++; late <= 3 {
						w.ingest(eventAt("vote", id, time.Now().Add(-time.Minute), fmt.Sprintf(`"question_id":%d`, late), `"answer_id":1`))
					}
				}})
				w.webhook(fmt.Sprintf(`{"url":"https://a.example/","delay":5,"send_incomplete":%t}`, incomplete))
				w.ingest(eventAt("start", id, time.Now().Add(-2*time.Minute)))
				if !incomplete {
					w.ingest(event("finish", id))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				got := w.net.all()
				if len(got) != 1 {
					t.Fatalf("%d requests, want 1", len(got))
				}
				for question := range 3 {
					if has := bytes.Contains(got[0].body, fmt.Appendf(nil, `"question_id":%d`, question+1)); has == incomplete { // the incomplete one ends before
						t.Errorf("question %d is there: %t\n%s", question+1, has, got[0].body)
					}
				}
				if d := w.list(engine.DeliveryQuery{})[0]; d.BuiltFrom != 4+map[bool]int{false: 1}[incomplete] || d.Status != engine.StatusDelivered {
					t.Errorf("%+v", d)
				}
			})
		})
	}
}

// What was superseded goes out again by hand. That takes nothing from the newer one, and replays leave it out.
func TestSupersededByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(t)
		var status atomic.Int64 // the endpoint reads it
		status.Store(500)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(int(status.Load())), nil }
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"send_incomplete":true,"incomplete_delay":60,"retry_schedule":["1h"]}`)
		id := uuid.New()
		w.ingest(eventAt("start", id, time.Now().Add(-5*time.Minute))) // due 2 s later
		w.ingest(event("finish", id))                                  // frozen at once
		synctest.Wait()
		incomplete, complete := w.of(engine.KindIncomplete), w.of(engine.KindComplete)
		if incomplete.Status != engine.StatusCancelled || incomplete.SupersededBy != complete.ID || incomplete.BuiltFrom != 0 || complete.Status != engine.StatusPending {
			t.Fatalf("incomplete %+v\ncomplete %+v", incomplete, complete)
		}
		for _, scope := range []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny, engine.ReplayMissing} {
			if r, err := w.Replay(t.Context(), engine.Replay{WebhookID: hook.ID, Scope: scope}); err != nil || r.Count != 0 {
				t.Errorf("a replay of %s: %d, %v; want none", scope, r.Count, err)
			}
		}
		if _, err := w.Retry(t.Context(), incomplete.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		got := w.net.all()
		if len(got) != 2 || kindOf(got[1]) != "incomplete" {
			t.Fatalf("%d requests, want the incomplete one after the complete one", len(got))
		}
		incomplete, complete = w.of(engine.KindIncomplete), w.of(engine.KindComplete)
		if incomplete.Status != engine.StatusPending || incomplete.SupersededBy != uuid.Nil || complete.Status != engine.StatusPending {
			t.Errorf("incomplete %+v\ncomplete %+v", incomplete, complete)
		}
		status.Store(200)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if incomplete, complete = w.of(engine.KindIncomplete), w.of(engine.KindComplete); incomplete.Status != engine.StatusDelivered || complete.Status != engine.StatusDelivered {
			t.Errorf("incomplete %+v\ncomplete %+v", incomplete, complete)
		}
	})
}

// An update supersedes the complete delivery and an update before it, as far as they wait, and replays leave both out. What has failed for good stays.
func TestUpdateSupersedes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(t)
		var status atomic.Int64 // the endpoint reads it
		status.Store(500)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(int(status.Load())), nil }
		hook := w.webhook(`{"url":"https://a.example/","delay":3,"send_updates":true,"retry_schedule":["1h"]}`)
		id, failed := uuid.New(), uuid.New()
		w.ingest(event("start", failed) + event("finish", failed))
		time.Sleep(2 * time.Hour)
		w.patch(hook.ID, `{"url":"https://b.example/"}`) // healthy again
		w.ingest(event("start", id) + event("finish", id))
		time.Sleep(time.Minute)
		for range 2 {
			w.ingest(event("lead", id, leadField) + event("lead", failed, leadField))
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		byKind := make(map[engine.Kind][]engine.Delivery)
		for _, d := range w.list(engine.DeliveryQuery{SessionID: id}) {
			byKind[d.Kind] = append(byKind[d.Kind], d) // newest first
		}
		complete, updates := byKind[engine.KindComplete], byKind[engine.KindUpdate]
		if len(complete) != 1 || len(updates) != 2 {
			t.Fatalf("%d complete ones and %d updates", len(complete), len(updates))
		}
		if complete[0].SupersededBy != updates[1].ID || updates[1].SupersededBy != updates[0].ID || updates[0].Status != engine.StatusPending {
			t.Errorf("complete %+v\nupdates %+v", complete[0], updates)
		}
		for _, d := range w.list(engine.DeliveryQuery{SessionID: failed}) {
			if d.Kind == engine.KindComplete && (d.Status != engine.StatusFailed || d.SupersededBy != uuid.Nil) {
				t.Errorf("the failed one: %+v", d)
			}
		}
		for _, scope := range []engine.ReplayScope{engine.ReplayFailed, engine.ReplayAny, engine.ReplayMissing} {
			if r, err := w.Replay(t.Context(), engine.Replay{WebhookID: hook.ID, Scope: scope, DryRun: true}); err != nil || r.Count != 0 {
				t.Errorf("a replay of %s: %d, %v; want none", scope, r.Count, err)
			}
		}
	})
}

// Late events count where the payload of the webhook has them, and wait for nothing that a change of the webhook has cancelled.
func TestUpdatesFollowTheSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(t)
		bare := w.webhook(`{"url":"https://a.example/","delay":1,"send_updates":true,"send_answers":false,"send_leads":false}`)
		deaf := w.webhook(`{"url":"https://b.example/","delay":1,"send_leads":false}`)
		full := w.webhook(`{"url":"https://c.example/","delay":60,"send_updates":true}`)
		id := uuid.New()
		w.ingest(event("start", id) + event("finish", id))
		time.Sleep(2 * time.Minute)
		made := func(hook engine.Webhook) (n int) {
			for _, d := range w.list(engine.DeliveryQuery{WebhookID: hook.ID}) {
				if d.Kind == engine.KindUpdate {
					n++
				}
			}
			return n
		}
		late := func(hook engine.Webhook) int {
			for _, d := range w.list(engine.DeliveryQuery{WebhookID: hook.ID}) {
				if d.Kind == engine.KindComplete {
					return d.LateEvents
				}
			}
			return -1
		}
		check := func(what string, bares, deafs, fulls int) {
			t.Helper()
			synctest.Wait()
			if b, d, f := made(bare), late(deaf), made(full); b != bares || d != deafs || f != fulls {
				t.Errorf("%s: %d updates, %d events late, %d updates; want %d, %d and %d", what, b, d, f, bares, deafs, fulls)
			}
		}
		w.ingest(event("lead", id, leadField, `"id":"1"`))
		check("a lead", 0, 0, 1)
		w.ingest(event("lead", id, leadField, `"id":"1"`))
		check("the same lead again", 0, 0, 1)
		w.ingest(event("vote", id, `"question_id":1`, `"answer_id":2`) + event("undo", id, `"question_id":9`))
		check("a vote, and what changes nothing", 0, 2, 1)
		w.ingest(event("undo", id, `"question_id":8`))
		check("what changes nothing", 0, 2, 1)
		w.patch(full.ID, `{"send_updates":false}`)
		w.patch(full.ID, `{"send_updates":true}`)
		w.ingest(event("lead", id, leadField))
		check("a lead after the update that waited was cancelled", 0, 2, 2)
		w.ingest(event("lead", id, leadField))
		check("another one while that update waits", 0, 2, 2)
		time.Sleep(2 * time.Minute)
		w.ingest(eventAt("start", id, time.Now().Add(-time.Hour)))
		check("an earlier start", 1, 3, 3)
		if n := w.lateEvents(); n != 3 {
			t.Errorf("%d events are counted as late, want 3", n)
		}
		w.patch(bare.ID, `{"active":false}`)
		w.ingest(eventAt("start", id, time.Now().Add(-2*time.Hour)))
		time.Sleep(2 * time.Minute)
		check("an earlier start while one is switched off, and another one waits", 1, 4, 3)
		w.patch(deaf.ID, `{"send_updates":true}`)
		w.ingest(event("vote", id, `"question_id":2`, `"answer_id":2`))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n, m := late(deaf), made(deaf); n != 0 || m != 1 {
			t.Errorf("after an update that tells them %d events are late, %d updates; want none and 1", n, m)
		}
	})
}

// An update that a change of the webhook has cancelled holds nothing, also before the background has carried that out.
func TestUpdateAfterOneThatIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(t)
		var lease *leaseStore
		w.wrap = func(s engine.Store) engine.Store { lease = newLeaseStore(s); return lease }
		w.restart()
		hook := w.webhook(`{"url":"https://a.example/","delay":60,"send_updates":true}`)
		id := uuid.New()
		w.ingest(event("start", id) + event("finish", id))
		time.Sleep(2 * time.Minute)
		w.ingest(event("lead", id, leadField))
		lease.breaks(true, "Maintain")
		w.patch(hook.ID, `{"send_updates":false}`)
		w.patch(hook.ID, `{"send_updates":true}`)
		w.ingest(event("vote", id, `"question_id":1`, `"answer_id":2`))
		lease.breaks(false, "Maintain")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		got := w.net.all()
		if len(got) != 2 || kindOf(got[1]) != "update" || !bytes.Contains(got[1].body, []byte("n@a.example")) || !bytes.Contains(got[1].body, []byte(`"answer_id":2`)) {
			t.Errorf("%d requests, want an update with the lead and the vote after the complete one", len(got))
		}
	})
}

// The first start of a session moves the trigger of each webhook, as its settings are then, makes one where there is none, and moves nothing twice.
func TestStartMovesTheTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLateWorld(t)
		moved := w.webhook(`{"url":"https://a.example/","send_incomplete":true,"incomplete_delay":600}`)
		none := w.webhook(`{"url":"https://b.example/","incomplete_delay":600}`)
		off := w.webhook(`{"url":"https://c.example/","send_incomplete":true,"incomplete_delay":600}`)
		id, begin := uuid.New(), time.Now()
		w.ingest(event("lead", id, leadField))
		if d := w.only(engine.DeliveryQuery{WebhookID: moved.ID}); !d.AsOf.Equal(begin.Add(10*time.Minute)) || !d.DueAt.Equal(d.AsOf) {
			t.Errorf("before the start: %+v", d)
		}
		time.Sleep(5 * time.Minute)
		w.patch(moved.ID, `{"incomplete_delay":300}`)
		w.patch(none.ID, `{"send_incomplete":true}`)
		w.patch(off.ID, `{"send_incomplete":false}`)
		w.patch(off.ID, `{"send_incomplete":true}`)
		started := time.Now()
		w.ingest(event("start", id))
		w.ingest(eventAt("start", id, started.Add(-time.Hour)))
		w.ingest(event("vote", id, `"question_id":1`, `"answer_id":2`))
		synctest.Wait()
		for hook, delay := range map[uint32]time.Duration{moved.ID: 5 * time.Minute, none.ID: 10 * time.Minute} {
			if d := w.only(engine.DeliveryQuery{WebhookID: hook}); !d.AsOf.Equal(started.Add(delay)) || !d.DueAt.Equal(d.AsOf) || !d.NextAttemptAt.Equal(d.AsOf) {
				t.Errorf("webhook %d: %+v, want it due at %v", hook, d, started.Add(delay))
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if d := w.only(engine.DeliveryQuery{WebhookID: off.ID}); d.Status != engine.StatusCancelled {
			t.Errorf("what was cancelled by a change: %+v", d)
		}
		for _, r := range w.net.all() {
			if want := map[string]time.Duration{"a.example": 5 * time.Minute, "b.example": 10 * time.Minute}[r.host]; !r.at.Equal(started.Add(want)) {
				t.Errorf("%s: sent %v after the start, want %v", r.host, r.at.Sub(started), want)
			}
		}
		if n := len(w.net.all()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}
