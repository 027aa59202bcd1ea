package postgres

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// While a fleet is upgraded, two versions change the same webhooks. The older one does not know the settings that the newer one has added. It keeps them as they
// are: whoever pauses a webhook must not reset what somebody else has set.

// unknown are the fields of a stored JSON object that this version does not know, by name: a json.RawMessage, or the unknown fields of an object that it knows.
type unknown map[string]any

// unknownFields returns the fields of stored that a type does not have.
func unknownFields(stored []byte, t reflect.Type) unknown {
	var fields map[string]json.RawMessage
	if json.Unmarshal(stored, &fields) != nil { // null, for one
		return nil
	}
	known := make(map[string]reflect.Type)
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			known[name] = f.Type
		}
	}
	u := make(unknown)
	for name, value := range fields {
		switch inner, ok := known[name]; {
		case !ok:
			u[name] = value
		case isObject(inner):
			if more := unknownFields(value, deref(inner)); len(more) > 0 {
				u[name] = more
			}
		}
	}
	return u
}

func deref(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// isObject reports whether values of a type are JSON objects with fields of their own. A map is none: what is missing there was removed.
func isObject(t reflect.Type) bool {
	t = deref(t)
	own := []reflect.Type{reflect.TypeFor[json.Unmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()}
	return t.Kind() == reflect.Struct && !slices.ContainsFunc(own, reflect.PointerTo(t).Implements)
}

// addTo returns a JSON object with the unknown fields in it. An object that it does not have any more does not come back.
func (u unknown) addTo(text string) string {
	if len(u) == 0 {
		return text
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) != nil || fields == nil {
		return text
	}
	for name, value := range u {
		switch value := value.(type) {
		case json.RawMessage:
			fields[name] = value
		case unknown:
			if inner, ok := fields[name]; ok {
				fields[name] = json.RawMessage(value.addTo(string(inner)))
			}
		}
	}
	return jsonText(fields)
}
