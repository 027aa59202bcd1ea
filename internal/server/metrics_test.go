package server

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"hookbolt/engine"
	"hookbolt/storage"
)

// TestPostgresMetrics holds the metrics of a server on PostgreSQL against a file, which the dashboard is tested with, and against their page.
func TestPostgresMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(newPostgresCollector(func() storage.ServerFigures {
		return storage.ServerFigures{Trips: 12, Retries: 3, Settled: 1, SetBacks: 2, Reading: 2, Idle: 5, Away: true, FoldAge: 1500 * time.Millisecond, Skew: -250 * time.Millisecond,
			BeatAge: 400 * time.Millisecond, Owned: 7, Keeper: true, TookOver: 1}
	}, func(context.Context) (*engine.Fleet, error) {
		return &engine.Fleet{Unowned: 2, Members: []engine.Member{{ID: 3, State: engine.MemberWorking}, {ID: 5, State: engine.MemberWorking}, {ID: 8, State: engine.MemberAway}}}, nil
	}))
	file, err := os.ReadFile("testdata/postgres.metrics")
	if err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&got, f); err != nil {
			t.Fatal(err)
		}
	}
	if got.String() != string(file) {
		t.Errorf("got\n%s\nwant\n%s", &got, file)
	}
	page, err := os.ReadFile("../../docs/postgres.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(string(file), -1)
	for _, name := range names {
		if !strings.Contains(string(page), "\n| `"+name[1]+"` |") {
			t.Errorf("docs/postgres.md has no row for %s", name[1])
		}
	}
	if rows := regexp.MustCompile("(?m)^\\| `hookbolt_postgres_").FindAllString(string(page), -1); len(rows) != len(names) {
		t.Errorf("docs/postgres.md has %d metrics, want %d", len(rows), len(names))
	}
}
