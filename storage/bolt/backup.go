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

// backupSuffix ends the name of a backup file. The name stays for a moment only, except where an open file cannot be removed.
const backupSuffix = ".backup"

// backupStep is how many bytes of a backup are copied at once. With 1 MiB it is as fast as it gets.
const backupStep = 1 << 20

// Backup is a snapshot of a database, in a file that is a database itself. Its disk space is free again after Close, or when the
// process ends.
type Backup struct {
	file *os.File
	size int64
	done func()
}

// Backup copies the database into a file beside it. The file has no name, and the caller closes it. It holds everything that was
// acknowledged before the call. A slow reader of the copy blocks nobody, because the transaction ends with the copying. There is one
// backup at a time: ErrConflict means that another one is not closed yet. ErrFull means that the disk would not have Options.MinFree
// left.
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
	os.Remove(path) // so that nothing is left of it, however the process ends; on Windows this fails, and done removes it
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
		// Pages that bbolt frees meanwhile cannot be used again, so the file grows during the copying.
		if _, err := tx.WriteTo(w); err != nil && w.err == nil {
			return fmt.Errorf("read the database: %w", err)
		}
		return w.err // bbolt keeps only its text
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

// Read reads from the copy.
func (b *Backup) Read(p []byte) (int, error) { return b.file.Read(p) }

// Size is how many bytes the copy has.
func (b *Backup) Size() int64 { return b.size }

// Close ends the backup. It must be called once.
func (b *Backup) Close() error {
	b.done()
	return nil
}

// backupWriter writes to a file in steps of backupStep bytes, until its context ends.
type backupWriter struct {
	ctx context.Context
	f   *os.File
	err error // the first error
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

// ReadFrom is what io.Copy calls. It avoids io.Copy's small steps.
func (w *backupWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, backupStep))
}
