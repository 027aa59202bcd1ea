package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

func TestParseReplay(t *testing.T) {
	since, until := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), time.Date(2026, 3, 2, 12, 0, 0, 500, time.UTC)
	for _, tt := range []struct {
		body string
		want engine.Replay
	}{
		{`{"status":"failed"}`, engine.Replay{Scope: engine.ReplayFailed}},
		{`{"status":"any","since":null,"until":null,"dry_run":null}`, engine.Replay{Scope: engine.ReplayAny}},
		{`{"status":"missing","since":"2026-03-01T13:00:00+01:00","until":"2026-03-02T12:00:00.0000005Z","dry_run":true}`,
			engine.Replay{Scope: engine.ReplayMissing, Since: since, Until: until, DryRun: true}},
	} {
		if got, err := engine.ParseReplay([]byte(tt.body)); err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.body, got, err)
		}
	}
	for _, tt := range []struct{ body, field, detail string }{
		{``, "", "ends too early"},
		{`[]`, "", "must be an object"},
		{`{}`, "status", "is required: failed, filtered, any or missing"},
		{`{"status":"pending"}`, "status", `must be failed, filtered, any or missing (got "pending")`},
		{`{"status":null}`, "status", "must be a string (got null)"},
		{`{"status":"any","since":"yesterday"}`, "since", "RFC 3339"},
		{`{"status":"any","until":1}`, "until", "must be a string"},
		{`{"status":"any","until":"9999-12-31T23:59:59-23:59"}`, "until", "years 0 to 9999"},
		{`{"status":"any","dry_run":"yes"}`, "dry_run", "must be true or false"},
		{`{"status":"any","webhook_id":1}`, "webhook_id", "unknown field"},
	} {
		_, err := engine.ParseReplay([]byte(tt.body))
		bad, ok := errors.AsType[engine.InputErrors](err)
		if !ok || bad[0].Field != tt.field || !strings.Contains(bad[0].Detail, tt.detail) {
			t.Errorf("%s: got %v, want %s: …%s…", tt.body, err, tt.field, tt.detail)
		}
	}
}

// replay asks how many it would be, does it, and checks that both say the same.
func (w *world) replay(r engine.Replay, want int64) {
	w.t.Helper()
	r.DryRun = true
	before := len(w.list(engine.DeliveryQuery{Status: engine.StatusScheduled})) + len(w.list(engine.DeliveryQuery{Status: engine.StatusPending}))
	dry, err := w.Replay(w.t.Context(), r)
	if err != nil || dry.Count != want {
		w.t.Fatalf("a dry run counts %d, want %d: %v", dry.Count, want, err)
	}
	synctest.Wait()
	if after := len(w.list(engine.DeliveryQuery{Status: engine.StatusScheduled})) + len(w.list(engine.DeliveryQuery{Status: engine.StatusPending})); after != before {
		w.t.Fatal("a dry run has changed something")
	}
	r.DryRun = false
	if done, err := w.Replay(w.t.Context(), r); err != nil || done.Count != want {
		w.t.Fatalf("it counts %d, want %d: %v", done.Count, want, err)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	if o, err := w.Overview(w.t.Context()); err != nil || len(o.Replays) != 0 {
		w.t.Fatalf("it has not ended: %+v, %v", o.Replays, err)
	}
}

func TestReplayFailedAndAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var status atomic.Int32
		status.Store(200)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(int(status.Load())), nil }
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["1s"],"send_incomplete":true,"incomplete_delay":0}`)
		other := w.webhook(`{"url":"https://b.example/","delay":0,"retry_schedule":["1s"]}`)
		play := func(code int32, n int) (from, to time.Time) {
			status.Store(code)
			from = time.Now()
			w.sessions(n)
			time.Sleep(time.Hour)
			synctest.Wait()
			return from, from.Add(time.Minute)
		}
		_, err := w.TestWebhook(t.Context(), hook.ID)
		if err != nil {
			t.Fatal(err)
		}
		play(200, 3)
		fromFailed, toFailed := play(500, 2)
		play(500, 2)
		// And what was cancelled.
		w.patch(hook.ID, `{"paused":true}`)
		w.patch(other.ID, `{"paused":true}`)
		play(200, 2)
		for _, d := range w.list(engine.DeliveryQuery{Status: engine.StatusScheduled}) {
			if _, err := w.Cancel(t.Context(), d.ID); err != nil {
				t.Fatal(err)
			}
		}
		w.patch(hook.ID, `{"paused":false}`)
		sent := map[string][]byte{}
		for _, r := range w.net.to("a.example") {
			sent[r.id] = r.body
		}
		before := len(w.net.to("a.example"))

		w.replay(engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayFailed, Since: fromFailed, Until: toFailed}, 2)
		w.replay(engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayFailed}, 2) // the other two
		w.replay(engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayFailed}, 0)
		again := w.net.to("a.example")[before:]
		if len(again) != 4 {
			t.Fatalf("%d sent again, want 4", len(again))
		}
		for _, r := range again {
			if !bytes.Equal(r.body, sent[r.id]) {
				t.Errorf("%s: other bytes than before", r.id)
			}
		}
		if n := len(w.list(engine.DeliveryQuery{WebhookID: hook.ID, Status: engine.StatusFailed})); n != 0 {
			t.Errorf("%d still failed", n)
		}
		if n := len(w.list(engine.DeliveryQuery{WebhookID: other.ID, Status: engine.StatusFailed})); n != 4 {
			t.Errorf("another webhook's: %d failed, want 4", n)
		}
		// All of them: 7 delivered, 2 cancelled; not the sample.
		w.replay(engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayAny}, 9)
		if n := len(w.net.to("a.example")) - before - 4; n != 9 {
			t.Errorf("%d sent again, want 9", n)
		}
		if n := len(w.list(engine.DeliveryQuery{WebhookID: hook.ID, Status: engine.StatusDelivered})); n != 10 {
			t.Errorf("%d delivered, want all 10", n)
		}
		// What no longer fits is left out.
		w.patch(hook.ID, `{"content_id":"11111111-2222-4333-8444-555555555555"}`)
		w.replay(engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayAny}, 0)
	})
}

func TestReplayMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		before := w.sessions(3) // finished before there was a webhook
		unfinished := uuid.New()
		w.ingest(event("start", unfinished))
		elsewhere := uuid.New()
		w.ingest(strings.ReplaceAll(event("start", elsewhere)+event("finish", elsewhere), contentID, "11111111-2222-4333-8444-555555555555"))
		time.Sleep(time.Hour)
		from := time.Now()
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"content_id":"` + contentID + `"}`)
		w.sessions(2) // delivered
		time.Sleep(time.Minute)
		w.patch(hook.ID, `{"delay":3600}`)
		cancelled := w.sessions(2)
		for _, d := range w.list(engine.DeliveryQuery{Status: engine.StatusScheduled}) {
			if _, err := w.Cancel(t.Context(), d.ID); err != nil {
				t.Fatal(err)
			}
		}
		w.sessions(1) // still waits
		time.Sleep(time.Minute)
		w.patch(hook.ID, `{"active":false}`) // and is cancelled with it
		off := w.sessions(2)
		time.Sleep(time.Minute)
		if _, err := w.Replay(t.Context(), engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayMissing}); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("of an inactive webhook: %v", err)
		}
		w.patch(hook.ID, `{"active":true}`)
		waiting := w.sessions(1)
		synctest.Wait()
		w.ingest(event("lead", before[0], `"lead":{"email":"late@example.com"}`))

		sent := len(w.net.all())
		w.replay(engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayMissing, Since: from}, int64(len(cancelled)+1+len(off)))
		w.replay(engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayMissing}, int64(len(before)))
		w.replay(engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayMissing}, 0)
		got := w.net.all()[sent:]
		if len(got) != len(cancelled)+1+len(off)+len(before) {
			t.Fatalf("%d sent", len(got))
		}
		var all strings.Builder
		for _, r := range got {
			all.WriteString(string(r.body))
		}
		for _, id := range append(append(append([]uuid.UUID{}, before...), cancelled...), off...) {
			if n := strings.Count(all.String(), id.String()); n != 1 {
				t.Errorf("session %s was sent %d times", id, n)
			}
		}
		for _, id := range []uuid.UUID{unfinished, elsewhere, waiting[0]} {
			if strings.Contains(all.String(), id.String()) {
				t.Errorf("session %s was sent", id)
			}
		}
		if !strings.Contains(all.String(), "late@example.com") {
			t.Error("what was never built is not built from what is stored now")
		}
		// The session's own list and the proof against a second one.
		w.ingest(event("finish", before[0]))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if _, _, deliveries, err := w.Session(t.Context(), before[0]); err != nil || len(deliveries) != 1 || deliveries[0].Status != engine.StatusDelivered {
			t.Errorf("%+v, %v", deliveries, err)
		}
	})
}

// A replay of 25,000 goes on after a restart, holds no more than a step of it in memory, and sends each once.
func TestReplayOfMany(t *testing.T) {
	n := 25_000
	if raced {
		n = 5000
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for range n / 1000 {
			w.sessions(1000)
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"paused":true}`)
		runtime.GC()
		var before, during runtime.MemStats
		runtime.ReadMemStats(&before)
		if r, err := w.Replay(t.Context(), engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayMissing}); err != nil || r.Count != int64(n) {
			t.Fatalf("%+v, %v", r, err)
		}
		queued := func() int64 {
			o, err := w.Overview(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(o.Replays) > 0 && (o.Replays[0].Count != int64(n) || o.Replays[0].Done != o.Held) {
				t.Fatalf("%+v, though %d are queued", o.Replays[0], o.Held)
			}
			return o.Held
		}
		most := uint64(0)
		for restarts := 0; queued() < int64(n); {
			runtime.GC() // garbage does not count: how much there is depends on the tests before
			runtime.ReadMemStats(&during)
			most = max(most, during.HeapAlloc)
			if restarts < 3 && queued() > int64(restarts+1)*int64(n)/5 {
				restarts++
				w.restart()
			}
			time.Sleep(20 * time.Millisecond)
		}
		if grown := int64(most) - int64(before.HeapAlloc); grown > 8<<20 { // 3 MiB are usual
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		time.Sleep(time.Second)
		if q := queued(); q != int64(n) {
			t.Errorf("%d are queued, want %d", q, n)
		}
	})
}

// A replay ends when its webhook is switched off or deleted: nothing is queued after the call.
func TestReplayEndsWithItsWebhook(t *testing.T) {
	for _, change := range []string{"off", "off and on", "deleted"} {
		t.Run(change, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				for range 5 {
					w.sessions(1000)
				}
				hook := w.webhook(`{"url":"https://a.example/","delay":0,"paused":true}`)
				if r, err := w.Replay(t.Context(), engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayMissing}); err != nil || r.Count != 5000 {
					t.Fatalf("%+v, %v", r, err)
				}
				for {
					o, err := w.Overview(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if o.Held >= 1000 {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if change == "deleted" {
					if err := w.DeleteWebhook(t.Context(), hook.ID); err != nil {
						t.Fatal(err)
					}
				} else {
					w.patch(hook.ID, `{"active":false}`)
				}
				if change == "off and on" {
					w.patch(hook.ID, `{"active":true,"paused":false}`)
				}
				w.restart()
				time.Sleep(time.Hour)
				synctest.Wait()
				o, err := w.Overview(t.Context())
				if err != nil || len(o.Replays) != 0 || o.Stored[engine.StatusCancelled] < 1000 || o.Stored[engine.StatusCancelled] > 4900 ||
					o.Stored[engine.StatusScheduled]+o.Stored[engine.StatusPending]+o.Stored[engine.StatusDelivered] != 0 {
					t.Errorf("%+v, %v", o, err)
				}
				if n := len(w.net.all()); n != 0 {
					t.Errorf("%d were sent", n)
				}
			})
		})
	}
}

func TestReplayOfUnknownWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.Replay(t.Context(), engine.Replay{WebhookID: 7, Scope: engine.ReplayAny}); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		now := time.Now()
		hook := w.webhook(`{"url":"https://a.example/"}`)
		_, err := w.Replay(t.Context(), engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayAny, Since: now.Add(time.Hour)})
		if bad, ok := errors.AsType[engine.InputErrors](err); !ok || bad[0].Field != "until" {
			t.Errorf("since after now: %v", fmt.Sprint(err))
		}
	})
}

// What was switched off and on again a moment ago is cancelled for a replay, though the job that cancels it has not had its turn.
func TestReplayRightAfterACancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(`{"url":"https://a.example/","delay":3600}`)
		for range 3 {
			w.sessions(1000)
		}
		w.patch(hook.ID, `{"active":false}`)
		w.patch(hook.ID, `{"active":true}`)
		r, err := w.Replay(t.Context(), engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayMissing})
		if err != nil || r.Count != 3000 {
			t.Fatalf("%+v, %v", r, err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.list(engine.DeliveryQuery{Status: engine.StatusDelivered})); n != 3000 {
			t.Errorf("%d delivered, want 3000", n)
		}
	})
}
