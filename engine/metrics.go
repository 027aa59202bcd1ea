package engine

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine/send"
)

// metrics are the counters of the engine. Counts of what is stored are read from the store by statsCollector. No label has a value that a
// visitor or an endpoint can choose freely.
type metrics struct {
	eventsAccepted  prometheus.Counter
	eventsRefused   prometheus.Counter
	eventsLate      prometheus.Counter
	fieldsLeftOut   prometheus.Counter
	attempts        *prometheus.CounterVec // outcome
	refused         prometheus.Counter
	unmade          *prometheus.CounterVec // trouble
	repeats         *prometheus.CounterVec // to, reason
	attemptDuration prometheus.Histogram
	lag             *prometheus.HistogramVec // suspended
	finished        *prometheus.CounterVec   // status
	probes          *prometheus.CounterVec   // outcome
	pauses          *prometheus.CounterVec   // cause
	removals        *prometheus.CounterVec   // what, by
	damaged         prometheus.Counter
	history         *history
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		eventsAccepted: prometheus.NewCounter(prometheus.CounterOpts{Name: "hookbolt_events_accepted_total",
			Help: "Session events that were stored and acknowledged, repeated ones included."}),
		eventsRefused: prometheus.NewCounter(prometheus.CounterOpts{Name: "hookbolt_events_refused_total",
			Help: "Session events that were refused for bad input, as far as they were parsed; at least one for each request that was refused."}),
		eventsLate: prometheus.NewCounter(prometheus.CounterOpts{Name: "hookbolt_events_late_total",
			Help: "Session events that changed a payload after it was built and were not sent, because the webhook has no send_updates; once for each webhook."}),
		fieldsLeftOut: prometheus.NewCounter(prometheus.CounterOpts{Name: "hookbolt_event_fields_left_out_total",
			Help: "Fields that could not be read and were left out of session events that were stored; only requests with partial=true leave fields out."}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_attempts_total",
			Help: "Attempts by outcome: 2xx, 3xx, 4xx, 5xx, other for any other status, or the class of the error."}, []string{"outcome"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "hookbolt_attempts_refused_total",
			Help: "Attempts that an endpoint refused because of load: 429, or 503 with Retry-After. They use no try; hookbolt_attempts_total has them, too."}),
		unmade: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_attempts_unmade_total",
			Help: "Attempts that a trouble of this machine kept from being made: descriptors, memory, ports, network, resolver, or processes for programs. They use no try."},
			[]string{"trouble"}),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_requests_repeated_total",
			Help: "Requests that were sent once more within the same attempt, because their connection ended before a byte of the answer (" +
				"closed, refused: the peer has not processed it, lost: a ping was not answered) or the peer wants HTTP/1.1 (http_1_1_required). " +
				"to is endpoint or token."}, []string{"to", "reason"}),
		attemptDuration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "hookbolt_attempt_duration_seconds",
			Help:    "Duration of an attempt, from its start to the response or the failure.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60, 120}}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "hookbolt_delivery_lag_seconds",
			Help: "Time from when a delivery was due, or was created if that is later, to the start of its first attempt. " +
				"suspended is true if its endpoint was failing or refused load, or its webhook was paused meanwhile.",
			Buckets: lagBounds[:]}, []string{"suspended"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_deliveries_finished_total",
			Help: "Deliveries that reached a final state. A delivery that is retried by hand may be counted again. One that is cancelled during an attempt that succeeds counts as cancelled."}, []string{"status"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_probes_total",
			Help: "Attempts at failing endpoints, by outcome: success, which ends the failing state, or failure."}, []string{"outcome"}),
		pauses: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_webhook_pauses_total",
			Help: "Pauses of webhooks by cause: hand, gone (the endpoint answered 410), failing (every attempt had failed for delivery.pause_after), or program (its programs failed several times in a row)."},
			[]string{"cause"}),
		removals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hookbolt_removed_total",
			Help: "Sessions and deliveries that retention has removed: by age, or early by size, because storage.max_bytes was nearly reached."},
			[]string{"what", "by"}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{Name: "hookbolt_damaged_records_total",
			Help: "Records of the database that could not be read and were set aside."}),
		history: newHistory(),
	}
	m.preset()
	reg.MustRegister(m.eventsAccepted, m.eventsRefused, m.eventsLate, m.fieldsLeftOut, m.attempts, m.refused, m.unmade, m.repeats, m.attemptDuration, m.lag, m.finished, m.probes, m.pauses, m.removals, m.damaged)
	return m
}

// preset has each label reported from the start: an alert on an increase needs the zero before it.
func (m *metrics) preset() {
	for _, suspended := range []bool{false, true} {
		m.lag.WithLabelValues(strconv.FormatBool(suspended))
	}
	for _, outcome := range []string{"2xx", "3xx", "4xx", "5xx", statusOther} {
		m.attempts.WithLabelValues(outcome)
	}
	for _, class := range ErrorClasses {
		if class != ErrorStatus {
			m.attempts.WithLabelValues(string(class))
		}
	}
	for _, t := range send.Troubles {
		m.unmade.WithLabelValues(string(t))
	}
	for _, reason := range send.Repeats {
		m.repeats.WithLabelValues("endpoint", string(reason))
		m.repeats.WithLabelValues("token", string(reason))
	}
	for _, s := range Statuses {
		if !s.Waiting() {
			m.finished.WithLabelValues(s.String())
		}
	}
	for _, outcome := range []string{"success", "failure"} {
		m.probes.WithLabelValues(outcome)
	}
	for _, cause := range pauseCauses {
		m.pauses.WithLabelValues(string(cause))
	}
	m.removed("age", Removed{})
	m.removed("size", Removed{})
}

// accepted counts accepted events.
func (m *metrics) accepted(n int) {
	m.eventsAccepted.Add(float64(n))
	m.history.accepted(n)
}

// finish counts deliveries that have reached a final state.
func (m *metrics) finish(s Status, n int) {
	m.finished.WithLabelValues(s.String()).Add(float64(n))
	m.history.finished(s, n)
}

// removed counts what retention has removed. by is "age" or "size".
func (m *metrics) removed(by string, r Removed) {
	m.removals.WithLabelValues("session", by).Add(float64(r.Sessions))
	m.removals.WithLabelValues("delivery", by).Add(float64(r.Deliveries))
}

// attempt counts an attempt that has ended. suspended is what lanes.suspended says of it.
func (m *metrics) attempt(d *Delivery, a *Attempt, suspended bool) {
	if a.Probe && d.Kind != KindTest {
		outcome := "failure"
		if a.Delivered() {
			outcome = "success"
		}
		m.probes.WithLabelValues(outcome).Inc()
	}
	outcome := string(a.Error)
	if a.Status != 0 {
		outcome = statusClass(a.Status)
	}
	m.attempts.WithLabelValues(outcome).Inc()
	if a.refusesLoad() {
		m.refused.Inc()
	}
	m.attemptDuration.Observe(a.Duration.Seconds())
	lag := time.Duration(-1)
	if d.Attempts == 0 {
		lag = max(0, a.StartedAt.Sub(d.dueSince()))
		m.lag.WithLabelValues(strconv.FormatBool(suspended)).Observe(lag.Seconds())
	}
	m.history.attempted(d, a, lag)
}

// statusOther is the class of a status that is in none of those of RFC 9110, and of a 1xx, which is no final response.
const statusOther = "other"

// statusClass returns the label of a response's status. net/http takes any three digits as a status.
func statusClass(status int) string {
	if status < 200 || status > 599 {
		return statusOther
	}
	return strconv.Itoa(status/100) + "xx"
}

// repeated counts the requests of an attempt that were sent once more. It counts them for attempts that are not recorded, too.
func (m *metrics) repeated(o *Outcome) {
	if o.Repeated != "" {
		m.repeats.WithLabelValues("endpoint", string(o.Repeated)).Inc()
	}
	for _, reason := range o.TokenRepeats {
		m.repeats.WithLabelValues("token", string(reason)).Inc()
	}
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// statsCollector reports the counts of the store at each scrape.
type statsCollector struct{ e *Engine }

var (
	queueDesc = prometheus.NewDesc("hookbolt_queue_deliveries",
		"Waiting deliveries: scheduled (for their first or next due time), due (for the limits to allow an attempt), in_flight (claimed), held (webhook paused).",
		[]string{"state"}, nil)
	oldestDesc = prometheus.NewDesc("hookbolt_queue_oldest_due_age_seconds",
		"Time for which the delivery with the oldest due time has been due, without those of paused webhooks; 0 if none is due.", nil, nil)
	stalledDesc = prometheus.NewDesc("hookbolt_queue_stalled_seconds",
		"Longest time for which a webhook could have sent a due delivery and made no attempt. "+
			"The wait of a paused webhook, for the next probe of a failing one, for an endpoint that refuses load, and for a rate limit do not count.", nil, nil)
	fanOutDesc = prometheus.NewDesc("hookbolt_queue_fan_out_sessions",
		"Sessions with deliveries that are still to be made, because their request led to more of them than one transaction makes.", nil, nil)
	troubleDesc = prometheus.NewDesc("hookbolt_trouble_webhooks",
		"Webhooks whose deliveries wait because of a trouble of this machine: descriptors, memory, ports, network, resolver, or processes for programs.", []string{"trouble"}, nil)
	certificateDesc = prometheus.NewDesc("hookbolt_client_certificate_expiry_seconds",
		"When the first of the webhooks' client certificates ends, in Unix time; +Inf if no webhook has one.", nil, nil)
	storedDesc = prometheus.NewDesc("hookbolt_deliveries",
		"Stored deliveries, by status.", []string{"status"}, nil)
	lateDesc = prometheus.NewDesc("hookbolt_deliveries_with_late_events",
		"Stored deliveries that lack session events that came after their payload was built, because the webhook has no send_updates.", nil, nil)
	parkedDesc = prometheus.NewDesc("hookbolt_deliveries_parked",
		"Stored failed deliveries whose body the programs of their webhook could not build. They wait for the program to be mended, and for a replay.", nil, nil)
	webhooksDesc = prometheus.NewDesc("hookbolt_webhooks",
		"Webhooks by state: active, failing, throttled (the endpoint has refused load), paused or inactive.", []string{"state"}, nil)
	sizeDesc = prometheus.NewDesc("hookbolt_storage_size_bytes", "Size of the database: of the file, or of the tables and indexes in PostgreSQL.", nil, nil)
	freeDesc = prometheus.NewDesc("hookbolt_storage_free_bytes", "Free space in the database file.", nil, nil)
	diskDesc = prometheus.NewDesc("hookbolt_storage_disk_free_bytes", "Free space on the disk; absent if the file system does not report it.", nil, nil)
	fullDesc = prometheus.NewDesc("hookbolt_storage_full", "1 while events are refused because there is no room, else 0.", nil, nil)
)

func (c statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueDesc, oldestDesc, stalledDesc, fanOutDesc, troubleDesc, certificateDesc, storedDesc, lateDesc, parkedDesc, webhooksDesc, sizeDesc, freeDesc, diskDesc, fullDesc} {
		ch <- d
	}
}

// observeScrape logs when the counts of the store begin to be missing, and when they are back: a problem is no news at each scrape. The store itself
// tells of a database that is away, and of its end.
func (e *Engine) observeScrape(err error) {
	switch {
	case err == nil && e.scrapeFails.Swap(false):
		e.log.Info("the metrics have the counts of the store again")
	case err != nil && !errors.Is(err, ErrAway) && !e.scrapeFails.Swap(true):
		e.log.Error("the metrics lack the counts of the store", "error", err)
	}
}

func (c statsCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	o, err := c.e.Overview(ctx)
	c.e.observeScrape(err)
	if err != nil {
		return // the other metrics tell what is wrong
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(queueDesc, float64(o.Scheduled), "scheduled")
	gauge(queueDesc, float64(o.Due), "due")
	gauge(queueDesc, float64(o.InFlight), "in_flight")
	gauge(queueDesc, float64(o.Held), "held")
	gauge(oldestDesc, o.OldestDueAge.Seconds())
	gauge(stalledDesc, o.StalledFor.Seconds())
	gauge(fanOutDesc, float64(o.FanningOut))
	troubles := c.e.lanes.troubles()
	for _, t := range send.Troubles {
		gauge(troubleDesc, float64(troubles[t]), string(t))
	}
	firstExpiry := math.Inf(1)
	if first := c.e.firstExpiry(); !first.IsZero() {
		firstExpiry = float64(first.Unix())
	}
	gauge(certificateDesc, firstExpiry)
	for _, s := range Statuses {
		gauge(storedDesc, float64(o.Stored[s]), s.String())
	}
	gauge(lateDesc, float64(o.WithLateEvents))
	gauge(parkedDesc, float64(o.Parked))
	gauge(webhooksDesc, float64(o.Webhooks.Active), "active")
	gauge(webhooksDesc, float64(o.Webhooks.Failing), "failing")
	gauge(webhooksDesc, float64(o.Webhooks.Throttled), "throttled")
	gauge(webhooksDesc, float64(o.Webhooks.Paused), "paused")
	gauge(webhooksDesc, float64(o.Webhooks.Inactive), "inactive")
	gauge(sizeDesc, float64(o.SizeBytes))
	if f := o.File; f != nil {
		gauge(freeDesc, float64(f.FreeBytes))
		if f.DiskFreeBytes >= 0 {
			gauge(diskDesc, float64(f.DiskFreeBytes))
		}
	}
	full := 0.0
	if o.Full != nil {
		full = 1
	}
	gauge(fullDesc, full)
}
