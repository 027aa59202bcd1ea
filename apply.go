package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// errPending ends a dry run that has found something to do.
var errPending = errors.New("there is something to do")

// apply makes the webhooks of a running server those of a file.
func apply(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("apply", flag.ContinueOnError)
	connect := clientFlags(fs)
	path := fs.String("f", "", "read the webhooks from `FILE`; - is the standard input")
	dryRun := fs.Bool("dry-run", false, "say what would be done and do nothing; exits with 3 if there is something to do")
	prune := fs.Bool("prune", false, "delete the webhooks that are not in the file; what waits for them is cancelled")
	if err := parseFlags(fs, args, stdout, "Makes the webhooks of a running server those of a file, by their names, and says what it changes. What the file leaves\n"+
		"out has its default, but for secret and paused, which stay as they are. A second time it changes nothing.\n"+
		"\"hookbolt dump\" writes such a file."); err != nil {
		return err
	}
	if *path == "" {
		return usageError{errors.New("apply: -f must name the file, such as webhooks.toml; - is the standard input")}
	}
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.close()
	hooks, err := readWebhookFile(*path)
	if err == nil && *prune && len(hooks) == 0 {
		err = errors.New("there is no webhook in the file, and with -prune that would delete all of the server's")
	}
	var plan *webhookPlan
	if err == nil {
		plan, err = makePlan(ctx, c, hooks, *prune)
	}
	if problems, ok := errors.AsType[fileProblems](err); ok {
		return fmt.Errorf("apply: nothing was changed:\n  %s", strings.Join(problems, "\n  "))
	}
	if err != nil {
		return fmt.Errorf("apply: nothing was changed: %w", err)
	}
	if *dryRun {
		return plan.print(stdout)
	}
	if err := plan.carryOut(ctx, c, stdout); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// readWebhookFile reads a file of webhooks, "-" for the standard input, with what its references lead to.
func readWebhookFile(path string) ([]*wantedWebhook, error) {
	var text []byte
	var err error
	if path == "-" {
		path = "standard input"
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	hooks, err := parseWebhooks(string(text), sources{os.LookupEnv, readSecretFile})
	if problems, ok := errors.AsType[fileProblems](err); ok {
		for i := range problems {
			problems[i] = path + ": " + problems[i]
		}
		return nil, problems
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return hooks, nil
}
