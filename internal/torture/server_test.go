package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is one process of hookbolt.
type server struct {
	cmd     *exec.Cmd
	spawned time.Time
	log     *logTail

	ready   chan struct{} // closed by the log once it is ready; URL and readyAt are set before
	exited  chan struct{} // closed at its end; waitErr is set before
	waitErr error
}

// launch starts a process of hookbolt and does not wait for anything. It is killed at the end of the test.
func launch(t *testing.T, binary string, env []string, args ...string) *server {
	t.Helper()
	return launchAs(t, nil, binary, env, args...)
}

// launchAs is launch with what the system is asked for.
func launchAs(t *testing.T, as *syscall.SysProcAttr, binary string, env []string, args ...string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(binary, args...), ready: make(chan struct{}), exited: make(chan struct{})}
	s.cmd.SysProcAttr = as
	s.log = &logTail{ready: s.ready}
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.spawned = time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.waitErr = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(s.kill)
	return s
}

// awaitReady waits until the server takes requests and returns how long its start took. Its URL is known from then on.
func (s *server) awaitReady(patience time.Duration) (time.Duration, error) {
	select {
	case <-s.ready:
		return s.log.readyAt.Sub(s.spawned), nil
	case <-s.exited:
		return 0, fmt.Errorf("it ended with code %d before it was ready:\n%s", s.exitCode(), s.log)
	case <-time.After(patience):
		s.cmd.Process.Signal(syscall.SIGQUIT) // it prints where its goroutines stand
		s.wait(time.Second)
		return 0, fmt.Errorf("it is not ready after %v:\n%s", patience, s.log)
	}
}

// url is where it is reached; only for one that was ready.
func (s *server) url() string { return s.log.url }

// kill ends the process as kill -9 does and waits for its end.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.exited
}

// terminate sends SIGTERM.
func (s *server) terminate() { s.cmd.Process.Signal(syscall.SIGTERM) }

// wait waits for the end of the process and returns its exit code: -1 if a signal has ended it.
func (s *server) wait(patience time.Duration) (int, error) {
	select {
	case <-s.exited:
		return s.exitCode(), nil
	case <-time.After(patience):
		return 0, fmt.Errorf("it still runs after %v:\n%s", patience, s.log)
	}
}

// exitCode is for a process that has ended.
func (s *server) exitCode() int {
	if exit, ok := errors.AsType[*exec.ExitError](s.waitErr); ok {
		return exit.ExitCode()
	}
	return 0
}

// running tells whether the process has not ended yet.
func (s *server) running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// memory is how much memory the process has in use, in bytes, without the pages of the database that the system has mapped for it; 0
// where the system does not say.
func (s *server) memory() int64 {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "RssAnon:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// logTail keeps the end of what a process prints.
type logTail struct {
	ready chan struct{}

	mu      sync.Mutex
	buf     bytes.Buffer // guarded by mu
	url     string       // set before ready is closed, as readyAt
	readyAt time.Time
}

var readyLine = regexp.MustCompile(`msg=ready url=(\S+)\s`)

const maxLog = 256 << 10

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if l.url == "" {
		if m := readyLine.FindSubmatch(l.buf.Bytes()); m != nil {
			l.url, l.readyAt = string(m[1]), time.Now()
			close(l.ready)
		}
	}
	if over := l.buf.Len() - maxLog; over > 0 {
		l.buf.Next(over)
	}
	return len(p), nil
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
