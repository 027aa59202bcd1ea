package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"hookbolt/engine/send"
)

// NewWebhook returns a webhook with the given settings and the defaults of all others. It is not stored. Its Secret is "" unless it is
// among the settings. The error is an InputErrors if a setting is missing, or conflicts with another one.
func NewWebhook(p WebhookPatch) (Webhook, error) {
	w := DefaultWebhook()
	if _, err := p.applyTo(&w); err != nil {
		return Webhook{}, err
	}
	if w.URL == "" {
		return Webhook{}, InputErrors{{Field: "url", Detail: "is required: an http or https URL"}}
	}
	return w, w.checkCredentials()
}

// CreateWebhook creates a webhook. The error is an InputErrors if a setting is missing or refused.
func (e *Engine) CreateWebhook(ctx context.Context, p WebhookPatch) (Webhook, error) {
	w, err := NewWebhook(p)
	if err != nil {
		return Webhook{}, err
	}
	w.CreatedAt = utcNow()
	w.UpdatedAt = w.CreatedAt
	if w.Secret == "" {
		w.Secret = send.NewSecret()
	}
	if err := e.checkSettings(ctx, &w, &Webhook{}); err != nil {
		return Webhook{}, err
	}
	changed, err := e.store.PutWebhook(ctx, WebhookChange{Webhook: w, Once: p.once})
	return changed.Webhook, err
}

// WebhookUpdate is what a change of settings has made of a webhook.
type WebhookUpdate struct {
	Webhook
	// Dropped are the paths of the credentials that the webhook did not take along to another host, such as "headers.X-Api-Key".
	Dropped []string
	// Parked is how many deliveries wait for its programs to be mended; see Delivery.Parked. It is set if the change is one of what is built.
	Parked int64
}

// UpdateWebhook changes settings of a webhook. If its URL moves to another host, it loses the credentials that the patch does not give.
// Waiting deliveries that no longer fit are cancelled: none of them is sent after the call returns. A patch that changes nothing stores
// nothing, so the webhook keeps its Revision and UpdatedAt. The error is an InputErrors if a setting is refused. ErrNotFound means that there
// is no such webhook, ErrConflict and ErrPrecondition that it is not of the revision, or has not the tag, that the patch is for.
func (e *Engine) UpdateWebhook(ctx context.Context, id uint32, p WebhookPatch) (WebhookUpdate, error) {
	return e.updateWebhook(ctx, id, p, e.checkOperations)
}

// updateWebhook is UpdateWebhook with a check of the caller's own.
func (e *Engine) updateWebhook(ctx context.Context, id uint32, p WebhookPatch, check func(w, before *Webhook) error) (WebhookUpdate, error) {
	var before Webhook
	var dropped []string
	after, err := e.changeWebhook(ctx, id, func(w *Webhook) (WebhookChange, error) {
		if err := p.fits(w); err != nil {
			return WebhookChange{}, err
		}
		before = *w
		var err error
		if dropped, err = p.applyTo(w); err != nil {
			return WebhookChange{}, err
		}
		if w.equals(&before) {
			return WebhookChange{Unchanged: true}, nil
		}
		w.UpdatedAt = utcNow()
		if err := cmp.Or(check(w, &before), e.checkSettings(ctx, w, &before)); err != nil {
			return WebhookChange{}, err
		}
		c := WebhookChange{Cancels: Cancellations(&before, w)}
		if len(c.Cancels) > 0 {
			w.CancelledUpTo = before.Revision
		}
		if before.Paused && !w.Paused {
			w.ResumedAt = w.UpdatedAt
		}
		if w.Paused && !before.Paused {
			c.Notice = pausedNotice(w, pauseByHand, w.UpdatedAt)
		}
		return c, nil
	})
	if err != nil {
		return WebhookUpdate{}, err
	}
	if after.Paused && !before.Paused {
		e.metrics.pauses.WithLabelValues(string(pauseByHand)).Inc()
	}
	e.lanes.probeNow(id) // the change may have mended the endpoint; a repeated change says that somebody has
	update := WebhookUpdate{Webhook: after, Dropped: dropped}
	if !before.sameBuild(&after) {
		stats, err := e.store.Stats(ctx, utcNow(), false)
		if err != nil {
			e.log.Warn("the deliveries that wait for a mended program could not be counted", "webhook", id, "error", err)
		}
		update.Parked = stats.Webhooks[id].Parked
	}
	return update, nil
}

// RotateSecret gives a webhook its next secret, or key pair. The current one signs beside it during the overlap. Earlier ones sign until their
// own overlaps end. If there were more than MaxSecrets, the oldest stops at once. The error is an InputErrors if the secret is the current
// one, as the call is most likely a repeated one, or if the webhook has none of that name. ErrNotFound means that there is no such webhook,
// ErrPrecondition that it has none of the tags.
func (e *Engine) RotateSecret(ctx context.Context, id uint32, r Rotation) (Webhook, error) {
	r = r.made()
	return e.changeWebhook(ctx, id, func(w *Webhook) (WebhookChange, error) {
		if err := w.fitsTag(r.IfTag); err != nil {
			return WebhookChange{}, err
		}
		if err := r.check(w, w.Operations && e.config().OperationsSecret != ""); err != nil {
			return WebhookChange{}, err
		}
		w.UpdatedAt = utcNow()
		r.apply(w, w.UpdatedAt)
		return WebhookChange{Once: r.Once}, nil
	})
}

// DeleteWebhook deletes a webhook. Its waiting deliveries are cancelled: none of them is sent after the call returns. ErrNotFound means
// that there is no such webhook, ErrConflict that it is the operations webhook, which the configuration makes.
func (e *Engine) DeleteWebhook(ctx context.Context, id uint32) error {
	return e.DeleteWebhookIfTag(ctx, id, nil)
}

// DeleteWebhookIfTag is DeleteWebhook for a webhook with one of these tags; see WebhookPatch.IfTag. The error of another one is
// ErrPrecondition.
func (e *Engine) DeleteWebhookIfTag(ctx context.Context, id uint32, tags []string) error {
	if w := e.store.Webhooks().Get(id); w != nil && w.Operations {
		return fmt.Errorf("%w: webhook %d is created by %s; remove that setting to delete it", ErrConflict, id, operationsSetting(w.URL))
	}
	return e.deleteWebhook(ctx, id, tags)
}

func (e *Engine) deleteWebhook(ctx context.Context, id uint32, tags []string) error {
	_, err := e.changeWebhook(ctx, id, func(w *Webhook) (WebhookChange, error) {
		if err := w.fitsTag(tags); err != nil {
			return WebhookChange{}, err
		}
		return WebhookChange{Deleted: true, Cancels: []Cancellation{{WebhookID: w.ID, Revision: w.Revision, Scope: CancelAll}}}, nil
	})
	return err
}

// errNoChange is returned by a change that changes nothing.
var errNoChange = errors.New("no change")

// changeWebhook reads a webhook, changes it and stores it, and starts over if somebody else has changed it meanwhile. change changes the
// webhook in place and returns what else to store.
func (e *Engine) changeWebhook(ctx context.Context, id uint32, change func(*Webhook) (WebhookChange, error)) (Webhook, error) {
	for {
		current := e.store.Webhooks().Get(id)
		if current == nil {
			if err := e.isMissing(ctx, id); err != nil {
				return Webhook{}, err
			}
			continue
		}
		w := *current
		c, err := change(&w)
		if err != nil {
			return Webhook{}, err
		}
		c.Webhook = w
		changed, err := e.store.PutWebhook(ctx, c)
		if errors.Is(err, ErrRevision) {
			continue
		}
		if err != nil {
			return Webhook{}, err
		}
		if c.Unchanged {
			return w, nil
		}
		e.webhookChanged(id)
		e.lanes.wakeAt(changed.Queued...)
		if len(c.Cancels) > 0 {
			e.wakeMaintenance()
		}
		return changed.Webhook, nil
	}
}

// isMissing returns ErrNotFound if there is no such webhook, and nil if this process has just learned that there is one: it may have been made elsewhere.
func (e *Engine) isMissing(ctx context.Context, id uint32) error {
	missing := fmt.Errorf("webhook %d: %w", id, ErrNotFound)
	if id == 0 { // a store would make one
		return missing
	}
	_, err := e.store.PutWebhook(ctx, WebhookChange{Webhook: Webhook{ID: id}, Unchanged: true})
	if errors.Is(err, ErrRevision) && e.store.Webhooks().Get(id) != nil {
		return nil
	}
	return cmp.Or(err, missing)
}

// webhookChanged applies a change of a webhook, made here or elsewhere, to what this process keeps in memory: lanes, tokens, connections.
func (e *Engine) webhookChanged(id uint32) {
	hooks := e.store.Webhooks()
	w := hooks.Get(id)
	if w != nil {
		e.lanes.resetHealth(w)
	}
	e.lanes.refresh(id, w == nil)
	if w == nil {
		e.sender().ForgetToken(tokenKey(id))
		e.metrics.history.forget(id)
		e.unbuilt.forget(id)
	}
	e.sender().CloseUnused(usedConnections(hooks))
}

// checkSettings refuses settings that conflict. It checks addresses and files only if they have changed: an address that the configuration no
// longer allows, or a certificate that has expired, must not keep other settings from being changed.
func (e *Engine) checkSettings(ctx context.Context, w, before *Webhook) error {
	if err := cmp.Or(w.checkCredentials(), e.checkBuild(ctx, w, before)); err != nil {
		return err
	}
	if err := e.checkTLS(w, before); err != nil {
		return err
	}
	if w.URL == before.URL && slices.Equal(w.AllowNetworks, before.AllowNetworks) && w.tokenURL() == before.tokenURL() {
		return nil
	}
	return e.checkAddresses(w)
}

// Current returns nil if Webhook and Webhooks know all changes that were complete when it was called, also at other processes; see Store.Current.
func (e *Engine) Current(ctx context.Context) error { return e.store.Current(ctx) }

// Webhook returns a webhook; ErrNotFound means that there is none with that id.
func (e *Engine) Webhook(id uint32) (Webhook, error) {
	if w := e.store.Webhooks().Get(id); w != nil {
		return *w, nil
	}
	return Webhook{}, fmt.Errorf("webhook %d: %w", id, ErrNotFound)
}

// Webhooks returns all webhooks in the order of their ids. They must not be changed.
func (e *Engine) Webhooks() []*Webhook { return e.store.Webhooks().All() }

// TestWebhook queues a test delivery for a webhook, even if the webhook is paused or inactive. ErrNotFound means that there is no such
// webhook.
func (e *Engine) TestWebhook(ctx context.Context, id uint32) (Delivery, error) {
	return e.TestWebhookOnce(ctx, id, nil)
}

// TestWebhookOnce is TestWebhook for a request with a key; see BeginOnce.
func (e *Engine) TestWebhookOnce(ctx context.Context, id uint32, o *Once) (Delivery, error) {
	w, err := e.Webhook(id)
	if err != nil {
		return Delivery{}, err
	}
	now := utcNow()
	b, err := e.buildTest(ctx, &w, now)
	if err != nil {
		return Delivery{}, err
	}
	d, err := e.store.Enqueue(ctx, Enqueue{WebhookID: id, Kind: KindTest, Payload: b.Body, Shaped: b.Shaped, ContentType: b.ContentType, URLValues: b.URLValues, At: now, Once: o})
	if err == nil {
		e.lanes.wakeAt(Queued{d.Lane(), d.NextAttemptAt})
	}
	return d, err
}
