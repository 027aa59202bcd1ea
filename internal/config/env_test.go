package config

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
)

// writeFile writes a file that is nobody else's, and returns its path.
func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEnvironment sets every setting by its variable, and holds the result against the same in a file.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string { return writeFile(t, filepath.Join(dir, name), text) }
	cert, key := write("cert.pem", ""), write("key.pem", "")
	values := map[string][2]string{ // by the setting: what the variable has, what the file would
		"http.listen":                       {"127.0.0.1:9999", `"127.0.0.1:9999"`},
		"http.tls_cert_file":                {cert, "'" + cert + "'"},
		"http.tls_key_file":                 {key, "'" + key + "'"},
		"http.admin_tokens":                 {"admin-token-number-1, admin-token-number-2", `["admin-token-number-1", "admin-token-number-2"]`},
		"http.read_tokens":                  {"reader read-token-number-1", `["reader read-token-number-1"]`},
		"http.ingest_tokens":                {"ingest-token-number-1", `["ingest-token-number-1"]`},
		"http.metrics_tokens":               {"metrics-token-number-1", `["metrics-token-number-1"]`},
		"http.cors_origins":                 {"https://quiz.example.com,http://localhost:3000", `["https://quiz.example.com", "http://localhost:3000"]`},
		"http.trusted_proxies":              {"127.0.0.1, 10.0.0.0/8", `["127.0.0.1", "10.0.0.0/8"]`},
		"http.max_body":                     {"2KiB", `"2KiB"`},
		"http.shutdown_timeout":             {"7s", `"7s"`},
		"http.shutdown_delay":               {"8s", `"8s"`},
		"storage.driver":                    {"postgres", `"postgres"`},
		"storage.postgres_url":              {"postgres://u:p@h/d", `"postgres://u:p@h/d"`},
		"storage.postgres_schema":           {"events", `"events"`},
		"storage.postgres_insecure":         {"true", `true`},
		"storage.path":                      {"/somewhere/x.db", `"/somewhere/x.db"`},
		"storage.session_retention":         {"48h", `"48h"`},
		"storage.delivery_retention":        {"24h", `"24h"`},
		"storage.max_bytes":                 {"1GiB", `"1GiB"`},
		"storage.min_free":                  {"0", `"0"`},
		"delivery.timeout":                  {"3s", `"3s"`},
		"delivery.max_in_flight":            {"17", `17`},
		"delivery.webhook_max_in_flight":    {"5", `5`},
		"delivery.retry_schedule":           {"1s,2m", `["1s", "2m"]`},
		"delivery.retry_jitter":             {"0.5", `0.5`},
		"delivery.retry_after_max":          {"1h", `"1h"`},
		"delivery.settle":                   {"5s", `"5s"`},
		"delivery.pause_after":              {"2h", `"2h"`},
		"delivery.failing_after":            {"3h", `"3h"`},
		"delivery.allow_networks":           {"10.0.0.0/8, fd00::/8", `["10.0.0.0/8", "fd00::/8"]`},
		"delivery.proxy_from_environment":   {"true", `true`},
		"delivery.operations_url":           {"https://ops.example.com/", `"https://ops.example.com/"`},
		"delivery.operations_secret":        {"whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE=", `"whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="`},
		"delivery.operations_transform":     {`{text: .type} | tojson`, `'{text: .type} | tojson'`},
		"delivery.operations_content_type":  {"text/plain", `"text/plain"`},
		"delivery.operations_smtp":          {"smtps://mail.example.com", `"smtps://mail.example.com"`},
		"delivery.operations_smtp_username": {"hookbolt", `"hookbolt"`},
		"delivery.operations_smtp_password": {"a-password-of-mine", `"a-password-of-mine"`},
		"delivery.operations_mail_from":     {"hookbolt <hookbolt@example.com>", `"hookbolt <hookbolt@example.com>"`},
		"delivery.operations_mail_to":       {"a@example.com, b@example.com", `["a@example.com", "b@example.com"]`},
		"delivery.ca_file":                  {"/etc/ca.pem", `"/etc/ca.pem"`},
		"delivery.tls_dir":                  {"/etc/tls", `"/etc/tls"`},
		"log.level":                         {"warn", `"warn"`},
		"log.format":                        {"json", `"json"`},
	}
	// Of the URL and the mail server for operational events only one may be set, and only settings of one store.
	for _, without := range []string{"storage.driver storage.postgres_url storage.postgres_schema storage.postgres_insecure delivery.operations_url delivery.operations_transform delivery.operations_content_type",
		"storage.max_bytes storage.min_free delivery.operations_smtp delivery.operations_smtp_username delivery.operations_smtp_password delivery.operations_mail_from delivery.operations_mail_to"} {
		testEnvironment(t, write, values, strings.Fields(without))
	}
}

// testEnvironment is TestEnvironment for the settings but for some.
func testEnvironment(t *testing.T, write func(name, text string) string, values map[string][2]string, without []string) {
	byDefault := Default()
	var environ, sections []string
	last := ""
	for name, field := range byDefault.settings() {
		if isSecretFile(name) || slices.Contains(without, name) { // the files have a test of their own
			continue
		}
		v, ok := values[name]
		if !ok {
			t.Errorf("this test lacks %s", name)
			continue
		}
		environ = append(environ, "HOOKBOLT_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))+"="+v[0])
		section, setting, _ := strings.Cut(name, ".")
		if section != last {
			sections = append(sections, "["+section+"]")
			last = section
		}
		sections = append(sections, setting+" = "+v[1])
		if field.Kind() == reflect.Slice && len(v[0]) == 0 {
			t.Errorf("%s: nothing to tell from nothing", name)
		}
	}
	want, err := parseConfig(strings.Join(sections, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	// A file that says something else is beaten; what is not set, or set to nothing, is the file's.
	file := write("other.toml", "[http]\nlisten = \"127.0.0.1:1\"\n[delivery]\nretry_schedule = [\"9s\", \"9s\", \"9s\"]\n")
	got, from, err := (&Loader{Path: file, Environ: environ}).Load()
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	for name := range values {
		if !strings.HasPrefix(from[name], "HOOKBOLT_") && !slices.Contains(without, name) {
			t.Errorf("%s comes from %q", name, from[name])
		}
	}
	got, from, err = (&Loader{Path: file, Environ: []string{"HOOKBOLT_HTTP_LISTEN=", "HOOKBOLT_DELIVERY_TIMEOUT=4s", "PATH=/bin", "HOOKBOLT_TOKEN=x"}}).Load()
	if err != nil || got.HTTP.Listen != "127.0.0.1:1" || got.Delivery.Timeout != engine.Duration(4*time.Second) || len(got.Delivery.RetrySchedule) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, _, err := (&Loader{Path: file, Environ: []string{"HOOKBOLT_DELIVERY_RETRY_SCHEDULE=[]"}}).Load(); err != nil || len(got.Delivery.RetrySchedule) != 0 {
		t.Errorf("a list without items: %v, %v", got.Delivery.RetrySchedule, err)
	}
	if from["http.listen"] != file || from["delivery.timeout"] != "HOOKBOLT_DELIVERY_TIMEOUT" || from["log.level"] != "" {
		t.Errorf("origins %v", from)
	}
}

func isSecretFile(name string) bool {
	return strings.HasSuffix(name, "_tokens_file") || strings.HasSuffix(name, "_secret_file") || strings.HasSuffix(name, "_password_file") || strings.HasSuffix(name, "_url_file")
}

func TestBadEnvironment(t *testing.T) {
	const token = "0123456789abcdef"
	for _, tc := range []struct{ entry, want string }{
		{"HOOKBOLT_HTTP_LISTN=:1", "HOOKBOLT_HTTP_LISTN: there is no such setting"},
		{"HOOKBOLT_STORAGE_=x", "HOOKBOLT_STORAGE_: there is no such setting"},
		{"HOOKBOLT_HTTP_LISTEN=8080", `HOOKBOLT_HTTP_LISTEN: http.listen: must be a host and a port, such as 127.0.0.1:8080 (got "8080")`},
		{"HOOKBOLT_HTTP_MAX_BODY=1MB", `HOOKBOLT_HTTP_MAX_BODY: http.max_body: must be a size, such as "512KiB", "1MiB" or "1GiB" (got "1MB")`},
		{"HOOKBOLT_DELIVERY_TIMEOUT=5", `HOOKBOLT_DELIVERY_TIMEOUT: delivery.timeout: must be a duration, `},
		{"HOOKBOLT_DELIVERY_MAX_IN_FLIGHT=1.5", `HOOKBOLT_DELIVERY_MAX_IN_FLIGHT: delivery.max_in_flight: must be an integer (got "1.5")`},
		{"HOOKBOLT_DELIVERY_RETRY_JITTER=10%", `HOOKBOLT_DELIVERY_RETRY_JITTER: delivery.retry_jitter: must be a number (got "10%")`},
		{"HOOKBOLT_DELIVERY_PROXY_FROM_ENVIRONMENT=yes", `HOOKBOLT_DELIVERY_PROXY_FROM_ENVIRONMENT: delivery.proxy_from_environment: must be true or false (got "yes")`},
		{"HOOKBOLT_DELIVERY_RETRY_SCHEDULE=5s,,5m", `HOOKBOLT_DELIVERY_RETRY_SCHEDULE: delivery.retry_schedule: must be a duration, `},
		{"HOOKBOLT_DELIVERY_ALLOW_NETWORKS=localhost", `HOOKBOLT_DELIVERY_ALLOW_NETWORKS: delivery.allow_networks: must be a network or an address, `},
		{"HOOKBOLT_HTTP_ADMIN_TOKENS=" + token + ",short", `HOOKBOLT_HTTP_ADMIN_TOKENS: http.admin_tokens: each token must have at least 16 characters (number 2 has 5)`},
		{"HOOKBOLT_HTTP_INGEST_TOKENS=" + token, `HOOKBOLT_HTTP_INGEST_TOKENS: http.ingest_tokens: no token is asked for without an admin token`},
		{"HOOKBOLT_HTTP_TLS_CERT_FILE=x", `http.tls_key_file: must name a file, since http.tls_cert_file does`},
		{"HOOKBOLT_DELIVERY_OPERATIONS_URL=ops.example.com", "HOOKBOLT_DELIVERY_OPERATIONS_URL: delivery.operations_url: must be an http or https URL"},
		{"HOOKBOLT_DELIVERY_OPERATIONS_SECRET=" + token, "HOOKBOLT_DELIVERY_OPERATIONS_SECRET: delivery.operations_secret: must be whsec_"},
		{"HOOKBOLT_HTTP_PORT=8080", `HOOKBOLT_HTTP_PORT: there is no such setting`},
		{"HOOKBOLT_HTTP_SERVICE=x", `HOOKBOLT_HTTP_SERVICE: there is no such setting`},
		{"HOOKBOLT_LOG_LEVEL=loud", `HOOKBOLT_LOG_LEVEL: log.level: must be debug, info, warn, error (got "loud")`},
	} {
		_, _, err := (&Loader{Environ: []string{tc.entry}}).Load()
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", tc.entry, err, tc.want)
		}
	}
}

// TestVariableLineEnds: what sets a variable often got its value from a file that ends with a line end.
func TestVariableLineEnds(t *testing.T) {
	const secret = "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="
	cfg, from, err := (&Loader{Environ: []string{"HOOKBOLT_DELIVERY_OPERATIONS_SECRET=" + secret + "\n", "HOOKBOLT_DELIVERY_OPERATIONS_URL=https://ops.example/\r\n",
		"HOOKBOLT_HTTP_ADMIN_TOKENS=admin-token-number-1\n", "HOOKBOLT_DELIVERY_TIMEOUT=7s\n", "HOOKBOLT_LOG_LEVEL=\n"}}).Load()
	if err != nil || cfg.Delivery.OperationsSecret != secret || cfg.Delivery.OperationsURL != "https://ops.example/" || cfg.HTTP.AdminTokens[0] != "admin-token-number-1" ||
		time.Duration(cfg.Delivery.Timeout) != 7*time.Second || from["log.level"] != "" {
		t.Errorf("got %+v, %v", cfg.Delivery, err)
	}
	t.Setenv("X_SECRET", "a\nb\r\n")
	if value, ok := LookupVariable("X_SECRET"); value != "a\nb" || !ok || Variable("X_NONE") != "" {
		t.Errorf("got %q, %t", value, ok)
	}
}

// TestDatabaseFromFile reads the URL of a database with its password from a file, and does not show it.
func TestDatabaseFromFile(t *testing.T) {
	const url = "postgres://hookbolt:a-password@db.example.com/hookbolt"
	file := writeFile(t, filepath.Join(t.TempDir(), "database"), url+"\n")
	cfg, from, err := (&Loader{Environ: []string{"HOOKBOLT_STORAGE_DRIVER=postgres", "HOOKBOLT_STORAGE_POSTGRES_URL_FILE=" + file}}).Load()
	if err != nil || cfg.Storage.PostgresURL != url {
		t.Fatalf("%q, %v", cfg.Storage.PostgresURL, err)
	}
	var shown strings.Builder
	if err := cfg.Write(&shown, from); err != nil || strings.Contains(shown.String(), "a-password") || !strings.Contains(shown.String(), "postgres_url = \"…\"") {
		t.Errorf("%v\n%s", err, &shown)
	}
}

// TestSecretsFromFiles reads tokens from files, as those who manage secrets provide them.
func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string { return writeFile(t, filepath.Join(dir, name), text) }
	admin, ingest := write("admin", "admin-token-number-1\r\n\nadmin-token-number-2"), write("ingest", "ingest-token-number-1\n")
	cfg, from, err := (&Loader{Environ: []string{"HOOKBOLT_HTTP_ADMIN_TOKENS_FILE=" + admin, "HOOKBOLT_HTTP_INGEST_TOKENS_FILE=" + ingest}}).Load()
	if err != nil || !reflect.DeepEqual(cfg.HTTP.AdminTokens, []string{"admin-token-number-1", "admin-token-number-2"}) ||
		!reflect.DeepEqual(cfg.HTTP.IngestTokens, []string{"ingest-token-number-1"}) || cfg.HTTP.MetricsTokens != nil {
		t.Errorf("%+v, %v", cfg.HTTP, err)
	}
	secret := write("secret", "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE=\n")
	if cfg, _, err := (&Loader{Environ: []string{"HOOKBOLT_DELIVERY_OPERATIONS_SECRET_FILE=" + secret}}).Load(); err != nil || cfg.Delivery.OperationsSecret != "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE=" {
		t.Errorf("%+v, %v", cfg.Delivery, err)
	}
	password := write("password", "a pass,word\n")
	mail := []string{"HOOKBOLT_DELIVERY_OPERATIONS_SMTP=smtps://mail.example.com", "HOOKBOLT_DELIVERY_OPERATIONS_SMTP_USERNAME=u", "HOOKBOLT_DELIVERY_OPERATIONS_SMTP_PASSWORD_FILE=" + password,
		"HOOKBOLT_DELIVERY_OPERATIONS_MAIL_FROM=a@example.com", "HOOKBOLT_DELIVERY_OPERATIONS_MAIL_TO=b@example.com"}
	if cfg, _, err := (&Loader{Environ: mail}).Load(); err != nil || cfg.Delivery.OperationsSMTPPassword != "a pass,word" {
		t.Errorf("%+v, %v", cfg.Delivery, err)
	}
	if from["http.admin_tokens"] != "http.admin_tokens_file" {
		t.Errorf("origins %v", from)
	}
	example := &Loader{Path: exampleFile, Environ: []string{"HOOKBOLT_HTTP_ADMIN_TOKENS_FILE=" + admin}} // it has empty lists
	if cfg, _, err := example.Load(); err != nil || len(cfg.HTTP.AdminTokens) != 2 {
		t.Errorf("beside the empty list of the example: %q, %v", cfg.HTTP.AdminTokens, err)
	}
	for _, tc := range []struct {
		environ []string
		want    string
	}{
		{[]string{"HOOKBOLT_HTTP_ADMIN_TOKENS_FILE=" + dir + "/none"}, "HOOKBOLT_HTTP_ADMIN_TOKENS_FILE: http.admin_tokens_file: open "},
		{[]string{"HOOKBOLT_HTTP_ADMIN_TOKENS_FILE=" + write("empty", "\n")}, "HOOKBOLT_HTTP_ADMIN_TOKENS_FILE: http.admin_tokens_file: "},
		{[]string{"HOOKBOLT_DELIVERY_OPERATIONS_SECRET_FILE=" + admin}, "HOOKBOLT_DELIVERY_OPERATIONS_SECRET_FILE: delivery.operations_secret_file: " + admin + " must have one line (got 2)"},
		{[]string{"HOOKBOLT_DELIVERY_OPERATIONS_SECRET_FILE=" + ingest}, "HOOKBOLT_DELIVERY_OPERATIONS_SECRET_FILE: delivery.operations_secret_file: must be whsec_"},
		{[]string{"HOOKBOLT_HTTP_ADMIN_TOKENS_FILE=" + admin, "HOOKBOLT_HTTP_ADMIN_TOKENS=another-admin-token-1"}, "HOOKBOLT_HTTP_ADMIN_TOKENS_FILE: http.admin_tokens_file: http.admin_tokens is set, too"},
		{[]string{"HOOKBOLT_HTTP_ADMIN_TOKENS_FILE=" + write("short", "admin-token-number-1\nsecret")}, "HOOKBOLT_HTTP_ADMIN_TOKENS_FILE: http.admin_tokens_file: each token must have at least 16 characters (number 2 has 6)"},
	} {
		_, _, err := (&Loader{Environ: tc.environ}).Load()
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "token-number") {
			t.Errorf("%v: %v, want %s", tc.environ, err, tc.want)
		}
	}
}

// TestServiceVariables: Kubernetes sets variables for each service in the namespace, and Docker's links do. They say nothing to hookbolt, and must
// not stop it where a service is called hookbolt-http.
func TestServiceVariables(t *testing.T) {
	for _, service := range []string{"HTTP", "STORAGE", "DELIVERY", "LOG", "HTTP_INTERNAL"} {
		for _, entry := range []string{"_SERVICE_HOST=10.0.0.11", "_SERVICE_PORT=8080", "_SERVICE_PORT_WEB=8080", "_PORT=tcp://10.0.0.11:8080", "_PORT_8080_TCP=tcp://10.0.0.11:8080",
			"_PORT_8080_TCP_PROTO=tcp", "_PORT_8080_TCP_PORT=8080", "_PORT_8080_TCP_ADDR=10.0.0.11", "_PORT_53_UDP_ADDR=10.0.0.11", "_NAME=/proxy/hookbolt-http", "_ENV_PATH=/bin"} {
			if _, _, err := (&Loader{Environ: []string{"HOOKBOLT_" + service + entry}}).Load(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestLocalURL: a server on all addresses is found by loopback, and one on an address with a zone by a URL that has the zone.
func TestLocalURL(t *testing.T) {
	for listen, want := range map[string]string{
		":80": "http://127.0.0.1:80", "0.0.0.0:80": "http://127.0.0.1:80", "[::]:80": "http://[::1]:80", "[0:0:0:0:0:0:0:0]:80": "http://[::1]:80", "[::ffff:0.0.0.0]:80": "http://127.0.0.1:80",
		"10.0.0.1:80": "http://10.0.0.1:80", "localhost:80": "http://localhost:80", "[fe80::1%eth0]:80": "http://[fe80::1%25eth0]:80", "[::%eth0]:80": "http://[::1]:80",
	} {
		c := HTTP{Listen: listen}
		got := c.LocalURL()
		if got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
		if _, err := url.Parse(got); err != nil {
			t.Error(err)
		}
	}
}
