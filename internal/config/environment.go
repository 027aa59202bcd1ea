package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// environmentPrefix begins the names of the variables that settings may come from: HOOKBOLT_HTTP_LISTEN is http.listen.
const environmentPrefix = "HOOKBOLT_"

// readEnvironment puts what variables say in the place of that. An empty variable is as good as none: that is how Compose and others pass
// one on that is not set. One that begins with the name of a section and is no setting is refused, since it is most likely a typing error.
func (c *Config) readEnvironment(environ []string, from Origins) error {
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
		case !ok && IsVariable(variable):
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

// IsVariable tells whether a setting may come from a variable of this name: whether it begins with the name of a section.
func IsVariable(variable string) bool {
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
