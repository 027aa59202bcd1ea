package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"hookbolt/internal/config"
)

// Reload is where a running server takes its settings from anew.
type Reload struct {
	Load  func() (config.Config, error)
	Level *slog.LevelVar   // of the log
	Asked <-chan os.Signal // each value has the settings read again
}

// fixedSettings are those that a running server cannot change: what is open already, or made for good.
var fixedSettings = []string{"http.listen", "storage.path", "delivery.proxy_from_environment", "log.format"}

// reload reads the settings again and goes by them from now on, as far as a running server can. Where one of them is refused all stay as
// they were.
func (s *Server) reload() {
	cfg, err := s.settings.Load()
	if err != nil {
		s.keepSettings(err)
		return
	}
	fixed := fixedSettings
	if (cfg.HTTP.TLSCertFile != "") != (s.certificate != nil) {
		fixed = append(slices.Clone(fixed), "http.tls_cert_file", "http.tls_key_file")
	}
	changed, waiting := cfg.Replace(&s.cfg, fixed...) // what waits for a restart is told again by each reload until then
	if err := s.checkReload(&cfg, changed, waiting); err != nil {
		s.keepSettings(err)
		return
	}
	s.cfg = cfg
	s.store.SetLimits(int64(cfg.Storage.MinFree), int64(cfg.Storage.MaxBytes))
	s.engine.Configure(engineConfig(&cfg, ""))
	s.api.Configure(apiConfig(&cfg))
	if err := s.engine.EnsureOperations(context.Background()); err != nil {
		s.log.Error("the webhook for operational events could not be changed", "setting", "delivery.operations_url", "error", err)
	}
	s.settings.Level.Set(logLevel(cfg.Log))
	if len(waiting) > 0 {
		s.log.Warn("settings reloaded; some take a restart", "changed", changed, "take_a_restart", waiting)
		return
	}
	s.log.Info("settings reloaded", "changed", changed)
}

// checkReload returns why a running server cannot go by new settings. Where it can, the certificate has been read again.
func (s *Server) checkReload(cfg *config.Config, changed, waiting []string) error {
	// What stays has to go with what is new: a port that others can reach stays open to them when the file has another one, and no token.
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w; of what has changed, this takes a restart: %s", err, strings.Join(waiting, ", "))
	}
	if slices.Contains(changed, "delivery.operations_url") {
		if err := checkOperationsAddress(cfg); err != nil {
			return err
		}
	}
	if s.certificate != nil && !slices.Contains(waiting, "http.tls_cert_file") {
		return s.certificate.use(cfg.HTTP.TLSCertFile, cfg.HTTP.TLSKeyFile) // its files may be new where its settings are not
	}
	return nil
}

// keepSettings tells that a reload was refused.
func (s *Server) keepSettings(err error) {
	s.log.Error("the settings were not reloaded; those before hold", "error", err)
}
