package engine

import (
	"context"
	"errors"
	"fmt"
)

// CreateWebhook makes a webhook. The error is an InputErrors if a setting is missing or refused.
func (e *Engine) CreateWebhook(ctx context.Context, p WebhookPatch) (Webhook, error) {
	w := defaultWebhook()
	w.CreatedAt = utcNow()
	w.UpdatedAt = w.CreatedAt
	p.applyTo(&w)
	if w.URL == "" {
		return Webhook{}, InputErrors{{Field: "url", Detail: "is required: an http or https URL"}}
	}
	if w.Secret == "" {
		w.Secret = newSecret()
	}
	if err := e.checkAddress(&w); err != nil {
		return Webhook{}, err
	}
	return e.store.PutWebhook(ctx, w, false, nil)
}

// UpdateWebhook changes settings of a webhook. What waits and no longer fits is cancelled: none of it is sent after the call
// has returned.
func (e *Engine) UpdateWebhook(ctx context.Context, id uint32, p WebhookPatch) (Webhook, error) {
	return e.changeWebhook(ctx, id, func(w *Webhook) (bool, []Cancellation, error) {
		before := *w
		p.applyTo(w)
		w.UpdatedAt = utcNow()
		if w.URL != before.URL {
			if err := e.checkAddress(w); err != nil {
				return false, nil, err
			}
		}
		cancels := cancellations(&before, w)
		if len(cancels) > 0 {
			w.CancelledUpTo = before.Revision
		}
		return false, cancels, nil
	})
}

// RotateSecret gives a webhook its next secret. The present one signs beside it during the overlap, as earlier ones do until theirs
// end; if that makes more than three, the oldest stops at once. The error is an InputErrors if the secret is the present one: most
// likely it is the second time that somebody asks.
func (e *Engine) RotateSecret(ctx context.Context, id uint32, r Rotation) (Webhook, error) {
	if r.Secret == "" {
		r.Secret = newSecret()
	}
	return e.changeWebhook(ctx, id, func(w *Webhook) (bool, []Cancellation, error) {
		if r.Secret == w.Secret {
			return false, nil, InputErrors{{Field: "secret", Detail: "signs already: give another one, or none to have one made"}}
		}
		w.UpdatedAt = utcNow()
		w.rotate(r.Secret, r.Overlap, w.UpdatedAt)
		return false, nil, nil
	})
}

// DeleteWebhook removes a webhook. What waits for it is cancelled: none of it is sent after the call has returned.
func (e *Engine) DeleteWebhook(ctx context.Context, id uint32) error {
	_, err := e.changeWebhook(ctx, id, func(w *Webhook) (bool, []Cancellation, error) {
		return true, []Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: CancelAll}}, nil
	})
	return err
}

// changeWebhook reads a webhook, changes it and stores it, again if somebody else was faster.
func (e *Engine) changeWebhook(ctx context.Context, id uint32, change func(*Webhook) (deleted bool, cancels []Cancellation, err error)) (Webhook, error) {
	for {
		present := e.store.Webhooks().Get(id)
		if present == nil {
			return Webhook{}, fmt.Errorf("webhook %d: %w", id, ErrNotFound)
		}
		w := *present
		deleted, cancels, err := change(&w)
		if err != nil {
			return Webhook{}, err
		}
		stored, err := e.store.PutWebhook(ctx, w, deleted, cancels)
		if errors.Is(err, ErrRevision) {
			continue
		}
		if err != nil {
			return Webhook{}, err
		}
		e.lanes.refresh(e.store.Webhooks())
		if len(cancels) > 0 {
			select {
			case e.tidy <- struct{}{}:
			default:
			}
		}
		return stored, nil
	}
}

func (p WebhookPatch) applyTo(w *Webhook) {
	for _, apply := range p.apply {
		apply(w)
	}
}

// checkAddress refuses a URL that names a refused address in plain sight.
func (e *Engine) checkAddress(w *Webhook) error {
	if err := e.guard.checkEndpoint(w.URL); err != nil {
		return InputErrors{{Field: "url", Detail: err.Error()}}
	}
	return nil
}

// Webhook returns a webhook; ErrNotFound if there is none with that id.
func (e *Engine) Webhook(id uint32) (Webhook, error) {
	if w := e.store.Webhooks().Get(id); w != nil {
		return *w, nil
	}
	return Webhook{}, fmt.Errorf("webhook %d: %w", id, ErrNotFound)
}

// Webhooks returns all webhooks in the order of their ids. They are not to be changed.
func (e *Engine) Webhooks() []*Webhook { return e.store.Webhooks().All() }

// TestWebhook queues a sample payload for a webhook, even when it is paused or inactive.
func (e *Engine) TestWebhook(ctx context.Context, id uint32) (Delivery, error) {
	w, err := e.Webhook(id)
	if err != nil {
		return Delivery{}, err
	}
	now := utcNow()
	payload, err := samplePayload(&w, now)
	if err != nil {
		return Delivery{}, err
	}
	d, err := e.store.EnqueueTest(ctx, id, payload, now)
	if err == nil {
		e.lanes.note(Queued{d.Lane(), d.NextAttemptAt})
	}
	return d, err
}
