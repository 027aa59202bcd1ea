// Package status reports the state of a running server from its metrics and its API, and what needs attention.
//
// It uses the server only from outside. It does not know the domain, settings, commands or flags.
package status

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"hookbolt/internal/client"
	"hookbolt/internal/text"
)

// Thresholds of what needs attention. They are those of deploy/prometheus/alerts.yml, as far as one scrape can show.
const (
	lateAge = 15 * time.Minute
	lowDisk = 1 << 30
	// soonExpired is how long before its end a client certificate is warned of.
	soonExpired = 14 * 24 * time.Hour
	slowCommit  = 500 * time.Millisecond
)

// Report describes the state of a server.
type Report struct {
	title     string
	rows      [][2]string
	attention []string
}

// NeedsAttention reports whether something about the server needs attention.
func (s *Report) NeedsAttention() bool { return len(s.attention) > 0 }

// Text is the report for people.
func (s *Report) Text() string {
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

func (s *Report) row(name string, parts ...string) {
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	s.rows = append(s.rows, [2]string{name, strings.Join(parts, "   ")})
}

func (s *Report) warn(format string, args ...any) {
	s.attention = append(s.attention, fmt.Sprintf(format, args...))
}

// Look reads the metrics and the readiness of a server and, if the token allows it, its webhooks.
func Look(ctx context.Context, c *client.Client) (*Report, error) {
	answer, err := c.Fetch(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(answer))
	m := scraped(families)
	if err != nil || families["hookbolt_build_info"] == nil {
		return nil, client.NotHookbolt("%s/metrics: these are not hookbolt's metrics", c.Base())
	}
	s := &Report{}
	state := "ready"
	if err := c.Call(ctx, http.MethodGet, "/readyz", nil, nil); err != nil {
		refused, ok := errors.AsType[*client.StatusError](err)
		if !ok {
			return nil, err
		}
		state = "not ready"
		s.warn("%s", refused.Detail)
	}
	s.title = fmt.Sprintf("hookbolt %s at %s, %s", m.label("hookbolt_build_info", "version"), c.Base(), state)
	if started := m.value("process_start_time_seconds"); !math.IsNaN(started) { // absent on some systems, such as FreeBSD
		s.title += fmt.Sprintf(", up %s", time.Since(time.Unix(int64(started), 0)).Round(time.Second))
	}
	s.describe(m)
	s.judge(m)
	s.nameMembers(ctx, c, m)
	if err = s.nameLate(ctx, c, m.value("hookbolt_deliveries_with_late_events")); err == nil {
		err = s.nameWebhooks(ctx, c)
	}
	if refused, ok := errors.AsType[*client.StatusError](err); ok && refused.Status == http.StatusForbidden {
		s.countWebhooks(m) // it is a metrics token
		err = nil
	}
	return s, err
}

// describe adds the rows of the report.
func (s *Report) describe(m scraped) {
	count := func(family, label, value string) string {
		return value + " " + number(m.value(family, label, value))
	}
	s.row("events", "accepted "+number(m.value("hookbolt_events_accepted_total")), "refused "+number(m.value("hookbolt_events_refused_total")))
	oldest := seconds(m.value("hookbolt_queue_oldest_due_age_seconds"))
	queue := "hookbolt_queue_deliveries"
	s.row("queue", count(queue, "state", "scheduled"), count(queue, "state", "due"), "in flight "+number(m.value(queue, "state", "in_flight")),
		count(queue, "state", "held"), "oldest due for "+oldest.String())
	kept := "hookbolt_deliveries"
	s.row("deliveries", count(kept, "status", "delivered"), count(kept, "status", "failed"), count(kept, "status", "cancelled"), count(kept, "status", "filtered"), m.quantiles("lag", "hookbolt_delivery_lag_seconds", "suspended", "false"))
	attempts := []string{m.quantiles("took", "hookbolt_attempt_duration_seconds")}
	for _, outcome := range m.labels("hookbolt_attempts_total", "outcome") {
		if n := m.value("hookbolt_attempts_total", "outcome", outcome); n > 0 {
			attempts = append(attempts, outcome+" "+number(n))
		}
	}
	s.row("attempts", attempts...)
	hooks := "hookbolt_webhooks"
	s.row("webhooks", count(hooks, "state", "active"), count(hooks, "state", "failing"), count(hooks, "state", "throttled"),
		count(hooks, "state", "paused"), count(hooks, "state", "inactive"))
	size, free, left := m.value("hookbolt_storage_size_bytes"), m.value("hookbolt_storage_free_bytes"), m.value("hookbolt_storage_disk_free_bytes")
	onDisk := ""
	if left >= 0 && !math.IsNaN(left) {
		onDisk = "free on the disk " + byteCount(left)
	}
	inUse, inFile := "in use "+byteCount(size-free), "free in the file "+byteCount(free)
	if math.IsNaN(free) { // PostgreSQL has no file of hookbolt's
		inUse, inFile = "in use "+byteCount(size), ""
	}
	s.row("storage", inUse, inFile, onDisk, m.quantiles("commits", "hookbolt_storage_commit_duration_seconds"))
	s.row("process", "memory "+byteCount(m.value("process_resident_memory_bytes")), "heap "+byteCount(m.value("go_memstats_heap_inuse_bytes")), "goroutines "+number(m.value("go_goroutines")))
}

// judge reports what needs attention according to the metrics, except for webhooks.
func (s *Report) judge(m scraped) {
	if m.value("hookbolt_storage_full") == 1 {
		s.warn("events are refused because there is no room: see storage.min_free and storage.max_bytes")
	}
	if left := m.value("hookbolt_storage_disk_free_bytes"); left >= 0 && left < lowDisk {
		s.warn("the disk has only %s left", byteCount(left))
	}
	if n := m.value("hookbolt_damaged_records_total"); n > 0 {
		s.warn("records that could not be read: %s; run \"hookbolt check\" on a backup", number(n))
	}
	for _, trouble := range m.labels("hookbolt_trouble_webhooks", "trouble") {
		if n := m.value("hookbolt_trouble_webhooks", "trouble", trouble); n > 0 {
			s.warn("webhooks that wait because of a trouble of hookbolt's machine (%s): %s", trouble, number(n))
		}
	}
	if at := m.value("hookbolt_client_certificate_expiry_seconds"); !math.IsNaN(at) && !math.IsInf(at, 0) {
		if left := time.Until(time.Unix(int64(at), 0)); left < 0 {
			s.warn("a webhook's client certificate has expired: see tls on the page of the webhook")
		} else if left < soonExpired {
			s.warn("a webhook's client certificate expires in %s: see tls on the page of the webhook", left.Round(time.Minute))
		}
	}
	commits := "hookbolt_storage_commit_duration_seconds"
	if p99 := m.quantile(0.99, commits); p99 > slowCommit && m.metric(commits).GetHistogram().GetSampleCount() >= 100 {
		s.warn("commits are slow, p99 %s: the disk is slow", upTo(p99))
	}
	switch oldest, stalled := seconds(m.value("hookbolt_queue_oldest_due_age_seconds")), seconds(m.value("hookbolt_queue_stalled_seconds")); {
	case stalled > lateAge:
		s.warn("the queue is stuck: a webhook has due deliveries, and none was attempted for %s", stalled)
	case oldest > lateAge && m.value("hookbolt_webhooks", "state", "failing") == 0 && !(m.value("hookbolt_webhooks", "state", "throttled") > 0):
		s.warn("a delivery has been due for %s, and no endpoint is failing", oldest)
	}
	if parked := m.value("hookbolt_deliveries_parked"); parked > 0 {
		s.warn("the programs of webhooks could not build %s failed deliveries: mend them, and replay those with the error transform", number(parked))
	}
}

// maxLateNamed bounds how many webhooks a report names whose deliveries lack late events.
const maxLateNamed = 10

// nameLate reports how many deliveries lack events that came after their payload was built, and of which webhooks. It needs no attention: the
// webhooks are set so. With a token that may not read deliveries it returns the error of that call.
func (s *Report) nameLate(ctx context.Context, c *client.Client, lacking float64) error {
	if !(lacking > 0) {
		return nil
	}
	row := []string{"deliveries that lack them " + number(lacking)}
	defer func() { s.row("late events", append(row, "a webhook with send_updates sends them")...) }()
	// The newest of them name the webhooks. The list may take long to find all.
	var list struct {
		Items []struct {
			WebhookID uint32 `json:"webhook_id"`
		}
	}
	if err := c.Call(ctx, http.MethodGet, "/v1/deliveries?late_events=true&limit=200", nil, &list); err != nil {
		return err
	}
	var ids []uint32
	for _, d := range list.Items {
		if !slices.Contains(ids, d.WebhookID) {
			ids = append(ids, d.WebhookID)
		}
	}
	for _, id := range ids[:min(len(ids), maxLateNamed)] {
		var w struct {
			Name       string
			Deliveries struct {
				WithLateEvents float64 `json:"with_late_events"`
			}
		}
		err := c.Call(ctx, http.MethodGet, fmt.Sprintf("/v1/webhooks/%d", id), nil, &w)
		if refused, ok := errors.AsType[*client.StatusError](err); ok && refused.Status == http.StatusNotFound {
			continue // it was deleted; its deliveries are kept
		}
		if err != nil {
			return err
		}
		row = append(row, nameOf(id, w.Name)+" "+number(w.Deliveries.WithLateEvents))
	}
	return nil
}

// nameOf names a webhook by its id, and by its name if it has one.
func nameOf(id uint32, name string) string {
	if name == "" {
		return fmt.Sprintf("webhook %d", id)
	}
	return fmt.Sprintf("webhook %d %q", id, text.OneLine(name))
}

// countWebhooks reports how many webhooks need attention. It is for tokens that may not read their names.
func (s *Report) countWebhooks(m scraped) {
	if n := m.value("hookbolt_webhooks", "state", "failing"); n > 0 {
		s.warn("failing endpoints: %s (use an admin token to see which)", number(n))
	}
	if n := m.value("hookbolt_webhooks", "state", "paused"); n > 0 {
		s.warn("paused webhooks: %s (use an admin token to see which)", number(n))
	}
}

// nameWebhooks reports the webhooks that are failing or paused.
func (s *Report) nameWebhooks(ctx context.Context, c *client.Client) error {
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
			FirstFailed  time.Time `json:"first_failed_at"`
		}
	}
	hooks, err := client.List[hook](ctx, c, "/v1/webhooks")
	if err != nil {
		return err
	}
	for _, h := range hooks {
		name := nameOf(h.ID, h.Name)
		switch {
		case !h.Active:
		case h.Paused:
			reason := "by hand"
			if h.PauseReason != nil {
				reason = text.OneLine(*h.PauseReason)
			}
			s.warn("%s is paused: %s", name, reason)
		case h.Health.State == "failing":
			s.warn("%s has been failing since %s: its last %d attempts failed", name, h.Health.FailingSince.Format(time.RFC3339), h.Health.Failures)
		case h.Health.State == "throttled" && h.Health.Failures > 0 && time.Since(h.Health.FirstFailed) > lateAge:
			s.warn("%s has refused load since %s, and taken nothing", name, h.Health.FirstFailed.Format(time.RFC3339))
		}
	}
	return nil
}
