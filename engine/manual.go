package engine

import (
	"context"

	"github.com/google/uuid"
)

// Retry makes a delivery due now. ErrNotFound means that there is none with that id, ErrConflict that it cannot be sent; see
// Delivery.Requeue.
func (e *Engine) Retry(ctx context.Context, id uuid.UUID) (Delivery, error) {
	d, err := e.store.Reschedule(ctx, id, RescheduleNow, utcNow())
	if err == nil {
		e.lanes.wakeAt(Queued{d.Lane(), d.NextAttemptAt})
		e.lanes.probeNow(d.WebhookID)
	}
	return d, err
}

// Cancel cancels a waiting delivery. ErrNotFound means that there is none with that id, ErrConflict that it is not waiting. An attempt in
// flight is still recorded.
func (e *Engine) Cancel(ctx context.Context, id uuid.UUID) (Delivery, error) {
	d, err := e.store.Reschedule(ctx, id, RescheduleNever, utcNow())
	if err == nil {
		e.lanes.cancel(id)
		e.metrics.finish(StatusCancelled, 1)
	}
	return d, err
}
