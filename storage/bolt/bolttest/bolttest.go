// Package bolttest opens databases for tests and checks each one when its test ends.
package bolttest

import (
	"path/filepath"
	"sync"
	"testing"

	"hookbolt/storage/bolt"
)

// Open opens a new database in the test's own directory. It is checked and closed when the test ends.
func Open(t testing.TB) *bolt.Store {
	t.Helper()
	return OpenAt(t, filepath.Join(t.TempDir(), "hookbolt.db"))
}

// OpenAt opens the database at path. It is checked and closed when the test ends, unless the test has closed it.
func OpenAt(t testing.TB, path string) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(t, s) })
	return s
}

var closed sync.Map // *bolt.Store to true

// Close checks and closes a database, unless that was done before.
func Close(t testing.TB, s *bolt.Store) {
	t.Helper()
	if _, done := closed.Swap(s, true); done {
		return
	}
	for _, err := range s.Check() {
		t.Errorf("database check: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
