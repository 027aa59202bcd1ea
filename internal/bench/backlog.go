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
	// backlogBatch is how many sessions a request of fill has. They fit in the default of http.max_body.
	backlogBatch = 250
	// farOff is the delay of the scheduled deliveries. It is longer than any run.
	farOff = 30 * 24 * time.Hour
)

// fillScheduled posts sessions whose deliveries are due in farOff, and measures a restart of the server with them.
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

	if r.opts.Crash {
		r.server.end((*process).kill)
	} else {
		r.server.end((*process).stop)
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

// fill posts sessions at full speed, many in a request. It returns their tally and how long it took.
func (r *run) fill(ctx context.Context, stage string, sessions int, targets []target, of *template) (*tally, time.Duration) {
	t := r.sink.newTally()
	defer r.progress.follow(stage, t)()
	ctx, stop := r.server.whileRunning(ctx)
	defer stop()
	g := r.generator(r.server.urls(), targets)
	defer g.client.CloseIdleConnections()
	g.batch, g.sessions = min(backlogBatch, sessions), of
	began := time.Now()
	g.postSessions(ctx, int64(sessions), t)
	took := time.Since(began)
	if n := t.accepted.Load(); n < int64(sessions) && ctx.Err() == nil {
		r.problem("%s: only %d of %d sessions were accepted: %v", stage, n, sessions, t.firstError())
	}
	return t, took
}

// othersRate is the rate, in sessions a second, of the webhook that is not part of the outage.
const othersRate = 20

// outage lets a backlog grow for endpoints that answer 503, lets them recover, and measures how fast the backlog drains and how it affects
// another webhook.
func (r *run) outage(ctx context.Context) error {
	var broken []*endpoint
	// The default schedule has waits of hours. With it, deliveries that failed several times would be the last of the drain.
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

	otherCtx, stop := context.WithCancel(ctx)
	defer stop()
	other := r.sink.newTally()
	var working sync.WaitGroup
	g := r.generator(r.server.urls(), others)
	defer g.client.CloseIdleConnections()
	g.batch = 1
	working.Go(func() {
		g.steady(otherCtx, othersRate, time.Now(), []phase{{time.Now().Add(365 * 24 * time.Hour), other}}) // until otherCtx ends
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

	o.CPU = ratio(to.since(from, cpuSeconds), float64(t.arrived.Load())/1000)
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

// drain triggers an attempt for each webhook, waits until the backlog of t has arrived, and sets the results of the drain in o.
func (r *run) drain(ctx context.Context, ids []int64, recovered []*endpoint, t *tally, o *Outage) (settled bool) {
	defer r.progress.follow("drain", t)()
	ctx, end := r.server.whileRunning(ctx)
	defer end()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watcher sync.WaitGroup
	var first, at99, last time.Time // the times of the first arrival, of 99 % of them, and of the last one
	var arrivedFirst, arrived99 int64
	watcher.Go(func() {
		for before := int64(0); ; {
			now, n := time.Now(), t.arrived.Load()
			if n > 0 && first.IsZero() {
				first, arrivedFirst = now, n
			}
			if at99.IsZero() && n >= t.due.Load()*99/100 && n > 0 {
				at99, arrived99 = now, n
			}
			if n > before {
				last, before = now, n
			}
			if !sleep(watching, time.Millisecond) {
				return
			}
		}
	})
	r.probe(ctx, ids, recovered)
	settled, _ = r.settle(ctx, t)
	sleep(ctx, 2*time.Millisecond) // until the watcher has seen the last arrival
	stop()
	watcher.Wait()
	span := last.Sub(first)
	o.DrainSeconds, o.Deliveries, o.Deliveries99 = span.Seconds(), perSecond(t.arrived.Load()-arrivedFirst, span), perSecond(arrived99-arrivedFirst, at99.Sub(first))
	return settled
}

// probe makes the server attempt recovered endpoints at once, by a change of their webhooks. A manual retry of a delivery would do the same,
// but the delivery might be delivered meanwhile, and would arrive twice. An attempt that failed just before the change may be recorded
// after it and postpone the next one, so the change is repeated until the endpoint has worked.
func (r *run) probe(ctx context.Context, ids []int64, recovered []*endpoint) {
	for range 20 {
		pending := false
		for i, id := range ids {
			if recovered[i].worked.Load() {
				continue
			}
			pending = true
			if _, err := r.server.api().call(ctx, http.MethodPatch, fmt.Sprintf("/v1/webhooks/%d", id), map[string]any{"name": "bench " + r.nonce + ", recovered"}); err != nil && ctx.Err() == nil {
				r.problem("outage: webhook %d: %v", id, err)
			}
		}
		if !pending || !sleep(ctx, 250*time.Millisecond) {
			return
		}
	}
}
