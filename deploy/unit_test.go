// Package deploy has what is around the program when it is installed, and tests of it. It has no code of the program.
package deploy

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/systemd"
)

func TestMain(m *testing.M) { hookbolttest.Main(m) }

// What the unit of systemd starts, with the settings that it gives, is a server that wants the token of its file.
func TestUnitStartsAServer(t *testing.T) {
	unit := make(map[string][]string)
	for _, m := range regexp.MustCompile(`(?m)^(\w+)=(.*)$`).FindAllStringSubmatch(hookbolttest.ReadFile(t, "deploy/hookbolt.service"), -1) {
		unit[m[1]] = append(unit[m[1]], m[2])
	}
	const token = "admin-token-number-1"
	dir := t.TempDir()
	for name, text := range map[string]string{"config.toml": hookbolttest.ReadFile(t, "config.example.toml"), "admin_tokens": token + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here := strings.NewReplacer("/usr/local/bin/hookbolt", os.Args[0], "/etc/hookbolt", dir, "/var/lib/hookbolt", dir, "%d", dir)

	words := strings.Fields(here.Replace(unit["ExecStart"][0]))
	m := hookbolttest.NewServiceManager(t, time.Minute)
	if words[0] != os.Args[0] {
		t.Fatalf("ExecStart runs %s", words[0])
	}
	cmd, stderr := hookbolttest.Command(t, append(m.Env, "HOOKBOLT_HTTP_LISTEN=127.0.0.1:0"), words[1:]...)
	for _, variable := range unit["Environment"] {
		cmd.Env = append(cmd.Env, here.Replace(variable))
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	api, found := strings.CutPrefix(m.Next(t), "READY=1\nSTATUS=ready at ")
	if !found {
		t.Fatalf("it is not ready:\n%s", stderr)
	}
	for given, want := range map[string]int{"": http.StatusUnauthorized, token: http.StatusOK} {
		if status, answer := hookbolttest.CallAs(t, given, "GET", api+"/v1/webhooks", ""); status != want {
			t.Errorf("with the token %q: %d, want %d: %s", given, status, want, answer)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "hookbolt.db")); err != nil {
		t.Errorf("the database is not where the unit lets it be: %v", err)
	}

	limit, err := time.ParseDuration(unit["TimeoutStopSec"][0])
	if http := config.Default().HTTP; err != nil || limit <= time.Duration(http.ShutdownDelay+http.ShutdownTimeout)+systemd.ClosingTime {
		t.Errorf("TimeoutStopSec is %v, and an end may take %v", limit, time.Duration(http.ShutdownDelay+http.ShutdownTimeout)+systemd.ClosingTime)
	}
}
