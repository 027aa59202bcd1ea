package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// FuzzConfig: a configuration file gives valid settings, which come back if they are written down again, or one line that shows no
// token.
func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	for _, text := range []string{
		"", "# nothing", "[http]\nlisten = \":9999\"\nadmin_tokens = [\"an-admin-token-of-mine\"]\ningest_tokens = [\"an-ingest-token-of-mine\"]",
		"[http]\nlisten = \"a\\nb:80\"", "[http]\nadmin_tokens = [\"an-admin-token\\nof-mine\"]", "http.admin_tokens = 5", "[http]\nlisten = \"0.0.0.0:80\"",
		"[http]\nmax_body = 2048\nshutdown_timeout = \"0s\"", "[storage]\nmax_bytes = \"1TiB\"\nmin_free = 0\npath = '\x7f'", "[delivery]\ntimeout = 5",
		"[delivery]\nretry_schedule = [\"1s\", \"24h0m0s\"]\nallow_networks = [\"10.0.0.0/8\", \"::ffff:1.2.3.4\", \"fe80::1\"]\nretry_jitter = nan",
		"[delivery]\nretry_jitter = 1\nproxy_from_environment = true\nmax_in_flight = 0", "[Delivery]\ntimeout = \"1s\"", "[delivery.timeout]\nx = 1",
		"\"a\\nb\" = 1", "[log]\nlevel = \"debug\"\nformat = \"json\"", "log = 1", "[[http]]", "[http]\nlisten = 2024-01-01", "a = \"\\u0000", "\ufeff[log]", "[log]\nlevel = [1]",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := parseConfig(text)
		if err != nil {
			said := err.Error()
			if said == "" || len(said) > 400+2*len(text) || strings.ContainsFunc(said, unicode.IsControl) || !utf8.ValidString(said) {
				t.Fatalf("not one line of text: %q", said)
			}
			for _, token := range tokensIn(text) {
				if len(token) >= minTokenBytes && strings.Contains(said, token) {
					t.Fatalf("a token stands in the error: %s", said)
				}
			}
			return
		}
		if err := cfg.Validate(); err != nil {
			t.Fatalf("accepted, but not valid: %v", err)
		}
		sections := make(map[string]any)
		for section := range reflect.TypeFor[Config]().Fields() {
			values := make(map[string]any)
			from := reflect.ValueOf(cfg).FieldByIndex(section.Index)
			for setting := range section.Type.Fields() {
				if v := from.FieldByIndex(setting.Index); v.Kind() != reflect.Slice || v.Len() > 0 {
					values[setting.Tag.Get("toml")] = writtenDown(v)
				}
			}
			sections[section.Tag.Get("toml")] = values
		}
		again, err := toml.Marshal(sections)
		if err != nil {
			t.Fatal(err)
		}
		cfg2, err := parseConfig(string(again))
		if err != nil || fmt.Sprintf("%+v", cfg2) != fmt.Sprintf("%+v", withoutEmptyLists(cfg)) {
			t.Fatalf("%+v\nwritten down as\n%s\ngives %+v\n%v", cfg, again, cfg2, err)
		}
	})
}

// withoutEmptyLists sets what an empty list, which is not written down, stands for: of retries the default.
func withoutEmptyLists(cfg Config) Config {
	if len(cfg.Delivery.RetrySchedule) == 0 {
		cfg.Delivery.RetrySchedule = Default().Delivery.RetrySchedule
	}
	return cfg
}

// tokensIn returns what a file has for tokens, as far as it can be read.
func tokensIn(text string) []string {
	var file struct {
		HTTP struct {
			AdminTokens   []string `toml:"admin_tokens"`
			ReadTokens    []string `toml:"read_tokens"`
			IngestTokens  []string `toml:"ingest_tokens"`
			MetricsTokens []string `toml:"metrics_tokens"`
		} `toml:"http"`
	}
	toml.Decode(text, &file)
	return slices.Concat(file.HTTP.AdminTokens, file.HTTP.ReadTokens, file.HTTP.IngestTokens, file.HTTP.MetricsTokens)
}
