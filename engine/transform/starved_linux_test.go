package transform

import (
	"errors"
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
