package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hookbolt/engine/jsonread"
)

// ReplayScope says which deliveries a replay is about.
type ReplayScope string

// The scopes of spec.md, "HTTP API".
const (
	ReplayFailed  ReplayScope = "failed"  // those that have failed
	ReplayAny     ReplayScope = "any"     // those in any final state
	ReplayMissing ReplayScope = "missing" // complete ones that were never made, or that were cancelled
)

// Replay sends deliveries of a webhook again: those that were made from Since to Until and are in a final state, under their ids
// and with their bytes. ReplayMissing is about sessions that have finished in that time instead: what this webhook never had of them
// is built from their stored events. Samples are never replayed, nor what no longer fits the webhook's settings.
//
// Its JSON form is the one that is stored.
type Replay struct {
	WebhookID uint32      `json:"webhook_id"`
	Scope     ReplayScope `json:"scope"`
	// Since and Until are both inclusive. Zero means from the beginning, and until now.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// DryRun only counts.
	DryRun bool `json:"-"`
	// Count is how many deliveries it was about when it was asked for, Done how many of them have been queued so far.
	Count int64 `json:"count"`
	Done  int64 `json:"done"`
}

// ParseReplay reads a replay from a JSON object: status (failed, any or missing), and, if they are given, since, until and dry_run.
// The error is an InputErrors.
func ParseReplay(body []byte) (Replay, error) {
	var replay Replay
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		switch string(key) {
		case "status":
			scope := ReplayScope(r.Text())
			if !slices.Contains([]ReplayScope{ReplayFailed, ReplayAny, ReplayMissing}, scope) {
				r.Fail("must be failed, any or missing (got %q)", Excerpt(string(scope)))
			}
			replay.Scope = scope
		case "since":
			if !r.Null() {
				replay.Since = r.Time()
			}
		case "until":
			if !r.Null() {
				replay.Until = r.Time()
			}
		case "dry_run":
			replay.DryRun = !r.Null() && r.Bool()
		default:
			return false
		}
		return true
	})
	switch {
	case err != nil:
		return Replay{}, err
	case replay.Scope == "":
		return Replay{}, InputErrors{{Field: "status", Detail: "is required: failed, any or missing"}}
	}
	return replay, nil
}

// Replay starts a replay and returns it with its count; ErrNotFound if there is no such webhook, ErrConflict if it is switched off.
func (e *Engine) Replay(ctx context.Context, r Replay) (Replay, error) {
	if r.Until.IsZero() {
		r.Until = utcNow()
	}
	if r.Until.Before(r.Since) {
		return r, InputErrors{{Field: "until", Detail: "must not be before since; it is now if it is left out"}}
	}
	var err error
	if r.Count, err = e.store.Replay(ctx, r); err == nil && !r.DryRun {
		e.wakeMaintenance()
	}
	return r, err
}

// Webhook returns the webhook of a replay; ErrNotFound if there is none (any more), ErrConflict if it is switched off: nothing of the
// replay is to be sent.
func (r *Replay) Webhook(hooks *WebhookSet) (*Webhook, error) {
	w := hooks.Get(r.WebhookID)
	switch {
	case w == nil:
		return nil, fmt.Errorf("webhook %d: %w", r.WebhookID, ErrNotFound)
	case !w.Active:
		return nil, fmt.Errorf("%w: webhook %d is inactive", ErrConflict, r.WebhookID)
	}
	return w, nil
}

// IncludesSession tells whether a replay of what is missing is about a session, as far as its webhook w and the session itself go. Where the session
// has led to a complete delivery for w, Includes decides.
func (r *Replay) IncludesSession(head *SessionHead, w *Webhook) bool {
	return !head.FinishedAt.IsZero() && r.within(head.FinishedAt) && w.wants(KindComplete, head.Identity.ContentID)
}

// Includes tells whether a replay sends a delivery of its webhook w again. covered tells whether a cancellation covers the delivery, which
// counts as cancelled then: it will be by the time that the replay gets to it.
func (r *Replay) Includes(d *Delivery, w *Webhook, from Source, covered bool) bool {
	status := d.Status
	if covered && status.Waiting() {
		status = StatusCancelled
	}
	if !from.Frozen && !from.Session || d.Kind == KindTest || status.Waiting() || !w.wants(d.Kind, d.ContentID) {
		return false
	}
	switch r.Scope {
	case ReplayFailed:
		return status == StatusFailed && r.within(d.CreatedAt)
	case ReplayAny:
		return r.within(d.CreatedAt)
	}
	return status == StatusCancelled && d.Kind == KindComplete
}

func (r *Replay) within(t time.Time) bool { return !t.Before(r.Since) && !t.After(r.Until) }
