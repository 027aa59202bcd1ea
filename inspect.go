package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	"hookbolt/storage"
)

// inspect is the command that a start runs before it opens its database; see inspectApart. It is not for people: check tells more.
func inspect(_ context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("inspect", flag.ContinueOnError)
	path := fs.String("file", "", "the database `FILE`")
	if err := parseFlags(fs, args, stdout, "Reads of a database what a start reads. A start does this by itself."); err != nil {
		return err
	}
	return storage.Inspect(*path)
}

// inspectApart returns a function that has another process of this program inspect a database file: a damaged one may end it by a
// signal or a stack that never ends, which is then a line in the log instead of the end of the server.
func inspectApart(log *slog.Logger) func(path string) error {
	return func(path string) error {
		exe, err := os.Executable()
		if err != nil {
			log.Warn("the database could not be inspected before its opening", "error", err)
			return nil
		}
		var said strings.Builder
		cmd := exec.Command(exe, "inspect", "-file", path)
		cmd.Stderr = &said
		err = cmd.Run()
		state, exited := errors.AsType[*exec.ExitError](err)
		switch {
		case err == nil:
			return nil
		case !exited: // it was not started
			log.Warn("the database could not be inspected before its opening", "error", err)
			return nil
		case state.ExitCode() == exitFailure:
			return errors.New(strings.TrimPrefix(strings.TrimSpace(said.String()), "hookbolt: "))
		}
		return fmt.Errorf("%w: reading it ended a process (%s)", storage.ErrCorrupt, state)
	}
}
