package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hookbolt/engine"
	"hookbolt/httpapi"
)

// Config is all settings, in the sections of the configuration file. config.example.toml tells what each is for. Those that are tagged as
// secret are shown to nobody.
type Config struct {
	HTTP     HTTPConfig     `toml:"http"`
	Storage  StorageConfig  `toml:"storage"`
	Delivery DeliveryConfig `toml:"delivery"`
	Log      LogConfig      `toml:"log"`
}

// HTTPConfig is how callers reach hookbolt.
type HTTPConfig struct {
	Listen            string          `toml:"listen"`
	TLSCertFile       string          `toml:"tls_cert_file"`
	TLSKeyFile        string          `toml:"tls_key_file"`
	AdminTokens       []string        `toml:"admin_tokens" secret:"true"`
	AdminTokensFile   string          `toml:"admin_tokens_file"`
	IngestTokens      []string        `toml:"ingest_tokens" secret:"true"`
	IngestTokensFile  string          `toml:"ingest_tokens_file"`
	MetricsTokens     []string        `toml:"metrics_tokens" secret:"true"`
	MetricsTokensFile string          `toml:"metrics_tokens_file"`
	CORSOrigins       []string        `toml:"cors_origins"`
	MaxBody           Size            `toml:"max_body"`
	ShutdownTimeout   engine.Duration `toml:"shutdown_timeout"`
}

// StorageConfig is what is kept, where, and for how long.
type StorageConfig struct {
	Path              string          `toml:"path"`
	SessionRetention  engine.Duration `toml:"session_retention"`
	DeliveryRetention engine.Duration `toml:"delivery_retention"`
	MaxBytes          Size            `toml:"max_bytes"`
	MinFree           Size            `toml:"min_free"`
}

// DeliveryConfig is how endpoints are called, as far as a webhook does not say otherwise.
type DeliveryConfig struct {
	Timeout            engine.Duration   `toml:"timeout"`
	MaxInFlight        int               `toml:"max_in_flight"`
	WebhookMaxInFlight int               `toml:"webhook_max_in_flight"`
	RetrySchedule      []engine.Duration `toml:"retry_schedule"`
	RetryJitter        float64           `toml:"retry_jitter"`
	RetryAfterMax      engine.Duration   `toml:"retry_after_max"`
	PauseAfter         engine.Duration   `toml:"pause_after"`
	AllowNetworks      []Network         `toml:"allow_networks"`
	ProxyFromEnv       bool              `toml:"proxy_from_environment"`
	OperationsURL      string            `toml:"operations_url"`
	// OperationsSecret is as the file has it: "whsec_" and base64.
	OperationsSecret     string `toml:"operations_secret" secret:"true"`
	OperationsSecretFile string `toml:"operations_secret_file"`
}

// LogConfig is what is logged, and how.
type LogConfig struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// DefaultConfig is what holds where nothing is set.
func DefaultConfig() Config {
	e := engine.DefaultConfig()
	return Config{
		HTTP: HTTPConfig{
			Listen:          "127.0.0.1:8080",
			MaxBody:         1 << 20,
			ShutdownTimeout: engine.Duration(e.ShutdownTimeout),
		},
		Storage: StorageConfig{
			Path:              "hookbolt.db",
			SessionRetention:  engine.Duration(e.Retention.Sessions),
			DeliveryRetention: engine.Duration(e.Retention.Deliveries),
			MinFree:           256 << 20,
		},
		Delivery: DeliveryConfig{
			Timeout:            engine.Duration(e.Timeout),
			MaxInFlight:        e.MaxInFlight,
			WebhookMaxInFlight: e.WebhookMaxInFlight,
			// A copy: the decoder writes a file's list into the array that it finds.
			RetrySchedule: slices.Clone(e.Retry.Schedule),
			RetryJitter:   e.Retry.Jitter,
			RetryAfterMax: engine.Duration(e.Retry.RetryAfterMax),
			PauseAfter:    engine.Duration(e.PauseAfter),
		},
		Log: LogConfig{Level: "info", Format: "text"},
	}
}

// Bounds of settings, wide enough for every use that was thought of and narrow enough to catch a wrong unit.
const (
	minMaxBody         = Size(1 << 10)
	maxMaxBody         = Size(64 << 20) // a request is held in memory as a whole
	maxShutdownTimeout = engine.Duration(time.Hour)
	minRetention       = engine.Duration(time.Minute)
	maxRetention       = engine.Duration(10 * 365 * 24 * time.Hour)
	minMaxBytes        = Size(16 << 20)
	maxBytes           = Size(1 << 50)
	maxRetryAfterMax   = engine.Duration(30 * 24 * time.Hour)
	minPauseAfter      = engine.Duration(time.Minute)
	maxPauseAfter      = engine.Duration(10 * 365 * 24 * time.Hour) // as good as never
	maxMaxInFlight     = 100_000
	minTokenBytes      = 16
)

// Validate says what is wrong with the settings: the first thing, in the order of the file.
func (c *Config) Validate() error {
	return cmp.Or(
		checkListen(c.HTTP.Listen),
		c.HTTP.checkTLS(),
		c.HTTP.checkTokens(),
		c.HTTP.checkCORSOrigins(),
		between("http.max_body", c.HTTP.MaxBody, minMaxBody, maxMaxBody),
		between("http.shutdown_timeout", c.HTTP.ShutdownTimeout, 0, maxShutdownTimeout),
		c.Storage.checkPath(),
		between("storage.session_retention", c.Storage.SessionRetention, minRetention, maxRetention),
		between("storage.delivery_retention", c.Storage.DeliveryRetention, minRetention, maxRetention),
		c.Storage.checkMaxBytes(),
		between("storage.min_free", c.Storage.MinFree, 0, maxBytes),
		between("delivery.timeout", c.Delivery.Timeout, engine.Duration(engine.MinTimeout), engine.Duration(engine.MaxTimeout)),
		between("delivery.max_in_flight", c.Delivery.MaxInFlight, 0, maxMaxInFlight),
		between("delivery.webhook_max_in_flight", c.Delivery.WebhookMaxInFlight, 1, engine.MaxMaxInFlight),
		c.Delivery.checkRetrySchedule(),
		between("delivery.retry_jitter", c.Delivery.RetryJitter, 0, 1),
		between("delivery.retry_after_max", c.Delivery.RetryAfterMax, 0, maxRetryAfterMax),
		between("delivery.pause_after", c.Delivery.PauseAfter, minPauseAfter, maxPauseAfter),
		c.Delivery.checkOperations(),
		oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"),
		oneOf("log.format", c.Log.Format, "text", "json"),
	)
}

func between[T cmp.Ordered](key string, got, least, most T) error {
	if got >= least && got <= most { // false for NaN
		return nil
	}
	return fmt.Errorf("%s: must be %v to %v (got %v)", key, least, most, got)
}

func oneOf(key, got string, names ...string) error {
	if slices.Contains(names, got) {
		return nil
	}
	return fmt.Errorf("%s: must be %s (got %q)", key, strings.Join(names, ", "), got)
}

func checkListen(listen string) error {
	_, port, err := net.SplitHostPort(listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsFunc(listen, unicode.IsControl) {
		return fmt.Errorf("http.listen: must be a host and a port, such as 127.0.0.1:8080 (got %q)", listen)
	}
	return nil
}

// checkTLS looks at what serves HTTPS. Whether the files are a certificate and its key shows when they are read.
func (c *HTTPConfig) checkTLS() error {
	switch {
	case c.TLSCertFile == "" && c.TLSKeyFile != "":
		return errors.New("http.tls_cert_file: must name a file, since http.tls_key_file does: HTTPS takes both")
	case c.TLSCertFile != "" && c.TLSKeyFile == "":
		return errors.New("http.tls_key_file: must name a file, since http.tls_cert_file does: HTTPS takes both")
	}
	return nil
}

// checkTokens looks at the tokens, and at the need for one. It never shows any.
func (c *HTTPConfig) checkTokens() error {
	seen := make(map[string]string)
	lists := []struct {
		key, file string
		tokens    []string
	}{
		{"http.admin_tokens", c.AdminTokensFile, c.AdminTokens}, {"http.ingest_tokens", c.IngestTokensFile, c.IngestTokens},
		{"http.metrics_tokens", c.MetricsTokensFile, c.MetricsTokens},
	}
	for _, list := range lists {
		if list.file != "" {
			list.key += "_file"
		}
		for i, token := range list.tokens {
			if len(token) < minTokenBytes {
				return fmt.Errorf("%s: each token must have at least %d characters (number %d has %d)", list.key, minTokenBytes, i+1, len(token))
			}
			// What else is sent in an Authorization header may be changed on its way.
			if at := strings.IndexFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }); at >= 0 {
				return fmt.Errorf("%s: tokens must be letters, digits and punctuation of ASCII, without white space (number %d has something else at character %d)",
					list.key, i+1, utf8.RuneCountInString(token[:at])+1)
			}
			if first, ok := seen[token]; ok {
				return fmt.Errorf("%s: every token must be another one (number %d is in %s already)", list.key, i+1, first)
			}
			seen[token] = list.key
		}
	}
	switch {
	case len(c.AdminTokens) > 0:
	// Somebody who sets one of these two expects callers without it to be refused.
	case len(c.IngestTokens) > 0:
		return errors.New("http.ingest_tokens: no token is asked for without an admin token: set http.admin_tokens, too")
	case len(c.MetricsTokens) > 0:
		return errors.New("http.metrics_tokens: no token is asked for without an admin token: set http.admin_tokens, too")
	case !httpapi.IsLoopbackAddress(c.Listen):
		return fmt.Errorf("http.listen: %s can be reached from other machines, which takes a token: set http.admin_tokens, "+
			`for example to the output of "openssl rand -hex 16" (or listen on 127.0.0.1)`, c.Listen)
	}
	return nil
}

func (c *HTTPConfig) checkCORSOrigins() error {
	if len(c.CORSOrigins) > 0 && len(c.IngestTokens) == 0 {
		return errors.New("http.cors_origins: pages send events with an ingest token: set http.ingest_tokens, and http.admin_tokens, without which no token is asked for")
	}
	if err := httpapi.CheckOrigins(c.CORSOrigins); err != nil {
		return fmt.Errorf("http.cors_origins: %w", err)
	}
	return nil
}

func (c *StorageConfig) checkPath() error {
	if c.Path == "" {
		return errors.New(`storage.path: must name a file (got "")`)
	}
	return nil
}

func (c *StorageConfig) checkMaxBytes() error {
	if c.MaxBytes == 0 { // no limit
		return nil
	}
	return between("storage.max_bytes", c.MaxBytes, minMaxBytes, maxBytes)
}

func (c *DeliveryConfig) checkRetrySchedule() error {
	if err := engine.CheckRetrySchedule(c.RetrySchedule); err != nil {
		return fmt.Errorf("delivery.retry_schedule: %w", err)
	}
	return nil
}

func (c *DeliveryConfig) checkOperations() error {
	field, err := engine.CheckOperations(c.OperationsURL, engine.Secret(c.OperationsSecret))
	if err == nil {
		return nil
	}
	if field == "secret" && c.OperationsSecretFile != "" {
		field = "secret_file"
	}
	return fmt.Errorf("delivery.operations_%s: %w", field, err)
}

// checkOperationsAddress finds what Validate leaves out, since it is no matter where the webhook is there already, or nothing is
// delivered: whether a new operations_url is an address that is refused.
func (c *Config) checkOperationsAddress() error {
	if err := engine.CheckOperationsAddress(c.Delivery.OperationsURL, c.engine("").AllowNetworks); err != nil {
		return fmt.Errorf("delivery.operations_url: %w", err)
	}
	return nil
}

// engine is the part of the settings that the engine works by.
func (c *Config) engine(version string) engine.Config {
	e := engine.Config{
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
		PauseAfter:           time.Duration(c.Delivery.PauseAfter),
		ProxyFromEnvironment: c.Delivery.ProxyFromEnv,
		ShutdownTimeout:      time.Duration(c.HTTP.ShutdownTimeout),
		OperationsURL:        c.Delivery.OperationsURL,
		OperationsSecret:     engine.Secret(c.Delivery.OperationsSecret),
		Version:              version,
	}
	for _, n := range c.Delivery.AllowNetworks {
		e.AllowNetworks = append(e.AllowNetworks, netip.Prefix(n))
	}
	return e
}

// api is the part of the settings that the API works by.
func (c *Config) api(backup func(context.Context) (httpapi.Snapshot, error)) httpapi.Config {
	return httpapi.Config{
		AdminTokens:   c.HTTP.AdminTokens,
		IngestTokens:  c.HTTP.IngestTokens,
		MetricsTokens: c.HTTP.MetricsTokens,
		CORSOrigins:   c.HTTP.CORSOrigins,
		MaxBodyBytes:  int64(c.HTTP.MaxBody),
		Backup:        backup,
	}
}

// logger makes the log that the settings ask for, and what changes its level.
func (c *LogConfig) logger(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(c.level())
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}

func (c *LogConfig) level() (level slog.Level) {
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		panic(err) // Validate has seen it
	}
	return level
}

// Size is a number of bytes that is written as in "512KiB", "1MiB", "1GiB", or plain.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

func (s Size) String() string {
	for _, u := range sizeUnits {
		if n := int64(s); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0"
}

// UnmarshalText reads what String writes, and any other whole number of a unit.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf(`must be a size, such as "512KiB", "1MiB" or "1GiB" (got %.40q)`, text)
}

// Network is a range of addresses, written as in "10.0.0.0/8"; a bare address is a range of one.
type Network netip.Prefix

func (n Network) String() string { return netip.Prefix(n).String() }

// UnmarshalText reads a range or an address.
func (n *Network) UnmarshalText(text []byte) error {
	p, err := engine.ParseNetwork(string(text))
	if err != nil {
		return err
	}
	*n = Network(p)
	return nil
}

// Set makes a list of networks out of a flag that may be given more than once.
func (l *networkList) Set(text string) error {
	var n Network
	if err := n.UnmarshalText([]byte(text)); err != nil {
		return err
	}
	*l = append(*l, n)
	return nil
}

func (l *networkList) String() string { return "" }

type networkList []Network
