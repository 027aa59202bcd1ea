//go:build unix

package bolt

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// acquireLock takes the lock that a process holds while it uses the database. bbolt's own lock comes too late: heal writes to the
// file before bbolt opens it, and must not do so to a file in use. The lock ends with the process.
func acquireLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
