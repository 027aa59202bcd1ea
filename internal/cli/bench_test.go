package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"hookbolt/internal/bench"
	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/postgrestest"
)

// quickBench are the flags of a run that measures nothing of worth, and is soon over.
const quickBench = "bench -connections 4 -duration 400ms -warmup 50ms -relay 400ms"

// All stages, for real: a server and a relay as processes of their own, over loopback.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	p := hookbolttest.Start(t, strings.Fields(quickBench+" -dir "+dir+" -webhooks 4 -failing 0.25 -slow 0.25 -slow-by 5ms -scheduled 300 -scheduled-webhooks 3 -idle 10ms -outage 60 -every 20ms")...)
	if code := p.Exit(t); code != 0 || p.Stderr.String() != "" {
		t.Fatalf("exit code %d", code)
	}
	for _, pattern := range []string{
		`(?m)^machine\n  command +hookbolt bench -connections=4 .*-webhooks=4`,
		`(?s)\nbare relay, .*relayed +[1-9].*\n  check +0 missing, 0 repeated\n.*\ntuned relay, .*relayed +[1-9].*\nscheduled deliveries`,
		`(?s)\nscheduled deliveries\n  sessions +\d+, over 3 webhooks.*start after a clean stop +\d+\.\d+ s\n`,
		`(?s)\nidle\n  duration +\d+\.\d s\n`,
		`(?s)\nfull speed, samples\n +\d+ s  accepted .*\nfull speed\n.*of the bare relay, [0-9.]+ % of the tuned one\n.*failed attempts +\d+ at the failing endpoints\n.*check +0 missing, 0 repeated\n.*\nhalf of full`,
		`(?s)\nhalf of full speed\n.*4 webhooks, [\d,]+ sessions/s\n.*check +0 missing, 0 repeated\n.*\noutage`,
		`(?s)\noutage of every endpoint\n  backlog +\d+ sessions, 4 webhooks.*lag of other lanes +p50 .*check +0 missing, 0 repeated\n`,
	} {
		p.Stdout.Find(t, pattern)
	}
	// Not every system names its processor, but each Linux knows what a process costs.
	if _, figures, _ := strings.Cut(p.Stdout.String(), "\nbare relay"); runtime.GOOS == "linux" && strings.Contains(figures, "not known") {
		t.Error("a figure is not known")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it has left %v, %v", left, err)
	}
}

// With a PostgreSQL database it works in a schema of its own: that of the configuration is another hookbolt's. Nothing is left.
func TestBenchPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	url := c.URL()
	settings := fmt.Sprintf("[storage]\ndriver = 'postgres'\npostgres_url = '%s'\npostgres_schema = 'of_another'\n", url)
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	p := hookbolttest.Start(t, strings.Fields(quickBench+" -processes 2 -webhooks 4 -scheduled 10 -scheduled-webhooks 2 -dir "+dir+" -config "+file)...)
	if code := p.Exit(t); code != 0 || p.Stderr.String() != "" {
		t.Fatalf("exit code %d", code)
	}
	p.Stdout.Find(t, `(?s)database in PostgreSQL, schema hookbolt_bench_\w+; .*start after a clean stop.*\nhalf of full speed\n.*written for each delivery +not known.*check +0 missing, 0 repeated\n`)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var schemas []string
	err = conn.QueryRow(t.Context(), "SELECT array_agg(nspname::text) FROM pg_namespace WHERE nspname LIKE 'hookbolt_bench%' OR nspname = 'of_another'").Scan(&schemas)
	if err != nil || len(schemas) > 0 {
		t.Errorf("there are the schemas %q, %v", schemas, err)
	}
}

// The server and the relay trust the certificate that the endpoints have.
func TestBenchTLS(t *testing.T) {
	p := hookbolttest.Start(t, strings.Fields(quickBench+" -json -rate 200 -tls 2 -dir "+t.TempDir())...)
	if code := p.Exit(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	var report bench.Report
	if err := json.Unmarshal([]byte(p.Stdout.String()), &report); err != nil {
		t.Fatal(err)
	}
	if m := report.Steady; report.Relay.Deliveries == 0 || *m.Missing != 0 || m.Deliveries == 0 || m.RefusedRequests != 0 {
		t.Errorf("the relay: %+v; the load: %+v", report.Relay, m)
	}
}

func TestBenchJSON(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, []byte("[http]\nlisten = '127.0.0.1:1'\nadmin_tokens = ['admin-token-of-a-file']\nmax_body = '2MiB'\n[delivery]\noperations_url = 'https://ops.example.com/'\n[log]\nlevel = 'error'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := hookbolttest.Start(t, strings.Fields(quickBench+" -json -rate 200 -batch 2 -crash -scheduled 10 -keep -dir "+dir+" -config "+config)...)
	if code := p.Exit(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	var report bench.Report
	if err := json.Unmarshal([]byte(p.Stdout.String()), &report); err != nil {
		t.Fatal(err)
	}
	if report.Relay.Deliveries == 0 || report.Scheduled.Start == 0 || !report.Scheduled.AfterCrash || report.FullSpeed != nil || report.Outage != nil {
		t.Errorf("the report is %+v", report)
	}
	if m := report.Steady; *m.Missing != 0 || *m.Rate != 200 || m.Batch != 2 || m.Lag == nil || *m.Commits == 0 || *m.OperationsPerCommit < 1 || *m.File == 0 {
		t.Errorf("the load is %+v", m)
	}
	kept := p.Stderr.Find(t, `the database is in (\S+)`)
	if _, err := os.Stat(filepath.Join(kept, "hookbolt.db")); err != nil {
		t.Error(err)
	}
	if text := hookbolttest.Read(t, filepath.Join(kept, "config.toml")); !strings.Contains(text, `max_body = "2MiB"`) || strings.Contains(text, "operations") {
		t.Errorf("the server's configuration is\n%s", text)
	}
}

// A server that runs is measured and left as it was.
func TestBenchURL(t *testing.T) {
	const token = "admin-token-of-the-bench"
	server := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), `admin_tokens = ["`+token+`"]`, ""))
	args := strings.Fields(quickBench + " -json -rate 200 -outage 40 -url " + server.URL(t))
	t.Setenv("HOOKBOLT_TOKEN", token)
	for _, more := range [][]string{nil, {"-token", token}, {"-token", "something else"}} {
		p := hookbolttest.Start(t, append(args, more...)...)
		if code := p.Exit(t); code != 0 != (len(more) > 0 && more[1] != token) {
			t.Fatalf("%s: exit code %d", more, code)
		}
		var report bench.Report
		if err := json.Unmarshal([]byte(p.Stdout.String()), &report); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(p.Stdout.String()+p.Stderr.String(), token) {
			t.Error("it shows the token")
		}
		if report.Steady == nil {
			if !strings.Contains(p.Stderr.String(), "401") {
				t.Errorf("it does not say why: %s", p.Stderr)
			}
			continue
		}
		if m := report.Steady; report.Relay != nil || m.PeakMemory != nil || m.CPU == nil != (runtime.GOOS != "linux") || *m.Missing != 0 {
			t.Errorf("the report is %+v", m)
		}
		if o := report.Outage; *o.Missing != 0 || o.Sessions != 40 || o.OtherLanes == nil {
			t.Errorf("the outage is %+v", o)
		}
	}
	if status, answer := hookbolttest.CallAs(t, token, "GET", server.URL(t)+"/v1/webhooks", ""); status != 200 || !strings.Contains(answer, `"items":[]`) {
		t.Errorf("webhooks are left: %s", answer)
	}
}

// Ctrl-C ends it with what it has, and leaves nothing behind.
func TestBenchEndsWhenToldTo(t *testing.T) {
	dir := t.TempDir()
	p := hookbolttest.Start(t, strings.Fields("bench -relay 20ms -warmup 0 -duration 1h -every 10ms -rate 100 -dir "+dir)...)
	p.Stdout.Find(t, `(?s)samples\n.*accepted [1-9]`) // a run in which nothing was accepted has failed
	if code := p.End(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.Stdout.Find(t, `(?s)\nsteady rate\n.*accepted +\d+ sessions/s.*check +(not finished|0 missing, 0 repeated)`)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it has left %v, %v", left, err)
	}
}

func TestBenchUsage(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.toml")
	if err := os.WriteFile(broken, []byte("[delivery]\ntimeout = '0s'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"-connections none", cli.ExitUsage, "bench: invalid value"},
		{"-connections 0", cli.ExitUsage, "bench: -connections must be 1 to 10000 (got 0)"},
		{"-duration 0s", cli.ExitUsage, "bench: -duration must be positive (got 0s)"},
		{"now", cli.ExitUsage, `bench: unexpected argument "now"`},
		{"-url http://127.0.0.1:1 -config x", cli.ExitUsage, "bench: -config cannot be used with -url"},
		{"-relay-url 127.0.0.1:1 -endpoint 127.0.0.1:2", cli.ExitUsage, "bench: -relay-url "},
		{"-relay-url http://127.0.0.1:1 -endpoint 127.0.0.1:2 -config x", cli.ExitUsage, "bench: -config cannot be used with -relay-url"},
		{"-relay-header x", cli.ExitUsage, "bench: invalid value \"x\" for flag -relay-header: want NAME: VALUE"},
		{"-relay-body /nowhere/x", cli.ExitUsage, "bench: -relay-body: open /nowhere/x"},
		{"-processes 2", cli.ExitUsage, "bench: -processes needs a -config whose storage.driver is \"postgres\""},
		{"-token x", cli.ExitUsage, "bench: -token can only be used with -url"},
		{"-config " + broken, cli.ExitFailure, broken + ": delivery.timeout: "},
		{"-relay 0 -dir " + broken, cli.ExitFailure, "bench: "},
		{"-url http://127.0.0.1:1", cli.ExitFailure, "bench: http://127.0.0.1:1: "},
	} {
		p := hookbolttest.Start(t, append([]string{"bench"}, strings.Fields(tc.args)...)...)
		if code := p.Exit(t); code != tc.code {
			t.Errorf("%s: exit code %d, want %d", tc.args, code, tc.code)
		}
		if got := p.Stderr.String(); !strings.HasPrefix(got, "hookbolt: "+tc.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: it said %q, want one line beginning with %q", tc.args, got, "hookbolt: "+tc.want)
		}
	}
}
