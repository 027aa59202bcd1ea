package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

const operationsSecret = engine.Secret("whsec_b3BlcmF0aW9ucyBhcmUgc2lnbmVkIGxpa2UgYWxsIQ==")

// withOperations has operational events sent to ops.example.
func withOperations(c *engine.Config) {
	c.OperationsURL, c.OperationsSecret = "https://ops.example/hook", operationsSecret
}

// operationsWorld is a world with an operations webhook.
func operationsWorld(t *testing.T, configure ...func(*engine.Config)) *world {
	t.Helper()
	w := newWorld(t, append(configure, withOperations)...)
	if err := w.EnsureOperations(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// told returns the types of the operational events that have arrived, and each one's data.
func (w *world) told() (types []string, data []map[string]any) {
	w.t.Helper()
	for _, r := range w.net.to("ops.example") {
		var body struct {
			Type, Timestamp string
			Data            map[string]any
		}
		if err := json.Unmarshal(r.body, &body); err != nil {
			w.t.Fatal(err)
		}
		if at, err := time.Parse(time.RFC3339Nano, body.Timestamp); err != nil || at.After(r.at) || r.header.Get("webhook-id") == "" {
			w.t.Errorf("%s with headers %v: %v", r.body, r.header, err)
		}
		if err := engine.Verify(r.header, operationsSecret, r.body, r.at); err != nil {
			w.t.Errorf("%s: %v", r.body, err)
		}
		types, data = append(types, body.Type), append(data, body.Data)
	}
	return types, data
}

// answerBut answers 200 at ops.example and what f says elsewhere.
func answerBut(f func(received, *http.Request) (*http.Response, error)) func(received, *http.Request) (*http.Response, error) {
	return func(r received, req *http.Request) (*http.Response, error) {
		if r.host == "ops.example" {
			return answer(200), nil
		}
		return f(r, req)
	}
}

func TestOperationsOfWebhooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t, func(c *engine.Config) { c.PauseAfter = 3 * time.Hour })
		var mended, gone atomic.Bool
		w.net.answer = answerBut(func(r received, req *http.Request) (*http.Response, error) {
			if gone.Load() {
				return answer(410), nil
			}
			return failUntil(&mended)(r, req)
		})
		hook := w.webhook(`{"url":"https://bad.example/?token=hidden","name":"crm & co","delay":0,"retry_schedule":["24h"]}`)
		w.sessions(100)
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if types, _ := w.told(); len(types) != 0 {
			t.Fatalf("told too soon: %v", types)
		}
		time.Sleep(7 * time.Minute)
		synctest.Wait()
		types, data := w.told()
		if !slices.Equal(types, []string{"webhook.failing"}) || data[0]["last_error"] != "status" || data[0]["last_status"] != 500. {
			t.Fatalf("told %v, %v", types, data)
		}
		if of := data[0]["webhook"].(map[string]any); of["id"] != float64(hook.ID) || of["name"] != "crm & co" || of["content_id"] != nil || len(of) != 3 {
			t.Errorf("of %v", of)
		}
		if body := string(w.net.to("ops.example")[0].body); strings.Contains(body, "hidden") || !strings.Contains(body, "crm & co") {
			t.Errorf("the body is %s", body)
		}
		// Once, until it works.
		time.Sleep(time.Hour)
		mended.Store(true)
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		types, data = w.told()
		if !slices.Equal(types, []string{"webhook.failing", "webhook.recovered"}) || data[1]["failures"].(float64) < 10 {
			t.Fatalf("told %v, %v", types, data)
		}

		// A pause by days of failures, by 410, by hand.
		mended.Store(false)
		w.sessions(100)
		time.Sleep(3*time.Hour + 6*time.Minute)
		gone.Store(true)
		w.patch(hook.ID, `{"paused":false}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.patch(hook.ID, `{"paused":false,"active":false}`)
		w.patch(hook.ID, `{"paused":true}`)
		w.patch(hook.ID, `{"paused":true,"name":"other"}`)
		time.Sleep(time.Second)
		synctest.Wait()
		types, data = w.told()
		if !slices.Equal(types[2:], []string{"webhook.failing", "webhook.paused", "webhook.paused", "webhook.paused"}) {
			t.Fatalf("told %v", types[2:])
		}
		for i, want := range []string{"failing", "gone", "hand"} {
			if got := data[3+i]; got["cause"] != want || got["reason"] == "" {
				t.Errorf("pause %d: %v, want cause %s", i, got, want)
			}
		}
	})
}

func TestOperationsOfDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		w.net.answer = answerBut(func(received, *http.Request) (*http.Response, error) { return answer(400), nil })
		hook := w.webhook(`{"url":"https://bad.example/","delay":0,"retry_schedule":["1s"]}`)
		session := w.session()
		time.Sleep(time.Minute)
		synctest.Wait()
		failed := w.only(engine.DeliveryQuery{WebhookID: hook.ID})
		types, data := w.told()
		if !slices.Equal(types, []string{"delivery.failed"}) || data[0]["delivery_id"] != failed.ID.String() || data[0]["attempts"] != 2. || data[0]["last_status"] != 400. {
			t.Fatalf("told %v, %v", types, data)
		}
		if body := string(w.net.to("ops.example")[0].body); strings.Contains(body, session.String()) {
			t.Errorf("it tells which session: %s", body)
		}
		// A test fails for who has asked for it.
		if _, err := w.TestWebhook(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if d := w.list(engine.DeliveryQuery{WebhookID: hook.ID, Status: engine.StatusFailed}); len(d) != 2 {
			t.Errorf("%d deliveries have failed, want 2", len(d))
		}
		// A cancelled one has not failed.
		w.patch(hook.ID, `{"retry_schedule":["1h"]}`)
		w.session()
		time.Sleep(time.Second)
		synctest.Wait()
		waiting := w.only(engine.DeliveryQuery{WebhookID: hook.ID, Status: engine.StatusPending})
		if _, err := w.Cancel(t.Context(), waiting.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if types, _ := w.told(); len(types) != 1 {
			t.Errorf("told %v", types)
		}
		d := w.list(engine.DeliveryQuery{WebhookID: operationsID(w)})
		if len(d) != 1 || d[0].Kind != engine.KindOperation || d[0].SessionID != uuid.Nil || d[0].Status != engine.StatusDelivered {
			t.Errorf("its deliveries are %+v", d)
		}
	})
}

// TestOperationsOfErasedDeliveries erases the sessions of the attempts around the end of an hour of failures: what there is to tell is about the
// endpoint, and the next attempt would not tell it again.
func TestOperationsOfErasedDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		begin, erased := time.Now(), 0
		w.net.answer = answerBut(func(r received, _ *http.Request) (*http.Response, error) {
			if age := time.Since(begin); age > 55*time.Minute && age < 70*time.Minute {
				var payload struct {
					SessionID uuid.UUID `json:"session_id"`
				}
				if err := json.Unmarshal(r.body, &payload); err != nil {
					t.Error(err)
				}
				if _, err := w.Erase(context.Background(), engine.Erasure{SessionID: payload.SessionID}); err != nil {
					t.Error(err)
				}
				erased++
			}
			return answer(500), nil
		})
		w.webhook(`{"url":"https://bad.example/","delay":0,"retry_schedule":["24h"]}`)
		w.sessions(100)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if types, _ := w.told(); erased < 2 || !slices.Equal(types, []string{"webhook.failing"}) {
			t.Errorf("told %v", types)
		}
	})
}

func operationsID(w *world) uint32 { return w.store.Webhooks().Operations().ID }

// TestOperationsSurviveACrash holds the operations endpoint back, so that what is told stands in the queue, as it does after a crash.
func TestOperationsSurviveACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		down := atomic.Bool{}
		down.Store(true)
		w.net.answer = func(r received, _ *http.Request) (*http.Response, error) {
			if r.host == "ops.example" && !down.Load() {
				return answer(200), nil
			}
			return answer(500), nil
		}
		w.webhook(`{"url":"https://bad.example/","delay":0,"retry_schedule":[]}`)
		w.session()
		time.Sleep(time.Second)
		synctest.Wait()
		w.restart()
		if err := w.EnsureOperations(t.Context()); err != nil {
			t.Fatal(err)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		got := w.net.to("ops.example")
		if len(got) != 2 || got[0].id != got[1].id || string(got[0].body) != string(got[1].body) {
			t.Errorf("%d requests: %+v", len(got), got)
		}
	})
}

// TestOperationsURLForm: a URL of the configuration in another form than the stored one is no change at each start.
func TestOperationsURLForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		cfg := w.Engine.Config()
		cfg.OperationsURL = "https://OPS.example/a b"
		w.Configure(cfg)
		if err := w.EnsureOperations(t.Context()); err != nil {
			t.Fatal(err)
		}
		before, err := w.Webhook(operationsID(w))
		if err != nil || before.URL != "https://ops.example/a%20b" {
			t.Fatalf("%+v, %v", before, err)
		}
		if err := w.EnsureOperations(t.Context()); err != nil {
			t.Fatal(err)
		}
		if after, err := w.Webhook(before.ID); err != nil || after.Revision != before.Revision {
			t.Errorf("it was changed: %+v, %v", after, err)
		}
	})
}

// TestOperationsTellNothingOfThemselves: trouble of the operations endpoint makes no more operational events.
func TestOperationsTellNothingOfThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t, func(c *engine.Config) { c.PauseAfter = 2 * time.Hour })
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		hook := w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":[]}`)
		for range 6 {
			w.session()
		}
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		h, err := w.Webhook(operationsID(w))
		if err != nil || !h.Paused {
			t.Errorf("it is not paused: %+v, %v", h, err)
		}
		for _, r := range w.net.to("ops.example") {
			if !strings.Contains(string(r.body), fmt.Sprintf(`"webhook":{"id":%d,`, hook.ID)) {
				t.Errorf("told %s", r.body)
			}
		}
	})
}

// TestOperationsWebhook is what the webhook itself can do and cannot.
func TestOperationsWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		id := operationsID(w)
		before, err := w.Webhook(id)
		if err != nil || before.Secret != operationsSecret || before.Name == "" {
			t.Fatalf("%+v, %v", before, err)
		}
		// No session goes there.
		w.session()
		// What is the configuration's stays so; the rest can be set.
		for _, settings := range []string{`{"url":"https://other.example/"}`, `{"secret":"whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="}`, `{"content_id":"` + contentID + `"}`} {
			p, err := engine.ParseWebhookPatch([]byte(settings))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.UpdateWebhook(t.Context(), id, p); !errorsAs[engine.InputErrors](err) {
				t.Errorf("%s: %v", settings, err)
			}
		}
		if _, err := w.RotateSecret(t.Context(), id, engine.Rotation{}); !errorsAs[engine.InputErrors](err) {
			t.Errorf("rotate: %v", err)
		}
		if err := w.DeleteWebhook(t.Context(), id); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("delete: %v", err)
		}
		if _, err := w.Preview(t.Context(), engine.PreviewRequest{WebhookID: id, SessionID: w.session()}); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("preview: %v", err)
		}
		if r, err := w.Replay(t.Context(), engine.Replay{WebhookID: id, Scope: engine.ReplayMissing, Since: time.Now().Add(-time.Hour), DryRun: true}); err != nil || r.Count != 0 {
			t.Errorf("replay: %+v, %v", r, err)
		}
		w.patch(id, `{"name":"pager","timeout":"3s"}`)
		if _, err := w.TestWebhook(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if types, _ := w.told(); !slices.Equal(types, []string{"operations.test"}) {
			t.Errorf("told %v", types)
		}

		// The same configuration changes nothing, another one what it says.
		present, _ := w.Webhook(id)
		if err := w.EnsureOperations(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again, _ := w.Webhook(id); again.Revision != present.Revision || again.Name != "pager" {
			t.Errorf("it was changed: %+v", again)
		}
		cfg := w.Engine.Config()
		cfg.OperationsURL, cfg.OperationsSecret = "https://ops2.example/", ""
		w.Configure(cfg)
		if err := w.EnsureOperations(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again, _ := w.Webhook(id); again.URL != "https://ops2.example/" || again.Secret != operationsSecret || again.Name != "pager" {
			t.Errorf("it is %+v", again)
		}
		cfg.OperationsURL = "http://10.1.2.3/"
		w.Configure(cfg)
		if err := w.EnsureOperations(t.Context()); !errorsAs[engine.InputErrors](err) {
			t.Errorf("a refused address: %v", err)
		}
		cfg.OperationsURL = ""
		w.Configure(cfg)
		if err := w.EnsureOperations(t.Context()); err != nil || w.store.Webhooks().Operations() != nil {
			t.Errorf("it is still there: %v", err)
		}
	})
}

func errorsAs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// scarce is a store whose disk has as much room as the test says.
type scarce struct {
	engine.Store
	free *atomic.Int64
	full *atomic.Bool
}

func (s scarce) Stats(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
	stats, err := s.Store.Stats(ctx, now, probe)
	stats.File = &engine.FileStats{DiskFreeBytes: s.free.Load(), MinFreeBytes: 100}
	if s.full.Load() {
		stats.Full = fmt.Errorf("%w: a reason", engine.ErrFull)
	}
	return stats, err
}

func TestOperationsOfTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, withOperations)
		w.stop()
		var free atomic.Int64
		var full atomic.Bool
		free.Store(1000)
		w.wrap = func(s engine.Store) engine.Store { return scarce{s, &free, &full} }
		w.start()
		if err := w.EnsureOperations(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			free int64
			full bool
			want string // the last that was told
			n    int
		}{
			{200, false, "", 0}, {199, false, "disk.low", 1}, {299, false, "disk.low", 1}, {99, true, "disk.low", 1}, {300, false, "disk.ok", 2},
			{1000, true, "disk.low", 3}, {-1, false, "disk.ok", 4},
		} {
			free.Store(step.free)
			full.Store(step.full)
			time.Sleep(31 * time.Second)
			synctest.Wait()
			types, data := w.told()
			if len(types) != step.n || step.n > 0 && types[step.n-1] != step.want {
				t.Fatalf("with %+v: told %v", step, types)
			}
			if step.n == 1 && step.free == 199 && (data[0]["disk_free_bytes"] != 199. || data[0]["min_free_bytes"] != 100. || data[0]["reason"] != nil) {
				t.Errorf("told %v", data[0])
			}
			if step.n == 3 && data[2]["reason"] != engine.ErrFull.Error()+": a reason" {
				t.Errorf("told %v", data[2])
			}
		}

		// Switched off it gets nothing, not even later; switched on it is told how things are then.
		id := w.Webhooks()[0].ID
		w.patch(id, `{"active":false}`)
		free.Store(199)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		for _, d := range w.list(engine.DeliveryQuery{WebhookID: id}) {
			if d.Status.Waiting() {
				t.Errorf("while it is switched off it has %+v", d)
			}
		}
		w.patch(id, `{"active":true}`)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if types, _ := w.told(); len(types) != 5 || types[4] != "disk.low" {
			t.Errorf("told %v", types)
		}
	})
}

// TestConfigure changes what a running engine goes by.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config) {
			c.MaxInFlight, c.WebhookMaxInFlight, c.Retry.Schedule = 0, 1, []engine.Duration{engine.Duration(time.Hour)}
		})
		release := make(chan struct{})
		w.net.answer = func(received, *http.Request) (*http.Response, error) {
			<-release
			return answer(500), nil
		}
		hook := w.webhook(`{"url":"https://a.example/","delay":0}`)
		w.sessions(4)
		synctest.Wait()
		if n := len(w.net.all()); n != 1 {
			t.Fatalf("%d attempts at once, want 1", n)
		}
		cfg := w.Engine.Config()
		cfg.MaxInFlight, cfg.WebhookMaxInFlight, cfg.Retry.Schedule = 10, 3, []engine.Duration{engine.Duration(time.Minute)}
		cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		cfg.Version, cfg.ProxyFromEnvironment = "another", true
		w.Configure(cfg)
		synctest.Wait()
		if n := len(w.net.all()); n != 3 {
			t.Errorf("%d attempts at once, want 3", n)
		}
		close(release)
		synctest.Wait()
		for _, d := range w.list(engine.DeliveryQuery{WebhookID: hook.ID}) {
			if wait := time.Until(d.NextAttemptAt); wait != time.Minute {
				t.Errorf("the next try comes in %v", wait)
			}
		}
		if now := w.Engine.Config(); now.Version != w.cfg.Version || now.ProxyFromEnvironment || now.Transport == nil {
			t.Errorf("what cannot be changed was: %+v", now)
		}
		w.webhook(`{"url":"http://10.1.2.3/"}`) // its address is allowed now
	})
}

// TestFailingAfter: the operator is told of a failing endpoint after the span that the configuration has, the changed one as well.
func TestFailingAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t, func(c *engine.Config) { c.FailingAfter = 10 * time.Minute })
		w.net.answer = answerBut(func(received, *http.Request) (*http.Response, error) { return answer(500), nil })
		told := func(after time.Duration, want int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if types, _ := w.told(); len(types) != want {
				t.Fatalf("told %v, want %d events", types, want)
			}
		}
		w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":["24h"]}`)
		w.sessions(100)
		told(9*time.Minute, 0)
		told(7*time.Minute, 1) // with the next probe
		cfg := w.Engine.Config()
		cfg.FailingAfter = 3 * time.Hour
		w.Configure(cfg)
		w.webhook(`{"url":"https://b.example/","delay":0,"retry_schedule":["24h"]}`)
		w.sessions(100)
		told(2*time.Hour, 1)
		told(70*time.Minute, 2)
	})
}
