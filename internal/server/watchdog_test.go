package server_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/server"
	"hookbolt/storage"
)

// The server says when it is ready, gives signs of life, and says when it stops, in a process of its own.
func TestServiceManager(t *testing.T) {
	m := hookbolttest.NewServiceManager(t, 50*time.Millisecond)
	child := hookbolttest.Spawn(t, hookbolttest.WriteConfig(t, t.TempDir(), `shutdown_timeout = "7m"`, ""), m.Env...)
	if got, want := m.Next(t), "READY=1\nSTATUS=ready at "+child.URL; got != want {
		t.Fatalf("the first thing said is %q, want %q", got, want)
	}
	status, answer := hookbolttest.Call(t, "GET", child.URL+"/readyz", "")
	hookbolttest.WantStatus(t, http.StatusOK, status, answer)
	for range 3 {
		if got := m.Next(t); got != "WATCHDOG=1" {
			t.Fatalf("said %q, want a sign of life", got)
		}
	}
	if err := child.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.Await(t, "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=480000000")
	if err := child.Wait(); err != nil {
		t.Errorf("SIGTERM: %v, want exit code 0", err)
	}
}

// A full disk is no reason to be killed and started again: the disk would be as full then.
func TestFullDiskGivesSignsOfLife(t *testing.T) {
	m := hookbolttest.NewServiceManager(t, 50*time.Millisecond)
	child := hookbolttest.Spawn(t, hookbolttest.WriteFullDiskConfig(t), m.Env...)
	m.Next(t)
	status, answer := hookbolttest.Call(t, "GET", child.URL+"/readyz", "")
	hookbolttest.WantStatus(t, http.StatusServiceUnavailable, status, answer)
	for range 3 {
		if got := m.Next(t); got != "WATCHDOG=1" {
			t.Fatalf("said %q, want a sign of life", got)
		}
	}
}

// hungWriter is a store whose writer hangs while the test says so: whoever asks it waits for as long as he likes.
type hungWriter struct {
	storage.Store
	hangs atomic.Bool
}

func (s *hungWriter) Stats(ctx context.Context, now time.Time, probe bool) (engine.Stats, error) {
	if s.hangs.Load() {
		<-ctx.Done()
		return engine.Stats{}, ctx.Err()
	}
	return s.Store.Stats(ctx, now, probe)
}

// watched returns a service manager whose watchdog the server of this process is to reset, and settings for that server.
func watched(t *testing.T) (*hookbolttest.ServiceManager, config.Config) {
	t.Helper()
	m := hookbolttest.NewServiceManager(t, 50*time.Millisecond)
	for _, line := range m.Env {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	cfg := config.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Path = filepath.Join(t.TempDir(), "test.db")
	return m, cfg
}

// While the writer hangs the watchdog is not reset, although the rest of the process works.
func TestHungWriterGivesNoSignOfLife(t *testing.T) {
	m, cfg := watched(t)
	log := hookbolttest.NewOutput()
	logger, _ := server.NewLog(cfg.Log, log)
	o := server.Options{Config: cfg, Log: logger}
	writer := &hungWriter{}
	o.WrapStore(func(s storage.Store) storage.Store {
		writer.Store = s
		return writer
	})
	s, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	m.Await(t, "READY=1\nSTATUS=ready at "+s.URL())

	writer.hangs.Store(true)
	const refusal = `the watchdog is not reset.*\n`
	log.Find(t, refusal)
	m.Say(t, "FIRST=1") // what was said before the first refusal has arrived before this
	count := strings.Count(log.String(), "the watchdog is not reset")
	log.Find(t, fmt.Sprintf(`(?s)(the watchdog is not reset.*){%d}`, count+2))
	status, answer := hookbolttest.Call(t, "GET", s.URL()+"/healthz", "")
	hookbolttest.WantStatus(t, http.StatusOK, status, answer)
	m.Say(t, "SECOND=1")
	m.Await(t, "FIRST=1")
	if got := m.Next(t); got != "SECOND=1" {
		t.Errorf("said %q while the writer hung", got)
	}

	writer.hangs.Store(false)
	for m.Next(t) != "WATCHDOG=1" {
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// awayStore is a store whose database is away.
type awayStore struct{ storage.Store }

func (awayStore) Ready(context.Context) error {
	return &engine.NotReadyError{Why: "the database server cannot be reached", Err: fmt.Errorf("%w: dial tcp 192.0.2.1: refused", engine.ErrTransient)}
}

// A database server that is away is no reason to be killed and started again. /readyz says what is wrong, and not where.
func TestDatabaseAwayGivesSignsOfLife(t *testing.T) {
	m, cfg := watched(t)
	logger, _ := server.NewLog(cfg.Log, hookbolttest.NewOutput())
	o := server.Options{Config: cfg, Log: logger}
	o.WrapStore(func(s storage.Store) storage.Store { return awayStore{s} })
	s, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	m.Await(t, "READY=1\nSTATUS=ready at "+s.URL())
	status, answer := hookbolttest.Call(t, "GET", s.URL()+"/readyz", "")
	hookbolttest.WantStatus(t, http.StatusServiceUnavailable, status, answer)
	if !strings.Contains(answer, `"detail":"not ready: the database server cannot be reached"`) {
		t.Errorf("/readyz says %s", answer)
	}
	for range 3 {
		if got := m.Next(t); got != "WATCHDOG=1" {
			t.Fatalf("said %q, want a sign of life", got)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
