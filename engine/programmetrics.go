package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine/transform"
)

// programMetrics are those of the programs of webhooks and of the processes that run them.
type programMetrics struct {
	runs     *prometheus.CounterVec // outcome
	duration prometheus.Histogram
	workers  prometheus.Gauge
	ends     *prometheus.CounterVec // reason
}

func newProgramMetrics(reg prometheus.Registerer) *programMetrics {
	m := &programMetrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_transform_runs_total",
			Help: "Runs of the programs of a webhook on a payload, by outcome: sent, filtered, failed (the program is wrong, or beyond a limit), " +
				"no_worker (no process could be started, or the machine was too busy) or abandoned (nobody waited any more)."}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hookbolt_transform_duration_seconds",
			Help:    "Duration of such a run, the wait for a process included.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}),
		workers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "hookbolt_transform_workers",
			Help: "Processes that run programs of webhooks, or wait for one to run."}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_transform_worker_ends_total",
			Help: "Ends of such processes by reason: idle (nothing to do), time, memory or crash (what a program did), moved (a program that takes long " +
				"gave way and starts anew), abandoned (nobody waited any more), starved (the machine was too busy), lost (ended from outside)."}, []string{"reason"}),
	}
	for _, outcome := range transform.Outcomes {
		m.runs.WithLabelValues(outcome)
	}
	for _, reason := range transform.EndReasons {
		m.ends.WithLabelValues(reason)
	}
	reg.MustRegister(m.runs, m.duration, m.workers, m.ends)
	return m
}

// observer returns what counts for a pool.
func (m *programMetrics) observer() transform.Observer {
	return transform.Observer{
		Ran: func(outcome string, duration time.Duration) {
			m.runs.WithLabelValues(outcome).Inc()
			m.duration.Observe(duration.Seconds())
		},
		Started: m.workers.Inc,
		Ended: func(reason string) {
			m.workers.Dec()
			m.ends.WithLabelValues(reason).Inc()
		},
	}
}
