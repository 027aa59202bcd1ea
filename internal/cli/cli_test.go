package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hookbolt/internal/hookbolttest"
)

func TestBadCommandLines(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open.toml")
	if err := os.WriteFile(open, []byte("[http]\nlisten = \"0.0.0.0:0\""), 0o600); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(dir, "lost.toml")
	if err := os.WriteFile(lost, fmt.Appendf(nil, "[storage]\npath = '%s'", filepath.Join(dir, "none", "none", "x.db")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"surf", 2, `unknown command "surf"; "hookbolt help" lists the commands`},
		{"help surf", 2, `unknown command "surf"`},
		{"-verbose", 2, `serve: flag provided but not defined: -verbose; "hookbolt help serve" lists the flags`},
		{"serve now", 2, `serve: unexpected argument "now"`},
		{"serve -allow localhost", 2, `serve: invalid value "localhost" for flag -allow: must be a network or an address`},
		{"serve -config", 2, `serve: flag needs an argument: -config`},
		{"serve -config " + filepath.Join(dir, "none.toml"), 1, `configuration: open `},
		{"serve -config " + dir, 1, `configuration: `},
		{"serve -config " + open, 1, open + `: http.listen: 0.0.0.0:0 can be reached from other machines`},
		{"serve -config " + lost, 1, `storage.path: the directory `},
		{"demo -fast", 2, `demo: flag provided but not defined: -fast`},
		{"listen -secret hush", 2, `listen: -secret must be whsec_ followed by the base64 of 24 to 64 bytes: whsec_ in front of it is missing`},
		{"bench -url localhost:8080", 2, `bench: -url must be an http or https URL: write https:// in front`},
		{"status -url http://a..b", 2, `status: -url must name a host without empty parts`},
		{"listen -status 99", 2, `listen: -status must be 200 to 599 (got 99)`},
		{"listen -status 99999", 2, `listen: -status must be 200 to 599 (got 99999)`},
		{"listen -delay -1s", 2, `listen: -delay and -fail must not be negative`},
		{"listen -fail -1", 2, `listen: -delay and -fail must not be negative`},
		{"listen -delay soon", 2, `listen: invalid value "soon" for flag -delay`},
		{"listen -addr nowhere", 1, `listen: `},
		{"version 2", 2, `version: unexpected argument "2"`},
		{"check", 2, `check: expects FILE; usage: hookbolt check FILE`},
		{"check a b", 2, `check: unexpected argument "b"; usage: hookbolt check FILE`},
		{"check -deep a", 2, `check: flag provided but not defined: -deep`},
		{"check " + filepath.Join(dir, "none.db"), 1, `check database `},
		{"check " + open, 1, `check database ` + open + `: not a hookbolt database`},
		{"compact a", 2, `compact: expects FILE OUT; usage: hookbolt compact FILE OUT`},
		{"compact a b c", 2, `compact: unexpected argument "c"; usage: hookbolt compact FILE OUT`},
		{"compact " + filepath.Join(dir, "none.db") + " " + filepath.Join(dir, "out.db"), 1, `compact database `},
	} {
		t.Run(tc.args, func(t *testing.T) {
			p := hookbolttest.Start(t, strings.Fields(tc.args)...)
			if code := p.Exit(t); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if got := p.Stderr.String(); !strings.HasPrefix(got, "hookbolt: "+tc.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("it said %q, want one line beginning with %q", got, "hookbolt: "+tc.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"help", "Usage: hookbolt [command] [flags]"},
		{"-h", "Usage: hookbolt [command] [flags]"},
		{"--help", "Usage: hookbolt [command] [flags]"},
		{"help serve", "-allow NETWORK"},
		{"serve -h", "-config FILE"},
		{"demo -h", "-keep"},
		{"listen --help", "-secret SECRET"},
		{"help check", "Usage: hookbolt check FILE\n"},
		{"compact -h", "Usage: hookbolt compact FILE OUT\n"},
		{"version", "hookbolt "},
		{"-version", runtime.Version()},
	} {
		p := hookbolttest.Start(t, strings.Fields(tc.args)...)
		if code := p.Exit(t); code != 0 {
			t.Errorf("%s: exit code %d", tc.args, code)
		}
		if !strings.Contains(p.Stdout.String(), tc.want) || p.Stderr.String() != "" {
			t.Errorf("%s: it said %q and %q, want %q", tc.args, p.Stdout, p.Stderr, tc.want)
		}
	}
	if _, usage, _ := hookbolttest.Run(t, "help"); strings.Contains(usage, "inspect") || strings.Contains(usage, "bench-relay") || strings.Contains(usage, "transform-worker") {
		t.Errorf("the usage has commands that are not for people:\n%s", usage)
	}
}
