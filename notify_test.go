package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

// serviceManager is systemd as far as a service sees it: a socket, and variables that tell of it.
type serviceManager struct {
	conn *net.UnixConn
	env  []string
}

// manage listens as systemd does for a service that is to give a sign of life each patience.
func manage(t *testing.T, patience time.Duration) *serviceManager {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there are no datagram sockets with a path on Windows")
	}
	dir, err := os.MkdirTemp("", "hookbolt") // not t.TempDir: a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &serviceManager{conn, []string{"NOTIFY_SOCKET=" + path, fmt.Sprintf("WATCHDOG_USEC=%d", patience.Microseconds())}}
}

// next waits for what the service says next.
func (m *serviceManager) next(t *testing.T) string {
	t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(testPatience))
	var buf [4096]byte
	n, err := m.conn.Read(buf[:])
	if err != nil {
		t.Fatalf("the service says nothing: %v", err)
	}
	return string(buf[:n])
}

// await waits until the service says something, and lets it give signs of life meanwhile.
func (m *serviceManager) await(t *testing.T, state string) {
	t.Helper()
	for {
		switch got := m.next(t); got {
		case state:
			return
		case "WATCHDOG=1":
		default:
			t.Fatalf("the service says %q, want %q", got, state)
		}
	}
}

// The server says when it is ready, gives signs of life, and says when it stops, in a process of its own.
func TestServiceManager(t *testing.T) {
	m := manage(t, 50*time.Millisecond)
	cmd, api := spawn(t, writeConfig(t, t.TempDir(), `shutdown_timeout = "7m"`, ""), m.env...)
	if got, want := m.next(t), "READY=1\nSTATUS=ready at "+api; got != want {
		t.Fatalf("the first thing said is %q, want %q", got, want)
	}
	status, answer := call(t, "GET", api+"/readyz", "")
	wantStatus(t, http.StatusOK, status, answer)
	for range 3 {
		if got := m.next(t); got != "WATCHDOG=1" {
			t.Fatalf("said %q, want a sign of life", got)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.await(t, "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=480000000")
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v, want exit code 0", err)
	}
}

// A full disk is no reason to be killed and started again: the disk would be as full then.
func TestFullDiskGivesSignsOfLife(t *testing.T) {
	m := manage(t, 50*time.Millisecond)
	_, api := spawn(t, fullDisk(t), m.env...)
	m.next(t)
	status, answer := call(t, "GET", api+"/readyz", "")
	wantStatus(t, http.StatusServiceUnavailable, status, answer)
	for range 3 {
		if got := m.next(t); got != "WATCHDOG=1" {
			t.Fatalf("said %q, want a sign of life", got)
		}
	}
}

// While the writer hangs there is no sign of life, however well the rest of the process does.
func TestHungWriterGivesNoSignOfLife(t *testing.T) {
	m := manage(t, 50*time.Millisecond)
	for _, line := range m.env {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	cfg := DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Path = filepath.Join(t.TempDir(), "test.db")
	log := newOutput()
	logger, _ := cfg.Log.logger(log)
	a, err := newApp(cfg, logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx) }()
	m.await(t, "READY=1\nSTATUS=ready at "+a.url())

	events, err := engine.ParseEvents([]byte(testSession), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	hangs, goOn, appended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := a.store.(*bolt.Store).AppendEvents(t.Context(), events,
			func(head engine.SessionHead, fresh []engine.Event, hooks *engine.WebhookSet) (engine.Decision, error) {
				close(hangs)
				<-goOn
				return engine.Admit(head, fresh, hooks)
			})
		appended <- err
	}()
	<-hangs
	const refusal = `no sign of life.*\n`
	log.find(t, refusal)
	mark := newSupervisor(a.log)
	mark.tell("FIRST=1") // what was said before the first refusal has arrived before this
	count := strings.Count(log.String(), "no sign of life")
	log.find(t, fmt.Sprintf(`(?s)(no sign of life.*){%d}`, count+2))
	status, answer := call(t, "GET", a.url()+"/healthz", "")
	wantStatus(t, http.StatusOK, status, answer)
	mark.tell("SECOND=1")
	m.await(t, "FIRST=1")
	if got := m.next(t); got != "SECOND=1" {
		t.Errorf("said %q while the writer hung", got)
	}

	close(goOn)
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	for m.next(t) != "WATCHDOG=1" {
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
