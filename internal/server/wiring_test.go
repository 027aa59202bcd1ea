package server_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/server"
)

// parse reads the text of a configuration file.
func parse(t *testing.T, text string) (config.Config, error) {
	cfg, _, err := (&config.Loader{Path: hookbolttest.Write(t, filepath.Join(t.TempDir(), "config.toml"), text)}).Load()
	return cfg, err
}

// TestDefaultEngineConfig: the settings' defaults are the engine's.
func TestDefaultEngineConfig(t *testing.T) {
	cfg := config.Default()
	got, want := server.EngineConfig(&cfg, "v1"), engine.DefaultConfig()
	want.Version = "v1"
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("the engine's part is %+v, want %+v", got, want)
	}
}

// TestEngineConfigHasEverySetting: each setting gets to the engine, under its own name.
func TestEngineConfigHasEverySetting(t *testing.T) {
	cfg, err := parse(t, `
		[http]
		shutdown_timeout = "41s"
		[storage]
		session_retention = "42h"
		delivery_retention = "43h"
		[delivery]
		timeout = "44s"
		max_in_flight = 45
		webhook_max_in_flight = 46
		retry_schedule = ["47s", "48m"]
		retry_jitter = 0.49
		retry_after_max = "50m"
		settle = "54s"
		pause_after = "53h"
		failing_after = "55h"
		proxy_from_environment = true
		operations_smtp = "smtps://mail.example.com"
		operations_smtp_username = "user"
		operations_smtp_password = "a-password-of-mine"
		operations_mail_from = "from@example.com"
		operations_mail_to = ["a@example.com", "b@example.com"]
		operations_secret = "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="
		ca_file = "56.pem"
		tls_dir = "57"
		allow_networks = ["10.51.0.0/16", "fd52::/32", "127.0.0.1"]`)
	if err != nil {
		t.Fatal(err)
	}
	want := engine.Config{
		Timeout:            44 * time.Second,
		MaxInFlight:        45,
		WebhookMaxInFlight: 46,
		Retry: engine.RetryPolicy{
			Schedule:      []engine.Duration{engine.Duration(47 * time.Second), engine.Duration(48 * time.Minute)},
			Jitter:        0.49,
			RetryAfterMax: 50 * time.Minute,
		},
		Settle:               54 * time.Second,
		PauseAfter:           53 * time.Hour,
		FailingAfter:         55 * time.Hour,
		ProxyFromEnvironment: true,
		CAFile:               "56.pem",
		TLSDir:               "57",
		AllowNetworks:        []netip.Prefix{netip.MustParsePrefix("10.51.0.0/16"), netip.MustParsePrefix("fd52::/32"), netip.MustParsePrefix("127.0.0.1/32")},
		Retention:            engine.Retention{Sessions: 42 * time.Hour, Deliveries: 43 * time.Hour},
		ShutdownTimeout:      41 * time.Second,
		OperationsURL:        "smtps://mail.example.com",
		OperationsMail: engine.OperationsMail{From: "from@example.com", To: []string{"a@example.com", "b@example.com"}, Username: "user",
			Password: "a-password-of-mine"},
		OperationsSecret: "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE=",
		Version:          "9.8.7",
	}
	compareFields(t, "", reflect.ValueOf(server.EngineConfig(&cfg, "9.8.7")), reflect.ValueOf(want), reflect.ValueOf(engine.DefaultConfig()))

	// The settings of these sections that the above leaves at their defaults are not the engine's.
	got, byDefault := reflect.ValueOf(cfg), reflect.ValueOf(config.Default())
	for _, section := range []string{"Storage", "Delivery"} {
		for i := range got.FieldByName(section).NumField() {
			name := section + "." + got.FieldByName(section).Type().Field(i).Name
			if !slices.Contains([]string{"Storage.Driver", "Storage.PostgresURL", "Storage.PostgresURLFile", "Storage.PostgresSchema", "Storage.PostgresInsecure", "Storage.Path", "Storage.MaxBytes", "Storage.MinFree", "Delivery.OperationsSecretFile", "Delivery.OperationsTransform", "Delivery.OperationsContentType", "Delivery.OperationsURL", "Delivery.OperationsSMTPPasswordFile"}, name) && reflect.DeepEqual(got.FieldByName(section).Field(i).Interface(), byDefault.FieldByName(section).Field(i).Interface()) {
				t.Errorf("%s has its default in this test: set another value", name)
			}
		}
	}
}

// compareFields compares field by field, and sees to it that none is wanted at its default: that would show nothing.
func compareFields(t *testing.T, path string, got, want, byDefault reflect.Value) {
	t.Helper()
	for i := range want.NumField() {
		name := path + want.Type().Field(i).Name
		g, w, d := got.Field(i), want.Field(i), byDefault.Field(i)
		switch {
		case name == "Transport", name == "Resolver", name == "RunPrograms": // for tests
		case name == "OperationsTransform", name == "OperationsContentType": // not beside a mail server; see TestOperationsTransform
		case w.Kind() == reflect.Struct:
			compareFields(t, name+".", g, w, d)
		case reflect.DeepEqual(w.Interface(), d.Interface()):
			t.Errorf("%s: %v is the default: this test needs another value, and the setting for it", name, w)
		case !reflect.DeepEqual(g.Interface(), w.Interface()):
			t.Errorf("%s: got %v, want %v", name, g, w)
		}
	}
}

// TestHTTPSettingsAreWired: the settings of [http] that are not the engine's do what they say in a running server.
func TestHTTPSettingsAreWired(t *testing.T) {
	const admin, admin2, read, ingest, metrics = "admin-token-number-1", "admin-token-number-2", "read-token-number-1", "ingest-token-number-1", "metrics-token-number-1"
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), `
		max_body = "2KiB"
		admin_tokens = ["`+admin+`", "bob `+admin2+`"]
		read_tokens = ["`+read+`"]
		ingest_tokens = ["`+ingest+`"]
		metrics_tokens = ["`+metrics+`"]
		cors_origins = ["https://quiz.example.com"]`, ""))
	api := p.URL(t)

	routes := []struct{ method, path, body string }{
		{"POST", "/v1/events", hookbolttest.Session}, {"GET", "/metrics", ""}, {"GET", "/v1/webhooks", ""}, {"GET", "/v1/deliveries", ""}, {"GET", "/healthz", ""}, {"GET", "/readyz", ""},
	}
	for _, tc := range []struct {
		token string
		want  [6]int
	}{
		{admin, [6]int{202, 200, 200, 200, 200, 200}},
		{admin2, [6]int{202, 200, 200, 200, 200, 200}},
		{read, [6]int{403, 200, 200, 200, 200, 200}},
		{ingest, [6]int{202, 403, 403, 403, 200, 200}},
		{metrics, [6]int{403, 200, 403, 403, 200, 200}},
		{"", [6]int{401, 401, 401, 401, 200, 200}},
		{"another-token-number-1", [6]int{401, 401, 401, 401, 200, 200}},
	} {
		for i, r := range routes {
			if status, answer := hookbolttest.CallAs(t, tc.token, r.method, api+r.path, r.body); status != tc.want[i] {
				t.Errorf("%s %s with token %q: %d, want %d: %s", r.method, r.path, tc.token, status, tc.want[i], answer)
			}
		}
	}

	status, answer := hookbolttest.CallAs(t, admin2, "POST", api+"/v1/webhooks", `{"url":"https://example.com/"}`)
	hookbolttest.WantStatus(t, 201, status, answer)
	p.Stderr.Find(t, `msg=audit by=bob operation="POST /v1/webhooks" webhook=1 settings=\[url\] status=201 address=127.0.0.1`)

	req, err := http.NewRequestWithContext(t.Context(), "OPTIONS", api+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://quiz.example.com")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "https://quiz.example.com" {
		t.Errorf("a page of a listed origin is answered %s, Access-Control-Allow-Origin %q", resp.Status, got)
	}

	fill := func(size int) string {
		return hookbolttest.Session + strings.Repeat(" ", size-len(hookbolttest.Session))
	}
	status, answer = hookbolttest.CallAs(t, ingest, "POST", api+"/v1/events", fill(2048))
	hookbolttest.WantStatus(t, 202, status, answer)
	status, answer = hookbolttest.CallAs(t, ingest, "POST", api+"/v1/events", fill(2049))
	hookbolttest.WantStatus(t, 413, status, answer)
	if !strings.Contains(answer, "2048") && !strings.Contains(answer, "2KiB") {
		t.Errorf("the answer does not name the limit: %s", answer)
	}
}
