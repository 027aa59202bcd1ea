package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// A database has two locks. Both are taken before anything is read of it, and both end with the process.
//
// The lock of the file "….lock" beside the database covers its name. It is there before the database is, so that two processes do not
// create one at a time, and it stays while the database is replaced by a backup.
//
// The lock of the database file covers the file itself. Another name of it, by a hard link or a bind mount, leads to another "….lock".
// It is bbolt's lock, taken early: heal writes to the file before bbolt opens it.

// resolve returns the file that a path leads to, and whether it exists. All names beside the database, such as that of its lock, are made of
// the resolved path: they are the same for all who use the file.
func resolve(path string) (resolved string, exists bool, err error) {
	if runtime.GOOS == "windows" { // where volumes that are mounted in a directory cannot be resolved
		resolved = path
	} else if resolved, err = filepath.EvalSymlinks(path); errors.Is(err, fs.ErrNotExist) {
		if target, err := os.Readlink(path); err == nil {
			return "", false, fmt.Errorf("it is a symbolic link to %s, which does not exist: create the database there by its own name first", target)
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		return filepath.Join(dir, filepath.Base(path)), false, err
	} else if err != nil {
		return "", false, err
	}
	info, err := os.Lstat(resolved)
	if errors.Is(err, fs.ErrNotExist) {
		return resolved, false, nil
	}
	if err == nil {
		err = mustBeRegular(info)
	}
	return resolved, err == nil, err
}

// mustBeRegular refuses what must not be opened: that of a FIFO waits for somebody who writes, and that of a device may do anything.
func mustBeRegular(info fs.FileInfo) error {
	if kind := kindOf(info.Mode()); kind != "" {
		return fmt.Errorf("%w: %s is %s and no regular file", ErrNotDatabase, info.Name(), kind)
	}
	return nil
}

// kindOf names what a file is that is not regular; "" for a regular one.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return ""
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// openNoFollow opens a regular file for reading and writing, and follows no symbolic link at its name. It does not wait. create makes the
// file if there is none.
func openNoFollow(path string, create int) (*os.File, error) {
	info, err := os.Lstat(path)
	if err == nil {
		err = mustBeRegular(info)
	}
	if err != nil && (create == 0 || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|create|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil { // it may be another one by now
		err = mustBeRegular(info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// acquireLock takes the lock of the file beside a database.
func acquireLock(path string) (*os.File, error) {
	f, err := openNoFollow(path, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lockDatabase opens a database file and takes its lock.
func lockDatabase(path string) (*os.File, error) {
	f, err := openNoFollow(path, 0)
	if err != nil {
		return nil, err
	}
	if err := lockContent(f); err != nil {
		f.Close()
		return nil, err
	}
	locked, err := f.Stat()
	if err == nil {
		var named fs.FileInfo
		if named, err = os.Lstat(path); err == nil && !os.SameFile(locked, named) {
			err = errors.New("the file was replaced while it was opened")
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
