package transform

import (
	"context"
	"slices"
	"time"
)

const (
	// maxOwners is how many owners a schedule remembers.
	maxOwners = 10_000
	// averagedJobs is of how many jobs the cost of a known owner is the average.
	averagedJobs = 8
)

// schedule says which jobs run. It is guarded by the pool's mutex. See Pool for its rules.
type schedule struct {
	fast, slow int // places
	owners     map[uint32]*owner
	queues     [classes][]*owner // owners with a job that may run, in turn
	running    [classes]int
	active     map[*place]struct{} // places with a worker
	overdue    []*place            // active fast ones that should be slow, but there is no room
}

// class is what to expect of a job.
type class int

const (
	known   class = iota // the jobs of its owner took less than cheapBelow of late
	unknown              // its owner had no job yet, or they took more
	slow                 // it takes more than slowAfter, or the last job of its owner has
	classes
)

// niceOf is the scheduling priority of the workers of a class of jobs, as a nice value. Where the server wants the processor too, an unknown job
// gets some hundredths of it. A slow one gets what nobody wants for the time of idleFor, and then a hundredth: enough for an honest one to end
// within maxWait.
var niceOf = [classes]int{known: 0, unknown: 15, slow: 19}

// owner is one whose jobs the pool runs.
type owner struct {
	id      uint32
	class   class
	waiting []*place
	running int
	queued  bool
	slowRow int           // how many of its last jobs were slow, one after the other
	cost    time.Duration // what its jobs took of late, on average
}

// place is a job's place in the pool.
type place struct {
	job     *Job
	owner   *owner
	class   class         // what it runs as
	granted chan struct{} // gets a value when it may run, or has an answer
	group   []*place      // the jobs that run with it, on its worker and after it
	follows bool          // it runs in the group of another one
	worker  *worker       // what it runs on; nil before and after
	watch   stopwatch     // of the jobs on this worker
	overdue bool          // it has run for slowAfter

	// answered tells that it has run in the group of another one. Then result and err are its answer. The group's goroutine sets them before granted gets its value.
	answered bool
	result   Result
	err      error
}

func newPlace(job *Job) *place { return &place{job: job, granted: make(chan struct{}, 1)} }

func newSchedule(fast, slow int) schedule {
	return schedule{fast: fast, slow: slow, owners: make(map[uint32]*owner), active: make(map[*place]struct{})}
}

// enter waits until a job may run. The error is the cause of the context's end, or ErrClosed.
func (p *Pool) enter(ctx context.Context, at *place, id uint32) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	p.schedule.enqueue(at, id)
	p.mu.Unlock()
	select {
	case <-at.granted:
		return nil
	case <-ctx.Done():
	case <-p.closing:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.schedule.withdraw(at) && !at.follows {
		p.schedule.release(at, 0)
		answerAll(at.group, &endedError{why: endedAbandoned})
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return ErrClosed
}

// begin is called when a job has a worker.
func (p *Pool) begin(at *place, w *worker) {
	watch := newStopwatch(w)
	p.mu.Lock()
	defer p.mu.Unlock()
	at.worker, at.watch, at.overdue = w, watch, at.class == slow
	w.yield(at.class == slow)
	p.lookSoon()
	p.schedule.active[at] = struct{}{}
	if p.closed {
		w.kill(endedAbandoned)
	}
}

// leave is called when a job has run for a time; 0 tells nothing of its owner.
func (p *Pool) leave(at *place, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.schedule.release(at, took)
}

// enqueue adds a job. It goes before the others of its owner if it has run already.
func (s *schedule) enqueue(at *place, id uint32) {
	o := s.owners[id]
	if o == nil {
		s.forget()
		o = &owner{id: id, class: unknown}
		s.owners[id] = o
	}
	if at.owner == nil {
		o.waiting = append(o.waiting, at)
	} else {
		o.waiting = slices.Insert(o.waiting, 0, at)
	}
	at.owner, at.group, at.follows = o, nil, false
	s.queue(o)
	s.grant()
}

// forget makes room for an owner, if need be: it drops one that has nothing to run.
func (s *schedule) forget() {
	if len(s.owners) < maxOwners {
		return
	}
	for id, o := range s.owners { // any: a map has no order
		if len(o.waiting) == 0 && o.running == 0 {
			delete(s.owners, id)
			return
		}
	}
}

// withdraw removes a job that waits, and tells whether it did: it may have been granted meanwhile.
func (s *schedule) withdraw(at *place) bool {
	o := at.owner
	i := slices.Index(o.waiting, at)
	if i < 0 {
		return false
	}
	o.waiting = slices.Delete(o.waiting, i, i+1)
	if len(o.waiting) == 0 {
		s.unqueue(o)
	}
	return true
}

// release gives back the place of a job that has run for a time.
func (s *schedule) release(at *place, took time.Duration) {
	o := at.owner
	s.running[at.class]--
	o.running--
	at.worker = nil
	delete(s.active, at)
	s.overdue = slices.DeleteFunc(s.overdue, func(other *place) bool { return other == at })
	switch {
	case took == 0:
	case took >= slowAfter:
		o.slowRow++
		s.classify(o, slow)
	case at.class == slow:
		o.slowRow = 0
		s.classify(o, unknown)
	default:
		o.slowRow = 0
		o.average(took)
		s.classify(o, o.expected())
	}
	s.queue(o)
	s.grant()
}

// average notes what a job of an owner took. Of a known owner one job says little: its worker may be new, or its memory in no cache. Of any
// other one the last job counts.
func (o *owner) average(took time.Duration) {
	if o.class == known {
		took = o.cost + (took-o.cost)/averagedJobs
	}
	o.cost = took
}

// expected returns the class of an owner by its cost.
func (o *owner) expected() class {
	if o.cost < cheapBelow {
		return known
	}
	return unknown
}

// turnSlow makes a running job slow.
func (s *schedule) turnSlow(at *place) {
	if at.class == slow {
		return
	}
	s.classify(at.owner, slow)
	s.overdue = append(s.overdue, at)
	s.grant()
}

// classify changes the class of an owner.
func (s *schedule) classify(o *owner, c class) {
	if o.class == c {
		return
	}
	s.unqueue(o)
	o.class = c
	s.queue(o)
}

// queue has an owner wait for its turn if a job of it may run.
func (s *schedule) queue(o *owner) {
	limit := s.fast - 1
	if o.class == slow {
		limit = 1
	}
	if o.queued || len(o.waiting) == 0 || o.running >= limit {
		return
	}
	if _, full := o.group(); full || o.running == 0 || o.class != known { // else they wait for others to run with, and for the worker that is at work
		s.queues[o.class] = append(s.queues[o.class], o)
		o.queued = true
	}
}

func (s *schedule) unqueue(o *owner) {
	if o.queued {
		s.queues[o.class] = slices.DeleteFunc(s.queues[o.class], func(other *owner) bool { return other == o })
		o.queued = false
	}
}

// hasRoom tells whether another job of a class may run.
func (s *schedule) hasRoom(c class) bool {
	fast := s.running[known] + s.running[unknown]
	switch c {
	case known:
		return fast < s.fast
	case unknown:
		return fast < s.fast && s.running[unknown] < max(1, s.fast/2)
	}
	return s.running[slow] < s.slow
}

// waits tells whether a job of a class may run as soon as there is room.
func (s *schedule) waits(c class) bool { return len(s.queues[c]) > 0 }

// grant lets jobs run for which there is room.
func (s *schedule) grant() {
	for len(s.overdue) > 0 && s.hasRoom(slow) {
		at := s.overdue[0]
		s.overdue = s.overdue[1:]
		s.running[at.class]--
		s.running[slow]++
		at.class = slow
	}
	if s.running[unknown] == 0 && s.waits(unknown) && s.hasRoom(unknown) { // known owners may leave no place free for long
		s.start(s.next(unknown))
	}
	for c := range classes {
		for s.waits(c) && s.hasRoom(c) {
			s.start(s.next(c))
		}
	}
	if len(s.overdue) > 0 && (s.waits(known) || s.waits(unknown)) { // one for each call: there is a call for each that waits
		at := s.overdue[0]
		s.overdue = s.overdue[1:]
		at.worker.kill(endedMoved)
	}
}

// next returns the owner of a class whose turn it is.
func (s *schedule) next(c class) *owner {
	if c != slow {
		return s.queues[c][0]
	}
	return slices.MinFunc(s.queues[c], func(a, b *owner) int { return a.slowRow - b.slowRow }) // the first of several
}

// start lets the next job of an owner run.
func (s *schedule) start(o *owner) {
	s.unqueue(o)
	at := o.waiting[0]
	n, _ := o.group()
	at.group = slices.Clone(o.waiting[1:n])
	for _, other := range at.group {
		other.follows = true
	}
	o.waiting = slices.Delete(o.waiting, 0, n)
	at.class = o.class
	o.running++
	s.running[at.class]++
	s.queue(o)
	at.granted <- struct{}{}
}
