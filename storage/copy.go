package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"hookbolt/storage/bolt"
	"hookbolt/storage/internal/copying"
	"hookbolt/storage/postgres"
)

// Returned by Copy.
var (
	ErrCopyTarget     = copying.ErrNotEmpty
	ErrCopyUnfinished = copying.ErrUnfinished
	ErrCopyRunning    = copying.ErrRunning
	ErrCopyChanged    = copying.ErrChanged
	ErrCopyDiffers    = copying.ErrDiffers
	ErrCopyDamaged    = copying.ErrDamaged
)

// Place is where a store keeps its data: a file, or a database.
type Place struct {
	Path     string
	Postgres *Postgres // nil for a file
}

// CopyOptions say how to copy.
type CopyOptions struct {
	// LeaveOut copies a source with damaged records without them. Damaged is told of each.
	LeaveOut bool
	Damaged  func(error)
	// Progress is told how many records of a stage are done.
	Progress func(stage string, done, total int64)
	Log      *slog.Logger
}

// Copied is the result of a copy: what was counted and summed of one kind of records, on both sides.
type Copied struct {
	Kind         string
	From, To     int64
	FromSum, Sum string
}

// Copy copies all that is stored in one place to another one, of either kind, where nothing is stored. No server may work with any of them: it is refused, and
// none can start meanwhile. A copy that was interrupted goes on when Copy is called again; until it is complete, no server starts on the target. Then both
// sides are read again and compared.
func Copy(ctx context.Context, from, to Place, o CopyOptions) (result []Copied, err error) {
	if err := differ(from, to); err != nil {
		return nil, err
	}
	run := func(r copying.Reader, w copying.Writer) error {
		source, target, err := copying.Run(ctx, r, w, copying.Options{LeaveOut: o.LeaveOut, Damaged: o.Damaged, Progress: o.Progress})
		if err != nil && !errors.Is(err, ErrCopyDiffers) { // nothing was compared
			return err
		}
		for _, kind := range copying.Kinds {
			result = append(result, Copied{kind, source.Count(kind), target.Count(kind), source.Text(kind), target.Text(kind)})
		}
		return err
	}
	read := func(f func(copying.Reader) error) error { return bolt.ReadFile(from.Path, f) }
	if from.Postgres != nil {
		read = func(f func(copying.Reader) error) error {
			return postgres.ReadDatabase(ctx, from.Postgres.options(o.Log), f)
		}
	}
	write := func(f func(copying.Writer) error) error { return bolt.WriteFile(to.Path, f) }
	if to.Postgres != nil {
		write = func(f func(copying.Writer) error) error {
			return postgres.WriteDatabase(ctx, to.Postgres.options(o.Log), f)
		}
	}
	err = read(func(r copying.Reader) error {
		return write(func(w copying.Writer) error { return run(r, w) })
	})
	return result, err
}

// differ refuses to copy a place to itself.
func differ(from, to Place) error {
	switch {
	case from.Postgres != nil && to.Postgres != nil:
		if *from.Postgres == *to.Postgres {
			return errors.New("FROM and TO are the same database and schema")
		}
	case from.Postgres == nil && to.Postgres == nil:
		a, err := os.Stat(from.Path)
		if err != nil {
			return fmt.Errorf("read %s: %w", from.Path, err)
		}
		if b, err := os.Stat(to.Path); err == nil && os.SameFile(a, b) {
			return errors.New("FROM and TO are the same file")
		}
	}
	return nil
}

func (p *Postgres) options(log *slog.Logger) postgres.Options {
	return postgres.Options{URL: p.URL, Schema: p.Schema, Insecure: p.Insecure, Log: log}
}

// CheckPostgres compares the tables of a database with each other; see postgres.Check.
func CheckPostgres(ctx context.Context, p Postgres) (postgres.Report, error) {
	return postgres.Check(ctx, p.options(nil))
}
