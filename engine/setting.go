package engine

import (
	"bytes"
	"encoding/json"

	"hookbolt/engine/jsonread"
)

// Setting is a row of Settings: what holds for one setting of a webhook wherever it is read, stored, shown or documented.
type Setting struct {
	// Name is its name in JSON, in a file of webhooks, and in the forms of the page.
	Name string
	// Required says what has to be given, for a setting without a default; "" for all others, of which null means the default.
	Required string
	// Limits are the bounds of its value.
	Limits Limits
	// Secret means that its value is stored and never shown. Answers tell at the most that it is set, and of tls what is no PEM.
	Secret bool
	// Partly means that of a Secret setting answers show all but the secrets in it: true stands for each that is set.
	Partly bool
	// Parts are the members that a Secret setting usually has, if it is an object of certain members.
	Parts []string
	// Program means that its value is a program in jq, or null.
	Program bool
	// OfHost means that its value is meant for the URL's host: a webhook that moves to another one does not take it along.
	OfHost bool
	// KeptByFile means that a file of webhooks that leaves it out keeps what the server has. Other settings get their default then.
	KeptByFile bool
	// Effect is what a change means for deliveries that wait already.
	Effect Effect

	value value
	// cancels returns the scope of what a change of the setting cancels, "" for nothing. Nil means that no change cancels anything.
	cancels func(before, after *Webhook) CancelScope
}

// Effect is what a change of a setting means for the deliveries that wait for a webhook already.
type Effect string

// The effects of settings.
const (
	// EffectNone: hookbolt does not act on the setting.
	EffectNone Effect = "none"
	// EffectAttempt: each attempt reads the setting, the next attempt of a waiting delivery too.
	EffectAttempt Effect = "attempt"
	// EffectPayload: the setting is read when a payload is built. Payloads that are frozen stay as they are.
	EffectPayload Effect = "payload"
	// EffectDue: the setting is read when a session's event is accepted. Due times that are set do not move, unless a start moves them.
	EffectDue Effect = "due"
	// EffectCancel: deliveries that no longer fit are cancelled.
	EffectCancel Effect = "cancel"
	// EffectHold: the webhook's lane is held, or goes on.
	EffectHold Effect = "hold"
)

// Limits are the bounds of a setting's value, by the keywords of JSON Schema. A zero means that there is no such bound, but for a Minimum
// beside a Maximum.
type Limits struct {
	Minimum, Maximum     float64 // of a number
	MinLength, MaxLength int     // of a text
	MaxItems             int     // of a list
	MaxProperties        int     // of an object
	// Spans are the shortest and the longest duration, as in "1s to 2m".
	Spans string
}

// value is how a setting's value gets into a webhook and out of it.
type value struct {
	// get returns what Setting.Get does. Nil means that answers do not mention the setting.
	get func(*Webhook) any
	// preset sets the default of a new webhook. Nil means that it is Go's zero value.
	preset func(*Webhook)
	// null is what a null in a change does. Nil means the same as preset.
	null func(*Webhook)
	// read reads a value that is not null, checks it, and returns how to set it.
	read func(*jsonread.Reader) func(*Webhook)
	// members returns what is set of a setting that is an object, as read reads it; see ParseMergePatch. Nil means that it is no object.
	members func(*Webhook) members
	// leave removes what is meant for the host that a webhook has left, and returns the paths of that. Nil means all that is set, of a setting
	// that is OfHost.
	leave func(*Webhook) (dropped []string)
	// ofCaller means that the names of the members are the caller's own: they are names of headers.
	ofCaller bool
}

// Shown tells whether answers mention the setting.
func (s *Setting) Shown() bool { return s.value.get != nil }

// Get returns a webhook's value of a setting that is Shown, as JSON is to be made of it: the value itself, or, if the setting is Secret,
// true if it is set and a nil pointer if it is not. Of Secret settings that are objects of the caller's own names it is a map with true
// for each name; of those that are shown Partly, the object without its secrets.
func (s *Setting) Get(w *Webhook) any { return s.value.get(w) }

// JSON returns a webhook's value of a setting that is Shown, as answers have it: the JSON of what Get returns.
func (s *Setting) JSON(w *Webhook) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s.Get(w)); err != nil {
		panic(err) // cannot be: a setting's value was read from JSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Default returns what Get returns for a new webhook for which the setting is not given.
func (s *Setting) Default() any {
	w := DefaultWebhook()
	return s.Get(&w)
}

// SettingNamed returns the row of that name, nil if there is none.
func SettingNamed(name string) *Setting {
	for i := range Settings {
		if Settings[i].Name == name {
			return &Settings[i]
		}
	}
	return nil
}

// parse reads a value, which may be null, and returns how to set it.
func (s *Setting) parse(r *jsonread.Reader) func(*Webhook) {
	if !r.Null() {
		return s.value.read(r)
	}
	if s.Required != "" {
		r.Fail("has no default: it must be %s", s.Required)
		return nil
	}
	if s.value.null != nil {
		return s.value.null
	}
	return s.value.preset
}

// field is the value of a setting that is one field of Webhook. at finds the field, read reads it.
func field[T any](at func(*Webhook) *T, byDefault T, read func(*jsonread.Reader) T) value {
	return value{
		get:    func(w *Webhook) any { return *at(w) },
		preset: func(w *Webhook) { *at(w) = byDefault },
		read: func(r *jsonread.Reader) func(*Webhook) {
			v := read(r)
			return func(w *Webhook) { *at(w) = v }
		},
	}
}

// optional is field for a pointer that is nil by default.
func optional[T any](at func(*Webhook) **T, read func(*jsonread.Reader) T) value {
	return field(at, nil, func(r *jsonread.Reader) *T {
		v := read(r)
		return &v
	})
}

// boolean is field for a setting that is true or false.
func boolean(at func(*Webhook) *bool, byDefault bool) value {
	return field(at, byDefault, (*jsonread.Reader).Bool)
}

// shownAs returns the value with another form in answers.
func (v value) shownAs(get func(*Webhook) any) value {
	v.get = get
	return v
}

// merged returns the value of a setting that is an object.
func (v value) merged(of func(*Webhook) members) value {
	v.members = of
	return v
}

// leaving returns the value of a setting of which a part is meant for the URL's host.
func (v value) leaving(leave func(*Webhook) []string) value {
	v.leave = leave
	return v
}

// namedByCaller returns the value of a setting that is an object of headers.
func (v value) namedByCaller() value {
	v.ofCaller = true
	return v
}

// shownAsSet returns the value of a Secret setting: answers have true or null.
func (v value) shownAsSet(isSet func(*Webhook) bool) value {
	return v.shownAs(func(w *Webhook) any {
		if isSet(w) {
			return new(true)
		}
		return (*bool)(nil)
	})
}
