package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is how the engine delivers. It has no useful zero value: start from DefaultConfig.
type Config struct {
	// Timeout bounds an attempt as a whole: look-up, connection, request and answer.
	Timeout time.Duration
	// MaxInFlight is how many attempts may be under way at once, beyond the first of each lane.
	MaxInFlight int
	// WebhookMaxInFlight is how many of each lane may be.
	WebhookMaxInFlight int
	Retry              RetryPolicy
	// AllowNetworks are the special-purpose addresses that may be connected to all the same.
	AllowNetworks []netip.Prefix
	Retention     Retention
	// ShutdownTimeout is how long Run waits for the attempts in flight after its context has ended.
	ShutdownTimeout time.Duration
	// Version is told to endpoints in the User-Agent.
	Version string
	// Transport carries the attempts. Nil means newTransport; only tests give another one.
	Transport http.RoundTripper
	// Resolver looks names up. Nil means the system's; only tests give another one.
	Resolver *net.Resolver
}

// DefaultConfig is the configuration of spec.md, "Configuration".
func DefaultConfig() Config {
	return Config{
		Timeout:            15 * time.Second,
		MaxInFlight:        256,
		WebhookMaxInFlight: 32,
		Retry:              RetryPolicy{Schedule: DefaultRetrySchedule, Jitter: 0.1, RetryAfterMax: 24 * time.Hour},
		Retention:          Retention{Sessions: 720 * time.Hour, Deliveries: 168 * time.Hour},
		ShutdownTimeout:    20 * time.Second,
		Version:            "dev",
	}
}

// maxSleep is how long the loop sleeps at most while something waits for its time: timers run by the monotonic clock, so a step
// of the wall clock is noticed only by looking.
const maxSleep = 4 * time.Second

// errShutdown is the cause with which attempts are cut off when the grace at shutdown has ended.
var errShutdown = errors.New("hookbolt is shutting down")

// Engine takes events in and gets webhooks delivered. Its methods may be called at once, also before and after Run.
type Engine struct {
	store     Store
	cfg       Config
	guard     guard
	sender    *sender
	metrics   *metrics
	log       *slog.Logger
	lanes     *lanes
	transport http.RoundTripper
	running   atomic.Bool
	// tidy wakes the maintenance: capacity 1, sent to by changes that leave work for it, received by maintain.
	tidy chan struct{}
}

// New makes an engine on a store. Metrics are registered with reg.
func New(store Store, cfg Config, reg prometheus.Registerer, log *slog.Logger) *Engine {
	e := &Engine{
		store: store, cfg: cfg, guard: guard{cfg.AllowNetworks}, log: log, metrics: newMetrics(reg),
		transport: cfg.Transport, tidy: make(chan struct{}, 1),
	}
	if e.transport == nil {
		e.transport = newTransport(cfg)
	}
	e.sender = newSender(e.transport, cfg.Version)
	e.lanes = newLanes(e.laneLimit, cfg.MaxInFlight)
	reg.MustRegister(statsCollector{e})
	return e
}

// laneLimit is how many attempts a lane may have under way; 0 holds it.
func (e *Engine) laneLimit(id Lane) int {
	w := e.store.Webhooks().Get(id.WebhookID)
	switch {
	case w == nil:
		return 0
	case id.Test:
		return 1
	case w.Paused || !w.Active:
		return 0
	case w.MaxInFlight != nil:
		return *w.MaxInFlight
	}
	return e.cfg.WebhookMaxInFlight
}

// Run delivers what is due until ctx ends. Then it takes nothing up any more, gives the attempts in flight
// Config.ShutdownTimeout to end, and returns nil once they are recorded. Attempts that are cut off are made again after the
// next start. Any other return is an error of the store.
//
// Nothing needs to be recovered at the start: what was in flight when the process ended is still in its lane.
func (e *Engine) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sendCtx, cutOff := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cutOff(nil)
	var work sync.WaitGroup
	work.Go(func() { e.maintain(ctx) })

	now := utcNow()
	for _, w := range e.store.Webhooks().All() {
		e.lanes.note(Queued{Lane{w.ID, false}, now}, Queued{Lane{w.ID, true}, now})
	}
	e.running.Store(true)
	err := e.loop(ctx, sendCtx, &work)
	e.running.Store(false)

	stop() // the loop may have ended by an error of its own
	grace := time.AfterFunc(e.cfg.ShutdownTimeout, func() { cutOff(errShutdown) })
	work.Wait()
	grace.Stop()
	if t, ok := e.transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
	return err
}

// loop takes up what is due, a turn at a time, and sleeps until the next.
func (e *Engine) loop(ctx, sendCtx context.Context, work *sync.WaitGroup) error {
	for ctx.Err() == nil {
		now := utcNow()
		rooms, next := e.lanes.rooms(now)
		if len(rooms) > 0 {
			hooks := e.store.Webhooks() // before the look: a cancellation that it does not know is noticed before sending
			takes, err := e.store.TakeDue(ctx, now, rooms)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("take what is due: %w", err)
			}
			for _, c := range e.lanes.took(rooms, takes, hooks) {
				work.Go(func() { e.deliver(ctx, sendCtx, c) })
			}
			continue
		}
		var alarm <-chan time.Time // none while nothing waits
		if !next.IsZero() {
			alarm = time.After(min(maxSleep, next.Sub(now)))
		}
		select {
		case <-ctx.Done():
		case <-e.lanes.wake:
		case <-alarm:
		}
	}
	return nil
}

// deliver takes one claimed delivery as far as it goes: built, frozen, sent, recorded. ctx ends when no new attempt may begin,
// sendCtx when those under way are cut off.
func (e *Engine) deliver(ctx, sendCtx context.Context, c *claim) {
	d := &c.taken.Delivery
	again := d.NextAttemptAt
	defer func() { e.lanes.end(c, again) }()

	payload := c.taken.Payload
	if c.taken.Session != nil {
		var err error
		payload, err = e.freeze(sendCtx, c)
		if payload == nil {
			switch {
			case err == nil:
				again = time.Time{} // not to be sent: the claim has ended
			case errors.Is(err, ErrGone): // the same, but it may have been queued again meanwhile: look
			default:
				again = e.giveUp(sendCtx, c, err)
			}
			return
		}
	}
	a, w, made := e.attempt(ctx, sendCtx, c, payload)
	if !made {
		e.store.Release([]Delivery{*d})
		return
	}
	again = e.record(sendCtx, c, a, w)
}

// attempt waits for a claim's turn and makes the attempt; w is the webhook that it was made for. made is false if there was none,
// or one that was cut off: the delivery is as due as before.
func (e *Engine) attempt(ctx, sendCtx context.Context, c *claim, payload []byte) (a Attempt, w *Webhook, made bool) {
	if !e.lanes.acquire(ctx, c) {
		return a, nil, false
	}
	defer e.lanes.release(c)
	if w = e.webhookFor(c); w == nil {
		return a, nil, false
	}
	a, err := e.sender.send(sendCtx, w, &c.taken.Delivery, payload, e.timeout(w))
	return a, w, err == nil
}

// webhookFor returns the webhook to send a claimed delivery to as it is now; nil if it is not to be sent, at least not now.
func (e *Engine) webhookFor(c *claim) *Webhook {
	w := e.store.Webhooks().Get(c.lane.id.WebhookID)
	if w == nil || e.lanes.isCancelled(c) || w.Paused && !c.lane.id.Test {
		return nil
	}
	if w.CancelledUpTo >= c.revision {
		return nil // since it was taken: the store will know whether it is covered
	}
	return w
}

func (e *Engine) timeout(w *Webhook) time.Duration {
	if w.Timeout != nil {
		return time.Duration(*w.Timeout)
	}
	return e.cfg.Timeout
}

// freeze builds the payload of a trigger and stores it. It returns no payload if there is nothing to send: with a nil error or
// ErrGone the claim has ended.
func (e *Engine) freeze(ctx context.Context, c *claim) ([]byte, error) {
	d := &c.taken.Delivery
	w := e.store.Webhooks().Get(d.WebhookID)
	if w == nil {
		e.store.Release([]Delivery{*d})
		return nil, ErrGone
	}
	events, err := c.taken.Session.Events()
	if err != nil {
		return nil, err
	}
	now := utcNow()
	payload, err := buildTriggered(d, events, w, now)
	if err != nil {
		return nil, err
	}
	if err := e.store.Freeze(context.WithoutCancel(ctx), Freeze{Delivery: *d, Payload: payload, At: now}); err != nil {
		return nil, err
	}
	return payload, nil
}

// buildTriggered makes the payload that a trigger asks for; nil if there is nothing to send: an incomplete one whose session
// has finished by its instant.
func buildTriggered(d *Delivery, events []Event, w *Webhook, now time.Time) ([]byte, error) {
	if len(events) == 0 {
		return nil, errors.New("the session has no events")
	}
	if d.Kind == KindComplete {
		return BuildPayload(Fold(events, time.Time{}), w, true, now)
	}
	s := Fold(events, d.DueAt)
	if !s.FinishedAt.IsZero() {
		return nil, nil
	}
	return BuildPayload(s, w, false, now)
}

// record stores an attempt and returns when the delivery is due again; zero if it is not.
func (e *Engine) record(ctx context.Context, c *claim, a Attempt, w *Webhook) time.Time {
	d := &c.taken.Delivery
	policy := e.cfg.Retry
	if w != nil && w.RetrySchedule != nil {
		policy.Schedule = *w.RetrySchedule
	}
	now := utcNow()
	next := policy.After(&a, d.Tries+1, now, rand.Float64())
	e.metrics.attempt(d, &a)
	after, err := e.store.RecordAttempt(context.WithoutCancel(ctx), AttemptRecord{Delivery: *d, Attempt: a, Next: next, At: now})
	if errors.Is(err, ErrUnavailable) {
		return time.Time{} // whoever sees the store fail says so, once
	}
	if err != nil {
		e.log.Error("an attempt could not be recorded; it is repeated after the next start", "delivery", d.ID, "error", err)
		return time.Time{}
	}
	if after.FinishedAt.Equal(now) { // by this attempt, not by a cancellation while it was under way
		e.metrics.finished.WithLabelValues(after.Status.String()).Inc()
	}
	if after.Status == StatusFailed {
		e.log.Warn("delivery failed for good", "delivery", d.ID, "webhook", d.WebhookID, "attempts", after.Attempts, "error_class", a.Error)
	}
	return after.NextAttemptAt
}

// giveUp records as a failed attempt that a payload could not be built, so that it shows and is tried again, but not at once.
func (e *Engine) giveUp(ctx context.Context, c *claim, cause error) time.Time {
	if errors.Is(cause, ErrUnavailable) {
		return time.Time{}
	}
	e.log.Error("a payload could not be built", "delivery", c.taken.Delivery.ID, "error", cause)
	return e.record(ctx, c, Attempt{StartedAt: utcNow(), Error: ErrorInternal,
		ErrorDetail: "the payload could not be built from the stored events"}, e.store.Webhooks().Get(c.taken.Delivery.WebhookID))
}

// maintain carries out background work until ctx ends.
func (e *Engine) maintain(ctx context.Context) {
	for ctx.Err() == nil {
		now := utcNow()
		next, cancelled, err := e.store.Maintain(ctx, now, e.cfg.Retention)
		e.metrics.finished.WithLabelValues(StatusCancelled.String()).Add(float64(cancelled))
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrUnavailable) {
				e.log.Error("background work failed", "error", err)
			}
			next = now.Add(time.Minute)
		}
		// A breath between two steps leaves the writer to those who wait for it.
		select {
		case <-ctx.Done():
		case <-e.tidy:
		case <-time.After(max(5*time.Millisecond, next.Sub(now))):
		}
	}
}

// Ingest stores a request's events and returns how many there were. When it returns without an error they are on disk. The
// error is an InputErrors if the events are refused; nothing is stored then.
func (e *Engine) Ingest(ctx context.Context, body []byte) (int, error) {
	events, seen, err := parseEvents(body, utcNow())
	if err == nil && len(events) > 0 {
		var queued []Queued
		queued, err = e.store.AppendEvents(ctx, events, Admit)
		e.lanes.note(queued...)
	}
	if err != nil {
		if _, ok := errors.AsType[InputErrors](err); ok {
			e.metrics.eventsRefused.Add(float64(max(1, seen)))
		}
		return 0, err
	}
	e.metrics.eventsAccepted.Add(float64(len(events)))
	return len(events), nil
}

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

// Delivery returns a delivery, its payload (nil while it is scheduled), and its attempts, oldest first.
func (e *Engine) Delivery(ctx context.Context, id uuid.UUID) (Delivery, []byte, []Attempt, error) {
	return e.store.Delivery(ctx, id)
}

// Deliveries lists deliveries.
func (e *Engine) Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryPage, error) {
	return e.store.Deliveries(ctx, q)
}

// Retry makes a delivery due now. ErrConflict means that its webhook is gone or switched off.
func (e *Engine) Retry(ctx context.Context, id uuid.UUID) (Delivery, error) {
	d, err := e.store.Requeue(ctx, id, utcNow())
	if err == nil {
		e.lanes.note(Queued{d.Lane(), d.NextAttemptAt})
	}
	return d, err
}

// Cancel ends a delivery that waits; ErrConflict means that it does not. An attempt that is under way is still recorded.
func (e *Engine) Cancel(ctx context.Context, id uuid.UUID) (Delivery, error) {
	d, err := e.store.Cancel(ctx, id, utcNow())
	if err == nil {
		e.lanes.cancel(id, d.Lane())
		e.metrics.finished.WithLabelValues(StatusCancelled.String()).Inc()
	}
	return d, err
}

// Overview is the state of the whole at one moment.
type Overview struct {
	// Scheduled wait for their time, Due for a free place, Held for their webhook to be resumed; InFlight are taken up.
	Scheduled, Due, InFlight, Held int64
	// OldestDueAge is that of the oldest due delivery of a webhook that is not held; 0 if none is due.
	OldestDueAge time.Duration
	// Stored counts the deliveries that are kept.
	Stored map[Status]int64
	// Webhooks counts the webhooks.
	Webhooks struct{ Active, Paused, Inactive int }
	// PerWebhook has the counts of each webhook.
	PerWebhook map[uint32]WebhookStats
	// SizeBytes is the database file's size, FreeBytes the part of it that is free for new data.
	SizeBytes, FreeBytes int64
}

// Overview returns the state of the whole. It costs a look at each webhook's lane, never one at the queue.
func (e *Engine) Overview(ctx context.Context) (Overview, error) {
	now := utcNow()
	s, err := e.store.Stats(ctx, now, false)
	if err != nil {
		return Overview{}, err
	}
	o := Overview{
		Stored: make(map[Status]int64), PerWebhook: s.Webhooks, SizeBytes: s.SizeBytes, FreeBytes: s.FreeBytes,
	}
	claimed := e.lanes.inFlight()
	hooks := e.store.Webhooks()
	for _, w := range hooks.All() {
		switch {
		case !w.Active:
			o.Webhooks.Inactive++
		case w.Paused:
			o.Webhooks.Paused++
		default:
			o.Webhooks.Active++
		}
	}
	for id, c := range s.Webhooks {
		o.Stored[StatusScheduled] += c.Scheduled
		o.Stored[StatusPending] += c.Pending
		o.Stored[StatusDelivered] += c.Delivered
		o.Stored[StatusFailed] += c.Failed
		o.Stored[StatusCancelled] += c.Cancelled
		// What is taken up was due. The store counts a moment before the lanes do: no part may come out below 0.
		taken, tests := claimed[Lane{id, false}], claimed[Lane{id, true}]
		waiting := max(0, c.Scheduled+c.Pending-taken-tests)
		o.InFlight += taken + tests
		if w := hooks.Get(id); w == nil || w.Paused || !w.Active {
			o.Held += waiting
			continue
		}
		due := min(max(0, c.Due-taken), waiting)
		o.Due += due
		o.Scheduled += waiting - due
		if !c.OldestDueAt.IsZero() {
			o.OldestDueAge = max(o.OldestDueAge, now.Sub(c.OldestDueAt))
		}
	}
	return o, nil
}

// Ready tells whether events can be taken in and delivered: the store writes, and Run is running.
func (e *Engine) Ready(ctx context.Context) error {
	if !e.running.Load() {
		return errors.New("the engine is not running")
	}
	_, err := e.store.Stats(ctx, utcNow(), true)
	return err
}

// utcNow is the time as it is stored: UTC, without the reading of the monotonic clock.
func utcNow() time.Time { return time.Now().UTC().Round(0) }
