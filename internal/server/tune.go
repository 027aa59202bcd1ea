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
	// The writer gives up its thread with each wait for the disk. One more thread keeps it from waiting for one under load.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
})
