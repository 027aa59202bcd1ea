package cli

import (
	"context"
	"flag"

	"hookbolt/internal/demo"
)

// runDemo shows the whole at work.
func runDemo(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	keep := flags.Bool("keep", false, "keep the server running afterwards, for a browser or curl, until Ctrl-C")
	if err := p.parseFlags(flags, args, "Starts a server of its own, posts sample sessions, and shows the webhooks that it sends. It leaves no files behind."); err != nil {
		return err
	}
	return demo.Run(ctx, demo.Options{Sessions: p.Sessions, Keep: *keep, Stdout: p.Stdout, Stderr: p.Stderr})
}
