package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The failing state of spec.md, "Delivery".
const (
	failingAfter     = 5 // attempts in a row
	minProbeInterval = 5 * time.Second
	maxProbeInterval = 5 * time.Minute
)

// Health is what a webhook's last attempts tell of its endpoint. The zero value is that of a healthy one.
//
// An endpoint whose last 5 attempts have all failed is failing: its lane makes one attempt at a time, a probe, at intervals that
// double from 5 s to 5 min. A probe is an ordinary attempt of the oldest delivery that is due. The first success ends it.
type Health struct {
	// Failures is how many attempts have failed since the last success.
	Failures int
	// FirstFailedAt is when the first of them failed; zero while there is none.
	FirstFailedAt time.Time
	// FailingSince is when the endpoint became failing; zero while it is not.
	FailingSince time.Time
	// Probes is how many attempts that had their turn since then have failed as well.
	Probes int
	// NextProbeAt is when the next one may begin; zero while the endpoint is not failing.
	NextProbeAt time.Time
	// Notified is whether a system event has told that it is failing. It is not kept beyond a restart.
	Notified bool
	// Order grows with each attempt while one process owns the webhook's lanes, so that the newer of two can be told; 0 stands for none
	// at all. It is not kept beyond that.
	Order uint64
}

// Failing tells whether the endpoint gets probes only.
func (h *Health) Failing() bool { return !h.FailingSince.IsZero() }

// failingLong tells whether the endpoint has been failing for so long that the operator is told.
func (h *Health) failingLong(now time.Time) bool {
	return h.Failing() && now.Sub(h.FailingSince) >= notifyFailingAfter
}

// After is the health after an attempt that has ended at now. It is pure.
func (h Health) After(a *Attempt, now time.Time) Health {
	switch {
	case a.Delivered():
		return Health{Order: h.Order}
	case a.Error == ErrorInternal || a.TokenRejected:
		return h // says nothing of the endpoint
	}
	h.Failures++
	if h.FirstFailedAt.IsZero() {
		h.FirstFailedAt = now
	}
	switch {
	case !h.Failing():
		if h.Failures >= failingAfter {
			h.FailingSince, h.NextProbeAt = now, now.Add(minProbeInterval)
		}
	case a.Probe: // not one of those that were under way when it became failing
		h.Probes++
		h.NextProbeAt = now.Add(probeInterval(h.Probes))
	}
	h.Notified = h.Notified || h.failingLong(now)
	return h
}

// probeInterval is the wait after that many failed probes.
func probeInterval(probes int) time.Duration {
	interval := minProbeInterval
	for range probes {
		if interval *= 2; interval >= maxProbeInterval {
			return maxProbeInterval
		}
	}
	return interval
}

// pauseCause is why a webhook is paused, as metrics show it.
type pauseCause string

const (
	pauseByHand       pauseCause = "hand"
	pauseEndpointGone pauseCause = "gone"
	pauseFailing      pauseCause = "failing"
)

var pauseCauses = []pauseCause{pauseByHand, pauseEndpointGone, pauseFailing}

// observeAttempt moves the health of an endpoint on after an attempt that was made for w and has just ended, before anything else is sent
// there: changes are logged, and a webhook whose endpoint is gone, or has not worked for Config.PauseAfter, is paused. It returns the health
// and the system event about it, nil for none, for the attempt's record.
func (e *Engine) observeAttempt(ctx context.Context, w *Webhook, a *Attempt) (Health, []byte) {
	current := e.store.Webhooks().Get(w.ID)
	if current == nil || outdated(current, w, a) {
		return Health{}, nil
	}
	now := utcNow()
	before, h := e.lanes.attempted(current, a, now)
	switch {
	case h.Failing() && !before.Failing():
		e.log.Warn("an endpoint is failing; it gets one attempt at a time", "webhook", w.ID, "failures", h.Failures, "error_class", a.Error)
	case before.Failing() && !h.Failing():
		e.log.Info("an endpoint works again", "webhook", w.ID, "failures", before.Failures, "since", before.FirstFailedAt)
	}
	switch {
	case a.Status == http.StatusGone:
		e.pause(ctx, w, a, pauseEndpointGone, fmt.Sprintf("the endpoint answered 410 Gone at %s", now.Format(time.RFC3339)))
	case h.Failing() && now.Sub(h.FirstFailedAt) >= e.config().PauseAfter:
		e.pause(ctx, w, a, pauseFailing, fmt.Sprintf("every attempt has failed since %s", h.FirstFailedAt.Format(time.RFC3339)))
	}
	return h, healthNotice(w, before, h, a, now)
}

// pause holds a webhook because of what came of an attempt that was made for w.
func (e *Engine) pause(ctx context.Context, w *Webhook, a *Attempt, cause pauseCause, reason string) {
	_, err := e.changeWebhook(context.WithoutCancel(ctx), w.ID, func(current *Webhook) (WebhookChange, error) {
		if current.Paused || outdated(current, w, a) {
			return WebhookChange{}, errNoChange
		}
		current.Paused, current.PauseReason, current.UpdatedAt = true, reason, utcNow()
		return WebhookChange{Notice: pausedNotice(current, cause, current.UpdatedAt)}, nil
	})
	switch {
	case err == nil:
		e.metrics.pauses.WithLabelValues(string(cause)).Inc()
		e.log.Warn("a webhook is paused", "webhook", w.ID, "reason", reason)
	case !errors.Is(err, errNoChange) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnavailable):
		e.log.Error("a webhook could not be paused", "webhook", w.ID, "reason", reason, "error", err)
	}
}
