package cli

import (
	"context"
	"flag"
	"io"

	"hookbolt/internal/status"
)

// printStatus prints the status of a running server. The exit code is 1 if something needs attention.
func printStatus(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("status", flag.ContinueOnError)
	connect := clientFlags(flags)
	if err := p.parseFlags(flags, args, "Prints the state of a running server from its metrics. Counts and percentiles are those since its start. A metrics token is\n"+
		"enough; with an admin token, it names the webhooks that are failing or paused. The exit code is 1 if something needs attention."); err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	report, err := status.Look(ctx, c)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(p.Stdout, report.Text()); err != nil {
		return err
	}
	if report.NeedsAttention() {
		return errAlreadyReported
	}
	return nil
}
