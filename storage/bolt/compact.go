package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// UnfinishedSuffix is what the name of a copy ends with until it is whole.
const UnfinishedSuffix = ".tmp"

// compactStep is how many bytes go into one commit of the copy.
const compactStep = 8 << 20

// ErrViolations is returned by Compact for a database that does not pass CheckFile.
var ErrViolations = errors.New("the database is damaged")

// Compact copies a database that is not open into a new file, without what is free in it: what was erased is not in the copy. The copy
// is checked before it gets its name, so that there is a whole one or none. It returns the sizes of the file and of the copy. The
// errors are those of CheckFile, ErrViolations, and fs.ErrExist for a copy that is there already.
func Compact(path, copyPath string) (size, copySize int64, err error) {
	size, copySize, err = compact(path, copyPath)
	if err != nil {
		err = fmt.Errorf("compact database %s: %w", path, err)
	}
	return size, copySize, err
}

func compact(path, copyPath string) (size, copySize int64, err error) {
	if err := mustNotExist(copyPath); err != nil {
		return 0, 0, err
	}
	tmp := copyPath + UnfinishedSuffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a crash
		return 0, 0, err
	}
	defer os.Remove(tmp) // after the rename there is none
	err = withFile(path, false, func(db *bbolt.DB) error {
		report, err := checkDB(db)
		if err == nil {
			size, err = report.SizeBytes, report.violated()
		}
		if err != nil {
			return err
		}
		return copyInto(tmp, db)
	})
	if err != nil {
		return 0, 0, err
	}
	report, err := CheckFile(tmp)
	if err == nil {
		copySize, err = report.SizeBytes, report.violated()
	}
	if err == nil {
		err = mustNotExist(copyPath) // that may have taken long
	}
	if err == nil {
		err = os.Rename(tmp, copyPath)
	}
	if err == nil {
		err = syncDir(filepath.Dir(copyPath))
	}
	return size, copySize, err
}

func mustNotExist(path string) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// copyInto makes a database at path with all that is in src.
func copyInto(path string, src *bbolt.DB) error {
	o := boltOptions()
	o.InitialMmapSize, o.NoFreelistSync = 0, false
	o.NoSync = true // once at the end will do
	dst, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return err
	}
	err = bbolt.Compact(dst, src, compactStep)
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

// violated returns an ErrViolations that names the first violation, nil if there is none.
func (r *FileReport) violated() error {
	if len(r.Violations) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %v; \"hookbolt check\" lists what is wrong", ErrViolations, r.Violations[0])
}
