package engine

import (
	"context"
	"slices"
	"time"
)

// acquire waits until it is the claim's turn to be sent: a lane sends in the order of its claims. False means that it is to be
// given back: ctx has ended, or the lane is held.
func (l *lanes) acquire(ctx context.Context, c *claim) bool {
	l.mu.Lock()
	if l.limitLocked(c.lane, time.Now()) == 0 {
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
	if !left && <-c.turn { // its turn came at the same moment
		l.release(c)
	}
	return false
}

// dequeueLocked takes a claim out of its lane's queue, if it is still in it.
func (l *lanes) dequeueLocked(c *claim) bool {
	at := slices.Index(c.lane.readyQueue, c)
	if at < 0 {
		return false
	}
	c.lane.readyQueue = slices.Delete(c.lane.readyQueue, at, at+1)
	l.advanceLocked(c.lane)
	return true
}

// release ends an attempt: another one may begin.
func (l *lanes) release(c *claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := c.lane
	if ln.sending--; ln.sending > 0 {
		l.extraSending--
	}
	l.advanceLocked(ln)
}

// advanceLocked lets the first in a lane's queue be sent, if it is ready and the limits allow it. A lane that has nothing in flight
// depends on nobody; the others take turns in what the global limit leaves.
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

// waitForGlobalLocked puts a lane in the queue for what the global limit leaves, if it could send one more.
func (l *lanes) waitForGlobalLocked(ln *lane) {
	if !ln.waiting && l.maySendLocked(ln) {
		ln.waiting = true
		l.waitingForGlobal = append(l.waitingForGlobal, ln)
	}
}

func (l *lanes) sendFirstLocked(ln *lane) {
	if !l.maySendLocked(ln) {
		return
	}
	c := ln.readyQueue[0]
	l.reserveSlotLocked(ln, c)
	ln.readyQueue = slices.Delete(ln.readyQueue, 0, 1)
	if ln.sending++; ln.sending > 1 {
		l.extraSending++
	}
	// A test goes out at once, and tells as much of the endpoint as a probe.
	of := l.laneLocked(Lane{WebhookID: ln.id.WebhookID})
	c.probe = of.health.Failing()
	c.turn <- true
}

// releaseReadyLocked gives back what waits in a lane's queue: the lane is held, for now or for longer.
func (l *lanes) releaseReadyLocked(ln *lane) {
	ln.readyQueue = slices.DeleteFunc(ln.readyQueue, func(c *claim) bool {
		if c.ready {
			c.turn <- false
		}
		return c.ready
	})
}
