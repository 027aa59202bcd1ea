package cli

import (
	"context"
	"errors"
	"flag"
	"io"

	"hookbolt/internal/dbfile"
)

// checkFile is the command check.
func checkFile(ctx context.Context, p *Program, args []string) error {
	files, err := p.parseOperands(flag.NewFlagSet("check", flag.ContinueOnError), args,
		"Looks through a database that no hookbolt has open: its pages, each record's checksum, and whether what belongs together does.\n"+
			"Nothing is changed. What is wrong is listed, a line each, and the exit code is 1.", "FILE")
	if err != nil {
		return err
	}
	return p.passOn(dbfile.Check(ctx, p.Stdout, files[0]))
}

// compactFile is the command compact.
func compactFile(ctx context.Context, p *Program, args []string) error {
	files, err := p.parseOperands(flag.NewFlagSet("compact", flag.ContinueOnError), args,
		"Copies a database that no hookbolt has open, without what is free in it: what was erased or has expired is not in the copy.\n"+
			"FILE stays as it is. OUT must not exist; it is checked, and can take FILE's place.", "FILE OUT")
	if err != nil {
		return err
	}
	return p.passOn(dbfile.Compact(ctx, p.Stdout, files[0], files[1]))
}

// inspectFile is the command inspect, which a start runs before it opens its database. It is not for people: check tells more.
func inspectFile(ctx context.Context, p *Program, args []string) error {
	files, err := p.parseOperands(flag.NewFlagSet("inspect", flag.ContinueOnError), args,
		"Reads of a database what a start reads. A start does this by itself.", "FILE")
	if err != nil {
		return err
	}
	return p.passOn(dbfile.Inspect(ctx, p.Stdout, files[0]))
}

// passOn writes what a command in a child process has said of its failure.
func (p *Program) passOn(err error) error {
	if failed, ok := errors.AsType[*dbfile.ChildError](err); ok {
		io.WriteString(p.Stderr, failed.Said)
		return errAlreadyReported
	}
	return err
}
