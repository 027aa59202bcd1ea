package engine

import "time"

// endpointHealth is the health that a lane keeps of its webhook's endpoint.
type endpointHealth struct {
	Health
	// probeAt is NextProbeAt by the monotonic clock. A clock that was set back puts a probe off by no more than its interval.
	probeAt time.Time
	// heldUntil is Throttle.HeldUntil by the monotonic clock.
	heldUntil time.Time
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
	// yielded is set when the lane must be given up. When neither it nor the test lane has a claim left, the health is the other process's to
	// keep.
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
	if at := new.Throttle.HeldUntil; !at.Equal(h.Throttle.HeldUntil) {
		h.heldUntil = time.Time{}
		if !at.IsZero() {
			h.heldUntil = monotonic(at)
		}
	}
	h.Health = new
}

// throttled reports whether the endpoint has refused load lately, so that its lane is held or slowed down.
func (h *endpointHealth) throttled() bool { return !h.Throttle.HeldUntil.IsZero() }

// throttledRate returns the rate to which the lane is limited at now because of that, in attempts a second; 0 means no limit.
func (h *endpointHealth) throttledRate(now time.Time) float64 {
	if !h.throttled() {
		return 0
	}
	return h.Throttle.rate(max(0, now.Sub(h.heldUntil)))
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

// isAbout reports whether the health belongs to the webhook's current endpoint.
func (h *endpointHealth) isAbout(w *Webhook) bool {
	return h.url == w.URL && h.resumedAt.Equal(w.ResumedAt)
}

// suspended reports whether the endpoint was failing or throttled, or the webhook was paused, at some time between dueAt and startedAt, so that
// an attempt that started then was late on purpose. It is pure.
func (h *endpointHealth) suspended(dueAt, startedAt time.Time) bool {
	if h.Failing() && !startedAt.Before(h.FailingSince) || h.throttled() {
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
	if rate := l.limits(ln.id).rate; rate > 0 {
		wait := min(h.NextSlotAt.Sub(utcNow()), rateInterval(rate))
		if ln.health.yielded { // the owner in between may have sent just now
			wait = rateInterval(rate)
		}
		ln.nextSlot = later(ln.nextSlot, time.Now().Add(wait))
	}
	ln.health = endpointHealth{url: w.URL, resumedAt: w.ResumedAt}
	ln.health.restore(h)
	if ln.health.throttled() {
		ln.window = window{size: 1, threshold: freeWindow}
	}
	ln.progressAt = time.Now()
}

// yield gives up the lanes of a webhook. The claims in their queues are released.
func (l *lanes) yield(webhookID uint32) {
	l.refresh(webhookID, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil {
		ln.health.yielded = true
		l.forgetIfYieldedLocked(webhookID)
	}
}

// yieldAll gives up all lanes. The claims have ended already.
func (l *lanes) yieldAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, ln := range l.byID {
		ln.health.yielded = true
		l.forgetIfYieldedLocked(id.WebhookID)
	}
}

// forgetIfYieldedLocked drops the health of a webhook whose lanes are yielded when they have no claim left. An attempt of a test counts for the
// health as well: without what came before, its record would replace the health that the next owner reads.
func (l *lanes) forgetIfYieldedLocked(webhookID uint32) {
	ln, tests := l.byID[Lane{WebhookID: webhookID}], l.byID[Lane{webhookID, true}]
	if ln != nil && ln.health.yielded && ln.claimed == 0 && (tests == nil || tests.claimed == 0) {
		ln.health.Health = Health{}
	}
}

// attempted updates the health of a webhook's endpoint after an attempt that ended at now, and with it the pace of the lane. w is the
// webhook as it is now. It returns the health before and after the attempt, and for how long all attempts have failed.
func (l *lanes) attempted(w *Webhook, c *claim, a *Attempt, now time.Time) (before, after Health, failedFor time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.laneLocked(Lane{WebhookID: w.ID})
	l.beginHealthLocked(ln, w)
	before = ln.health.Health
	after = before.After(a, now)
	if after.Failures > before.Failures {
		after.Notified = after.Notified || after.failingFor(l.failingAfter, now)
	}
	after.Throttle = l.throttleLocked(ln, c, a, now)
	after.NextSlotAt = ln.keptSlot(w, now)
	l.setHealthLocked(ln, after)
	a.heldUntil, a.refusedAgain = after.Throttle.HeldUntil, after.Throttle.Refusals > 1
	return before, ln.health.Health, ln.health.failedFor
}

// keptSlot returns Health.NextSlotAt of a webhook's lane at now. It goes by the webhook: a lane that is being given up has no limits any more, and its next owner
// has to know the slot all the same.
func (ln *lane) keptSlot(w *Webhook, now time.Time) time.Time {
	wait := time.Until(ln.nextSlot)
	if w.RateLimit == nil || rateInterval(*w.RateLimit) < keptInterval || wait <= 0 {
		return time.Time{}
	}
	return now.Add(min(wait, rateInterval(*w.RateLimit)))
}

// throttleLocked returns the throttle of a lane after an attempt that ended at now. It counts what the endpoint accepts, and keeps the window.
func (l *lanes) throttleLocked(ln *lane, c *claim, a *Attempt, now time.Time) Throttle {
	mono := time.Now()
	ln.passLocked(l, mono)
	t, late := ln.health.Throttle, c.round < ln.round // late: it began before the last refusal
	most := l.limits(ln.id).inFlight
	switch {
	case a.Delivered():
		return ln.taken(late, most, mono)
	case !a.refusesLoad():
		if a.showsLoad() && !ln.health.Failing() && c.shrinks == ln.shrinks { // not one that was in flight with the last such one
			ln.shrinks++
			ln.window.halve(most)
		}
		return t
	case late:
		t.HeldUntil = later(t.HeldUntil, now.Add(a.RetryAfter))
		return t
	}
	ln.round++
	t.Refusals++
	hold := holdFor(a.RetryAfter, t.Refusals)
	if left := ln.health.heldUntil.Sub(mono); left > 0 { // a test: it says nothing of the rate, and takes nothing from what the endpoint has asked for
		t.HeldUntil = now.Add(max(hold, left))
		return t
	}
	ln.refusal = refusal{accepted: ln.sinceRefusal, hold: hold, guessed: t.Ceiling > 0 && !t.Known}
	if ln.health.throttled() { // otherwise the throttle that slowed the attempt down has ended meanwhile
		ln.refusal.rate, ln.refusal.ran = c.throttled, ln.ran
	}
	ln.sinceRefusal, ln.ran = 0, 0
	ln.window = t.apply(ln.refusal, ln.accepted.rate(hold))
	t.HeldUntil = now.Add(max(hold, t.interval())) // some ask for a second, whatever their quota is
	return t
}

// taken returns the throttle after a success. most is the lane's own limit of attempts in flight.
func (ln *lane) taken(late bool, most int, now time.Time) Throttle {
	t := ln.health.Throttle
	t.Refusals = 0
	ln.accepted.count++
	if late && ln.health.throttled() && !ln.health.Failing() {
		ln.refusal.accepted++
		ln.window = t.apply(ln.refusal, ln.accepted.rate(ln.refusal.hold))
		return t
	}
	ln.sinceRefusal++
	ln.window.grow(most)
	if ln.health.Failing() || t.over(now.Sub(ln.health.heldUntil)) {
		return Throttle{}
	}
	return t
}

// passLocked lets the time since the lane's last attempt count for the rate at which its endpoint accepts, as far as the lane had work.
func (ln *lane) passLocked(l *lanes, now time.Time) {
	limits := l.limitsLocked(ln, now)
	idle := max(maxIdle, 2*limits.interval())
	ln.ran += max(0, min(now.Sub(later(ln.accepted.at, ln.health.heldUntil)), idle))
	if held := ln.health.heldUntil.Sub(ln.accepted.at); held > 0 {
		idle += min(held, countedHold)
	}
	ln.accepted.pass(now, idle)
}

// resetHealth starts the health of a webhook's endpoint again, if it is about what the webhook was before a change that ResetsHealth.
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
	ln.load = newLoad()
	l.setHealthLocked(ln, Health{})
}

// setHealthLocked sets the health of a lane. A lane that becomes failing releases its ready claims, and one that recovers sends again.
func (l *lanes) setHealthLocked(ln *lane, h Health) {
	was := ln.health.Health
	l.order++
	h.Order = l.order
	ln.health.attempted(h)
	if h.Failing() != was.Failing() || h.Throttle != was.Throttle {
		l.open = nil
	}
	if was.Failing() && !h.Failing() || was.Throttle.HeldUntil.After(h.Throttle.HeldUntil) {
		ln.health.recoveredAt = utcNow()
		l.recheckLocked(ln)
	}
	if l.limitsLocked(ln, time.Now()).inFlight == 0 {
		l.releaseReadyLocked(ln)
	}
}

// probeNow lets the next probe of a failing endpoint begin at once, or ends the hold of one that refuses load, because somebody may have mended
// it.
func (l *lanes) probeNow(webhookID uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.byID[Lane{WebhookID: webhookID}]
	if ln == nil {
		return
	}
	wall, now := utcNow(), time.Now()
	failing, held := ln.health.Failing(), now.Before(ln.health.heldUntil)
	if failing {
		ln.health.NextProbeAt, ln.health.probeAt = wall, now
	}
	if held {
		ln.health.Throttle.HeldUntil, ln.health.heldUntil = wall, now
	}
	if failing || held {
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
