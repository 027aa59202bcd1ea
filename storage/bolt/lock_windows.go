package bolt

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// noFollow is nothing here: a symbolic link is found by its mode, and there are no FIFOs among files.
const noFollow = 0

// lockFile takes a lock that no other process has.
func lockFile(f *os.File) error { return lockByte(f, 0, 0) }

// lockContent takes a lock of a database file beside that of bbolt, which is the last byte that a file could have. Reading is not affected.
func lockContent(f *os.File) error { return lockByte(f, 0xFFFFFFFE, 0xFFFFFFFF) }

// lockForWriting has nothing to do: bbolt takes its own lock.
func lockForWriting(*os.File) error { return nil }

func lockByte(f *os.File, offset, offsetHigh uint32) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		&windows.Overlapped{Offset: offset, OffsetHigh: offsetHigh})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrInUse
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// handOver returns nothing: bbolt opens the file itself, and its lock is another one.
func handOver(*os.File) func(string, int, os.FileMode) (*os.File, error) { return nil }
