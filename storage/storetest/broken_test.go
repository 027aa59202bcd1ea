package storetest_test

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/storage/storetest"
)

// broken is a correct store that breaks a promise: methods that have a function here are carried out by it, all others by the store.
type broken struct {
	storetest.Store
	*memory
	opened int // how often the database was opened, this time included

	watch     func(ctx context.Context, f func(engine.News)) error
	mine      func(id uint32) bool
	append    func(ctx context.Context, a engine.Append) (engine.Appended, error)
	claim     func(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error)
	freeze    func(ctx context.Context, f engine.Freeze) (engine.Frozen, error)
	record    func(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error)
	release   func(ctx context.Context, claimed []engine.Delivery) error
	resched   func(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error)
	enqueue   func(ctx context.Context, q engine.Enqueue) (engine.Delivery, error)
	done      func(ctx context.Context, key engine.OnceKey) (engine.Done, error)
	session   func(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error)
	delivery  func(ctx context.Context, id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt, error)
	list      func(ctx context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error)
	sessions  func(ctx context.Context, q engine.SessionQuery) (engine.SessionPage, error)
	webhooks  func() *engine.WebhookSet
	put       func(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error)
	replay    func(ctx context.Context, r engine.Replay) (int64, error)
	erase     func(ctx context.Context, what engine.Erasure, place string) (engine.ErasedStep, error)
	maintain  func(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error)
	statistic func(ctx context.Context, now time.Time, probe bool) (engine.Stats, error)
}

// memory is what a broken store remembers, as long as its database is there.
type memory struct {
	mu         sync.Mutex
	n          int
	ids        map[string]bool
	times      map[uuid.UUID]time.Time
	health     map[uint32]engine.Health
	deliveries []engine.Delivery
	cancels    []engine.Cancellation
	id         uint32
	change     *engine.WebhookChange
	onces      map[engine.OnceKey]time.Time
}

func newMemory() *memory {
	return &memory{ids: make(map[string]bool), times: make(map[uuid.UUID]time.Time), health: make(map[uint32]engine.Health),
		onces: make(map[engine.OnceKey]time.Time)}
}

// once tells whether it is called for the first time with a text.
func (m *memory) once(s string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ids[s] {
		return false
	}
	m.ids[s] = true
	return true
}

// count counts up.
func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	return m.n
}

// or returns a function, or the other one if there is none.
func or[F any](f, otherwise F, none bool) F {
	if none {
		return otherwise
	}
	return f
}

func (b *broken) Watch(ctx context.Context, f func(engine.News)) error {
	return or(b.watch, b.Store.Watch, b.watch == nil)(ctx, f)
}

func (b *broken) Mine(id uint32) bool { return or(b.mine, b.Store.Mine, b.mine == nil)(id) }

func (b *broken) AppendEvents(ctx context.Context, a engine.Append) (engine.Appended, error) {
	return or(b.append, b.Store.AppendEvents, b.append == nil)(ctx, a)
}

func (b *broken) ClaimDue(ctx context.Context, now time.Time, requests []engine.ClaimRequest) ([]engine.ClaimResult, error) {
	return or(b.claim, b.Store.ClaimDue, b.claim == nil)(ctx, now, requests)
}

func (b *broken) Freeze(ctx context.Context, f engine.Freeze) (engine.Frozen, error) {
	return or(b.freeze, b.Store.Freeze, b.freeze == nil)(ctx, f)
}

// freezeStored freezes in the store that is broken here.
func (b *broken) freezeStored(ctx context.Context, f engine.Freeze) error {
	_, err := b.Store.Freeze(ctx, f)
	return err
}

func (b *broken) RecordAttempt(ctx context.Context, r engine.AttemptRecord) (engine.Recorded, error) {
	return or(b.record, b.Store.RecordAttempt, b.record == nil)(ctx, r)
}

func (b *broken) Release(ctx context.Context, claimed []engine.Delivery) error {
	return or(b.release, b.Store.Release, b.release == nil)(ctx, claimed)
}

func (b *broken) Reschedule(ctx context.Context, id uuid.UUID, how engine.Reschedule, now time.Time) (engine.Delivery, error) {
	return or(b.resched, b.Store.Reschedule, b.resched == nil)(ctx, id, how, now)
}

func (b *broken) Enqueue(ctx context.Context, q engine.Enqueue) (engine.Delivery, error) {
	return or(b.enqueue, b.Store.Enqueue, b.enqueue == nil)(ctx, q)
}

func (b *broken) Done(ctx context.Context, key engine.OnceKey) (engine.Done, error) {
	return or(b.done, b.Store.Done, b.done == nil)(ctx, key)
}

func (b *broken) Session(ctx context.Context, id uuid.UUID) (engine.SessionRecord, []engine.Delivery, error) {
	return or(b.session, b.Store.Session, b.session == nil)(ctx, id)
}

func (b *broken) Delivery(ctx context.Context, id uuid.UUID) (engine.Delivery, []byte, []engine.Attempt, error) {
	return or(b.delivery, b.Store.Delivery, b.delivery == nil)(ctx, id)
}

func (b *broken) Deliveries(ctx context.Context, q engine.DeliveryQuery) (engine.DeliveryPage, error) {
	return or(b.list, b.Store.Deliveries, b.list == nil)(ctx, q)
}

func (b *broken) Sessions(ctx context.Context, q engine.SessionQuery) (engine.SessionPage, error) {
	return or(b.sessions, b.Store.Sessions, b.sessions == nil)(ctx, q)
}

func (b *broken) Webhooks() *engine.WebhookSet {
	return or(b.webhooks, b.Store.Webhooks, b.webhooks == nil)()
}

func (b *broken) PutWebhook(ctx context.Context, c engine.WebhookChange) (engine.WebhookChanged, error) {
	return or(b.put, b.Store.PutWebhook, b.put == nil)(ctx, c)
}

func (b *broken) Replay(ctx context.Context, r engine.Replay) (int64, error) {
	return or(b.replay, b.Store.Replay, b.replay == nil)(ctx, r)
}

func (b *broken) Erase(ctx context.Context, what engine.Erasure, place string) (engine.ErasedStep, error) {
	return or(b.erase, b.Store.Erase, b.erase == nil)(ctx, what, place)
}

func (b *broken) Maintain(ctx context.Context, now time.Time, r engine.Retention) (engine.Maintained, error) {
	return or(b.maintain, b.Store.Maintain, b.maintain == nil)(ctx, now, r)
}

func (b *broken) Stats(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
	return or(b.statistic, b.Store.Stats, b.statistic == nil)(ctx, now, probe)
}
