package server

import (
	"maps"
	"time"

	"hookbolt/engine"
	"hookbolt/httpapi"
	"hookbolt/internal/buildinfo"
	"hookbolt/internal/config"
	"hookbolt/storage"
)

// engineConfig is the part of the settings that the engine needs.
func engineConfig(c *config.Config, version string) engine.Config {
	_, operationsURL := c.Delivery.Operations()
	return engine.Config{
		Timeout:            time.Duration(c.Delivery.Timeout),
		MaxInFlight:        c.Delivery.MaxInFlight,
		WebhookMaxInFlight: c.Delivery.WebhookMaxInFlight,
		Retry: engine.RetryPolicy{
			Schedule:      c.Delivery.RetrySchedule,
			Jitter:        c.Delivery.RetryJitter,
			RetryAfterMax: time.Duration(c.Delivery.RetryAfterMax),
		},
		Retention: engine.Retention{
			Sessions:   time.Duration(c.Storage.SessionRetention),
			Deliveries: time.Duration(c.Storage.DeliveryRetention),
		},
		Settle:                time.Duration(c.Delivery.Settle),
		PauseAfter:            time.Duration(c.Delivery.PauseAfter),
		FailingAfter:          time.Duration(c.Delivery.FailingAfter),
		AllowNetworks:         c.Delivery.Networks(),
		CAFile:                c.Delivery.CAFile,
		TLSDir:                c.Delivery.TLSDir,
		ProxyFromEnvironment:  c.Delivery.ProxyFromEnv,
		ShutdownTimeout:       time.Duration(c.HTTP.ShutdownTimeout),
		OperationsURL:         operationsURL,
		OperationsSecret:      engine.Secret(c.Delivery.OperationsSecret),
		OperationsTransform:   c.Delivery.OperationsTransform,
		OperationsContentType: c.Delivery.OperationsContentType,
		OperationsMail: engine.OperationsMail{
			From:     c.Delivery.OperationsMailFrom,
			To:       c.Delivery.OperationsMailTo,
			Username: c.Delivery.OperationsSMTPUsername,
			Password: engine.Credential(c.Delivery.OperationsSMTPPassword),
		},
		Version: version,
	}
}

// storageSettings is the part of the settings that the store needs.
func storageSettings(c *config.Config) storage.Settings {
	if c.Storage.Driver == config.DriverPostgres {
		return storage.Settings{Postgres: &storage.Postgres{URL: c.Storage.PostgresURL, Schema: c.Storage.PostgresSchema, Insecure: c.Storage.PostgresInsecure, Release: buildinfo.Read().Version}}
	}
	return storage.Settings{Path: c.Storage.Path, MinFree: int64(c.Storage.MinFree), MaxBytes: int64(c.Storage.MaxBytes)}
}

// apiConfig is the part of the settings that the API needs.
func apiConfig(c *config.Config) httpapi.Config {
	cfg := httpapi.Config{
		CORSOrigins:    c.HTTP.CORSOrigins,
		TrustedProxies: c.HTTP.Proxies(),
		MaxBodyBytes:   int64(c.HTTP.MaxBody),
		TokenNames:     make(map[string]string),
	}
	tokens := func(entries []string) []string {
		tokens, names := config.Tokens(entries...)
		maps.Copy(cfg.TokenNames, names)
		return tokens
	}
	cfg.AdminTokens, cfg.ReadTokens = tokens(c.HTTP.AdminTokens), tokens(c.HTTP.ReadTokens)
	cfg.IngestTokens, cfg.MetricsTokens = tokens(c.HTTP.IngestTokens), tokens(c.HTTP.MetricsTokens)
	return cfg
}
