package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// backupSuffix is what the name of a backup ends with while it is made. Only where an open file cannot be removed does the name stay
// for longer than a moment.
const backupSuffix = ".backup"

// backupStep is how many bytes of a backup are copied at once. With 1 MiB it is as fast as it gets.
const backupStep = 1 << 20

// Backup is a snapshot of a database: a file that is a database itself. Its room on the disk is free again once it is closed, or the
// process has ended.
type Backup struct {
	file *os.File
	size int64
	done func()
}

// Backup copies the database as it is into a file beside it, which has no name and is the caller's to close. It holds what was
// acknowledged before. Whoever takes his time to read the copy keeps nobody waiting: the transaction ends with the copying.
// There is one backup at a time: ErrConflict says that another one is not closed yet. ErrFull means that the disk would not have
// Options.MinFree left.
func (s *Store) Backup(ctx context.Context) (*Backup, error) {
	if !s.backing.TryLock() {
		return nil, fmt.Errorf("%w: another backup is being made or sent; there is one at a time", engine.ErrConflict)
	}
	b, err := s.backup(ctx)
	if err != nil {
		s.backing.Unlock()
		return nil, err
	}
	return b, nil
}

func (s *Store) backup(ctx context.Context) (*Backup, error) {
	path := s.path + backupSuffix // bbolt forgets its path when it is closed
	if err := removeStale(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	os.Remove(path) // so that nothing is left of it, however the process ends. Windows refuses, and done does it.
	b := &Backup{file: f, done: func() {
		f.Close()
		os.Remove(path)
	}}
	w := &backupWriter{ctx: ctx, f: f}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		b.size = tx.Size()
		minFree, _ := s.space.limits()
		if left := s.space.left(); left >= 0 && left-b.size < minFree {
			return fmt.Errorf("%w: a backup needs %d MiB beside the database while it is read, the disk has %d MiB, and storage.min_free keeps %d MiB of them",
				engine.ErrFull, b.size>>20, left>>20, minFree>>20)
		}
		// Pages that bbolt frees meanwhile cannot be used again, so the file grows as long as this takes.
		if _, err := tx.WriteTo(w); err != nil && w.err == nil {
			return fmt.Errorf("read the database: %w", err)
		}
		return w.err // of which bbolt keeps only the text
	})
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		b.done()
		if write, ok := errors.AsType[*fs.PathError](err); ok && isNoSpace(write.Err) {
			err = fmt.Errorf("%w: the disk has no room for a backup beside the database", engine.ErrFull)
		}
		return nil, err
	}
	done := b.done
	b.done = func() {
		done()
		s.backing.Unlock()
	}
	return b, nil
}

// removeStale removes what a crash has left of a backup.
func removeStale(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Read reads on in the copy.
func (b *Backup) Read(p []byte) (int, error) { return b.file.Read(p) }

// Size is how many bytes the copy has.
func (b *Backup) Size() int64 { return b.size }

// Close ends the backup. It must be called once.
func (b *Backup) Close() error {
	b.done()
	return nil
}

// backupWriter writes to a file, in steps that are as large as backupStep, until its context ends.
type backupWriter struct {
	ctx context.Context
	f   *os.File
	err error // the first
}

func (w *backupWriter) Write(p []byte) (n int, err error) {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil {
		n, w.err = w.f.Write(p)
	}
	return n, w.err
}

// ReadFrom is what io.Copy calls in place of copying in small steps.
func (w *backupWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, backupStep))
}
