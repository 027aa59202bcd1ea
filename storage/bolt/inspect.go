package bolt

import (
	"encoding/binary"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Inspect reads of a database file what a start reads, and writes nothing. What is wrong comes as an error, as far as it can: bbolt
// follows a damaged page wherever it leads, and a file that is too short, or leads in circles, ends the process. So whoever is to go
// on calls it in another one; see Options.Inspect.
func Inspect(path string) error {
	listed, err := hasFreeList(path)
	if err != nil {
		return err
	}
	if !listed {
		// A start follows every page to find the free ones. This does the same in less time, and trusts no page meanwhile.
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
			return err // what an older one lacks comes with its migration
		}
		return s.load()
	})
}

// hasFreeList tells whether a list of free pages was written: it is at a clean stop. The errors are those of checkSize.
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
