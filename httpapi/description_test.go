//go:build !race

package httpapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/go-yaml"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// tree is a part of the description, as YAML has it.
type tree = map[string]any

// described is the description, read without any knowledge of OpenAPI.
var described = func() tree {
	var t tree
	if err := yaml.Unmarshal(openapi, &t); err != nil {
		panic(err)
	}
	return t
}()

// at follows keys, and references where it comes to any.
func at(t tree, keys ...string) tree {
	for _, key := range keys {
		t = resolved(t[key])
	}
	return t
}

// resolved follows a reference, and adds what stands beside it. What is not there is nil.
func resolved(v any) tree {
	t, _ := v.(tree)
	ref, ok := t["$ref"].(string)
	if !ok {
		return t
	}
	full := maps.Clone(at(described, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
	maps.Copy(full, t)
	return full
}

// TestDescriptionIsOpenAPI holds the description against the schema of OpenAPI 3.1 itself.
func TestDescriptionIsOpenAPI(t *testing.T) {
	document, err := libopenapi.NewDocument(openapi)
	if err != nil {
		t.Fatal(err)
	}
	if got := document.GetVersion(); got != "3.1.0" {
		t.Errorf("version %s", got)
	}
	v, errs := validator.NewValidator(document)
	if errs != nil {
		t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		t.Error(errs)
	}
	// What that schema cannot say: generators name functions by these.
	ids := make(map[string]string)
	for path, item := range at(described, "paths") {
		for method := range item.(tree) {
			if method == "parameters" {
				continue
			}
			id, _ := at(item.(tree), method)["operationId"].(string)
			if other, ok := ids[id]; id == "" || ok {
				t.Errorf("the operationId of %s %s is %q, as that of %q", method, path, id, other)
			}
			ids[id] = method + " " + path
		}
	}
}

// operation is what the description and the table of routes both say of a call.
type operation struct {
	success  string // the statuses
	query    string // the parameters, sorted
	security string // the tokens
}

// TestDescriptionHasTheRoutes holds the description against the table of routes, in both directions.
func TestDescriptionHasTheRoutes(t *testing.T) {
	documented, real := make(map[string]operation), make(map[string]operation)
	for path, item := range at(described, "paths") {
		shared, _ := item.(tree)["parameters"].([]any)
		for method, op := range item.(tree) {
			if method != "parameters" {
				documented[strings.ToUpper(method)+" "+path] = describedOperation(t, path, shared, op.(tree))
			}
		}
	}
	for _, rt := range new(API).routes() {
		if rt.page { // for people
			continue
		}
		op := operation{success: http.StatusText(rt.status), query: strings.Join(slices.Sorted(slices.Values(rt.params)), " ")}
		if rt.path == "/v1/webhooks/:id/replay" {
			op.success = "OK, Accepted" // a dry run has a status of its own
		}
		switch {
		case rt.allowedRoles&anybody != 0:
		case rt.allowedRoles == ingestToken:
			op.security = "adminToken ingestToken"
		case rt.allowedRoles == metricsToken|readToken:
			op.security = "adminToken metricsToken readToken"
		case rt.allowedRoles == readToken:
			op.security = "adminToken readToken"
		case rt.allowedRoles == adminToken:
			op.security = "adminToken"
		default:
			t.Errorf("%s %s is opened by %b", rt.method, rt.path, rt.allowedRoles)
		}
		real[rt.method+" "+regexp.MustCompile(`:(\w+)`).ReplaceAllString(rt.path, "{$1}")] = op
	}
	for call := range maps.Keys(documented) {
		if got, ok := real[call]; !ok || got != documented[call] {
			t.Errorf("%s: the description has %+v, the routes %+v (%t)", call, documented[call], got, ok)
		}
	}
	for call := range maps.Keys(real) {
		if _, ok := documented[call]; !ok {
			t.Errorf("%s is not described", call)
		}
	}
}

func describedOperation(t *testing.T, path string, shared []any, op tree) operation {
	var success, query, segments, security []string
	for _, status := range slices.Sorted(maps.Keys(at(op, "responses"))) {
		if code, err := strconv.Atoi(status); err == nil && code < 300 {
			success = append(success, http.StatusText(code))
		}
	}
	own, _ := op["parameters"].([]any)
	for _, p := range slices.Concat(shared, own) {
		switch p := resolved(p); p["in"] {
		case "query":
			query = append(query, p["name"].(string))
		case "path":
			segments = append(segments, "{"+p["name"].(string)+"}")
		}
	}
	if got := regexp.MustCompile(`\{\w+\}`).FindAllString(path, -1); !slices.Equal(got, segments) {
		t.Errorf("%s: the parameters of the path are %v", path, segments)
	}
	list, ok := op["security"].([]any)
	if !ok {
		list = described["security"].([]any)
	}
	for _, scheme := range list {
		security = slices.AppendSeq(security, maps.Keys(scheme.(tree)))
	}
	slices.Sort(query)
	slices.Sort(security)
	return operation{strings.Join(success, ", "), strings.Join(query, " "), strings.Join(security, " ")}
}

// TestPayloadSchemaIsTheDescriptions: the description is of use without the schema's file, so it has the schema once more.
func TestPayloadSchemaIsTheDescriptions(t *testing.T) {
	var schema tree
	if err := json.Unmarshal(payloadSchema, &schema); err != nil {
		t.Fatal(err)
	}
	delete(schema, "$schema")
	// Both by way of JSON: YAML has integers of its own.
	if got, want := jsonOf(t, at(described, "components", "schemas", "Payload")), jsonOf(t, schema); got != want {
		t.Errorf("openapi.yaml has\n%s\npayload.schema.json has\n%s", got, want)
	}
}

// TestDescriptionsServed shows that both files are answered as they are, without a token.
func TestDescriptionsServed(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}})
	for _, c := range []struct{ target, contentType, text string }{
		{"/openapi.yaml", "application/yaml", string(openapi)},
		{"/v1/payload.schema.json", "application/schema+json", string(payloadSchema)},
	} {
		rec := f.do("GET", c.target, "")
		if rec.Code != 200 || rec.Header().Get("Content-Type") != c.contentType || rec.Body.String() != c.text {
			t.Errorf("%s: %d %v, %d bytes", c.target, rec.Code, rec.Header(), rec.Body.Len())
		}
	}
}
