package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"hookbolt/engine"
	"hookbolt/internal/config"
	"hookbolt/storage"
)

// Reload is how a running server reloads its settings.
type Reload struct {
	Load   func() (config.Config, error)
	Level  *slog.LevelVar   // of the log
	Signal <-chan os.Signal // each value requests a reload
}

// fixedSettings are the settings that a running server cannot change: they were used when it started.
var fixedSettings = []string{"http.listen", "storage.driver", "storage.path", "storage.postgres_url", "storage.postgres_url_file", "storage.postgres_schema",
	"storage.postgres_insecure", "delivery.proxy_from_environment", "log.format"}

// reload reads the settings again and applies those that a running server can change. If one of them is refused, none is applied.
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
	changed, waiting := cfg.Replace(&s.cfg, fixed...) // each reload reports all settings that wait for a restart
	if err := s.checkReload(&cfg, changed, waiting); err != nil {
		s.keepSettings(err)
		return
	}
	s.cfg = cfg
	if file, ok := s.store.(storage.File); ok {
		file.SetLimits(int64(cfg.Storage.MinFree), int64(cfg.Storage.MaxBytes))
	}
	s.engine.Configure(engineConfig(&cfg, ""))
	s.api.Configure(apiConfig(&cfg))
	if err := s.engine.EnsureOperations(context.Background()); err != nil {
		setting, _ := cfg.Delivery.Operations()
		s.log.Error("the webhook for operational events could not be changed", "setting", setting, "error", err)
	}
	s.settings.Level.Set(logLevel(cfg.Log))
	s.log.Info("audit", "by", "SIGHUP", "operation", "reload", "settings", changed)
	if len(waiting) > 0 {
		s.log.Warn("settings reloaded; some need a restart", "changed", changed, "need_restart", waiting)
		return
	}
	s.log.Info("settings reloaded", "changed", changed)
}

// checkReload returns why new settings cannot be applied. If they can, it has reloaded the certificate.
func (s *Server) checkReload(cfg *config.Config, changed, waiting []string) error {
	// The fixed settings must be valid together with the new ones: a port that other machines can reach stays open when the file has
	// another listen address, and no token.
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w; these changed settings need a restart: %s", err, strings.Join(waiting, ", "))
	}
	// A file of tokens that is just being written may be empty for a moment, and without a token everybody on this machine may call the API.
	if len(s.cfg.HTTP.AdminTokens) > 0 && len(cfg.HTTP.AdminTokens) == 0 {
		return errors.New("http.admin_tokens: the last admin token is gone; a server gives it up only with a restart")
	}
	if setting, _ := cfg.Delivery.Operations(); slices.Contains(changed, setting) {
		if err := checkOperationsAddress(cfg); err != nil {
			return err
		}
	}
	if err := engine.CheckTLSFiles(cfg.Delivery.CAFile, cfg.Delivery.TLSDir); err != nil {
		return err
	}
	if s.certificate != nil && !slices.Contains(waiting, "http.tls_cert_file") {
		return s.certificate.use(cfg.HTTP.TLSCertFile, cfg.HTTP.TLSKeyFile) // the files may have changed even if the settings have not
	}
	return nil
}

// keepSettings logs that a reload was refused.
func (s *Server) keepSettings(err error) {
	s.log.Error("the settings were not reloaded; the previous ones stay in effect", "error", err)
}
