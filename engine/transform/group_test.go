package transform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Jobs wait together while a job of their owner runs, and then run together, if their owner is known and they have the same programs, up to
// limits. Another worker is for a group that is full.
func TestScheduleGroups(t *testing.T) {
	small, other := &Job{Payload: []byte("{}")}, &Job{Payload: []byte("{}"), Programs: Programs{Filter: "other"}}
	half := &Job{Payload: alone[:maxGroupBytes/2]}
	repeat := func(job *Job, n int) []*Job { return slices.Repeat([]*Job{job}, n) }
	for _, c := range []struct {
		name string
		cost time.Duration // of the owner's jobs
		jobs []*Job        // while one runs
		want []int         // the groups that have begun once that one has ended
	}{
		{"one", 1, repeat(small, 1), []int{1}},
		{"some", 1, repeat(small, 5), []int{5}},
		{"many", 1, repeat(small, maxGroup+5), []int{maxGroup}}, // the others wait for more
		{"more than two groups", 1, repeat(small, 2*maxGroup+5), []int{maxGroup, maxGroup}},
		{"costly ones", groupTime/3 + 1, repeat(small, 5), []int{2, 2}},
		{"an owner that is not known", cheapBelow, repeat(small, 5), []int{1, 1}},
		{"large ones", 1, repeat(half, 3), []int{2}},
		{"one larger than a group", 1, repeat(&Job{Payload: append(alone, ' ')}, 1), []int{1}},
		{"other programs", 1, []*Job{small, small, other, small}, []int{2, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSchedule(3, 1)
			s.release(started(t, &s, 1), c.cost)
			first := started(t, &s, 1)
			var places []*place
			for _, job := range c.jobs {
				places = append(places, newPlace(job))
				s.enqueue(places[len(places)-1], 1)
			}
			s.release(first, c.cost)
			var got []int
			for _, at := range places {
				if runs(at) {
					got = append(got, 1+len(at.group))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("groups of %v, want %v", got, c.want)
			}
		})
	}
}

// An owner who is not known has no group, also if it was known when its jobs came.
func TestScheduleGroupsNoneOfTheSlow(t *testing.T) {
	s := newSchedule(2, 1)
	s.release(started(t, &s, 1), 1)
	first := started(t, &s, 1)
	small := &Job{Payload: []byte("{}")}
	for range 3 {
		s.enqueue(newPlace(small), 1)
	}
	s.release(first, slowAfter)
	if o := s.owners[1]; o.running != 1 || len(o.waiting) != 2 {
		t.Errorf("%d run, and %d wait", o.running, len(o.waiting))
	}
}

// outcomeOf is what became of a job.
type outcomeOf struct {
	body string
	err  error
}

// together runs a job for each context as one group. The program gets the number of the job. meanwhile is called while the group runs: its worker
// is stopped and goes on after it.
func together(t *testing.T, program string, contexts []context.Context, meanwhile func(*Pool)) []outcomeOf {
	t.Helper()
	pool := NewPool(Options{})
	defer pool.Close()
	job := func(n int) Job {
		return Job{Programs: Programs{Transform: program}, Owner: 1, Payload: fmt.Appendf(nil, `{"n":%d}`, n)}
	}
	var w *worker
	for w == nil {
		if _, err := pool.Run(t.Context(), job(-1)); err != nil {
			t.Fatal(err)
		}
		pool.mu.Lock()
		if o := pool.schedule.owners[1]; o.class == known && pool.idle[len(pool.idle)-1].nice == niceOf[known] {
			o.cost, w = groupTime/maxGroup, pool.idle[len(pool.idle)-1] // on a busy machine it was more
		}
		pool.mu.Unlock()
	}
	signal := func(s syscall.Signal) {
		if err := w.cmd.Process.Signal(s); err != nil {
			t.Error(err)
		}
	}
	signal(syscall.SIGSTOP)
	outcomes := make([]outcomeOf, len(contexts))
	var all sync.WaitGroup
	all.Go(func() { pool.Run(t.Context(), job(-1)) })
	running(t, pool)
	for i, ctx := range contexts {
		all.Go(func() {
			r, err := pool.Run(ctx, job(i))
			outcomes[i] = outcomeOf{string(r.Body), err}
		})
		await(t, pool, func(o *owner) bool { return len(o.waiting) == i+1 })
	}
	signal(syscall.SIGCONT)
	await(t, pool, func(o *owner) bool { return len(o.waiting) == 0 })
	meanwhile(pool)
	all.Wait()
	return outcomes
}

// await waits until something holds of owner 1.
func await(t *testing.T, p *Pool, holds func(*owner) bool) {
	t.Helper()
	for deadline := time.Now().Add(waitFor); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		ok := holds(p.schedule.owners[1])
		p.mu.Unlock()
		switch {
		case ok:
			return
		case time.Now().After(deadline):
			t.Fatal("it never holds")
		}
	}
}

// slowFirst takes some hundredths of a second for job 0, so that its group can be seen to run.
const slowFirst = `if .n == 0 then last(range(200000)) | 0 else .n end`

// runsWith waits until a group of n jobs runs.
func runsWith(t *testing.T, p *Pool, n int) {
	t.Helper()
	await(t, p, func(*owner) bool {
		for at := range p.schedule.active {
			return len(at.group) == n-1
		}
		return false
	})
}

// The jobs of a group each get their own answer, whatever happens to the others and to their worker.
func TestPoolGroups(t *testing.T) {
	for _, c := range []struct {
		name, program string
		meanwhile     func(*Pool)
		cancelled     []int // jobs that nobody waits for any more while their group runs
		want          map[int]string
	}{
		{name: "all are answered", program: slowFirst},
		{name: "one fails", program: slowFirst + ` | if . == 1 then error("no") else . end`, want: map[int]string{1: "transform: line 1, column 70: no"}},
		{name: "one ends the worker", program: slowFirst + ` | if . == 2 then "^" * 78888880 | . + . else . end`, want: map[int]string{2: "transform: it "}},
		{name: "the first is not wanted", program: slowFirst, cancelled: []int{0}, want: map[int]string{0: context.Canceled.Error()}},
		{name: "another is not wanted", program: slowFirst, cancelled: []int{3}, want: map[int]string{3: context.Canceled.Error()}},
		{name: "the worker is killed", program: slowFirst, meanwhile: func(p *Pool) { kill(active(p)) }},
		{name: "the pool is closed", program: slowFirst, meanwhile: (*Pool).Close, want: map[int]string{0: ErrClosed.Error(), 1: ErrClosed.Error(), 2: ErrClosed.Error(),
			3: ErrClosed.Error(), 4: ErrClosed.Error()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const jobs = 5
			contexts := make([]context.Context, jobs)
			cancels := make([]context.CancelFunc, jobs)
			for i := range contexts {
				contexts[i], cancels[i] = context.WithCancel(t.Context())
				defer cancels[i]()
			}
			for i, got := range together(t, c.program, contexts, func(p *Pool) {
				runsWith(t, p, jobs)
				for _, n := range c.cancelled {
					cancels[n]()
				}
				if c.meanwhile != nil {
					c.meanwhile(p)
				}
			}) {
				switch want, fails := c.want[i]; {
				case fails && (got.err == nil || !strings.HasPrefix(got.err.Error(), want)):
					t.Errorf("job %d: %q, %v, want %s", i, got.body, got.err, want)
				case !fails && (got.err != nil || got.body != fmt.Sprint(i) && i > 0):
					t.Errorf("job %d: %q, %v", i, got.body, got.err)
				}
			}
		})
	}
}

// A job whose context has ended when it is its turn leaves the others of its group theirs.
func TestPoolGroupOfTheUnwanted(t *testing.T) {
	pool := NewPool(Options{})
	defer pool.Close()
	for range 100 { // what is ready first is chance
		first, second := newPlace(&Job{Payload: []byte("{}")}), newPlace(&Job{Payload: []byte("{}")})
		pool.schedule.owners[1] = &owner{id: 1, class: known, waiting: []*place{second}}
		first.owner = pool.schedule.owners[1] // it has run before, and goes before the other
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := pool.enter(ended, first, 1); err == nil {
			pool.leave(first, 0)
			continue
		}
		if ended, _ := errors.AsType[*endedError](second.err); !second.answered || ended == nil {
			t.Fatalf("the other: %t, %v", second.answered, second.err)
		}
		return
	}
	t.Fatal("a job whose context has ended is granted each time")
}
