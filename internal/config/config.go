package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"hookbolt/engine"
)

// Config is all settings, in the sections of the configuration file. config.example.toml says what each one is for. A setting with the tag
// secret is never shown.
type Config struct {
	HTTP     HTTP     `toml:"http"`
	Storage  Storage  `toml:"storage"`
	Delivery Delivery `toml:"delivery"`
	Log      Log      `toml:"log"`
}

// HTTP is the section [http]: how callers reach hookbolt.
type HTTP struct {
	Listen            string          `toml:"listen"`
	TLSCertFile       string          `toml:"tls_cert_file"`
	TLSKeyFile        string          `toml:"tls_key_file"`
	AdminTokens       []string        `toml:"admin_tokens" secret:"true"`
	AdminTokensFile   string          `toml:"admin_tokens_file"`
	ReadTokens        []string        `toml:"read_tokens" secret:"true"`
	ReadTokensFile    string          `toml:"read_tokens_file"`
	IngestTokens      []string        `toml:"ingest_tokens" secret:"true"`
	IngestTokensFile  string          `toml:"ingest_tokens_file"`
	MetricsTokens     []string        `toml:"metrics_tokens" secret:"true"`
	MetricsTokensFile string          `toml:"metrics_tokens_file"`
	CORSOrigins       []string        `toml:"cors_origins"`
	TrustedProxies    []Network       `toml:"trusted_proxies"`
	MaxBody           Size            `toml:"max_body"`
	ShutdownTimeout   engine.Duration `toml:"shutdown_timeout"`
	ShutdownDelay     engine.Duration `toml:"shutdown_delay"`
}

// Storage is the section [storage]: what is kept, where, and for how long.
type Storage struct {
	// Driver is which store is used: DriverBolt or DriverPostgres.
	Driver string `toml:"driver"`
	// Path is the file of DriverBolt. With DriverPostgres it is not used.
	Path string `toml:"path"`
	// PostgresURL is where the database of DriverPostgres is. It may have a password.
	PostgresURL     string `toml:"postgres_url" secret:"true"`
	PostgresURLFile string `toml:"postgres_url_file"`
	PostgresSchema  string `toml:"postgres_schema"`
	// PostgresInsecure allows connections to other machines that are not encrypted, or do not check the server's name.
	PostgresInsecure  bool            `toml:"postgres_insecure"`
	SessionRetention  engine.Duration `toml:"session_retention"`
	DeliveryRetention engine.Duration `toml:"delivery_retention"`
	MaxBytes          Size            `toml:"max_bytes"`
	MinFree           Size            `toml:"min_free"`
}

// Delivery is the section [delivery]: how endpoints are called. A webhook may override some of it.
type Delivery struct {
	Timeout            engine.Duration   `toml:"timeout"`
	MaxInFlight        int               `toml:"max_in_flight"`
	WebhookMaxInFlight int               `toml:"webhook_max_in_flight"`
	RetrySchedule      []engine.Duration `toml:"retry_schedule"`
	RetryJitter        float64           `toml:"retry_jitter"`
	RetryAfterMax      engine.Duration   `toml:"retry_after_max"`
	Settle             engine.Duration   `toml:"settle"`
	PauseAfter         engine.Duration   `toml:"pause_after"`
	FailingAfter       engine.Duration   `toml:"failing_after"`
	AllowNetworks      []Network         `toml:"allow_networks"`
	CAFile             string            `toml:"ca_file"`
	TLSDir             string            `toml:"tls_dir"`
	ProxyFromEnv       bool              `toml:"proxy_from_environment"`
	OperationsURL      string            `toml:"operations_url" secret:"path"`
	// OperationsSecret is written as in the file: "whsec_" and base64.
	OperationsSecret     string `toml:"operations_secret" secret:"true"`
	OperationsSecretFile string `toml:"operations_secret_file"`
	// OperationsSMTP is the URL of a mail server, in the place of OperationsURL.
	OperationsSMTP             string   `toml:"operations_smtp"`
	OperationsSMTPUsername     string   `toml:"operations_smtp_username"`
	OperationsSMTPPassword     string   `toml:"operations_smtp_password" secret:"true"`
	OperationsSMTPPasswordFile string   `toml:"operations_smtp_password_file"`
	OperationsMailFrom         string   `toml:"operations_mail_from"`
	OperationsMailTo           []string `toml:"operations_mail_to"`
	// OperationsTransform is a program in jq, OperationsContentType the type of what it makes; "" for JSON.
	OperationsTransform   string `toml:"operations_transform"`
	OperationsContentType string `toml:"operations_content_type"`
}

// Log is the section [log]: what is logged, and how.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// The stores that storage.driver may name.
const (
	DriverBolt     = "bolt"     // a file, see package storage/bolt
	DriverPostgres = "postgres" // a PostgreSQL database, see package storage/postgres
)

const defaultMinFree = Size(256 << 20)

// defaultShutdownDelay is time for two checks of a balancer that asks every two seconds.
const defaultShutdownDelay = engine.Duration(5 * time.Second)

// Default returns the defaults.
func Default() Config {
	e := engine.DefaultConfig()
	return Config{
		HTTP: HTTP{
			Listen:          "127.0.0.1:8080",
			MaxBody:         1 << 20,
			ShutdownTimeout: engine.Duration(e.ShutdownTimeout),
			ShutdownDelay:   defaultShutdownDelay,
		},
		Storage: Storage{
			Driver:            DriverBolt,
			Path:              "hookbolt.db",
			PostgresSchema:    "hookbolt",
			SessionRetention:  engine.Duration(e.Retention.Sessions),
			DeliveryRetention: engine.Duration(e.Retention.Deliveries),
			MinFree:           defaultMinFree,
		},
		Delivery: Delivery{
			Timeout:            engine.Duration(e.Timeout),
			MaxInFlight:        e.MaxInFlight,
			WebhookMaxInFlight: e.WebhookMaxInFlight,
			// A copy: the decoder writes a file's list into the array that it finds.
			RetrySchedule: slices.Clone(e.Retry.Schedule),
			RetryJitter:   e.Retry.Jitter,
			RetryAfterMax: engine.Duration(e.Retry.RetryAfterMax),
			Settle:        engine.Duration(e.Settle),
			PauseAfter:    engine.Duration(e.PauseAfter),
			FailingAfter:  engine.Duration(e.FailingAfter),
		},
		Log: Log{Level: "info", Format: "text"},
	}
}

// Bounds of settings: wide enough for every known use, narrow enough to catch a wrong unit.
const (
	minMaxBody         = Size(1 << 10)
	MaxMaxBody         = Size(64 << 20) // a request is held in memory as a whole
	maxShutdownTimeout = engine.Duration(time.Hour)
	minRetention       = engine.Duration(time.Minute)
	maxRetention       = engine.Duration(10 * 365 * 24 * time.Hour)
	minMaxBytes        = Size(16 << 20)
	maxBytes           = Size(1 << 50)
	maxRetryAfterMax   = engine.Duration(30 * 24 * time.Hour)
	maxSettle          = engine.Duration(10 * time.Minute)
	minFailingAfter    = engine.Duration(time.Minute) // a single refusal of load often asks for seconds
	minPauseAfter      = engine.Duration(time.Minute)
	maxPauseAfter      = engine.Duration(10 * 365 * 24 * time.Hour) // as good as never
	MaxMaxInFlight     = 100_000
)

// Validate returns the first error in the settings, in the order of the file.
func (c *Config) Validate() error {
	return cmp.Or(
		checkListen(c.HTTP.Listen),
		c.HTTP.checkTLS(),
		c.HTTP.checkTokens(),
		c.HTTP.checkCORSOrigins(),
		c.HTTP.checkTrustedProxies(),
		between("http.max_body", c.HTTP.MaxBody, minMaxBody, MaxMaxBody),
		between("http.shutdown_timeout", c.HTTP.ShutdownTimeout, 0, maxShutdownTimeout),
		between("http.shutdown_delay", c.HTTP.ShutdownDelay, 0, maxShutdownTimeout),
		c.Storage.checkDriver(),
		between("storage.session_retention", c.Storage.SessionRetention, minRetention, maxRetention),
		between("storage.delivery_retention", c.Storage.DeliveryRetention, minRetention, maxRetention),
		c.Storage.checkMaxBytes(),
		between("storage.min_free", c.Storage.MinFree, 0, maxBytes),
		between("delivery.timeout", c.Delivery.Timeout, engine.Duration(engine.MinTimeout), engine.Duration(engine.MaxTimeout)),
		between("delivery.max_in_flight", c.Delivery.MaxInFlight, 0, MaxMaxInFlight),
		between("delivery.webhook_max_in_flight", c.Delivery.WebhookMaxInFlight, 1, engine.MaxMaxInFlight),
		c.Delivery.checkRetrySchedule(),
		between("delivery.retry_jitter", c.Delivery.RetryJitter, 0, 1),
		between("delivery.retry_after_max", c.Delivery.RetryAfterMax, 0, maxRetryAfterMax),
		between("delivery.settle", c.Delivery.Settle, 0, maxSettle),
		between("delivery.pause_after", c.Delivery.PauseAfter, minPauseAfter, maxPauseAfter),
		between("delivery.failing_after", c.Delivery.FailingAfter, minFailingAfter, maxPauseAfter),
		c.Delivery.checkOperations(),
		c.Delivery.checkOperationsMail(),
		c.Delivery.checkOperationsTransform(),
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

// checkTLS checks that a certificate and its key are set together. Whether the files hold them is found when they are read.
func (c *HTTP) checkTLS() error {
	switch {
	case c.TLSCertFile == "" && c.TLSKeyFile != "":
		return errors.New("http.tls_cert_file: must name a file, since http.tls_key_file does: HTTPS takes both")
	case c.TLSCertFile != "" && c.TLSKeyFile == "":
		return errors.New("http.tls_key_file: must name a file, since http.tls_cert_file does: HTTPS takes both")
	}
	return nil
}

func (c *HTTP) checkCORSOrigins() error {
	if len(c.CORSOrigins) > 0 && len(c.IngestTokens) == 0 {
		return errors.New("http.cors_origins: pages send events with an ingest token: set http.ingest_tokens, and http.admin_tokens, without which no token is asked for")
	}
	if err := checkOrigins(c.CORSOrigins); err != nil {
		return fmt.Errorf("http.cors_origins: %w", err)
	}
	return nil
}

// checkTrustedProxies refuses a network that has every address: all clients could claim any address then.
func (c *HTTP) checkTrustedProxies() error {
	for i, n := range c.TrustedProxies {
		if netip.Prefix(n).Bits() == 0 {
			return fmt.Errorf("http.trusted_proxies: must be the addresses of your own proxies (number %d, %s, is every address: all clients would be believed)", i+1, n)
		}
	}
	return nil
}

// checkDriver checks the settings of the store that is used, and refuses those of the other one: they would have no effect. storage.path has a
// default, so it cannot be told whether somebody wants it.
func (c *Storage) checkDriver() error {
	if c.Driver == DriverPostgres {
		return c.checkPostgres()
	}
	set := ""
	switch {
	case c.Driver != DriverBolt:
		return oneOf("storage.driver", c.Driver, DriverBolt, DriverPostgres)
	case c.PostgresURL != "":
		set = "postgres_url"
	case c.PostgresSchema != "hookbolt":
		set = "postgres_schema"
	case c.PostgresInsecure:
		set = "postgres_insecure"
	case c.Path == "":
		return errors.New(`storage.path: must name a file (got "")`)
	default:
		return nil
	}
	return fmt.Errorf(`storage.%s: is for PostgreSQL: set storage.driver = "postgres", too`, set)
}

// maxPostgresName is the longest name, in bytes: PostgreSQL cuts names off there.
const maxPostgresName = 63

// CheckPostgresName returns why PostgreSQL would have no schema or role of a name, or one of another name. setting is where the name comes from.
func CheckPostgresName(setting, name string) error {
	if name == "" || len(name) > maxPostgresName || strings.ContainsFunc(name, unicode.IsControl) || strings.HasPrefix(name, "pg_") {
		return fmt.Errorf(`%s: must be a name of 1 to %d bytes that does not begin with "pg_" (got %.70q)`, setting, maxPostgresName, name)
	}
	return nil
}

func (c *Storage) checkPostgres() error {
	switch {
	case c.PostgresURL == "":
		return errors.New(`storage.driver: "postgres" takes a database: set storage.postgres_url to its URL, such as "postgres://hookbolt@db.example.com/hookbolt?sslmode=verify-full", ` +
			"or storage.postgres_url_file to a file with it")
	case strings.ContainsFunc(c.PostgresURL, unicode.IsControl):
		return errors.New("storage.postgres_url: must not hold control characters")
	case c.MaxBytes != 0:
		return errors.New("storage.max_bytes: is for a file: what is removed makes no table of PostgreSQL smaller. Shorten the retentions, and limit the database's disk")
	case c.MinFree != 0 && c.MinFree != defaultMinFree:
		return errors.New("storage.min_free: is for a file: hookbolt does not see the disk of a PostgreSQL server. Watch it there")
	}
	return CheckPostgresName("storage.postgres_schema", c.PostgresSchema)
}

func (c *Storage) checkMaxBytes() error {
	if c.MaxBytes == 0 { // no limit
		return nil
	}
	return between("storage.max_bytes", c.MaxBytes, minMaxBytes, maxBytes)
}

func (c *Delivery) checkRetrySchedule() error {
	if err := engine.CheckRetrySchedule(c.RetrySchedule); err != nil {
		return fmt.Errorf("delivery.retry_schedule: %w", err)
	}
	return nil
}

func (c *Delivery) checkOperations() error {
	field, err := engine.CheckOperations(c.OperationsURL, engine.Secret(c.OperationsSecret))
	if err == nil {
		return nil
	}
	if field == "secret" && c.OperationsSecretFile != "" {
		field = "secret_file"
	}
	return fmt.Errorf("delivery.operations_%s: %w", field, err)
}

// maxMailRecipients is how many people may get operational events by mail: more is a mailing list's trade.
const maxMailRecipients = 20

// checkOperationsMail checks the settings of operational events by mail, which are set together.
func (c *Delivery) checkOperationsMail() error {
	if c.OperationsSMTP == "" {
		return c.checkNoOperationsMail()
	}
	_, err := engine.CanonicalMailURL(c.OperationsSMTP)
	switch {
	case err != nil:
		return fmt.Errorf("delivery.operations_smtp: %w", err)
	case c.OperationsURL != "":
		return errors.New("delivery.operations_smtp: delivery.operations_url is set, too: set one of them")
	case c.OperationsSMTPUsername == "" && c.OperationsSMTPPassword != "":
		return errors.New("delivery.operations_smtp_password: is one of a user: set delivery.operations_smtp_username, too")
	case c.OperationsSMTPUsername != "" && c.OperationsSMTPPassword == "":
		return errors.New("delivery.operations_smtp_username: takes a password: set delivery.operations_smtp_password, too")
	case strings.ContainsFunc(c.OperationsSMTPUsername+c.OperationsSMTPPassword, unicode.IsControl):
		return errors.New("delivery.operations_smtp_password: the user name and the password must not hold control characters")
	}
	return c.checkMailboxes()
}

// checkNoOperationsMail refuses what would have no effect.
func (c *Delivery) checkNoOperationsMail() error {
	set := ""
	switch {
	case c.OperationsSMTPUsername != "":
		set = "operations_smtp_username"
	case c.OperationsSMTPPassword != "":
		set = "operations_smtp_password"
	case c.OperationsMailFrom != "":
		set = "operations_mail_from"
	case len(c.OperationsMailTo) > 0:
		set = "operations_mail_to"
	default:
		return nil
	}
	return fmt.Errorf("delivery.operations_smtp: must name a mail server, since delivery.%s is set", set)
}

func (c *Delivery) checkMailboxes() error {
	if err := engine.CheckMailbox(c.OperationsMailFrom); err != nil {
		return fmt.Errorf("delivery.operations_mail_from: %w", err)
	}
	if n := len(c.OperationsMailTo); n == 0 || n > maxMailRecipients {
		return fmt.Errorf("delivery.operations_mail_to: must have 1 to %d addresses (got %d)", maxMailRecipients, n)
	}
	for i, to := range c.OperationsMailTo {
		if err := engine.CheckMailbox(to); err != nil {
			return fmt.Errorf("delivery.operations_mail_to: number %d %w", i+1, err)
		}
	}
	return nil
}

// checkOperationsTransform checks the program for operational events.
func (c *Delivery) checkOperationsTransform() error {
	switch {
	case c.OperationsTransform == "" && c.OperationsContentType == "":
		return nil
	case c.OperationsTransform == "":
		return errors.New("delivery.operations_content_type: is for what delivery.operations_transform makes: set that, too")
	case c.OperationsURL == "":
		return errors.New("delivery.operations_transform: makes what is sent to delivery.operations_url: set that, too")
	}
	contentType := cmp.Or(c.OperationsContentType, "application/json")
	if field, err := engine.CheckOperationsTransform(c.OperationsTransform, contentType); err != nil {
		return fmt.Errorf("delivery.operations_%s: %w", field, err)
	}
	return nil
}

// Operations returns where operational events go, "" for nowhere, and the setting that says so.
func (c *Delivery) Operations() (setting, url string) {
	if c.OperationsSMTP != "" {
		return "delivery.operations_smtp", c.OperationsSMTP
	}
	return "delivery.operations_url", c.OperationsURL
}

// Networks are the private networks in which endpoints are allowed.
func (c *Delivery) Networks() []netip.Prefix { return prefixes(c.AllowNetworks) }

// Proxies are the networks of the reverse proxies whose headers are believed.
func (c *HTTP) Proxies() []netip.Prefix { return prefixes(c.TrustedProxies) }

func prefixes(networks []Network) []netip.Prefix {
	var list []netip.Prefix
	for _, n := range networks {
		list = append(list, netip.Prefix(n))
	}
	return list
}

// LocalURL is the URL of a server with these settings, as seen from its own machine.
func (c *HTTP) LocalURL() string {
	scheme := "http"
	if c.TLSCertFile != "" {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(c.Listen) // Validate has seen it
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "", err == nil && addr.Unmap() == netip.IPv4Unspecified(): // all addresses of the machine
		host = "127.0.0.1"
	case err == nil && addr.WithZone("").IsUnspecified(): // the same
		host = "::1"
	}
	return (&url.URL{Scheme: scheme, Host: net.JoinHostPort(host, port)}).String() // which escapes a zone
}
