package server

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

// gcPercent is how much the heap grows between two collections. What lives is a few MB, however much is queued, so collecting at Go's 100
// would be frequent for little memory; at 400, large requests of strangers would cost more of it than they are worth.
const gcPercent = 150

// TuneRuntime sets the garbage collection and the threads of a process that is a server, unless the environment does (GOGC, GOMAXPROCS).
var TuneRuntime = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// The writer gives its place up with each wait for the disk, and would have to wait for another one under load.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
})
