package server

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// acceptShortages are the errors after which a listener still listens.
var acceptShortages = []syscall.Errno{windows.WSAEMFILE, windows.WSAENOBUFS, windows.WSAECONNRESET, windows.WSAENETDOWN}

// maxDescriptors returns how many descriptors the process may have: Windows sets no limit that matters here.
func maxDescriptors() uint64 { return 1 << 20 }
