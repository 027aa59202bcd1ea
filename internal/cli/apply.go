package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hookbolt/internal/client"
	"hookbolt/internal/config"
	"hookbolt/internal/webhookfile"
)

// apply changes the webhooks of a running server to those of a file.
func apply(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("apply", flag.ContinueOnError)
	connect := clientFlags(flags)
	path := flags.String("f", "", "read the webhooks from `FILE`; - is the standard input")
	dryRun := flags.Bool("dry-run", false, "print the changes without making them; the exit code is 3 if there are any")
	prune := flags.Bool("prune", false, "delete the webhooks that are not in the file, and cancel their waiting deliveries")
	if err := p.parseFlags(flags, args, "Creates and changes the webhooks of a running server until they match a file, and prints each change. Webhooks are matched by\n"+
		"name. A setting that the file omits gets its default, except secret and paused, which are not changed. A second run changes\n"+
		"nothing. \"hookbolt dump\" writes such a file."); err != nil {
		return err
	}
	if *path == "" {
		return usageError{errors.New("apply: -f must name the file, such as webhooks.toml; - is the standard input")}
	}
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	plan, err := p.plan(ctx, c, *path, webhookfile.PlanOptions{Prune: *prune})
	if problems, ok := errors.AsType[webhookfile.Problems](err); ok {
		return fmt.Errorf("apply: nothing was changed:\n  %s", strings.ReplaceAll(problems.Error(), "\n", "\n  "))
	}
	if err != nil {
		return fmt.Errorf("apply: nothing was changed: %w", err)
	}
	if *dryRun {
		plan.Print(p.Stdout)
		if plan.Pending() {
			return errPending
		}
		return nil
	}
	if err := plan.Apply(ctx, c, p.Stdout); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// plan reads a file of webhooks, "-" for the standard input, with what its references lead to, and compares it with a server.
func (p *Program) plan(ctx context.Context, c *client.Client, path string, o webhookfile.PlanOptions) (*webhookfile.Plan, error) {
	var file []byte
	var err error
	dir := filepath.Dir(path) // of the standard input it is "."
	if path == "-" {
		path = "standard input"
		file, err = io.ReadAll(p.Stdin)
	} else {
		file, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	hooks, err := webhookfile.Read(path, string(file), webhookfile.Sources{
		Variable: config.LookupVariable, File: config.ReadSecret, Program: func(name string) (string, error) {
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			return config.ReadProgram(name)
		}})
	if err != nil {
		return nil, err
	}
	if o.Prune && len(hooks) == 0 {
		return nil, errors.New("the file has no webhooks, and -prune would delete all webhooks of the server")
	}
	return webhookfile.NewPlan(ctx, c, hooks, o)
}
