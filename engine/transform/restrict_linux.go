package transform

import (
	"os"
	"syscall"
)

// maxDataBytes is how much writable memory the system gives a worker: room for what Go's collector has not yet returned.
const maxDataBytes = 512 << 20

// restrict has the kernel help with the limits of this process. Nothing relies on it: a sandbox may refuse each.
func restrict() {
	// One huge allocation fails at once, before the watch sees it.
	syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: maxDataBytes, Max: maxDataBytes})
	// A visitor's data is in its memory.
	syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	// Where memory runs out, let the kernel take the worker and not the server.
	if f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0); err == nil {
		f.WriteString("1000")
		f.Close()
	}
}
