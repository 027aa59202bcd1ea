// hookbolt turns the sessions of interactive content into signed webhooks.
//
// Package main introduces the parts to each other: storage keeps what engine decides, httpapi lets callers in. It knows
// flags, settings, signals and exit codes, and nothing of the rules.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

func main() {
	// net/http's client prints what an endpoint sends unasked with the standard logger: text of strangers, which may repeat a
	// visitor's data, past log.format and log.level. Nothing else uses that logger.
	log.SetOutput(io.Discard)
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(fmt.Errorf("signal: %s", <-signals))
		<-signals
		fmt.Fprintln(os.Stderr, "hookbolt: second signal: stopping at once")
		os.Exit(exitFailure)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes beside 0.
const (
	exitFailure = 1
	exitUsage   = 2 // the command line makes no sense
	exitPending = 3 // a dry run has found something to do
)

// errTold ends a command as a failure of which the log or the output has told already.
var errTold = errors.New("see above")

// usageError is a command line that makes no sense.
type usageError struct{ error }

// command is what a subcommand does: flags in args, output for people on stdout, the log on stderr. It returns when its work is
// done or ctx has ended.
type command func(ctx context.Context, args []string, stdout, stderr io.Writer) error

var commands = map[string]command{"serve": serve, "demo": demo, "listen": listen, "bench": runBench, "check": checkFile,
	"compact": compactFile, "config": configCommand, "status": status, "healthcheck": healthcheck, "apply": apply, "dump": dump,
	"version": printVersion, "inspect": inspect, "bench-relay": benchRelay}

const usage = `hookbolt turns the sessions of polls, quizzes, tests, surveys and calculators into signed webhooks.

Usage: hookbolt [command] [flags]

  serve        run the server; the default       [-config FILE] [-allow NETWORK]... [-pprof ADDRESS]
  demo         see it work, with nothing to set  [-keep]
  listen       an endpoint that shows webhooks   [-addr ADDRESS] [-secret SECRET] [-status N] [-delay SPAN] [-fail N]
  apply        set the webhooks that a file has  -f FILE [-dry-run] [-prune] [-url URL] [-token-file FILE]
  dump         write such a file of a server     [-secrets] [-url URL] [-token-file FILE]
  status       how a running server does         [-url URL] [-token-file FILE]
  healthcheck  ask whether a server is ready     [-url URL] [-config FILE]
  config       check the settings: config check  [-config FILE] [-allow NETWORK]...
  check        look through a database file      FILE
  compact      copy one without what is free     FILE OUT
  bench        measure what this machine takes   [-rate N] [-webhooks N] [-dir DIR] [-url URL] [-json] and more
  version      say which build this is
  help         this text; "hookbolt help serve" tells more of serve
`

// run is hookbolt: it runs the command that args name until it is done or ctx ends, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdout, stderr)
	_, isUsage := errors.AsType[usageError](err)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errPending): // it was told on stdout
		return exitPending
	case isUsage:
		fmt.Fprintln(stderr, "hookbolt:", err)
		return exitUsage
	case !errors.Is(err, errTold):
		fmt.Fprintln(stderr, "hookbolt:", err)
	}
	return exitFailure
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	name := "serve"
	if len(args) > 0 {
		switch args[0] {
		case "help", "-h", "-help", "--help":
			if len(args) == 1 {
				_, err := io.WriteString(stdout, usage)
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
	c, ok := commands[name]
	if !ok {
		return usageError{fmt.Errorf("unknown command %q; \"hookbolt help\" lists them", name)}
	}
	return c(ctx, args, stdout, stderr)
}

// parseFlags reads a command's flags. Where they ask for help it prints about and the flags, and returns flag.ErrHelp.
func parseFlags(fs *flag.FlagSet, args []string, stdout io.Writer, about string) error {
	_, err := parseOperands(fs, args, stdout, about, "")
	return err
}

// parseOperands is parseFlags for a command that takes something beside flags, such as "FILE OUT", which it returns.
func parseOperands(fs *flag.FlagSet, args []string, stdout io.Writer, about, operands string) ([]string, error) {
	fs.SetOutput(io.Discard) // the error is told once, by run
	fs.Usage = func() {}
	err := fs.Parse(args)
	want := len(strings.Fields(operands))
	switch {
	case err != nil:
	case fs.NArg() > want:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(want))
	case fs.NArg() < want:
		err = fmt.Errorf("wants %s", operands)
	}
	switch {
	case err == nil:
		return fs.Args(), nil
	case errors.Is(err, flag.ErrHelp):
		flags := "[flags]"
		if operands != "" {
			flags = operands
		}
		fmt.Fprintf(stdout, "Usage: hookbolt %s %s\n\n%s\n\n", fs.Name(), flags, about)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return nil, flag.ErrHelp
	}
	if operands != "" {
		return nil, usageError{fmt.Errorf("%s: %w; usage: hookbolt %[1]s %[3]s", fs.Name(), err, operands)}
	}
	return nil, usageError{fmt.Errorf("%s: %w; \"hookbolt help %[1]s\" lists the flags", fs.Name(), err)}
}

// version is which build this is.
type version struct {
	// Version is the module's: a tag, a pseudo-version, or "dev" where the build knew of none.
	Version string
	// Revision is the commit, with "+dirty" if files were changed since; "unknown" outside of a repository.
	Revision string
}

func readVersion() version {
	v := version{"dev", "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if v.Revision != "unknown" {
		v.Revision += dirty
	}
	return v
}

func printVersion(_ context.Context, args []string, stdout, _ io.Writer) error {
	if err := parseFlags(flag.NewFlagSet("version", flag.ContinueOnError), args, stdout, "Says which build this is."); err != nil {
		return err
	}
	v := readVersion()
	_, err := fmt.Fprintf(stdout, "hookbolt %s, revision %s, %s %s/%s\n", v.Version, v.Revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
