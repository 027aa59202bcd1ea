package ui_test

import (
	"strings"
	"testing"

	"hookbolt/engine"
)

// TestOperationsPages: the webhook for operational events, and its deliveries, are shown as what they are.
func TestOperationsPages(t *testing.T) {
	f := newFixture(t, nil)
	cfg := f.engine.Config()
	cfg.OperationsURL = "https://ops.example/hook"
	f.engine.Configure(cfg)
	if err := f.engine.EnsureOperations(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.api("POST", "/v1/webhooks", `{"url":"https://crm.example/","name":"crm"}`)
	f.api("PATCH", "/v1/webhooks/2", `{"paused":true}`)
	f.wantIn(f.get("/webhooks"), 200, "for operational events", "for every content")
	page := f.wantIn(f.get("/webhooks/1"), 200, "operational events, as delivery.operations_url asks for", "/deliveries/")
	if strings.Contains(page, `href="/webhooks/1/delete"`) || !strings.Contains(f.wantIn(f.get("/webhooks/2"), 200), `href="/webhooks/2/delete"`) {
		t.Error("it can be deleted, or the other one cannot")
	}
	list, err := f.engine.Deliveries(t.Context(), engine.DeliveryQuery{WebhookID: 1, Limit: 1})
	if err != nil || len(list.Items) != 1 {
		t.Fatal(list, err)
	}
	page = f.wantIn(f.get("/deliveries/"+list.Items[0].ID.String()), 200, "operation", "webhook.paused")
	if strings.Contains(page, "/sessions/") || strings.Contains(page, "00000000-0000") {
		t.Error("it leads to a session")
	}
	if page = f.wantIn(f.get("/deliveries"), 200, "operation"); strings.Contains(page, "00000000-0000") {
		t.Error("the list has a session that is none")
	}
}

// TestOperationsMailPages: the webhook of a mail server, and its deliveries, are shown without what is for HTTP.
func TestOperationsMailPages(t *testing.T) {
	f := newFixture(t, nil)
	cfg := f.engine.Config()
	cfg.OperationsURL = "smtp://mail.example.com"
	cfg.OperationsMail = engine.OperationsMail{From: "a@example.com", To: []string{"b@example.com"}, Username: "u", Password: "a-password-of-mine"}
	f.engine.Configure(cfg)
	if err := f.engine.EnsureOperations(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.api("POST", "/v1/webhooks", `{"url":"https://crm.example/","name":"crm"}`)
	f.api("PATCH", "/v1/webhooks/2", `{"paused":true}`)
	f.wantIn(f.get("/webhooks"), 200, "for operational events", "mail.example.com:587")
	shown := f.wantIn(f.get("/webhooks/1"), 200, "operational events by mail, as delivery.operations_smtp asks for", "<dt>Mail server</dt><dd>smtp://mail.example.com:587</dd>", "<dt>Retry schedule</dt>")
	for _, of := range []string{"secret-card", "Show secret", "and secret", "<dt>URL</dt>", "<dt>Method</dt>", "<dt>HTTP/2</dt>", "<dt>Filter</dt>", "<dt>Transform</dt>", "<dt>Values for the URL</dt>", "<dt>Also delivered</dt>", "ignature"} {
		if strings.Contains(shown, of) {
			t.Errorf("the page has %s, which is for HTTP", of)
		}
	}
	form := f.wantIn(f.get("/webhooks/1/edit"), 200, `name="retry_schedule"`)
	for _, name := range []string{"method", "success", "transform", "signature.header", "http2", "basic_auth.username"} {
		if strings.Contains(form, `name="`+name+`"`) {
			t.Errorf("the form has an input for %s, which is for HTTP", name)
		}
	}
	f.wantIn(f.get("/webhooks/2"), 200, "<dt>URL</dt>", "<dt>Method</dt>", `id="secret-card"`, "Settings and secret")
	list, err := f.engine.Deliveries(t.Context(), engine.DeliveryQuery{WebhookID: 1, Limit: 1})
	if err != nil || len(list.Items) != 1 {
		t.Fatal(list, err)
	}
	page := f.wantIn(f.get("/deliveries/"+list.Items[0].ID.String()), 200, "operation", "webhook.paused")
	if strings.Contains(page, "curl -i") || strings.Contains(page, "a-password") {
		t.Errorf("it shows a request of HTTP, or the password: %s", page)
	}
}
