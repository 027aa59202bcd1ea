package engine

import (
	"context"

	"github.com/google/uuid"
)

// Retry makes a delivery due now. ErrConflict means that its webhook is gone or switched off.
func (e *Engine) Retry(ctx context.Context, id uuid.UUID) (Delivery, error) {
	d, err := e.store.Reschedule(ctx, id, RescheduleNow, utcNow())
	if err == nil {
		e.lanes.wakeAt(Queued{d.Lane(), d.NextAttemptAt})
		e.lanes.probeNow(d.WebhookID)
	}
	return d, err
}

// Cancel ends a delivery that waits; ErrConflict means that it does not. An attempt that is under way is still recorded.
func (e *Engine) Cancel(ctx context.Context, id uuid.UUID) (Delivery, error) {
	d, err := e.store.Reschedule(ctx, id, RescheduleNever, utcNow())
	if err == nil {
		e.lanes.cancel(id)
		e.metrics.finish(StatusCancelled, 1)
	}
	return d, err
}
