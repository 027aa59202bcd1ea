package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// UnfinishedSuffix ends the name of a copy until the copy is complete.
const UnfinishedSuffix = ".tmp"

// compactStep is how many bytes each commit of the copy has.
const compactStep = 8 << 20

// ErrViolations is returned by Compact for a database that does not pass CheckFile.
var ErrViolations = errors.New("the database is damaged")

// Compact copies a database that is not open into a new file, without its free pages. Erased data is not in the copy. The copy is
// never larger than the file. Compact checks the copy before it gives it its name, so that there is either a complete copy or none.
// It returns the sizes of the file and of the copy. Its errors are those of CheckFile, ErrViolations, and fs.ErrExist if the copy
// exists already.
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
		fits, err := copyEntries(tmp, db)
		if err == nil && !fits {
			err = copyPages(tmp, path)
		}
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	report, err := CheckFile(tmp)
	if err == nil {
		copySize, err = report.SizeBytes, report.violated()
	}
	if err == nil {
		err = mustNotExist(copyPath) // the copying may have taken long
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

// copyEntries creates a database at path with all entries of src, in pages as full as bbolt makes them. fits reports whether the copy
// has no more pages than src.
func copyEntries(path string, src *bbolt.DB) (fits bool, err error) {
	o := boltOptions()
	o.InitialMmapSize, o.NoFreelistSync = 0, false
	o.FreelistType = bbolt.FreelistArrayType // always takes the first free page, so that a copy of a copy is the same
	o.NoSync = true                          // one sync at the end is enough
	o.OpenFile = openNew
	dst, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return false, err
	}
	var size, srcSize int64
	err = bbolt.Compact(dst, src, compactStep)
	if err == nil {
		size, err = sizeOfPages(dst)
	}
	if err == nil {
		srcSize, err = sizeOfPages(src)
	}
	if err := errors.Join(err, dst.Close()); err != nil {
		return false, err
	}
	// bbolt enlarges the file beyond its pages: to a power of two, or by 16 MiB.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	return size <= srcSize, errors.Join(err, f.Close())
}

// sizeOfPages is the size of a database up to its last page.
func sizeOfPages(db *bbolt.DB) (size int64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	})
	return size, err
}

// copyPages copies the database at srcPath page by page, with zeros in place of free pages. It is for a database with few free pages
// that needs fewer pages than copyEntries would. Entries larger than a page can need more or fewer pages, depending on the order in
// which their neighbours were written.
func copyPages(path, srcPath string) error {
	dst, err := os.OpenFile(path, os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	err = withFile(srcPath, true, func(src *bbolt.DB) error {
		return src.View(func(tx *bbolt.Tx) error {
			if _, err := tx.WriteTo(dst); err != nil {
				return err
			}
			return clearFree(dst, tx)
		})
	})
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

// clearFree writes zeros over the free pages of a copy, because they may hold erased data.
func clearFree(dst io.WriterAt, tx *bbolt.Tx) error {
	zeros := make([]byte, pageSize)
	for id := 2; ; id++ { // after the two meta pages
		page, err := tx.Page(id)
		switch {
		case err != nil || page == nil: // the end
			return err
		case page.Type != "free":
			id += page.OverflowCount
			continue
		}
		if _, err := dst.WriteAt(zeros, int64(id)*pageSize); err != nil {
			return err
		}
	}
}

// violated returns an ErrViolations with the first violation, nil if there is none.
func (r *FileReport) violated() error {
	if len(r.Violations) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %v; \"hookbolt check\" lists what is wrong", ErrViolations, r.Violations[0])
}
