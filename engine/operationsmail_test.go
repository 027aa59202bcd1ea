package engine_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

// mailWorld is a world whose operations go to a mail server. Nothing is sent there: its webhook is paused.
func mailWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, func(c *engine.Config) {
		c.OperationsURL = "smtp://mail.example.com:587"
		c.OperationsMail = engine.OperationsMail{From: "hookbolt@example.com", To: []string{"ops@example.com"}}
	})
	if err := w.EnsureOperations(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.patch(operationsID(w), `{"paused":true}`)
	return w
}

// queued returns what the events for the mail server tell: their types, and of failed deliveries how many.
func (w *world) queued() (told []string) {
	w.t.Helper()
	for _, d := range w.list(engine.DeliveryQuery{WebhookID: operationsID(w), Limit: 100}) {
		_, payload, _, err := w.store.Delivery(w.t.Context(), d.ID)
		var event struct {
			Type string
			Data struct{ More int }
		}
		if err != nil || json.Unmarshal(payload, &event) != nil {
			w.t.Fatalf("%s, %v", payload, err)
		}
		told = append(told, fmt.Sprint(event.Type, " +", event.Data.More))
	}
	slices.Reverse(told)
	return told
}

// TestFewMailsOfFailures: a thousand deliveries that fail make a mail at once, one at the end of each hour, and one at a stop; none is missing in
// their counts.
func TestFewMailsOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mailWorld(t)
		w.net.answer = func(received, *http.Request) (*http.Response, error) { return answer(500), nil }
		w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":[]}`)
		fails := func(n int) {
			w.sessions(n)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
		}
		want := func(want ...string) {
			t.Helper()
			if got := w.queued(); !slices.Equal(got, want) {
				t.Fatalf("queued %q, want %q", got, want)
			}
		}
		fails(4)
		want("delivery.failed +0")
		time.Sleep(50 * time.Minute)
		synctest.Wait()
		want("delivery.failed +0")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		want("delivery.failed +0", "delivery.failed +2")
		// The hour begins again.
		w.patch(2, `{"paused":true}`)
		w.patch(2, `{"paused":false}`)
		time.Sleep(10 * time.Minute)
		fails(3)
		want("delivery.failed +0", "delivery.failed +2", "webhook.paused +0")
		time.Sleep(55 * time.Minute)
		synctest.Wait()
		want("delivery.failed +0", "delivery.failed +2", "webhook.paused +0", "delivery.failed +2")
		// After a quiet hour the next one is told at once.
		w.patch(2, `{"url":"https://b.example/"}`)
		time.Sleep(2 * time.Hour)
		fails(2)
		want("delivery.failed +0", "delivery.failed +2", "webhook.paused +0", "delivery.failed +2", "delivery.failed +0")
		w.restart()
		want("delivery.failed +0", "delivery.failed +2", "webhook.paused +0", "delivery.failed +2", "delivery.failed +0", "delivery.failed +0")
	})
}

// TestEachFailureForPrograms: an HTTP endpoint is told of each failed delivery.
func TestEachFailureForPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		w.net.answer = answerBut(func(received, *http.Request) (*http.Response, error) { return answer(500), nil })
		w.webhook(`{"url":"https://a.example/","delay":0,"retry_schedule":[]}`)
		w.sessions(4)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if types, data := w.told(); len(types) != 4 || data[3]["more"] != 0. {
			t.Errorf("told %v, %v", types, data)
		}
	})
}

// TestOperationsMailWebhook: the webhook of a mail server is one like that of a URL. It has one connection at a time, and takes no credentials of HTTP.
func TestOperationsMailWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := operationsWorld(t)
		id := operationsID(w)
		w.patch(id, `{"headers":{"X-Key":"sekret"},"method":"PUT","success":[302],"signature":{"v1a":true}}`)
		cfg := w.Engine.Config()
		cfg.OperationsURL = "smtps://Mail.example.com"
		cfg.OperationsMail = engine.OperationsMail{From: "hookbolt@example.com", To: []string{"ops@example.com"}, Username: "u", Password: "a-password-of-mine"}
		w.Configure(cfg)
		for range 2 {
			if err := w.EnsureOperations(t.Context()); err != nil {
				t.Fatal(err)
			}
			h, err := w.Webhook(id)
			if err != nil || h.URL != "smtps://mail.example.com:465" || h.Headers != nil || h.Method != "" || h.Success != nil || h.Signature != nil || h.MaxInFlight == nil || *h.MaxInFlight != 1 || h.Revision != 3 {
				t.Fatalf("%+v, %v", h, err)
			}
			if stored, err := json.Marshal(h); err != nil || strings.Contains(string(stored), "a-password") {
				t.Errorf("the password is stored: %s", stored)
			}
		}
		for _, settings := range []string{`{"method":"PUT"}`, `{"success":[302]}`, `{"signature":{"v1a":true}}`, `{"tls":{"min_version":"1.3"}}`, `{"basic_auth":{"username":"u","password":"p"}}`, `{"headers":{"X-Key":"k"}}`, `{"url":"smtps://other.example"}`} {
			p, err := engine.ParseWebhookPatch([]byte(settings))
			if err == nil {
				_, err = w.UpdateWebhook(t.Context(), id, p)
			}
			if !errorsAs[engine.InputErrors](err) {
				t.Errorf("%s: %v", settings, err)
			}
		}
		if err := w.DeleteWebhook(t.Context(), id); err == nil || !strings.Contains(err.Error(), "delivery.operations_smtp") {
			t.Errorf("delete: %v", err)
		}
		if got := fmt.Sprintf("%+v %v", cfg.OperationsMail, cfg.OperationsMail); strings.Contains(got, "a-password") {
			t.Errorf("it shows its password: %s", got)
		}
	})
}
