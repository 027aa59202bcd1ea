package bolt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// save writes a backup to a file of the test and returns its path.
func save(t testing.TB, b *Backup) string {
	t.Helper()
	var content bytes.Buffer
	n, err := content.ReadFrom(b)
	if err := errors.Join(err, b.Close()); err != nil || n != b.Size() {
		t.Fatalf("%d bytes of %d: %v", n, b.Size(), err)
	}
	path := filepath.Join(t.TempDir(), "restored.db")
	if err := os.WriteFile(path, content.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Backups under load are whole databases, with all that was acknowledged before each began.
func TestBackupUnderLoad(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	var mu sync.Mutex
	more := sync.NewCond(&mu)
	var acknowledged []uuid.UUID // guarded by mu
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				id := uuid.New()
				if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, id, time.Now()), now())); err != nil {
					t.Error(err)
				}
				mu.Lock()
				acknowledged = append(acknowledged, id)
				more.Signal()
				mu.Unlock()
			}
		})
	}
	wg.Go(func() { // what changes and goes away, not only what is added
		for ctx.Err() == nil {
			for _, taken := range take(t, s, engine.Lane{WebhookID: w.ID}, 20).Claimed {
				deliver(t, s, taken.Delivery, delivered, ok)
			}
			if _, err := s.Maintain(t.Context(), now().Add(time.Hour), engine.Retention{Sessions: 24 * time.Hour, Deliveries: time.Hour}); err != nil {
				t.Error(err)
			}
		}
	})
	var copies []string
	var held [][]uuid.UUID
	for len(copies) < 5 {
		mu.Lock()
		for len(acknowledged) < 150*(len(copies)+1) {
			more.Wait()
		}
		held = append(held, acknowledged[:len(acknowledged):len(acknowledged)])
		mu.Unlock()
		b, err := s.Backup(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, save(t, b))
	}
	stop()
	wg.Wait()
	for i, copied := range copies {
		r, err := CheckFile(copied)
		if err != nil || len(r.Violations) > 0 {
			t.Fatalf("copy %d: %v: %v", i, r.Violations, err)
		}
		restored := openTest(t, copied)
		for _, id := range held[i] {
			if _, _, err := restored.Session(t.Context(), id); err != nil {
				t.Fatalf("copy %d: acknowledged before it was asked for: %v", i, err)
			}
		}
		checkAndClose(t, restored)
		t.Logf("copy %d: %d sessions, %d acknowledged before", i, r.Sessions, len(held[i]))
	}
	if names := beside(t, path); len(names) != 2 {
		t.Errorf("left: %v", names)
	}
}

func TestOneBackupAtATime(t *testing.T) {
	s := openTest(t, newPath(t))
	first, err := s.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context()); !errors.Is(err, engine.ErrConflict) {
		t.Errorf("a second one: %v, want ErrConflict", err)
	}
	// Whoever reads it slowly holds nothing of the database.
	if n := s.db.Stats().OpenTxN; n != 0 {
		t.Errorf("%d transactions are open", n)
	}
	first.Close()
	second, err := s.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestBackupThatFails(t *testing.T) {
	path := newPath(t)
	if err := os.WriteFile(path+backupSuffix, []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, path)
	if names := beside(t, path); len(names) != 2 { // with the lock
		t.Errorf("at the start there are %v", names)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	look := s.space.look
	full := func(string) (disk, error) { return disk{free: 100<<20 + 1000, known: true}, nil }
	s.SetLimits(100<<20, 0)
	for _, c := range []struct {
		name string
		ctx  context.Context
		look func(string) (disk, error)
		want error
	}{
		{"no space", t.Context(), full, engine.ErrFull},
		{"nobody wants it", gone, look, context.Canceled},
	} {
		s.space.look, s.space.lookedAt = c.look, time.Time{}
		if _, err := s.Backup(c.ctx); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if names := beside(t, path); len(names) != 2 || s.db.Stats().OpenTxN != 0 {
			t.Errorf("%s: left are %v and %d transactions", c.name, names, s.db.Stats().OpenTxN)
		}
	}
	s.space.look, s.space.lookedAt = look, time.Time{}
	b, err := s.Backup(t.Context())
	if err != nil {
		t.Fatalf("after those: %v", err)
	}
	checkAndClose(t, s) // the copy does not need it
	openTest(t, save(t, b))
	if _, err := s.Backup(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("closed: %v, want ErrUnavailable", err)
	}
}

// Copying ends when nobody waits for it any more, and says what the disk says.
func TestBackupWriter(t *testing.T) {
	f, err := os.Create(newPath(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	w := &backupWriter{ctx: ctx, f: f}
	read := 0
	_, err = io.Copy(w, readerFunc(func(p []byte) (int, error) {
		if len(p) != backupStep {
			t.Errorf("a step of %d bytes", len(p))
		}
		if read++; read == 3 {
			stop()
		}
		return len(p), nil
	}))
	if !errors.Is(err, context.Canceled) || w.err != err || read != 3 {
		t.Errorf("%d steps, %v", read, err)
	}
	f.Close()
	w = &backupWriter{ctx: t.Context(), f: f}
	if _, err := io.Copy(w, bytes.NewReader(make([]byte, 10))); !errors.Is(err, os.ErrClosed) || !errors.Is(w.err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
