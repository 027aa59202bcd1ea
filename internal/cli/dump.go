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
	secrets := flags.Bool("secrets", false, "write the signing secrets, too, so that on another server the endpoints' checks go on to pass")
	if err := p.parseFlags(flags, args, "Writes a file of the webhooks of a running server, for \"hookbolt apply\": of each what differs from the defaults. The values of\n"+
		"credentials are not known: they are to stay as they are. Whether a webhook is paused is left out, as apply leaves it."); err != nil {
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
		return fmt.Errorf("dump: apply will not take it before each webhook has a name of its own: name these on the server, or delete them: %s", strings.Join(nameless, ", "))
	}
	return nil
}
