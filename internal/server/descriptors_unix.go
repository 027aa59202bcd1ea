//go:build !windows

package server

import "syscall"

// acceptShortages are the errors after which a listener still listens: accept(2).
var acceptShortages = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO,
	syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.EPERM}

// maxDescriptors returns how many descriptors the process may have. Go has raised the soft limit to the hard one already.
func maxDescriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return uint64(limit.Cur) // FreeBSD has an int64
}
