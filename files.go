package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"

	"hookbolt/storage"
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
		report, err := storage.CheckFile(files[0])
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
		size, copySize, err := storage.Compact(files[0], files[1])
		if err == nil {
			_, err = fmt.Fprintf(stdout, "ok: %s compacted to %s\n", mebibytes(size), mebibytes(copySize))
		}
		return err
	})
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// aside does a command's work in a process of its own, where a damaged file can do no harm: reading one may end a process by a signal,
// or by an error of the runtime that Go cannot catch. This process tells then what has happened.
func aside(ctx context.Context, command string, files []string, stdout, stderr io.Writer, work func() error) error {
	if os.Getenv(asideEnv) != "" {
		debug.SetMaxStack(64 << 20) // pages that refer to each other in a circle
		return work()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, self, append([]string{command, "--"}, files...)...)
	child.Env = append(os.Environ(), asideEnv+"=1", "GOTRACEBACK=none")
	var said bytes.Buffer
	child.Stdout, child.Stderr = stdout, &said
	err = child.Run()
	ended, hasEnded := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case hasEnded && ended.ExitCode() == exitFailure: // it has told why
		stderr.Write(said.Bytes())
		return errLogged
	case hasEnded:
		reason, _, _ := strings.Cut(said.String(), "\n")
		err = fmt.Errorf("%s is damaged: reading it ended the process (%s: %s)", files[0], ended, reason)
	}
	if command == "compact" {
		os.Remove(files[1] + storage.UnfinishedSuffix)
	}
	return fmt.Errorf("%s: %w", command, err)
}
