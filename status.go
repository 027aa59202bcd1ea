package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"hookbolt/internal/bench"
)

// What needs attention, beside what hookbolt itself says of webhooks: the same bounds as in deploy/prometheus/alerts.yml, as far as they
// can be told by one look.
const (
	lateAge    = 15 * time.Minute
	lowDisk    = 1 << 30
	slowCommit = 500 * time.Millisecond
)

// status is the command that prints how a running server does. Its exit code is 1 if something needs attention.
func status(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("status", flag.ContinueOnError)
	connect := clientFlags(fs)
	if err := parseFlags(fs, args, stdout, "Prints how a running server does, by its metrics; counts and percentiles are those since its start. A metrics token is enough.\n"+
		"With an admin token, it names the webhooks that have trouble. The exit code is 1 if something needs attention."); err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.close()
	report, err := lookAt(ctx, c)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, report.text()); err != nil {
		return err
	}
	if len(report.attention) > 0 {
		return errTold
	}
	return nil
}

// statusReport is what status prints.
type statusReport struct {
	title     string
	rows      [][2]string
	attention []string
}

func (s *statusReport) text() string {
	var b strings.Builder
	fmt.Fprintln(&b, s.title)
	for _, row := range s.rows {
		fmt.Fprintf(&b, "%-12s%s\n", row[0], row[1])
	}
	for i, line := range s.attention {
		heading := ""
		if i == 0 {
			heading = "attention"
		}
		fmt.Fprintf(&b, "%-12s%s\n", heading, line)
	}
	return b.String()
}

func (s *statusReport) row(name string, parts ...string) {
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	s.rows = append(s.rows, [2]string{name, strings.Join(parts, "   ")})
}

func (s *statusReport) warn(format string, args ...any) {
	s.attention = append(s.attention, fmt.Sprintf(format, args...))
}

// lookAt asks a server for its metrics, whether it is ready, and, where the token opens that, for its webhooks.
func lookAt(ctx context.Context, c *client) (*statusReport, error) {
	text, err := c.fetch(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	m := scraped(families)
	if err != nil || families["hookbolt_build_info"] == nil {
		return nil, fmt.Errorf("%s/metrics: these are not hookbolt's metrics; is -url right?", c.base)
	}
	s := &statusReport{}
	state := "ready"
	if err := c.call(ctx, http.MethodGet, "/readyz", nil, nil); err != nil {
		refused, ok := errors.AsType[*answerError](err)
		if !ok {
			return nil, err
		}
		state = "not ready"
		s.warn("%s", refused.Detail)
	}
	s.title = fmt.Sprintf("hookbolt %s at %s, %s", m.label("hookbolt_build_info", "version"), c.base, state)
	if started := m.value("process_start_time_seconds"); !math.IsNaN(started) { // not every system tells, FreeBSD for one
		s.title += fmt.Sprintf(", up %s", time.Since(time.Unix(int64(started), 0)).Round(time.Second))
	}
	s.describe(m)
	err = s.nameWebhooks(ctx, c)
	if refused, ok := errors.AsType[*answerError](err); ok && refused.Status == http.StatusForbidden {
		s.countWebhooks(m) // a metrics token
		err = nil
	}
	return s, err
}

// describe turns metrics into rows, and into what needs attention.
func (s *statusReport) describe(m scraped) {
	count := func(family, label, value string) string {
		return value + " " + number(m.value(family, label, value))
	}
	s.row("events", "accepted "+number(m.value("hookbolt_events_accepted_total")), "refused "+number(m.value("hookbolt_events_refused_total")))
	oldest := seconds(m.value("hookbolt_queue_oldest_due_age_seconds"))
	queue := "hookbolt_queue_deliveries"
	s.row("queue", count(queue, "state", "scheduled"), count(queue, "state", "due"), "in flight "+number(m.value(queue, "state", "in_flight")),
		count(queue, "state", "held"), "oldest due for "+oldest.String())
	kept := "hookbolt_deliveries"
	s.row("deliveries", count(kept, "status", "delivered"), count(kept, "status", "failed"), count(kept, "status", "cancelled"), m.quantiles("lag", "hookbolt_delivery_lag_seconds"))
	attempts := []string{m.quantiles("took", "hookbolt_attempt_duration_seconds")}
	for _, outcome := range m.labels("hookbolt_attempts_total", "outcome") {
		if n := m.value("hookbolt_attempts_total", "outcome", outcome); n > 0 {
			attempts = append(attempts, outcome+" "+number(n))
		}
	}
	s.row("attempts", attempts...)
	hooks := "hookbolt_webhooks"
	s.row("webhooks", count(hooks, "state", "active"), count(hooks, "state", "failing"), count(hooks, "state", "paused"), count(hooks, "state", "inactive"))
	size, free, left := m.value("hookbolt_storage_size_bytes"), m.value("hookbolt_storage_free_bytes"), m.value("hookbolt_storage_disk_free_bytes")
	onDisk := ""
	if left >= 0 && !math.IsNaN(left) {
		onDisk = "left on the disk " + byteCount(left)
	}
	s.row("storage", "in use "+byteCount(size-free), "free in the file "+byteCount(free), onDisk, m.quantiles("commits", "hookbolt_storage_commit_duration_seconds"))
	s.row("process", "memory "+byteCount(m.value("process_resident_memory_bytes")), "heap "+byteCount(m.value("go_memstats_heap_inuse_bytes")), "goroutines "+number(m.value("go_goroutines")))

	if m.value("hookbolt_storage_full") == 1 {
		s.warn("events are refused for want of room: see storage.min_free and storage.max_bytes")
	}
	if left >= 0 && left < lowDisk {
		s.warn("%s are left on the disk", byteCount(left))
	}
	if n := m.value("hookbolt_damaged_records_total"); n > 0 {
		s.warn("records that could not be read: %s; \"hookbolt check\" on a backup tells the whole damage", number(n))
	}
	commits := "hookbolt_storage_commit_duration_seconds"
	if p99 := m.quantile(commits, 0.99); p99 > slowCommit && m.metric(commits).GetHistogram().GetSampleCount() >= 100 {
		s.warn("commits are slow, p99 %s: so is the disk", upTo(p99))
	}
	if oldest > lateAge && m.value(hooks, "state", "failing") == 0 {
		s.warn("a delivery has been due for %s, and no endpoint is failing", oldest)
	}
}

// countWebhooks says what is known of webhooks in trouble without their names.
func (s *statusReport) countWebhooks(m scraped) {
	if n := m.value("hookbolt_webhooks", "state", "failing"); n > 0 {
		s.warn("endpoints that are failing: %s (an admin token tells which)", number(n))
	}
	if n := m.value("hookbolt_webhooks", "state", "paused"); n > 0 {
		s.warn("webhooks that are paused: %s (an admin token tells which)", number(n))
	}
}

// nameWebhooks lists the webhooks that are failing or paused.
func (s *statusReport) nameWebhooks(ctx context.Context, c *client) error {
	type hook struct {
		ID          uint32
		Name        string
		Active      bool
		Paused      bool
		PauseReason *string `json:"pause_reason"`
		Health      struct {
			State        string
			Failures     int
			FailingSince time.Time `json:"failing_since"`
		}
	}
	hooks, err := list[hook](ctx, c, "/v1/webhooks")
	if err != nil {
		return err
	}
	for _, h := range hooks {
		name := fmt.Sprintf("webhook %d", h.ID)
		if h.Name != "" {
			name += fmt.Sprintf(" %q", oneLine(h.Name))
		}
		switch {
		case !h.Active:
		case h.Paused:
			reason := "by hand"
			if h.PauseReason != nil {
				reason = oneLine(*h.PauseReason)
			}
			s.warn("%s is paused: %s", name, reason)
		case h.Health.State == "failing":
			s.warn("%s is failing since %s: its last %d attempts have failed", name, h.Health.FailingSince.Format(time.RFC3339), h.Health.Failures)
		}
	}
	return nil
}

// scraped is metrics by their names.
type scraped map[string]*dto.MetricFamily

// metric finds the metric that has the labels, given as name and value in turn; nil if there is none.
func (m scraped) metric(family string, labels ...string) *dto.Metric {
	for _, metric := range m[family].GetMetric() {
		has := func(name, value string) bool {
			return slices.ContainsFunc(metric.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value })
		}
		fits := true
		for i := 0; i+1 < len(labels); i += 2 {
			fits = fits && has(labels[i], labels[i+1])
		}
		if fits {
			return metric
		}
	}
	return nil
}

// value is NaN where there is no such metric.
func (m scraped) value(family string, labels ...string) float64 {
	switch metric := m.metric(family, labels...); {
	case metric.GetCounter() != nil:
		return metric.GetCounter().GetValue()
	case metric.GetGauge() != nil:
		return metric.GetGauge().GetValue()
	case metric.GetUntyped() != nil:
		return metric.GetUntyped().GetValue()
	}
	return math.NaN()
}

// label is a label's value of a family's first metric; labels are those of all.
func (m scraped) label(family, name string) string { return m.labels(family, name)[0] }

func (m scraped) labels(family, name string) []string {
	values := []string{}
	for _, metric := range m[family].GetMetric() {
		for _, l := range metric.GetLabel() {
			if l.GetName() == name {
				values = append(values, oneLine(l.GetValue())) // others may have written it
			}
		}
	}
	if len(values) == 0 {
		return []string{"unknown"}
	}
	return values
}

// quantile is the upper bound of the bucket that a share of a histogram's observations lies in or below; 0 without any.
func (m scraped) quantile(family string, share float64) time.Duration {
	h := m.metric(family).GetHistogram()
	want := share * float64(h.GetSampleCount())
	for _, bucket := range h.GetBucket() {
		if h.GetSampleCount() > 0 && float64(bucket.GetCumulativeCount()) >= want {
			return seconds(bucket.GetUpperBound())
		}
	}
	return 0
}

// quantiles shows two of them; "" without an observation.
func (m scraped) quantiles(what, family string) string {
	if m.metric(family).GetHistogram().GetSampleCount() == 0 {
		return ""
	}
	return fmt.Sprintf("%s p50 %s, p99 %s", what, upTo(m.quantile(family, 0.5)), upTo(m.quantile(family, 0.99)))
}

// upTo shows the bound of a bucket.
func upTo(d time.Duration) string {
	if d == maxSpan {
		return "beyond the last bucket"
	}
	return "up to " + d.String()
}

// maxSpan stands for what is longer than can be told.
const maxSpan = time.Duration(math.MaxInt64)

// seconds makes a span of a metric in seconds, to four digits or so: bounds of buckets are powers of two of 0.1 ms.
func seconds(s float64) time.Duration {
	switch d := s * float64(time.Second); {
	case math.IsNaN(s):
		return 0
	case d >= float64(maxSpan):
		return maxSpan
	case s >= 10:
		return time.Duration(d).Round(time.Second)
	case s >= 1:
		return time.Duration(d).Round(100 * time.Millisecond)
	default:
		return time.Duration(d).Round(100 * time.Microsecond)
	}
}

// number writes a count, byteCount a size; "?" where it is not known.
func number(n float64) string { return known(n, bench.Number) }

func byteCount(n float64) string { return known(n, bench.Bytes) }

func known(n float64, show func(float64) string) string {
	if math.IsNaN(n) {
		return "?"
	}
	return show(n)
}
