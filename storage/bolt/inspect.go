package bolt

import (
	"encoding/binary"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Inspect reads from a database file what a start reads, and writes nothing. It returns damage as an error where it can. But bbolt
// follows damaged pages: a file that is too short, or has pages that form a circle, can end the process. So call it in a child
// process; see Options.Inspect.
func Inspect(path string) error {
	listed, err := hasFreeList(path)
	if err != nil {
		return err
	}
	if !listed {
		// A start follows every page to find the free ones. This does the same in less time, and trusts no page.
		wrong, err := checkPages(path)
		if err == nil && len(wrong) > 0 {
			err = fmt.Errorf("%w: %w", ErrCorrupt, wrong[0])
		}
		if err != nil {
			return err
		}
	}
	return withFile(path, listed, func(db *bbolt.DB) error {
		s := &Store{db: db, counts: make(map[uint32]counts), health: make(map[uint32]engine.Health)}
		schema, err := s.schema()
		if err != nil || schema < schemaVersion {
			return err // the migration adds what an older version lacks
		}
		return s.load()
	})
}

// hasFreeList reports whether the file has a list of free pages, which a clean stop writes. Its errors are those of checkSize.
func hasFreeList(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	metas, err := readMetas(f)
	if err != nil {
		return false, err
	}
	if err := checkSize(f, metas); err != nil {
		return false, err
	}
	return binary.NativeEndian.Uint64(newestMetaPage(metas)[metaFreelist:]) != noFreelist, nil
}
