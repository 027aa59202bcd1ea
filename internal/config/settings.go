package config

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
)

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

// knownNames are the names of all sections and settings, such as "delivery" and "delivery.timeout".
func knownNames() map[string]bool {
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

// Names are the names of all settings, such as "delivery.timeout", sorted.
func Names() []string {
	all := slices.Sorted(maps.Keys(knownNames()))
	return slices.DeleteFunc(all, func(name string) bool { return !strings.Contains(name, ".") })
}

// Replace prepares c to replace before in a running server. The settings named by fixed cannot change in a running server: they keep the
// values of before. Replace returns the names of the settings that change, and of those that are kept although c had another value.
func (c *Config) Replace(before *Config, fixed ...string) (changed, kept []string) {
	old := maps.Collect(before.settings())
	for name, value := range c.settings() {
		switch {
		case reflect.DeepEqual(value.Interface(), old[name].Interface()):
		case slices.Contains(fixed, name):
			kept = append(kept, name)
			value.Set(old[name])
		default:
			changed = append(changed, name)
		}
	}
	return changed, kept
}

// ReadsFiles reports whether a setting names a file, other than the database, whose content may change, or a directory of such files.
func (c *Config) ReadsFiles() bool {
	for name, value := range c.settings() {
		if (strings.HasSuffix(name, "_file") || name == "delivery.tls_dir") && value.String() != "" {
			return true
		}
	}
	return false
}
