package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

// TestOperationsURL has a running server tell of a pause, signed, to where the settings say.
func TestOperationsURL(t *testing.T) {
	arrived := make(chan string, 10)
	const secret = "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := engine.Verify(r.Header, secret, body, time.Now()); err != nil {
			t.Error(err)
		}
		arrived <- string(body)
	}))
	defer endpoint.Close()
	dir := t.TempDir()
	settings := "allow_networks = [\"127.0.0.1\"]\noperations_secret = \"" + secret + "\"\noperations_url = \"" + endpoint.URL + "\""
	config := hookbolttest.WriteConfig(t, dir, "", settings)
	p := hookbolttest.Start(t, "serve", "-config", config)
	api := p.URL(t)
	status, answer := hookbolttest.Call(t, "GET", api+"/v1/webhooks", "")
	hookbolttest.WantStatus(t, 200, status, answer)
	var list struct {
		Items []struct {
			ID         int
			Operations bool
		}
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil || len(list.Items) != 1 || !list.Items[0].Operations {
		t.Fatalf("%s: %v", answer, err)
	}
	status, answer = hookbolttest.Call(t, "DELETE", api+"/v1/webhooks/1", "")
	hookbolttest.WantStatus(t, 409, status, answer)
	status, answer = hookbolttest.Call(t, "POST", api+"/v1/webhooks", `{"url":"https://example.com/","name":"crm","paused":true}`)
	hookbolttest.WantStatus(t, 201, status, answer)
	status, answer = hookbolttest.Call(t, "PATCH", api+"/v1/webhooks/2", `{"paused":false}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	status, answer = hookbolttest.Call(t, "PATCH", api+"/v1/webhooks/2", `{"paused":true}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	select {
	case body := <-arrived:
		if !strings.HasPrefix(body, `{"type":"webhook.paused","timestamp":"`) || !strings.HasSuffix(body, `"data":{"webhook":{"id":2,"name":"crm","content_id":null},"cause":"hand","reason":"paused by hand"}}`) {
			t.Errorf("it tells %s", body)
		}
	case <-time.After(hookbolttest.Timeout):
		t.Fatal("it was not told")
	}
	// It is the configuration's, and no business of a file of webhooks.
	file := filepath.Join(dir, "webhooks.toml")
	if err := os.WriteFile(file, []byte("[[webhook]]\nname = \"crm\"\nurl = \"https://example.com/\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pruned := hookbolttest.Start(t, "apply", "-url", api, "-f", file, "-prune", "-dry-run")
	if code := pruned.Exit(t); code != 0 || !strings.Contains(pruned.Stdout.String(), "0 to delete, 1 unchanged.") {
		t.Errorf("exit code %d: %s%s", code, pruned.Stdout, pruned.Stderr)
	}
	dumped := hookbolttest.Start(t, "dump", "-url", api)
	if code := dumped.Exit(t); code != 0 || strings.Contains(dumped.Stdout.String(), "operations") || !strings.Contains(dumped.Stdout.String(), "crm") {
		t.Errorf("exit code %d: %s%s", code, dumped.Stdout, dumped.Stderr)
	}

	if code := p.End(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// Without the setting it is gone, and with one that is refused nothing starts.
	hookbolttest.WriteConfig(t, dir, "", "")
	p = hookbolttest.Start(t, "serve", "-config", config)
	if _, answer = hookbolttest.Call(t, "GET", p.URL(t)+"/v1/webhooks", ""); strings.Contains(answer, `"operations":true`) {
		t.Errorf("it is still there: %s", answer)
	}
	p.End(t)
	hookbolttest.WriteConfig(t, dir, "", "operations_url = \"http://10.1.2.3/\"")
	p = hookbolttest.Start(t, "serve", "-config", config)
	if code := p.Exit(t); code != cli.ExitFailure || !strings.Contains(p.Stderr.String(), "hookbolt: delivery.operations_url: ") || !strings.Contains(p.Stderr.String(), "allow_networks") {
		t.Errorf("exit code %d: %s", code, p.Stderr)
	}
	p = hookbolttest.Start(t, "config", "check", "-config", config)
	if code := p.Exit(t); code != cli.ExitFailure || !strings.Contains(p.Stderr.String(), config+": delivery.operations_url: ") || !strings.Contains(p.Stderr.String(), "allow_networks") {
		t.Errorf("exit code %d of the check: %s%s", code, p.Stderr, p.Stdout)
	}
	p = hookbolttest.Start(t, "config", "check", "-config", config, "-allow", "10.0.0.0/8")
	if code := p.Exit(t); code != 0 {
		t.Errorf("exit code %d of the check: %s", code, p.Stderr)
	}
}
