package engine

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxIdleWorkers bounds the goroutines that a crew keeps for later, and with them the memory of their stacks: some 16 KB each.
const maxIdleWorkers = 64

// crew carries claims out, each on a goroutine of its own. It uses goroutines again: the stack of a new one grows several times on its way to the
// socket, and is copied each time, which took 3 % of a busy server.
type crew struct {
	ctx     context.Context // the idle goroutines end with it
	work    *sync.WaitGroup // that the goroutines belong to
	deliver func(*claim)
	next    chan *claim // without capacity: only a goroutine that waits may receive
	idle    atomic.Int32
}

func newCrew(ctx context.Context, work *sync.WaitGroup, deliver func(*claim)) *crew {
	return &crew{ctx: ctx, work: work, deliver: deliver, next: make(chan *claim)}
}

// start begins to carry out claims.
func (w *crew) start(claims []*claim) {
	for _, c := range claims {
		select {
		case w.next <- c:
		default:
			w.work.Go(func() { w.run(c) })
		}
	}
}

// run carries out a claim, and those that follow it on the same goroutine.
func (w *crew) run(c *claim) {
	for {
		w.deliver(c)
		if w.idle.Add(1) > maxIdleWorkers {
			w.idle.Add(-1)
			return
		}
		select {
		case c = <-w.next:
			w.idle.Add(-1)
		case <-w.ctx.Done():
			return
		}
	}
}
