package engine

import (
	"context"
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

// Delivery returns a delivery, its payload (nil while it is scheduled), and its attempts, oldest first.
func (e *Engine) Delivery(ctx context.Context, id uuid.UUID) (Delivery, []byte, []Attempt, error) {
	return e.store.Delivery(ctx, id)
}

// RequestHeader returns the header that an attempt of a delivery would send at that time, with "…" for credentials, as
// Attempt.RequestHeader returns it for a past attempt. It fetches no token. It fails if a secret cannot sign.
func (e *Engine) RequestHeader(w *Webhook, d *Delivery, payload []byte, at time.Time) ([]HeaderField, error) {
	return e.sender().Preview(newRequest(w, d, payload, at, e.timeout(w)), at)
}

// RequestURL returns the URL that an attempt of a delivery would be sent to, with its values. The error says which value does not fit.
func (e *Engine) RequestURL(w *Webhook, d *Delivery) (string, error) {
	return newRequest(w, d, nil, utcNow(), e.timeout(w)).Target()
}

// Deliveries returns one page of the deliveries that a query selects.
func (e *Engine) Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryPage, error) {
	return e.store.Deliveries(ctx, q)
}
