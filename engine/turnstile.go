package engine

import (
	"context"
	"slices"

	"github.com/google/uuid"
)

// turnstile lets the claims of one session and webhook pass one at a time: the first one is worked on, and the others wait until it has
// ended. Otherwise an older state of the session could reach the endpoint after a newer one. It is guarded by lanes.mu.
type turnstile []*claim

// turnstileKey is what a turnstile is for.
type turnstileKey struct {
	webhookID uint32
	sessionID uuid.UUID
}

// enterLocked adds a claim to its turnstile. It reports whether the claim is the first one.
func (l *lanes) enterLocked(c *claim) (first bool) {
	d := &c.claimed.Delivery
	if !d.Kind.OfSession() {
		return true
	}
	key := turnstileKey{d.WebhookID, d.SessionID}
	queue := append(l.turnstiles[key], c)
	l.turnstiles[key] = queue
	if first = len(queue) == 1; !first {
		c.pass = make(chan struct{})
	}
	return first
}

// leaveLocked removes a claim that has ended from its turnstile, and lets the next one pass.
func (l *lanes) leaveLocked(c *claim) {
	d := &c.claimed.Delivery
	key := turnstileKey{d.WebhookID, d.SessionID}
	queue := l.turnstiles[key]
	at := slices.Index(queue, c)
	switch {
	case at < 0:
		return
	case len(queue) == 1:
		delete(l.turnstiles, key)
		return
	}
	queue = slices.Delete(queue, at, at+1)
	l.turnstiles[key] = queue
	if at == 0 {
		next := queue[0]
		next.lane.readyQueue = append(next.lane.readyQueue, next)
		close(next.pass)
	}
}

// awaitPass waits until the claims before it, of the same session and webhook, have ended. It returns false if ctx ends first.
func (c *claim) awaitPass(ctx context.Context) bool {
	if c.pass == nil {
		return true
	}
	select {
	case <-c.pass:
		return true
	case <-ctx.Done():
		return false
	}
}
