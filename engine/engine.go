package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hookbolt/engine/transform"
)

// maxSleep bounds the sleep of the loop while something waits for its time. Timers follow the monotonic clock, so the loop notices a step
// of the wall clock only when it wakes.
const maxSleep = 4 * time.Second

const (
	// fullRetry is the wait before a change is tried again for which the store had no room.
	fullRetry = time.Second
	// transientRetry is the wait before a call is repeated that failed with ErrTransient.
	transientRetry = 250 * time.Millisecond
	// lostRetry is the wait before a new Watch after ErrLost.
	lostRetry = 250 * time.Millisecond
)

// errShutdown is the cause of contexts that are cancelled because the shutdown timeout has passed.
var errShutdown = errors.New("hookbolt is shutting down")

// Engine accepts events and delivers webhooks. Its methods may be called concurrently, also before and after Run.
type Engine struct {
	store    Store
	snapshot atomic.Pointer[snapshot] // the configuration; replaced by Configure
	metrics  *metrics
	log      *slog.Logger
	lanes    *lanes
	running  atomic.Bool
	keeper   atomic.Bool   // this process carries out the background work (News.Keeper)
	started  chan struct{} // closed by Run
	starting sync.Once     // closes started
	full     atomic.Bool   // the last events were refused with ErrFull
	// transientLogged is when an ErrTransient was last logged, in Unix nanoseconds.
	transientLogged atomic.Int64
	// scrapeFails reports whether it was logged that the metrics lack the counts of the store.
	scrapeFails atomic.Bool
	// troubleLogged is when a Trouble was last logged, in Unix nanoseconds. troubleTold is true until its end is logged.
	troubleLogged atomic.Int64
	troubleTold   atomic.Bool
	// maintenanceWake wakes maintain. Capacity 1. Changes that cause background work send to it; maintain receives.
	maintenanceWake chan struct{}
	runPrograms     RunPrograms
	programs        *transform.Pool // nil if Config has RunPrograms
	unbuilt         unbuilt
	failures        failures
	onces           onces
	erasures        erasures
}

// New returns an engine on a store, and registers its metrics with reg.
func New(store Store, cfg Config, reg prometheus.Registerer, log *slog.Logger) *Engine {
	e := &Engine{store: store, log: log, metrics: newMetrics(reg), maintenanceWake: make(chan struct{}, 1), started: make(chan struct{})}
	if _, ok := store.(sharedStore); ok {
		e.metrics.history.unkept = &unkeptCounts{make(map[int64]bool), make(map[uint32]bool)}
	}
	e.snapshot.Store(&snapshot{cfg, newSender(cfg, log)})
	e.lanes = newLanes(e.laneLimits, cfg.MaxInFlight)
	e.lanes.failingAfter = cfg.FailingAfter
	if e.runPrograms = cfg.RunPrograms; e.runPrograms == nil {
		e.programs = transform.NewPool(transform.Options{Observe: newProgramMetrics(reg).observer()})
		e.runPrograms = e.programs.Run
	}
	reg.MustRegister(statsCollector{e})
	return e
}

// laneLimits returns the limits that the webhook's settings give a lane; none if the lane must not send.
func (e *Engine) laneLimits(id Lane) laneLimits {
	w := e.store.Webhooks().Get(id.WebhookID)
	switch {
	case w == nil, !e.store.Mine(id.WebhookID):
		return laneLimits{}
	case id.Test:
		return laneLimits{inFlight: 1}
	case w.Paused || !w.Active:
		return laneLimits{}
	}
	limits := laneLimits{inFlight: e.config().WebhookMaxInFlight, programs: w.hasPrograms()}
	if w.MaxInFlight != nil {
		limits.inFlight = *w.MaxInFlight
	}
	if w.RateLimit != nil {
		limits.rate = *w.RateLimit
	}
	return limits
}

// Run delivers what is due until ctx ends. Then it starts no more attempts, waits up to Config.ShutdownTimeout for those in flight, and
// returns nil once they are recorded. Attempts that are cut off at the timeout are made again after the next start. Any other return is an
// error of the store. Run must not be called twice.
//
// Run needs no recovery at its start: a delivery that was in flight when the process ended is still in its lane. Erasures that were in
// progress go on.
func (e *Engine) Run(ctx context.Context) error {
	defer e.erasures.stop()
	defer context.AfterFunc(ctx, e.erasures.stop)()
	if e.programs != nil {
		defer e.programs.Close()
	}
	var kept sync.WaitGroup
	defer kept.Wait()
	counting, stop := context.WithCancel(context.WithoutCancel(ctx)) // attempts in flight are counted, too
	defer stop()
	kept.Go(func() { e.keepHistory(counting) })
	for {
		err := e.runOwner(ctx)
		if !errors.Is(err, ErrLost) {
			return err
		}
		e.log.Warn("this process has lost its lanes; it waits to own lanes again", "error", err)
		e.lanes.yieldAll()
		if !sleep(ctx, lostRetry) {
			return nil
		}
	}
}

// runOwner is Run until the process loses its lanes. Then it cuts off the attempts in flight and returns ErrLost; all claims have ended.
func (e *Engine) runOwner(parent context.Context) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	sends := newCutOff(context.WithoutCancel(parent))
	defer sends.end(nil)
	watch := e.watch(parent, sends, func(err error) {
		if errors.Is(err, ErrLost) {
			sends.end(err)
		}
		stop(err)
	})
	select {
	case <-watch.first:
	case <-ctx.Done():
		return watch.end()
	}
	var work sync.WaitGroup
	work.Go(func() { e.maintain(ctx) })
	work.Go(func() { e.watchOperations(ctx) })
	e.running.Store(true)
	e.lanes.start()
	e.starting.Do(func() { close(e.started) })
	err := e.loop(ctx, sends, &work)
	e.running.Store(false)
	e.releaseClaims(ctx, e.lanes.stop())
	if store, ok := e.store.(interface{ Drain() }); ok && parent.Err() != nil { // others need not wait for the attempts in flight
		store.Drain()
	}

	stop(err) // the loop may have ended by an error of its own
	if errors.Is(err, ErrLost) {
		sends.end(err)
	}
	grace := time.AfterFunc(e.config().ShutdownTimeout, func() { sends.end(errShutdown) })
	work.Wait()
	grace.Stop()
	e.tellFailures(context.WithoutCancel(parent), true)
	e.sender().CloseIdleConnections()
	return cmp.Or(err, watch.end())
}

// watcher is a call of Store.Watch that is running.
type watcher struct {
	first  chan struct{} // closed by the first news
	cancel context.CancelFunc
	ended  chan error // capacity 1
}

// watch starts a Watch of the store, which runs until end is called. It outlives ctx, because attempts that end after ctx still need their
// lanes. failed is called with the error that ended the Watch, if one did.
func (e *Engine) watch(ctx context.Context, sends *cutOff, failed func(error)) *watcher {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &watcher{first: make(chan struct{}), cancel: cancel, ended: make(chan error, 1)}
	gotFirst := sync.OnceFunc(func() { close(w.first) })
	go func() {
		err := e.store.Watch(ctx, func(n News) {
			if n.CutOff {
				sends.once(errCutOff)
			}
			e.apply(&n)
			gotFirst()
		})
		if err != nil {
			err = fmt.Errorf("watch the lanes: %w", err)
			failed(err)
		}
		w.ended <- err
	}()
	return w
}

// end ends the Watch. It returns the error that the Watch ended with, if it had failed before.
func (w *watcher) end() error {
	w.cancel()
	return <-w.ended
}

// apply applies the news of a Watch to the lanes.
func (e *Engine) apply(n *News) {
	hooks, now := e.store.Webhooks(), utcNow()
	for _, id := range n.Webhooks {
		e.webhookChanged(id)
	}
	for id, owned := range n.Own {
		if w := hooks.Get(id); w != nil {
			e.lanes.own(owned.Webhook, owned.Health)
			e.lanes.resetHealth(w)
		}
		e.lanes.wakeAt(Queued{Lane{id, false}, now}, Queued{Lane{id, true}, now})
		e.lanes.refresh(id, false)
	}
	for _, id := range n.Yield {
		e.lanes.yield(id)
	}
	for i := range n.Ended {
		e.lanes.cancel(n.Ended[i].ID)
	}
	e.lanes.wakeAt(n.Queued...)
	e.metrics.eventsLate.Add(float64(n.Late))
	if !e.keeper.Swap(n.Keeper) && n.Keeper || n.Work {
		e.wakeMaintenance()
	}
}

// Started returns a channel that is closed once Run delivers.
func (e *Engine) Started() <-chan struct{} { return e.started }

// loop starts the attempts that are due, one turn after the other, and sleeps until the next delivery is due.
func (e *Engine) loop(ctx context.Context, sends *cutOff, work *sync.WaitGroup) error {
	workers := newCrew(ctx, work, func(c *claim) { e.deliver(ctx, sends, c) })
	clock := newClockWatch()
	for ctx.Err() == nil {
		workers.start(e.lanes.drainArrivals())
		if by := clock.step(); by != 0 {
			e.log.Warn("the clock was set; what is due is looked for again", "by", by)
			e.lanes.clockSet()
		}
		requests, next := e.lanes.claimRequests(time.Now())
		if len(requests) > 0 {
			claims, err := e.claimDue(ctx, utcNow(), requests)
			if err != nil {
				return err
			}
			workers.start(claims)
			continue
		}
		var alarm <-chan time.Time // none while nothing waits
		if !next.IsZero() {
			alarm = time.After(min(maxSleep, time.Until(next)))
		}
		select {
		case <-ctx.Done():
		case <-e.lanes.wake:
		case <-alarm:
		}
	}
	return nil
}

// claimDue claims what is due. It waits after a transient error, and returns no claims then.
func (e *Engine) claimDue(ctx context.Context, now time.Time, requests []ClaimRequest) ([]*claim, error) {
	call := e.lanes.beginCall()
	hooks := e.store.Webhooks() // read before the call: a later cancellation is noticed before sending
	results, err := e.store.ClaimDue(ctx, now, requests)
	e.observeStore(err)
	switch {
	case err == nil:
		for i := range results {
			e.reportDamaged(results[i].Damaged)
		}
		return e.lanes.applyClaims(call, requests, results, hooks), nil
	case ctx.Err() != nil:
		e.lanes.giveUpRequests(call, requests)
		return nil, nil
	case errors.Is(err, ErrTransient):
		e.lanes.giveUpRequests(call, requests)
		sleep(ctx, transientRetry)
		return nil, nil
	}
	e.lanes.giveUpRequests(call, requests)
	return nil, fmt.Errorf("claim what is due: %w", err)
}

// observeStore logs transient errors of the store, at most once a minute: the calls are repeated, so each error would be logged many times. The store
// itself tells of a database that is away.
func (e *Engine) observeStore(err error) {
	if !errors.Is(err, ErrTransient) || errors.Is(err, ErrAway) {
		return
	}
	now := time.Now().UnixNano()
	if last := e.transientLogged.Load(); now-last >= int64(time.Minute) && e.transientLogged.CompareAndSwap(last, now) {
		e.log.Warn("the store failed with a transient error; due deliveries wait", "error", err)
	}
}

// releaseClaims ends the claims of deliveries that are not attempted. If the release fails because the lanes are lost, the claims have
// ended anyway.
func (e *Engine) releaseClaims(ctx context.Context, claimed []Delivery) {
	if len(claimed) == 0 {
		return
	}
	err := e.store.Release(context.WithoutCancel(ctx), claimed)
	for errors.Is(err, ErrTransient) && sleep(ctx, transientRetry) {
		err = e.store.Release(context.WithoutCancel(ctx), claimed)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		e.log.Error("claims could not be ended; the deliveries wait for the next start", "deliveries", len(claimed), "error", err)
	}
}

// sleep waits for d. It returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
