package webhookfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"hookbolt/engine"
	"hookbolt/internal/client"
	"hookbolt/internal/text"
)

// Webhook is a webhook as it is described in a file.
type Webhook struct {
	// Settings has all settings; those that the file leaves out have their defaults. If the file leaves out paused or secret, false and ""
	// mean nothing here: see given.
	Settings engine.Webhook
	// JSON has the settings that are in the file, except for those in Keep, as the API takes them.
	JSON map[string]json.RawMessage
	// Keep has the settings among headers, basic_auth, oauth2 and signature that stay as they are on the server.
	Keep map[string]bool
	// Hidden has the paths of the values that come from a variable or a file, such as "allow_networks[0]". They are never shown.
	Hidden map[string]bool
	// ProgramFiles has the files that settings' programs come from, as they are called in the file of webhooks.
	ProgramFiles map[string]string
}

// hides reports whether the value at a path is hidden, or has a hidden value in it, or is part of one.
func (w *Webhook) hides(path string) bool {
	within := func(inner, outer string) bool {
		rest, ok := strings.CutPrefix(inner, outer)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	for hidden := range w.Hidden {
		if within(hidden, path) || within(path, hidden) {
			return true
		}
	}
	return false
}

// given reports whether the file has a setting.
func (w *Webhook) given(setting string) bool { return w.JSON[setting] != nil }

// Sources resolve references to values outside of the file.
type Sources struct {
	// Variable returns the value of an environment variable, and whether it is set.
	Variable func(name string) (string, bool)
	// File returns the secret in a file.
	File func(path string) (string, error)
	// Program returns the text of a file with a program. Its path is relative to the file of webhooks.
	Program func(path string) (string, error)
}

// Problems are everything that is wrong with a file of webhooks, or with what it asks of a server: one line each, without its end. After that line
// a problem of a program may have more, which show the place.
type Problems []string

// Error has a line for each.
func (p Problems) Error() string { return strings.Join(p, "\n") }

// Read reads the text of a file of webhooks, and what it refers to. name is what people call the file. The error is Problems, or one of the
// syntax; it shows no credential.
func Read(name, file string, from Sources) ([]*Webhook, error) {
	hooks, err := parse(file, from)
	if problems, ok := errors.AsType[Problems](err); ok {
		for i := range problems {
			problems[i] = name + ": " + problems[i]
		}
		return nil, problems
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return hooks, nil
}

// parse is Read without the name of the file in its errors.
func parse(file string, from Sources) ([]*Webhook, error) {
	decoded := make(map[string]any)
	if _, err := toml.Decode(file, &decoded); err != nil {
		return nil, text.TOMLSyntax(err)
	}
	var problems Problems
	for _, key := range slices.Sorted(maps.Keys(decoded)) {
		if key != "webhook" {
			problems = append(problems, fmt.Sprintf("unknown key %q: each webhook is a table that begins with [[webhook]]", key))
		}
	}
	tables, ok := tableList(decoded["webhook"])
	if !ok && decoded["webhook"] != nil {
		problems = append(problems, "webhook: must be tables, each of which begins with [[webhook]] in double brackets")
	}
	var hooks []*Webhook
	seen := make(map[string]bool)
	for i, table := range tables {
		r := &webhookReader{from: from, want: Webhook{JSON: make(map[string]json.RawMessage), Keep: make(map[string]bool), Hidden: make(map[string]bool),
			ProgramFiles: make(map[string]string)}}
		name, _ := table["name"].(string)
		called := fmt.Sprintf("webhook %.200q", name)
		switch {
		case name == "":
			called = fmt.Sprintf("webhook %d", i+1)
			r.fail("name", "is required, in quotes: webhooks are told apart by it")
			delete(table, "name") // this says what is wrong with it
		case seen[name]:
			r.fail("name", "stands twice: webhooks are told apart by it")
		}
		seen[name] = true
		r.read(table)
		for _, problem := range r.problems {
			problems = append(problems, called+": "+problem)
		}
		hooks = append(hooks, &r.want)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return hooks, nil
}

// tableList returns a list of tables, in either notation of TOML.
func tableList(v any) ([]map[string]any, bool) {
	switch v := v.(type) {
	case []map[string]any:
		return v, true
	case []any:
		tables := make([]map[string]any, len(v))
		for i := range v {
			table, ok := v[i].(map[string]any)
			if !ok {
				return nil, false
			}
			tables[i] = table
		}
		return tables, true
	}
	return nil, false
}

// webhookReader reads a webhook's table.
type webhookReader struct {
	from     Sources
	want     Webhook
	problems []string
}

func (r *webhookReader) fail(field, format string, args ...any) {
	r.problems = append(r.problems, field+": "+fmt.Sprintf(format, args...))
}

// isCredential tells whether a setting is a table of credentials, which may stay as it is on the server.
func isCredential(setting string) bool {
	return slices.ContainsFunc(slices.Concat(credentialSettings, partlySettings), func(s *engine.Setting) bool { return s.Name == setting })
}

// read converts a table to what the API would be sent and lets the engine parse that, so that there is one set of rules.
func (r *webhookReader) read(table map[string]any) {
	for _, setting := range slices.Sorted(maps.Keys(table)) {
		if t, ok := table[setting].(map[string]any); ok && isCredential(setting) && t["keep"] == true {
			if len(t) > 1 {
				r.fail(setting, "keep = true stands alone: what is on the server stays as it is, or is given here as a whole")
			}
			r.want.Keep[setting] = true
			continue
		}
		before := len(r.problems)
		if value := r.value(setting, table[setting]); len(r.problems) == before {
			r.want.JSON[setting] = client.EncodeJSON(value)
		}
	}
	patch, err := engine.ParseWebhookPatch(client.EncodeJSON(r.want.JSON))
	if err == nil && len(r.problems) == 0 { // otherwise what is missing may be among the problems
		r.want.Settings, err = engine.NewWebhook(patch)
	}
	r.refused(err)
}

// refused collects the errors of the engine.
func (r *webhookReader) refused(err error) {
	bad, ok := errors.AsType[engine.InputErrors](err)
	if err != nil && !ok {
		r.problems = append(r.problems, err.Error())
	}
	for _, e := range bad {
		isHeader := strings.HasPrefix(e.Field, "headers.") && e.Detail == "unknown field"
		if isHeader || strings.HasSuffix(e.Detail, "must be a string (got an object)") {
			e.Detail += `; what stands elsewhere is {env = "VARIABLE"} or {file = "PATH"}`
		}
		if r.want.hides(e.Field) {
			e.Detail, _, _ = strings.Cut(e.Detail, " (got ") // the value is hidden
		}
		if e.Field == "" {
			r.problems = append(r.problems, e.Detail)
			continue
		}
		r.fail(e.Field, "%s", e.Detail)
	}
}

// value converts a TOML value to a JSON value and resolves references.
func (r *webhookReader) value(path string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		if program, ok := r.program(path, v); ok {
			return program
		}
		if value, ok := r.reference(path, v); ok {
			r.want.Hidden[path] = true
			if !utf8.ValidString(value) {
				r.fail(path, "what it refers to is not valid UTF-8")
			}
			return value
		}
		object := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			object[key] = r.value(path+"."+key, v[key])
		}
		return object
	case []map[string]any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = r.value(fmt.Sprintf("%s[%d]", path, i), v[i])
		}
		return list
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = r.value(fmt.Sprintf("%s[%d]", path, i), v[i])
		}
		return list
	case time.Time:
		r.fail(path, "must be in quotes: there is no setting that is a date")
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			r.fail(path, "must be a number that can be written down (got %v)", v)
			return 0
		}
	}
	return v
}

// refuseReference refuses a table of credentials that was meant as a reference. Of headers it would make one that is called "env".
func (r *webhookReader) refuseReference(path string, table map[string]any) {
	for _, key := range []string{"env", "file"} {
		if _, ok := table[key].(string); !ok {
			continue
		}
		member, otherwise := "X-Api-Key", fmt.Sprintf("; a header that is called %s is written %s", key, strings.ToUpper(key[:1])+key[1:])
		if !strings.HasSuffix(path, "headers") {
			member, otherwise = engine.SettingNamed(path).Parts[0], ""
		}
		r.fail(path, `must have a reference for each value, as in {%s = {%s = "…"}}%s`, member, key, otherwise)
	}
}

// reference resolves a table that refers to a variable or a file. A table of credentials is none: it has a reference for each of its values.
func (r *webhookReader) reference(path string, table map[string]any) (string, bool) {
	if len(table) != 1 {
		return "", false
	}
	if isCredential(path) || path == "oauth2.headers" {
		r.refuseReference(path, table)
		return "", false
	}
	if name, ok := table["env"].(string); ok {
		value, set := r.from.Variable(name)
		switch {
		case !set:
			r.fail(path, "the variable %.100q is not set", name)
		case value == "":
			r.fail(path, "the variable %.100q is empty", name)
		}
		return value, true
	}
	if name, ok := table["file"].(string); ok {
		secret, err := r.from.File(name)
		if err != nil {
			r.fail(path, "%s", text.OneLine(err.Error()))
		}
		return secret, true
	}
	return "", false
}
