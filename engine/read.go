package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Session is what is known of a session.
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

// Preview builds the payload that a webhook would get for a session if it were sent now; with what had happened by asOf, if that is not
// zero. It is that of a complete session if the session had finished by then. Nothing is sent. ErrConflict means that the webhook is for
// another content.
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
		return nil, fmt.Errorf("%w: webhook %d is for content %s, and the session is of %s: it is not sent there", ErrConflict, w.ID, w.ContentID, content)
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

// Health is what the last attempts tell of a webhook's endpoint.
func (e *Engine) Health(webhookID uint32) Health { return e.lanes.healthOf(webhookID) }

// Delivery returns a delivery, its payload (nil while it is scheduled), and its attempts, oldest first.
func (e *Engine) Delivery(ctx context.Context, id uuid.UUID) (Delivery, []byte, []Attempt, error) {
	return e.store.Delivery(ctx, id)
}

// RequestHeader is what an attempt of a delivery would send at that time beside its payload, with "…" for credentials, as
// Attempt.RequestHeader tells it of one that was made. It asks for no token. The error is that of a secret that cannot sign.
func (e *Engine) RequestHeader(w *Webhook, d *Delivery, payload []byte, at time.Time) ([]HeaderField, error) {
	return e.sender().Preview(newRequest(w, d, payload, at, e.timeout(w)), at)
}

// Deliveries lists deliveries.
func (e *Engine) Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryPage, error) {
	return e.store.Deliveries(ctx, q)
}
