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
	failingAfter     = 5 // failed attempts in a row
	minProbeInterval = 5 * time.Second
	maxProbeInterval = 5 * time.Minute
)

// Health is the health of a webhook's endpoint, as its last attempts show it. The zero value is a healthy endpoint.
//
// An endpoint is failing after 5 failed attempts in a row. Its lane then makes one attempt at a time, a probe, at intervals that double
// from 5 s to 5 min. A probe is an ordinary attempt of the oldest due delivery. The first success ends the failing state.
type Health struct {
	// Failures is how many attempts have failed since the last success. Refused is how many of them were refused because of load: they do not
	// make the endpoint failing.
	Failures, Refused int
	// FirstFailedAt is when the first of these attempts failed, in UTC; zero if there is none.
	FirstFailedAt time.Time
	// FailingSince is when the endpoint became failing, in UTC; zero while it is not failing.
	FailingSince time.Time
	// Probes is how many probes have failed since then.
	Probes int
	// NextProbeAt is when the next probe may begin, in UTC; zero while the endpoint is not failing.
	NextProbeAt time.Time
	// Throttle is what the endpoint's refusals of load have led to.
	Throttle Throttle
	// NextSlotAt is when the next attempt may begin by the webhook's rate limit, in UTC; zero if the limit allows more than ten a second.
	NextSlotAt time.Time
	// Notified is set once the failing state has lasted for Config.FailingAfter, so that the operator is notified only once. It is lost at a
	// restart.
	Notified bool
	// Order grows with each attempt while one process owns the webhook's lanes: of two values, the one with the greater Order is newer. 0
	// is the zero value's. It is not kept when the owner changes.
	Order uint64
}

// IsZero reports whether the health tells nothing but its Order: the endpoint is healthy, and nothing has to be waited for.
func (h Health) IsZero() bool {
	h.Order, h.Notified = 0, false
	return h == Health{}
}

// Failing reports whether the endpoint is failing: only probes are sent to it.
func (h *Health) Failing() bool { return !h.FailingSince.IsZero() }

// Impedes reports whether deliveries wait because of the endpoint: it is failing, or has refused load lately.
func (h *Health) Impedes() bool { return h.Failing() || !h.Throttle.HeldUntil.IsZero() }

// Throttled reports whether the lane is held or slowed down at now because the endpoint has refused load. rate is what it is slowed down to, in
// attempts a second; 0 for no limit, and while it is held.
func (h *Health) Throttled(now time.Time) (rate float64, throttled bool) {
	since := now.Sub(h.Throttle.HeldUntil)
	switch {
	case h.Throttle.over(since):
		return 0, false
	case since < 0:
		return 0, true
	}
	return h.Throttle.rate(since), true
}

// NextAttemptAt is when the next attempt at an endpoint that is failing or throttled may begin, in UTC: the next probe, or the end of the hold, whichever
// is later. It is zero if the endpoint is neither.
func (h Health) NextAttemptAt() time.Time { return later(h.NextProbeAt, h.Throttle.HeldUntil) }

// worksNotSince is since when the endpoint takes nothing, in UTC: because it is failing, or refuses all load. Zero means that it works.
func (h *Health) worksNotSince() time.Time {
	if !h.Failing() && h.Refused > 0 {
		return h.FirstFailedAt
	}
	return h.FailingSince
}

// failingFor reports whether the endpoint has taken nothing for that long.
func (h *Health) failingFor(span time.Duration, now time.Time) bool {
	since := h.worksNotSince()
	return !since.IsZero() && now.Sub(since) >= span
}

// After returns the health after an attempt that ended at now, with Throttle, NextSlotAt and Notified as they were; a success clears Notified. It is
// pure.
func (h Health) After(a *Attempt, now time.Time) Health {
	switch {
	case a.Delivered():
		return Health{Order: h.Order, Throttle: h.Throttle, NextSlotAt: h.NextSlotAt}
	case a.Error == ErrorInternal || a.Error == ErrorTransform || a.TokenRejected: // says nothing about the endpoint
		if a.Probe && !a.TokenRejected {
			h.NextProbeAt = now.Add(probeInterval(h.Probes)) // or the next delivery would be tried at once, and all others
		}
		return h
	}
	h.Failures++
	if a.refusesLoad() {
		h.Refused++
	}
	if h.FirstFailedAt.IsZero() {
		h.FirstFailedAt = now
	}
	switch {
	case !h.Failing():
		if h.Failures-h.Refused >= failingAfter {
			h.FailingSince, h.NextProbeAt = now, now.Add(minProbeInterval)
		}
	case a.Probe: // not an attempt that was in flight when the endpoint became failing
		h.Probes++
		h.NextProbeAt = now.Add(probeInterval(h.Probes))
	}
	return h
}

// probeInterval returns the wait after that many failed probes.
func probeInterval(probes int) time.Duration {
	interval := minProbeInterval
	for range probes {
		if interval *= 2; interval >= maxProbeInterval {
			return maxProbeInterval
		}
	}
	return interval
}

// pauseCause says why a webhook is paused, in metrics and in system events.
type pauseCause string

const (
	pauseByHand       pauseCause = "hand"
	pauseEndpointGone pauseCause = "gone"
	pauseFailing      pauseCause = "failing"
	pauseProgram      pauseCause = "program"
)

var pauseCauses = []pauseCause{pauseByHand, pauseEndpointGone, pauseFailing, pauseProgram}

// observeAttempt updates the health of an endpoint after an attempt that was made for w and has just ended, before the next attempt begins.
// It logs changes. It pauses a webhook whose endpoint answered 410, or has failed for Config.PauseAfter. It returns the health and the
// payload of the system event about it, nil for none, to be recorded with the attempt.
func (e *Engine) observeAttempt(ctx context.Context, c *claim, w *Webhook, a *Attempt) (Health, []byte) {
	current := e.store.Webhooks().Get(w.ID)
	if current == nil || ResetsHealth(w, current) {
		return Health{}, nil
	}
	now := utcNow()
	a.RetryAfter = min(a.RetryAfter, e.config().Retry.RetryAfterMax)
	before, h, failedFor := e.lanes.attempted(current, c, a, now)
	switch {
	case h.Failing() && !before.Failing():
		e.log.Warn("an endpoint is failing; it gets one attempt at a time", "webhook", w.ID, "failures", h.Failures, "error_class", a.Error)
	case before.Failing() && !h.Failing():
		e.log.Info("an endpoint works again", "webhook", w.ID, "failures", before.Failures, "since", before.FirstFailedAt)
	case h.Throttle.Refusals == 1 && before.Throttle.HeldUntil.IsZero():
		e.log.Info("an endpoint refuses load; its deliveries wait and use no try", "webhook", w.ID, "status", a.Status, "until", h.Throttle.HeldUntil)
	}
	switch {
	case a.Status == http.StatusGone && !a.Delivered():
		e.pause(ctx, w, pauseEndpointGone, fmt.Sprintf("the endpoint answered 410 Gone at %s", now.Format(time.RFC3339)), ResetsHealth)
	case (h.Failing() || h.Refused > 0) && failedFor >= e.config().PauseAfter:
		e.pause(ctx, w, pauseFailing, fmt.Sprintf("every attempt has failed since %s", h.FirstFailedAt.Format(time.RFC3339)), ResetsHealth)
	}
	return h, e.healthNotice(w, before, h, a, now)
}

// pause pauses a webhook because of what has happened with its settings as in w, unless mended reports that they have changed since in a way
// that may have mended it.
func (e *Engine) pause(ctx context.Context, w *Webhook, cause pauseCause, reason string, mended func(before, after *Webhook) bool) {
	_, err := e.changeWebhook(context.WithoutCancel(ctx), w.ID, func(current *Webhook) (WebhookChange, error) {
		if current.Paused || mended(w, current) {
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
