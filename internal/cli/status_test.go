package cli_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

func TestStatus(t *testing.T) {
	const admin, metrics, ingest = "admin-token-number-1", "metrics-token-number-1", "ingest-token-number-1"
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer endpoint.Close()
	p := hookbolttest.Start(t, "serve", "-allow", "127.0.0.1", "-config", hookbolttest.WriteConfig(t, t.TempDir(), `
		admin_tokens = ["`+admin+`"]
		metrics_tokens = ["`+metrics+`"]
		ingest_tokens = ["`+ingest+`"]`, ""))
	api := p.URL(t)
	ask := func(token string, code int) string {
		t.Helper()
		t.Setenv("HOOKBOLT_TOKEN", token)
		s := hookbolttest.Start(t, "status", "-url", api)
		if got := s.Exit(t); got != code {
			t.Errorf("exit code %d, want %d: %s%s", got, code, s.Stdout, s.Stderr)
		}
		if code == 0 || s.Stderr.String() == "" {
			return s.Stdout.String()
		}
		return s.Stderr.String()
	}
	if out := ask(admin, 0); !strings.HasPrefix(out, "hookbolt dev at "+api+", ready, up ") || strings.Contains(out, "attention") || strings.Contains(out, "?") || strings.Contains(out, "NaN") {
		t.Errorf("of a healthy one:\n%s", out)
	}

	status, answer := hookbolttest.CallAs(t, admin, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0, "name": "a\nb"}`, endpoint.URL))
	hookbolttest.WantStatus(t, 201, status, answer)
	status, answer = hookbolttest.CallAs(t, admin, "POST", api+"/v1/webhooks", `{"url": "https://example.com/", "paused": true}`)
	hookbolttest.WantStatus(t, 201, status, answer)
	for i := range 6 {
		status, answer = hookbolttest.CallAs(t, ingest, "POST", api+"/v1/events", strings.ReplaceAll(hookbolttest.Session, "11111111", fmt.Sprintf("1111111%d", i)))
		hookbolttest.WantStatus(t, 202, status, answer)
	}
	for deadline := time.Now().Add(hookbolttest.Timeout); !strings.Contains(answer, `"state":"failing"`); {
		if _, answer = hookbolttest.CallAs(t, admin, "GET", api+"/v1/webhooks", ""); time.Now().After(deadline) {
			t.Fatal(answer)
		}
	}
	out := ask(admin, cli.ExitFailure)
	// Five, or one more that was under way beside the fifth, or a probe.
	for _, want := range []string{`\nevents +accepted 12   refused 0\n`, `failing 1   throttled 0   paused 1`, `4xx [5-9]`, `\nattention   webhook 1 "a b" has been failing since \S+: its last [5-9] attempts failed\n`,
		`\n            webhook 2 is paused: paused by hand\n`, `commits p50 up to `} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("lacks %s:\n%s", want, out)
		}
	}
	if out := ask(metrics, cli.ExitFailure); !strings.Contains(out, "attention   failing endpoints: 1 (use an admin token to see which)\n            paused webhooks: 1 (") {
		t.Errorf("with a metrics token:\n%s", out)
	}
	if out := ask("", cli.ExitFailure); !strings.Contains(out, "401 Unauthorized") || !strings.Contains(out, "HOOKBOLT_TOKEN") {
		t.Errorf("without a token: %s", out)
	}
	if out := ask(ingest, cli.ExitFailure); !strings.Contains(out, "403 Forbidden") {
		t.Errorf("with an ingest token: %s", out)
	}
}

// TestStatusOfLateEvents names the webhooks whose deliveries lack events. That is no failure.
func TestStatusOfLateEvents(t *testing.T) {
	const metrics = "# TYPE hookbolt_build_info gauge\nhookbolt_build_info{version=\"v9\"} 1\n# TYPE hookbolt_deliveries_with_late_events gauge\nhookbolt_deliveries_with_late_events "
	forbidden := false
	answers := map[string]string{
		"/metrics": metrics + "1234\n", "/readyz": `{}`, "/v1/webhooks": `{"items":[],"next_cursor":null}`,
		"/v1/deliveries": `{"items":[{"webhook_id":2},{"webhook_id":1},{"webhook_id":2},{"webhook_id":3}],"next_cursor":"x"}`,
		"/v1/webhooks/1": `{"name":"","deliveries":{"with_late_events":234}}`,
		"/v1/webhooks/2": `{"name":"a\nb","deliveries":{"with_late_events":1000}}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch answer, ok := answers[r.URL.Path]; {
		case forbidden && strings.HasPrefix(r.URL.Path, "/v1/"):
			w.WriteHeader(http.StatusForbidden)
		case !ok: // webhook 3 was deleted
			w.WriteHeader(http.StatusNotFound)
		default:
			fmt.Fprint(w, answer)
		}
	}))
	defer server.Close()
	want := func(line string) {
		t.Helper()
		p := hookbolttest.Start(t, "status", "-url", server.URL)
		if code, out := p.Exit(t), p.Stdout.String(); code != 0 || !strings.Contains(out+"end", line) {
			t.Errorf("exit code %d: %s\nwant %s\n%s", code, p.Stderr, line, out)
		}
	}
	want("\nlate events deliveries that lack them 1,234   webhook 2 \"a b\" 1,000   webhook 1 234   a webhook with send_updates sends them\nend")
	forbidden = true // to a metrics token
	want("\nlate events deliveries that lack them 1,234   a webhook with send_updates sends them\nend")
	forbidden, answers["/metrics"] = false, metrics+"0\n"
	want("goroutines ?\nend")
}

// TestStatusOfTrouble has a server in more trouble than one can make, and others that are none.
func TestStatusOfTrouble(t *testing.T) {
	const metrics = `
# TYPE hookbolt_build_info gauge
hookbolt_build_info{version="v9` + "\x1b" + `[2J"} 1
# TYPE hookbolt_storage_full gauge
hookbolt_storage_full 1
# TYPE hookbolt_storage_disk_free_bytes gauge
hookbolt_storage_disk_free_bytes 5e+08
# TYPE hookbolt_damaged_records_total counter
hookbolt_damaged_records_total 1234
# TYPE hookbolt_queue_oldest_due_age_seconds gauge
hookbolt_queue_oldest_due_age_seconds 3600
# TYPE hookbolt_trouble_webhooks gauge
hookbolt_trouble_webhooks{trouble="memory"} 0
hookbolt_trouble_webhooks{trouble="network"} 7
# TYPE hookbolt_client_certificate_expiry_seconds gauge
hookbolt_client_certificate_expiry_seconds 1e9
# TYPE hookbolt_webhooks gauge
hookbolt_webhooks{state="failing"} 0
# TYPE hookbolt_storage_commit_duration_seconds histogram
hookbolt_storage_commit_duration_seconds_bucket{le="0.1"} 50
hookbolt_storage_commit_duration_seconds_bucket{le="+Inf"} 100
hookbolt_storage_commit_duration_seconds_sum 100
hookbolt_storage_commit_duration_seconds_count 100
`
	// Whether other endpoints are failing makes no difference to a queue that is stuck.
	stuck := strings.Replace(metrics, `{state="failing"} 0`, `{state="failing"} 3`, 1) + "# TYPE hookbolt_queue_stalled_seconds gauge\nhookbolt_queue_stalled_seconds 1800\n"
	answers := map[string]string{"/metrics": metrics, "/v1/webhooks": `{"items":[],"next_cursor":null}`}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"type":"about:blank","title":"x","status":503,"detail":"not ready: the disk is full"}`)
			return
		}
		fmt.Fprint(w, answers[r.URL.Path])
	}))
	defer server.Close()
	p := hookbolttest.Start(t, "status", "-url", server.URL)
	if code := p.Exit(t); code != cli.ExitFailure || p.Stderr.String() != "" {
		t.Errorf("exit code %d: %s", code, p.Stderr)
	}
	for _, want := range []string{"hookbolt v9[2J at " + server.URL + ", not ready\n", "attention   not ready: the disk is full\n", " events are refused because there is no room", " the disk has only 477 MiB left",
		" records that could not be read: 1,234;", " a webhook's client certificate has expired", " webhooks that wait because of a trouble of hookbolt's machine (network): 7\n", " commits are slow, p99 beyond the last bucket: the disk is slow", " a delivery has been due for 1h0m0s, and no endpoint is failing", "p99 beyond the last bucket"} {
		if !strings.Contains(p.Stdout.String(), want) {
			t.Errorf("lacks %q:\n%s", want, p.Stdout)
		}
	}
	answers["/metrics"] = stuck
	p = hookbolttest.Start(t, "status", "-url", server.URL)
	if code, want := p.Exit(t), " the queue is stuck: a webhook has due deliveries, and none was attempted for 30m0s\n"; code != cli.ExitFailure || !strings.Contains(p.Stdout.String(), want) {
		t.Errorf("exit code %d, want %q:\n%s", code, want, p.Stdout)
	}
	for name, text := range map[string]string{"another program": "# TYPE up gauge\nup 1\n", "no metrics": "<html>", "nothing": ""} {
		answers["/metrics"] = text
		p := hookbolttest.Start(t, "status", "-url", server.URL)
		if code := p.Exit(t); code != cli.ExitFailure || !strings.Contains(p.Stderr.String(), "these are not hookbolt's metrics; is -url right?") || strings.Count(p.Stderr.String(), "\n") != 1 {
			t.Errorf("%s: exit code %d: %s", name, code, p.Stderr)
		}
	}
}

// TestStatusOfMembers names the processes that share a database. One that is away needs attention; two releases at once do not.
func TestStatusOfMembers(t *testing.T) {
	const metrics = `# TYPE hookbolt_build_info gauge
hookbolt_build_info{version="v9"} 1
# TYPE hookbolt_postgres_members gauge
hookbolt_postgres_members{state="away"} 0
hookbolt_postgres_members{state="working"} 2
# TYPE hookbolt_postgres_unowned_lanes gauge
hookbolt_postgres_unowned_lanes 0
# TYPE hookbolt_postgres_beat_age_seconds gauge
hookbolt_postgres_beat_age_seconds 0.4
`
	const members = `{"items":[{"id":17,"host":"app\n1","release":"v9","state":"working","joined_at":"2026-11-27T01:51:17.5Z","beat_age_ms":412,"webhooks":1234,"in_flight":5,"keeper":true,"this":false},
		{"id":18,"host":null,"release":"v10","state":"working","joined_at":"2026-11-27T01:51:17Z","beat_age_ms":0,"webhooks":3,"in_flight":0,"keeper":false,"this":true}],"unowned_webhooks":0}`
	answers := map[string]string{"/metrics": metrics, "/readyz": `{}`, "/v1/webhooks": `{"items":[],"next_cursor":null}`, "/v1/members": members}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answers[r.URL.Path] == "" {
			w.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprint(w, answers[r.URL.Path])
	}))
	defer server.Close()
	want := func(code int, lines string) {
		t.Helper()
		p := hookbolttest.Start(t, "status", "-url", server.URL)
		if got, out := p.Exit(t), p.Stdout.String(); got != code || !strings.Contains(out+"end", lines) {
			t.Errorf("exit code %d, want %d: %s\nwant %s\n%s", got, code, p.Stderr, lines, out)
		}
	}
	want(0, "\nmembers     working 2   releases v9 and v10\n"+
		"            member 17 on app 1   working   webhooks 1,234   in flight 5   beat 412ms ago   since 2026-11-27T01:51:17Z   v9   background work\n"+
		"            member 18   working   webhooks 3   in flight 0   beat 0s ago   since 2026-11-27T01:51:17Z   v10   this one\nend")
	answers["/v1/members"] = strings.Replace(strings.Replace(members, "412", "6012", 1), "working", "away", 1)
	want(cli.ExitFailure, "\nattention   member 17 on app 1 has given no sign of life for 6s, and makes no attempts: others take its webhooks over\nend")
	answers["/v1/members"], answers["/v1/webhooks"] = "", "" // to a metrics token
	want(0, "\nmembers     working 2\nend")
	answers["/metrics"] = strings.NewReplacer(`away"} 0`, `away"} 1`, "lanes 0", "lanes 4", "seconds 0.4", "seconds 7.5").Replace(metrics)
	want(cli.ExitFailure, "\nmembers     away 1   working 2   lanes that nobody owns 4\n"+
		"attention   this member has given no sign of life for 7.5s, and makes no attempts: it does not reach PostgreSQL, or hangs\n"+
		"            members without a sign of life: 1 (use an admin token to see which)\nend")
}
