package engine

import "time"

// How fast a lane goes: what its webhook allows, and what its endpoint bears.

const (
	// claimAhead is how far ahead of its slot a delivery of a lane with a rate limit may be claimed: long enough for rendering and
	// freezing it, short enough for its payload to be a fresh one.
	claimAhead = 250 * time.Millisecond
	// slotSlack is by how much a lane with a rate limit may be late for its slot and make up for it: timers are not exact.
	slotSlack = 20 * time.Millisecond
)

// laneLimits is what a webhook allows its lane.
type laneLimits struct {
	inFlight int     // attempts at once; 0 holds the lane
	rate     float64 // attempts a second; 0 for no limit
}

// limitLocked is how many attempts a lane may have in flight at now; 0 holds it.
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
	case ln.sending >= limits.inFlight && len(ln.readyQueue) > 0:
		return 0, next // what is claimed waits for an attempt to end, not for its slot
	}
	interval := rateInterval(limits.rate)
	first := later(ln.nextSlot, now).Add(time.Duration(len(ln.readyQueue)) * interval) // the slot of the next one to be claimed
	if ahead := now.Add(claimAhead).Sub(first); ahead >= 0 {
		return min(room, 1+int(ahead/interval)), next
	}
	return 0, first.Add(-claimAhead)
}

// rateInterval is the span between two slots.
func rateInterval(rate float64) time.Duration { return time.Duration(float64(time.Second) / rate) }

// reserveSlotLocked gives a claim whose turn it is the present slot of a lane with a rate limit.
func (l *lanes) reserveSlotLocked(ln *lane, c *claim) {
	rate := l.limits(ln.id).rate
	if rate == 0 {
		return
	}
	now := time.Now()
	if now.Sub(ln.nextSlot) > slotSlack {
		ln.nextSlot = now
	}
	ln.nextSlot = ln.nextSlot.Add(rateInterval(rate))
	c.slot = ln.nextSlot
}

// returnSlot gives back the slot of a claim that had its turn and is not sent after all.
func (l *lanes) returnSlot(c *claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rate := l.limits(c.lane.id).rate; rate > 0 && !c.slot.IsZero() && c.lane.nextSlot.Equal(c.slot) {
		c.lane.nextSlot = c.slot.Add(-rateInterval(rate))
	}
}

// clipSlotLocked brings the next slot of a lane forward to what its present rate asks for: it may be that of a slower rate.
func (l *lanes) clipSlotLocked(ln *lane, now time.Time) {
	if rate := l.limits(ln.id).rate; rate > 0 {
		if next := now.Add(rateInterval(rate)); ln.nextSlot.After(next) {
			ln.nextSlot = next
		}
	}
}

// maySendLocked tells whether the first in a lane's queue may be sent now, as far as the lane goes. Where it only has to wait for
// its slot, it sees to it that it is looked at again.
func (l *lanes) maySendLocked(ln *lane) bool {
	now := time.Now()
	if len(ln.readyQueue) == 0 || !ln.readyQueue[0].ready || ln.sending >= l.limitLocked(ln, now) {
		return false
	}
	wait := ln.nextSlot.Sub(now)
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
