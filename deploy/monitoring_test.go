package deploy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hookbolt/internal/hookbolttest"
)

// scrape returns the metrics of a server that has made a delivery, and refused a call.
func scrape(t *testing.T) string {
	t.Helper()
	arrived := make(chan struct{}, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{} }))
	defer endpoint.Close()
	api := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), "", `allow_networks = ["127.0.0.0/8"]`)).URL(t)
	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"url": %q, "delay": 0}`, endpoint.URL))
	hookbolttest.WantStatus(t, http.StatusCreated, status, answer)
	status, answer = hookbolttest.Call(t, "POST", api+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, http.StatusAccepted, status, answer)
	<-arrived
	hookbolttest.Call(t, "GET", api+"/readyz", "")
	hookbolttest.Call(t, "GET", api+"/v1/sessions/none", "")
	_, text := hookbolttest.Call(t, "GET", api+"/metrics", "")
	// Those of a server on PostgreSQL beside them: internal/server holds this file against its collector.
	return text + hookbolttest.ReadFile(t, "internal/server/testdata/postgres.metrics")
}

// dashboardExpressions are those of the Grafana dashboard, with what Grafana puts in for its variables.
func dashboardExpressions(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Annotations struct{ List []struct{ Expr string } }
		Panels      []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(hookbolttest.ReadFile(t, "deploy/grafana/hookbolt.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, a := range dashboard.Annotations.List {
		list = append(list, a.Expr)
	}
	ids := make(map[int]bool)
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q has an id that another one has, or does not fit in", p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			list = append(list, target.Expr)
		}
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$job", ".+", "$instance", ".+")
	for i := range list {
		list[i] = variables.Replace(list[i])
	}
	return list
}

// TestMonitoringKnowsTheMetrics holds alerts and dashboard against what a server shows: no metric, label or value that is not there, and
// the dashboard leaves no metric of hookbolt's own out.
func TestMonitoringKnowsTheMetrics(t *testing.T) {
	live := make(map[string]map[string][]string) // metric, label, values
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? \S+$`).FindAllStringSubmatch(scrape(t), -1) {
		labels := live[m[1]]
		if labels == nil {
			labels = map[string][]string{"job": nil, "instance": nil}
			live[m[1]] = labels
		}
		for _, l := range regexp.MustCompile(`(\w+)="([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = append(labels[l[1]], l[2])
		}
	}
	metric := regexp.MustCompile(`\b((?:hookbolt|process|go)_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`(\w+)(=~|=|!=)"([^"]*)"`)
	grouped := func(selector string) *regexp.Regexp {
		return regexp.MustCompile(`by \(([^)]*)\) \((?:rate\(|increase\()?` + regexp.QuoteMeta(selector))
	}
	used := make(map[string]bool)
	check := func(where, text string) {
		for _, m := range metric.FindAllStringSubmatch(text, -1) {
			if runtime.GOOS != "linux" && strings.HasPrefix(m[1], "process_") {
				continue // which there are differs
			}
			used[m[1]] = true
			labels, ok := live[m[1]]
			if !ok {
				t.Errorf("%s: there is no metric %s", where, m[1])
				continue
			}
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				values, ok := labels[l[1]]
				if !ok {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
				if values == nil || l[1] == "code" { // which codes there are depends on the calls; all other values are there from the start
					continue
				}
				for value := range strings.SplitSeq(l[3], "|") {
					if !slices.Contains(values, value) {
						t.Errorf("%s: %s has no %s %q, only %q", where, m[1], l[1], value, values)
					}
				}
			}
			if by := grouped(m[0]).FindStringSubmatch(text); by != nil {
				for label := range strings.SplitSeq(by[1], ", ") {
					if _, ok := labels[label]; !ok {
						t.Errorf("%s: %s has no label %s", where, m[1], label)
					}
				}
			}
		}
	}
	for _, expr := range dashboardExpressions(t) {
		check("dashboard: "+expr, expr)
	}
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	for name := range live {
		base := suffix.ReplaceAllString(name, "")
		if strings.HasPrefix(name, "hookbolt_") && !used[base] && !used[base+"_bucket"] && !used[base+"_sum"] && !used[base+"_count"] {
			t.Errorf("the dashboard does not show %s", base)
		}
	}
	check("alerts.yml", hookbolttest.ReadFile(t, "deploy/prometheus/alerts.yml"))
	for _, m := range regexp.MustCompile(`series: '([^']+)'`).FindAllStringSubmatch(hookbolttest.ReadFile(t, "deploy/prometheus/alerts_test.yml"), -1) {
		if name, _, _ := strings.Cut(m[1], "{"); name != "up" && live[name] == nil {
			t.Errorf("alerts_test.yml: there is no metric %s", name)
		}
	}
}

// TestPromtool has Prometheus's own tool look at the metrics, test the alerts, and read the expressions of the dashboard.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("HOOKBOLT_REQUIRE_PROMTOOL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	run := func(stdin string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir, cmd.Stdin = "prometheus", strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run(scrape(t), "check", "metrics")
	run("", "check", "config", "--syntax-only", "prometheus.yml")
	run("", "check", "rules", "alerts.yml")
	run("", "test", "rules", "alerts_test.yml")

	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, expr := range dashboardExpressions(t) {
		fmt.Fprintf(&rules, "      - {record: panel:expression%d, expr: %q}\n", i, expr)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run("", "check", "rules", path)
}
