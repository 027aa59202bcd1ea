package httpapi

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"hookbolt/engine"
)

// delivery is a delivery in an answer.
type delivery struct {
	ID            uuid.UUID          `json:"id"`
	WebhookID     uint32             `json:"webhook_id"`
	SessionID     *uuid.UUID         `json:"session_id"` // null for a test
	Kind          engine.Kind        `json:"kind"`
	Status        engine.Status      `json:"status"`
	CreatedAt     instant            `json:"created_at"`
	DueAt         instant            `json:"due_at"`
	NextAttemptAt instant            `json:"next_attempt_at"`
	FrozenAt      instant            `json:"frozen_at"`
	FinishedAt    instant            `json:"finished_at"`
	AttemptsMade  int                `json:"attempts_made"`
	LastStatus    *int               `json:"last_status"`
	LastError     *engine.ErrorClass `json:"last_error"`
}

func showDelivery(d *engine.Delivery) delivery {
	return delivery{
		ID: d.ID, WebhookID: d.WebhookID, SessionID: orNull(d.SessionID), Kind: d.Kind, Status: d.Status,
		CreatedAt: instant(d.CreatedAt), DueAt: instant(d.DueAt), NextAttemptAt: instant(d.NextAttemptAt), FrozenAt: instant(d.FrozenAt),
		FinishedAt: instant(d.FinishedAt), AttemptsMade: d.Attempts, LastStatus: orNull(d.LastStatus), LastError: orNull(d.LastError),
	}
}

// showDeliveries never returns nil, which JSON would show as null.
func showDeliveries(list []engine.Delivery) []delivery {
	shown := make([]delivery, len(list))
	for i := range list {
		shown[i] = showDelivery(&list[i])
	}
	return shown
}

func (a *api) listDeliveries(r *http.Request, _ httprouter.Params) (any, error) {
	q := queryOf(r)
	ask := engine.DeliveryQuery{
		WebhookID: q.webhookID(), SessionID: q.uuid("session_id"), Status: q.status(), Since: q.time("since"), Until: q.time("until"),
		Limit: q.limit(), Cursor: q.cursor(),
	}
	if !ask.Until.IsZero() && ask.Until.Before(ask.Since) {
		q.refuse("until", "must not be before since")
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	found, err := a.engine.Deliveries(r.Context(), ask)
	if err != nil {
		return nil, err
	}
	return page[delivery]{showDeliveries(found.Items), orNull(found.NextCursor)}, nil
}

// deliveryDetail is a delivery with what was sent and what came of it.
type deliveryDetail struct {
	delivery
	// Payload is the frozen payload; null while there is none.
	Payload  json.RawMessage `json:"payload"`
	Attempts []attempt       `json:"attempts"`
}

type attempt struct {
	StartedAt instant `json:"started_at"`
	// DurationMS is in milliseconds, to the microsecond.
	DurationMS  float64            `json:"duration_ms"`
	Status      *int               `json:"status"`
	Error       *engine.ErrorClass `json:"error"`
	ErrorDetail *string            `json:"error_detail"`
	// Response is the beginning of the answer's body; encoding/json replaces what is not UTF-8 in it, also at its cut end.
	Response string `json:"response"`
}

func showAttempt(a *engine.Attempt) attempt {
	return attempt{
		StartedAt: instant(a.StartedAt), DurationMS: float64(a.Duration/time.Microsecond) / 1000, Status: orNull(a.Status), Error: orNull(a.Error),
		ErrorDetail: orNull(a.ErrorDetail), Response: string(a.Response),
	}
}

func (a *api) getDelivery(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	d, payload, attempts, err := a.engine.Delivery(r.Context(), id)
	if err != nil {
		return nil, err
	}
	answer := deliveryDetail{delivery: showDelivery(&d), Payload: payload, Attempts: make([]attempt, len(attempts))}
	for i := range attempts {
		answer.Attempts[i] = showAttempt(&attempts[i])
	}
	return answer, nil
}

func (a *api) retryDelivery(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	d, err := a.engine.Retry(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return showDelivery(&d), nil
}

func (a *api) cancelDelivery(r *http.Request, ps httprouter.Params) (any, error) {
	id, err := pathUUID(ps)
	if err != nil {
		return nil, err
	}
	d, err := a.engine.Cancel(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return showDelivery(&d), nil
}
