package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"hookbolt/engine"
)

// exampleFile has all settings with their defaults.
const exampleFile = "../../config.example.toml"

// parseConfig reads the text of a configuration file.
func parseConfig(text string) (Config, error) {
	cfg := Default()
	if err := cfg.readFile(text, "", make(Origins)); err != nil {
		return cfg, err
	}
	return cfg, cfg.Validate()
}

// loadFile reads a configuration file alone.
func loadFile(path string) (Config, error) {
	cfg, _, err := (&Loader{Path: path}).Load()
	return cfg, err
}

func TestExampleConfigHasEveryDefault(t *testing.T) {
	cfg, err := loadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	// %#v would tell an empty list from none.
	if got, want := fmt.Sprintf("%+v", cfg), fmt.Sprintf("%+v", Default()); got != want {
		t.Errorf("the example differs from the defaults\n got %s\nwant %s", got, want)
	}
	md, err := toml.DecodeFile(exampleFile, &map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	for name := range knownNames() {
		if !md.IsDefined(strings.Split(name, ".")...) {
			t.Errorf("the example lacks %s", name)
		}
	}
}

func TestDefaultConfigIsValid(t *testing.T) {
	cfg := Default()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigIsRead(t *testing.T) {
	cfg, err := parseConfig(`
		[http]
		listen = ":9999"
		admin_tokens = ["an-admin-token-of-mine"]
		ingest_tokens = ["an-ingest-token-of-mine", "another-ingest-token"]
		cors_origins = ["https://quiz.example.com", "http://localhost:3000"]
		max_body = 2048
		shutdown_timeout = "0s"
		shutdown_delay = "9s"
		[storage]
		path = "/var/lib/hookbolt/data.db"
		session_retention = "48h"
		delivery_retention = "1h30m"
		max_bytes = "2TiB"
		min_free = "0"
		[delivery]
		timeout = "2m"
		max_in_flight = 0
		webhook_max_in_flight = 7
		retry_schedule = ["1s", "90s"]
		retry_jitter = 1
		retry_after_max = "0s"
		settle = "0s"
		pause_after = "48h"
		failing_after = "10m"
		proxy_from_environment = true
		allow_networks = ["10.1.2.3/8", "192.168.1.7", "fd00::/8", "::ffff:127.0.0.0/104"]
		[log]
		level = "debug"
		format = "json"`)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.HTTP.Listen = ":9999"
	want.HTTP.AdminTokens = []string{"an-admin-token-of-mine"}
	want.HTTP.IngestTokens = []string{"an-ingest-token-of-mine", "another-ingest-token"}
	want.HTTP.CORSOrigins = []string{"https://quiz.example.com", "http://localhost:3000"}
	want.HTTP.MaxBody = 2 << 10
	want.HTTP.ShutdownTimeout, want.HTTP.ShutdownDelay = 0, engine.Duration(9*time.Second)
	want.Storage = Storage{Driver: DriverBolt, Path: "/var/lib/hookbolt/data.db", PostgresSchema: "hookbolt", SessionRetention: engine.Duration(48 * time.Hour),
		DeliveryRetention: engine.Duration(90 * time.Minute), MaxBytes: 2 << 40}
	want.Delivery = Delivery{
		Timeout: engine.Duration(2 * time.Minute), WebhookMaxInFlight: 7, RetryJitter: 1, PauseAfter: engine.Duration(48 * time.Hour), FailingAfter: engine.Duration(10 * time.Minute), ProxyFromEnv: true,
		RetrySchedule: []engine.Duration{engine.Duration(time.Second), engine.Duration(90 * time.Second)},
	}
	for _, n := range []string{"10.0.0.0/8", "192.168.1.7/32", "fd00::/8", "127.0.0.0/8"} {
		want.Delivery.AllowNetworks = append(want.Delivery.AllowNetworks, Network(netip.MustParsePrefix(n)))
	}
	want.Log = Log{"debug", "json"}
	if got, want := fmt.Sprintf("%+v", cfg), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if got := engine.DefaultRetrySchedule[0]; time.Duration(got) != 5*time.Second {
		t.Errorf("reading a file changed the default schedule: it begins with %s", got)
	}
}

// mailSettings are settings for operational events by mail, with one that is another one.
func mailSettings(other string) string {
	settings := map[string]string{"smtp": `"smtps://mail.example.com"`, "mail_from": `"a@example.com"`, "mail_to": `["b@example.com"]`}
	name, value, _ := strings.Cut(other, " = ")
	settings[name] = value
	var text strings.Builder
	text.WriteString("[delivery]\n")
	for name, value := range settings {
		text.WriteString("operations_" + name + " = " + value + "\n")
	}
	return text.String()
}

// transformSettings are settings with a program for operational events.
func transformSettings(program, contentType string) string {
	return fmt.Sprintf("[delivery]\noperations_url = \"https://ops.example.com/\"\noperations_transform = '%s'\noperations_content_type = %q\n", program, contentType)
}

// postgresSettings are settings of a database in PostgreSQL whose URL has a password, with one that is another one.
func postgresSettings(other, password string) string {
	settings := map[string]string{"url": fmt.Sprintf("%q", "postgres://u:"+password+"@h/d")}
	if name, value, ok := strings.Cut(other, " = "); ok {
		settings[name] = value
	}
	var text strings.Builder
	text.WriteString("[storage]\ndriver = \"postgres\"\n")
	for name, value := range settings {
		text.WriteString("postgres_" + name + " = " + value + "\n")
	}
	return text.String()
}

func TestBadConfigIsRefusedInOneLine(t *testing.T) {
	const token = "0123456789abcdef"
	for _, tc := range []struct{ name, text, want string }{
		// The syntax.
		{"no value", "[http]\nlisten =\n", `line 2, column 9: expected value but found '\n' instead`},
		{"twice", "[http]\nlisten = \":1\"\nlisten = \":2\"", `line 3, column 15: Key 'http.listen' has already been defined.`},
		{"token without quotes", "[http]\nadmin_tokens = [abcdefghijklmnop]", `line 2, column 17: expected value but found … instead`},
		{"token of digits without quotes", "[http]\nadmin_tokens = [" + token + "]", `line 2, column 17: Invalid integer …: cannot have leading zeroes`},
		{"large number without quotes", "[http]\nadmin_tokens = [12345678901234567890]", `line 2, column 17: … is out of range for int64`},
		{"date without quotes", "[http]\nadmin_tokens = [2026-13-32]", `line 2, column 17: invalid datetime: …`},
		{"not TOML", "{\"http\": 1}", `line 1, column 1: `},
		{"not text", "[http]\nlisten = \"\xff\"", `line 2, `},
		// Names.
		{"unknown setting", "[delivery]\ntimout = \"5s\"", `delivery.timout: unknown setting`},
		{"unknown section", "[server]\nlisten = \":1\"", `server: unknown setting`},
		{"outside of a section", `listen = ":1"`, `listen: unknown setting`},
		{"another case", "[delivery]\nTimeout = \"5s\"", `delivery.Timeout: unknown setting`},
		{"too deep", "[http.listen]\nport = 1", `http.listen.port: unknown setting`},
		{"of a later version", "[storage]\nencryption = true", `storage.encryption: unknown setting`},
		// Types.
		{"section", "http = 8080", `line 1: http: must be a section, [http] (got an integer)`},
		{"string", "[http]\nlisten = 8080", `line 2: http.listen: must be a string (got an integer)`},
		{"list", "[http]\nadmin_tokens = \"" + token + "\"", `line 2: http.admin_tokens: must be a list (got a string)`},
		{"list of strings", "[http]\nadmin_tokens = [1]", `line 2: http.admin_tokens: must be a string (got an integer)`},
		{"integer", "[delivery]\nmax_in_flight = \"many\"", `line 2: delivery.max_in_flight: must be an integer (got a string)`},
		{"whole number", "[delivery]\nmax_in_flight = 1.5", `line 2: delivery.max_in_flight: must be an integer (got a number)`},
		{"number", "[delivery]\nretry_jitter = \"10%\"", `line 2: delivery.retry_jitter: must be a number (got a string)`},
		{"duration without unit", "[delivery]\ntimeout = 15", `line 2: delivery.timeout: must be a duration, such as "15s", "5m" or "2h" (got "15")`},
		{"duration", "[http]\nshutdown_timeout = \"soon\"", `line 2: http.shutdown_timeout: must be a duration, such as "15s", "5m" or "2h" (got "soon")`},
		{"duration in a list", "[delivery]\nretry_schedule = [\"5s\", \"later\"]", `line 2: delivery.retry_schedule: must be a duration, such as "15s", "5m" or "2h" (got "later")`},
		{"size", "[http]\nmax_body = \"1MB\"", `line 2: http.max_body: must be a size, such as "512KiB", "1MiB" or "1GiB" (got "1MB")`},
		{"negative size", "[http]\nmax_body = -1", `line 2: http.max_body: must be a size, such as "512KiB", "1MiB" or "1GiB" (got "-1")`},
		{"size of nothing", "[storage]\nmax_bytes = \"1MiB\"", `storage.max_bytes: must be 16MiB to 1024TiB (got 1MiB)`},
		{"size of no disk", "[storage]\nmin_free = \"1025TiB\"", `storage.min_free: must be 0 to 1024TiB (got 1025TiB)`},
		{"huge size", "[http]\nmax_body = \"9999999999GiB\"", `line 2: http.max_body: must be a size, such as "512KiB", "1MiB" or "1GiB" (got "9999999999GiB")`},
		{"network", "[delivery]\nallow_networks = [\"10.0.0.0/33\"]", `line 2: delivery.allow_networks: must be a network or an address, such as 10.0.0.0/8, 192.168.1.7 or fd00::/8 (got "10.0.0.0/33")`},
		{"host name", "[delivery]\nallow_networks = [\"localhost\"]", `line 2: delivery.allow_networks: must be a network or an address, such as 10.0.0.0/8, 192.168.1.7 or fd00::/8 (got "localhost")`},
		{"address with a zone", "[delivery]\nallow_networks = [\"fe80::1%eth0\"]", `line 2: delivery.allow_networks: must be a network or an address, `},
		// Values.
		{"listen", "[http]\nlisten = \"8080\"", `http.listen: must be a host and a port, such as 127.0.0.1:8080 (got "8080")`},
		{"port", "[http]\nlisten = \"127.0.0.1:65536\"", `http.listen: must be a host and a port, such as 127.0.0.1:8080 (got "127.0.0.1:65536")`},
		{"open to others", "[http]\nlisten = \":8080\"", `http.listen: :8080 can be reached from other machines, which takes a token: set http.admin_tokens, for example to the output of "openssl rand -hex 16" (or listen on 127.0.0.1)`},
		{"open to others with other tokens", "[http]\nlisten = \"192.0.2.1:8080\"\nmetrics_tokens = [\"" + token + "\"]", `http.metrics_tokens: `},
		{"tokens that nobody asks for", "[http]\ningest_tokens = [\"" + token + "\"]", `http.ingest_tokens: no token is asked for without an admin token: set http.admin_tokens, too`},
		{"short token", "[http]\nadmin_tokens = [\"" + token + "\", \"secret\"]", `http.admin_tokens: each token must have at least 16 characters (number 2 has 6)`},
		{"white space", "[http]\nadmin_tokens = [\"0123456789 abcdef\"]", `http.admin_tokens: each token must have at least 16 characters (number 1 has 6 after its name)`},
		{"white space in a named token", "[http]\nadmin_tokens = [\"alice 0123456789 abcdefghij\"]", `http.admin_tokens: tokens must be letters, digits and punctuation of ASCII, without white space (number 1 has something else at character 11)`},
		{"white space after a token", "[http]\nadmin_tokens = [\"" + token + " \"]", `http.admin_tokens: each token must have at least 16 characters (number 1 has 0 after its name)`},
		{"white space before a token", "[http]\nadmin_tokens = [\" " + token + "\"]", `http.admin_tokens: a name in front of a token must have 1 to 40 letters, digits and ".", "_", "-" or "@" (number 1)`},
		{"token name", "[http]\nadmin_tokens = [\"" + token + "\", \"alice: an-admin-token-of-mine\"]", `http.admin_tokens: a name in front of a token must have 1 to 40 letters, digits and ".", "_", "-" or "@" (number 2)`},
		{"read tokens alone", "[http]\nread_tokens = [\"" + token + "\"]", `http.read_tokens: no token is asked for without an admin token: set http.admin_tokens, too`},
		{"one token under two names", "[http]\nadmin_tokens = [\"alice an-admin-token-of-mine\", \"bob an-admin-token-of-mine\"]", `http.admin_tokens: every token must be another one (number 2 is in http.admin_tokens already)`},
		{"umlaut", "[http]\nadmin_tokens = [\"0123456789äbcdef\"]", `http.admin_tokens: tokens must be letters, `},
		{"token in two lists", "[http]\nadmin_tokens = [\"" + token + "\"]\ningest_tokens = [\"" + token + "\"]", `http.ingest_tokens: every token must be another one (number 1 is in http.admin_tokens already)`},
		{"pages without a token", "[http]\nadmin_tokens = [\"" + token + "\"]\ncors_origins = [\"https://quiz.example.com\"]", `http.cors_origins: pages send events with an ingest token: set http.ingest_tokens, and http.admin_tokens, without which no token is asked for`},
		{"pages without any token", "[http]\ncors_origins = [\"*\"]", `http.cors_origins: pages send events with an ingest token: set http.ingest_tokens, and http.admin_tokens, without which no token is asked for`},
		{"proxy", "[http]\ntrusted_proxies = [\"proxy.example.com\"]", `line 2: http.trusted_proxies: must be a network or an address, `},
		{"every proxy", "[http]\ntrusted_proxies = [\"10.0.0.1\", \"::/0\"]",
			`http.trusted_proxies: must be the addresses of your own proxies (number 2, ::/0, is every address: all clients would be believed)`},
		{"origin", "[http]\nadmin_tokens = [\"" + token + "\"]\ningest_tokens = [\"an-ingest-token-of-mine\"]\ncors_origins = [\"https://quiz.example.com/\"]",
			`http.cors_origins: must be origins such as "https://quiz.example.com" or "http://localhost:3000" (number 1, "https://quiz.example.com/", must end after the host and its port: no user, no path, not even a slash)`},
		{"small body", "[http]\nmax_body = 100", `http.max_body: must be 1KiB to 64MiB (got 100)`},
		{"large body", "[http]\nmax_body = \"1GiB\"", `http.max_body: must be 1KiB to 64MiB (got 1GiB)`},
		{"shutdown", "[http]\nshutdown_timeout = \"-1s\"", `http.shutdown_timeout: must be 0s to 1h (got -1s)`},
		{"path", "[storage]\npath = \"\"", `storage.path: must name a file (got "")`},
		{"driver", "[storage]\ndriver = \"sqlite\"", `storage.driver: must be bolt, postgres (got "sqlite")`},
		{"no database", "[storage]\ndriver = \"postgres\"", `storage.driver: "postgres" takes a database: set storage.postgres_url to its URL, such as `},
		{"database with a line break", postgresSettings(`url = "postgres://u:`+token+`@h/d\n"`, token), `storage.postgres_url: must not hold control characters`},
		{"schema", postgresSettings(`schema = ""`, token), `storage.postgres_schema: must be a name of 1 to 63 bytes that does not begin with "pg_" (got "")`},
		{"schema of the system", postgresSettings(`schema = "pg_catalog"`, token), `storage.postgres_schema: must be a name of 1 to 63 bytes that does not begin with "pg_" (got "pg_catalog")`},
		{"limit of a file", postgresSettings("", token) + "max_bytes = \"1GiB\"", `storage.max_bytes: is for a file: `},
		{"disk of a file", postgresSettings("", token) + "min_free = \"1GiB\"", `storage.min_free: is for a file: `},
		{"database without driver", "[storage]\npostgres_url = \"postgres://u:" + token + "@h/d\"", `storage.postgres_url: is for PostgreSQL: set storage.driver = "postgres", too`},
		{"schema without driver", "[storage]\npostgres_schema = \"x\"", `storage.postgres_schema: is for PostgreSQL: set storage.driver = "postgres", too`},
		{"insecure without driver", "[storage]\npostgres_insecure = true", `storage.postgres_insecure: is for PostgreSQL: set storage.driver = "postgres", too`},
		{"session retention", "[storage]\nsession_retention = \"0s\"", `storage.session_retention: must be 1m to 87600h (got 0s)`},
		{"delivery retention", "[storage]\ndelivery_retention = \"100000h\"", `storage.delivery_retention: must be 1m to 87600h (got 100000h)`},
		{"timeout", "[delivery]\ntimeout = \"0s\"", `delivery.timeout: must be 1s to 2m (got 0s)`},
		{"in flight", "[delivery]\nmax_in_flight = -1", `delivery.max_in_flight: must be 0 to 100000 (got -1)`},
		{"in flight of a webhook", "[delivery]\nwebhook_max_in_flight = 0", `delivery.webhook_max_in_flight: must be 1 to 1000 (got 0)`},
		{"schedule", "[delivery]\nretry_schedule = [\"0s\"]", `delivery.retry_schedule: each step must be 1s to 720h (got 0s)`},
		{"jitter", "[delivery]\nretry_jitter = 1.01", `delivery.retry_jitter: must be 0 to 1 (got 1.01)`},
		{"no jitter", "[delivery]\nretry_jitter = nan", `delivery.retry_jitter: must be 0 to 1 (got NaN)`},
		{"retry after", "[delivery]\nretry_after_max = \"721h\"", `delivery.retry_after_max: must be 0s to 720h (got 721h)`},
		{"mail server", mailSettings("smtp = \"mail.example.com\""), `delivery.operations_smtp: must be an smtp or smtps URL`},
		{"mail server with account", mailSettings("smtp = \"smtp://u:" + token + "@mail.example.com\""), `delivery.operations_smtp: must not hold a user name or password: they have settings of their own`},
		{"mail server and URL", mailSettings("url = \"https://ops.example.com/\""), `delivery.operations_smtp: delivery.operations_url is set, too: set one of them`},
		{"mail without server", mailSettings("smtp = \"\""), `delivery.operations_smtp: must name a mail server, since delivery.operations_mail_from is set`},
		{"mail without sender", mailSettings("mail_from = \"\""), `delivery.operations_mail_from: must be an address, such as alerts@example.com or hookbolt <alerts@example.com> (got "")`},
		{"mail without recipient", mailSettings("mail_to = []"), `delivery.operations_mail_to: must have 1 to 20 addresses (got 0)`},
		{"mail with a bad recipient", mailSettings("mail_to = [\"a@example.com\", \"b\"]"), `delivery.operations_mail_to: number 2 must be an address`},
		{"mail without password", mailSettings("smtp_username = \"u\""), `delivery.operations_smtp_username: takes a password: set delivery.operations_smtp_password, too`},
		{"mail without user name", mailSettings("smtp_password = \"" + token + "\""), `delivery.operations_smtp_password: is one of a user: set delivery.operations_smtp_username, too`},
		{"mail with a line break in its sender", mailSettings("mail_from = \"a@example.com\\r\\nBcc: b@example.com\""), `delivery.operations_mail_from: must be an address`},
		{"transform without URL", "[delivery]\noperations_transform = \".\"", `delivery.operations_transform: makes what is sent to delivery.operations_url: set that, too`},
		{"transform and mail", mailSettings("transform = \".\""), `delivery.operations_transform: makes what is sent to delivery.operations_url: set that, too`},
		{"content type without transform", "[delivery]\noperations_url = \"https://ops.example.com/\"\noperations_content_type = \"text/plain\"", `delivery.operations_content_type: is for what delivery.operations_transform makes: set that, too`},
		{"transform that is none", transformSettings(`{text: .type`, ""), `delivery.operations_transform: line 1, column `},
		{"transform that fails", transformSettings(`{text: ("x" + .data.webhook.id)}`, ""), `delivery.operations_transform: line 1, column 13: cannot add string ("x") and number (3): make it a string with tostring, or write "\(.a)\(.b)" (with the event webhook.paused)`},
		{"transform of another type", transformSettings(`.`, "text/plain"), `delivery.operations_transform: `},
		{"content type that is none", transformSettings(`.`, "text"), `delivery.operations_content_type: must be a media type`},
		{"failing after", "[delivery]\nfailing_after = \"0s\"", `delivery.failing_after: must be 1m to 87600h (got 0s)`},
		{"pause after", "[delivery]\npause_after = \"5s\"", `delivery.pause_after: must be 1m to 87600h (got 5s)`},
		{"level", "[log]\nlevel = \"loud\"", `log.level: must be debug, info, warn, error (got "loud")`},
		{"format", "[log]\nformat = \"xml\"", `log.format: must be text, json (got "xml")`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.toml")
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := loadFile(path)
			if err == nil {
				t.Fatalf("accepted, want %s", tc.want)
			}
			if !strings.HasPrefix(err.Error(), path+": "+tc.want) || strings.HasSuffix(tc.want, ")") && err.Error() != path+": "+tc.want {
				t.Errorf("\n got %s\nwant %s: %s", err, path, tc.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			if strings.Contains(err.Error(), token) {
				t.Errorf("shows a token: %s", err)
			}
		})
	}
}

func TestUnreadableConfig(t *testing.T) {
	if _, err := loadFile(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := loadFile(t.TempDir()); err == nil {
		t.Error("a directory was read")
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "1023": 1023, "1024": 1 << 10, "1KiB": 1 << 10, "512KiB": 512 << 10, "1MiB": 1 << 20, "3GiB": 3 << 30, "1536MiB": 1536 << 20,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", text, got, err, want)
		}
		var again Size
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%s is written as %s, which is read as %d", text, got, again)
		}
	}
}
