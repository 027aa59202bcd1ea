package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/server"
)

// hangUp has a server read its settings again, and waits for what it says of it, which must be another line than it has said before.
func hangUp(t *testing.T, child *hookbolttest.Child, want string) {
	t.Helper()
	before := len(child.Log.String())
	if err := child.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	child.Log.Find(t, fmt.Sprintf(`(?s)^.{%d}.*`, before)+want)
}

// spawnForSignals starts a server in a process of its own, which can be sent SIGHUP.
func spawnForSignals(t *testing.T, config string) *hookbolttest.Child {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent SIGHUP on Windows")
	}
	return hookbolttest.Spawn(t, config)
}

func TestReload(t *testing.T) {
	arrived := make(chan string, 10)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- r.Header.Get("webhook-id") }))
	defer endpoint.Close()
	dir := t.TempDir()
	const old, fresh = "the-token-of-before", "the-token-of-afterwards"
	config := hookbolttest.WriteConfig(t, dir, `admin_tokens = ["`+old+`"]`, `retry_schedule = ["1h"]`)
	child := spawnForSignals(t, config)
	rewrite := func(token, delivery, more string) {
		hookbolttest.WriteConfig(t, dir, `admin_tokens = ["`+token+`"]`, delivery+more)
	}
	hook := fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL)
	status, answer := hookbolttest.CallAs(t, old, "POST", child.URL+"/v1/webhooks", hook)
	hookbolttest.WantStatus(t, 400, status, answer) // its address is refused

	rewrite(fresh, `retry_schedule = ["1h"]`+"\n"+`allow_networks = ["127.0.0.1"]`+"\nproxy_from_environment = true", "\n[log]\nlevel = \"debug\"\nformat = \"json\"")
	hangUp(t, child, `msg="settings reloaded; some need a restart" changed="\[http.admin_tokens delivery.allow_networks log.level\]" need_restart="\[delivery.proxy_from_environment log.format\]"`)
	child.Log.Find(t, `msg=audit by=SIGHUP operation=reload settings="\[http.admin_tokens delivery.allow_networks log.level\]"`)
	status, answer = hookbolttest.CallAs(t, old, "GET", child.URL+"/v1/webhooks", "")
	hookbolttest.WantStatus(t, 401, status, answer)
	status, answer = hookbolttest.CallAs(t, fresh, "POST", child.URL+"/v1/webhooks", hook)
	hookbolttest.WantStatus(t, 201, status, answer)
	status, answer = hookbolttest.CallAs(t, fresh, "POST", child.URL+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, status, answer)
	select {
	case <-arrived:
	case <-time.After(hookbolttest.Timeout):
		t.Fatal("nothing arrived")
	}

	// What is refused changes nothing, not even the half of it.
	rewrite("another-token-altogether", `timeout = "5h"`, "")
	hangUp(t, child, `level=ERROR msg="the settings were not reloaded; the previous ones stay in effect" error="\S*config.toml: delivery.timeout: must be 1s to 2m \(got 5h\)"`)
	status, answer = hookbolttest.CallAs(t, fresh, "GET", child.URL+"/v1/webhooks", "")
	hookbolttest.WantStatus(t, 200, status, answer)

	// What is no longer allowed is not reached over the connection that is there, either.
	rewrite(fresh, `retry_schedule = ["1h"]`, "")
	hangUp(t, child, `msg="settings reloaded" changed="\[delivery.allow_networks log.level\]"`)
	status, answer = hookbolttest.CallAs(t, fresh, "POST", child.URL+"/v1/events", strings.ReplaceAll(hookbolttest.Session, "1111", "2222"))
	hookbolttest.WantStatus(t, 202, status, answer)
	for deadline := time.Now().Add(hookbolttest.Timeout); !strings.Contains(answer, `"last_error":"address_refused"`); {
		if _, answer = hookbolttest.CallAs(t, fresh, "GET", child.URL+"/v1/deliveries?limit=1", ""); time.Now().After(deadline) {
			t.Fatal(answer)
		}
	}
	if len(arrived) > 0 {
		t.Error("it arrived at an address that is refused")
	}
	if log := child.Log.String(); strings.Contains(log, old) || strings.Contains(log, fresh) {
		t.Errorf("a token is in the log:\n%s", log)
	}
}

// TestReloadKeepsTheDoorShut: a server that others can reach goes on to ask for a token, although one that only listens where the file now
// says could do without: its port stays.
func TestReloadKeepsTheDoorShut(t *testing.T) {
	cfg := config.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.HTTP.AdminTokens = []string{"an-admin-token-of-mine"}
	cfg.Storage.Path = filepath.Join(t.TempDir(), "test.db")
	out := hookbolttest.NewOutput()
	logger, level := server.NewLog(cfg.Log, out)
	s, err := server.New(server.Options{Config: cfg, Log: logger, Reload: server.Reload{Level: level, Load: func() (config.Config, error) {
		open := cfg
		open.HTTP.AdminTokens, open.Storage.Path, open.Delivery.MaxInFlight = nil, "other.db", 7
		return open, open.Validate()
	}}})
	if err != nil {
		t.Fatal(err)
	}
	s.SetListen("192.0.2.1:80") // as if: tests open no port to others
	s.ReloadNow()
	if code := serveLocal(s.API(), "GET", "/v1/webhooks"); code != http.StatusUnauthorized {
		t.Errorf("without a token it answers %d", code)
	}
	if got := s.Engine().Config().MaxInFlight; got == 7 {
		t.Error("the rest was reloaded")
	}
	out.Find(t, `level=ERROR msg="the settings were not reloaded; the previous ones stay in effect".*http.listen: 192.0.2.1:80 can be reached from other machines.*these changed settings need a restart: http.listen, storage.path`)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

// serveLocal makes a call without a token and returns the answer's status.
func serveLocal(h http.Handler, method, path string) int {
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, "http://localhost"+path, nil)
	h.ServeHTTP(w, r)
	return w.Code
}

// TestReloadWithRefusedOperations: a reload with an address that is refused changes nothing else, either.
func TestReloadWithRefusedOperations(t *testing.T) {
	dir := t.TempDir()
	config := hookbolttest.WriteConfig(t, dir, "", "")
	child := spawnForSignals(t, config)
	hookbolttest.WriteConfig(t, dir, `admin_tokens = ["an-admin-token-of-mine"]`, `operations_url = "http://10.1.2.3/"`)
	hangUp(t, child, `level=ERROR msg="the settings were not reloaded; the previous ones stay in effect" error="delivery.operations_url: .*allow_networks`)
	status, answer := hookbolttest.Call(t, "GET", child.URL+"/v1/webhooks", "")
	hookbolttest.WantStatus(t, 200, status, answer)
}

// TestReloadKeepsLastAdminToken: a file of tokens that is written at this moment is empty, and must not open the API. The same goes for a file of
// settings that is.
func TestReloadKeepsLastAdminToken(t *testing.T) {
	dir := t.TempDir()
	tokens := hookbolttest.Write(t, filepath.Join(dir, "tokens"), "an-admin-token-of-mine\n")
	config := hookbolttest.WriteConfig(t, dir, `admin_tokens_file = "`+tokens+`"`, "")
	child := spawnForSignals(t, config)
	const refused = `level=ERROR msg="the settings were not reloaded; the previous ones stay in effect" error="`
	hookbolttest.WriteConfig(t, dir, "", "")
	hangUp(t, child, refused+`http.admin_tokens: the last admin token is gone`)
	hookbolttest.Write(t, config, "")
	hangUp(t, child, refused+`.*http.admin_tokens: the last admin token is gone`)
	hookbolttest.WriteConfig(t, dir, `admin_tokens_file = "`+tokens+`"`, "")
	hookbolttest.Write(t, tokens, "")
	hangUp(t, child, refused+`.*admin_tokens_file: .* is empty`)
	for token, want := range map[string]int{"": 401, "an-admin-token-of-mine": 200} {
		status, answer := hookbolttest.CallAs(t, token, "GET", child.URL+"/v1/webhooks", "")
		hookbolttest.WantStatus(t, want, status, answer)
	}
	// Another one in its place is taken.
	hookbolttest.Write(t, tokens, "another-token-of-mine\n")
	hangUp(t, child, `msg="settings reloaded"`)
	status, answer := hookbolttest.CallAs(t, "another-token-of-mine", "GET", child.URL+"/v1/webhooks", "")
	hookbolttest.WantStatus(t, 200, status, answer)
}
