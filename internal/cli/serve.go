package cli

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

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
	cfg, from, err := settings.Load()
	if err != nil {
		return err
	}
	log, level := server.NewLog(cfg.Log, p.Stderr)
	hadSettings := from.FromFile(settings.Path)
	reload := server.Reload{Level: level, Load: func() (config.Config, error) {
		cfg, from, err := settings.Load()
		// An empty file is most likely one that is just being written. Limits and retentions would fall back to their defaults, and what is
		// past its retention is deleted for good.
		if err == nil && hadSettings && !from.FromFile(settings.Path) {
			err = fmt.Errorf("%s: it has no settings any more; to go back to the defaults, restart", settings.Path)
		}
		if err == nil {
			warnOfExposures(log, &cfg, from)
		}
		return cfg, err
	}}
	if settings.Path != "" || cfg.ReadsFiles() { // else there is nothing to read again, and a closed terminal ends it, as it ends others
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		reload.Signal = hangups
	}
	server.TuneRuntime()
	warnOfExposures(log, &cfg, from)
	if *profiles != "" {
		if err := server.CheckProfilesAddress(*profiles); err != nil {
			return usageError{fmt.Errorf("serve: -pprof %w", err)}
		}
		url, stop, err := server.StartProfiles(*profiles, log)
		if err != nil {
			return fmt.Errorf("-pprof: %w", err)
		}
		defer stop()
		log.Info("profiles", "url", url)
	}
	return runServer(ctx, server.Options{Config: cfg, Log: log, Reload: reload})
}

// warnOfExposures logs each file with secrets that others than its owner may read.
func warnOfExposures(log *slog.Logger, cfg *config.Config, from config.Origins) {
	for _, e := range cfg.Exposures(from) {
		log.Warn("others than its owner may read or change a file with secrets", "file", e.Path, "mode", fmt.Sprintf("%04o", e.Mode.Perm()), "run", e.Fix)
	}
}

// runServer runs a server until ctx ends. It does not wait for a start that is still under way then: opening a large database may take
// minutes, and a start that is cut off loses nothing.
func runServer(ctx context.Context, o server.Options) error {
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		s, err := server.New(o)
		close(started)
		if err != nil {
			ended <- err
			return
		}
		if len(o.Config.HTTP.AdminTokens) == 0 {
			o.Log.Warn("no token is needed: every program and every user of this machine may read and change everything, secrets included",
				"setting", "http.admin_tokens")
		}
		if err = s.Run(ctx); err != nil {
			o.Log.Error("hookbolt has stopped", "error", err)
			err = errAlreadyReported
		}
		ended <- err
	}()
	select {
	case <-started:
	case <-ctx.Done():
		select {
		case <-started:
		case <-time.After(startGrace):
			o.Log.Info("stopped before the start was complete", "cause", context.Cause(ctx))
			return nil
		}
	}
	return <-ended
}

// startGrace is how long a start may go on after a signal, so that it ends in order if it is nearly complete.
const startGrace = time.Second
