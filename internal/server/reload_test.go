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
	const most = 1000 // repetitions in a regular expression
	child.Log.Find(t, fmt.Sprintf(`(?s)^%s.{%d}.*`, strings.Repeat(fmt.Sprintf(".{%d}", most), before/most), before%most)+want)
}

// spawnForSignals starts a server in a process of its own, which can be sent SIGHUP.
func spawnForSignals(t *testing.T, config string, env ...string) *hookbolttest.Child {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent SIGHUP on Windows")
	}
	return hookbolttest.Spawn(t, config, env...)
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
	hangUp(t, child, refused+`.*config.toml: it has no settings any more`)
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

// TestReloadOfEmptyFile: a file of settings that is written at this moment is empty. With tokens from elsewhere, nothing else stops a reload that
// would set all limits and retentions back to their defaults.
func TestReloadOfEmptyFile(t *testing.T) {
	dir := t.TempDir()
	tokens := hookbolttest.Write(t, filepath.Join(dir, "tokens"), "an-admin-token-of-mine\n")
	config := hookbolttest.WriteConfig(t, dir, `max_body = "2KiB"`, "")
	child := spawnForSignals(t, config, "HOOKBOLT_HTTP_ADMIN_TOKENS_FILE="+tokens)
	for _, empty := range []string{"", "\n", "# nothing\n"} {
		hookbolttest.Write(t, config, empty)
		hangUp(t, child, `level=ERROR msg="the settings were not reloaded; the previous ones stay in effect" error=".*config.toml: it has no settings any more`)
	}
	status, answer := hookbolttest.CallAs(t, "an-admin-token-of-mine", "POST", child.URL+"/v1/events", strings.Repeat(" ", 3000))
	hookbolttest.WantStatus(t, 413, status, answer)
}

// TestNoLossOpensAnything takes each setting away from a server that has them all: after a reload nothing is open that was closed.
func TestNoLossOpensAnything(t *testing.T) {
	full := map[string]string{
		"http.admin_tokens": `["admin-token-number-1"]`, "http.read_tokens": `["read-token-number-1"]`, "http.ingest_tokens": `["ingest-token-number-1"]`,
		"http.metrics_tokens": `["metrics-token-number-1"]`, "http.cors_origins": `["https://quiz.example.com"]`, "http.trusted_proxies": `["10.0.0.1"]`,
		"http.listen": `"127.0.0.1:0"`, "delivery.allow_networks": `["127.0.0.1"]`, "delivery.operations_url": `"http://127.0.0.1:1/"`,
		"delivery.operations_secret": `"whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="`, "log.level": `"warn"`,
	}
	write := func(without string) string {
		var text strings.Builder
		for _, section := range []string{"http", "delivery", "log", "storage"} {
			text.WriteString("[" + section + "]\n")
			for name, value := range full {
				if of, key, _ := strings.Cut(name, "."); of == section && name != without {
					text.WriteString(key + " = " + value + "\n")
				}
			}
		}
		return text.String() + "path = '" + filepath.Join(t.TempDir(), "data.db") + "'\nmin_free = \"0\"\n"
	}
	for without := range full {
		cfg, err := parse(t, write(""))
		if err != nil {
			t.Fatal(err)
		}
		var out hookbolttest.Output
		log, level := server.NewLog(cfg.Log, &out)
		s, err := server.New(server.Options{Config: cfg, Log: log, Reload: server.Reload{Level: level, Load: func() (config.Config, error) { return parse(t, write(without)) }}})
		if err != nil {
			t.Fatal(err)
		}
		s.ReloadNow()
		for _, path := range []string{"/v1/webhooks", "/", "/metrics", "/v1/backup"} {
			if code := serveLocal(s.API(), "GET", path); code != http.StatusUnauthorized {
				t.Errorf("without %s, %s is answered with %d", without, path, code)
			}
		}
		if code := serveLocal(s.API(), "POST", "/v1/events"); code != http.StatusUnauthorized {
			t.Errorf("without %s, events are answered with %d", without, code)
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest("OPTIONS", "http://localhost/v1/events", nil)
		r.Header.Set("Origin", "https://evil.example")
		if s.API().ServeHTTP(w, r); w.Header().Get("Access-Control-Allow-Origin") != "" || w.Code != http.StatusForbidden {
			t.Errorf("without %s, a foreign page is answered with %d", without, w.Code)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestStartWithoutTokens: a server that lets everybody in says so, once, and what to set.
func TestStartWithoutTokens(t *testing.T) {
	const warning = `level=WARN msg="no token is needed: every program and every user of this machine may read and change everything, secrets included" setting=http.admin_tokens`
	for settings, want := range map[string]int{"": 1, `admin_tokens = ["an-admin-token-of-mine"]`: 0} {
		p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), settings, ""))
		p.URL(t)
		if got := strings.Count(p.Stderr.String(), warning); got != want {
			t.Errorf("with %q it is said %d times:\n%s", settings, got, p.Stderr)
		}
	}
}
