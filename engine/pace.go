package engine

import "time"

// How fast a lane goes: what its webhook allows, and what its endpoint bears.

const (
	// rateAhead is how far ahead of its turn a delivery of a lane with a rate limit may be claimed: long enough for building and
	// freezing it, short enough for its payload to be a fresh one.
	rateAhead = 250 * time.Millisecond
	// rateSlack is by how much a lane with a rate limit may be behind its beat and make up for it: timers are not exact.
	rateSlack = 20 * time.Millisecond
)

// laneLimits is what a webhook allows its lane.
type laneLimits struct {
	inFlight int     // attempts at once; 0 holds the lane
	rate     float64 // attempts a second; 0 for no limit
}

// limitLocked is how many attempts a lane may have under way at now; 0 holds it.
func (l *lanes) limitLocked(ln *lane, now time.Time) int {
	limit := l.limits(ln.id).inFlight
	switch {
	case !ln.health.Failing():
		return limit
	case now.Before(ln.health.NextProbeAt):
		return 0
	}
	return min(limit, 1)
}

// roomLocked is how many deliveries more of a lane may be claimed at now. Where there is none because it is too early, next is when
// there will be; where it is zero, not before a claim ends or the limits change.
func (l *lanes) roomLocked(ln *lane, now time.Time) (room int, next time.Time) {
	limits := l.limits(ln.id)
	switch {
	case limits.inFlight == 0:
		return 0, next
	case ln.health.Failing():
		if now.Before(ln.health.NextProbeAt) {
			return 0, ln.health.NextProbeAt
		}
		return 1 - ln.claimed, next
	}
	room = prefetch*limits.inFlight - ln.claimed
	switch {
	case limits.rate == 0 || room <= 0:
		return room, next
	case ln.sending >= limits.inFlight && len(ln.line) > 0:
		return 0, next // what is claimed waits for an attempt to end, not for its beat
	}
	interval := rateInterval(limits.rate)
	first := later(ln.beat, now).Add(time.Duration(len(ln.line)) * interval) // when the next one to be claimed would be sent
	if ahead := now.Add(rateAhead).Sub(first); ahead >= 0 {
		return min(room, 1+int(ahead/interval)), next
	}
	return 0, first.Add(-rateAhead)
}

// rateInterval is the span between two attempts.
func rateInterval(rate float64) time.Duration { return time.Duration(float64(time.Second) / rate) }

// unspend gives back the beat of a claim that had its turn and is not sent after all.
func (l *lanes) unspend(c *claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rate := l.limits(c.lane.id).rate; rate > 0 && !c.beat.IsZero() && c.lane.beat.Equal(c.beat) {
		c.lane.beat = c.beat.Add(-rateInterval(rate))
	}
}

// maySendLocked tells whether the first in line of a lane may be sent now, as far as the lane goes. Where it only has to wait for
// the beat of the lane's rate, it sees to it that it is looked at again.
func (l *lanes) maySendLocked(ln *lane) bool {
	now := time.Now()
	if len(ln.line) == 0 || !ln.line[0].ready || ln.sending >= l.limitLocked(ln, now) {
		return false
	}
	wait := ln.beat.Sub(now)
	if wait <= 0 || l.limits(ln.id).rate == 0 {
		return true
	}
	if ln.timer == nil {
		ln.timer = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			ln.timer = nil
			l.advanceLocked(ln)
		})
	}
	return false
}

// setHealth sets what was known of a webhook's endpoint when the process started, unless a call has come first.
func (l *lanes) setHealth(webhookID uint32, h Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.laneLocked(Lane{WebhookID: webhookID}); ln.health.Order == 0 {
		ln.health = h
	}
}

// attempted moves the health of a webhook's endpoint on after an attempt that has ended at now, and lets its lane go by it. It returns
// what it was before and what it is.
func (l *lanes) attempted(webhookID uint32, a *Attempt, now time.Time) (before, after Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.laneLocked(Lane{WebhookID: webhookID})
	before = ln.health
	after = before.After(a, now)
	ln.order++
	after.Order = ln.order
	l.setHealthLocked(ln, after)
	return before, after
}

// orderAhead is more than the attempts that can end while the store takes a change.
const orderAhead = 1 << 32

// forgetting returns the health to store with a change that makes what is known of a webhook's endpoint obsolete. Its Order is above those
// of the attempts that end before the store has answered: they were made before the change. The lane goes by its old health until
// forgotten is called.
func (l *lanes) forgetting(webhookID uint32) Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.laneLocked(Lane{WebhookID: webhookID})
	ln.forgetOrder = max(ln.forgetOrder, ln.order) + orderAhead
	return Health{Order: ln.forgetOrder}
}

// forgotten tells what the store has answered to a change with a health from forgetting. If it has taken it, the lane goes by it. What
// comes after is newer in either case: an error does not always mean that nothing was stored.
func (l *lanes) forgotten(webhookID uint32, h Health, stored bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.laneLocked(Lane{WebhookID: webhookID})
	if ln.order >= h.Order {
		return // a later change was faster
	}
	ln.order = h.Order
	if stored {
		l.setHealthLocked(ln, h)
	}
}

func (l *lanes) setHealthLocked(ln *lane, h Health) {
	was := ln.health
	ln.health = h
	switch {
	case h.Failing():
		if l.limitLocked(ln, time.Now()) == 0 {
			l.giveBackLocked(ln)
		}
	case was.Failing():
		l.lookLocked(ln)
	}
}

// probeNow lets a failing endpoint's next probe begin at once: somebody has done something about it.
func (l *lanes) probeNow(webhookID uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil && ln.health.Failing() {
		ln.health.NextProbeAt = time.Now().UTC().Round(0)
		l.lookLocked(ln)
	}
}

// health returns what is known of a webhook's endpoint.
func (l *lanes) health(webhookID uint32) Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil {
		return ln.health
	}
	return Health{}
}
