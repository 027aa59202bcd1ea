//go:build !race

package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/jsonschema/v6"
)

// compileDescribed returns the schema at a JSON pointer into the description.
func compileDescribed(t *testing.T) func(pointer string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("openapi.json", parsed(t, []byte(jsonOf(t, described)))); err != nil {
		t.Fatal(err)
	}
	return func(pointer string) *jsonschema.Schema {
		t.Helper()
		s, err := c.Compile("openapi.json#" + pointer)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// eachMember calls do with each object of the description and the JSON pointer to it.
func eachMember(v any, pointer string, do func(pointer string, object tree)) {
	switch v := v.(type) {
	case tree:
		do(pointer, v)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			eachMember(v[key], pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(key), do)
		}
	case []any:
		for i := range v {
			eachMember(v[i], fmt.Sprint(pointer, "/", i), do)
		}
	}
}

// examples returns the examples of a media type, a header or a parameter by their names.
func examples(object tree) map[string]any {
	found := make(map[string]any)
	if one, ok := object["example"]; ok {
		found["example"] = one
	}
	named, _ := object["examples"].(tree)
	for name := range named {
		found[name] = at(named, name)["value"]
	}
	return found
}

// TestDescriptionExamplesConform holds every example, and every default, against its schema.
func TestDescriptionExamplesConform(t *testing.T) {
	compile := compileDescribed(t)
	held := 0
	hold := func(pointer string, schema *jsonschema.Schema, value any) {
		held++
		if err := schema.Validate(parsed(t, []byte(jsonOf(t, value)))); err != nil {
			t.Errorf("%s: %v", pointer, err)
		}
	}
	eachMember(described, "", func(pointer string, object tree) {
		if _, ok := object["schema"].(tree); ok {
			for name, value := range examples(object) {
				hold(pointer+" "+name, compile(pointer+"/schema"), value)
			}
		}
		// A field may be called default, too: what is under its name then is a schema, which is no value of a schema.
		if value, ok := object["default"]; ok && !strings.HasSuffix(pointer, "/responses") && !strings.HasSuffix(pointer, "/properties") {
			hold(pointer+" default", compile(pointer), value)
		}
	})
	if held < 60 {
		t.Errorf("only %d examples were held", held)
	}
}

// TestDescriptionRequestExamples sends every example of a request, which must be taken.
func TestDescriptionRequestExamples(t *testing.T) {
	sent := 0
	for path, item := range at(described, "paths") {
		for method := range item.(tree) {
			content := at(described, "paths", path, method, "requestBody", "content")
			for mediaType := range content {
				for name, value := range examples(at(content, mediaType)) {
					f := newFixture(t, Config{})
					f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","signature":{"v1a":true}}`)
					body, isText := value.(string)
					if !isText {
						body = jsonOf(t, value)
					}
					target := strings.Replace(path, "{id}", "1", 1)
					if rec := f.do(strings.ToUpper(method), target, body); rec.Code >= 300 {
						t.Errorf("%s %s, %s: %d %s", method, path, name, rec.Code, rec.Body)
					}
					sent++
				}
			}
		}
	}
	if sent < 12 {
		t.Errorf("only %d examples were sent", sent)
	}
}

// TestDescriptionProblemExamples makes the mistakes that the examples of problems are the answers to, and gets those answers to the letter.
func TestDescriptionProblemExamples(t *testing.T) {
	// What it takes more than a request to come to.
	elsewhere := []string{"the body did not arrive in time", "the body could not be read to its end", "something went wrong inside hookbolt; its log says more", "webhook 1 was changed meanwhile",
		"the database takes no work at the moment; what this request would have stored is not acknowledged",
		errTooManyGuesses.Detail, // see guesses_test.go
		errKeyInUse.Detail,       // see once_test.go
		"there is no other process that could take the lanes, so nothing would be delivered. Start another one first, or stop this one: what is due is sent when it is back",
		"another backup is being made or sent; there is one at a time", "webhook 1 is created by delivery.operations_url; remove that setting to delete it"}
	open := newFixture(t, Config{})
	closed := newFixture(t, Config{AdminTokens: []string{"admin"}, IngestTokens: []string{"ingest"},
		CORSOrigins: []string{"https://page.example"}})
	open.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	open.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	var list listOf[shownDelivery]
	open.wantJSON(&list, 200, "GET", "/v1/deliveries", "")
	cancelled := "/v1/deliveries/" + list.Items[0].ID
	open.want(200, "POST", cancelled+"/cancel", "")
	open.want(200, "PATCH", "/v1/webhooks/1", `{"active":false,"content_id":"`+contentB+`"}`)

	answers := make(map[string]bool)
	answer := func(f *fixture, method, target, body string, header ...string) {
		r := f.request(method, target, body)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		if host := r.Header.Get("Host"); host != "" {
			r.Host = host
		}
		answers[compact(t, f.serve(r).Body.Bytes())] = true
	}
	answer(open, "POST", "/v1/events", `[{"type":"finish","session_id":"x"},{"type":"vote","session_id":"`+sessionA+
		`","question_id":1,"answers":[{"answer_id":1},{"answer_id":"two"}]},{"type":"start","sesion":1}]`)
	answer(open, "POST", "/v1/events", finish(sessionB))
	answer(open, "POST", "/v1/events", "hello")
	answer(open, "POST", "/v1/drain", "")
	answer(open, "POST", "/v1/webhooks", `{}`)
	answer(open, "POST", "/v1/webhooks", `{"url":"http://10.0.0.7/hook"}`)
	answer(open, "PATCH", "/v1/webhooks/1", `{"delay":-1}`)
	answer(open, "PATCH", "/v1/webhooks/1", `{"delay":1}`, "If-Match", `"1-0"`)
	for _, body := range []string{`{"url":"https://example.com/"}`, `{"url":"https://example.com/2"}`} {
		answer(open, "POST", "/v1/webhooks", body, "Idempotency-Key", "k")
	}
	open.want(204, "DELETE", "/v1/webhooks/2", "")
	answer(open, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`, "Idempotency-Key", "k")
	answer(open, "POST", "/v1/webhooks/1/rotate-secret", `{"overlap":"721h"}`)
	answer(open, "GET", "/v1/webhooks/1/public-key", "")
	answer(open, "POST", "/v1/webhooks/1/replay", `{}`)
	answer(open, "POST", "/v1/webhooks/1/replay", `{"status":"failed"}`)
	answer(open, "GET", "/v1/webhooks/1/preview?session_id="+sessionA, "")
	answer(open, "POST", "/v1/preview", `{"settings":{"delay":-1}}`)
	answer(open, "POST", "/v1/erase", `{"email":"jane@example.com","phone":"+90"}`)
	answer(open, "POST", cancelled+"/retry", "")
	answer(open, "POST", cancelled+"/cancel", "")
	answer(open, "GET", "/v1/deliveries/7", "")
	answer(open, "GET", "/v1/deliveries?stauts=failed", "")
	answer(open, "GET", "/v1/deliveries?limit=0", "")
	answer(open, "GET", "/v1/webhooks", "", "Host", "example.com")
	open.want(200, "PATCH", "/v1/webhooks/1", `{"content_id":"`+contentA+`"}`)
	answer(open, "GET", "/v1/webhooks/1/preview?as_of=2000-01-01T00:00:00Z&session_id="+sessionA, "")
	closed.token = "admin"
	answer(closed, "POST", "/v1/events", "", "Origin", "https://page.example")
	closed.token = "ingest"
	answer(closed, "OPTIONS", "/v1/events", "", "Origin", "https://quiz.example.com")
	answer(open, "POST", "/v1/events", strings.Repeat(" ", DefaultMaxBodyBytes+1))
	for _, prefix := range []string{"/v1/webhooks", "/platform/hooks/web"} {
		answer(open, "GET", prefix+"/9", "")
		answer(open, "POST", prefix, strings.Repeat(" ", DefaultMaxBodyBytes+1))
		answer(open, "POST", prefix, "", "Content-Encoding", "gzip")
		answer(closed, "GET", prefix, "")
		closed.token = ""
		answer(closed, "GET", prefix, "")
		closed.token = "ingest"
	}
	answer(open, "POST", "/platform/hooks/web", `{"url":"https://example.com/","delay":31536001}`)

	eachMember(described, "", func(pointer string, object tree) {
		for name, value := range examples(object) {
			example, _ := value.(tree)
			detail, isProblem := example["detail"].(string)
			if message, ok := example["message"].(string); ok && message != "deleted" {
				detail, isProblem = message, true
			}
			if !isProblem || slices.Contains(elsewhere, detail) {
				continue
			}
			if !answers[compact(t, []byte(jsonOf(t, example)))] {
				t.Errorf("%s %s is no answer: %s", pointer, name, jsonOf(t, example))
			}
		}
	})
}

// compact writes JSON with its keys in order.
func compact(t *testing.T, text []byte) string {
	t.Helper()
	var v any
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return jsonOf(t, v)
}
