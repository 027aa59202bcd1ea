//go:build !race

package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/jsonschema/v6"
)

// compilePayloadSchema makes payload.schema.json ready for use, with its formats.
func compilePayloadSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(payloadSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("payload.schema.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("payload.schema.json") // and holds it against the schema of JSON Schema
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// goldenPayloads are the payloads of testdata by their files' names.
func goldenPayloads(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("../testdata/sessions/*.json")
	if err != nil || len(paths) < 16 {
		t.Fatalf("%d golden payloads, %v", len(paths), err)
	}
	payloads := make(map[string][]byte)
	for _, path := range paths {
		if payloads[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return payloads
}

// parsed reads JSON as the schema's library wants it, every number as it is written.
func parsed(t testing.TB, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPayloadsConform: every golden payload conforms to the schema, and so does the sample of a test delivery.
func TestPayloadsConform(t *testing.T) {
	schema := compilePayloadSchema(t)
	payloads := goldenPayloads(t)
	f := newFixture(t, Config{})
	for name, settings := range map[string]string{"sample": "", "bare sample": `,"send_answers":false,"send_leads":false`} {
		var hook struct{ ID int }
		if err := json.Unmarshal([]byte(f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"`+settings+"}")), &hook); err != nil {
			t.Fatal(err)
		}
		var d shownDelivery
		f.wantJSON(&d, 202, "POST", fmt.Sprintf("/v1/webhooks/%d/test", hook.ID), "")
		var detail struct{ Payload json.RawMessage }
		if err := json.Unmarshal([]byte(f.want(200, "GET", "/v1/deliveries/"+d.ID, "")), &detail); err != nil {
			t.Fatal(err)
		}
		payloads[name] = detail.Payload
	}
	for name, payload := range payloads {
		if err := schema.Validate(parsed(t, payload)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBrokenPayloadsDoNotConform breaks each field of each golden payload: takes it away, gives it another type, or puts one beside it that
// there is not.
func TestBrokenPayloadsDoNotConform(t *testing.T) {
	schema := compilePayloadSchema(t)
	mayBeAway := []string{"answers", "leads", "answers[].answers[].addon", "leads[].addon"}
	broken := 0
	for name, payload := range goldenPayloads(t) {
		root := parsed(t, payload)
		refused := func(what string) {
			t.Helper()
			if broken++; schema.Validate(root) == nil {
				t.Errorf("%s conforms with %s", name, what)
			}
		}
		eachObject(root, "", func(path string, object map[string]any) {
			for _, field := range slices.Sorted(maps.Keys(object)) {
				value := object[field]
				delete(object, field)
				if away := strings.TrimPrefix(path+"."+field, "."); !slices.Contains(mayBeAway, away) {
					refused(away + " away")
				} else if err := schema.Validate(root); err != nil {
					t.Errorf("%s without %s: %v", name, away, err)
				}
				for _, wrong := range []any{[]any{json.Number("1")}, map[string]any{"a": "b"}, json.Number("1.5")} {
					object[field] = wrong
					refused(fmt.Sprintf("%s.%s as %v", path, field, wrong))
				}
				switch value.(type) {
				case string:
					object[field] = json.Number("7")
					refused(path + "." + field + " as a number")
				case json.Number, bool:
					object[field] = "7"
					refused(path + "." + field + " as text")
				}
				object[field] = value
			}
			object["unknown"] = nil
			refused("an unknown field in " + path)
			delete(object, "unknown")
		})
		if err := schema.Validate(root); err != nil {
			t.Fatalf("%s, mended: %v", name, err)
		}
	}
	if broken < 1000 {
		t.Errorf("only %d payloads were broken", broken)
	}
}

// eachObject calls do with each object of a JSON value and its path, in which [] stands for the elements of a list.
func eachObject(v any, path string, do func(path string, object map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		do(path, v)
		for name, inner := range v {
			eachObject(inner, strings.TrimPrefix(path+"."+name, "."), do)
		}
	case []any:
		for _, inner := range v {
			eachObject(inner, path+"[]", do)
		}
	}
}

// TestPayloadSchemaRules are the ties between fields, and what the formats refuse.
func TestPayloadSchemaRules(t *testing.T) {
	schema := compilePayloadSchema(t)
	golden := goldenPayloads(t)["seed-example.complete.json"]
	for _, c := range []struct{ field, value string }{
		{"session_id", `"22ffdf18"`},
		{"content_id", `"quiz-7"`},
		{"content_type", `"poll"`},
		{"session_start_date", `"2024-01-23T11:59:33Z"`},
		{"session_start_date", `"2024-13-23T11:59:33.000000Z"`},
		{"session_end_date", `null`},                                    // of a complete session
		{"complete_session", `false`},                                   // with an end and a result
		{"answers", `[{"question_id":1,"question":null,"answers":[]}]`}, // a question that nobody answered is not there
	} {
		payload := parsed(t, golden).(map[string]any)
		payload[c.field] = parsed(t, []byte(c.value))
		if schema.Validate(payload) == nil {
			t.Errorf("%s may be %s", c.field, c.value)
		}
	}
}
