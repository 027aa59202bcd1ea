package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// backlogBatch is how many sessions a request has where many are put in: within what http.max_body allows by default.
	backlogBatch = 250
	// farOff is when the scheduled deliveries are due: in no run.
	farOff = 30 * 24 * time.Hour
)

// fillScheduled puts in sessions whose deliveries are far off, and starts the server anew with them.
func (r *run) fillScheduled(ctx context.Context) error {
	webhooks := r.opts.ScheduledWebhooks
	_, targets, err := r.subscribe(ctx, webhooks, func(int) (*endpoint, bool) { return r.sink.newEndpoint(farOff, 0), false }, nil)
	if err != nil {
		return err
	}
	t, took := r.fill(ctx, "scheduled", r.opts.Scheduled, targets, shortSession)
	if ctx.Err() != nil || r.server.ended() != nil {
		return ctx.Err()
	}
	accepted := t.accepted.Load()
	s := &Scheduled{Sessions: accepted, Webhooks: webhooks, Seconds: took.Seconds(), PerSecond: perSecond(accepted, took), AfterCrash: r.opts.Crash,
		Check: r.check("scheduled", false, t)}

	r.server.api.client.CloseIdleConnections()
	if r.opts.Crash {
		r.server.process.kill()
	} else {
		r.server.process.stop()
	}
	began := time.Now()
	if err := r.startServer(ctx); err != nil {
		return err
	}
	s.Start = time.Since(began).Seconds()
	now := r.server.read(ctx)
	s.File, s.Heap, s.AnonymousMemory = now.get(databaseBytes), now.get(heapBytes), now.get(anonymous)
	r.report.Scheduled = s
	if !r.opts.JSON {
		s.print(r.out)
	}
	return nil
}

// fill puts sessions in as fast as it goes, many in a request.
func (r *run) fill(ctx context.Context, stage string, sessions int, targets []target, of *template) (*tally, time.Duration) {
	t := r.sink.newTally()
	defer r.progress.follow(stage, t)()
	ctx, stop := r.server.whileRunning(ctx)
	defer stop()
	g := r.generator(r.server.api.url, targets)
	defer g.client.CloseIdleConnections()
	g.batch, g.sessions = min(backlogBatch, sessions), of
	began := time.Now()
	g.amount(ctx, int64(sessions), t)
	took := time.Since(began)
	if n := t.accepted.Load(); n < int64(sessions) && ctx.Err() == nil {
		r.problem("%s: only %d of %d sessions were accepted: %v", stage, n, sessions, t.firstTrouble())
	}
	return t, took
}

// othersRate is how many sessions a second the webhook gets that no outage concerns.
const othersRate = 20

// outage lets a backlog grow at endpoints that answer 503, mends them, and measures how it drains, and what that is to another webhook.
func (r *run) outage(ctx context.Context) error {
	var broken []*endpoint
	// What has failed a few times must not wait for hours: the last of the backlog would be that.
	retries := slices.Repeat([]string{"1s"}, 50)
	ids, targets, err := r.subscribe(ctx, r.opts.Webhooks, func(int) (*endpoint, bool) {
		e := r.sink.newEndpoint(0, 0)
		e.status.Store(http.StatusServiceUnavailable)
		broken = append(broken, e)
		return e, true
	}, retries)
	if err != nil {
		return err
	}
	_, others, err := r.subscribe(ctx, 1, func(int) (*endpoint, bool) { return r.sink.newEndpoint(0, 0), true }, nil)
	if err != nil {
		return err
	}

	t, took := r.fill(ctx, "outage", r.opts.Outage, targets, usualSession)
	o := &Outage{Sessions: t.accepted.Load(), Webhooks: len(targets), Fill: took.Seconds()}

	beside, stop := context.WithCancel(ctx)
	defer stop()
	other := r.sink.newTally()
	var working sync.WaitGroup
	g := r.generator(r.server.api.url, others)
	defer g.client.CloseIdleConnections()
	g.batch = 1
	working.Go(func() {
		g.steady(beside, othersRate, time.Now(), []phase{{time.Now().Add(365 * 24 * time.Hour), other}}) // until it is stopped
	})
	from := r.server.read(ctx)
	for _, e := range broken {
		e.status.Store(http.StatusOK)
	}
	settled := r.drain(ctx, ids, broken, t, o)
	to := r.server.read(context.WithoutCancel(ctx))
	stop()
	working.Wait()
	r.settle(ctx, other)

	o.CPU = over(to.since(from, cpuSeconds), float64(t.arrived.Load())/1000)
	o.PeakMemory, o.Heap, o.File = to.get(peakMemory), to.get(heapBytes), to.get(databaseBytes)
	o.OtherLanes, o.OtherLanesSessions = other.lag.read().percentiles(), other.arrived.Load()
	o.Check = r.check("outage", settled, t)
	if n := other.missing(); n > 0 && settled {
		r.problem("outage: %d deliveries of the other webhook are missing", n)
	}
	r.report.Outage = o
	if !r.opts.JSON {
		o.print(r.out)
	}
	return ctx.Err()
}

// drain has each webhook tried at once, waits until the backlog of t has arrived, and notes how fast that was.
func (r *run) drain(ctx context.Context, ids []int64, mended []*endpoint, t *tally, o *Outage) (settled bool) {
	defer r.progress.follow("drain", t)()
	ctx, end := r.server.whileRunning(ctx)
	defer end()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watcher sync.WaitGroup
	var first, most, last time.Time // the first arrival, that of 99 %, the last one
	var atFirst, atMost int64
	watcher.Go(func() {
		for before := int64(0); ; {
			now, n := time.Now(), t.arrived.Load()
			if n > 0 && first.IsZero() {
				first, atFirst = now, n
			}
			if most.IsZero() && n >= t.owed.Load()*99/100 && n > 0 {
				most, atMost = now, n
			}
			if n > before {
				last, before = now, n
			}
			if !sleep(watching, time.Millisecond) {
				return
			}
		}
	})
	r.probe(ctx, ids, mended)
	settled, _ = r.settle(ctx, t)
	sleep(ctx, 2*time.Millisecond) // the watcher has seen the last one
	stop()
	watcher.Wait()
	span := last.Sub(first)
	o.DrainSeconds, o.Deliveries, o.Deliveries99 = span.Seconds(), perSecond(t.arrived.Load()-atFirst, span), perSecond(atMost-atFirst, most.Sub(first))
	return settled
}

// probe has the server try mended endpoints at once, as it does when a webhook is changed. A retry of one of its deliveries would do as
// well, but that one might have been delivered in the meantime, and would come again. An attempt that failed just before may be recorded
// after the change and put the next one off: then once more.
func (r *run) probe(ctx context.Context, ids []int64, mended []*endpoint) {
	for range 20 {
		waiting := false
		for i, id := range ids {
			if mended[i].worked.Load() {
				continue
			}
			waiting = true
			if _, err := r.server.api.call(ctx, http.MethodPatch, fmt.Sprintf("/v1/webhooks/%d", id), map[string]any{"name": "bench " + r.nonce + ", mended"}); err != nil && ctx.Err() == nil {
				r.problem("outage: webhook %d: %v", id, err)
			}
		}
		if !waiting || !sleep(ctx, 250*time.Millisecond) {
			return
		}
	}
}
