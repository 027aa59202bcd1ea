package cli

import (
	"context"
	"flag"
	"fmt"
	"net/url"

	"hookbolt/internal/client"
	"hookbolt/internal/config"
	"hookbolt/internal/loopback"
)

// healthcheckURL returns the URL of the server to check: the one of the flag, or the one that the settings make.
func healthcheckURL(address string, settings *config.Loader) (*url.URL, error) {
	if address != "" {
		u, err := serverURL(address)
		if err != nil {
			return nil, usageError{fmt.Errorf("healthcheck: -url %w", err)}
		}
		return u, nil
	}
	cfg, _, err := settings.Load()
	if err != nil {
		return nil, err
	}
	return url.Parse(cfg.HTTP.LocalURL())
}

// healthcheck checks whether a server is ready, for scripts and for Docker, whose image has no other client.
func healthcheck(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("healthcheck", flag.ContinueOnError)
	settings := settingsFlags(flags)
	address := flags.String("url", "", "check the server at `URL`, such as https://hooks.example.com, instead of the one in the settings")
	if err := p.parseFlags(flags, args, "Checks whether the server on this machine is ready (GET /readyz). Its address comes from the same settings as that of serve.\n"+
		"It prints one line, within 8 seconds. The exit code is 0 if the server is ready, else 1."); err != nil {
		return err
	}
	u, err := healthcheckURL(*address, settings)
	if err != nil {
		return err
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
