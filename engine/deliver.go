package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// deliver takes one claimed delivery as far as it goes: rendered, frozen, sent, recorded. ctx ends when no new attempt may begin,
// sendCtx when those in flight are cut off.
func (e *Engine) deliver(ctx, sendCtx context.Context, c *claim) {
	d := &c.claimed.Delivery
	nextAt := d.NextAttemptAt
	defer func() { e.lanes.end(c, nextAt) }()

	payload := c.claimed.Payload
	if c.claimed.Session != nil {
		var err error
		if payload, err = e.freeze(sendCtx, c); payload == nil {
			nextAt = e.handleUnfrozen(ctx, c, err)
			return
		}
		c.claimed.Session = nil // which may be large, and the claim may wait for long
	}
	a, w, made := e.attempt(ctx, sendCtx, c, payload)
	if !made {
		e.releaseClaims(ctx, []Delivery{*d})
		return
	}
	nextAt = e.record(ctx, c, a, w)
}

// handleUnfrozen deals with a claim that has no payload, and why, and returns when its delivery is due again; zero if it is not.
func (e *Engine) handleUnfrozen(ctx context.Context, c *claim, err error) time.Time {
	d := &c.claimed.Delivery
	switch {
	case err == nil: // not to be sent: the claim has ended
		return time.Time{}
	case errors.Is(err, ErrNotSendable): // the same, but it may have been queued again meanwhile: look
		return d.NextAttemptAt
	case errors.Is(err, ErrFull), errors.Is(err, ErrTransient):
		sleep(ctx, fullRetry) // with its claim: a lane that has no room for more would take it up again at once
		e.releaseClaims(ctx, []Delivery{*d})
		return utcNow()
	case errors.Is(err, ErrUnavailable):
		return time.Time{}
	}
	e.log.Error("a payload could not be rendered", "delivery", d.ID, "error", err)
	// As a failed attempt, so that it shows and is tried again, but not at once.
	return e.record(ctx, c, Attempt{Outcome: Outcome{StartedAt: utcNow(), Error: ErrorInternal,
		ErrorDetail: "the payload could not be built from the stored events"}}, e.store.Webhooks().Get(d.WebhookID))
}

// freeze renders the payload of a trigger and stores it. It returns no payload if there is nothing to send: with a nil error or
// ErrNotSendable the claim has ended.
func (e *Engine) freeze(ctx context.Context, c *claim) ([]byte, error) {
	d := &c.claimed.Delivery
	w := e.store.Webhooks().Get(d.WebhookID)
	if w == nil {
		e.releaseClaims(ctx, []Delivery{*d})
		return nil, ErrNotSendable
	}
	events, err := c.claimed.Session.Events()
	if err != nil {
		return nil, err
	}
	now := utcNow()
	payload, err := renderTriggered(d, events, w, now)
	if err != nil {
		return nil, err
	}
	err = e.store.Freeze(context.WithoutCancel(ctx), Freeze{Delivery: *d, Payload: payload, At: now})
	e.observeStore(err)
	if err != nil {
		return nil, err
	}
	return payload, nil
}

// attempt waits for a claim's turn and makes the attempt; w is the webhook that it was made for. made is false if there was none,
// or one that was cut off: the delivery is as due as before.
func (e *Engine) attempt(ctx, sendCtx context.Context, c *claim, payload []byte) (a Attempt, w *Webhook, made bool) {
	if !e.lanes.acquire(ctx, c) {
		return a, nil, false
	}
	defer e.lanes.release(c)
	if w = e.webhookFor(c); w == nil {
		e.lanes.returnSlot(c)
		return a, nil, false
	}
	outcome, err := e.sender().Send(sendCtx, newRequest(w, &c.claimed.Delivery, payload, utcNow(), e.timeout(w)))
	if err != nil {
		return a, nil, false
	}
	a = Attempt{Outcome: outcome, Probe: c.probe}
	c.health, c.notice = e.observeAttempt(sendCtx, w, &a)
	return a, w, true
}

// webhookFor returns the webhook to send a claimed delivery to as it is now; nil if it is not to be sent, at least not now.
func (e *Engine) webhookFor(c *claim) *Webhook {
	w := e.store.Webhooks().Get(c.lane.id.WebhookID)
	if w == nil || e.lanes.isCancelled(c) || w.Paused && !c.lane.id.Test {
		return nil
	}
	if w.CancelledUpTo >= c.revision {
		return nil // since it was claimed: the store will know whether it is covered
	}
	if !e.store.Mine(w.ID) {
		return nil
	}
	return w
}

func (e *Engine) timeout(w *Webhook) time.Duration {
	if w.Timeout != nil {
		return time.Duration(*w.Timeout)
	}
	return e.config().Timeout
}

// record stores an attempt and returns when the delivery is due again; zero if it is not. w is the webhook that it was made for. Where
// the store has no room, or fails for a moment, it is tried until it works, or ctx ends: what was sent must not be sent again for want of a
// record.
func (e *Engine) record(ctx context.Context, c *claim, a Attempt, w *Webhook) time.Time {
	d := &c.claimed.Delivery
	policy := e.config().Retry
	if w != nil && w.RetrySchedule != nil {
		policy.Schedule = *w.RetrySchedule
	}
	now := utcNow()
	e.metrics.attempt(d, &a)
	if e.store.Webhooks().Get(d.WebhookID) == nil { // gone meanwhile, perhaps before this was counted
		e.metrics.history.forget(d.WebhookID)
	}
	done, err := e.recordUntilStored(ctx, AttemptRecord{Delivery: *d, Attempt: a, Next: policy.After(&a, d.Tries+1, now, rand.Float64()),
		At: now, Webhook: w, Health: c.health, HealthNotice: c.notice})
	e.lanes.wakeAt(done.Queued...)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotSendable), errors.Is(err, ErrUnavailable): // whoever sees the store fail says so, once
		return time.Time{}
	default:
		e.log.Error("an attempt could not be recorded; it is repeated after the next start", "delivery", d.ID, "error", err)
		return time.Time{}
	}
	after := &done.Delivery
	if done.Moved && !after.Status.Waiting() {
		e.metrics.finish(after.Status, 1)
	}
	if !a.Delivered() && after.Status.Waiting() {
		e.metrics.history.retried()
	}
	if after.Status == StatusFailed {
		e.log.Warn("delivery failed for good", "delivery", d.ID, "webhook", d.WebhookID, "attempts", after.Attempts, "error_class", a.Error)
	}
	return after.NextAttemptAt
}

func (e *Engine) recordUntilStored(ctx context.Context, r AttemptRecord) (Recorded, error) {
	for {
		done, err := e.store.RecordAttempt(context.WithoutCancel(ctx), r)
		e.observeStore(err)
		wait := transientRetry
		switch {
		case errors.Is(err, ErrFull):
			wait = fullRetry
		case !errors.Is(err, ErrTransient):
			return done, err
		}
		if !sleep(ctx, wait) {
			return done, err
		}
	}
}
