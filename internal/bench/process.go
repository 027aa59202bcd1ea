package bench

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child process that logs on stderr when it is ready, as the server and the bare relay do.
type process struct {
	cmd    *exec.Cmd
	url    string // its base URL
	log    *logTail
	exited chan struct{} // closed when it has ended
}

// startTimeout is how long a child may take until it is ready. A start reads parts of a large database, after a crash all of it.
const startTimeout = 10 * time.Minute

// startProcess starts a command of o.Executable, with some more variables in its environment, and waits until it is ready.
func startProcess(ctx context.Context, o *Options, environ []string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(o.Executable, args...), log: &logTail{ready: make(chan string, 1)}, exited: make(chan struct{})}
	p.cmd.Env, p.cmd.Stderr = append(slices.Clip(o.Environ), environ...), p.log
	p.cmd.SysProcAttr = ownGroup()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s %s: %w", o.Executable, args[0], err)
	}
	go func() {
		defer close(p.exited)
		p.cmd.Wait() // its log says how it ended
	}()
	select {
	case p.url = <-p.log.ready:
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("%s ended before it was ready: %s", args[0], p.log)
	case <-ctx.Done():
		p.kill()
		return nil, ctx.Err()
	case <-time.After(startTimeout):
		p.kill()
		return nil, fmt.Errorf("%s is not ready after %s: %s", args[0], startTimeout, p.log)
	}
}

// kill kills the process with SIGKILL and waits for its end. The process may have ended before.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// stop stops the process with SIGTERM. It kills the process after a minute, or at once where there is no such signal (Windows).
func (p *process) stop() {
	if p.cmd.Process.Signal(syscall.SIGTERM) == nil {
		select {
		case <-p.exited:
		case <-time.After(time.Minute):
		}
	}
	p.kill()
}

// running reports whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

var readyLine = regexp.MustCompile(`ready url=(\S+)`)

// logTail keeps the end of a process's log and notices when the process is ready.
type logTail struct {
	ready chan string // gets the URL, once

	mu    sync.Mutex
	text  []byte // guarded by mu
	found bool   // the URL was sent; guarded by mu
}

// logKept is how many bytes of a log are kept.
const logKept = 4 << 10

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if !l.found {
		if m := readyLine.FindSubmatch(l.text); m != nil && l.text[len(l.text)-1] == '\n' {
			l.found = true
			l.ready <- string(m[1])
		}
	}
	if extra := len(l.text) - logKept; l.found && extra > 0 {
		l.text = append(l.text[:0], l.text[extra:]...)
	}
	return len(p), nil
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.text))
}
