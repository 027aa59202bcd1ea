package server

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/internal/buildinfo"
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
