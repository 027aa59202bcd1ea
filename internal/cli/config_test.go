package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
)

// parse reads the text of a configuration file.
func parse(t *testing.T, text string) (config.Config, error) {
	cfg, _, err := (&config.Loader{Path: hookbolttest.Write(t, filepath.Join(t.TempDir(), "config.toml"), text)}).Load()
	return cfg, err
}

// TestConfigCheck has the command print what holds, which is a file again but for the secrets, and refuse what serve would.
func TestConfigCheck(t *testing.T) {
	dir := t.TempDir()
	const token = "an-admin-token-of-mine"
	path := filepath.Join(dir, "config.toml")
	text := "[http]\nadmin_tokens = [\"" + token + "\"]\nlisten = \":9\"\n[delivery]\noperations_url = \"https://ops.example.com/a-path-of-mine?key=" + token + "\"\nretry_schedule = []\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOOKBOLT_DELIVERY_TIMEOUT", "2s")
	t.Setenv("HOOKBOLT_CONFIG", path)
	p := hookbolttest.Start(t, "config", "check", "-allow", "10.0.0.0/8")
	if code := p.Exit(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.Stderr)
	}
	out := p.Stdout.String()
	for _, line := range []string{`listen = ":9"`, `admin_tokens = ["…"]`, `operations_url = "https://ops.example.com/…"`, `timeout = "2s"`, `retry_schedule = []`, `allow_networks = ["10.0.0.0/8"]`, `format = "text"`} {
		if !strings.Contains(out, "\n"+line+" ") {
			t.Errorf("lacks %s:\n%s", line, out)
		}
	}
	for _, comment := range []string{"# " + path, "# HOOKBOLT_DELIVERY_TIMEOUT", "# -allow", "# default"} {
		if !strings.Contains(out, comment+"\n") {
			t.Errorf("lacks %s:\n%s", comment, out)
		}
	}
	if strings.Contains(out, token) || strings.Contains(out, "a-path-of-mine") {
		t.Errorf("shows a token:\n%s", out)
	}
	again, err := parse(t, strings.Replace(out, `["…"]`, `["`+token+`"]`, 1))
	if err != nil {
		t.Fatal(err)
	}
	now, _, err := (&config.Loader{Path: path, Environ: os.Environ(), Allow: []config.Network{again.Delivery.AllowNetworks[0]}}).Load()
	if err != nil || now.Delivery.Timeout != again.Delivery.Timeout || now.HTTP.Listen != again.HTTP.Listen || len(again.Delivery.RetrySchedule) != 0 {
		t.Errorf("read again: %+v, %v", again, err)
	}

	if err := os.WriteFile(path, []byte(text+"timeout = \"5h\""), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOOKBOLT_DELIVERY_TIMEOUT", "")
	p = hookbolttest.Start(t, "config", "check")
	if code := p.Exit(t); code != cli.ExitFailure || p.Stderr.String() != "hookbolt: "+path+": delivery.timeout: must be 1s to 2m (got 5h)\n" || p.Stdout.String() != "" {
		t.Errorf("exit code %d, %s%s", code, p.Stdout, p.Stderr)
	}
}
