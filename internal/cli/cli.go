package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"hookbolt/engine/transform"
	"hookbolt/internal/client"
)

// The exit codes beside 0.
const (
	ExitFailure = 1
	ExitUsage   = 2 // the command line is invalid
	ExitPending = 3 // a dry run has found changes
)

var (
	// errAlreadyReported ends a command as a failure that the log or the output has reported already.
	errAlreadyReported = errors.New("see above")
	// errPending ends a dry run that has found changes.
	errPending = errors.New("there are changes to make")
)

// usageError is an invalid command line.
type usageError struct{ error }

// Program is hookbolt with what its commands use of the process.
type Program struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer // output for people, and the log
	// Sessions has the sessions that the demo plays, as files NAME.ndjson.
	Sessions fs.FS
}

// command is a row of the table.
type command struct {
	name string
	// does and flags are the command's usage. A command without does is internal, and left out of the usage.
	does, flags string
	// run reads the flags in args and does the work. It returns when the work is done or ctx has ended.
	run func(ctx context.Context, p *Program, args []string) error
}

var commands = []command{
	{"serve", "run the server; the default", "[-config FILE] [-allow NETWORK]... [-pprof ADDRESS]", serve},
	{"demo", "try it without any settings", "[-keep]", runDemo},
	{"listen", "run an endpoint for tests", "[-addr ADDRESS] [-secret SECRET] [-status N] [-delay DURATION] [-fail N]", listen},
	{"apply", "set up webhooks from a file", "-f FILE [-dry-run] [-prune] [-url URL] [-token-file FILE]", apply},
	{"dump", "write such a file", "[-secrets] [-url URL] [-token-file FILE]", dump},
	{"status", "show the state of a server", "[-url URL] [-token-file FILE]", printStatus},
	{"drain", "take a server out of its fleet", "[-undo] [-timeout DURATION] [-url URL] [-token-file FILE]", drain},
	{"healthcheck", "check whether a server is ready", "[-url URL] [-config FILE]", healthcheck},
	{"config", "check the settings: config check", "[-config FILE] [-allow NETWORK]...", checkConfig},
	{"check", "check a database", "[-config FILE] [-schema NAME] FILE", check},
	{"compact", "copy a file without its free space", "FILE OUT", compactFile},
	{"copy", "copy from a file to PostgreSQL, or back", "[-config FILE] [-schema NAME] FROM TO", copyStore},
	{"postgres", "prepare a PostgreSQL database", "init [-print] [-schema NAME] [-role NAME] [-owner NAME] [URL]", initPostgres},
	{"bench", "measure the throughput", "[-rate N] [-webhooks N] [-dir DIR] [-url URL] [-json] and more", runBench},
	{"version", "print the version", "", printVersion},
	{name: "inspect", run: inspectFile},
	{name: "bench-relay", run: benchRelay},
	{name: transform.Command, run: runTransforms},
}

// runTransforms is a worker that runs the programs of webhooks for the server that has started it.
func runTransforms(_ context.Context, p *Program, _ []string) error {
	return transform.Work(p.Stdin, p.Stdout)
}

// usage is the text of "hookbolt help".
func usage() string {
	var b strings.Builder
	b.WriteString("hookbolt sends the sessions of polls, quizzes, tests, surveys and calculators as signed webhooks.\n\n" +
		"Usage: hookbolt [command] [flags]\n\n")
	row := func(name, does, flags string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-12s %-33s %s", name, does, flags), " ") + "\n")
	}
	for _, c := range commands {
		if c.does != "" {
			row(c.name, c.does, c.flags)
		}
	}
	row("help", `print this text; "hookbolt help serve" describes serve`, "")
	return b.String()
}

// Run runs the command that args name until it is done or ctx ends, and returns the exit code.
func (p *Program) Run(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	_, isUsage := errors.AsType[usageError](err)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errPending): // stdout has the report
		return ExitPending
	case errors.Is(err, errAlreadyReported):
		return ExitFailure
	}
	fmt.Fprintf(p.Stderr, "hookbolt: %v%s\n", err, advice(err))
	if isUsage {
		return ExitUsage
	}
	return ExitFailure
}

// advice says which flag or variable may help after a failed call of a server.
func advice(err error) string {
	refused, _ := errors.AsType[*client.StatusError](err)
	switch {
	case errors.Is(err, client.ErrUnreachable):
		return "; set -url to the address of the server"
	case errors.Is(err, client.ErrNotHookbolt):
		return "; is -url right?"
	case refused != nil && refused.Status == 401:
		return "; set " + tokenVariable + " to one of the server's http.admin_tokens, or -token-file to a file that has one"
	}
	return ""
}

func (p *Program) dispatch(ctx context.Context, args []string) error {
	name := "serve"
	if len(args) > 0 {
		switch args[0] {
		case "help", "-h", "-help", "--help":
			if len(args) == 1 {
				_, err := io.WriteString(p.Stdout, usage())
				return err
			}
			args = []string{args[1], "-h"}
		case "-version", "--version":
			args = []string{"version"}
		}
		if !strings.HasPrefix(args[0], "-") {
			name, args = args[0], args[1:]
		}
	}
	for _, c := range commands {
		if c.name == name {
			return c.run(ctx, p, args)
		}
	}
	return usageError{fmt.Errorf("unknown command %q; \"hookbolt help\" lists the commands", name)}
}
