package engine

import "time"

// endpointHealth is the health that a lane keeps of its webhook's endpoint.
type endpointHealth struct {
	Health
	// probeAt is NextProbeAt by the monotonic clock. A clock that was set back puts a probe off by no more than its interval.
	probeAt time.Time
	// failedFor is how long all attempts have failed until lastFailedAt, which is of the monotonic clock. It counts no longer span without
	// attempts than maxAttemptGap.
	failedFor    time.Duration
	lastFailedAt time.Time
	// url and resumedAt are those of the webhook that the health belongs to. When the webhook has others, the health starts again; see
	// ResetsHealth.
	url       string
	resumedAt time.Time
	// recoveredAt is when the endpoint stopped failing, in UTC; zero if it has not since this process owns the lane.
	recoveredAt time.Time
	// yielded is set when the lane must be given up. When no claim is left, the health is the other process's to keep.
	yielded bool
}

// maxAttemptGap is the longest time between two attempts that counts as a time in which the endpoint fails: as long as the longest wait of
// a retry schedule. An endpoint that is not asked for days shows nothing.
const maxAttemptGap = 24 * time.Hour

// set takes over a health. Its instants are of the wall clock as it stands now, or stood when they were stored.
func (h *endpointHealth) set(new Health) {
	switch {
	case !new.Failing():
		h.probeAt = time.Time{}
	case !new.NextProbeAt.Equal(h.NextProbeAt): // otherwise the wait has begun already, and the clock may have been set since
		h.probeAt = time.Now().Add(min(new.NextProbeAt.Sub(utcNow()), probeInterval(new.Probes)))
	}
	h.Health = new
}

// restore takes over a health that was stored.
func (h *endpointHealth) restore(stored Health) {
	h.set(stored)
	h.failedFor, h.lastFailedAt = 0, time.Now()
	if stored.Failures == 0 {
		return
	}
	last := stored.FirstFailedAt
	if stored.Failing() { // the last probe's end
		last = later(last, stored.NextProbeAt.Add(-probeInterval(stored.Probes)))
	}
	since := utcNow().Sub(last) // until now the process was down, or another one's
	h.failedFor = last.Sub(stored.FirstFailedAt) + max(0, min(since, maxAttemptGap))
}

// attempted takes over the health after an attempt.
func (h *endpointHealth) attempted(after Health) {
	switch now := time.Now(); {
	case after.Failures == 0:
		h.failedFor = 0
	case after.Failures == 1:
		h.failedFor, h.lastFailedAt = 0, now
	case after.Failures > h.Failures:
		h.failedFor += min(now.Sub(h.lastFailedAt), maxAttemptGap)
		h.lastFailedAt = now
	}
	h.set(after)
}

// forgetIfYielded drops the health of a yielded lane when no claim is left.
func (h *endpointHealth) forgetIfYielded(claimed int) {
	if h.yielded && claimed == 0 {
		h.Health = Health{}
	}
}

// isAbout reports whether the health belongs to the webhook's current endpoint.
func (h *endpointHealth) isAbout(w *Webhook) bool {
	return h.url == w.URL && h.resumedAt.Equal(w.ResumedAt)
}

// suspended reports whether the endpoint was failing or the webhook was paused at some time between dueAt and startedAt, so that an attempt
// that started then was late on purpose. It is pure.
func (h *endpointHealth) suspended(dueAt, startedAt time.Time) bool {
	if h.Failing() && !startedAt.Before(h.FailingSince) {
		return true
	}
	sendsSince := later(h.resumedAt, h.recoveredAt)
	return dueAt.Before(sendsSince) && !startedAt.Before(sendsSince)
}

// suspended reports whether a delivery was due while its endpoint was failing or its webhook was paused, before an attempt that has just
// ended. Tests are sent all the same.
func (l *lanes) suspended(d *Delivery, a *Attempt) bool {
	if d.Kind == KindTest {
		return false
	}
	if a.Probe {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.byID[d.Lane()]
	return ln != nil && ln.health.suspended(d.dueSince(), a.StartedAt)
}

// own sets the health of a webhook whose lanes this process owns from now on.
func (l *lanes) own(w *Webhook, h Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = nil
	l.order = max(l.order, h.Order)
	ln := l.laneLocked(Lane{WebhookID: w.ID})
	if rate := l.limits(ln.id).rate; rate > 0 && ln.health.yielded { // the owner in between may have sent just now
		ln.nextSlot = later(ln.nextSlot, time.Now().Add(rateInterval(rate)))
	}
	ln.health = endpointHealth{url: w.URL, resumedAt: w.ResumedAt}
	ln.health.restore(h)
	ln.progressAt = time.Now()
}

// yield gives up the lanes of a webhook. The claims in their queues are released.
func (l *lanes) yield(webhookID uint32) {
	l.refresh(webhookID, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil {
		ln.health.yielded = true
		ln.health.forgetIfYielded(ln.claimed)
	}
}

// yieldAll gives up all lanes. The claims have ended already.
func (l *lanes) yieldAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.byID {
		ln.health.yielded = true
		ln.health.forgetIfYielded(ln.claimed)
	}
}

// attempted updates the health of a webhook's endpoint after an attempt that ended at now, and with it the pace of the lane. w is the
// webhook as it is now. It returns the health before and after the attempt, and for how long all attempts have failed.
func (l *lanes) attempted(w *Webhook, a *Attempt, now time.Time) (before, after Health, failedFor time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.laneLocked(Lane{WebhookID: w.ID})
	l.beginHealthLocked(ln, w)
	before = ln.health.Health
	l.setHealthLocked(ln, before.After(a, now))
	return before, ln.health.Health, ln.health.failedFor
}

// resetHealth starts the health of a webhook's endpoint again, after a change that ResetsHealth.
func (l *lanes) resetHealth(w *Webhook) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beginHealthLocked(l.laneLocked(Lane{WebhookID: w.ID}), w)
}

// beginHealthLocked starts the health of a lane again, unless it belongs to the webhook's current endpoint already: an attempt may have
// ended between the change of the webhook and resetHealth.
func (l *lanes) beginHealthLocked(ln *lane, w *Webhook) {
	if ln.health.isAbout(w) {
		return
	}
	ln.health.url, ln.health.resumedAt = w.URL, w.ResumedAt
	l.setHealthLocked(ln, Health{})
}

// setHealthLocked sets the health of a lane. A lane that becomes failing releases its ready claims, and one that recovers sends again.
func (l *lanes) setHealthLocked(ln *lane, h Health) {
	was := ln.health.Health
	l.order++
	h.Order = l.order
	ln.health.attempted(h)
	if h.Failing() != was.Failing() {
		l.open = nil
	}
	switch {
	case h.Failing():
		if l.limitLocked(ln, time.Now()) == 0 {
			l.releaseReadyLocked(ln)
		}
	case was.Failing():
		ln.health.recoveredAt = utcNow()
		l.recheckLocked(ln)
	}
}

// probeNow lets the next probe of a failing endpoint begin at once, because somebody may have mended it.
func (l *lanes) probeNow(webhookID uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil && ln.health.Failing() {
		ln.health.NextProbeAt, ln.health.probeAt = utcNow(), time.Now()
		l.recheckLocked(ln)
	}
}

// healthOf returns the health of a webhook's endpoint.
func (l *lanes) healthOf(webhookID uint32) Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil {
		return ln.health.Health
	}
	return Health{}
}
