package dbfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"

	"hookbolt/storage/bolt"
)

// childVariable is set in the environment of a child process.
const childVariable = "HOOKBOLT_CHILD"

// IsChild reports whether this process is such a child.
func IsChild() bool { return os.Getenv(childVariable) != "" }

// commandFailure is the exit code of a command that has failed and said why.
const commandFailure = 1

// ChildError is the failure of a command in a child process.
type ChildError struct {
	// Said is what the command wrote on stderr: one line, "hookbolt: " and the error.
	Said string
}

// Error is the error that the command reported.
func (e *ChildError) Error() string {
	return strings.TrimPrefix(strings.TrimSpace(e.Said), "hookbolt: ")
}

// errNotStarted means that the child process could not be started.
var errNotStarted = errors.New("no process of its own was started")

// child is a command that runs in a child process. work is what it does there.
type child struct {
	command string
	files   []string
	work    func() error
}

// run does a command's work, in this process if that is the child, else in a child.
func run(ctx context.Context, stdout io.Writer, c child) error {
	if IsChild() {
		debug.SetMaxStack(64 << 20) // pages that refer to each other in a circle
		return c.work()
	}
	err := runInChild(ctx, stdout, c)
	if _, told := errors.AsType[*ChildError](err); err == nil || told {
		return err
	}
	return fmt.Errorf("%s: %s: %w", c.command, c.files[0], err)
}

// runInChild runs a command of this program in another process. The error is a *ChildError if the command has failed as commands do, and
// an errNotStarted if it was never run.
func runInChild(ctx context.Context, stdout io.Writer, c child) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("%w: %w", errNotStarted, err)
	}
	process := exec.CommandContext(ctx, self, append([]string{c.command, "--"}, c.files...)...)
	process.Env = append(os.Environ(), childVariable+"=1", "GOTRACEBACK=none")
	var stderr bytes.Buffer
	process.Stdout, process.Stderr = stdout, &stderr
	err = process.Run()
	ended, hasEnded := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !hasEnded:
		return fmt.Errorf("%w: %w", errNotStarted, err)
	case ended.ExitCode() == commandFailure:
		return &ChildError{stderr.String()}
	}
	reason, _, _ := strings.Cut(stderr.String(), "\n")
	return fmt.Errorf("%w: reading it ended the process (%s: %s)", bolt.ErrCorrupt, ended, reason)
}

// Inspector returns a function that inspects a database before it is opened, in a child process. If no process can be started, it
// logs that and returns nil.
func Inspector(log *slog.Logger) func(path string) error {
	return func(path string) error {
		err := runInChild(context.Background(), io.Discard, child{command: "inspect", files: []string{path}})
		if errors.Is(err, errNotStarted) {
			log.Warn("the database could not be inspected before its opening", "error", err)
			return nil
		}
		return err
	}
}
