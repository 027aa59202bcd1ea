package engine

import "time"

// The pace of a lane: the limits of its webhook, the health of its endpoint, the load that it takes, and troubles of this machine.
const (
	// claimAhead is how long before its slot a delivery of a lane with a rate limit may be claimed. It is enough time to render and freeze
	// the payload, and short enough for the payload to be fresh.
	claimAhead = 250 * time.Millisecond
	// slotSlack is how late a lane with a rate limit may be for its slot without moving the slots behind it: timers are not exact.
	slotSlack = 20 * time.Millisecond
)

// keptInterval is the shortest interval of a rate limit whose slots are stored. No restart is faster.
const keptInterval = 100 * time.Millisecond

// laneLimits are the limits of a lane.
type laneLimits struct {
	inFlight int // attempts at once; with 0 the lane must not send
	// rate is the webhook's rate limit, throttled the rate to which its endpoint has slowed the lane down; attempts per second, 0 for no limit.
	rate, throttled float64
	programs        bool // the webhook has some
}

// interval returns the time between two attempts; 0 for no limit.
func (m *laneLimits) interval() time.Duration {
	var interval time.Duration
	for _, rate := range []float64{m.rate, m.throttled} {
		if rate > 0 {
			interval = max(interval, rateInterval(rate))
		}
	}
	return interval
}

// limitsLocked returns the limits of a lane at now: those of its webhook's settings, lowered by what its last attempts have shown. With an
// inFlight of 0 it must not send.
func (l *lanes) limitsLocked(ln *lane, now time.Time) laneLimits {
	return ln.lowered(l.limits(ln.id), now)
}

// lowered is limitsLocked for the limits of the settings.
func (ln *lane) lowered(limits laneLimits, now time.Time) laneLimits {
	switch {
	case now.Before(ln.startsAt()):
		limits.inFlight = 0
	case ln.health.Failing(), ln.trouble.kind != "":
		limits.inFlight = min(limits.inFlight, 1)
	case ln.window.size > 0:
		limits.inFlight = min(limits.inFlight, ln.window.size)
	}
	limits.throttled = ln.health.throttledRate(now)
	return limits
}

// startsAt returns before when a lane must not send, by the monotonic clock: the end of a trouble or of a hold, or the next probe.
func (ln *lane) startsAt() time.Time {
	at := later(ln.trouble.until, ln.health.heldUntil)
	if ln.health.Failing() {
		at = later(at, ln.health.probeAt)
	}
	return at
}

// roomLocked returns how many more deliveries of a lane may be claimed at now. If it is too early for any, next is when to try again. If
// next is zero, there is no room before a claim ends or the limits change.
func (l *lanes) roomLocked(ln *lane, now time.Time) (room int, next time.Time) {
	limits := l.limits(ln.id)
	if limits.inFlight == 0 {
		return 0, next
	}
	limits = ln.lowered(limits, now)
	switch startsAt := ln.startsAt(); {
	case now.Before(startsAt):
		return 0, startsAt
	case ln.health.Failing(), ln.trouble.kind != "":
		return 1 - ln.claimed, next
	}
	room = prefetch*limits.inFlight - ln.claimed
	if limits.programs {
		room = min(room, ln.buildRoom-ln.unbuilt)
	}
	interval := limits.interval()
	switch {
	case interval == 0 || room <= 0:
		return room, next
	case ln.sending >= limits.inFlight && len(ln.readyQueue) > 0:
		return 0, next // the claims wait for an attempt to end, not for a slot
	}
	first := later(ln.slot(limits), now).Add(time.Duration(len(ln.readyQueue)) * interval) // the slot of the next one to be claimed
	if ahead := now.Add(claimAhead).Sub(first); ahead >= 0 {
		return min(room, 1+int(ahead/interval)), next
	}
	return 0, first.Add(-claimAhead)
}

// A rate limit gives a lane slots at even intervals. golang.org/x/time/rate does not fit. With a burst of 1 it loses what timers are late by:
// at a limit of 1,000 per second it let 781 through where slots let 976 through. With a larger burst it lets that many through at once after a
// pause. And a reservation whose time has come gives nothing back, which is just when a claim turns out not to be sent.

// rateInterval returns the time between two slots.
func rateInterval(rate float64) time.Duration { return time.Duration(float64(time.Second) / rate) }

// slot returns when the next attempt of a lane with these limits may begin.
func (ln *lane) slot(limits laneLimits) time.Time {
	var at time.Time
	if limits.rate > 0 {
		at = ln.nextSlot
	}
	if limits.throttled > 0 {
		at = later(at, ln.throttledSlot)
	}
	return at
}

// reserveSlotLocked reserves the current slot of a lane with a rate limit for a claim, and of one that its endpoint has slowed down.
func (l *lanes) reserveSlotLocked(ln *lane, c *claim) {
	now := time.Now()
	limits := l.limitsLocked(ln, now)
	if limits.rate > 0 {
		ln.nextSlot = slotAfter(ln.nextSlot, now, limits.rate)
		c.slot = ln.nextSlot
	}
	if limits.throttled > 0 {
		ln.throttledSlot = slotAfter(ln.throttledSlot, now, limits.throttled)
		c.throttledSlot = ln.throttledSlot
	} else {
		ln.throttledSlot = time.Time{} // it is of a rate that no longer holds
	}
}

// slotAfter returns the slot after one that is used at now.
func slotAfter(slot, now time.Time, rate float64) time.Time {
	if now.Sub(slot) > slotSlack {
		slot = now
	}
	return slot.Add(rateInterval(rate))
}

// returnSlot returns the slots of a claim that had its turn and is not sent.
func (l *lanes) returnSlot(c *claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rate := l.limits(c.lane.id).rate; rate > 0 && !c.slot.IsZero() && c.lane.nextSlot.Equal(c.slot) {
		c.lane.nextSlot = c.slot.Add(-rateInterval(rate))
	}
	if c.throttled > 0 && !c.throttledSlot.IsZero() && c.lane.throttledSlot.Equal(c.throttledSlot) {
		c.lane.throttledSlot = c.throttledSlot.Add(-rateInterval(c.throttled))
	}
}

// clipSlotLocked limits the wait for the next slot to one interval of the current rate: the slot may have been set by a slower rate.
func (l *lanes) clipSlotLocked(ln *lane, now time.Time) {
	if rate := l.limits(ln.id).rate; rate > 0 {
		if next := now.Add(rateInterval(rate)); ln.nextSlot.After(next) {
			ln.nextSlot = next
		}
	}
}

// maySendLocked reports whether the lane's own limits allow it to send the first claim of its queue. If the claim only waits for its slot,
// it sets a timer for it.
func (l *lanes) maySendLocked(ln *lane) bool {
	now := time.Now()
	if len(ln.readyQueue) == 0 || !ln.readyQueue[0].ready {
		return false
	}
	limits := l.limitsLocked(ln, now)
	if ln.sending >= limits.inFlight {
		return false
	}
	wait := ln.slot(limits).Sub(now)
	if wait <= 0 {
		return true
	}
	if ln.timer == nil {
		ln.timer = time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			ln.timer = nil
			l.advanceLocked(ln)
		})
	} else {
		ln.timer.Reset(wait) // the slot may be an earlier one: a throttle has ended
	}
	return false
}

// stalledFor returns how long a webhook's lane could have made an attempt and made none; 0 if it must not send. dueAt is since when its
// oldest due delivery has been due. Waiting for the next probe, for the next slot, or for the end of a hold or a trouble does not count.
func (l *lanes) stalledFor(webhookID uint32, dueAt time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := Lane{WebhookID: webhookID}
	limits := l.limits(id)
	if limits.inFlight == 0 {
		return 0
	}
	now := time.Now()
	stalled := now.Sub(dueAt)
	if ln := l.byID[id]; ln != nil { // a lane that was never woken has a delivery that nothing sends
		// Each span is measured by itself: resumedAt is of the wall clock, as dueAt is, the others are of the monotonic one.
		stalled = min(stalled, now.Sub(ln.progressAt), now.Sub(ln.health.resumedAt), now.Sub(ln.startsAt()), now.Sub(ln.health.probeAt))
		stalled = min(stalled, now.Sub(ln.slot(l.limitsLocked(ln, now))))
	}
	return max(0, stalled)
}
