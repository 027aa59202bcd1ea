package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// reloader is what a running server takes its settings from anew.
type reloader struct {
	load  func() (Config, origins, error)
	level *slog.LevelVar // of the log
	asked <-chan os.Signal
}

// fixedSettings are those that a running server cannot change: what is open already, or made for good.
var fixedSettings = []string{"http.listen", "storage.path", "delivery.proxy_from_environment", "log.format"}

// rereadable tells whether there is anything that another start, or a reload, would find changed.
func (l *loader) rereadable(c *Config) bool {
	files := l.path != ""
	for name, value := range c.settings() {
		files = files || strings.HasSuffix(name, "_file") && value.String() != ""
	}
	return files
}

// reload reads the settings again and goes by them from now on, as far as a running server can. Where one of them is refused all stay as
// they were.
func (a *app) reload() {
	cfg, _, err := a.reloader.load()
	if err != nil {
		a.keepSettings(err)
		return
	}
	fixed := fixedSettings
	if (cfg.HTTP.TLSCertFile != "") != (a.certificate != nil) {
		fixed = append(slices.Clone(fixed), "http.tls_cert_file", "http.tls_key_file")
	}
	before := maps.Collect(a.cfg.settings())
	var changed, wait []string
	for name, value := range cfg.settings() {
		switch {
		case reflect.DeepEqual(value.Interface(), before[name].Interface()):
		case slices.Contains(fixed, name):
			wait = append(wait, name)
			value.Set(before[name]) // so that it is told again while it waits
		default:
			changed = append(changed, name)
		}
	}
	// What stays has to go with what is new: a port that others can reach stays open to them when the file has another one, and no token.
	if err := cfg.Validate(); err != nil {
		a.keepSettings(fmt.Errorf("%w; of what has changed, this takes a restart: %s", err, strings.Join(wait, ", ")))
		return
	}
	if slices.Contains(changed, "delivery.operations_url") {
		if err := cfg.checkOperationsAddress(); err != nil {
			a.keepSettings(err)
			return
		}
	}
	if a.certificate != nil && !slices.Contains(wait, "http.tls_cert_file") {
		if err := a.certificate.use(cfg.HTTP.TLSCertFile, cfg.HTTP.TLSKeyFile); err != nil { // its files may be new where its settings are not
			a.keepSettings(err)
			return
		}
	}
	a.cfg = cfg
	a.store.SetLimits(int64(cfg.Storage.MinFree), int64(cfg.Storage.MaxBytes))
	a.engine.Configure(cfg.engine(""))
	a.api.Configure(cfg.api(nil))
	if err := a.engine.EnsureOperations(context.Background()); err != nil {
		a.log.Error("the webhook for operational events could not be changed", "setting", "delivery.operations_url", "error", err)
	}
	a.reloader.level.Set(cfg.Log.level())
	if len(wait) > 0 {
		a.log.Warn("settings reloaded; some take a restart", "changed", changed, "take_a_restart", wait)
		return
	}
	a.log.Info("settings reloaded", "changed", changed)
}

// keepSettings tells that a reload was refused.
func (a *app) keepSettings(err error) {
	a.log.Error("the settings were not reloaded; those before hold", "error", err)
}
