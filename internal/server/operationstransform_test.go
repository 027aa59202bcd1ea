package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/hookbolttest"
)

// TestOperationsTransform: the configuration's program makes what the endpoint gets of each event, and a reload replaces and removes it. Nobody else
// changes it.
func TestOperationsTransform(t *testing.T) {
	arrived := make(chan string, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- r.Header.Get("Content-Type") + " " + string(body)
	}))
	defer endpoint.Close()
	dir := t.TempDir()
	settings := func(more string) string {
		return "allow_networks = [\"127.0.0.1\"]\noperations_url = \"" + endpoint.URL + "\"\n" + more
	}
	config := hookbolttest.WriteConfig(t, dir, "", settings("operations_transform = '{text: \"\\(.type) \\(.data.webhook.name?)\"}'"))
	child := spawnForSignals(t, config)
	want := func(want string) {
		t.Helper()
		select {
		case got := <-arrived:
			if !strings.HasPrefix(got, want) {
				t.Errorf("got %s, want %s", got, want)
			}
		case <-time.After(hookbolttest.Timeout):
			t.Fatal("nothing came")
		}
	}
	status, answer := hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks", `{"url":"https://example.com/","name":"crm"}`)
	hookbolttest.WantStatus(t, 201, status, answer)
	status, answer = hookbolttest.Call(t, "PATCH", child.URL+"/v1/webhooks/2", `{"paused":true}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	want(`application/json {"text":"webhook.paused crm"}`)
	status, answer = hookbolttest.Call(t, "PATCH", child.URL+"/v1/webhooks/1", `{"transform":null}`)
	if hookbolttest.WantStatus(t, 400, status, answer); !strings.Contains(answer, "is set by delivery.operations_transform") {
		t.Error(answer)
	}
	status, answer = hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks/1/test", "")
	hookbolttest.WantStatus(t, 202, status, answer)
	want(`application/json {"text":"operations.test null"}`)

	hookbolttest.WriteConfig(t, dir, "", settings("operations_transform = '.type'\noperations_content_type = \"text/plain\""))
	hangUp(t, child, `msg="settings reloaded"`)
	status, answer = hookbolttest.Call(t, "PATCH", child.URL+"/v1/webhooks/2", `{"paused":false}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	status, answer = hookbolttest.Call(t, "PATCH", child.URL+"/v1/webhooks/2", `{"paused":true}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	want(`text/plain webhook.paused`)
	hookbolttest.WriteConfig(t, dir, "", settings("operations_transform = '{'"))
	hangUp(t, child, `level=ERROR msg="the settings were not reloaded.*delivery.operations_transform: line 1`)
	hookbolttest.WriteConfig(t, dir, "", settings(""))
	hangUp(t, child, `msg="settings reloaded"`)
	status, answer = hookbolttest.Call(t, "POST", child.URL+"/v1/webhooks/1/test", "")
	hookbolttest.WantStatus(t, 202, status, answer)
	want(`application/json {"type":"operations.test"`)
}
