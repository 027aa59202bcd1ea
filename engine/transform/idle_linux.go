package transform

import (
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setIdle has a process run only while nothing else wants the processor, or takes that back. It is for all threads, and for those that they start.
// A sandbox may refuse it: nothing relies on it.
func setIdle(pid int, idle bool) {
	threads, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil { // it has ended
		return
	}
	policy := uintptr(unix.SCHED_NORMAL)
	if idle {
		policy = unix.SCHED_IDLE
	}
	var priority int32 // of these policies it is always 0
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(id), policy, uintptr(unsafe.Pointer(&priority)))
		}
	}
}
