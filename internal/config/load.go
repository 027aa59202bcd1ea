package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"hookbolt/internal/text"
)

// Loader says where settings come from: a file overrides the defaults, the environment overrides the file, flags add networks.
type Loader struct {
	Path    string    // of the file; "" for none
	Environ []string  // "NAME=value", as from os.Environ
	Allow   []Network // beside those of delivery.allow_networks
}

// Load reads and validates all settings. An error is one line that names the setting, and the file or the variable, and shows no secret.
func (l *Loader) Load() (Config, Origins, error) {
	cfg, from := Default(), make(Origins)
	if l.Path != "" {
		text, err := readRegular(l.Path)
		if err != nil {
			return Config{}, nil, fmt.Errorf("configuration: %w", err)
		}
		if err := cfg.readFile(string(text), l.Path, from); err != nil {
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

// Origins says where each setting comes from that was set: the path of the file, the name of a variable, or the setting that names the file
// of a secret.
type Origins map[string]string

// FromFile reports whether any setting comes from the file at a path.
func (o Origins) FromFile(path string) bool {
	return slices.Contains(slices.Collect(maps.Values(o)), path)
}

// Locate prefixes an error that begins with the name of a setting with the origin of that setting.
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

// readFile overrides settings with those of a file.
func (c *Config) readFile(file, path string, from Origins) error {
	// Decode twice: first for the syntax and the names, then for the values. So a misspelled name is reported as unknown, even if only its
	// case is wrong, which the decoder accepts.
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

// valueError turns an error of a value into one line in the words of the file, instead of Go's.
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
