package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"hookbolt/internal/config"
	"hookbolt/storage/postgres"
)

// initPostgres is "hookbolt postgres init": it makes what the driver postgres needs, or prints the SQL for that.
func initPostgres(ctx context.Context, p *Program, args []string) error {
	isInit := len(args) > 0 && args[0] == "init"
	if isInit {
		args = args[1:]
	}
	flags := flag.NewFlagSet("postgres", flag.ContinueOnError)
	var u postgres.Setup
	flags.StringVar(&u.Schema, "schema", "hookbolt", "put the tables in the schema `NAME`; storage.postgres_schema must be the same")
	flags.StringVar(&u.Role, "role", "hookbolt", "make the role `NAME` for the server, which may only work with rows; storage.postgres_url signs in with it")
	flags.StringVar(&u.Owner, "owner", "hookbolt_owner", "make the role `NAME`, which owns the tables; nobody signs in with it")
	toPrint := flags.Bool("print", false, "print the SQL for psql, and take no URL")
	operands := "URL"
	if slices.ContainsFunc(args, func(arg string) bool { return strings.TrimLeft(arg, "-") == "print" && arg != "print" }) {
		operands = ""
	}
	urls, err := p.parseOperands(flags, args, "\"hookbolt postgres init URL\" makes a schema and two roles with least rights in a database whose encoding is UTF8, and migrates the\n"+
		"tables of an older hookbolt. The role of URL is an administrator's: a superuser, or one that may make roles and schemas. It may be\n"+
		"repeated. A server whose role may create a schema needs none of this.", operands)
	switch {
	case isInit && err != nil, errors.Is(err, flag.ErrHelp):
		return err
	case !isInit:
		return usageError{errors.New("postgres: the only subcommand is init: \"hookbolt postgres init URL\"")}
	}
	for _, of := range []struct{ flag, name string }{{"-schema", u.Schema}, {"-role", u.Role}, {"-owner", u.Owner}} {
		if err := config.CheckPostgresName(of.flag, of.name); err != nil {
			return usageError{fmt.Errorf("postgres init: %w", err)}
		}
	}
	if *toPrint {
		_, err := io.WriteString(p.Stdout, u.SQL())
		return err
	}
	if err := postgres.Init(ctx, urls[0], u); err != nil {
		return fmt.Errorf("postgres init: %w", err)
	}
	_, err = fmt.Fprintf(p.Stdout, "the schema %q is ready for the role %q; a new role has no password yet: \\password %s in psql sets it\n", u.Schema, u.Role, forPsql(u.Role))
	return err
}

// plainName is a name that psql takes as it is. It folds others to lower case, and ends them at a space.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// forPsql is a name as an argument of a command of psql.
func forPsql(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
