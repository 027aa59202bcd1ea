package engine

import (
	"context"
	"slices"
	"time"
)

// acquire waits for the claim's turn: a lane sends in the order of its claims. False means that the claim must be released: ctx has ended,
// or the lane must not send.
func (l *lanes) acquire(ctx context.Context, c *claim) bool {
	l.mu.Lock()
	if l.limitsLocked(c.lane, time.Now()).inFlight == 0 {
		l.mu.Unlock()
		return false
	}
	c.ready = true
	l.advanceLocked(c.lane)
	l.mu.Unlock()
	select {
	case ok := <-c.turn:
		return ok
	case <-ctx.Done():
	}
	l.mu.Lock()
	left := l.dequeueLocked(c)
	l.mu.Unlock()
	if !left && <-c.turn { // the turn came at the same moment
		l.release(c)
	}
	return false
}

// dequeueLocked removes a claim from its lane's queue. It returns false if the claim is not in the queue any more.
func (l *lanes) dequeueLocked(c *claim) bool {
	at := slices.Index(c.lane.readyQueue, c)
	if at < 0 {
		return false
	}
	c.lane.readyQueue = slices.Delete(c.lane.readyQueue, at, at+1)
	l.advanceLocked(c.lane)
	return true
}

// release ends an attempt, so that another one may begin.
func (l *lanes) release(c *claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := c.lane
	ln.progressAt = time.Now()
	if ln.sending--; ln.sending > 0 {
		l.extraSending--
	}
	l.advanceLocked(ln)
}

// advanceLocked sends the first claim of a lane's queue if it is ready and the limits allow it. A lane that has nothing in flight does not
// depend on the global limit. All other lanes take turns in what the global limit leaves.
func (l *lanes) advanceLocked(ln *lane) {
	if ln.sending == 0 {
		l.sendFirstLocked(ln)
	}
	l.waitForGlobalLocked(ln)
	for len(l.waitingForGlobal) > 0 && l.extraSending < l.maxExtra {
		first := l.waitingForGlobal[0]
		l.waitingForGlobal = slices.Delete(l.waitingForGlobal, 0, 1)
		first.waiting = false
		l.sendFirstLocked(first)
		l.waitForGlobalLocked(first)
	}
}

// waitForGlobalLocked queues a lane for the global limit if the lane could send one more.
func (l *lanes) waitForGlobalLocked(ln *lane) {
	if !ln.waiting && l.maySendLocked(ln) {
		ln.waiting = true
		l.waitingForGlobal = append(l.waitingForGlobal, ln)
	}
}

// sendFirstLocked sends the first claim of a lane's queue, if the lane may send.
func (l *lanes) sendFirstLocked(ln *lane) {
	if !l.maySendLocked(ln) {
		return
	}
	c := ln.readyQueue[0]
	l.reserveSlotLocked(ln, c)
	ln.readyQueue = slices.Delete(ln.readyQueue, 0, 1)
	ln.progressAt = time.Now()
	if ln.sending++; ln.sending > 1 {
		l.extraSending++
	}
	// A test does not wait for the next probe, but it shows as much about the endpoint.
	of := l.laneLocked(Lane{WebhookID: ln.id.WebhookID})
	c.probe, c.round, c.shrinks, c.throttled = of.health.Failing(), of.round, of.shrinks, of.health.throttledRate(time.Now())
	c.turn <- true
}

// releaseReadyLocked makes the ready claims of a lane be released: the lane must not send for now.
func (l *lanes) releaseReadyLocked(ln *lane) {
	ln.readyQueue = slices.DeleteFunc(ln.readyQueue, func(c *claim) bool {
		if c.ready {
			c.turn <- false
		}
		return c.ready
	})
}
