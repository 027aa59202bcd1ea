package cli

import (
	"context"
	"flag"
	"fmt"
	"net"

	"hookbolt/internal/receiver"
)

// listen runs an endpoint that shows the requests it receives, until ctx ends.
func listen(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("listen", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:9000", "listen on `ADDRESS`")
	var o receiver.Options
	flags.StringVar(&o.Secret, "secret", "", "check signatures with the webhook's `SECRET` (whsec_…)")
	flags.StringVar(&o.PublicKey, "public-key", "", "check signatures v1a with the webhook's public `KEY` (whpk_…)")
	flags.StringVar(&o.HMAC.Header, "hmac-header", "", "check the `HEADER` that has the HMAC of the body")
	flags.StringVar(&o.HMAC.Prefix, "hmac-prefix", "", "the `TEXT` before the HMAC, such as sha256=")
	flags.StringVar(&o.HMAC.Encoding, "hmac-encoding", "", "the `ENCODING` of the HMAC, hex or base64; hex unless set")
	flags.StringVar(&o.HMAC.Secret, "hmac-secret", "", "the `TEXT` that is the key of the HMAC")
	flags.IntVar(&o.Status, "status", 0, "answer with status `N` instead of 200; with -fail, only to the attempts that fail")
	flags.DurationVar(&o.Delay, "delay", 0, "wait for `DURATION`, such as 20s, before each response")
	flags.IntVar(&o.Fail, "fail", 0, "fail the first `N` attempts of each delivery, then answer 200")
	if err := p.parseFlags(flags, args, "Runs an endpoint that prints the webhooks that it receives and checks their signatures."); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return usageError{fmt.Errorf("listen: %w", err)}
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	rec := receiver.New(receiver.NewSharedWriter(p.Stdout), o)
	fmt.Fprintf(p.Stdout, "Listening on http://%s/ and answering %s. Press Ctrl-C to stop.\n\n", listener.Addr(), rec.Manner())
	return rec.Serve(ctx, listener)
}
