package docs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
)

// schemaObject is an object of payload.schema.json, with its properties in their order.
type schemaObject struct {
	Properties json.RawMessage `json:"properties"`
	Items      *schemaObject   `json:"items"`
}

// fieldsOf lists the fields below an object of the schema, as the page names them: answers[].question_id.
func fieldsOf(t *testing.T, prefix string, o *schemaObject) []string {
	t.Helper()
	if o.Items != nil {
		return fieldsOf(t, prefix+"[]", o.Items)
	}
	if o.Properties == nil {
		return nil
	}
	var fields []string
	d := json.NewDecoder(strings.NewReader(string(o.Properties)))
	if _, err := d.Token(); err != nil { // the opening brace
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var child schemaObject
		if err := d.Decode(&child); err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(fmt.Sprintf("%s.%s", prefix, name), ".")
		fields = append(append(fields, path), fieldsOf(t, path, &child)...)
	}
	return fields
}

// TestDocumentedPayload: the page about the payload has every field of the schema, in the payload's order, and no other.
func TestDocumentedPayload(t *testing.T) {
	var schema schemaObject
	if err := json.Unmarshal([]byte(hookbolttest.ReadFile(t, "httpapi/payload.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	want := fieldsOf(t, "", &schema)

	_, table, _ := strings.Cut(hookbolttest.ReadFile(t, "docs/payload.md"), "## Every field")
	table, _, _ = strings.Cut(table, "\n## ")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|").FindAllStringSubmatch(table, -1) {
		parent := ""
		for i, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			// Fields that share a row share what the first one is in.
			if at := strings.LastIndexByte(m[1], '.'); i == 0 {
				parent = m[1][:at+1]
				got = append(got, m[1])
			} else {
				got = append(got, parent+m[1])
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/payload.md has the fields\n%v\nthe schema\n%v", got, want)
	}
}

// TestDocumentedSettingsOfWebhooks: the page about the API has each setting of a webhook, with its default and with what a change means for
// deliveries that wait.
func TestDocumentedSettingsOfWebhooks(t *testing.T) {
	_, page, _ := strings.Cut(hookbolttest.ReadFile(t, "docs/api.md"), "\n## Settings of a webhook\n")
	settings, page, _ := strings.Cut(page, "\n| a change of |")
	effects, _, _ := strings.Cut(page, "\n\n")
	for i := range engine.Settings {
		s := &engine.Settings[i]
		preset := "made"
		switch {
		case s.Required != "":
			preset = "required"
		case s.Shown():
			text, err := json.Marshal(s.Default())
			if err != nil {
				t.Fatal(err)
			}
			preset = "`" + string(text) + "`"
		}
		if row := fmt.Sprintf("\n| `%s` | %s | ", s.Name, preset); !strings.Contains(settings, row) {
			t.Errorf("docs/api.md lacks %s", row)
		}
		for row := range strings.Lines(effects) {
			names, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
			first := engine.SettingNamed(strings.Trim(strings.Split(names, ",")[0], "`"))
			if first != nil && strings.Contains(names, "`"+s.Name+"`") != (first.Effect == s.Effect) {
				t.Errorf("docs/api.md tells another effect of %s than %s, in the row of %s", s.Name, s.Effect, names)
			}
		}
		if strings.Count(effects, "`"+s.Name+"`") != 1 {
			t.Errorf("docs/api.md does not tell once what a change of %s means", s.Name)
		}
	}
}

// TestDocumentedLimits: the page about limits has those that hold.
func TestDocumentedLimits(t *testing.T) {
	page := hookbolttest.ReadFile(t, "docs/limits.md")
	days := func(d time.Duration) int { return int(d / (24 * time.Hour)) }
	for _, row := range []string{
		fmt.Sprintf("| `http.max_body`: %d MiB unless set, %d MiB at most |", config.Default().HTTP.MaxBody>>20, config.MaxMaxBody>>20),
		fmt.Sprintf("| %s events with %d MiB in all |", grouped(engine.MaxSessionEvents), engine.MaxSessionBytes>>20),
		fmt.Sprintf("| whole seconds, up to a year (%s) |", grouped(engine.MaxDelay)),
		fmt.Sprintf("| %s; of all webhooks, beyond the first of each, %s |", grouped(engine.MaxMaxInFlight), grouped(config.MaxMaxInFlight)),
		fmt.Sprintf("| %v to %s attempts a second |", engine.MinRateLimit, grouped(int(engine.MaxRateLimit))),
		fmt.Sprintf("| %.0f s to %.0f min |", engine.MinTimeout.Seconds(), engine.MaxTimeout.Minutes()),
		fmt.Sprintf("| %d, with an overlap of up to %d days |", engine.MaxSecrets, days(engine.MaxOverlap)),
	} {
		if !strings.Contains(page, row) {
			t.Errorf("docs/limits.md lacks %s", row)
		}
	}
}

// grouped writes an integer as prose does: 10,000.
func grouped(n int) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
