package transform

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A worker that waits for a processor is not ended for it, until its machine is too busy for any program. Then no program is to blame.
func TestPoolLetsAStarvedWorkerWait(t *testing.T) {
	e := newEvents()
	pool := NewPool(Options{Observe: e.observer()})
	defer pool.Close()
	answered := make(chan error, 1)
	go func() {
		_, err := pool.Run(t.Context(), Job{Programs: Programs{Transform: endless}, Payload: []byte(`{}`)})
		answered <- err
	}()
	running(t, pool)
	w := active(pool)
	if err := w.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := func(ago time.Duration) {
		pool.mu.Lock()
		defer pool.mu.Unlock()
		for at := range pool.schedule.active {
			at.watch.began = time.Now().Add(-ago)
		}
	}
	began(maxWait / 2)
	pool.look()
	if w.killed() {
		t.Fatal("it was ended by the clock")
	}
	began(maxWait)
	pool.look()
	if err := <-answered; !errors.Is(err, ErrNoWorker) {
		t.Errorf("got %v", err)
	}
	e.wait(t, string(endedStarved), 1)
}

// policyOf returns the scheduling policy of a process, see sched(7).
func policyOf(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.Fields(rest)[41-3] // proc_pid_stat(5) counts from 1, and the name was the second
}

// A slow job has a processor only while nothing else wants it. After some time it gets its hundredth.
func TestPoolLetsSlowJobsYield(t *testing.T) {
	pool := NewPool(Options{})
	defer pool.Close()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		pool.Run(t.Context(), Job{Programs: Programs{Transform: endless}, Payload: []byte(`{}`)})
	}()
	running(t, pool)
	w := active(pool)
	const normal, idle = "0", "5"
	for _, c := range []struct {
		began  time.Duration // ago
		policy string
	}{{0, idle}, {idleFor, normal}} {
		pool.mu.Lock()
		for at := range pool.schedule.active {
			at.watch.began = at.watch.began.Add(-c.began)
		}
		pool.mu.Unlock()
		for deadline := time.Now().Add(waitFor); policyOf(t, w.cmd.Process.Pid) != c.policy; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %s its policy is %s", c.began, policyOf(t, w.cmd.Process.Pid))
			}
		}
	}
	pool.Close()
	<-answered
}
