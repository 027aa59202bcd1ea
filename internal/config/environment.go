package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// environmentPrefix begins the names of the variables of settings: HOOKBOLT_HTTP_LISTEN is http.listen.
const environmentPrefix = "HOOKBOLT_"

// readEnvironment overrides settings with those of the environment. An empty variable counts as not set: that is how Compose and others
// pass on a variable that is not set. A variable that begins like a section and is no setting is refused: it is most likely misspelled.
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
		value = trimLineEnds(value) // as LookupVariable does
		switch {
		case !ok && isServiceVariable(variable, value):
			continue
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

// serviceVariable are the names that Kubernetes makes for a service, such as HOOKBOLT_HTTP_SERVICE_HOST for one called hookbolt-http, and
// those that links between Docker's containers make.
var serviceVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|ENV_\w+)$`)

// isServiceVariable reports whether a variable describes a service of the network that hookbolt runs in: it was set by no user of hookbolt.
func isServiceVariable(variable, value string) bool {
	// The address of the service's first port; HOOKBOLT_HTTP_PORT with a number is a mistake of the user's.
	address := strings.HasSuffix(variable, "_PORT") && strings.Contains(value, "://")
	link := strings.HasSuffix(variable, "_NAME") && strings.HasPrefix(value, "/")
	return address || link || serviceVariable.MatchString(variable)
}

// IsVariable reports whether a variable is read as a setting: whether its name begins with that of a section.
func IsVariable(variable string) bool {
	for section := range reflect.TypeFor[Config]().Fields() {
		if strings.HasPrefix(variable, environmentPrefix+strings.ToUpper(section.Tag.Get("toml"))+"_") {
			return true
		}
	}
	return false
}

// setText parses a text as the value of a setting. The items of a list are separated by commas.
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
