package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"hookbolt/engine"
)

// FuzzConfig: a configuration file gives valid settings, which come back if they are written down again, or one line that shows no
// token.
func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("config.example.toml")
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
		cfg.engine("v1")
		cfg.Log.logger(t.Output())
	})
}

// withoutEmptyLists sets what an empty list, which is not written down, stands for: of retries the default.
func withoutEmptyLists(cfg Config) Config {
	if len(cfg.Delivery.RetrySchedule) == 0 {
		cfg.Delivery.RetrySchedule = DefaultConfig().Delivery.RetrySchedule
	}
	return cfg
}

// tokensIn returns what a file has for tokens, as far as it can be read.
func tokensIn(text string) []string {
	var file struct {
		HTTP struct {
			AdminTokens   []string `toml:"admin_tokens"`
			IngestTokens  []string `toml:"ingest_tokens"`
			MetricsTokens []string `toml:"metrics_tokens"`
		} `toml:"http"`
	}
	toml.Decode(text, &file)
	return append(append(file.HTTP.AdminTokens, file.HTTP.IngestTokens...), file.HTTP.MetricsTokens...)
}

// FuzzReceiver: whatever listen gets, what it prints steers no terminal and is no longer than what came, and it answers.
func FuzzReceiver(f *testing.F) {
	f.Add("POST", "/hook?a=b", "msg_1", "v1,abc", []byte(`{"a":[1,"\u001b[31m",{"b":null}]}`))
	f.Add("GET", "/\x1b[2J", "\x1b]0;title\x07", "", []byte("\x9b31m\xff"))
	f.Add("PUT", "*", "", "v1,", []byte(strings.Repeat(`[`, 100)))
	f.Add("POST", "/", "a", "v1", []byte(`{"a":"`+strings.Repeat("\u0085\u200b", 3000)+`"}`))
	f.Fuzz(func(t *testing.T, method, path, id, signature string, body []byte) {
		var printed bytes.Buffer
		rec := newReceiver(&printed)
		rec.secret = sampleSecret
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Method, r.URL.Path = method, path
		r.Header = http.Header{}
		r.Header.Set(engine.HeaderID, id)
		r.Header.Set(engine.HeaderTimestamp, strconv.FormatInt(time.Now().Unix(), 10))
		r.Header.Set(engine.HeaderSignature, signature)
		w := httptest.NewRecorder()
		rec.ServeHTTP(w, r)
		if w.Code != 200 || !strings.Contains(printed.String(), "signature WRONG") {
			t.Fatalf("answered %d: %q", w.Code, printed.String())
		}
		for _, c := range printed.String() {
			if unicode.IsControl(c) && c != '\n' && c != '\t' {
				t.Fatalf("%q is printed: %q", c, printed.String())
			}
		}
		if !utf8.Valid(printed.Bytes()) || printed.Len() > 1000+3*(len(method)+3*len(path)+len(id))+(3+4*maxIndented)*len(body) {
			t.Fatalf("%d bytes are printed of %d: %q", printed.Len(), len(body), printed.String())
		}
		// The right signature passes.
		printed.Reset()
		rec.ServeHTTP(httptest.NewRecorder(), webhookRequest(t.Context(), id, string(body)))
		if id != "" && !strings.Contains(printed.String(), "signature ok") {
			t.Fatalf("a right signature does not pass: %q", printed.String())
		}
	})
}
