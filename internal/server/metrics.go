package server

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine"
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
	fleet   func(context.Context) (*engine.Fleet, error)

	up, connections, trips, retries, settled, setBacks, foldAge, skew *prometheus.Desc
	members, unowned, beatAge, owned, keeper, tookOver                *prometheus.Desc
}

func newPostgresCollector(figures func() storage.ServerFigures, fleet func(context.Context) (*engine.Fleet, error)) *postgresCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hookbolt_postgres_"+name, help, labels, nil)
	}
	return &postgresCollector{
		figures:     figures,
		fleet:       fleet,
		up:          desc("up", "1 if hookbolt has a connection for changes to PostgreSQL, 0 while it tries to get one."),
		connections: desc("connections", "Connections for reading: busy, or idle until the next one is needed. The one for changes is not counted.", "state"),
		trips:       desc("round_trips_total", "Round trips to PostgreSQL for changes."),
		retries:     desc("retries_total", "Transactions that began anew because the connection was lost or others were in the way."),
		settled:     desc("settled_commits_total", "Commits whose answer was lost with the connection, and that turned out to be carried out."),
		setBacks:    desc("set_backs_total", "How often PostgreSQL came back without changes that it had acknowledged, as after a failover to a standby that is not synchronous."),
		foldAge:     desc("fold_age_seconds", "Time since the counts of webhooks were last folded, which happens every few seconds."),
		skew:        desc("clock_skew_seconds", "By how much the clock of this machine is ahead of that of PostgreSQL; negative if it is behind."),
		members:     desc("members", "Processes that share the database, by state: starting, working, draining, or away (no sign of life for five beats). The same at each of them.", "state"),
		unowned:     desc("unowned_lanes", "Webhooks whose lanes no member owns at the moment, and one for the background work if no member does it. The same at each member."),
		beatAge:     desc("beat_age_seconds", "Time since the last sign of life of this member reached PostgreSQL. From five seconds on it makes no attempts."),
		owned:       desc("owned_webhooks", "Webhooks whose lanes this member owns."),
		keeper:      desc("keeper", "1 if this member does the background work, else 0."),
		tookOver:    desc("members_taken_over_total", "Members that this one took over because they had ended without saying so, or gave no sign of life."),
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
	gauge(c.up, oneIf(!f.Away))
	gauge(c.connections, float64(f.Reading), "busy")
	gauge(c.connections, float64(f.Idle), "idle")
	counter(c.trips, f.Trips)
	counter(c.retries, f.Retries)
	counter(c.settled, f.Settled)
	counter(c.setBacks, f.SetBacks)
	gauge(c.foldAge, f.FoldAge.Seconds())
	gauge(c.skew, f.Skew.Seconds())
	gauge(c.beatAge, f.BeatAge.Seconds())
	gauge(c.owned, float64(f.Owned))
	gauge(c.keeper, oneIf(f.Keeper))
	counter(c.tookOver, f.TookOver)
	ctx, cancel := context.WithTimeout(context.Background(), fleetTimeout)
	defer cancel()
	fleet, err := c.fleet(ctx)
	if err != nil || fleet == nil {
		return // the other metrics tell what is wrong
	}
	states := make(map[engine.MemberState]int)
	for i := range fleet.Members {
		states[fleet.Members[i].State]++
	}
	for _, state := range engine.MemberStates {
		gauge(c.members, float64(states[state]), string(state))
	}
	gauge(c.unowned, float64(fleet.Unowned)+oneIf(!fleet.HasKeeper()))
}

// fleetTimeout is how long a scrape waits for what the database tells of the members.
const fleetTimeout = 5 * time.Second

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
