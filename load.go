package main

import (
	"encoding"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// environmentPrefix begins the names of the variables that settings may come from: HOOKBOLT_HTTP_LISTEN is http.listen.
const environmentPrefix = "HOOKBOLT_"

// configVariable names the configuration file where no flag does.
const configVariable = environmentPrefix + "CONFIG"

// loader is where settings come from: a file over the defaults, the environment over that, networks from flags beside.
type loader struct {
	path    string   // "" for none
	environ []string // "NAME=value", as from os.Environ
	allow   networkList
}

// load reads and validates all settings. Its errors are one line, show no secret, and name what to look at: the file or the variable, and
// the setting.
func (l *loader) load() (Config, origins, error) {
	text := ""
	if l.path != "" {
		file, err := os.ReadFile(l.path)
		if err != nil {
			return Config{}, nil, fmt.Errorf("configuration: %w", err)
		}
		text = string(file)
	}
	cfg, from := DefaultConfig(), make(origins)
	if err := cfg.readFile(text, l.path, from); err != nil {
		return Config{}, nil, fmt.Errorf("%s: %w", l.path, err)
	}
	if err := cfg.readEnvironment(l.environ, from); err != nil {
		return Config{}, nil, err
	}
	if err := cfg.readSecrets(from); err != nil {
		return Config{}, nil, from.locate(err)
	}
	if len(l.allow) > 0 {
		cfg.Delivery.AllowNetworks = append(cfg.Delivery.AllowNetworks, l.allow...)
		from["delivery.allow_networks"] = strings.TrimPrefix(from["delivery.allow_networks"]+", -allow", ", ")
	}
	return cfg, from, from.locate(cfg.Validate())
}

// origins tells of each setting that is not at its default where it comes from: the path of the file, the name of a variable, or the
// setting that names the file of a secret.
type origins map[string]string

// locate puts in front of an error, which begins with the name of a setting, where that comes from.
func (o origins) locate(err error) error {
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
func (c *Config) readFile(text, path string, from origins) error {
	// Once for the syntax and the names, then for the values: so a typing error in a name is called by that name, also where it
	// is in the case alone (the decoder would let that pass).
	md, err := toml.Decode(text, &map[string]any{})
	if err != nil {
		return syntaxError(err)
	}
	known := settingNames()
	for _, key := range md.Keys() {
		if !known[key.String()] {
			return fmt.Errorf("%s: unknown setting", key)
		}
		from[key.String()] = path
	}
	if _, err := toml.Decode(text, c); err != nil {
		return valueError(err)
	}
	return nil
}

// readEnvironment puts what variables say in the place of that. An empty variable is as good as none: that is how Compose and others pass
// one on that is not set. One that begins with the name of a section and is no setting is refused, since it is most likely a typing error.
func (c *Config) readEnvironment(environ []string, from origins) error {
	fields := make(map[string]reflect.Value)
	names := make(map[string]string)
	for name, field := range c.settings() {
		variable := environmentPrefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
		fields[variable], names[variable] = field, name
	}
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		field, ok := fields[variable]
		switch {
		case !ok && isSettingVariable(variable):
			return fmt.Errorf("%s: there is no such setting; http.listen, for example, is HOOKBOLT_HTTP_LISTEN", variable)
		case !ok || value == "":
			continue
		}
		if err := setText(field, value); err != nil {
			return fmt.Errorf("%s: %s: %w", variable, names[variable], err)
		}
		from[names[variable]] = variable
	}
	return nil
}

// isSettingVariable tells whether a variable's name begins with that of a section.
func isSettingVariable(variable string) bool {
	for section := range reflect.TypeFor[Config]().Fields() {
		if strings.HasPrefix(variable, environmentPrefix+strings.ToUpper(section.Tag.Get("toml"))+"_") {
			return true
		}
	}
	return false
}

// setText sets a setting to what a text says; lists have commas between their items.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("must be an integer (got %.40q)", text)
		}
		v.SetInt(int64(n))
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("must be a number (got %.40q)", text)
		}
		v.SetFloat(f)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("must be true or false (got %.40q)", text)
		}
		v.SetBool(text == "true")
	case reflect.Slice:
		items := strings.Split(text, ",")
		if text == "[]" { // an empty variable is no variable
			items = nil
		}
		list := reflect.MakeSlice(v.Type(), len(items), len(items))
		for i, item := range items {
			if err := setText(list.Index(i), strings.TrimSpace(item)); err != nil {
				return err
			}
		}
		v.Set(list)
	default:
		panic("no text for a " + v.Kind().String()) // a setting of a new kind
	}
	return nil
}

// readSecrets reads the settings that stand in files of their own: what "x_file" names is the value of x.
func (c *Config) readSecrets(from origins) error {
	fields := maps.Collect(c.settings())
	for name, field := range c.settings() {
		of, isFile := strings.CutSuffix(name, "_file")
		secret, ok := fields[of]
		if !isFile || !ok || field.String() == "" {
			continue
		}
		// An empty list, as config.example.toml has it, sets nothing.
		if !secret.IsZero() && (secret.Kind() != reflect.Slice || secret.Len() > 0) {
			return fmt.Errorf("%s: %s is set, too: set one of them", name, of)
		}
		text, err := readSecretFile(field.String())
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
		switch secret.Kind() {
		case reflect.Slice: // a line for each
			secret.Set(reflect.ValueOf(lines))
		default:
			if len(lines) > 1 {
				return fmt.Errorf("%s: %s must have one line (got %d)", name, field.String(), len(lines))
			}
			secret.SetString(lines[0])
		}
		from[of] = name
	}
	return nil
}

// settings yields the name and the value of each setting, in the order of the file.
func (c *Config) settings() iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		all := reflect.ValueOf(c).Elem()
		for section, settings := range all.Fields() {
			for setting, value := range settings.Fields() {
				if !yield(section.Tag.Get("toml")+"."+setting.Tag.Get("toml"), value) {
					return
				}
			}
		}
	}
}

// settingNames are the names of all sections and settings, such as "delivery" and "delivery.timeout".
func settingNames() map[string]bool {
	names := make(map[string]bool)
	for section := range reflect.TypeFor[Config]().Fields() {
		name := section.Tag.Get("toml")
		names[name] = true
		for setting := range section.Type.Fields() {
			names[name+"."+setting.Tag.Get("toml")] = true
		}
	}
	return names
}

// syntaxError makes one line of an error in the syntax.
func syntaxError(err error) error {
	pe, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return err
	}
	message := strings.Map(func(r rune) rune { // it may quote the file
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, pe.Message)
	return fmt.Errorf("line %d, column %d: %s", pe.Position.Line, pe.Position.Col, quotedText.ReplaceAllString(message, "…"))
}

// quotedText is what the decoder repeats of a file: a value without its quotes may be a secret. A single character, of which it says that
// another one was expected, is none. Large numbers it repeats as they are.
var quotedText = regexp.MustCompile(`"[^"]{2,}.*"|\b[0-9]\w{7,}\b`)

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
