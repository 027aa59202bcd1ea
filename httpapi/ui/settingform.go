package ui

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"hookbolt/engine"
)

// group is a part of the form of a webhook, with its inputs. Their names are the paths of the settings in the API, such as
// "oauth2.token_url"; what removes a setting has its name after "remove.".
type group struct {
	ID, Title, Help string
	Inputs          []input
}

// emptyList is what stands for a list that is empty, where that is another thing than none given.
const emptyList = "none"

// groups are those of a part of the form, with what a webhook is set to. c is what holds where they are empty.
func groups(w *engine.Webhook, c engine.Config, part formPart) (list []group) {
	for _, g := range settingGroups {
		if g.part != part {
			continue
		}
		shown := group{ID: g.id, Title: g.title, Help: g.help}
		for i := range g.settings {
			s := &g.settings[i]
			if s.isHidden(w) {
				continue
			}
			if s.inputs != nil {
				shown.Inputs = append(shown.Inputs, s.inputs(w)...)
			} else {
				shown.Inputs = append(shown.Inputs, s.input(w, c))
			}
		}
		for i := range shown.Inputs {
			shown.Inputs[i].Previewed = part == shapePart
		}
		if len(shown.Inputs) > 0 {
			list = append(list, shown)
		}
	}
	return list
}

// input makes the input of a setting that is typed in one.
func (s *settingWords) input(w *engine.Webhook, c engine.Config) input {
	i := input{Name: s.name, Label: s.label, Unit: s.unit, Kind: s.kind, Help: s.help}
	if s.empty != nil {
		i.Help = strings.ReplaceAll(i.Help, "{empty}", s.empty(c))
	}
	if w.ID != 0 {
		i.Help += s.editing
	}
	switch row := engine.SettingNamed(s.name); s.kind {
	case checkInput:
		i.Checked = string(row.JSON(w)) == "true"
	case areaInput:
		i.Value = valueText(row, w, "\n")
	default:
		i.Value = valueText(row, w, ", ")
	}
	if s.empty != nil && isDefault(engine.SettingNamed(s.name), w) {
		i.Value = ""
	}
	return i
}

// valueText writes a webhook's value of a setting as it is typed; "" if it is not set.
func valueText(row *engine.Setting, w *engine.Webhook, separator string) string {
	v := row.JSON(w)
	if string(v) == "null" {
		return ""
	}
	var text string
	if json.Unmarshal(v, &text) == nil {
		return text
	}
	var list []string
	if json.Unmarshal(v, &list) != nil {
		return string(v) // a number
	}
	if len(list) == 0 && !isDefault(row, w) {
		return emptyList
	}
	return strings.Join(list, separator)
}

// isDefault tells whether a webhook's value of a setting is what it is if nothing is set.
func isDefault(row *engine.Setting, w *engine.Webhook) bool {
	byDefault := engine.DefaultWebhook()
	return row.Required == "" && string(row.JSON(w)) == string(row.JSON(&byDefault))
}

// typed returns what was typed for a setting, as the API has it: null for what is empty. changed tells whether it is to be sent.
func (f *webhookForm) typed(s *settingWords) (value any, changed bool) {
	if s.read != nil {
		return s.read(f)
	}
	switch text := f.trimmed(s.name); {
	case s.kind == checkInput:
		return f.values.Has(s.name), true
	case s.kind == numberInput:
		return f.number(s.name, s.example), true
	case s.kind == listInput && text == emptyList:
		return []string{}, true
	case s.kind == programInput && text == "":
		return nil, true
	case s.kind == programInput: // forms send CR LF
		return strings.ReplaceAll(f.values.Get(s.name), "\r\n", "\n"), true
	case s.kind == listInput, s.kind == areaInput:
		return orNull(list(text)), true
	case s.kind == urlInput: // which has no default
		return text, true
	default:
		return orNull(text), true
	}
}

// methodInputs let the caller choose a method. The default is not typed in, so that "More" stays folded.
func methodInputs(w *engine.Webhook) []input {
	return []input{{Name: "method", Label: "Method", Kind: textInput, Value: w.Method, Placeholder: engine.Methods[0],
		Help: strings.Join(engine.Methods, ", ") + ". A GET has no body: the endpoint gets the headers and the signature alone. Empty: " + engine.Methods[0] + "."}}
}

// method reads the method, in capital letters or not.
func (f *webhookForm) method() (any, bool) { return orNull(strings.ToUpper(f.trimmed("method"))), true }

// successInputs let the caller name further statuses.
func successInputs(w *engine.Webhook) []input {
	return []input{{Name: "success", Label: "Also delivered", Unit: "statuses, such as 302", Kind: listInput, Value: statusList(w),
		Help: "Statuses that count as delivered beside 2xx, " + rangeOf("success") + ", whatever else they mean. A web app of Google Apps Script answers 302 when it has run. Redirects are never followed. Empty: only 2xx."}}
}

// success reads the statuses.
func (f *webhookForm) success() (any, bool) {
	var statuses []json.RawMessage
	for _, text := range list(f.trimmed("success")) {
		if strings.Trim(text, "0123456789") != "" || !json.Valid([]byte(text)) {
			f.fail("success", "must be statuses with commas between, as in 302, 409 (got “"+engine.Excerpt(text)+"”)")
			return nil, false
		}
		statuses = append(statuses, json.RawMessage(text))
	}
	if statuses == nil {
		return nil, true
	}
	return statuses, true
}

// statusList writes the statuses of a webhook's setting success.
func statusList(w *engine.Webhook) string {
	var texts []string
	for _, status := range w.Success {
		texts = append(texts, strconv.Itoa(status))
	}
	return strings.Join(texts, ", ")
}

// nameAsTyped reads the name, which may begin and end with spaces.
func nameAsTyped(f *webhookForm) (any, bool) { return f.values.Get("name"), true }

// setting is a line of a webhook's settings. Default tells that it is what holds if nothing is set.
type setting struct {
	Name, Value string
	Default     bool
}

// facts lists a webhook's settings, by the names that the form has for them. Of credentials it tells that they are set. The URL is there
// as a whole: whoever sees this page gets it from the API, too, and has to be able to check what was typed.
func facts(w *engine.Webhook, c engine.Config) (list []setting) {
	byMail := engine.IsMailURL(w.URL)
	for _, g := range settingGroups {
		for i := range g.settings {
			s := &g.settings[i]
			if s.isHidden(w) {
				continue
			}
			row := engine.SettingNamed(s.name)
			if row.Shown() && (s.fact.hidden == nil || !s.fact.hidden(w)) && !(row.Secret && isDefault(row, w)) {
				label := s.label
				if byMail && s.name == "url" {
					label = "Mail server"
				}
				list = append(list, setting{label, s.factText(row, w, c), isDefault(row, w)})
			}
			if s.name == "url" && w.Operations {
				list = append(list, setting{"For", operationsWords(w), false})
			}
		}
	}
	return list
}

// httpSettings are those that mean nothing to a mail server.
var httpSettings = []string{"filter", "transform", "content_type", "url_values", "http2", "method", "success", "tls", "headers", "basic_auth", "oauth2", "signature"}

// isHidden reports whether a setting means nothing to a webhook.
func (s *settingWords) isHidden(w *engine.Webhook) bool {
	return engine.IsMailURL(w.URL) && slices.Contains(httpSettings, s.name)
}

// operationsWords says what the operations webhook is for.
func operationsWords(w *engine.Webhook) string {
	if engine.IsMailURL(w.URL) {
		return "operational events by mail, as delivery.operations_smtp asks for"
	}
	return "operational events, as delivery.operations_url asks for"
}

// factText writes a webhook's value of a setting for the list of facts.
func (s *settingWords) factText(row *engine.Setting, w *engine.Webhook, c engine.Config) string {
	text := ""
	switch v := row.Get(w).(type) {
	case bool:
		return yesNo(v)
	case map[string]bool:
		return strings.Join(slices.Sorted(maps.Keys(v)), ", ") + " (values are not shown)"
	case *bool:
		return "set"
	case *engine.ShownSignature:
		return signatureFact(v)
	}
	if text = valueText(row, w, ", "); s.fact.text != nil {
		text = s.fact.text(w)
	}
	if text == "" && s.empty != nil {
		return s.empty(c)
	}
	return text + s.fact.after
}

// signatureFact says what signs beside the signature v1.
func signatureFact(s *engine.ShownSignature) string {
	var parts []string
	if s.Header != nil {
		of := "the signing secret"
		if s.Secret != nil {
			of = "a secret of its own"
		}
		parts = append(parts, fmt.Sprintf("%s: %s and the HMAC of the body in %s, with %s", *s.Header, cmp.Or(*s.Prefix, "no prefix"), *s.Encoding, of))
	}
	if s.V1a {
		parts = append(parts, "v1a, by a key pair")
	}
	return strings.Join(parts, "; ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// wholeSeconds writes a span as exactly as it is set.
func wholeSeconds(n int64) string { return engine.Duration(time.Duration(n) * time.Second).String() }

func durationList(steps []engine.Duration) string {
	if len(steps) == 0 {
		return emptyList
	}
	words := make([]string, len(steps))
	for i, d := range steps {
		words[i] = d.String()
	}
	return strings.Join(words, ", ")
}
