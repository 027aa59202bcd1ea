package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/engine/transform"
)

// leadOf is a lead event that happens now.
func leadOf(session uuid.UUID, email string) string {
	return event("lead", session, fmt.Sprintf(`"lead":{"email":%q}`, email))
}

// shaped returns the settings of a webhook with programs.
func shaped(url string, programs map[string]any) string {
	settings := map[string]any{"url": url, "delay": 10}
	maps.Copy(settings, programs)
	text, err := json.Marshal(settings)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestTransformIsFrozen: the body, the content type and the values for the URL are built once, and each attempt sends them, whatever becomes of
// the programs.
func TestTransformIsFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.net.answer = func(r received, _ *http.Request) (*http.Response, error) {
			if len(w.net.all()) < 3 {
				return answer(500), nil
			}
			return answer(200), nil
		}
		hook := w.webhook(shaped("https://a.example/u/{who}?q={id}", map[string]any{
			"transform": `{mail: .leads[-1].email, n: 9007199254740993}`, "url_values": `{who: .leads[-1].email, id: .session_id}`,
			"content_type": "application/vnd.api+json", "filter": ".complete_session"}))
		id := uuid.New()
		w.ingest(event("start", id) + event("finish", id) + leadOf(id, "ada+1@example.com"))
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		w.patch(hook.ID, `{"transform":"{other: 1}","url_values":"{who: \"x\", id: \"y\"}","content_type":"application/json"}`)
		time.Sleep(time.Hour)
		synctest.Wait()
		got := w.net.all()
		if len(got) != 3 {
			t.Fatalf("%d attempts, want 3", len(got))
		}
		for i, r := range got {
			if string(r.body) != `{"mail":"ada+1@example.com","n":9007199254740993}` || r.header.Get("Content-Type") != "application/vnd.api+json" ||
				r.target != "/u/ada%2B1%40example.com?q="+id.String() {
				t.Errorf("attempt %d: %s %s %s", i+1, r.target, r.header.Get("Content-Type"), r.body)
			}
			if err := engine.Verify(r.header, hook.Secret, r.body, r.at); err != nil {
				t.Errorf("attempt %d: %v", i+1, err)
			}
		}
		d := w.only(engine.DeliveryQuery{})
		if d.Status != engine.StatusDelivered || d.Attempts != 3 || !d.Shaped {
			t.Errorf("%+v", d)
		}
		if _, err := w.Retry(t.Context(), d.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.net.all(); len(got) != 4 || string(got[3].body) != string(got[0].body) || got[3].target != got[0].target {
			t.Errorf("sent again: %+v", got[len(got)-1])
		}
	})
}

// TestFilterAndLateLead: a session that the filter does not let through gets no attempt, until a late lead changes that. It is sent once then.
func TestFilterAndLateLead(t *testing.T) {
	for name, withProgram := range map[string]map[string]any{
		"filter":                      {"filter": ".leads | length > 0"},
		"transform without an output": {"transform": "select(.leads | length > 0)"},
		"with updates":                {"filter": ".leads | length > 0", "send_updates": true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.webhook(shaped("https://a.example/", withProgram))
			id := w.session()
			time.Sleep(time.Minute)
			synctest.Wait()
			d := w.only(engine.DeliveryQuery{Status: engine.StatusFiltered})
			if d.Attempts != 0 || d.FinishedAt.IsZero() || len(w.net.all()) != 0 {
				t.Fatalf("%s: %+v after %d attempts", name, d, len(w.net.all()))
			}
			w.ingest(event("vote", id, `"question_id":1,"answer_id":2`)) // changes the payload, and the filter says no again
			time.Sleep(time.Minute)
			synctest.Wait()
			if again := w.only(engine.DeliveryQuery{Status: engine.StatusFiltered}); again.ID != d.ID || !again.FinishedAt.After(d.FinishedAt) || len(w.net.all()) != 0 {
				t.Fatalf("%s: after a vote %+v", name, again)
			}
			w.restart()
			w.ingest(leadOf(id, "ada@example.com"))
			time.Sleep(time.Minute)
			synctest.Wait()
			got := w.net.all()
			if len(got) != 1 || got[0].id != d.ID.String() || !strings.Contains(string(got[0].body), "ada@example.com") || got[0].header.Get("hookbolt-kind") != "complete" {
				t.Fatalf("%s: after a lead there are %d requests: %+v", name, len(got), got)
			}
			w.ingest(leadOf(id, "bob@example.com"))
			time.Sleep(time.Minute)
			synctest.Wait()
			want := 1
			if withProgram["send_updates"] == true {
				want = 2
			}
			if got := w.net.all(); len(got) != want {
				t.Errorf("%s: after another lead there are %d requests, want %d", name, len(got), want)
			}
		})
	}
}

// TestFailedProgram: a body that cannot be built uses no try and touches no endpoint. Five in a row pause the webhook. Once the program is mended
// a replay sends them.
func TestFailedProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		// It works with the sample, which has a phone number.
		hook := w.webhook(shaped("https://a.example/", map[string]any{"transform": `{phone: (.leads[0].phone | ltrimstr("+") | ascii_downcase)}`}))
		for i := range 8 {
			id := uuid.New()
			w.ingest(event("start", id) + event("finish", id) + leadOf(id, fmt.Sprintf("ada%d@example.com", i)))
			time.Sleep(11 * time.Second)
			synctest.Wait()
		}
		parked := w.list(engine.DeliveryQuery{WebhookID: hook.ID, Status: engine.StatusFailed})
		if len(parked) != 5 || len(w.net.to("a.example")) != 0 {
			t.Fatalf("%d are parked after %d attempts", len(parked), len(w.net.to("a.example")))
		}
		for _, d := range parked {
			if !d.Parked() || d.Attempts != 0 || d.Tries != 0 || d.LastError != engine.ErrorTransform || !strings.HasPrefix(d.BuildError, "transform") || strings.Contains(d.BuildError, "@example.com") {
				t.Errorf("%+v", d)
			}
		}
		paused, err := w.Webhook(hook.ID)
		if err != nil || !paused.Paused || !strings.Contains(paused.PauseReason, "programs have failed for 5 deliveries in a row") {
			t.Errorf("paused: %t, %q, %v", paused.Paused, paused.PauseReason, err)
		}
		types, data := w.told()
		// That of the pause and that of the last failure are sent at once, so either may arrive first.
		pause := slices.Index(types, "webhook.paused")
		if len(types) != 6 || pause < 4 || data[pause]["cause"] != "program" || types[9-pause] != "delivery.failed" || types[0] != "delivery.failed" || data[0]["last_error"] != "transform" {
			t.Errorf("the operator is told %v: %v", types, data)
		}
		if h := w.health(hook.ID); !h.IsZero() {
			t.Errorf("the endpoint has the health %+v", h)
		}
		p, err := engine.ParseWebhookPatch([]byte(`{"transform":"{mail: .leads[0].email}","paused":false}`))
		if err != nil {
			t.Fatal(err)
		}
		if update, err := w.UpdateWebhook(t.Context(), hook.ID, p); err != nil || update.Parked != 5 {
			t.Errorf("the change answers %d parked, %v", update.Parked, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := w.net.to("a.example"); len(got) != 3 {
			t.Fatalf("%d requests, want those of the three that waited", len(got))
		}
		if r, err := w.Replay(t.Context(), engine.Replay{WebhookID: hook.ID, Scope: engine.ReplayFailed, Error: engine.ErrorTransform}); err != nil || r.Count != 5 {
			t.Fatalf("a replay of %d, %v", r.Count, err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.net.to("a.example"); len(got) != 8 || !strings.Contains(string(got[7].body), `{"mail":"ada`) {
			t.Errorf("%d requests, want 8", len(got))
		}
		if left := w.list(engine.DeliveryQuery{WebhookID: hook.ID, Status: engine.StatusFailed}); len(left) != 0 {
			t.Errorf("%d are left", len(left))
		}
	})
}

// TestNoWorker: if this machine can start no process, what waits goes on waiting, and a webhook with a program cannot be made.
func TestNoWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none atomic.Bool
		w := newWorld(t, func(c *engine.Config) {
			c.RunPrograms = func(_ context.Context, j transform.Job) (transform.Result, error) {
				if none.Load() {
					return transform.Result{}, fmt.Errorf("%w: fork: resource temporarily unavailable", transform.ErrNoWorker)
				}
				return transform.Eval(j)
			}
		})
		w.webhook(shaped("https://a.example/", map[string]any{"transform": ".session_id"}))
		w.webhook(shaped("https://b.example/", nil))
		none.Store(true)
		id := w.session()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(w.net.to("b.example")); n != 1 {
			t.Errorf("a webhook without programs got %d", n)
		}
		d := w.only(engine.DeliveryQuery{WebhookID: 1})
		if d.Status != engine.StatusScheduled || d.Attempts != 0 || len(w.Troubles()) != 1 || w.Troubles()[0] != "processes" {
			t.Errorf("%+v, troubles %v", d, w.Troubles())
		}
		_, err := w.CreateWebhook(t.Context(), mustPatch(t, shaped("https://c.example/", map[string]any{"filter": "true"})))
		bad, ok := errors.AsType[engine.InputErrors](err)
		if !ok || bad[0].Field != "filter" || !strings.Contains(bad[0].Detail, "none could be started") {
			t.Errorf("creation: %v", err)
		}
		none.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.net.to("a.example"); len(got) != 1 || string(got[0].body) != `"`+id.String()+`"` {
			t.Errorf("then there are %d requests: %+v", len(got), got)
		}
	})
}

// TestTrialsHaveTheirOwnTurns: a change, a test and a preview do not wait behind the deliveries of the program that they are to mend.
func TestTrialsHaveTheirOwnTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var owner atomic.Uint32
		w := newWorld(t, func(c *engine.Config) {
			c.RunPrograms = func(_ context.Context, j transform.Job) (transform.Result, error) {
				owner.Store(j.Owner)
				return transform.Eval(j)
			}
		})
		hook := w.webhook(shaped("https://a.example/", map[string]any{"transform": ".session_id"}))
		w.session()
		time.Sleep(time.Minute)
		if owner.Load() != hook.ID {
			t.Errorf("a delivery has the turn of %d, want that of its webhook", owner.Load())
		}
		patch, err := engine.ParseWebhookPatch([]byte(`{"transform":"[.session_id]"}`))
		if err != nil {
			t.Fatal(err)
		}
		for what, try := range map[string]func() error{
			"a change":  func() error { _, err := w.UpdateWebhook(t.Context(), hook.ID, patch); return err },
			"a test":    func() error { _, err := w.TestWebhook(t.Context(), hook.ID); return err },
			"a preview": func() error { _, err := w.Preview(t.Context(), engine.PreviewRequest{WebhookID: hook.ID}); return err },
		} {
			owner.Store(hook.ID)
			if err := try(); err != nil || owner.Load() != 0 {
				t.Errorf("%s has the turn of %d, %v", what, owner.Load(), err)
			}
		}
	})
}

// TestNoWorkerForFiltered: once processes can be started again, the lane of a webhook goes on as before, also if no session leads to an attempt.
func TestNoWorkerForFiltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none atomic.Bool
		var running, most atomic.Int32
		w := newWorld(t, func(c *engine.Config) {
			c.RunPrograms = func(_ context.Context, j transform.Job) (transform.Result, error) {
				if none.Load() {
					return transform.Result{}, fmt.Errorf("%w: fork: resource temporarily unavailable", transform.ErrNoWorker)
				}
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				time.Sleep(time.Second)
				return transform.Eval(j)
			}
		})
		w.webhook(shaped("https://a.example/", map[string]any{"filter": "false", "max_in_flight": 8}))
		none.Store(true)
		w.session()
		time.Sleep(time.Minute)
		none.Store(false)
		time.Sleep(time.Minute)
		most.Store(0)
		w.sessions(20)
		time.Sleep(time.Minute)
		if most.Load() < 2 {
			t.Errorf("the programs ran for %d session at a time", most.Load())
		}
		if left := w.list(engine.DeliveryQuery{WebhookID: 1, Status: engine.StatusFiltered}); len(left) != 21 {
			t.Errorf("%d are filtered, want 21", len(left))
		}
	})
}

func mustPatch(t *testing.T, settings string) engine.WebhookPatch {
	t.Helper()
	p, err := engine.ParseWebhookPatch([]byte(settings))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestProgramsAreTried: programs are tried on the samples before they are stored, and the error says where they are wrong.
func TestProgramsAreTried(t *testing.T) {
	for _, tc := range []struct {
		programs     map[string]any
		field        string
		line, column int
		detail       string
	}{
		{map[string]any{"filter": ".leads | length > 0"}, "", 0, 0, ""},
		{map[string]any{"filter": "false"}, "", 0, 0, ""},
		{map[string]any{"filter": "false", "transform": ".leads.email"}, "transform", 0, 0, ""}, // what the filter hides is tried, too
		{map[string]any{"transform": "{a: 1,\n  b: (}"}, "transform", 2, 7, ""},
		{map[string]any{"filter": "nonsense(1)"}, "filter", 1, 1, "nonsense"},
		{map[string]any{"transform": ".leads.email"}, "transform", 0, 0, ""},
		{map[string]any{"transform": `.result.result_title | ascii_downcase`}, "", 0, 0, ""},
		{map[string]any{"transform": `.result.result_title | ascii_downcase`, "send_incomplete": true}, "transform", 0, 0, "incomplete"},
		{map[string]any{"transform": `.result.result_title | ascii_downcase`, "send_incomplete": true, "filter": ".complete_session"}, "", 0, 0, ""},
		{map[string]any{"content_type": "text/plain"}, "content_type", 0, 0, "needs a transform"},
		{map[string]any{"content_type": "text/plain", "transform": "{}"}, "transform", 0, 0, "string"},
		{map[string]any{"content_type": "application/x-www-form-urlencoded", "transform": ".leads[0]"}, "", 0, 0, ""},
		{map[string]any{"content_type": "application/x-www-form-urlencoded", "transform": "."}, "transform", 0, 0, ""},
		{map[string]any{"url_values": "{a: 1}"}, "url_values", 0, 0, "{name}"},
		{map[string]any{"url": "https://a.example/{a}/{b}", "url_values": "{a: 1}"}, "url_values", 0, 0, "{b}"},
		{map[string]any{"url": "https://a.example/{a}", "url_values": `{a: ".."}`}, "url_values", 0, 0, `".."`},
		{map[string]any{"url": "https://a.example/{a}", "url_values": `{a: ""}`}, "url_values", 0, 0, "empty"},
		{map[string]any{"url": "https://a.example/?a={a}", "url_values": `{a: ""}`}, "", 0, 0, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.CreateWebhook(t.Context(), mustPatch(t, shaped("https://a.example/", tc.programs)))
			if tc.field == "" {
				if err != nil {
					t.Errorf("%v: %v", tc.programs, err)
				}
				return
			}
			bad, ok := errors.AsType[engine.InputErrors](err)
			if !ok || bad[0].Field != tc.field || tc.line > 0 && (bad[0].Line != tc.line || bad[0].Column != tc.column) || !strings.Contains(bad[0].Detail, tc.detail) {
				t.Errorf("%v: got %v (%+v), want %+v", tc.programs, err, bad, tc)
			}
			if len(w.Webhooks()) != 0 {
				t.Errorf("%v: it was stored", tc.programs)
			}
		})
	}
}

// TestTestDeliveryIsShaped: a test sends the transformed sample, whatever the filter says.
func TestTestDeliveryIsShaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(shaped("https://a.example/{n}", map[string]any{"filter": "false", "transform": `{"text": .leads[0].name}`, "url_values": "{n: .leads[0].name}"}))
		if _, err := w.TestWebhook(t.Context(), hook.ID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.net.all(); len(got) != 1 || string(got[0].body) != `{"text":"Test"}` || got[0].target != "/Test" {
			t.Errorf("%+v", got)
		}
		w.patch(hook.ID, `{"transform":"empty"}`)
		if _, err := w.TestWebhook(t.Context(), hook.ID); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("a transform without an output: %v", err)
		}
	})
}

// TestOperationsAreShaped: the programs of the operations webhook get the event.
func TestOperationsAreShaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t, func(c *engine.Config) { c.OperationsTransform = `{text: "\(.type): \(.data.webhook.name)"}` })
		hook := w.webhook(`{"url":"https://a.example/","name":"CRM"}`)
		w.patch(hook.ID, `{"paused":true}`)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := w.net.to("ops.example"); len(got) != 1 || string(got[0].body) != `{"text":"webhook.paused: CRM"}` {
			t.Errorf("%+v", got)
		}
		d := w.only(engine.DeliveryQuery{WebhookID: operationsID(w)})
		if d.Status != engine.StatusDelivered || !d.Shaped || d.Kind != engine.KindOperation {
			t.Errorf("%+v", d)
		}
	})
}

// TestURLWithoutValues: a URL with names that a frozen delivery has no values for is no endpoint's failure.
func TestURLWithoutValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hook := w.webhook(shaped("https://a.example/", map[string]any{"paused": true}))
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		w.patch(hook.ID, `{"paused":false}`)
		w.session()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		w.patch(hook.ID, `{"url":"https://a.example/{id}","url_values":"{id: .session_id}"}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		d := w.only(engine.DeliveryQuery{})
		if n := len(w.net.all()); n != 1 || d.LastError != engine.ErrorTransform || d.Attempts != 2 || d.Parked() {
			t.Errorf("%+v after %d requests", d, n)
		}
		if h := w.health(hook.ID); h.Failures != 0 { // the URL is another one: its history begins anew
			t.Errorf("%d failures of the endpoint", h.Failures)
		}
	})
}
