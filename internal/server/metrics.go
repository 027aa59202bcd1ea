package server

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/internal/buildinfo"
	"hookbolt/storage"
)

// registerBuildInfo registers the metric that describes the running build.
func registerBuildInfo(reg prometheus.Registerer, v buildinfo.Info) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "hookbolt_build_info",
		Help:        "Always 1; the labels describe the running build.",
		ConstLabels: prometheus.Labels{"version": v.Version, "revision": v.Revision, "go_version": runtime.Version()},
	})
	info.Set(1)
	reg.MustRegister(info)
}

// observeCommits registers the metrics of commits and returns the function that observes one.
func observeCommits(reg prometheus.Registerer) func(mutations int, took time.Duration) {
	took := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "hookbolt_storage_commit_duration_seconds",
		Help:    "Duration of a commit, the wait for the disk (fsync) included.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16), // 0.1 ms (a fast disk) to 3.3 s (a failing one)
	})
	mutations := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "hookbolt_storage_commit_operations",
		Help:    "Operations that shared a commit.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 12),
	})
	reg.MustRegister(took, mutations)
	return func(n int, d time.Duration) {
		took.Observe(d.Seconds())
		mutations.Observe(float64(n))
	}
}

// postgresCollector collects the metrics of a store in PostgreSQL.
type postgresCollector struct {
	figures func() storage.ServerFigures

	up, connections, trips, retries, settled, foldAge, skew *prometheus.Desc
}

func newPostgresCollector(figures func() storage.ServerFigures) *postgresCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hookbolt_postgres_"+name, help, labels, nil)
	}
	return &postgresCollector{
		figures:     figures,
		up:          desc("up", "1 if hookbolt has a connection for changes to PostgreSQL, 0 while it tries to get one."),
		connections: desc("connections", "Connections for reading: busy, or idle until the next one is needed. The one for changes is not counted.", "state"),
		trips:       desc("round_trips_total", "Round trips to PostgreSQL for changes."),
		retries:     desc("retries_total", "Transactions that began anew because the connection was lost or others were in the way."),
		settled:     desc("settled_commits_total", "Commits whose answer was lost with the connection, and that turned out to be carried out."),
		foldAge:     desc("fold_age_seconds", "Time since the counts of webhooks were last folded, which happens every few seconds."),
		skew:        desc("clock_skew_seconds", "By how much the clock of this machine is ahead of that of PostgreSQL; negative if it is behind."),
	}
}

// Describe implements prometheus.Collector.
func (c *postgresCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *postgresCollector) Collect(ch chan<- prometheus.Metric) {
	f := c.figures()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	up := 1.0
	if f.Away {
		up = 0
	}
	gauge(c.up, up)
	gauge(c.connections, float64(f.Reading), "busy")
	gauge(c.connections, float64(f.Idle), "idle")
	counter(c.trips, f.Trips)
	counter(c.retries, f.Retries)
	counter(c.settled, f.Settled)
	gauge(c.foldAge, f.FoldAge.Seconds())
	gauge(c.skew, f.Skew.Seconds())
}
