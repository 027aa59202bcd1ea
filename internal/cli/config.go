package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"hookbolt/internal/server"
)

// checkConfig is "hookbolt config check". It prints the settings that serve would use, with secrets masked, or why serve would not
// start.
func checkConfig(_ context.Context, p *Program, args []string) error {
	check := len(args) > 0 && args[0] == "check"
	if check {
		args = args[1:]
	}
	flags := flag.NewFlagSet("config", flag.ContinueOnError)
	settings := settingsFlags(flags)
	err := p.parseFlags(flags, args, "\"hookbolt config check\" prints the settings that serve would use, and where each comes from. Secrets are masked.\n"+
		"If serve would refuse the settings, it prints why, and the exit code is 1. The flags are those of serve.")
	switch {
	case err != nil:
		return err
	case !check:
		return usageError{errors.New("config: the only subcommand is check: \"hookbolt config check\"")}
	}
	cfg, from, err := settings.Load()
	if err != nil {
		return err
	}
	if err := server.Check(&cfg); err != nil {
		return from.Locate(err)
	}
	for _, e := range cfg.Exposures(from) {
		fmt.Fprintln(p.Stderr, "hookbolt: warning:", e.String())
	}
	return cfg.Write(p.Stdout, from)
}
