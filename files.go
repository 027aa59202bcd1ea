package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"

	"hookbolt/storage/bolt"
)

// asideEnv is set in the environment of a process that reads a suspect file.
const asideEnv = "HOOKBOLT_ASIDE"

// checkFile is the command check.
func checkFile(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	files, err := parseOperands(flag.NewFlagSet("check", flag.ContinueOnError), args, stdout,
		"Looks through a database that no hookbolt has open: its pages, each record's checksum, and whether what belongs together does.\n"+
			"Nothing is changed. What is wrong is listed, a line each, and the exit code is 1.", "FILE")
	if err != nil {
		return err
	}
	return aside(ctx, "check", files, stdout, stderr, func() error {
		report, err := bolt.CheckFile(files[0])
		if err != nil {
			return err
		}
		for _, v := range report.Violations {
			fmt.Fprintln(stdout, v)
		}
		if len(report.Violations) > 0 {
			return fmt.Errorf("check: %s is damaged", files[0])
		}
		outdated := ""
		if report.Outdated {
			outdated = "; made by an older version, the next start brings it up to date"
		}
		_, err = fmt.Fprintf(stdout, "ok: %d sessions, %d deliveries, %d webhooks, %s, of which %s are free%s\n", report.Sessions, report.Deliveries,
			report.Webhooks, mebibytes(report.SizeBytes), mebibytes(report.FreeBytes), outdated)
		return err
	})
}

// compactFile is the command compact.
func compactFile(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	files, err := parseOperands(flag.NewFlagSet("compact", flag.ContinueOnError), args, stdout,
		"Copies a database that no hookbolt has open, without what is free in it: what was erased or has expired is not in the copy.\n"+
			"FILE stays as it is. OUT must not exist; it is checked, and can take FILE's place.", "FILE OUT")
	if err != nil {
		return err
	}
	return aside(ctx, "compact", files, stdout, stderr, func() error {
		size, copySize, err := bolt.Compact(files[0], files[1])
		if err == nil {
			_, err = fmt.Fprintf(stdout, "ok: %s compacted to %s\n", mebibytes(size), mebibytes(copySize))
		}
		return err
	})
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// aside does a command's work in a process of its own; see apart.
func aside(ctx context.Context, command string, files []string, stdout, stderr io.Writer, work func() error) error {
	if os.Getenv(asideEnv) != "" {
		debug.SetMaxStack(64 << 20) // pages that refer to each other in a circle
		return work()
	}
	said, err := apart(ctx, stdout, append([]string{command, "--"}, files...)...)
	if err == nil {
		return nil
	}
	if errors.Is(err, errTold) { // it has told why
		io.WriteString(stderr, said)
		return err
	}
	if command == "compact" {
		os.Remove(files[1] + bolt.UnfinishedSuffix)
	}
	return fmt.Errorf("%s: %s: %w", command, files[0], err)
}

// inspect is the command that a start runs before it opens its database; see inspectApart. It is not for people: check tells more.
func inspect(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	files, err := parseOperands(flag.NewFlagSet("inspect", flag.ContinueOnError), args, stdout,
		"Reads of a database what a start reads. A start does this by itself.", "FILE")
	if err != nil {
		return err
	}
	return aside(ctx, "inspect", files, stdout, stderr, func() error { return bolt.Inspect(files[0]) })
}

// inspectApart returns a function that has another process inspect a database file. Where none can be started it goes without.
func inspectApart(log *slog.Logger) func(path string) error {
	return func(path string) error {
		said, err := apart(context.Background(), io.Discard, "inspect", "--", path)
		switch {
		case errors.Is(err, errNotStarted):
			log.Warn("the database could not be inspected before its opening", "error", err)
			return nil
		case errors.Is(err, errTold):
			return errors.New(strings.TrimPrefix(strings.TrimSpace(said), "hookbolt: "))
		}
		return err
	}
}

var errNotStarted = errors.New("no process of its own was started")

// apart runs a command of this program in another process, where a damaged file can do no harm: reading one may end a process by a
// signal, or by an error of the runtime that Go cannot catch. An errTold means that the command has failed as commands do, and said
// is what it has said; an errNotStarted that it was never run.
func apart(ctx context.Context, stdout io.Writer, args ...string) (said string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNotStarted, err)
	}
	child := exec.CommandContext(ctx, self, args...)
	child.Env = append(os.Environ(), asideEnv+"=1", "GOTRACEBACK=none")
	var stderr bytes.Buffer
	child.Stdout, child.Stderr = stdout, &stderr
	err = child.Run()
	ended, hasEnded := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case !hasEnded:
		return "", fmt.Errorf("%w: %w", errNotStarted, err)
	case ended.ExitCode() == exitFailure:
		return stderr.String(), errTold
	}
	reason, _, _ := strings.Cut(stderr.String(), "\n")
	return "", fmt.Errorf("%w: reading it ended the process (%s: %s)", bolt.ErrCorrupt, ended, reason)
}
