package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"hookbolt/engine/send"
	"hookbolt/engine/transform"
)

// deliver carries out one claim: it renders, freezes, sends and records. ctx ends when no new attempt may begin. sends cuts off the
// attempts in flight.
func (e *Engine) deliver(ctx context.Context, sends *cutOff, c *claim) {
	d := &c.claimed.Delivery
	nextAt := d.NextAttemptAt
	defer func() {
		e.lanes.end(c, nextAt)
		if e.store.Webhooks().Get(d.WebhookID) == nil { // deleted meanwhile, perhaps before this attempt got a token
			e.webhookChanged(d.WebhookID)
		}
	}()

	if !c.awaitPass(ctx) {
		e.releaseClaims(ctx, []Delivery{*d})
		return
	}
	payload := c.claimed.Payload
	if d.Status == StatusScheduled {
		var err error
		if payload, err = e.freeze(sends.context(), c); payload == nil {
			nextAt = e.handleUnfrozen(ctx, c, err)
			return
		}
		c.claimed.Session, c.claimed.Payload = nil, nil // free its memory: it may be large, and the claim may wait for long
	}
	a, w, made := e.attempt(ctx, sends, c, payload)
	if !made {
		e.releaseClaims(ctx, []Delivery{*d})
		return
	}
	nextAt = e.record(ctx, c, a, w)
}

// handleUnfrozen handles a claim that freeze returned no payload for; err is the error of freeze. It returns when the delivery is due
// again; zero if it is not.
func (e *Engine) handleUnfrozen(ctx context.Context, c *claim, err error) time.Time {
	d := &c.claimed.Delivery
	switch {
	case err == nil: // dropped, filtered or parked: the claim has ended
		return time.Time{}
	case errors.Is(err, ErrNotSendable): // it may have been queued again meanwhile: check its lane again
		return d.NextAttemptAt
	case errors.Is(err, ErrFull), errors.Is(err, ErrTransient):
		sleep(ctx, fullRetry) // keep the claim meanwhile: the lane would claim it again at once
		e.releaseClaims(ctx, []Delivery{*d})
		return utcNow()
	case errors.Is(err, ErrUnavailable):
		return time.Time{}
	case errors.Is(err, transform.ErrNoWorker):
		e.observeTrouble(c, &Outcome{Trouble: send.TroubleProcesses, ErrorDetail: err.Error()})
		e.releaseClaims(ctx, []Delivery{*d})
		return utcNow()
	case ctx.Err() != nil: // its programs were cut off
		e.releaseClaims(ctx, []Delivery{*d})
		return d.NextAttemptAt
	}
	e.log.Error("a payload could not be rendered", "delivery", d.ID, "error", err)
	// Record a failed attempt: it is visible, and the retry schedule applies.
	return e.record(ctx, c, Attempt{Outcome: Outcome{StartedAt: utcNow(), Error: ErrorInternal,
		ErrorDetail: "the payload could not be built from the stored events"}}, e.store.Webhooks().Get(d.WebhookID))
}

// freeze builds the body of a claimed trigger and stores it. A nil body without an error means that there is nothing to send. With a
// nil error or ErrNotSendable and no body, the claim has ended.
func (e *Engine) freeze(ctx context.Context, c *claim) ([]byte, error) {
	d := &c.claimed.Delivery
	for events := 0; ; {
		w := e.webhookFor(c)
		if w == nil {
			e.releaseClaims(ctx, []Delivery{*d})
			return nil, ErrNotSendable
		}
		f, err := c.render(w, events)
		if err != nil {
			return nil, err
		}
		events = f.Events
		if f.Payload != nil && w.NeedsBuild() {
			began := time.Now()
			b, err := e.build(ctx, w, f.Payload)
			e.lanes.built(c, time.Since(began))
			if err := f.fill(b, err); err != nil {
				return nil, err
			}
			e.observeRun(c)
			if f.BuildError != "" && e.webhookFor(c) == nil { // paused meanwhile, perhaps for such failures, or mended
				e.releaseClaims(ctx, []Delivery{*d})
				return nil, ErrNotSendable
			}
		}
		var endFailure func(*Delivery, bool)
		f.Failure, endFailure = e.beginFailure(f.BuildError != "", w, d)
		done, err := e.store.Freeze(context.WithoutCancel(ctx), f)
		endFailure(&done.Delivery, err == nil && done.Delivery.Status == StatusFailed)
		e.observeStore(err)
		if errors.Is(err, ErrMoreEvents) {
			c.claimed.Session = done.Session
			continue
		}
		if err != nil {
			return nil, err
		}
		e.frozen(ctx, &f, &done)
		d.ContentType, d.URLValues = f.ContentType, f.URLValues
		return f.Payload, nil
	}
}

// render renders the payload of a claimed trigger for a webhook. The session has more events than before: it was read again.
func (c *claim) render(w *Webhook, before int) (Freeze, error) {
	f := Freeze{Delivery: c.claimed.Delivery, Webhook: w, At: utcNow()}
	if c.claimed.Session == nil { // a system event
		f.Payload = c.claimed.Payload
		return f, nil
	}
	events, err := c.claimed.Session.Events()
	switch {
	case err != nil:
		return f, err
	case len(events) <= before:
		return f, fmt.Errorf("the session has %d events, but not by its head", len(events))
	}
	f.Events = len(events)
	f.Payload, err = renderTriggered(&f.Delivery, events, w, f.At)
	return f, err
}

// frozen does what follows from a Freeze that was stored.
func (e *Engine) frozen(ctx context.Context, f *Freeze, done *Frozen) {
	for i := range done.Superseded {
		e.lanes.cancel(done.Superseded[i].ID)
		e.metrics.finish(StatusCancelled, 1)
	}
	e.lanes.wakeAt(done.Queued...)
	if f.Ends() {
		e.metrics.finish(done.Delivery.Status, 1)
	}
	if f.BuildError != "" {
		program, _, _ := strings.Cut(f.BuildError, ":") // what follows may quote data of the session
		e.log.Warn("a program of a webhook has failed; the delivery waits until it is mended", "delivery", f.Delivery.ID, "webhook", f.Webhook.ID, "program", program)
	}
	if f.Webhook.hasPrograms() && (f.Payload != nil || f.Ends()) { // else nothing was built
		e.observeBuilt(ctx, f)
	}
}

// attempt waits for the claim's turn and makes the attempt. w is the webhook that it was made for. made is false if no attempt was made,
// because it was cut off or because of a trouble of this machine: the delivery is due as before.
func (e *Engine) attempt(ctx context.Context, sends *cutOff, c *claim, payload []byte) (a Attempt, w *Webhook, made bool) {
	if !e.lanes.acquire(ctx, c) {
		return a, nil, false
	}
	defer e.lanes.release(c)
	sendCtx := sends.context()
	if w = e.webhookFor(c); w == nil {
		e.lanes.returnSlot(c)
		return a, nil, false
	}
	request := newRequest(w, &c.claimed.Delivery, payload, utcNow(), e.timeout(w))
	request.RetryAfterMax = e.config().Retry.RetryAfterMax
	if IsMailURL(w.URL) {
		request.Mail = e.config().OperationsMail.mail(payload)
	}
	request.MaySend = func() bool {
		now := e.webhookFor(c)
		return now != nil && now.Revision == w.Revision
	}
	outcome, err := e.sender().Send(sendCtx, request)
	if err != nil {
		if errors.Is(err, send.ErrWithdrawn) {
			e.lanes.returnSlot(c)
		}
		return a, nil, false
	}
	e.metrics.repeated(&outcome)
	e.observeTrouble(c, &outcome)
	if outcome.Trouble != "" {
		e.lanes.returnSlot(c)
		return a, nil, false
	}
	a = Attempt{Outcome: outcome, Probe: c.probe}
	c.health, c.notice = e.observeAttempt(sendCtx, c, w, &a)
	return a, w, true
}

// webhookFor returns the current webhook of a claimed delivery; nil if the delivery must not be sent, at least not now.
func (e *Engine) webhookFor(c *claim) *Webhook {
	w := e.store.Webhooks().Get(c.lane.id.WebhookID)
	if w == nil || e.lanes.isCancelled(c) || w.Paused && !c.lane.id.Test {
		return nil
	}
	if w.CancelledUpTo >= c.revision {
		return nil // cancelled since the claim: the store decides whether the delivery is covered
	}
	if !e.store.Mine(w.ID) {
		return nil
	}
	return w
}

// timeout returns the timeout of an attempt for a webhook.
func (e *Engine) timeout(w *Webhook) time.Duration {
	if w.Timeout != nil {
		return time.Duration(*w.Timeout)
	}
	return e.config().Timeout
}

// record stores an attempt and returns when the delivery is due again; zero if it is not. w is the webhook that the attempt was made for,
// nil if it was deleted. If the store has no room, or fails with a transient error, record repeats the call until it works or ctx ends: an
// attempt that is not recorded would be sent again.
func (e *Engine) record(ctx context.Context, c *claim, a Attempt, w *Webhook) time.Time {
	d := &c.claimed.Delivery
	policy := e.config().Retry
	if w != nil && w.RetrySchedule != nil {
		policy.Schedule = *w.RetrySchedule
	}
	now := utcNow()
	e.metrics.attempt(d, &a, e.lanes.suspended(d, &a))
	r := AttemptRecord{Delivery: *d, Attempt: a, Next: policy.After(&a, d, now, rand.Float64()), At: now, Webhook: w, Health: c.health, HealthNotice: c.notice}
	var endFailure func(*Delivery, bool)
	r.Failure, endFailure = e.beginFailure(r.Next.Status == StatusFailed, w, d)
	done, err := e.recordUntilStored(ctx, r)
	endFailure(&done.Delivery, err == nil && done.Moved && done.Delivery.Status == StatusFailed)
	e.lanes.wakeAt(done.Queued...)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotSendable), errors.Is(err, ErrUnavailable): // a failed store is reported elsewhere, once
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

// recordUntilStored repeats RecordAttempt while the store has no room or fails with a transient error, until ctx ends.
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
