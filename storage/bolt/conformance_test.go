package bolt_test

import (
	"errors"
	"path/filepath"
	"testing"

	"hookbolt/storage/bolt"
	"hookbolt/storage/storetest"
)

// checked is a store whose file is checked after it was closed.
type checked struct {
	*bolt.Store
	path string
}

func (s checked) Close() error {
	if err := s.Store.Close(); err != nil {
		return err
	}
	report, err := bolt.CheckFile(s.path)
	return errors.Join(err, errors.Join(report.Violations...))
}

// The store keeps all promises of engine.Store, and its file is whole whenever it was closed.
func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Backend{New: func(tb storetest.TB) storetest.Opener {
		path := filepath.Join(tb.TempDir(), "hookbolt.db")
		return func() (storetest.Store, error) {
			s, err := bolt.Open(path, bolt.Options{})
			if err != nil {
				return nil, err
			}
			return checked{s, path}, nil
		}
	}})
}
