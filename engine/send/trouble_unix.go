//go:build !windows

package send

import "syscall"

var (
	noDescriptors = []syscall.Errno{syscall.EMFILE, syscall.ENFILE}
	noMemory      = []syscall.Errno{syscall.ENOBUFS, syscall.ENOMEM}
	networkDown   = []syscall.Errno{syscall.ENETDOWN}
)

const (
	noRoute        = syscall.ENETUNREACH
	noLocalAddress = syscall.EADDRNOTAVAIL
	tryAgain       = syscall.EAGAIN
)
