// Package dbfile looks after the file of a database that no server has open: it checks it, compacts it, and inspects it before a server
// opens it.
//
// A damaged file may end the process that reads it, by a signal or by an error of Go's runtime that cannot be caught. So each of these runs
// in a child process: this program, with a command of the same name (check, compact, inspect), which calls the same function and does the
// work. The package knows these commands by their names and their exit code 1, and nothing of servers, settings or flags.
package dbfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"hookbolt/storage/bolt"
)

// Check reads the database at path and writes on stdout what is damaged, one line each, or that it is sound.
func Check(ctx context.Context, stdout io.Writer, path string) error {
	return run(ctx, stdout, child{command: "check", files: []string{path}, work: func() error {
		report, err := bolt.CheckFile(path)
		if err != nil {
			return err
		}
		for _, v := range report.Violations {
			fmt.Fprintln(stdout, v)
		}
		if len(report.Violations) > 0 {
			return fmt.Errorf("check: %s is damaged", path)
		}
		outdated := ""
		if report.Outdated {
			outdated = "; made by an older version, the next start brings it up to date"
		}
		_, err = fmt.Fprintf(stdout, "ok: %d sessions, %d deliveries, %d webhooks, %s, of which %s are free%s\n", report.Sessions, report.Deliveries,
			report.Webhooks, mebibytes(report.SizeBytes), mebibytes(report.FreeBytes), outdated)
		return err
	}})
}

// Compact copies the database at path to a file that must not exist, without what is free in it. It writes on stdout what came of it.
func Compact(ctx context.Context, stdout io.Writer, path, copyPath string) error {
	err := run(ctx, stdout, child{command: "compact", files: []string{path, copyPath}, work: func() error {
		size, copySize, err := bolt.Compact(path, copyPath)
		if err == nil {
			_, err = fmt.Fprintf(stdout, "ok: %s compacted to %s\n", mebibytes(size), mebibytes(copySize))
		}
		return err
	}})
	if _, told := errors.AsType[*ChildError](err); err != nil && !told && !IsChild() {
		os.Remove(copyPath + bolt.UnfinishedSuffix) // left behind by a process that has not ended as commands do
	}
	return err
}

// Inspect reads of the database at path what a start reads.
func Inspect(ctx context.Context, stdout io.Writer, path string) error {
	return run(ctx, stdout, child{command: "inspect", files: []string{path}, work: func() error { return bolt.Inspect(path) }})
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
