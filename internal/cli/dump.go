package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"hookbolt/internal/webhookfile"
)

// dump writes the webhooks of a running server to a file.
func dump(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("dump", flag.ContinueOnError)
	connect := clientFlags(flags)
	secrets := flags.Bool("secrets", false, "write the signing secrets, too, so that signatures of another server verify with them")
	if err := p.parseFlags(flags, args, "Prints the webhooks of a running server as a file for \"hookbolt apply\". Settings with their defaults are omitted, and so is\n"+
		"paused. The values of credentials cannot be read; the file tells apply to keep them."); err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	file, nameless, err := webhookfile.Dump(ctx, c, webhookfile.DumpOptions{Secrets: *secrets})
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	if _, err := io.WriteString(p.Stdout, file); err != nil {
		return err
	}
	if len(nameless) > 0 {
		return fmt.Errorf("dump: apply needs a unique name for each webhook: name these on the server, or delete them: %s", strings.Join(nameless, ", "))
	}
	return nil
}
