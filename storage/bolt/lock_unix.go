//go:build unix

package bolt

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// noFollow are the flags with which a file is opened that must not be a link, nor be waited for.
const noFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK

// lockFile takes a lock that no other process has.
func lockFile(f *os.File) error { return flock(f, unix.LOCK_EX) }

// lockContent takes the lock of a database file, and lets others read: the file is inspected in a child process, which takes bbolt's lock
// for reading. Whoever wants to write asks for the whole lock first, as this does, and does not get it.
func lockContent(f *os.File) error {
	if err := flock(f, unix.LOCK_EX); err != nil {
		return err
	}
	return flock(f, unix.LOCK_SH)
}

// lockForWriting makes the lock of lockContent one for writing.
func lockForWriting(f *os.File) error { return flock(f, unix.LOCK_EX) }

func flock(f *os.File, how int) error {
	err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// handOver returns how bbolt opens a locked file: it gets the file with its lock, which is not free at any moment. When bbolt is closed,
// the lock ends. For its copies, bbolt opens the file again.
func handOver(locked *os.File) func(string, int, os.FileMode) (*os.File, error) {
	handed := false
	return func(path string, flag int, mode os.FileMode) (*os.File, error) {
		if handed {
			return os.OpenFile(path, flag, mode)
		}
		handed = true
		fd, err := unix.FcntlInt(locked.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}
