package engine

import (
	"context"
	"errors"
	"time"
)

// maintain carries out the background work until ctx ends, while this process is the keeper.
func (e *Engine) maintain(ctx context.Context) {
	for ctx.Err() == nil {
		if !e.keeper.Load() {
			select {
			case <-ctx.Done():
			case <-e.maintenanceWake:
			}
			continue
		}
		now := utcNow()
		done, err := e.store.Maintain(ctx, now, e.config().Retention)
		e.metrics.finish(StatusCancelled, done.Cancelled)
		e.metrics.removed("age", done.Expired)
		e.metrics.removed("size", done.Evicted)
		e.lanes.wakeAt(done.Queued...)
		e.reportDamaged(done.Damaged)
		e.resumeErasures(done.Erasures)
		if err != nil {
			done.Next = now.Add(time.Minute)
			switch {
			case errors.Is(err, ErrFull), errors.Is(err, ErrTransient):
				done.Next = now.Add(fullRetry)
			case ctx.Err() == nil && !errors.Is(err, ErrUnavailable):
				e.log.Error("background work failed", "error", err)
			}
		}
		// The pause between two steps lets other callers use the writer.
		select {
		case <-ctx.Done():
		case <-e.maintenanceWake:
		case <-time.After(max(5*time.Millisecond, done.Next.Sub(now))):
		}
	}
}

// reportDamaged logs and counts records that could not be read.
func (e *Engine) reportDamaged(damaged []error) {
	for _, err := range damaged {
		e.metrics.damaged.Inc()
		e.log.Error("a damaged record was set aside; run \"hookbolt check\" for details", "error", err)
	}
}

// wakeMaintenance wakes maintain, because a change has caused background work.
func (e *Engine) wakeMaintenance() {
	select {
	case e.maintenanceWake <- struct{}{}:
	default:
	}
}
