package bolt

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// FileReport is the result of CheckFile.
type FileReport struct {
	Sessions, Deliveries, Webhooks int
	// SizeBytes is the file's size, FreeBytes the part of it that is free for new data.
	SizeBytes, FreeBytes int64
	// Outdated reports that the layout is of an older version, which the next start migrates.
	Outdated bool
	// Violations lists what is wrong, at most a hundred lines; see Store.Check.
	Violations []error
}

// CheckFile does the same as Store.Check for a database that is not open. It changes nothing, neither in the file nor beside it. It
// holds bbolt's lock meanwhile, so that no hookbolt opens the file. It returns ErrInUse if another process has the file open,
// ErrNotDatabase for another kind of file, ErrSchema for a newer version, and ErrCorrupt if the file cannot be read. The system may
// end the process if the file cannot be read from the disk, or is truncated meanwhile: Go cannot catch a fault in one of bbolt's
// goroutines. A caller that must survive this runs CheckFile in a child process.
func CheckFile(path string) (FileReport, error) {
	var report FileReport
	err := withFile(path, false, func(db *bbolt.DB) error {
		var err error
		report, err = checkDB(db)
		return err
	})
	if err != nil {
		return FileReport{}, fmt.Errorf("check database %s: %w", path, err)
	}
	return report, nil
}

// fileLockTimeout is how long bbolt waits for its lock. A process that has it keeps it, so a longer wait is of no use.
const fileLockTimeout = 100 * time.Millisecond

// withFile opens a database for reading and calls f with it. With preload, bbolt also reads its list of free pages.
func withFile(path string, preload bool, f func(*bbolt.DB) error) (err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: not a regular file", ErrNotDatabase)
	case info.Size() < 2*pageSize: // bbolt would try to create a new database
		return fmt.Errorf("%w: the file has only %d bytes", ErrNotDatabase, info.Size())
	}
	// A page beyond the end of the file is a fault, which ends the process. As a panic it becomes an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if damage := recoverDamage(recover()); damage != nil {
			err = damage
		}
	}()
	o := boltOptions()
	o.ReadOnly, o.PreLoadFreelist, o.Timeout, o.InitialMmapSize = true, preload, fileLockTimeout, 0
	db, err := bbolt.Open(path, 0, o)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrInUse
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("%w: neither of its two meta pages is one", ErrNotDatabase)
	case err != nil:
		return err
	}
	defer db.Close()
	return f(db)
}

func checkDB(db *bbolt.DB) (FileReport, error) {
	var r FileReport
	var err error
	for _, look := range []func(path string) ([]error, error){checkMetaHeaders, checkPages} {
		if r.Violations, err = look(db.Path()); err != nil || len(r.Violations) > 0 {
			return r, err
		}
	}
	schema, err := (&Store{db: db}).schema()
	if err != nil {
		return r, err
	}
	r.Outdated = schema < schemaVersion
	err = db.View(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			if lacksBucket(tx, name) && !r.Outdated {
				r.Violations = append(r.Violations, fmt.Errorf("bucket %s is missing", name))
			}
		}
		nonce, err := metaU32(tx.Bucket(bucketMeta), keyNonce)
		if err != nil {
			r.Violations = append(r.Violations, err)
		}
		if len(r.Violations) > 0 {
			return nil
		}
		c := newChecker(nonce)
		if err := c.run(tx); err != nil {
			c.errs = append(c.errs, err)
		}
		r.Sessions, r.Deliveries, r.Webhooks, r.Violations = c.sessionCount, c.deliveryCount, c.webhookCount, c.errs
		if len(c.errs) > 0 {
			return nil
		}
		info, err := os.Stat(db.Path())
		if err != nil {
			return err
		}
		pages := tx.Cursor().Bucket().Stats() // of all buckets, which lie in this one
		used := 2 + pages.BranchPageN + pages.BranchOverflowN + pages.LeafPageN + pages.LeafOverflowN
		r.SizeBytes = info.Size()
		r.FreeBytes = r.SizeBytes - int64(used)*pageSize
		return nil
	})
	return r, err
}
