package bench

import (
	"context"
	"time"
)

// window is the span that a load is measured over.
type window struct{ warmup, duration time.Duration }

// measure puts a load on a subject and returns what came of it: at full speed, or at a steady rate if it is not 0. It waits until all has
// arrived. Where ctx ends early, the figures are those up to then.
func (r *run) measure(ctx context.Context, stage string, s *subject, g *generator, rate float64, span window) *Measured {
	ctx, stop := s.whileRunning(ctx)
	defer stop()
	warm, main := r.sink.newTally(), r.sink.newTally()
	stopProgress := r.progress.follow(stage, warm, main)
	defer func() { stopProgress() }() // the last one
	began, attempts := time.Now(), r.sink.attempts.Load()
	warmEnd := began.Add(span.warmup)
	phases := []phase{{warmEnd, warm}, {warmEnd.Add(span.duration), main}}
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		if rate > 0 {
			g.steady(ctx, rate, began, phases)
		} else {
			g.fullSpeed(ctx, phases)
		}
	}()

	sleep(ctx, time.Until(warmEnd))
	from := r.edge(ctx, s, warm, main)
	var samples []Sample
	last, at := from, warmEnd
	for r.opts.Every > 0 && s.api != nil { // the relay is too short for samples
		at = at.Add(r.opts.Every)
		if at.After(phases[1].until) || !sleep(ctx, time.Until(at)) {
			break
		}
		now := r.edge(ctx, s, warm, main)
		sample := now.sample(last, from.at)
		samples = append(samples, sample)
		if !r.opts.JSON {
			stopProgress()
			if len(samples) == 1 {
				section(r.out, stage+", meanwhile")
			}
			sample.print(r.out)
			stopProgress = r.progress.follow(stage, warm, main)
		}
		last = now
	}
	sleep(ctx, time.Until(phases[1].until))
	to := r.edge(context.WithoutCancel(ctx), s, warm, main)
	<-loaded
	settled, lastAt := r.settle(ctx, warm, main)

	seconds := to.at.Sub(from.at)
	arrived := float64(to.arrived - from.arrived)
	m := &Measured{
		Seconds: seconds.Seconds(), Connections: g.connections, Batch: g.batch, Webhooks: len(g.targets),
		Unsent:           warm.unsent.Load() + main.unsent.Load(),
		AcceptedSessions: perSecond(to.accepted-from.accepted, seconds), AcceptedEvents: perSecond(eventsPerSession*(to.accepted-from.accepted), seconds),
		Acknowledgement: main.acknowledgement.read().percentiles(), Lag: main.lag.read().percentiles(),
		Deliveries: perSecond(to.arrived-from.arrived, seconds), Backlog: to.backlog,
		Sustained: perSecond(warm.arrived.Load()+main.arrived.Load()-from.arrived, lastAt.Sub(from.at)), FailedAttempts: r.sink.attempts.Load() - attempts,
		CPU:        over(to.figures.since(from.figures, cpuSeconds), arrived/1000),
		PeakMemory: to.figures.get(peakMemory), AnonymousMemory: to.figures.get(anonymous), Heap: to.figures.get(heapBytes),
		Commits: over(to.figures.since(from.figures, commits), seconds.Seconds()),
		Written: over(to.figures.since(from.figures, writtenBytes), arrived), File: to.figures.get(databaseBytes),
		Check: r.check(stage, settled, warm, main), Samples: samples,
	}
	if n := to.figures.since(from.figures, commits); n != nil {
		m.OperationsPerCommit = over(to.figures.since(from.figures, operations), *n)
	}
	if rate > 0 {
		m.Rate = &rate
	}
	if relay := r.report.Relay; rate == 0 && relay != nil && relay.Deliveries > 0 {
		m.ShareOfRelay = new(100 * m.Deliveries / relay.Deliveries)
	}
	if m.Unsent > 0 {
		r.problem("%s: the server was too far behind: %d requests were not sent", stage, m.Unsent)
	}
	return m
}

// edge is how things stood at an instant.
type edge struct {
	at                   time.Time
	accepted, arrived    int64
	backlog              int64 // that waits to be delivered
	acknowledgement, lag *counts
	figures              reading
}

func (r *run) edge(ctx context.Context, s *subject, warm, main *tally) edge {
	e := edge{at: time.Now(), acknowledgement: main.acknowledgement.read(), lag: main.lag.read()}
	for _, t := range []*tally{warm, main} {
		e.accepted += t.accepted.Load()
		e.arrived += t.arrived.Load()
		e.backlog += t.waiting()
	}
	e.figures = s.read(ctx)
	return e
}

// sample is what has happened since an earlier edge.
func (e *edge) sample(earlier edge, begin time.Time) Sample {
	span := e.at.Sub(earlier.at)
	return Sample{
		Seconds: e.at.Sub(begin).Seconds(), Accepted: perSecond(e.accepted-earlier.accepted, span), Delivered: perSecond(e.arrived-earlier.arrived, span),
		Acknowledgement: e.acknowledgement.since(earlier.acknowledgement).percentiles(), Lag: e.lag.since(earlier.lag).percentiles(),
		Heap: e.figures.get(heapBytes), AnonymousMemory: e.figures.get(anonymous), Goroutines: e.figures.get(goroutines),
		OpenFiles: e.figures.get(openFiles), File: e.figures.get(databaseBytes),
	}
}

// settle waits until all that was accepted has arrived. It tells whether it could wait, and when the last one came. It gives up when
// nothing has come for r.patience.
func (r *run) settle(ctx context.Context, tallies ...*tally) (settled bool, lastAt time.Time) {
	before := int64(-1)
	for {
		arrived, done := int64(0), true
		for _, t := range tallies {
			arrived += t.arrived.Load()
			done = done && t.waiting() == 0 && t.missing() == 0
		}
		if arrived != before {
			before, lastAt = arrived, time.Now()
		}
		if done || time.Since(lastAt) > r.patience {
			return true, lastAt
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return false, lastAt
		}
	}
}

// check sums up whether all has arrived once, and notes as a problem if it has not.
func (r *run) check(stage string, settled bool, tallies ...*tally) Check {
	c := Check{}
	missing, accepted := int64(0), int64(0)
	for _, t := range tallies {
		missing += t.missing()
		accepted += t.accepted.Load()
		c.Repeated += t.repeated.Load()
		c.RefusedRequests += t.refused.Load()
		if err := t.firstTrouble(); err != nil && c.FirstRefusal == "" {
			c.FirstRefusal = err.Error()
		}
	}
	if settled {
		c.Missing = &missing
	} else {
		missing = 0 // it may still come
	}
	if missing > 0 || c.Repeated > 0 {
		r.problem("%s: %d deliveries missing, %d repeated", stage, missing, c.Repeated)
	}
	if accepted == 0 {
		r.problem("%s: nothing was accepted: %s", stage, c.FirstRefusal)
	}
	return c
}
