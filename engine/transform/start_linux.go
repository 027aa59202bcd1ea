package transform

import (
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the timers of a worker may be. The monitor of Go's runtime sleeps for 20 µs again and again while a job runs, which took
// a fifth of a worker's time.
const timerSlack = 4 * time.Millisecond

// start starts a worker. It inherits the timer slack of the thread that starts it, in all its threads.
func start(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) // nothing relies on it
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)             // the default of the thread
	return cmd.Start()
}
