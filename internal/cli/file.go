package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"hookbolt/internal/config"
	"hookbolt/internal/dbfile"
)

// check is the command check.
func check(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	l := placeFlags(flags)
	operands, err := p.parseOperands(flags, args, "Checks a database that no hookbolt has open: its pages, the checksum of each record, and the references between records.\n"+
		"FILE may also be the URL of a database in PostgreSQL, or \"postgres\": the one of the settings. Its tables are compared with each other; a\n"+
		"hookbolt may work with it meanwhile. It changes nothing. It prints a line for each fault; the exit code is 1 if there are any.", "FILE")
	if err != nil {
		return err
	}
	where, err := l.place(operands[0])
	switch {
	case err != nil:
		return err
	case where.Postgres != nil:
		return checkPostgres(ctx, p.Stdout, *where.Postgres)
	}
	if e := config.ExposureOf(where.Path); e != nil && !dbfile.IsChild() {
		fmt.Fprintln(p.Stderr, "hookbolt: warning:", e.String())
	}
	return p.passOn(dbfile.Check(ctx, p.Stdout, where.Path))
}

// compactFile is the command compact.
func compactFile(ctx context.Context, p *Program, args []string) error {
	files, err := p.parseOperands(flag.NewFlagSet("compact", flag.ContinueOnError), args,
		"Copies a database that no hookbolt has open, without its free space: erased and expired data is not in the copy.\n"+
			"FILE is not changed. OUT must not exist. The copy is checked; then it can replace FILE.", "FILE OUT")
	if err != nil {
		return err
	}
	return p.passOn(dbfile.Compact(ctx, p.Stdout, files[0], files[1]))
}

// inspectFile is the command inspect, which a start runs before it opens its database. It is not for people: check tells more.
func inspectFile(ctx context.Context, p *Program, args []string) error {
	files, err := p.parseOperands(flag.NewFlagSet("inspect", flag.ContinueOnError), args,
		"Reads the parts of a database that a start reads. hookbolt runs this command itself at a start.", "FILE")
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
