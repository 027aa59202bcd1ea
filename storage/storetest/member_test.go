package storetest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

func (m *member) AppendEvents(ctx context.Context, a engine.Append) (engine.Appended, error) {
	if err := m.use(); err != nil {
		return engine.Appended{}, err
	}
	a.Open = maps.Clone(a.Open)
	maps.DeleteFunc(a.Open, func(id uint32, _ bool) bool { return !m.Mine(id) })
	done, err := m.Store.AppendEvents(ctx, a)
	m.take(done.Claimed)
	m.tell(nil, done.Queued, nil)
	return done, err
}

func (m *member) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	if err := m.use(); err != nil {
		return nil, err
	}
	var mine []engine.ClaimRequest
	var places []int
	for i, r := range requests {
		if m.Mine(r.Lane.WebhookID) {
			mine, places = append(mine, r), append(places, i)
		}
	}
	got, err := m.Store.ClaimDue(ctx, now, mine)
	if err != nil {
		return nil, err
	}
	results := make([]engine.ClaimResult, len(requests))
	for i := range got {
		results[places[i]] = got[i]
		m.take(got[i].Claimed)
	}
	return results, nil
}

func (m *member) Freeze(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
	if err := m.holds(f.Delivery.ID); err != nil {
		return engine.Frozen{}, err
	}
	done, err := m.Store.Freeze(ctx, f)
	if err == nil && f.Payload == nil || errors.Is(err, engine.ErrNotSendable) {
		m.over(f.Delivery.ID)
	}
	return done, err
}

func (m *member) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
	if err := m.holds(r.Delivery.ID); err != nil {
		return engine.Recorded{}, err
	}
	done, err := m.Store.RecordAttempt(ctx, r)
	if err == nil || errors.Is(err, engine.ErrNotSendable) {
		m.over(r.Delivery.ID)
	}
	m.tell(nil, done.Queued, nil)
	return done, err
}

func (m *member) Release(ctx context.Context, claimed []engine.Delivery) error {
	for _, d := range claimed {
		if err := m.holds(d.ID); err != nil {
			return err
		}
		m.over(d.ID)
	}
	return m.Store.Release(ctx, claimed)
}

func (m *member) Reschedule(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
	if err := m.use(); err != nil {
		return engine.Delivery{}, err
	}
	d, err := m.Store.Reschedule(ctx, id, how, now)
	if err != nil {
		return d, err
	}
	var queued []engine.Queued
	if how == engine.RescheduleNow {
		queued = []engine.Queued{{Lane: d.Lane(), At: d.NextAttemptAt}}
	}
	m.tell(nil, queued, []engine.Delivery{d})
	return d, nil
}

func (m *member) Enqueue(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
	if err := m.use(); err != nil {
		return engine.Delivery{}, err
	}
	d, err := m.Store.Enqueue(ctx, q)
	if err == nil {
		m.tell(nil, []engine.Queued{{Lane: d.Lane(), At: q.At}}, nil)
	}
	return d, err
}

func (m *member) Done(ctx context.Context, key engine.OnceKey) (engine.Done, error) {
	if err := m.use(); err != nil {
		return engine.Done{}, err
	}
	return m.Store.Done(ctx, key)
}

func (m *member) Session(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error) {
	if err := m.use(); err != nil {
		return engine.SessionRecord{}, nil, err
	}
	return m.Store.Session(ctx, id)
}

func (m *member) Delivery(ctx context.Context, id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt, error) {
	if err := m.use(); err != nil {
		return engine.Delivery{}, nil, nil, err
	}
	return m.Store.Delivery(ctx, id)
}

func (m *member) Deliveries(ctx context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
	if err := m.use(); err != nil {
		return engine.DeliveryPage{}, err
	}
	return m.Store.Deliveries(ctx, q)
}

func (m *member) Sessions(ctx context.Context, q engine.SessionQuery) (engine.SessionPage, error) {
	if err := m.use(); err != nil {
		return engine.SessionPage{}, err
	}
	return m.Store.Sessions(ctx, q)
}

// PutWebhook reports the change to all others, and returns when they have acknowledged it.
func (m *member) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
	if err := m.use(); err != nil {
		return engine.WebhookChanged{}, err
	}
	done, err := m.Store.PutWebhook(ctx, c)
	if err != nil {
		return done, err
	}
	m.tell([]uint32{done.Webhook.ID}, done.Queued, nil)
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if c.Deleted {
		delete(m.f.owner, done.Webhook.ID)
	}
	m.f.assignLocked()
	for _, o := range slices.Clone(m.f.members) {
		for o != m && o.watching && o.pending > 0 {
			acked := o.acked
			m.f.mu.Unlock()
			select {
			case <-acked:
			case <-time.After(time.Second): // it has gone
			}
			m.f.mu.Lock()
		}
	}
	return done, nil
}

func (m *member) Replay(ctx context.Context, r engine.Replay) (int64, error) {
	if err := m.use(); err != nil {
		return 0, err
	}
	return m.Store.Replay(ctx, r)
}

func (m *member) Erase(ctx context.Context, what engine.Erasure, place string) (engine.ErasedStep, error) {
	if err := m.use(); err != nil {
		return engine.ErasedStep{}, err
	}
	step, err := m.Store.Erase(ctx, what, place)
	m.tell(nil, nil, step.Deleted)
	return step, err
}

func (m *member) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	if err := m.use(); err != nil {
		return engine.Maintained{}, err
	}
	done, err := m.Store.Maintain(ctx, now, r)
	m.tell(nil, done.Queued, nil)
	return done, err
}

func (m *member) Stats(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
	if err := m.use(); err != nil {
		return engine.Stats{}, err
	}
	return m.Store.Stats(ctx, now, probe)
}
