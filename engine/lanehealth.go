package engine

import "time"

// endpointHealth is what a lane knows of its webhook's endpoint.
type endpointHealth struct {
	Health
	// url and resumedAt are those of the webhook that the health is about: with others it begins anew (ResetsHealth).
	url       string
	resumedAt time.Time
	// yielded tells that the lane is given up to another process, or will be when no claim is left: then the health is the other's.
	yielded bool
}

// forgetIfYielded drops the health of a lane that was given up, when no claim is left.
func (h *endpointHealth) forgetIfYielded(claimed int) {
	if h.yielded && claimed == 0 {
		h.Health = Health{}
	}
}

// isAbout tells whether the health is about the endpoint that a webhook has.
func (h *endpointHealth) isAbout(w *Webhook) bool {
	return h.url == w.URL && h.resumedAt.Equal(w.ResumedAt)
}

// own sets the health of a webhook whose lanes this process owns from now on.
func (l *lanes) own(w *Webhook, h Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = nil
	l.order = max(l.order, h.Order)
	ln := l.laneLocked(Lane{WebhookID: w.ID})
	if rate := l.limits(ln.id).rate; rate > 0 && ln.health.yielded { // the owner in between may just have sent
		ln.nextSlot = later(ln.nextSlot, time.Now().Add(rateInterval(rate)))
	}
	ln.health = endpointHealth{Health: h, url: w.URL, resumedAt: w.ResumedAt}
}

// yield gives up the lanes of a webhook: what waits in their queues is given back.
func (l *lanes) yield(webhookID uint32) {
	l.refresh(webhookID, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil {
		ln.health.yielded = true
		ln.health.forgetIfYielded(ln.claimed)
	}
}

// yieldAll gives up all lanes, of which nothing is claimed any more.
func (l *lanes) yieldAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.byID {
		ln.health.yielded = true
		ln.health.forgetIfYielded(ln.claimed)
	}
}

// attempted moves the health of a webhook's endpoint on after an attempt that has ended at now, and lets its lane go by it. w is the
// webhook as it is. It returns what the health was before and what it is.
func (l *lanes) attempted(w *Webhook, a *Attempt, now time.Time) (before, after Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.laneLocked(Lane{WebhookID: w.ID})
	l.beginHealthLocked(ln, w)
	before = ln.health.Health
	l.setHealthLocked(ln, before.After(a, now))
	return before, ln.health.Health
}

// resetHealth forgets what is known of a webhook's endpoint after a change that ResetsHealth.
func (l *lanes) resetHealth(w *Webhook) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beginHealthLocked(l.laneLocked(Lane{WebhookID: w.ID}), w)
}

// beginHealthLocked begins the health of a lane anew, unless it is about the webhook's present endpoint: an attempt may have ended
// before whoever has changed the webhook could say so.
func (l *lanes) beginHealthLocked(ln *lane, w *Webhook) {
	if ln.health.isAbout(w) {
		return
	}
	ln.health.url, ln.health.resumedAt = w.URL, w.ResumedAt
	l.setHealthLocked(ln, Health{})
}

func (l *lanes) setHealthLocked(ln *lane, h Health) {
	was := ln.health.Health
	l.order++
	h.Order = l.order
	ln.health.Health = h
	if h.Failing() != was.Failing() {
		l.open = nil
	}
	switch {
	case h.Failing():
		if l.limitLocked(ln, time.Now()) == 0 {
			l.releaseReadyLocked(ln)
		}
	case was.Failing():
		l.recheckLocked(ln)
	}
}

// probeNow lets a failing endpoint's next probe begin at once: somebody has done something about it.
func (l *lanes) probeNow(webhookID uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil && ln.health.Failing() {
		ln.health.NextProbeAt = time.Now().UTC().Round(0)
		l.recheckLocked(ln)
	}
}

// healthOf returns what is known of a webhook's endpoint.
func (l *lanes) healthOf(webhookID uint32) Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln := l.byID[Lane{WebhookID: webhookID}]; ln != nil {
		return ln.health.Health
	}
	return Health{}
}
