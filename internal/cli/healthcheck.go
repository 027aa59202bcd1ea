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
	address := flags.String("url", "", "check the server at `URL`, such as https://hooks.example.com, instead of the one in the settings")
	if err := p.parseFlags(flags, args, "Checks whether the server on this machine is ready (GET /readyz). Its address comes from the same settings as that of serve.\n"+
		"It prints one line, within 8 seconds. The exit code is 0 if the server is ready, else 1."); err != nil {
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
