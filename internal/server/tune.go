package server

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
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
