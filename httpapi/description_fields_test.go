//go:build !race

package httpapi

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hookbolt/engine"
	"hookbolt/httpapi/jsonobject"
)

// schema returns a schema of the description by its name.
func schema(name string) tree { return at(described, "components", "schemas", name) }

// properties returns those of a schema, with those of the schemas that it is made of, and which of them are required.
func properties(s tree) (fields map[string]tree, required []string) {
	fields = make(map[string]tree)
	parts, _ := s["allOf"].([]any)
	for _, part := range parts {
		more, names := properties(resolved(part))
		maps.Copy(fields, more)
		required = append(required, names...)
	}
	own, _ := s["properties"].(tree)
	for name := range own {
		fields[name] = at(own, name)
	}
	names, _ := s["required"].([]any)
	for _, name := range names {
		required = append(required, name.(string))
	}
	slices.Sort(required)
	return fields, required
}

// sameNames compares what the description has with what the code has.
func sameNames[T any](t *testing.T, what string, documented map[string]T, real []string) {
	t.Helper()
	names := slices.Sorted(maps.Keys(documented))
	slices.Sort(real)
	if !slices.Equal(names, real) {
		t.Errorf("%s: the description has\n%v, the code has\n%v", what, names, real)
	}
}

// answerFields are the types of an answer's fields by their names in JSON, in embedded structs, too; optional has those that may be left out.
func answerFields(value any) (fields map[string]reflect.Type, optional []string) {
	fields = make(map[string]reflect.Type)
	if o, ok := value.(jsonobject.Object); ok {
		for _, m := range o {
			fields[m.Name] = reflect.TypeOf(m.Value)
			if m.Name == "member" { // a server on a file has none
				optional = append(optional, m.Name)
			}
		}
		return fields, optional
	}
	for f := range reflect.TypeOf(value).Fields() {
		tag := f.Tag.Get("json")
		name, isOptional := strings.CutSuffix(tag, ",omitempty")
		switch {
		case f.Anonymous:
			more, may := answerFields(reflect.Zero(f.Type).Interface())
			maps.Copy(fields, more)
			optional = append(optional, may...)
		case tag == "" || tag == "-":
		default:
			fields[name] = f.Type
			if isOptional {
				optional = append(optional, name)
			}
		}
	}
	return fields, optional
}

// TestDescriptionHasTheAnswers holds the schemas of answers against what is encoded: the same fields, all of them required, and null only
// where a value may be null.
func TestDescriptionHasTheAnswers(t *testing.T) {
	w := engine.DefaultWebhook()
	for name, value := range map[string]any{
		"Webhook": showWebhook(&w, engine.Health{}), "WebhookWithSecret": showWithSecret(&w, engine.Health{}),
		"WebhookDetail": addOwner(showDetail(showWebhook(&w, engine.Health{}), engine.WebhookStats{}, []replay{}, nil), new(engine.Fleet), w.ID), "Members": members{}, "Member": member{}, "Health": health{}, "PreviousSecret": previousSecret{}, "Secret": secrets{}, "PublicKeys": publicKeys{}, "PublicKey": publicKey{}, "ShownSignature": engine.ShownSignature{},
		"DeliveryCounts": deliveryCounts{}, "WebhookPage": page[webhook]{}, "DeliveryPage": page[delivery]{}, "Delivery": delivery{}, "DeliveryDetail": deliveryDetail{},
		"Attempt": attempt{}, "Phases": phases{}, "Replay": replay{}, "Preview": preview{}, "ProgramError": programError{}, "Session": session{}, "StoredEvent": event{}, "Erased": engine.Erased{}, "EraseResult": erasure{}, "ListedSession": listedSession{}, "SessionPage": page[listedSession]{}, "Problem": problem{},
		"InputError": engine.InputError{}, "PlatformHook": showPlatformHook(&w), "PlatformCreatedHook": showPlatformCreated(&w), "PlatformLog": platformLog{},
		"PlatformHookPage": platformPage[platformHook]{}, "PlatformLogPage": platformPage[platformLog]{}, "PlatformProblem": platformProblem{},
	} {
		documented, required := properties(schema(name))
		fields, optional := answerFields(value)
		var always []string
		for field, typ := range fields {
			if !slices.Contains(optional, field) {
				always = append(always, field)
			}
			checkNull(t, name+"."+field, documented[field], typ)
		}
		sameNames(t, name, documented, slices.Collect(maps.Keys(fields)))
		if slices.Sort(always); !slices.Equal(required, always) {
			t.Errorf("%s: the description requires %v, of the type there are always %v", name, required, always)
		}
	}
}

// checkNull holds whether a field of the description may be null against its Go type, which is nil for what is always null. An instant is
// null when it is zero, which only the code around it can tell.
func checkNull(t *testing.T, name string, documented tree, typ reflect.Type) {
	t.Helper()
	may := strings.Contains(jsonOf(t, documented["type"]), `"null"`)
	switch {
	case typ == nil && may:
	case typ == nil:
		t.Errorf("%s is always null, and may not be", name)
	case typ == reflect.TypeFor[instant](), typ == reflect.TypeFor[json.RawMessage](), typ.Kind() == reflect.Interface:
	case may != (typ.Kind() == reflect.Pointer):
		t.Errorf("%s may be null: %t, but its type is %s", name, may, typ)
	}
}

// parse reads a file of the engine.
func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(gotoken.NewFileSet(), "../engine/"+file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// text returns the value of a string literal.
func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != gotoken.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// cases returns the texts that a function of the engine switches on: the names of the fields that it reads.
func cases(t *testing.T, file, function string) []string {
	t.Helper()
	names := make(map[string]bool)
	for _, decl := range parse(t, file).Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Name.Name == function {
			ast.Inspect(fn, func(n ast.Node) bool {
				if clause, ok := n.(*ast.CaseClause); ok {
					for _, e := range clause.List {
						if s, ok := text(e); ok {
							names[s] = true
						}
					}
				}
				return true
			})
		}
	}
	if len(names) == 0 {
		t.Errorf("%s has no function %s that reads fields", file, function)
	}
	return slices.Collect(maps.Keys(names))
}

// keys returns the keys of a table of the engine with their values.
func keys(t *testing.T, file, table string) map[string]ast.Expr {
	t.Helper()
	found := make(map[string]ast.Expr)
	ast.Inspect(parse(t, file), func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == table {
			for _, e := range spec.Values[0].(*ast.CompositeLit).Elts {
				pair := e.(*ast.KeyValueExpr)
				if s, ok := text(pair.Key); ok {
					found[s] = pair.Value
				}
			}
		}
		return true
	})
	if len(found) == 0 {
		t.Errorf("%s has no table %s", file, table)
	}
	return found
}

// TestDescriptionHasTheInput holds the schemas of requests against the parsers, whose tables and cases are read from their source: what a
// parser knows is nowhere else.
func TestDescriptionHasTheInput(t *testing.T) {
	change, _ := properties(schema("WebhookChange"))
	var settings []string
	for _, s := range engine.Settings {
		settings = append(settings, s.Name)
	}
	sameNames(t, "WebhookChange", change, settings)
	rotation, _ := properties(schema("Rotation"))
	sameNames(t, "Rotation", rotation, cases(t, "rotation.go", "ParseRotation"))
	replayed, _ := properties(schema("ReplayRequest"))
	sameNames(t, "ReplayRequest", replayed, cases(t, "replay.go", "ParseReplay"))
	previewed, _ := properties(schema("PreviewRequest"))
	sameNames(t, "PreviewRequest", previewed, cases(t, "preview.go", "ParsePreview"))
	for setting, read := range map[string][2]string{"basic_auth": {"credentials.go", "readBasicAuth"}, "oauth2": {"credentials.go", "readOAuth2"},
		"signature": {"signature.go", "readSignature"}} {
		fields, _ := properties(change[setting])
		sameNames(t, setting, fields, cases(t, read[0], read[1]))
	}

	for name, function := range map[string]string{"Answer": "answer", "Lead": "lead", "Result": "result"} {
		fields, _ := properties(schema(name))
		sameNames(t, name, fields, cases(t, "eventparser.go", function))
	}
	common, _ := properties(schema("EventFields"))
	typed := keys(t, "eventparser.go", "typedFields")
	all := maps.Clone(common)
	for name, table := range typed {
		all[name] = nil
		var types []string
		for _, e := range table.(*ast.CompositeLit).Elts[1].(*ast.CompositeLit).Elts {
			types = append(types, strings.TrimPrefix(e.(*ast.Ident).Name, "Event"))
		}
		for event, variant := range map[string]string{"Start": "StartEvent", "Vote": "VoteEvent", "Undo": "UndoEvent", "Lead": "LeadEvent", "ResultView": "ResultViewEvent",
			"Finish": "FinishEvent"} {
			fields, _ := properties(schema(variant))
			if _, has := fields[name]; has != slices.Contains(types, event) {
				t.Errorf("%s has %s: %t, but it belongs to %v", variant, name, has, types)
			}
		}
	}
	read := slices.AppendSeq(cases(t, "eventparser.go", "member"), maps.Keys(typed))
	slices.Sort(read)
	sameNames(t, "the names of events' fields", all, slices.Compact(read))
	known := make(map[string]bool)
	for _, name := range at(schema("EventFields"), "propertyNames")["enum"].([]any) {
		known[name.(string)] = true
	}
	sameNames(t, "propertyNames of EventFields", known, slices.Collect(maps.Keys(all)))

	platform, _ := properties(schema("PlatformHookChange"))
	var names []string
	for _, f := range platformFields {
		names = append(names, f.name)
	}
	sameNames(t, "PlatformHookChange", platform, names)
}

// TestDescriptionHasTheSettings holds what the description says of each setting against the table of settings.
func TestDescriptionHasTheSettings(t *testing.T) {
	change, _ := properties(schema("WebhookChange"))
	fresh, required := properties(schema("NewWebhook"))
	shown, _ := properties(schema("Webhook"))
	for i := range engine.Settings {
		s := &engine.Settings[i]
		described := resolved(change[s.Name])
		if may := strings.Contains(jsonOf(t, described["type"]), `"null"`); may == (s.Required != "") {
			t.Errorf("%s may be null: %t, but what is required of it is %q", s.Name, may, s.Required)
		}
		if slices.Contains(required, s.Name) != (s.Required != "") {
			t.Errorf("NewWebhook requires %v, but what is required of %s is %q", required, s.Name, s.Required)
		}
		if secret := described["writeOnly"] == true; secret != s.Secret {
			t.Errorf("%s is writeOnly: %t, but secret: %t", s.Name, secret, s.Secret)
		}
		if _, has := shown[s.Name]; has != s.Shown() {
			t.Errorf("the schema of answers has %s: %t", s.Name, has)
		}
		if preset, has := fresh[s.Name]["default"]; s.Shown() && s.Required == "" && (!has || jsonOf(t, preset) != jsonOf(t, s.Default())) {
			t.Errorf("the default of %s is %s, described is %v", s.Name, jsonOf(t, s.Default()), preset)
		}
		checkLimits(t, s, described)
	}
}

// checkLimits compares the limits of a setting with the keywords of its schema, and durations with its words.
func checkLimits(t *testing.T, s *engine.Setting, described tree) {
	t.Helper()
	of := described // what a bound of a number is about: the elements of a list
	if items, ok := described["items"].(tree); ok {
		of = items
	}
	number := func(keyword string) float64 {
		value := described[keyword]
		if value == nil {
			value = of[keyword]
		}
		n, _ := value.(float64)
		if whole, ok := value.(int); ok {
			n = float64(whole)
		}
		return n
	}
	l := s.Limits
	for keyword, want := range map[string]float64{"minimum": l.Minimum, "maximum": l.Maximum, "minLength": float64(l.MinLength), "maxLength": float64(l.MaxLength),
		"maxItems": float64(l.MaxItems), "maxProperties": float64(l.MaxProperties)} {
		if got := number(keyword); got != want {
			t.Errorf("%s of %s is %v, described is %v", keyword, s.Name, want, got)
		}
	}
	if _, has := of["minimum"]; has != (l.Maximum != 0) {
		t.Errorf("%s has a minimum: %t", s.Name, has)
	}
	if words, _ := described["description"].(string); !strings.Contains(words, l.Spans) {
		t.Errorf("the description of %s lacks its limits, %s: %s", s.Name, l.Spans, words)
	}
}

// jsonNames returns the names that the fields of a struct of the engine have in JSON.
func jsonNames(t *testing.T, file, name string) []string {
	t.Helper()
	var names []string
	ast.Inspect(parse(t, file), func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == name {
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				tag, _ := text(f.Tag)
				names = append(names, reflect.StructTag(tag).Get("json"))
			}
		}
		return true
	})
	return names
}

// TestDescriptionHasTheOperations holds the schemas of system events against the types that are encoded.
func TestDescriptionHasTheOperations(t *testing.T) {
	for name, typ := range map[string]string{"Operation": "systemEvent", "OperationWebhook": "eventWebhook", "OperationPaused": "pausedData",
		"OperationFailing": "failingData", "OperationRecovered": "recoveredData", "OperationFailed": "deliveryFailedData", "OperationDisk": "diskData",
		"OperationTest": "testData"} {
		fields, required := properties(schema(name))
		sameNames(t, name, fields, jsonNames(t, "systemevents.go", typ))
		if len(required) != len(fields) {
			t.Errorf("%s requires %v only", name, required)
		}
	}
}

// TestDescriptionHasTheWords holds lists of words against the engine's.
func TestDescriptionHasTheWords(t *testing.T) {
	words := func(list any) string { return strings.Trim(jsonOf(t, list), "[]") }
	withNull := func(list any) string { return words(list) + ",null" }
	kinds := []engine.Kind{engine.KindComplete, engine.KindIncomplete, engine.KindUpdate, engine.KindTest, engine.KindOperation}
	types := []engine.EventType{engine.EventStart, engine.EventVote, engine.EventUndo, engine.EventLead, engine.EventResultView, engine.EventFinish}
	reasons := []engine.NextReason{engine.NextBySchedule, engine.NextByRetryAfter, engine.NextByThrottle, engine.NextByToken, engine.NextExhausted, engine.NextCancelled, engine.NextQueuedAgain}
	operations := []engine.SystemEventType{engine.SystemEventPaused, engine.SystemEventFailing, engine.SystemEventRecovered, engine.SystemEventFailed, engine.SystemEventDiskLow,
		engine.SystemEventDiskOK, engine.SystemEventTest}
	for _, c := range []struct {
		name string
		at   tree
		want string
	}{
		{"Status", schema("Status"), words(engine.Statuses)},
		{"ErrorClass", schema("ErrorClass"), withNull(engine.ErrorClasses)},
		{"kind", at(schema("Delivery"), "properties", "kind"), words(kinds)},
		{"next_reason", at(schema("Attempt"), "properties", "next_reason"), withNull(reasons)},
		{"ReplayScope", schema("ReplayScope"), words([]engine.ReplayScope{engine.ReplayFailed, engine.ReplayFiltered, engine.ReplayAny, engine.ReplayMissing})},
		{"type", at(schema("EventFields"), "properties", "type"), words(types)},
		{"content_type", at(schema("EventFields"), "properties", "content_type"), withNull(engine.ContentTypes)},
		{"content_type of a payload", at(schema("Payload"), "properties", "content_type"), words(engine.ContentTypes)},
		{"type of an operation", at(schema("Operation"), "properties", "type"), words(operations)},
	} {
		if got := words(c.at["enum"]); got != c.want {
			t.Errorf("%s: the description has %s, the engine %s", c.name, got, c.want)
		}
	}
}
