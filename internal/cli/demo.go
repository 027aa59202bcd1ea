package cli

import (
	"context"
	"flag"

	"hookbolt/internal/demo"
)

// runDemo shows the whole at work.
func runDemo(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	keep := flags.Bool("keep", false, "stay up afterwards, to be tried in a browser or with curl, until Ctrl-C")
	if err := p.parseFlags(flags, args, "Plays sessions through a server of its own and shows the webhooks that come of them. Leaves nothing behind."); err != nil {
		return err
	}
	return demo.Run(ctx, demo.Options{Sessions: p.Sessions, Keep: *keep, Stdout: p.Stdout, Stderr: p.Stderr})
}
