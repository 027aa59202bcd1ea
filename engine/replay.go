package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hookbolt/engine/jsonread"

	"github.com/google/uuid"
)

// ReplayScope says which deliveries a replay includes.
type ReplayScope string

// The scopes of spec.md, "HTTP API".
const (
	ReplayFailed   ReplayScope = "failed"   // failed ones
	ReplayAny      ReplayScope = "any"      // those in any final state
	ReplayFiltered ReplayScope = "filtered" // filtered ones: the filter, which may have changed, is asked again
	ReplayMissing  ReplayScope = "missing"  // complete ones that were never made, or were cancelled; the newest update of a session if there are some
)

// Replay sends deliveries of a webhook again, with the same ids and the same bytes: those that were created from Since to Until and are in
// a final state. ReplayMissing includes sessions that finished in that time instead: a payload that the webhook never got is rendered from
// the stored events. A replay never includes tests, nor deliveries that no longer fit the webhook's settings.
//
// Its JSON form is the stored one.
type Replay struct {
	WebhookID uint32      `json:"webhook_id"`
	Scope     ReplayScope `json:"scope"`
	// Error selects failed ones by Delivery.LastError; "" selects all.
	Error ErrorClass `json:"error,omitzero"`
	// Since and Until are both inclusive, in UTC. A zero Since means from the beginning, a zero Until means until now.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// DryRun only counts.
	DryRun bool `json:"-"`
	// Once is the request that starts it, if it has a key; see Store.Done. A dry run has no effect, and is not remembered.
	Once *Once `json:"-"`
	// Count is how many deliveries the replay included when it was started. Done is how many of them have been queued so far.
	Count int64 `json:"count"`
	Done  int64 `json:"done"`
}

// listed writes classes as a list.
func listed(classes []ErrorClass) string {
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = string(c)
	}
	return strings.Join(names, ", ")
}

// ParseReplay parses a replay from a JSON object: status (failed, filtered, any or missing), and optionally error, since, until and dry_run. The error is an
// InputErrors.
func ParseReplay(body []byte) (Replay, error) {
	var replay Replay
	err := parseObject(body, func(r *jsonread.Reader, key []byte) bool {
		switch string(key) {
		case "status":
			scope := ReplayScope(r.Text())
			if !slices.Contains([]ReplayScope{ReplayFailed, ReplayFiltered, ReplayAny, ReplayMissing}, scope) {
				r.Fail("must be failed, filtered, any or missing (got %q)", Excerpt(string(scope)))
			}
			replay.Scope = scope
		case "error":
			if r.Null() {
				break
			}
			class := ErrorClass(r.Text())
			if !slices.Contains(ErrorClasses, class) {
				r.Fail("must be the last_error of deliveries: %s (got %q)", listed(ErrorClasses), Excerpt(string(class)))
			}
			replay.Error = class
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
		return Replay{}, InputErrors{{Field: "status", Detail: "is required: failed, filtered, any or missing"}}
	case replay.Error != "" && replay.Scope != ReplayFailed:
		return Replay{}, InputErrors{{Field: "error", Detail: "selects failed deliveries: status must be failed"}}
	}
	return replay, nil
}

// Replay starts a replay and returns it with its count. ErrNotFound means that there is no such webhook, ErrConflict that it is inactive.
// The error is an InputErrors if Until is before Since.
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

// Webhook returns the webhook of a replay. ErrNotFound means that it was deleted, ErrConflict that it is inactive: nothing of the replay
// may be sent then.
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

// IncludesSession reports whether a replay of scope missing includes a session, by the session and its webhook w alone. If the session has
// a complete delivery for w already, Includes decides.
func (r *Replay) IncludesSession(head *SessionHead, w *Webhook) bool {
	return !head.FinishedAt.IsZero() && r.within(head.FinishedAt) && w.wants(KindComplete, head.Identity.ContentID)
}

// Includes reports whether a replay sends a delivery of its webhook w again. covered says whether a cancellation covers the delivery. Such
// a delivery counts as cancelled, because it is cancelled before the replay reaches it.
func (r *Replay) Includes(d *Delivery, w *Webhook, from Source, covered bool) bool {
	status := d.Status
	if covered && status.Waiting() {
		status = StatusCancelled
	}
	if !from.Frozen && !from.Session || d.Kind == KindTest || status.Waiting() || !w.wants(d.Kind, d.ContentID) {
		return false
	}
	if from.Overtaken || d.SupersededBy != uuid.Nil {
		return false // an older state of the session would arrive after a newer one
	}
	switch r.Scope {
	case ReplayFailed:
		return status == StatusFailed && r.within(d.CreatedAt) && (r.Error == "" || r.Error == d.LastError)
	case ReplayFiltered:
		return status == StatusFiltered && r.within(d.CreatedAt)
	case ReplayAny:
		return r.within(d.CreatedAt)
	}
	return status == StatusCancelled && (d.Kind == KindComplete || d.Kind == KindUpdate)
}

func (r *Replay) within(t time.Time) bool { return !t.Before(r.Since) && !t.After(r.Until) }
