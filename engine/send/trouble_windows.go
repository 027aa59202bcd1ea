package send

import (
	"syscall"

	"golang.org/x/sys/windows"
)

var (
	noDescriptors = []syscall.Errno{windows.WSAEMFILE}
	noMemory      = []syscall.Errno{windows.WSAENOBUFS, syscall.Errno(windows.ERROR_NOT_ENOUGH_MEMORY)}
	networkDown   = []syscall.Errno{windows.WSAENETDOWN}
)

const (
	noRoute        = windows.WSAENETUNREACH
	noLocalAddress = windows.WSAEADDRNOTAVAIL
	tryAgain       = windows.WSAEWOULDBLOCK
)
