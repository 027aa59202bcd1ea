package transform

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

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
	for deadline := time.Now().Add(waitFor); !strings.HasPrefix(state(w.cmd.Process.Pid), "T"); time.Sleep(time.Millisecond) { // until then it may still answer
		if time.Now().After(deadline) {
			t.Fatal("it does not stop")
		}
	}
	outcomes := make([]outcomeOf, len(contexts))
	var all sync.WaitGroup
	hold := func(n int) { // as if so many jobs of the owner ran
		pool.mu.Lock()
		defer pool.mu.Unlock()
		o := pool.schedule.owners[1]
		o.running = n
		pool.schedule.queue(o)
		pool.schedule.grant()
	}
	hold(maxGroup)
	for i, ctx := range contexts {
		all.Go(func() {
			r, err := pool.Run(ctx, job(i))
			outcomes[i] = outcomeOf{string(r.Body), err}
		})
		await(t, pool, func(o *owner) bool { return len(o.waiting) == i+1 })
	}
	hold(0)
	await(t, pool, func(o *owner) bool { return len(o.waiting) == 0 })
	meanwhile(pool)
	w.cmd.Process.Signal(syscall.SIGCONT) // it may have ended
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

// own gives each job its number.
const own = `.n`

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
		{name: "all are answered", program: own},
		{name: "one fails", program: own + ` | if . == 1 then error("no") else . end`, want: map[int]string{1: "transform: line 1, column 21: no"}},
		{name: "one ends the worker", program: own + ` | if . == 2 then "^" * 78888880 | . + . else . end`, want: map[int]string{2: "transform: it "}},
		{name: "the first is not wanted", program: own, cancelled: []int{0}, want: map[int]string{0: context.Canceled.Error()}},
		{name: "another is not wanted", program: own, cancelled: []int{3}, want: map[int]string{3: context.Canceled.Error()}},
		{name: "the worker is killed", program: own, meanwhile: func(p *Pool) { kill(active(p)) }},
		{name: "the pool is closed", program: own, meanwhile: (*Pool).Close, want: map[int]string{0: ErrClosed.Error(), 1: ErrClosed.Error(), 2: ErrClosed.Error(),
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
				case slices.Contains(c.cancelled, i) && got.err == nil: // its answer was faster
				case fails && (got.err == nil || !strings.HasPrefix(got.err.Error(), want)):
					t.Errorf("job %d: %q, %v, want %s", i, got.body, got.err, want)
				case !fails && (got.err != nil || got.body != fmt.Sprint(i)):
					t.Errorf("job %d: %q, %v", i, got.body, got.err)
				}
			}
		})
	}
}
