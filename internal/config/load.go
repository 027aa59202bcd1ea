package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"

	"hookbolt/internal/text"
)

// Loader is where settings come from: a file over the defaults, the environment over that, networks from flags beside.
type Loader struct {
	Path    string    // of the file; "" for none
	Environ []string  // "NAME=value", as from os.Environ
	Allow   []Network // beside those of delivery.allow_networks
}

// Load reads and validates all settings. Its errors are one line, show no secret, and name what to look at: the file or the variable, and
// the setting.
func (l *Loader) Load() (Config, Origins, error) {
	cfg, from := Default(), make(Origins)
	if l.Path != "" {
		file, err := os.ReadFile(l.Path)
		if err != nil {
			return Config{}, nil, fmt.Errorf("configuration: %w", err)
		}
		if err := cfg.readFile(string(file), l.Path, from); err != nil {
			return Config{}, nil, fmt.Errorf("%s: %w", l.Path, err)
		}
	}
	if err := cfg.readEnvironment(l.Environ, from); err != nil {
		return Config{}, nil, err
	}
	if err := cfg.readSecrets(from); err != nil {
		return Config{}, nil, from.Locate(err)
	}
	if len(l.Allow) > 0 {
		cfg.Delivery.AllowNetworks = append(cfg.Delivery.AllowNetworks, l.Allow...)
		from["delivery.allow_networks"] = strings.TrimPrefix(from["delivery.allow_networks"]+", -allow", ", ")
	}
	return cfg, from, from.Locate(cfg.Validate())
}

// Origins tells of each setting that is not at its default where it comes from: the path of the file, the name of a variable, or the
// setting that names the file of a secret.
type Origins map[string]string

// Locate puts in front of an error, which begins with the name of a setting, where that comes from.
func (o Origins) Locate(err error) error {
	if err == nil {
		return nil
	}
	name, _, _ := strings.Cut(err.Error(), ":")
	if from := o[name]; from != "" {
		return fmt.Errorf("%s: %w", from, err)
	}
	return err
}

// readFile puts what a file says in the place of the defaults.
func (c *Config) readFile(file, path string, from Origins) error {
	// Once for the syntax and the names, then for the values: so a typing error in a name is called by that name, also where it
	// is in the case alone (the decoder would let that pass).
	md, err := toml.Decode(file, &map[string]any{})
	if err != nil {
		return text.TOMLSyntax(err)
	}
	known := knownNames()
	for _, key := range md.Keys() {
		if !known[key.String()] {
			return fmt.Errorf("%s: unknown setting", key)
		}
		from[key.String()] = path
	}
	if _, err := toml.Decode(file, c); err != nil {
		return valueError(err)
	}
	return nil
}

var (
	wrongType  = regexp.MustCompile(`^toml: (line \d+) \(last key "(.+)"\): incompatible types: TOML value has type (\w+); destination has type (\w+)$`)
	wrongTable = regexp.MustCompile(`^toml: (line \d+) \(last key "(.+)"\): type mismatch for \S+: expected table but found (\w+)$`)
	typeNames  = map[string]string{"slice": "list", "array": "list", "int64": "integer", "float": "number", "float64": "number", "bool": "boolean"}
)

// valueError makes one line of a value that its setting does not take, in the words of the file instead of Go's.
func valueError(err error) error {
	if pe, ok := errors.AsType[toml.ParseError](err); ok { // from an UnmarshalText
		return fmt.Errorf("line %d: %s: %s", pe.Position.Line, pe.LastKey, pe.Message)
	}
	word := func(name string) string {
		if w, ok := typeNames[name]; ok {
			name = w
		}
		if strings.ContainsAny(name[:1], "aeiou") {
			return "an " + name
		}
		return "a " + name
	}
	if m := wrongType.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s: %s: must be %s (got %s)", m[1], m[2], word(m[4]), word(m[3]))
	}
	if m := wrongTable.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s: %s: must be a section, [%[2]s] (got %s)", m[1], m[2], word(m[3]))
	}
	return err
}
