// Package storage opens the store that the settings name. There is one kind so far, a bbolt file (package bolt). [engine.Store] says what
// every kind must guarantee.
package storage

import (
	"context"
	"io"
	"time"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

// Store is an engine.Store that is open.
type Store interface {
	engine.Store
	// Failed is closed when nothing can be stored any more, and the process should end. Err returns the reason.
	Failed() <-chan struct{}
	Err() error
	// Close completes the changes in progress and releases the data.
	Close() error
}

// Settings say which store to open, and with which limits.
type Settings struct {
	// Path is the path of the database file.
	Path string
	// MinFree and MaxBytes are the limits of bolt.Options, in bytes.
	MinFree, MaxBytes int64
}

// Hooks are functions that a store calls while it opens and works; see bolt.Options.
type Hooks struct {
	Inspect       func(path string) error
	ObserveCommit func(mutations int, took time.Duration)
}

// File is implemented by a Store that keeps its data in a file of its own.
type File interface {
	// SetLimits changes Settings.MinFree and Settings.MaxBytes.
	SetLimits(minFree, maxBytes int64)
	// Backup copies the data. The caller closes the copy; see bolt.Store.Backup.
	Backup(ctx context.Context) (Snapshot, error)
}

// Snapshot is a copy of a store's data at one moment.
type Snapshot interface {
	io.ReadCloser
	Size() int64
}

// Open opens the store that s names. A Store in a bbolt file also implements File.
func Open(s Settings, h Hooks) (Store, error) {
	store, err := bolt.Open(s.Path, bolt.Options{MinFree: s.MinFree, MaxBytes: s.MaxBytes, Inspect: h.Inspect, ObserveCommit: h.ObserveCommit})
	if err != nil {
		return nil, err
	}
	return fileStore{store}, nil
}

// fileStore makes a bolt.Store a Store and a File.
type fileStore struct{ *bolt.Store }

// Backup implements File.
func (s fileStore) Backup(ctx context.Context) (Snapshot, error) {
	b, err := s.Store.Backup(ctx)
	if err != nil {
		return nil, err
	}
	return b, nil
}
