package cli

import (
	"context"
	"flag"
	"fmt"
	"net/url"

	"hookbolt/internal/client"
	"hookbolt/internal/loopback"
)

// healthcheck checks whether a server is ready, for scripts and for Docker, whose image has no other client.
func healthcheck(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("healthcheck", flag.ContinueOnError)
	settings := settingsFlags(flags)
	address := flags.String("url", "", "ask the server at `URL`, such as https://hooks.example.com, and not the one that the settings tell of")
	if err := p.parseFlags(flags, args, "Asks the server on this machine, which is found by the same settings, whether it is ready: /readyz.\n"+
		"Prints a line, and exits with 0 if it is and 1 if it is not, within 8 seconds."); err != nil {
		return err
	}
	base := *address
	if base == "" {
		cfg, _, err := settings.Load()
		if err != nil {
			return err
		}
		base = cfg.HTTP.LocalURL()
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usageError{fmt.Errorf("healthcheck: -url must begin with http:// or https:// and name a host (got %q)", base)}
	}
	accept := client.TrustedCertificates
	if *address == "" || loopback.IsHost(u.Host) {
		// The certificate of a server on this machine is made out to the name that others call it by.
		accept = client.AnyCertificate
	}
	if err := client.Ready(ctx, u, accept); err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	_, err = fmt.Fprintln(p.Stdout, "ready")
	return err
}
