package server

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// gcPercent is how much the heap grows between two garbage collections. The live heap is a few MB, however much is queued: Go's default of
// 100 collects often and saves little memory; 400 costs too much memory when requests are large.
const gcPercent = 150

// TuneRuntime sets the garbage collection and the threads of the process of a server, unless the environment does (GOGC, GOMAXPROCS).
var TuneRuntime = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// Each fsync of the writer blocks a thread. One more thread keeps the writer from waiting for a free one under load.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
})

// memoryLimit is how much memory the process uses before garbage is collected more often than gcPercent says. The limits of connections and
// bodies keep what is in use below two thirds of it, whatever callers send; garbage makes up the rest.
const memoryLimit = 192 << 20

// memoryLimitInterval is how often keepMemoryLimit looks at the memory in use.
const memoryLimitInterval = 2 * time.Second

// keepMemoryLimit limits the memory of the process until ctx ends, unless the environment does (GOMEMLIMIT). A server that needs more, as with
// many webhooks, many attempts in flight or a large http.max_body, gets half as much again as it has in use: a limit below what is in use
// would let the garbage collection take half of the processors.
func keepMemoryLimit(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	defer debug.SetMemoryLimit(math.MaxInt64)
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	ticker := time.NewTicker(memoryLimitInterval)
	defer ticker.Stop()
	for {
		metrics.Read(sample)
		debug.SetMemoryLimit(limitFor(int64(sample[0].Value.Uint64())))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// limitFor returns the memory limit for a live heap of that size.
func limitFor(live int64) int64 { return max(memoryLimit, live/2*3) }
