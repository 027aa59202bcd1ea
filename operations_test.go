package main

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
	config := writeConfig(t, dir, "", settings)
	p := start(t, "serve", "-config", config)
	api := p.url(t)
	status, answer := call(t, "GET", api+"/v1/webhooks", "")
	wantStatus(t, 200, status, answer)
	var list struct {
		Items []struct {
			ID         int
			Operations bool
		}
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil || len(list.Items) != 1 || !list.Items[0].Operations {
		t.Fatalf("%s: %v", answer, err)
	}
	status, answer = call(t, "DELETE", api+"/v1/webhooks/1", "")
	wantStatus(t, 409, status, answer)
	status, answer = call(t, "POST", api+"/v1/webhooks", `{"url":"https://example.com/","name":"crm","paused":true}`)
	wantStatus(t, 201, status, answer)
	status, answer = call(t, "PATCH", api+"/v1/webhooks/2", `{"paused":false}`)
	wantStatus(t, 200, status, answer)
	status, answer = call(t, "PATCH", api+"/v1/webhooks/2", `{"paused":true}`)
	wantStatus(t, 200, status, answer)
	select {
	case body := <-arrived:
		if !strings.HasPrefix(body, `{"type":"webhook.paused","timestamp":"`) || !strings.HasSuffix(body, `"data":{"webhook":{"id":2,"name":"crm","content_id":null},"cause":"hand","reason":"paused by hand"}}`) {
			t.Errorf("it tells %s", body)
		}
	case <-time.After(testPatience):
		t.Fatal("it was not told")
	}
	// It is the configuration's, and no business of a file of webhooks.
	file := filepath.Join(dir, "webhooks.toml")
	if err := os.WriteFile(file, []byte("[[webhook]]\nname = \"crm\"\nurl = \"https://example.com/\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pruned := start(t, "apply", "-url", api, "-f", file, "-prune", "-dry-run")
	if code := pruned.exit(t); code != 0 || !strings.Contains(pruned.stdout.String(), "0 to delete, 1 unchanged.") {
		t.Errorf("exit code %d: %s%s", code, pruned.stdout, pruned.stderr)
	}
	dumped := start(t, "dump", "-url", api)
	if code := dumped.exit(t); code != 0 || strings.Contains(dumped.stdout.String(), "operations") || !strings.Contains(dumped.stdout.String(), "crm") {
		t.Errorf("exit code %d: %s%s", code, dumped.stdout, dumped.stderr)
	}

	if code := p.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// Without the setting it is gone, and with one that is refused nothing starts.
	writeConfig(t, dir, "", "")
	p = start(t, "serve", "-config", config)
	if _, answer = call(t, "GET", p.url(t)+"/v1/webhooks", ""); strings.Contains(answer, `"operations":true`) {
		t.Errorf("it is still there: %s", answer)
	}
	p.end(t)
	writeConfig(t, dir, "", "operations_url = \"http://10.1.2.3/\"")
	p = start(t, "serve", "-config", config)
	if code := p.exit(t); code != exitFailure || !strings.Contains(p.stderr.String(), "hookbolt: delivery.operations_url: ") || !strings.Contains(p.stderr.String(), "allow_networks") {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
	p = start(t, "config", "check", "-config", config)
	if code := p.exit(t); code != exitFailure || !strings.Contains(p.stderr.String(), config+": delivery.operations_url: ") || !strings.Contains(p.stderr.String(), "allow_networks") {
		t.Errorf("exit code %d of the check: %s%s", code, p.stderr, p.stdout)
	}
	p = start(t, "config", "check", "-config", config, "-allow", "10.0.0.0/8")
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d of the check: %s", code, p.stderr)
	}
}

// TestReloadWithRefusedOperations: a reload with an address that is refused changes nothing else, either.
func TestReloadWithRefusedOperations(t *testing.T) {
	dir := t.TempDir()
	config := writeConfig(t, dir, "", "")
	cmd, url, out := spawnSaying(t, config)
	writeConfig(t, dir, `admin_tokens = ["an-admin-token-of-mine"]`, `operations_url = "http://10.1.2.3/"`)
	hangUp(t, cmd, out, `level=ERROR msg="the settings were not reloaded; those before hold" error="delivery.operations_url: .*allow_networks`)
	status, answer := call(t, "GET", url+"/v1/webhooks", "")
	wantStatus(t, 200, status, answer)
}
