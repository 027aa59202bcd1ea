// Package storage opens the store that the settings name: a bbolt file (package bolt) or a PostgreSQL database (package postgres). [engine.Store]
// says what both must guarantee.
package storage

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
	"hookbolt/storage/postgres"
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
	// Path is the path of the database file. It is not used with PostgreSQL.
	Path string
	// MinFree and MaxBytes are the limits of bolt.Options, in bytes.
	MinFree, MaxBytes int64
	// Postgres says that the data is in PostgreSQL, and where. nil for a file.
	Postgres *Postgres
}

// Postgres are the settings of postgres.Options.
type Postgres struct {
	URL, Schema string
	Insecure    bool
	// Release is the version of hookbolt, for people who look at a fleet.
	Release string
}

// Hooks are what a store calls while it opens and works; see bolt.Options and postgres.Options.
type Hooks struct {
	Inspect       func(path string) error
	ObserveCommit func(mutations int, took time.Duration)
	Log           *slog.Logger
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

// Server is implemented by a Store whose data is in a database server, which several processes may share.
type Server interface {
	Figures() ServerFigures
	// Fleet tells of all processes that work with the database.
	Fleet(ctx context.Context) (*engine.Fleet, error)
	// MemberID is the number of this process among them. It changes when others have taken this process for dead.
	MemberID() int64

	// What all processes that share the data must agree on: who has signed in, how many they are, and which of them give their lanes away.
	BeginSignIn(context.Context, engine.SignIn) error
	SignIns(ctx context.Context, ids [][32]byte) ([]engine.SignIn, error)
	EndSignIns(ctx context.Context, ids [][32]byte) error
	KeepSignIns(ctx context.Context, tokens [][32]byte) error
	Members() int
	// HasOthers reports whether others take requests. It looks for them now.
	HasOthers() bool
	DrainByHand(context.Context) (engine.Drain, error)
	BackFromDrain(context.Context) (engine.Drain, error)
	DrainState(context.Context) (engine.Drain, error)
}

// ServerFigures are counts and the state of the connections to a database server.
type ServerFigures = postgres.Figures

// Check returns why Open would refuse s, as far as that can be told without a connection. The error begins with the name of a setting.
func Check(s Settings) error {
	if s.Postgres == nil {
		return nil
	}
	if err := postgres.CheckURL(s.Postgres.URL, s.Postgres.Insecure); err != nil {
		return fmt.Errorf("storage.postgres_url: %w", err)
	}
	return nil
}

// Open opens the store that s names. A Store in a bbolt file also implements File, one in PostgreSQL implements Server.
func Open(s Settings, h Hooks) (Store, error) {
	if p := s.Postgres; p != nil {
		return openPostgres(p, h)
	}
	store, err := bolt.Open(s.Path, bolt.Options{MinFree: s.MinFree, MaxBytes: s.MaxBytes, Inspect: h.Inspect, ObserveCommit: h.ObserveCommit})
	if err != nil {
		return nil, err
	}
	return fileStore{store}, nil
}

// startPatience is for how long a start waits for a PostgreSQL that is away.
const startPatience = time.Minute

// openPostgres opens a database. Once that is there, it has no limit of time: a migration may take long.
func openPostgres(p *Postgres, h Hooks) (Store, error) {
	store, err := postgres.Open(context.Background(), postgres.Options{URL: p.URL, Schema: p.Schema, Insecure: p.Insecure, Shared: true, Release: p.Release, StartPatience: startPatience, Log: h.Log, ObserveCommit: h.ObserveCommit})
	if err != nil {
		return nil, err // a nil *postgres.Store would be no nil Store
	}
	return store, nil
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
