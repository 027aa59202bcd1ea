// Package storage opens the store that the settings name. There is one kind so far, a bbolt file (package bolt); what a store promises is
// in [engine.Store], and whoever keeps these promises can stand beside it.
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
	// Failed is closed when nothing can be stored any more: the process should end. Err says why then.
	Failed() <-chan struct{}
	Err() error
	// Close ends what is under way and lets go of the data.
	Close() error
}

// Settings say which store to open and what it may use.
type Settings struct {
	// Path is that of the database file.
	Path string
	// MinFree and MaxBytes are the limits of bolt.Options, in bytes.
	MinFree, MaxBytes int64
}

// Hooks are what a store calls while it opens and works; see bolt.Options.
type Hooks struct {
	Inspect       func(path string) error
	ObserveCommit func(mutations int, took time.Duration)
}

// File is what a Store can do beside if it keeps its data in a file of its own.
type File interface {
	// SetLimits changes Settings.MinFree and Settings.MaxBytes.
	SetLimits(minFree, maxBytes int64)
	// Backup makes a copy of the data, which the caller closes; see bolt.Store.Backup.
	Backup(ctx context.Context) (Snapshot, error)
}

// Snapshot is a copy of a store's data, as it was at one moment.
type Snapshot interface {
	io.ReadCloser
	Size() int64
}

// Open opens the store that s names. A bbolt file is a File, too.
func Open(s Settings, h Hooks) (Store, error) {
	store, err := bolt.Open(s.Path, bolt.Options{MinFree: s.MinFree, MaxBytes: s.MaxBytes, Inspect: h.Inspect, ObserveCommit: h.ObserveCommit})
	if err != nil {
		return nil, err
	}
	return fileStore{store}, nil
}

// fileStore is a bolt.Store as a Store and a File.
type fileStore struct{ *bolt.Store }

// Backup implements File.
func (s fileStore) Backup(ctx context.Context) (Snapshot, error) {
	b, err := s.Store.Backup(ctx)
	if err != nil {
		return nil, err
	}
	return b, nil
}
