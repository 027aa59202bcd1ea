package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// maxSleep is how long the loop sleeps at most while something waits for its time: timers run by the monotonic clock, so a step
// of the wall clock is noticed only by looking.
const maxSleep = 4 * time.Second

// fullRetry is when to try again what the store had no room for.
const fullRetry = time.Second

// errShutdown is the cause with which attempts are cut off when the grace at shutdown has ended.
var errShutdown = errors.New("hookbolt is shutting down")

// Engine takes events in and gets webhooks delivered. Its methods may be called at once, also before and after Run.
type Engine struct {
	store   Store
	live    atomic.Pointer[live] // what Configure may replace while the engine runs
	metrics *metrics
	log     *slog.Logger
	lanes   *lanes
	running atomic.Bool
	started chan struct{} // closed by Run
	full    atomic.Bool   // whether the last events were refused for want of room
	// tidy wakes the maintenance: capacity 1, sent to by changes that leave work for it, received by maintain.
	tidy chan struct{}
}

// New makes an engine on a store. Metrics are registered with reg.
func New(store Store, cfg Config, reg prometheus.Registerer, log *slog.Logger) *Engine {
	e := &Engine{store: store, log: log, metrics: newMetrics(reg), tidy: make(chan struct{}, 1), started: make(chan struct{})}
	e.live.Store(&live{cfg, newSender(cfg)})
	e.lanes = newLanes(e.laneLimits, cfg.MaxInFlight)
	reg.MustRegister(statsCollector{e})
	return e
}

// laneLimits is what a webhook allows its lane.
func (e *Engine) laneLimits(id Lane) laneLimits {
	w := e.store.Webhooks().Get(id.WebhookID)
	switch {
	case w == nil:
		return laneLimits{}
	case id.Test:
		return laneLimits{inFlight: 1}
	case w.Paused || !w.Active:
		return laneLimits{}
	}
	limits := laneLimits{inFlight: e.config().WebhookMaxInFlight}
	if w.MaxInFlight != nil {
		limits.inFlight = *w.MaxInFlight
	}
	if w.RateLimit != nil {
		limits.rate = *w.RateLimit
	}
	return limits
}

// Run delivers what is due until ctx ends. Then it takes nothing up any more, gives the attempts in flight
// Config.ShutdownTimeout to end, and returns nil once they are recorded. Attempts that are cut off are made again after the
// next start. Any other return is an error of the store. An Engine has one Run.
//
// Nothing needs to be recovered at the start: what was in flight when the process ended is still in its lane.
func (e *Engine) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sendCtx, cutOff := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cutOff(nil)
	now := utcNow()
	stats, err := e.store.Stats(context.WithoutCancel(ctx), now, false)
	if err != nil {
		return fmt.Errorf("read the webhooks' health: %w", err)
	}
	for id, h := range stats.Health {
		e.lanes.setHealth(id, h)
	}
	var work sync.WaitGroup
	work.Go(func() { e.maintain(ctx) })
	work.Go(func() { e.watchDisk(ctx) })
	for _, w := range e.store.Webhooks().All() {
		e.lanes.note(Queued{Lane{w.ID, false}, now}, Queued{Lane{w.ID, true}, now})
	}
	e.running.Store(true)
	e.lanes.open()
	close(e.started)
	err = e.loop(ctx, sendCtx, &work)
	e.running.Store(false)
	e.store.Release(e.lanes.close())

	stop() // the loop may have ended by an error of its own
	grace := time.AfterFunc(e.config().ShutdownTimeout, func() { cutOff(errShutdown) })
	work.Wait()
	grace.Stop()
	e.sender().transports.closeIdleConnections()
	return err
}

// Started is closed once Run delivers.
func (e *Engine) Started() <-chan struct{} { return e.started }

// loop takes up what is due, a turn at a time, and sleeps until the next.
func (e *Engine) loop(ctx, sendCtx context.Context, work *sync.WaitGroup) error {
	start := func(claims []*claim) {
		for _, c := range claims {
			work.Go(func() { e.deliver(ctx, sendCtx, c) })
		}
	}
	for ctx.Err() == nil {
		start(e.lanes.arrivals())
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
			for i := range takes {
				e.reportDamaged(takes[i].Damaged)
			}
			start(e.lanes.took(rooms, takes, hooks))
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
			case errors.Is(err, ErrFull):
				sleep(ctx, fullRetry) // with its claim: a lane that has no room for more would take it up again at once
				e.store.Release([]Delivery{*d})
				again = utcNow()
			default:
				again = e.giveUp(ctx, c, err)
			}
			return
		}
		c.taken.Session = nil // which may be large, and the claim may wait for long
	}
	a, w, made := e.attempt(ctx, sendCtx, c, payload)
	if !made {
		e.store.Release([]Delivery{*d})
		return
	}
	again = e.record(ctx, c, a, w)
}

// attempt waits for a claim's turn and makes the attempt; w is the webhook that it was made for. made is false if there was none,
// or one that was cut off: the delivery is as due as before.
func (e *Engine) attempt(ctx, sendCtx context.Context, c *claim, payload []byte) (a Attempt, w *Webhook, made bool) {
	if !e.lanes.acquire(ctx, c) {
		return a, nil, false
	}
	defer e.lanes.release(c)
	if w = e.webhookFor(c); w == nil {
		e.lanes.unspend(c)
		return a, nil, false
	}
	a, err := e.sender().send(sendCtx, w, &c.taken.Delivery, payload, e.timeout(w))
	if err != nil {
		return a, nil, false
	}
	a.Probe = c.probe
	c.health, c.notice = e.noteAttempt(sendCtx, w, &a)
	return a, w, true
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
	return e.config().Timeout
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

// record stores an attempt and returns when the delivery is due again; zero if it is not. Where the store has no room it is tried
// until there is, or ctx ends: what was sent must not be sent again for want of a record.
func (e *Engine) record(ctx context.Context, c *claim, a Attempt, w *Webhook) time.Time {
	d := &c.taken.Delivery
	policy := e.config().Retry
	if w != nil && w.RetrySchedule != nil {
		policy.Schedule = *w.RetrySchedule
	}
	now := utcNow()
	next := policy.After(&a, d.Tries+1, now, rand.Float64())
	e.metrics.attempt(d, &a)
	if e.store.Webhooks().Get(d.WebhookID) == nil { // gone meanwhile, perhaps before this was noted
		e.metrics.history.forget(d.WebhookID)
	}
	r := AttemptRecord{Delivery: *d, Attempt: a, Next: next, At: now, Health: c.health}
	if c.notice != nil || next.Status == StatusFailed { // which is rare
		r.Notices = func(after *Delivery) [][]byte { return [][]byte{c.notice, failedNotice(w, after, now)} }
	}
	after, err := e.store.RecordAttempt(context.WithoutCancel(ctx), r)
	for errors.Is(err, ErrFull) && sleep(ctx, fullRetry) {
		after, err = e.store.RecordAttempt(context.WithoutCancel(ctx), r)
	}
	switch {
	case errors.Is(err, ErrGone):
		e.noteQueued(c.notice)
		return time.Time{}
	case errors.Is(err, ErrUnavailable): // whoever sees the store fail says so, once
		return time.Time{}
	case err != nil:
		e.log.Error("an attempt could not be recorded; it is repeated after the next start", "delivery", d.ID, "error", err)
		return time.Time{}
	}
	if r.Notices != nil {
		e.noteQueued(r.Notices(&after)...)
	}
	if after.FinishedAt.Equal(now) { // by this attempt, not by a cancellation while it was under way
		e.metrics.finish(after.Status, 1)
	}
	if !a.Delivered() && after.Status.Waiting() {
		e.metrics.history.retried()
	}
	if after.Status == StatusFailed {
		e.log.Warn("delivery failed for good", "delivery", d.ID, "webhook", d.WebhookID, "attempts", after.Attempts, "error_class", a.Error)
	}
	return after.NextAttemptAt
}

// sleep waits, and tells whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
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
		done, err := e.store.Maintain(ctx, now, e.config().Retention)
		e.metrics.finish(StatusCancelled, done.Cancelled)
		e.metrics.removed("age", done.Expired)
		e.metrics.removed("size", done.Evicted)
		e.lanes.note(done.Queued...)
		e.reportDamaged(done.Damaged)
		if err != nil {
			done.Next = now.Add(time.Minute)
			switch {
			case errors.Is(err, ErrFull):
				done.Next = now.Add(fullRetry)
			case ctx.Err() == nil && !errors.Is(err, ErrUnavailable):
				e.log.Error("background work failed", "error", err)
			}
		}
		// A breath between two steps leaves the writer to those who wait for it.
		select {
		case <-ctx.Done():
		case <-e.tidy:
		case <-time.After(max(5*time.Millisecond, done.Next.Sub(now))):
		}
	}
}

// reportDamaged tells of records that could not be read.
func (e *Engine) reportDamaged(damaged []error) {
	for _, err := range damaged {
		e.metrics.damaged.Inc()
		e.log.Error("a damaged record was set aside; \"hookbolt check\" tells more", "error", err)
	}
}

// wakeMaintenance tells maintain that a change has left work for it.
func (e *Engine) wakeMaintenance() {
	select {
	case e.tidy <- struct{}{}:
	default:
	}
}

// Ingest stores a request's events and returns how many there were. When it returns without an error they are on disk. The
// error is an InputErrors if the events are refused; nothing is stored then.
func (e *Engine) Ingest(ctx context.Context, body []byte) (int, error) {
	events, seen, err := parseEvents(body, utcNow())
	if err == nil && len(events) > 0 {
		var queued []Queued
		queued, err = e.store.AppendEvents(ctx, events, e.admit)
		e.lanes.note(queued...)
		e.noteRoom(err)
	}
	if err != nil {
		if _, ok := errors.AsType[InputErrors](err); ok {
			e.metrics.eventsRefused.Add(float64(max(1, seen)))
		}
		return 0, err
	}
	e.metrics.accepted(len(events))
	return len(events), nil
}

// maxReadyBytes is how much JSON the events of a session may have for its payload to be built while they are stored: others wait for
// that.
const maxReadyBytes = 32 << 10

// admit is Admit, and lets what is due already be built and sent without delay where its lane is open.
func (e *Engine) admit(head SessionHead, fresh []Event, hooks *WebhookSet) (Decision, error) {
	d, err := Admit(head, fresh, hooks)
	now := utcNow()
	for i := range d.Triggers {
		t := &d.Triggers[i]
		if t.Kind == KindComplete && !t.DueAt.After(now) && d.Head.Bytes <= maxReadyBytes && e.lanes.isOpen(Lane{WebhookID: t.WebhookID}) {
			t.Ready = e.ready(hooks.Get(t.WebhookID))
		}
	}
	return d, err
}

// ready lets a complete session be sent to a webhook at once.
func (e *Engine) ready(w *Webhook) *Ready {
	return &Ready{
		Build: func(events []Event, now time.Time) ([]byte, error) {
			return BuildPayload(Fold(events, time.Time{}), w, true, now)
		},
		Take: func(t Taken) {
			if !e.lanes.offer(t, w.Revision) {
				e.store.Release([]Delivery{t.Delivery})
				e.lanes.note(Queued{t.Delivery.Lane(), t.Delivery.NextAttemptAt})
			}
		},
	}
}

// noteRoom takes note of whether there was room for events, and logs it where that has changed.
func (e *Engine) noteRoom(err error) {
	switch full := errors.Is(err, ErrFull); {
	case full && !e.full.Swap(true):
		e.log.Warn("events are refused with 503 until there is room for them", "reason", err)
		e.wakeMaintenance()
	case err == nil && e.full.Load() && e.full.Swap(false):
		e.log.Info("there is room for events again")
	}
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
	return BuildPayload(s, &w, !s.FinishedAt.IsZero(), utcNow())
}

// Health is what the last attempts tell of a webhook's endpoint.
func (e *Engine) Health(webhookID uint32) Health { return e.lanes.health(webhookID) }

// Delivery returns a delivery, its payload (nil while it is scheduled), and its attempts, oldest first.
func (e *Engine) Delivery(ctx context.Context, id uuid.UUID) (Delivery, []byte, []Attempt, error) {
	return e.store.Delivery(ctx, id)
}

// RequestHeader is what an attempt of a delivery would send at that time beside its payload, with "…" for credentials, as
// Attempt.RequestHeader tells it of one that was made. It asks for no token. The error is that of a secret that cannot sign.
func (e *Engine) RequestHeader(w *Webhook, d *Delivery, payload []byte, at time.Time) ([]HeaderField, error) {
	authorization := ""
	if w.OAuth2 != nil {
		authorization = hidden // a token would have to be asked for
	}
	_, sent, err := e.sender().header(w, d, payload, at, authorization)
	if err != nil {
		return nil, err
	}
	return sent.header(d, at), nil
}

// Deliveries lists deliveries.
func (e *Engine) Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryPage, error) {
	return e.store.Deliveries(ctx, q)
}

// Retry makes a delivery due now. ErrConflict means that its webhook is gone or switched off.
func (e *Engine) Retry(ctx context.Context, id uuid.UUID) (Delivery, error) {
	d, err := e.store.Reschedule(ctx, id, RescheduleNow, utcNow())
	if err == nil {
		e.lanes.note(Queued{d.Lane(), d.NextAttemptAt})
		e.lanes.probeNow(d.WebhookID)
	}
	return d, err
}

// Cancel ends a delivery that waits; ErrConflict means that it does not. An attempt that is under way is still recorded.
func (e *Engine) Cancel(ctx context.Context, id uuid.UUID) (Delivery, error) {
	d, err := e.store.Reschedule(ctx, id, RescheduleNever, utcNow())
	if err == nil {
		e.lanes.cancel(id, d.Lane())
		e.metrics.finish(StatusCancelled, 1)
	}
	return d, err
}

// utcNow is the time as it is stored: UTC, without the reading of the monotonic clock.
func utcNow() time.Time { return time.Now().UTC().Round(0) }
