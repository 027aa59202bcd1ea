package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// settingsFlags are the flags of the commands that read settings.
func settingsFlags(fs *flag.FlagSet) (path *string, allow *networkList) {
	path, allow = new(string), new(networkList)
	fs.StringVar(path, "config", os.Getenv(configVariable), "read settings from `FILE` (config.example.toml has them all)")
	fs.Var(allow, "allow", "allow endpoints in `NETWORK`, such as 127.0.0.0/8 or 10.1.2.3; may be given more than once")
	return path, allow
}

// configCommand is "hookbolt config check": what serve would go by, with secrets masked, or why it would not start.
func configCommand(_ context.Context, args []string, stdout, _ io.Writer) error {
	check := len(args) > 0 && args[0] == "check"
	if check {
		args = args[1:]
	}
	fs := flag.NewFlagSet("config", flag.ContinueOnError)
	path, allow := settingsFlags(fs)
	err := parseFlags(fs, args, stdout, "\"hookbolt config check\" prints the settings that serve would go by, and where each comes from; secrets are masked.\n"+
		"Where serve would refuse them it says why, and exits with 1. The flags are those of serve.")
	switch {
	case err != nil:
		return err
	case !check:
		return usageError{fmt.Errorf("config: say \"hookbolt config check\"")}
	}
	settings := &loader{path: *path, environ: os.Environ(), allow: *allow}
	cfg, from, err := settings.load()
	if err != nil {
		return err
	}
	if cfg.HTTP.TLSCertFile != "" {
		if _, err := readCertificate(&cfg.HTTP, nil); err != nil {
			return err
		}
	}
	if err := cfg.checkOperationsAddress(); err != nil {
		return from.locate(err)
	}
	return cfg.print(stdout, from)
}

// print writes the settings as a file would have them, with where each comes from.
func (c *Config) print(w io.Writer, from origins) error {
	var text strings.Builder
	section := ""
	for name, value := range c.settings() {
		of, key, _ := strings.Cut(name, ".")
		if of != section {
			fmt.Fprintf(&text, "%s[%s]\n", strings.Repeat("\n", min(len(section), 1)), of)
			section = of
		}
		written := writtenDown(value)
		if slices.Contains(secretSettings(), name) {
			written = masked(value)
		}
		line, err := toml.Marshal(map[string]any{key: written})
		if err != nil {
			return fmt.Errorf("write %s down: %w", name, err)
		}
		origin := from[name]
		if origin == "" {
			origin = "default"
		}
		fmt.Fprintf(&text, "%-48s # %s\n", strings.TrimSuffix(string(line), "\n"), origin)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// secretSettings are the names of those that are shown to nobody.
func secretSettings() []string {
	var names []string
	for section := range reflect.TypeFor[Config]().Fields() {
		for setting := range section.Type.Fields() {
			if setting.Tag.Get("secret") != "" {
				names = append(names, section.Tag.Get("toml")+"."+setting.Tag.Get("toml"))
			}
		}
	}
	return names
}

// masked shows of a secret only that it is there, of a list how many there are.
func masked(v reflect.Value) any {
	const mask = "…"
	if v.Kind() == reflect.Slice {
		return slices.Repeat([]string{mask}, v.Len())
	}
	if v.IsZero() {
		return ""
	}
	return mask
}

// writtenDown is a setting's value as it stands in a file.
func writtenDown(v reflect.Value) any {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	if v.Kind() != reflect.Slice {
		return v.Interface()
	}
	list := []any{}
	for i := range v.Len() {
		list = append(list, writtenDown(v.Index(i)))
	}
	return list
}
