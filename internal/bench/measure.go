package bench

import (
	"context"
	"time"
)

// window is how long a load lasts before it is measured, and how long it is measured.
type window struct{ warmup, duration time.Duration }

// stage is a load on a subject. A rate of 0 means full speed.
type stage struct {
	name    string
	subject *subject
	source  *generator
	rate    float64
	span    window
}

// measurement is the measurement of a stage.
type measurement struct {
	*run
	stage
	warm, main   *tally
	attempts     int64 // failed attempts at the endpoints before it began
	stopProgress func()
	from, to     edge // the beginning and the end of the measured window
}

// measure applies a load to a subject, waits until all deliveries have arrived, and returns the figures. If ctx ends early, the figures are
// those up to then.
func (r *run) measure(ctx context.Context, st stage) *Measured {
	ctx, stop := st.subject.whileRunning(ctx)
	defer stop()
	m := &measurement{run: r, stage: st, warm: r.sink.newTally(), main: r.sink.newTally()}
	m.stopProgress = r.progress.follow(m.name, m.warm, m.main)
	defer func() { m.stopProgress() }() // samples replaces it
	began := time.Now()
	m.attempts = r.sink.attempts.Load()
	warmEnd := began.Add(m.span.warmup)
	end := warmEnd.Add(m.span.duration)
	phases := []phase{{warmEnd, m.warm}, {end, m.main}}
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		if m.rate > 0 {
			m.source.steady(ctx, m.rate, began, phases)
		} else {
			m.source.fullSpeed(ctx, phases)
		}
	}()

	sleep(ctx, time.Until(warmEnd))
	m.from = r.edge(ctx, m.subject, m.warm, m.main)
	samples := m.samples(ctx, warmEnd, end)
	sleep(ctx, time.Until(end))
	m.to = r.edge(context.WithoutCancel(ctx), m.subject, m.warm, m.main)
	<-loaded
	settled, lastAt := r.settle(ctx, m.warm, m.main)
	measured := m.result(lastAt)
	measured.Check, measured.Samples = r.check(m.name, settled, m.warm, m.main), samples
	if measured.Unsent > 0 {
		r.problem("%s: the server was too slow: %d requests were not sent", m.name, measured.Unsent)
	}
	return measured
}

// samples makes a sample every opts.Every, from one time to another, and prints it.
func (m *measurement) samples(ctx context.Context, at, end time.Time) (samples []Sample) {
	last := m.from
	for m.opts.Every > 0 && len(m.subject.apis) > 0 { // the relay has no metrics to sample
		at = at.Add(m.opts.Every)
		if at.After(end) || !sleep(ctx, time.Until(at)) {
			break
		}
		now := m.edge(ctx, m.subject, m.warm, m.main)
		sample := now.sample(last, m.from.at)
		samples = append(samples, sample)
		if !m.opts.JSON {
			m.stopProgress()
			if len(samples) == 1 {
				section(m.out, m.name+", samples")
			}
			sample.print(m.out)
			m.stopProgress = m.progress.follow(m.name, m.warm, m.main)
		}
		last = now
	}
	return samples
}

// result returns the figures, once the last delivery has arrived.
func (m *measurement) result(lastAt time.Time) *Measured {
	from, to := &m.from, &m.to
	seconds := to.at.Sub(from.at)
	arrived := float64(to.arrived - from.arrived)
	r := &Measured{
		Seconds: seconds.Seconds(), Connections: m.source.connections, Batch: m.source.batch, Webhooks: len(m.source.targets),
		Unsent:           m.warm.unsent.Load() + m.main.unsent.Load(),
		AcceptedSessions: perSecond(to.accepted-from.accepted, seconds), AcceptedEvents: perSecond(eventsPerSession*(to.accepted-from.accepted), seconds),
		Acknowledgement: m.main.acknowledgement.read().percentiles(), Lag: m.main.lag.read().percentiles(),
		Deliveries: perSecond(to.arrived-from.arrived, seconds), Backlog: to.backlog,
		Sustained:      perSecond(m.warm.arrived.Load()+m.main.arrived.Load()-from.arrived, lastAt.Sub(from.at)),
		FailedAttempts: m.sink.attempts.Load() - m.attempts,
		CPU:            ratio(to.figures.since(from.figures, cpuSeconds), arrived/1000),
		PeakMemory:     to.figures.get(peakMemory), AnonymousMemory: to.figures.get(anonymous), Heap: to.figures.get(heapBytes),
		Commits: ratio(to.figures.since(from.figures, commits), seconds.Seconds()),
		Written: ratio(to.figures.since(from.figures, writtenBytes), arrived), File: to.figures.get(databaseBytes),
	}
	if m.report.Machine.Database != "" { // its server writes, and not the process
		r.Written = nil
	}
	if n := to.figures.since(from.figures, commits); n != nil {
		r.OperationsPerCommit = ratio(to.figures.since(from.figures, operations), *n)
	}
	if m.rate > 0 {
		r.Rate = &m.rate
	}
	if m.rate == 0 {
		r.ShareOfRelay, r.ShareOfTunedRelay = r.shareOf(m.report.Relay), r.shareOf(m.report.TunedRelay)
	}
	return r
}

// shareOf returns the share of a relay's rate, in percent; nil if that is not known.
func (r *Measured) shareOf(relay *Measured) *float64 {
	if relay == nil || relay.Deliveries == 0 {
		return nil
	}
	return new(100 * r.Deliveries / relay.Deliveries)
}

// edge has the counts and figures at the beginning or the end of a window.
type edge struct {
	at                   time.Time
	accepted, arrived    int64
	backlog              int64 // accepted sessions that have not arrived
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

// sample returns the figures of the time since an earlier edge. begin is the beginning of the window.
func (e *edge) sample(earlier edge, begin time.Time) Sample {
	span := e.at.Sub(earlier.at)
	return Sample{
		Seconds: e.at.Sub(begin).Seconds(), Accepted: perSecond(e.accepted-earlier.accepted, span), Delivered: perSecond(e.arrived-earlier.arrived, span),
		Acknowledgement: e.acknowledgement.since(earlier.acknowledgement).percentiles(), Lag: e.lag.since(earlier.lag).percentiles(),
		Heap: e.figures.get(heapBytes), AnonymousMemory: e.figures.get(anonymous), Goroutines: e.figures.get(goroutines),
		OpenFiles: e.figures.get(openFiles), File: e.figures.get(databaseBytes),
	}
}

// settle waits until all accepted sessions have arrived, or until nothing has arrived for r.quietTimeout. settled is false if ctx ended
// first. lastAt is when the last one arrived.
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
		if done || time.Since(lastAt) > r.quietTimeout {
			return true, lastAt
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return false, lastAt
		}
	}
}

// check returns whether every accepted session has arrived exactly once. It records a problem if not.
func (r *run) check(stage string, settled bool, tallies ...*tally) Check {
	c := Check{}
	missing, accepted := int64(0), int64(0)
	for _, t := range tallies {
		missing += t.missing()
		accepted += t.accepted.Load()
		c.Repeated += t.repeated.Load()
		c.RefusedRequests += t.refused.Load()
		if err := t.firstError(); err != nil && c.FirstRefusal == "" {
			c.FirstRefusal = err.Error()
		}
	}
	if settled {
		c.Missing = &missing
	} else {
		missing = 0 // they may still arrive
	}
	if missing > 0 || c.Repeated > 0 {
		r.problem("%s: %d deliveries missing, %d repeated", stage, missing, c.Repeated)
	}
	if accepted == 0 {
		r.problem("%s: nothing was accepted: %s", stage, c.FirstRefusal)
	}
	return c
}
