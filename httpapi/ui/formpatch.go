package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"hookbolt/engine"
)

// member is a name of a JSON object, and its value: what json.Marshal can write, nil for null.
type member struct {
	name  string
	value any
}

// object is a JSON object whose members keep their order, and may have one name twice: the engine says what is wrong with that.
type object []member

// MarshalJSON writes the object, with text as it came: a token request is sent as it stands here.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(m.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// patch makes of the form what the API would be sent, and has the engine read that.
func (f *webhookForm) patch() (engine.WebhookPatch, error) {
	patch, err := parseSettings(f.settings())
	bad, ok := errors.AsType[engine.InputErrors](err)
	if err != nil && !ok {
		return engine.WebhookPatch{}, err
	}
	f.refuse(bad)
	if len(f.Bad()) > 0 || len(f.Top) > 0 {
		return engine.WebhookPatch{}, errRefused
	}
	return patch, nil
}

func parseSettings(o object) (engine.WebhookPatch, error) {
	body, err := o.MarshalJSON()
	if err != nil {
		return engine.WebhookPatch{}, err
	}
	return engine.ParseWebhookPatch(body)
}

// settings are the form's settings as the API has them. What is empty is null, the default again; credentials of which nothing was typed
// or removed are not among them, and stay as they are.
func (f *webhookForm) settings() object {
	o := object{
		{"url", f.trimmed("url")},
		{"name", f.values.Get("name")},
		{"content_id", orNull(f.trimmed("content_id"))},
		{"delay", f.number("delay", "10")},
		{"send_answers", f.values.Has("send_answers")},
		{"send_leads", f.values.Has("send_leads")},
		{"send_incomplete", f.values.Has("send_incomplete")},
		{"incomplete_delay", f.number("incomplete_delay", "60")},
		{"timeout", orNull(f.trimmed("timeout"))},
		{"max_in_flight", f.number("max_in_flight", "32")},
		{"rate_limit", f.number("rate_limit", "0.5")},
		{"retry_schedule", f.schedule()},
		{"allow_networks", orNull(list(f.values.Get("allow_networks")))},
	}
	if headers, changed := f.headers(); changed {
		o = append(o, member{"headers", headers})
	}
	if basic, changed := f.basicAuth(); changed {
		o = append(o, member{"basic_auth", basic})
	}
	if oauth, changed := f.oauth2(); changed {
		o = append(o, member{"oauth2", oauth})
	}
	if secret := f.trimmed("secret"); secret != "" && f.ID == 0 {
		o = append(o, member{"secret", secret})
	}
	return o
}

func (f *webhookForm) trimmed(name string) string { return strings.TrimSpace(f.values.Get(name)) }

// orNull makes what is empty null.
func orNull[T ~string | ~[]string](v T) any {
	if len(v) == 0 {
		return nil
	}
	return v
}

// number returns the number of an input as it was written. The engine checks it; what is no number could not be written in JSON.
func (f *webhookForm) number(name, example string) any {
	text := f.trimmed(name)
	if text == "" {
		return nil
	}
	if strings.Trim(text[:1], "-0123456789") != "" || !json.Valid([]byte(text)) {
		f.fail(name, "must be a number, written as in "+example+" (got “"+engine.Excerpt(text)+"”)")
		return nil
	}
	return json.RawMessage(text)
}

// list splits what stands on lines or between commas.
func list(text string) []string {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' })
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return slices.DeleteFunc(parts, func(s string) bool { return s == "" })
}

func (f *webhookForm) schedule() any {
	text := f.trimmed("retry_schedule")
	if text == noRetries {
		return []string{}
	}
	return orNull(list(text))
}

// headerLines reads headers, one on a line. They stay in their order.
func (f *webhookForm) headerLines(name string) (o object) {
	for line := range strings.Lines(f.values.Get(name)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		header, value, ok := strings.Cut(line, ":")
		if header = strings.TrimSpace(header); !ok || strings.ContainsAny(header, " \t") { // the line may be a credential: it is not repeated
			f.fail(name, "must have a name, without spaces, and a colon on each line, as in “X-Api-Key: 12345”")
			continue
		}
		o = append(o, member{header, strings.TrimSpace(value)})
	}
	return o
}

// headers are those that the webhook has, but for what was removed or got another value, and the new ones. changed tells whether that
// is something else than what it has.
func (f *webhookForm) headers() (headers any, changed bool) {
	added := f.headerLines("headers")
	changed = len(added) > 0
	var o object
	for _, name := range slices.Sorted(maps.Keys(f.present.Headers)) {
		typed, removed := f.values.Get("headers."+name), f.values.Has(removal("headers."+name))
		again := slices.ContainsFunc(added, func(m member) bool { return strings.EqualFold(m.name, name) })
		switch {
		case again: // its new value comes with the others
		case typed != "":
			o, changed = append(o, member{name, typed}), true
		case removed:
			changed = true
		default:
			o = append(o, member{name, f.present.Headers[name]})
		}
	}
	return append(o, added...), changed
}

// basicAuth is like headers. Of the two parts, what was not typed stays.
func (f *webhookForm) basicAuth() (basic any, changed bool) {
	username, password := f.values.Get("basic_auth.username"), f.values.Get("basic_auth.password")
	present, removed := f.present.BasicAuth, f.values.Has(removal("basic_auth"))
	if removed {
		present = nil
	}
	if username == "" && password == "" {
		return nil, removed
	}
	var o object
	switch {
	case username != "":
		o = append(o, member{"username", username})
	case present != nil:
		o = append(o, member{"username", present.Username})
	}
	if password == "" && present != nil {
		return append(o, member{"password", present.Password}), true
	}
	return append(o, member{"password", password}), true
}

// oauth2 is like headers. Of the parts, what was not typed stays, but what a typed one takes the place of does not.
func (f *webhookForm) oauth2() (oauth any, changed bool) {
	present, removed := f.present.OAuth2, f.values.Has(removal("oauth2"))
	if present == nil || removed {
		present = &engine.OAuth2{}
	}
	body, headers := strings.ReplaceAll(f.values.Get("oauth2.body"), "\r\n", "\n"), f.headerLines("oauth2.headers")
	typed := object{}
	for _, name := range []string{"token_url", "client_id", "client_secret"} {
		if value := f.values.Get("oauth2." + name); value != "" {
			typed = append(typed, member{name, value})
		}
	}
	if scopes := strings.Fields(f.values.Get("oauth2.scopes")); len(scopes) > 0 {
		typed = append(typed, member{"scopes", scopes})
	}
	switch trimmed := strings.TrimSpace(body); {
	case trimmed == "":
	case !strings.HasPrefix(trimmed, "{"):
		typed = append(typed, member{"body", body})
	case engine.ValidJSON([]byte(trimmed)):
		typed = append(typed, member{"body", json.RawMessage(trimmed)})
	default:
		f.fail("oauth2.body", "begins as a JSON object and is none: a brace, a quote or a comma is missing or too many")
		return nil, false
	}
	if len(headers) > 0 {
		typed = append(typed, member{"headers", headers})
	}
	if len(typed) == 0 {
		return nil, removed
	}
	return append(typed, keptOAuth2(present, typed)...), true
}

// keptOAuth2 is what stays beside what was typed.
func keptOAuth2(present *engine.OAuth2, typed object) (kept object) {
	has := func(names ...string) bool {
		return slices.ContainsFunc(typed, func(m member) bool { return slices.Contains(names, m.name) })
	}
	keep := func(name string, isSet bool, value any) {
		if isSet && !has(name) {
			kept = append(kept, member{name, value})
		}
	}
	keep("token_url", present.TokenURL != "", present.TokenURL)
	keep("headers", len(present.Headers) > 0, present.Headers)
	if !has("body") {
		keep("client_id", present.ClientID != "", present.ClientID)
		keep("client_secret", present.ClientSecret != "", present.ClientSecret)
		keep("scopes", len(present.Scopes) > 0, present.Scopes)
	}
	if !has("client_id", "client_secret", "scopes") {
		var body any = present.Body
		if present.IsJSON {
			body = json.RawMessage(present.Body)
		}
		keep("body", present.Body != "", body)
	}
	return kept
}
