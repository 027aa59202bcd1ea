package transform

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Command is the hidden command of this program that is a worker.
const Command = "transform-worker"

const (
	// slowAfter is how long a job may take among the fast ones. It is some hundred times what a program takes that makes a message. On Linux
	// it is the time that the worker had a processor: a machine that is busy makes nobody slow.
	slowAfter = 50 * time.Millisecond
	// cheapBelow is what the jobs of an owner take at the most, on average, who may have the last free worker.
	cheapBelow = 10 * time.Millisecond
	// lookInterval is how often the jobs that run are looked at.
	lookInterval = 10 * time.Millisecond
	// killAfter is how long a worker may have a processor for a job until the parent kills it, because it has not ended itself.
	killAfter = 2 * time.Second
	// idleFor is how long a slow job is run only while nothing else wants the processor.
	idleFor = 5 * time.Second
	// maxWait is how long a job may take by the clock. A machine that leaves it less than MaxTime meanwhile is too busy to run programs.
	maxWait = 20 * time.Second
	// maxTries is how often a job is run whose worker is ended by somebody else.
	maxTries = 3
)

// Options are those of a pool. Zero values mean the defaults.
type Options struct {
	// Command starts a worker: a program and its arguments. Defaults to this executable with the argument [Command].
	Command []string
	// Fast is how many jobs run at once that do not take long. Defaults to GOMAXPROCS, at least 2 and at most 8.
	Fast int
	// Slow is how many jobs run at once beside those that take long. Defaults to a quarter of Fast, at least 1.
	Slow int
	// IdleTimeout is how long a worker waits for a job before it is ended. Defaults to a minute.
	IdleTimeout time.Duration
	// Observe is told what happens, for metrics. It must not block.
	Observe Observer
}

// Observer is told what a pool does. Any function may be nil.
type Observer struct {
	// Ran is called after each job that has programs, with its outcome, one of Outcomes, and its duration, the wait for a worker included.
	Ran func(outcome string, duration time.Duration)
	// Started is called when a worker has been started, and Ended when it has ended, with the reason, one of EndReasons.
	Started func()
	Ended   func(reason string)
}

// Outcomes are what a job may come to: something to send, nothing to send, an *Error, an ErrNoWorker, and any other error.
var Outcomes = []string{"sent", "filtered", "failed", "no_worker", "abandoned"}

// EndReasons are why a worker may end.
var EndReasons = []string{string(endedIdle), string(endedTime), string(endedMemory), string(endedCrash), string(endedMoved), string(endedAbandoned),
	string(endedStarved), string(endedLost)}

// Pool runs jobs in worker processes. It starts none before the first job with a program, and ends those that have nothing to do.
//
// # Fairness
//
// The jobs of an owner run in their order, and owners take turns. What waits of a known owner runs together, as a group (see group.go). An
// owner whose jobs took less than cheapBelow of late is known. Others never get more than half of the workers: so a known owner waits for
// jobs of its kind at most, whatever others run. The workers of the others have a lower priority. A job that takes more than slowAfter
// gives up its place among the fast ones and becomes slow. There are few places for slow jobs, of lowest priority. While all are taken, a
// job that should be slow runs on, but if somebody waits for its place it is ended, and starts anew as slow later. The next jobs of its
// owner start as slow, until one of them is fast again. Of slow owners, those come first that were slow the fewest times in a row.
//
// The callers of Run are the queue: the pool holds nothing of a job that waits but its place.
type Pool struct {
	options Options
	waiters sync.WaitGroup // for the ends of processes

	closing chan struct{} // closed by Close

	mu        sync.Mutex
	closed    bool
	schedule  schedule
	idle      []*worker // the last used last
	idleTimer *time.Timer
	lookTimer *time.Timer // nil before the first job
	looks     bool        // the timer is set
}

// NewPool returns a pool. It starts no process before the first job.
func NewPool(o Options) *Pool {
	if o.Fast <= 0 {
		o.Fast = min(max(2, runtime.GOMAXPROCS(0)), 8)
	}
	if o.Slow <= 0 {
		o.Slow = max(1, o.Fast/4)
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = time.Minute
	}
	o.Fast = max(2, o.Fast)
	return &Pool{options: o, closing: make(chan struct{}), schedule: newSchedule(o.Fast, o.Slow)}
}

// Run runs a job. The error is an *Error, an ErrNoWorker, ErrClosed or the cause of the context's end. A job without programs needs no worker.
func (p *Pool) Run(ctx context.Context, job Job) (Result, error) {
	if job.Filter == "" && job.Transform == "" && job.URLValues == "" {
		return Result{Body: job.Payload}, nil
	}
	began := time.Now()
	result, err := p.run(ctx, &job)
	if p.options.Observe.Ran != nil {
		p.options.Observe.Ran(outcome(result, err), time.Since(began))
	}
	return result, err
}

// outcome names the result of a job.
func outcome(r Result, err error) string {
	_, failed := errors.AsType[*Error](err)
	switch {
	case failed:
		return "failed"
	case errors.Is(err, ErrNoWorker):
		return "no_worker"
	case err != nil:
		return "abandoned"
	case r.Filtered:
		return "filtered"
	}
	return "sent"
}

func (p *Pool) run(ctx context.Context, job *Job) (Result, error) {
	if !p.join() {
		return Result{}, ErrClosed
	}
	defer p.waiters.Done()
	at := newPlace(job)
	for lost := 0; ; {
		if err := p.enter(ctx, at, job.Owner); err != nil {
			return Result{}, err
		}
		if !at.answered {
			p.runGroup(ctx, at)
		}
		at.answered = false
		ended, hasEnded := errors.AsType[*endedError](at.err)
		switch {
		case !hasEnded:
			return at.result, at.err
		case ctx.Err() != nil:
			return Result{}, context.Cause(ctx)
		case ended.why == endedAbandoned: // with another job of its group, or by Close, which enter tells
			continue
		case ended.shared:
			continue // alone: its owner is slow now
		case ended.why == endedStarved:
			return Result{}, fmt.Errorf("%w: it had less than %s of a processor in %s: this machine is too busy", ErrNoWorker, MaxTime, maxWait)
		case ended.why == endedMoved:
			continue // its owner is slow now
		case ended.why == endedLost:
			if lost++; lost < maxTries {
				continue
			}
			return Result{}, fmt.Errorf("%w: each was ended from outside, perhaps for want of memory (%d)", ErrNoWorker, maxTries)
		}
		return Result{}, &Error{Program: ended.program(job), Detail: ended.detail()}
	}
}

// join tells whether the pool is open. If so, Close waits for the caller.
func (p *Pool) join() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.waiters.Add(1)
	}
	return !p.closed
}

// look makes the jobs slow that have taken slowAfter, and ends those that have taken too long.
func (p *Pool) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := range p.schedule.active {
		took, w := at.watch.took(), at.worker
		switch {
		case at.watch.mustEnd(took):
			w.kill(endedTime)
		case time.Since(at.watch.began) >= maxWait:
			w.kill(endedStarved)
		case took >= slowAfter && !at.overdue:
			at.overdue = true
			w.lower(niceOf[slow])
			w.yield(true)
			p.schedule.turnSlow(at)
		case time.Since(at.watch.began) >= idleFor:
			w.yield(false)
		}
	}
	if p.looks = len(p.schedule.active) > 0; p.looks {
		p.lookTimer.Reset(lookInterval)
	}
}

// lookSoon has the jobs that run be looked at from now on. The pool's mutex is held.
func (p *Pool) lookSoon() {
	switch {
	case p.looks:
		return
	case p.lookTimer == nil:
		p.lookTimer = time.AfterFunc(lookInterval, p.look)
	default:
		p.lookTimer.Reset(lookInterval)
	}
	p.looks = true
}

// stopwatch measures what a job takes: the time for which its worker has a processor, or just the time where the system does not say it.
type stopwatch struct {
	w     *worker
	began time.Time
	used  time.Duration
	knows bool
}

func newStopwatch(w *worker) stopwatch {
	used, knows := w.used()
	return stopwatch{w, time.Now(), used, knows}
}

// took returns what the job has taken; not 0. Of a worker that has ended it says nothing.
func (s stopwatch) took() time.Duration {
	took := max(1, time.Since(s.began))
	if !s.knows || took < time.Millisecond { // it was no more
		return took
	}
	used, _ := s.w.used()
	return max(1, used-s.used)
}

// mustEnd tells whether a job that has taken a time is to be killed. A worker that knows its own time is trusted where its parent does not
// know it.
func (s stopwatch) mustEnd(took time.Duration) bool {
	if !s.knows && ownTimeKnown {
		return time.Since(s.began) >= maxWait
	}
	return took >= killAfter
}

// takeWorker returns a worker that nobody uses, or starts one. The error is an ErrNoWorker.
func (p *Pool) takeWorker(c class) (*worker, error) {
	for w := p.idleWorker(c); w != nil; w = p.idleWorker(c) {
		select {
		case <-w.ended: // ended by somebody else
			p.countEnd(w.ending().why)
			continue
		default:
		}
		return w, nil
	}
	command := p.options.Command
	if command == nil {
		var err error
		if command, err = thisProgram(); err != nil {
			return nil, err
		}
	}
	w, err := startWorker(command, niceOf[c], &p.waiters)
	if err == nil && p.options.Observe.Started != nil {
		p.options.Observe.Started()
	}
	return w, err
}

// idleWorker takes the idle worker for a class of jobs that was used last; nil if there is none.
func (p *Pool) idleWorker(c class) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range slices.Backward(p.idle) {
		if w.nice == niceOf[c] {
			p.idle = slices.Delete(p.idle, i, i+1)
			return w
		}
	}
	return nil
}

// returnWorker keeps a worker for the next job of the same priority, which cannot be raised again.
func (p *Pool) returnWorker(w *worker) {
	p.mu.Lock()
	keep := !w.killed() && !p.closed && len(p.idle) < p.options.Fast+p.options.Slow
	if keep {
		w.idleSince = time.Now()
		p.idle = append(p.idle, w)
		if p.idleTimer == nil {
			p.idleTimer = time.AfterFunc(p.options.IdleTimeout, p.endIdle)
		}
	}
	p.mu.Unlock()
	if !keep {
		p.endWorker(w)
	}
}

// endIdle ends the workers that have had nothing to do for long.
func (p *Pool) endIdle() {
	p.mu.Lock()
	// The first has been idle for the longest.
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].idleSince) >= p.options.IdleTimeout {
		n++
	}
	ended := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.idleTimer = nil
	if len(p.idle) > 0 {
		p.idleTimer = time.AfterFunc(p.options.IdleTimeout-time.Since(p.idle[0].idleSince), p.endIdle)
	}
	p.mu.Unlock()
	for _, w := range ended {
		p.endWorker(w)
	}
}

func (p *Pool) endWorker(w *worker) { p.countEnd(w.close().why) }

func (p *Pool) countEnd(why ending) {
	if p.options.Observe.Ended != nil {
		p.options.Observe.Ended(string(why))
	}
}

// Close ends the workers, also those that run a job, and waits until they have ended. Jobs that run or wait end with ErrClosed.
func (p *Pool) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.closing)
	}
	idle := p.idle
	p.idle = nil
	for at := range p.schedule.active {
		at.worker.kill(endedAbandoned)
	}
	if p.idleTimer != nil {
		p.idleTimer.Stop()
	}
	p.mu.Unlock()
	for _, w := range idle {
		p.endWorker(w)
	}
	p.waiters.Wait()
}
