package hookbolttest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbolt/internal/cli"
)

// Output collects what a command prints, and lets a test wait for it.
type Output struct {
	// More receives a value when something was printed since the last one.
	More chan struct{} // capacity 1

	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// NewOutput returns an empty Output.
func NewOutput() *Output { return &Output{More: make(chan struct{}, 1)} }

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.More <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

// String returns everything that was printed so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Find waits for the first match of a pattern and returns its last group.
func (o *Output) Find(t *testing.T, pattern string) string {
	t.Helper()
	re, deadline := regexp.MustCompile(pattern), time.After(Timeout)
	for {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-o.More:
		case <-deadline:
			t.Fatalf("no %s in:\n%s", pattern, o.String())
		}
	}
}

// ready matches the log line of a server that is ready. Its group is the server's URL.
const ready = `msg=ready url=(\S+)`

// Process is hookbolt running in the test's own process.
type Process struct {
	Stdout, Stderr *Output
	// Stop requests its end.
	Stop context.CancelCauseFunc
	code chan int // receives the exit code
}

// Start starts hookbolt with args. It runs until the test ends.
func Start(t *testing.T, args ...string) *Process {
	ctx, stop := context.WithCancelCause(context.Background())
	p := &Process{Stdout: NewOutput(), Stderr: NewOutput(), Stop: stop, code: make(chan int, 1)}
	program := cli.Program{Stdin: strings.NewReader(""), Stdout: p.Stdout, Stderr: p.Stderr, Sessions: os.DirFS(Path(t, "testdata/sessions"))}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.code <- program.Run(ctx, args)
	}()
	t.Cleanup(func() {
		stop(errors.New("the test has ended"))
		<-ended
		if t.Failed() {
			t.Logf("hookbolt %s said:\n%s%s", strings.Join(args, " "), p.Stdout, p.Stderr)
		}
	})
	return p
}

// Serve starts a server that may deliver to this machine, and returns its URL. http and delivery are further lines of these sections of its
// configuration.
func Serve(t *testing.T, http, delivery string) string {
	t.Helper()
	return Start(t, "serve", "-config", WriteConfig(t, t.TempDir(), http, delivery), "-allow", "127.0.0.0/8").URL(t)
}

// Run runs a command until it ends.
func Run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return RunWith(t, "", args...)
}

// RunWith runs a command with a standard input until it ends.
func RunWith(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	p := cli.Program{Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &log}
	code = p.Run(t.Context(), args)
	return code, out.String(), log.String()
}

// End stops the process and returns the exit code.
func (p *Process) End(t *testing.T) int {
	t.Helper()
	p.Stop(errors.New("signal: of the test"))
	return p.Exit(t)
}

// Exit waits for the end and returns the exit code.
func (p *Process) Exit(t *testing.T) int {
	t.Helper()
	select {
	case code := <-p.code:
		return code
	case <-time.After(Timeout):
		t.Fatalf("hookbolt does not end; it printed:\n%s%s", p.Stdout, p.Stderr)
		return 0
	}
}

// URL waits until a server is ready and returns its URL.
func (p *Process) URL(t *testing.T) string {
	t.Helper()
	return p.Stderr.Find(t, ready)
}

// Command returns a child process of hookbolt that is not started yet. env is added to this process's environment.
func Command(t *testing.T, env []string, args ...string) (*exec.Cmd, *Output) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	stderr := NewOutput()
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), stderr
	return cmd, stderr
}

// Child is a server in a child process.
type Child struct {
	*exec.Cmd
	URL string
	Log *Output
}

// Spawn starts a server in a child process and waits until it is ready. env is added to this process's environment.
func Spawn(t *testing.T, config string, env ...string) *Child {
	t.Helper()
	cmd, log := Command(t, env, "serve", "-config", config)
	return Launch(t, cmd, log)
}

// Launch starts a server's process and waits until it is ready.
func Launch(t *testing.T, cmd *exec.Cmd, log *Output) *Child {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // fails if the test has waited already
	})
	return &Child{cmd, log.Find(t, ready), log}
}
