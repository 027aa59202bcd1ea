package ui

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"hookbolt/engine"
	"hookbolt/httpapi/jsonobject"
)

// patch makes of the form what the API would be sent, and has the engine read that.
func (f *webhookForm) patch() (engine.WebhookPatch, error) {
	body, err := f.settings().MarshalJSON()
	if err != nil {
		return engine.WebhookPatch{}, err
	}
	patch, err := engine.ParseWebhookPatch(body)
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

// settings are the form's settings as the API has them. What is empty is null, the default again; credentials of which nothing was typed
// or removed are not among them, and stay as they are.
func (f *webhookForm) settings() (o jsonobject.Object) {
	for _, g := range settingGroups {
		for i := range g.settings {
			if g.settings[i].isHidden(f.present) {
				continue // it has no input
			}
			if value, changed := f.typed(&g.settings[i]); changed {
				o.Add(g.settings[i].name, value)
			}
		}
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
