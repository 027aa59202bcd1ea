package engine_test

import (
	"context"
	"hookbolt/engine"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// slowStore takes its time, before and after, so that what is simultaneous otherwise overlaps in every way. Its background work
// stands still until stalled says so, so that there is time for something to happen to a job before it is carried out.
type slowStore struct {
	engine.Store
	max     time.Duration
	stalled func() time.Time
}

func (s slowStore) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	asked := now
	for wait := time.Until(s.stalled()); wait > 0; wait = time.Until(s.stalled()) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return engine.Maintained{}, ctx.Err()
		}
	}
	now = time.Now().UTC().Round(0)
	m, err := s.Store.Maintain(ctx, now, r)
	m.Next = m.Next.Add(asked.Sub(now)) // the engine counts from when it asked
	return m, err
}

func (s slowStore) wait() {
	if s.max == 0 {
		return
	}
	if n := rand.Int64N(int64(s.max) * 2); n < int64(s.max) {
		time.Sleep(time.Duration(n))
	}
}

func (s slowStore) AppendEvents(ctx context.Context, events []engine.Event, decide engine.Decide) ([]engine.Queued, error) {
	s.wait()
	defer s.wait()
	return s.Store.AppendEvents(ctx, events, decide)
}

func (s slowStore) TakeDue(ctx context.Context, now time.Time, rooms []engine.LaneRoom) ([]engine.LaneTake, error) {
	s.wait()
	defer s.wait()
	return s.Store.TakeDue(ctx, now, rooms)
}

func (s slowStore) Freeze(ctx context.Context, f engine.Freeze) error {
	s.wait()
	defer s.wait()
	return s.Store.Freeze(ctx, f)
}

func (s slowStore) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Delivery, error) {
	s.wait()
	defer s.wait()
	return s.Store.RecordAttempt(ctx, r)
}

func (s slowStore) Release(d []engine.Delivery) {
	s.wait()
	defer s.wait()
	s.Store.Release(d)
}

func (s slowStore) Reschedule(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
	s.wait()
	defer s.wait()
	return s.Store.Reschedule(ctx, id, how, now)
}

func (s slowStore) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.Webhook, error) {
	s.wait()
	defer s.wait()
	return s.Store.PutWebhook(ctx, c)
}
