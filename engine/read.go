package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Session returns a session, what is stored of it, and its stored deliveries. ErrNotFound means that nothing is stored of it.
func (e *Engine) Session(ctx context.Context, id uuid.UUID) (Session, SessionRecord, []Delivery, error) {
	record, deliveries, err := e.store.Session(ctx, id)
	if err != nil {
		return Session{}, SessionRecord{}, nil, err
	}
	events, err := record.Events()
	if err != nil {
		return Session{}, SessionRecord{}, nil, err
	}
	return Fold(events, time.Time{}), record, deliveries, nil
}

// Sessions returns one page of the sessions that a query selects.
func (e *Engine) Sessions(ctx context.Context, q SessionQuery) (SessionPage, error) {
	return e.store.Sessions(ctx, q)
}

// Preview renders the payload that a webhook would get for a session now, and sends nothing. If asOf is not zero, the payload holds what
// had happened by then. It is the payload of a complete session if the session had finished by then. ErrNotFound means that there is no
// such webhook or session, ErrConflict that the webhook does not get this session. The error is an InputErrors if nothing had happened by
// asOf.
func (e *Engine) Preview(ctx context.Context, webhookID uint32, sessionID uuid.UUID, asOf time.Time) ([]byte, error) {
	w, err := e.Webhook(webhookID)
	if err != nil {
		return nil, err
	}
	record, _, err := e.store.Session(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	if w.Operations {
		return nil, errNoSessions
	}
	if content := record.Head.Identity.ContentID; !w.wants(KindComplete, content) {
		return nil, fmt.Errorf("%w: webhook %d is for content %s, but the session has content %s", ErrConflict, w.ID, w.ContentID, content)
	}
	events, err := record.Events()
	if err != nil {
		return nil, err
	}
	s := Fold(events, asOf)
	if s.StartedAt.IsZero() {
		return nil, InputErrors{{Field: "as_of", Detail: "nothing of the session had happened by then"}}
	}
	kind := KindIncomplete
	if !s.FinishedAt.IsZero() {
		kind = KindComplete
	}
	return Render(s, &w, kind, utcNow())
}

// Health returns the health of a webhook's endpoint.
func (e *Engine) Health(webhookID uint32) Health { return e.lanes.healthOf(webhookID) }

// Delivery returns a delivery, its payload (nil while it is scheduled), and its attempts, oldest first.
func (e *Engine) Delivery(ctx context.Context, id uuid.UUID) (Delivery, []byte, []Attempt, error) {
	return e.store.Delivery(ctx, id)
}

// RequestHeader returns the header that an attempt of a delivery would send at that time, with "…" for credentials, as
// Attempt.RequestHeader returns it for a past attempt. It fetches no token. It fails if a secret cannot sign.
func (e *Engine) RequestHeader(w *Webhook, d *Delivery, payload []byte, at time.Time) ([]HeaderField, error) {
	return e.sender().Preview(newRequest(w, d, payload, at, e.timeout(w)), at)
}

// Deliveries returns one page of the deliveries that a query selects.
func (e *Engine) Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryPage, error) {
	return e.store.Deliveries(ctx, q)
}
