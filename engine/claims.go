package engine

import (
	"container/heap"
	"slices"
	"time"

	"github.com/google/uuid"
)

// maxClaimRequests bounds how many lanes are asked for in one call of the store, and with it how long its read transaction lasts.
const maxClaimRequests = 64

// claim is a delivery that was claimed and not yet given back.
type claim struct {
	claimed Claimed
	// revision is the webhook's when the delivery was claimed: a cancellation since then may cover it.
	revision uint64
	lane     *lane
	turn     chan bool // capacity 1; receives one value, from lanes, once ready: whether it may be sent

	ready     bool // it is frozen and waits for its turn; guarded by lanes.mu
	cancelled bool // it was cancelled since it was claimed; guarded by lanes.mu
	// slot is the time of its attempt, if the lane has a rate limit; guarded by lanes.mu.
	slot  time.Time
	probe bool // it is sent to a failing endpoint; guarded by lanes.mu until its turn

	health Health // of the webhook's endpoint since the attempt; owned by the claim's goroutine, as notice is
	notice []byte // the system event about it; nil for none
}

// claimCall is a call of the store that is on its way and may return claims. What is cancelled meanwhile may be among them.
type claimCall struct {
	cancelled []uuid.UUID // guarded by lanes.mu
}

// claimRequests returns what to ask the store for at now. Each lane in it is in place asked until applyClaims or giveUpRequests is
// called. Where there is nothing to ask for, next is when there will be; zero means not before something wakes a lane.
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
			rest = append(rest, ln) // only the global limit is in the way
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

// applyClaims applies the store's answer to requests, which ends the call, and returns the claims to work on. hooks are the webhooks as
// they were before the call.
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
		named := ln.wakeAt
		next := result.Next
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
	}
	return claims
}

// giveUpRequests ends a call that the store could not answer: the lanes are asked for again.
func (l *lanes) giveUpRequests(call *claimCall, requests []ClaimRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, call)
	for _, request := range requests {
		ln := l.byID[request.Lane]
		ln.place = placeReady
		l.ready = append(l.ready, ln)
	}
}

// beginCall begins a call of the store that may return claims. applyClaims, giveUpRequests or offer ends it.
func (l *lanes) beginCall() *claimCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	call := new(claimCall)
	l.calls[call] = struct{}{}
	return call
}

// claimLocked puts a delivery that a call has claimed into its lane's queue.
func (l *lanes) claimLocked(call *claimCall, ln *lane, claimed Claimed, revision uint64) *claim {
	c := &claim{claimed: claimed, revision: revision, lane: ln, turn: make(chan bool, 1)}
	c.cancelled = slices.Contains(call.cancelled, claimed.Delivery.ID)
	l.claims[claimed.Delivery.ID] = c
	if ln.claimed++; ln.claimed > prefetch {
		l.extraClaims++
	}
	ln.readyQueue = append(ln.readyQueue, c)
	return c
}

// offer takes up deliveries that a call has claimed as they were stored, and ends the call. It returns those that it refuses: what would
// overtake something that waits, and what there is no room for.
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

// hasRoomLocked tells whether a lane may take up a delivery that has just arrived.
func (l *lanes) hasRoomLocked(ln *lane, now time.Time) bool {
	waits := ln.place != placeIdle && (ln.place != placeTimed || !ln.wakeAt.After(now))
	if !l.running || waits || ln.claimed >= prefetch && l.extraClaims >= prefetch*l.maxExtra {
		return false
	}
	room, _ := l.roomLocked(ln, now)
	return room > 0
}

// arrivals returns the claims that have arrived, to work on.
func (l *lanes) drainArrivals() []*claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	claims := l.arrived
	l.arrived = nil
	return claims
}

// end ends a claim. again is when the delivery is due once more, zero if it is not.
func (l *lanes) end(c *claim, nextAt time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := c.lane
	l.endLocked(c)
	switch {
	case ln.place == placeBlocked:
		ln.place = placeReady
		l.ready = append(l.ready, ln)
	case ln.place == placeTimed && l.limits(ln.id).rate > 0:
		l.recheckLocked(ln) // it may not have been sent: its slot is another one's then
	}
	if !nextAt.IsZero() {
		l.wakeAtLocked(ln, nextAt)
	}
	if len(l.ready) > 0 {
		l.signal()
	}
}

// endLocked takes a claim out of the counts.
func (l *lanes) endLocked(c *claim) {
	ln := c.lane
	l.dequeueLocked(c)
	if l.claims[c.claimed.Delivery.ID] == c { // the store may have given it out again already
		delete(l.claims, c.claimed.Delivery.ID)
	}
	if ln.claimed--; ln.claimed >= prefetch {
		l.extraClaims--
	}
	ln.health.forgetIfYielded(ln.claimed)
}

// cancel marks a delivery that is claimed, or is just being claimed, as cancelled: unless its attempt is in flight already, it is not sent.
func (l *lanes) cancel(id uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.claims[id]; c != nil {
		c.cancelled = true
	}
	for call := range l.calls {
		call.cancelled = append(call.cancelled, id) // the store may have answered already
	}
}

func (l *lanes) isCancelled(c *claim) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.cancelled
}
