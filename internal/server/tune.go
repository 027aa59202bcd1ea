package server

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// How much the heap grows between two garbage collections, in percent. The live heap is a few MB, however much is queued. A busy server collects
// seldom: at full speed that is a tenth more throughput. An idle one gives the memory back.
const (
	idlePercent = 150
	busyPercent = 800
	// busyBytes are allocated in a second by a busy server: about those of 100 sessions.
	busyBytes = 4 << 20
	// calmIntervals is after how many intervals with less than that a busy server is idle.
	calmIntervals = 5
)

// TuneRuntime sets the garbage collection and the threads of the process of a server, unless the environment does (GOGC, GOMAXPROCS).
var TuneRuntime = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(idlePercent)
	}
	// Each fsync of the writer blocks a thread. One more thread keeps the writer from waiting for a free one under load.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
})

// BusyEnviron returns environment variables that give another program in Go the settings that a busy server has, to compare it with. The process must not have
// called TuneRuntime.
func BusyEnviron() []string {
	return []string{fmt.Sprintf("GOGC=%d", busyPercent), fmt.Sprintf("GOMEMLIMIT=%d", memoryLimit), fmt.Sprintf("GOMAXPROCS=%d", runtime.GOMAXPROCS(0)+1)}
}

// memoryLimit is how much memory the process uses before garbage is collected more often than the percentages say.
const memoryLimit = 128 << 20

// memoryInterval is how often keepMemory looks at the memory in use.
const memoryInterval = 2 * time.Second

// keepMemory bounds the memory of the process until ctx ends, and sets how often garbage is collected, unless the environment does (GOMEMLIMIT, GOGC). A
// server that needs more, as with many webhooks, many attempts in flight or large requests, gets half as much again as it has in use: a limit
// below what is in use would let the garbage collection take half of the processors. The limits of connections and bodies keep what is in use below
// 128 MiB, whatever callers send.
func keepMemory(ctx context.Context) {
	setsLimit, setsPercent := os.Getenv("GOMEMLIMIT") == "", os.Getenv("GOGC") == ""
	var most int64 // of the container; 0 if there is none
	if n, err := memlimit.FromCgroup(); err == nil && n < math.MaxInt64 {
		most = int64(n)
	}
	if setsLimit {
		defer debug.SetMemoryLimit(math.MaxInt64)
	}
	if setsPercent {
		defer debug.SetGCPercent(idlePercent)
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	calm := calmIntervals
	for percent := idlePercent; ; {
		allocated := sample[1].Value.Uint64()
		metrics.Read(sample)
		if setsLimit {
			debug.SetMemoryLimit(limitFor(int64(sample[0].Value.Uint64()), most))
		}
		if calm++; sample[1].Value.Uint64()-allocated >= busyBytes*uint64(memoryInterval/time.Second) {
			calm = 0
		}
		if now := percentAfter(calm); setsPercent && now != percent {
			debug.SetGCPercent(now)
			if percent = now; now == idlePercent {
				debug.FreeOSMemory() // nothing is collected for minutes where nothing is allocated
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// limitFor returns the memory limit for a live heap. most is what the container may have, 0 for no bound: a tenth of it is left for what is not Go's, and up to
// half of it for the pages of the database.
func limitFor(live, most int64) int64 {
	if most == 0 {
		return max(memoryLimit, live/2*3)
	}
	return max(min(memoryLimit, most/2), min(live/2*3, most/10*9))
}

// percentAfter returns how much the heap may grow, after so many intervals in a row in which little was allocated.
func percentAfter(calm int) int {
	if calm < calmIntervals {
		return busyPercent
	}
	return idlePercent
}
