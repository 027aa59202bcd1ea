package cli

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"hookbolt/internal/config"
	"hookbolt/internal/server"
)

// serve runs the server until ctx ends.
func serve(ctx context.Context, p *Program, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	settings := settingsFlags(flags)
	profiles := flags.String("pprof", "", "serve the profiles of net/http/pprof on `ADDRESS`, a loopback address such as 127.0.0.1:6060")
	if err := p.parseFlags(flags, args, "Runs the server until SIGTERM or SIGINT. The settings come from the file and from the environment:\n"+
		"HOOKBOLT_HTTP_LISTEN sets http.listen. On SIGHUP the server reads the file again."); err != nil {
		return err
	}
	cfg, _, err := settings.Load()
	if err != nil {
		return err
	}
	reload := server.Reload{Load: func() (config.Config, error) {
		cfg, _, err := settings.Load()
		return cfg, err
	}}
	if settings.Path != "" || cfg.ReadsFiles() { // else there is nothing to read again, and a closed terminal ends it, as it ends others
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		reload.Signal = hangups
	}
	server.TuneRuntime()
	log, level := server.NewLog(cfg.Log, p.Stderr)
	reload.Level = level
	if *profiles != "" {
		if err := server.CheckProfilesAddress(*profiles); err != nil {
			return usageError{fmt.Errorf("serve: -pprof %w", err)}
		}
		url, stop, err := server.StartProfiles(*profiles)
		if err != nil {
			return fmt.Errorf("-pprof: %w", err)
		}
		defer stop()
		log.Info("profiles", "url", url)
	}
	s, err := server.New(server.Options{Config: cfg, Log: log, Reload: reload})
	if err != nil {
		return err
	}
	if err := s.Run(ctx); err != nil {
		log.Error("hookbolt has stopped", "error", err)
		return errAlreadyReported
	}
	return nil
}
