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
)

// maxSleep is how long the loop sleeps at most while something waits for its time: timers run by the monotonic clock, so a step
// of the wall clock is noticed only by looking.
const maxSleep = 4 * time.Second

const (
	// fullRetry is when to try again what the store had no room for.
	fullRetry = time.Second
	// transientRetry is when to try again what the store could not do for a moment.
	transientRetry = 250 * time.Millisecond
	// lostRetry is when to watch again after the lanes were lost.
	lostRetry = 250 * time.Millisecond
)

// errShutdown is the cause with which attempts are cut off when the grace at shutdown has ended.
var errShutdown = errors.New("hookbolt is shutting down")

// Engine takes events in and gets webhooks delivered. Its methods may be called at once, also before and after Run.
type Engine struct {
	store    Store
	snapshot atomic.Pointer[snapshot] // what Configure may replace while the engine runs
	metrics  *metrics
	log      *slog.Logger
	lanes    *lanes
	running  atomic.Bool
	keeper   atomic.Bool   // whether this process carries out the background work
	started  chan struct{} // closed by Run
	starting sync.Once     // closes started
	full     atomic.Bool   // whether the last events were refused for want of room
	// transientLogged is when it was logged last that the store failed for a moment, in Unix nanoseconds.
	transientLogged atomic.Int64
	// maintenanceWake wakes the maintenance: capacity 1, sent to by changes that leave work for it, received by maintain.
	maintenanceWake chan struct{}
}

// New makes an engine on a store. Metrics are registered with reg.
func New(store Store, cfg Config, reg prometheus.Registerer, log *slog.Logger) *Engine {
	e := &Engine{store: store, log: log, metrics: newMetrics(reg), maintenanceWake: make(chan struct{}, 1), started: make(chan struct{})}
	e.snapshot.Store(&snapshot{cfg, newSender(cfg)})
	e.lanes = newLanes(e.laneLimits, cfg.MaxInFlight)
	reg.MustRegister(statsCollector{e})
	return e
}

// laneLimits is what a webhook allows its lane.
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
	for {
		err := e.runOwner(ctx)
		if !errors.Is(err, ErrLost) {
			return err
		}
		e.log.Warn("this process has lost its lanes; it takes up anew what it comes to own", "error", err)
		e.lanes.yieldAll()
		if !sleep(ctx, lostRetry) {
			return nil
		}
	}
}

// runOwner is Run until the lanes are lost: then the attempts in flight are cut off, all claims end, and it returns ErrLost.
func (e *Engine) runOwner(parent context.Context) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	sendCtx, cutOff := context.WithCancelCause(context.WithoutCancel(parent))
	defer cutOff(nil)
	watch := e.watch(parent, func(err error) {
		if errors.Is(err, ErrLost) {
			cutOff(err)
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
	work.Go(func() { e.watchDisk(ctx) })
	e.running.Store(true)
	e.lanes.start()
	e.starting.Do(func() { close(e.started) })
	err := e.loop(ctx, sendCtx, &work)
	e.running.Store(false)
	e.releaseClaims(ctx, e.lanes.stop())

	stop(err) // the loop may have ended by an error of its own
	if errors.Is(err, ErrLost) {
		cutOff(err)
	}
	grace := time.AfterFunc(e.config().ShutdownTimeout, func() { cutOff(errShutdown) })
	work.Wait()
	grace.Stop()
	e.sender().CloseIdleConnections()
	return cmp.Or(err, watch.end())
}

// watcher is a call of Store.Watch that is running.
type watcher struct {
	first  chan struct{} // closed by the first news
	cancel context.CancelFunc
	ended  chan error // capacity 1
}

// watch has the store report news until end is called: also while attempts end after ctx has, for they need their lanes. failed is
// called if it ends by an error.
func (e *Engine) watch(ctx context.Context, failed func(error)) *watcher {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &watcher{first: make(chan struct{}), cancel: cancel, ended: make(chan error, 1)}
	gotFirst := sync.OnceFunc(func() { close(w.first) })
	go func() {
		err := e.store.Watch(ctx, func(n News) {
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

// end ends the Watch and returns the error that it ended by, if it had ended already.
func (w *watcher) end() error {
	w.cancel()
	return <-w.ended
}

// apply applies what the store reports.
func (e *Engine) apply(n *News) {
	hooks, now := e.store.Webhooks(), utcNow()
	for _, id := range n.Webhooks {
		e.webhookChanged(id)
	}
	for id, h := range n.Own {
		if w := hooks.Get(id); w != nil {
			e.lanes.own(w, h)
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
	if !e.keeper.Swap(n.Keeper) && n.Keeper {
		e.wakeMaintenance()
	}
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
		start(e.lanes.drainArrivals())
		now := utcNow()
		requests, next := e.lanes.claimRequests(now)
		if len(requests) > 0 {
			claims, err := e.claimDue(ctx, now, requests)
			if err != nil {
				return err
			}
			start(claims)
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

// claimDue asks the store for what is due. An error that passes is waited out.
func (e *Engine) claimDue(ctx context.Context, now time.Time, requests []ClaimRequest) ([]*claim, error) {
	call := e.lanes.beginCall()
	hooks := e.store.Webhooks() // before the call: a cancellation that it does not know is noticed before sending
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

// observeStore logs that the store fails for moments, once a minute at most: each call that fails is made again.
func (e *Engine) observeStore(err error) {
	if !errors.Is(err, ErrTransient) {
		return
	}
	now := time.Now().UnixNano()
	if last := e.transientLogged.Load(); now-last >= int64(time.Minute) && e.transientLogged.CompareAndSwap(last, now) {
		e.log.Warn("the store cannot be used for a moment; what is due waits", "error", err)
	}
}

// releaseClaims ends the claims of deliveries that are not attempted. Where that is lost with the lanes, the claims are, too.
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

// sleep waits, and tells whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// utcNow is the time as it is stored: UTC, without the reading of the monotonic clock.
func utcNow() time.Time { return time.Now().UTC().Round(0) }
