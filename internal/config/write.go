package config

import (
	"fmt"
	"io"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Write writes the settings as a configuration file, with the origin of each as a comment. Secrets are masked.
func (c *Config) Write(w io.Writer, from Origins) error {
	var text strings.Builder
	section := ""
	secrets := secretSettings()
	for name, value := range c.settings() {
		of, key, _ := strings.Cut(name, ".")
		if of != section {
			fmt.Fprintf(&text, "%s[%s]\n", strings.Repeat("\n", min(len(section), 1)), of)
			section = of
		}
		written := writtenDown(value)
		switch secrets[name] {
		case "true":
			written = masked(value)
		case "path":
			written = withoutPath(value.String())
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

// secretSettings has the settings that are not shown as they are: "true" for one that is never shown, "path" for a URL of which only the host
// is, because many services have a token in the path or the query.
func secretSettings() map[string]string {
	secrets := make(map[string]string)
	for section := range reflect.TypeFor[Config]().Fields() {
		for setting := range section.Type.Fields() {
			if tag := setting.Tag.Get("secret"); tag != "" {
				secrets[section.Tag.Get("toml")+"."+setting.Tag.Get("toml")] = tag
			}
		}
	}
	return secrets
}

// withoutPath is a URL with a mask in the place of its path and query.
func withoutPath(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || rawURL == "" {
		return ""
	}
	shown := u.Scheme + "://" + u.Host + "/"
	if strings.TrimSuffix(rawURL, "/") == strings.TrimSuffix(shown, "/") {
		return rawURL
	}
	return shown + mask
}

const mask = "…"

// masked hides a secret: it shows only that it is set, and of a list how many items it has.
func masked(v reflect.Value) any {
	if v.Kind() == reflect.Slice {
		return slices.Repeat([]string{mask}, v.Len())
	}
	if v.IsZero() {
		return ""
	}
	return mask
}

// writtenDown is a setting's value as it is written in a file.
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
