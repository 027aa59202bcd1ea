package engine

import (
	"container/heap"
	"slices"
	"time"

	"github.com/google/uuid"
)

// maxClaimRequests bounds the lanes in one call of ClaimDue, and with it the time that its read transaction lasts.
const maxClaimRequests = 64

// claim is a claimed delivery whose claim has not ended.
type claim struct {
	claimed Claimed
	// revision is that of the webhook when the delivery was claimed. A cancellation of this revision or a later one may cover the delivery.
	revision uint64
	lane     *lane
	pass     chan struct{} // closed when the claims before it in its turnstile have ended; nil if there were none
	turn     chan bool     // capacity 1; lanes sends one value once the claim is ready: whether to send the delivery

	ready     bool // the payload is frozen, and the claim waits for its turn; guarded by lanes.mu
	unbuilt   bool // the webhook's programs have not run yet; guarded by lanes.mu
	cancelled bool // the delivery was cancelled since it was claimed; guarded by lanes.mu
	// slot is the end of the interval that the attempt uses, if the lane has a rate limit; guarded by lanes.mu.
	slot  time.Time
	probe bool // the endpoint was failing at its turn; guarded by lanes.mu until then, as round is
	// round and shrinks are those of the load at its turn.
	round, shrinks int
	// throttled is the rate to which the webhook's lane was slowed down at its turn, in attempts a second; 0 for no limit.
	throttled     float64
	throttledSlot time.Time // the end of the interval that the attempt uses then; guarded by lanes.mu

	health Health // of the endpoint after the attempt; owned by the claim's goroutine, as notice is
	notice []byte // the system event about it; nil for none
}

// claimCall is a call of the store that may return claims and has not returned yet. It collects the deliveries that are cancelled
// meanwhile, because the call may return them.
type claimCall struct {
	cancelled []uuid.UUID // guarded by lanes.mu
}

// claimRequests returns the lanes to claim from at now, which is of the monotonic clock like next. Each of them is in place asked until
// applyClaims or giveUpRequests is called. If there are no requests, next is when there will be some; zero means not before a lane is woken.
func (l *lanes) claimRequests(now time.Time) (requests []ClaimRequest, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.timed) > 0 && !l.timed[0].wakeAt.After(now) {
		ln := heap.Pop(&l.timed).(*lane)
		ln.place = placeReady
		l.ready = append(l.ready, ln)
	}
	global := prefetch*l.maxExtra - l.extraClaims
	share := 1
	if len(l.ready) > 0 {
		share = max(1, global/len(l.ready))
	}
	rest := l.ready[:0]
	for i, ln := range l.ready {
		if len(requests) == maxClaimRequests {
			rest = append(rest, l.ready[i:]...)
			break
		}
		room, nextAt := l.roomLocked(ln, now)
		switch {
		case !nextAt.IsZero():
			l.putTimedLocked(ln, nextAt)
			continue
		case room <= 0:
			ln.place = placeBlocked
			continue
		}
		first := min(room, max(0, prefetch-ln.claimed))
		extra := max(0, min(room-first, share, global))
		if first+extra == 0 {
			rest = append(rest, ln) // only the global limit stops it
			continue
		}
		global -= extra
		ln.place, ln.wakeAt = placeAsked, time.Time{}
		requests = append(requests, ClaimRequest{ln.id, first + extra})
	}
	clear(l.ready[len(rest):])
	l.ready = rest
	if len(requests) == 0 && len(l.timed) > 0 {
		next = l.timed[0].wakeAt
	}
	return requests, next
}

// applyClaims applies the results of the store, which ends the call, and returns the claims to work on. hooks are the webhooks from before
// the call.
func (l *lanes) applyClaims(call *claimCall, requests []ClaimRequest, results []ClaimResult, hooks *WebhookSet) []*claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, call)
	var claims []*claim
	for i, request := range requests {
		ln, result := l.byID[request.Lane], results[i]
		for _, claimed := range result.Claimed {
			revision := uint64(0)
			if w := hooks.Get(ln.id.WebhookID); w != nil {
				revision = w.Revision
			}
			claims = append(claims, l.claimLocked(call, ln, claimed, revision))
		}
		named, next := ln.wakeAt, result.Next
		if !next.IsZero() {
			next = monotonic(next)
		}
		if next.IsZero() || !named.IsZero() && named.Before(next) {
			next = named
		}
		switch {
		case len(result.Claimed)+len(result.Damaged) == request.Room: // there may be more
			ln.place = placeReady
			l.ready = append(l.ready, ln)
		case next.IsZero():
			ln.place = placeIdle
		default:
			l.putTimedLocked(ln, next)
		}
		l.dropLocked(ln)
	}
	return claims
}

// giveUpRequests ends a call that failed. The next turn asks for its lanes again.
func (l *lanes) giveUpRequests(call *claimCall, requests []ClaimRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, call)
	for _, request := range requests {
		ln := l.byID[request.Lane]
		ln.place = placeReady
		l.ready = append(l.ready, ln)
		l.dropLocked(ln)
	}
}

// beginCall registers a call of the store that may return claims. applyClaims, giveUpRequests or acceptArrivals ends it.
func (l *lanes) beginCall() *claimCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	call := new(claimCall)
	l.calls[call] = struct{}{}
	return call
}

// claimLocked adds a delivery that a call has claimed to its lane's queue.
func (l *lanes) claimLocked(call *claimCall, ln *lane, claimed Claimed, revision uint64) *claim {
	c := &claim{claimed: claimed, revision: revision, lane: ln, turn: make(chan bool, 1)}
	c.cancelled = slices.Contains(call.cancelled, claimed.Delivery.ID)
	l.claims[claimed.Delivery.ID] = c
	if ln.claimed++; ln.claimed > prefetch {
		l.extraClaims++
	}
	if claimed.Delivery.Status == StatusScheduled && l.limits(ln.id).programs {
		c.unbuilt = true
		ln.unbuilt++
	}
	if l.enterLocked(c) {
		ln.readyQueue = append(ln.readyQueue, c)
	}
	return c
}

// acceptArrivals accepts deliveries that AppendEvents has claimed, and ends the call. It returns those that it refuses, because they would
// overtake a waiting delivery or exceed the limits.
func (l *lanes) acceptArrivals(call *claimCall, claimed []Claimed) (refused []Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, call)
	now := time.Now()
	for _, c := range claimed {
		ln := l.laneLocked(c.Delivery.Lane())
		if !l.hasRoomLocked(ln, now) {
			refused = append(refused, c.Delivery)
			continue
		}
		l.arrived = append(l.arrived, l.claimLocked(call, ln, c, c.Delivery.WebhookRevision))
	}
	if len(l.arrived) > 0 {
		l.signal()
	}
	return refused
}

// hasRoomLocked reports whether a lane may accept a delivery that has just arrived.
func (l *lanes) hasRoomLocked(ln *lane, now time.Time) bool {
	waits := ln.place != placeIdle && (ln.place != placeTimed || !ln.wakeAt.After(now))
	if !l.running || waits || ln.claimed >= prefetch && l.extraClaims >= prefetch*l.maxExtra {
		return false
	}
	room, _ := l.roomLocked(ln, now)
	return room > 0
}

// drainArrivals returns the claims that acceptArrivals has accepted since the last call.
func (l *lanes) drainArrivals() []*claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	claims := l.arrived
	l.arrived = nil
	return claims
}

// end ends a claim. nextAt is when the delivery is due again, zero if it is not.
func (l *lanes) end(c *claim, nextAt time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := c.lane
	l.endLocked(c)
	switch {
	case ln.place == placeBlocked:
		ln.place = placeReady
		l.ready = append(l.ready, ln)
	case ln.place == placeTimed && (ln.health.throttled() || l.limits(ln.id).rate > 0):
		l.recheckLocked(ln) // if it was not sent, another delivery can use its slot
	}
	if !nextAt.IsZero() {
		l.wakeAtLocked(ln, monotonic(nextAt))
	}
	l.dropLocked(ln)
	if len(l.ready) > 0 {
		l.signal()
	}
}

// endLocked removes a claim from its lane and from the counts.
func (l *lanes) endLocked(c *claim) {
	ln := c.lane
	l.dequeueLocked(c)
	l.leaveLocked(c)
	ln.leaveBuildingLocked(c)
	if l.claims[c.claimed.Delivery.ID] == c { // the delivery may be claimed again already
		delete(l.claims, c.claimed.Delivery.ID)
	}
	if ln.claimed--; ln.claimed >= prefetch {
		l.extraClaims--
	}
	l.forgetIfYieldedLocked(ln.id.WebhookID)
}

// cancel marks a delivery as cancelled that is claimed, or is just being claimed. It is not sent, unless its attempt is in flight already.
func (l *lanes) cancel(id uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.claims[id]; c != nil {
		c.cancelled = true
	}
	for call := range l.calls {
		call.cancelled = append(call.cancelled, id) // the store may have claimed it already
	}
}

// isCancelled reports whether the delivery of a claim was cancelled since it was claimed.
func (l *lanes) isCancelled(c *claim) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.cancelled
}
