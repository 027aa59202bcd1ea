package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"hookbolt/engine/transform"
	"hookbolt/httpapi/ui"
	"hookbolt/internal/hookbolttest"

	"github.com/pb33f/jsonschema/v6"
)

// job is what hookbolt does with a payload by a recipe's settings.
func job(r *ui.Recipe, payload []byte) transform.Job {
	contentType := r.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	return transform.Job{Payload: payload, Programs: transform.Programs{
		Filter: r.Filter, Transform: r.Transform, URLValues: r.URLValues, Encoding: transform.EncodingOf(contentType),
	}}
}

// recipeSchema makes the schema of a receiver ready for use.
func recipeSchema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	file := name + ".schema.json"
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(hookbolttest.ReadFile(t, "docs/recipes/testdata/"+file)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(file, schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// sent is a body as a value for a schema: JSON, or the fields of a form, where a field that stands more than once, or has no name that can, is
// a list.
func sent(t *testing.T, r *ui.Recipe, body []byte) any {
	t.Helper()
	if !strings.HasSuffix(r.ContentType, "urlencoded") {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]any)
	for name, values := range form {
		list := make([]any, len(values))
		for i, v := range values {
			list[i] = v
		}
		fields[name] = list
		if len(list) == 1 {
			fields[name] = values[0]
		}
	}
	return fields
}

// TestDocumentationRecipeLimits: what a recipe sends of any session keeps to what its receiver documents, with its filter and without.
func TestDocumentationRecipeLimits(t *testing.T) {
	payloads := recipePayloads(t)
	for i := range ui.Recipes {
		r := &ui.Recipes[i]
		t.Run(r.Name, func(t *testing.T) {
			schema := recipeSchema(t, r.Name)
			bodies := 0
			for _, p := range payloads {
				bare := *r
				bare.Filter = ""
				for _, r := range []*ui.Recipe{r, &bare} {
					bodies += checkRecipe(t, r, schema, p)
				}
			}
			if bodies < len(payloads)/2 {
				t.Errorf("only %d bodies of %d payloads", bodies, 2*len(payloads))
			}
		})
	}
}

// checkRecipe runs a recipe on a payload, and returns how many bodies it made: none or one.
func checkRecipe(t *testing.T, r *ui.Recipe, schema *jsonschema.Schema, p recipePayload) int {
	t.Helper()
	before := time.Now()
	result, err := transform.Eval(job(r, p.json))
	if err != nil {
		t.Errorf("%s: %v", p.name, err)
		return 0
	}
	// The time is that of a slow machine with many tests on it: the steps say more.
	if took := time.Since(before); result.Steps > transform.MaxSteps/3 || took > transform.MaxTime {
		t.Errorf("%s: %d steps, %s", p.name, result.Steps, took)
	}
	if result.Filtered {
		if p.sent {
			t.Errorf("%s is not sent", p.name)
		}
		return 0
	}
	v := sent(t, r, result.Body)
	if err := schema.Validate(v); err != nil {
		t.Errorf("%s: %v\n%.2000s", p.name, err, result.Body)
	}
	for _, problem := range beyondSchema(r.Name, v, result.Body) {
		t.Errorf("%s: %s\n%.2000s", p.name, problem, result.Body)
	}
	for name, value := range result.URLValues {
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(value) {
			t.Errorf("%s: %s of the URL is %q", p.name, name, value)
		}
	}
	return 1
}

// utf16Length counts a text as JavaScript does: an emoji may be two.
func utf16Length(s string) int { return len(utf16.Encode([]rune(s))) }

// beyondSchema tells which limits a body breaks that JSON Schema cannot say.
func beyondSchema(recipe string, v any, body []byte) (problems []string) {
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if len(body) > transform.MaxResultBytes*3/4 {
		fail("%d bytes", len(body))
	}
	if hidden := regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f]`); slices.ContainsFunc(textsOf(v), func(text string) bool {
		return hidden.MatchString(text) || strings.ContainsRune(text, '\ufffd')
	}) {
		fail("control characters, or half a character")
	}
	texts := make(map[string]string)
	eachText(v, "", func(path, text string) { texts[path] = text })
	switch recipe {
	case "slack":
		for path, text := range texts {
			limit := map[bool]int{true: 2000, false: 3000}[strings.Contains(path, "fields")]
			if utf16Length(text) > limit || strings.ContainsAny(text, "<>") {
				fail("%s has %d characters, or a mention", path, utf16Length(text))
			}
		}
	case "discord":
		total := 0
		limits := map[string]int{"title": 256, "description": 4096, "name": 256, "value": 1024, "text": 2048}
		for path, text := range texts {
			field := path[strings.LastIndexByte(path, '.')+1:]
			if limits[field] > 0 && utf16Length(text) > limits[field] {
				fail("%s has %d characters", path, utf16Length(text))
			}
			if limits[field] > 0 {
				total += utf16Length(text)
			}
		}
		if total > 6000 {
			fail("all texts together have %d characters", total)
		}
	case "ntfy":
		if len(texts["message"]) > 4096 || len(texts["title"]) > 1000 || len(body) > 8192 {
			fail("the message has %d bytes, the body %d", len(texts["message"]), len(body))
		}
	case "mailchimp":
		for path, text := range texts {
			if strings.HasPrefix(path, "merge_fields") && len(text) > 255 {
				fail("%s has %d bytes", path, len(text))
			}
		}
	case "klaviyo":
		if len(body) > 100_000 {
			fail("%d bytes", len(body))
		}
	}
	return problems
}

// textsOf returns the texts of a value, and the names in its objects.
func textsOf(v any) (texts []string) {
	eachText(v, "", func(path, text string) { texts = append(texts, path, text) })
	return texts
}

// eachText calls do with each text in a value and its path.
func eachText(v any, path string, do func(path, text string)) {
	switch v := v.(type) {
	case string:
		do(path, v)
	case map[string]any:
		for name, inner := range v {
			eachText(inner, strings.TrimPrefix(path+"."+name, "."), do)
		}
	case []any:
		for i, inner := range v {
			eachText(inner, fmt.Sprintf("%s.%d", path, i), do)
		}
	}
}

// TestDocumentationRecipeSchemas: the schemas refuse what receivers refuse, so that they prove something.
func TestDocumentationRecipeSchemas(t *testing.T) {
	long := strings.Repeat("a", 70_000)
	for name, bodies := range map[string][]string{
		"slack": {`{"text":"a"}`, `{"text":"","blocks":[]}`, `{"text":"<!channel>","blocks":[{"type":"section","text":{"type":"mrkdwn","text":"a","verbatim":true}}]}`,
			`{"text":"a","blocks":[{"type":"section","text":{"type":"mrkdwn","text":"a &am","verbatim":true}}]}`,
			`{"text":"a","blocks":[{"type":"section","text":{"type":"mrkdwn","text":"` + long[:3001] + `","verbatim":true}}]}`,
			`{"text":"a","blocks":[{"type":"section","fields":[]}]}`},
		"discord":    {`{}`, `{"allowed_mentions":{"parse":["everyone"]},"embeds":[]}`, discordBody(" "), discordBody("<@1>"), discordBody(`a\\`), discordBody(long[:257])},
		"hubspot":    {`{}`, `{"inputs":[{"idProperty":"email","id":"a","properties":{"email":"a"}}]}`, `{"inputs":[{"idProperty":"email","id":"a@b.co","properties":{"email":"a@b.co","phone":"` + long + `"}}]}`},
		"sheets":     {`{}`, sheetsBody("a", "=1+1"), sheetsBody("a", " @a"), sheetsBody("=a", "1"), sheetsBody("1:30", "1"), sheetsBody("a", long)},
		"mailchimp":  {`{}`, `{"email_address":"a@b","status_if_new":"pending","merge_fields":{}}`, `{"email_address":"a@b.co","status_if_new":"new","merge_fields":{}}`, `{"email_address":"a@b.co","status_if_new":"pending","merge_fields":{"QUIZ":"` + long[:256] + `"}}`},
		"klaviyo":    {`{}`, `{"data":{"type":"event"}}`},
		"salesforce": {`{}`, `{"oid":"00DXXXXXXXXXXXX","last_name":"a","company":"b","description":"c"}`, `{"oid":"1","last_name":"a","company":"b","description":"c","phone":"1"}`},
		"zapier":     {`{}`, `{"session_id":"a","visitor":9007199254740993}`, `{"session_id":"a","leads":[]}`, `{"session_id":"a","leads":{}}`},
		"ntfy":       {`{}`, `{"topic":"a/b","sequence_id":"a","title":"a","message":"a","tags":[]}`, `{"topic":"a","sequence_id":"a","title":"a","message":"","tags":[]}`},
		"form":       {`{}`, `{"session":"a","answer":[""],"b":{}}`},
		"meta":       {`{}`, metaBody(`{}`), metaBody(`{"em":["a@b.co"]}`), metaBody(`{"em":[]}`)},
	} {
		schema := recipeSchema(t, name)
		for _, body := range bodies {
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
			if err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			if schema.Validate(v) == nil {
				t.Errorf("the schema of %s takes %.200s", name, body)
			}
		}
	}
}

func discordBody(title string) string {
	return `{"allowed_mentions":{"parse":[]},"embeds":[{"title":"` + title + `","description":"","timestamp":"2026-01-15T10:00:00Z","fields":[],"footer":{"text":"a"}}]}`
}

func sheetsBody(name, value string) string {
	return `{"session":"22ffdf18-1035-4e56-baa2-8327e3af5242","` + name + `":"` + value + `"}`
}

func metaBody(user string) string {
	return `{"data":[{"event_name":"Lead","event_time":1768471226,"event_id":"22ffdf18-1035-4e56-baa2-8327e3af5242","action_source":"other","user_data":` + user + `,"custom_data":{"content_ids":["a"],"content_category":"quiz"}}]}`
}

// TestDocumentationRecipesSay: what receivers are to get of a session, in the cases where it is easily wrong.
func TestDocumentationRecipesSay(t *testing.T) {
	for _, c := range []struct {
		recipe, about string
		change        func(payload map[string]any)
		want          string // "" if it is not sent
	}{
		{"slack", "a mention", leadSetter("name", "<!channel> & co"), `"text":"&lt;!channel&gt; &amp; co: Sample result"`},
		{"slack", "an escape at the cut", leadSetter("comment", strings.Repeat("a", 590)+strings.Repeat("&", 400)), `&amp;…"`},
		{"slack", "two forms", addLead("email", nil), `E-mail*\ntest@example.com`},
		{"slack", "no lead", setter("leads", []any{}), ""},
		{"discord", "markdown", leadSetter("name", "[a](https://b.co) @everyone <@1> **b**"), `"value":"\\[a\\]\\(https://b.co\\) @everyone \\<@1\\> \\*\\*b\\*\\*"`},
		{"discord", "only white space", leadSetter("name", "\u200b"), `"value":"–"`},
		{"slack", "a long comment", leadSetter("comment", strings.Repeat("a", 2000)), `aaaa…"`},
		{"hubspot", "a name of three words", leadSetter("name", " Ada  King Lovelace "), `"firstname":"Ada","lastname":"King Lovelace"`},
		{"hubspot", "spaces around the address", leadSetter("email", " Test@example.com\n"), `"id":"Test@example.com"`},
		{"hubspot", "no address", leadSetter("email", "test at example.com"), ""},
		{"hubspot", "an address in an earlier form", addLead("email", nil), `"id":"test@example.com"`},
		{"mailchimp", "no consent", leadSetter("tc_checked", false), ""},
		{"mailchimp", "consent unknown", leadSetter("tc_checked", nil), ""},
		{"mailchimp", "consent in another form than the address", addLead("email", nil, "tc_checked", true), `"email_address":"test@example.com"`},
		{"mailchimp", "no domain", leadSetter("email", "a@b"), ""},
		{"klaviyo", "no consent", leadSetter("tc_checked", false), ""},
		{"klaviyo", "once a session", nil, `"unique_id":"22ffdf18-1035-4e56-baa2-8327e3af5242"`},
		{"meta", "no consent", leadSetter("tc_checked", false), ""},
		{"meta", "the address of Meta's documentation", leadSetter("email", " John_Smith@gmail.com"), `"62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"`},
		{"meta", "the phone number of Meta's documentation", leadSetter("phone", "+1 (650)555-1212"), `"e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"`},
		{"meta", "a phone number without the country", leadSetter("phone", "(650)555-1212"), `"user_data":{"em":["973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b"]}`},
		{"meta", "a session of last week", setter("event_time", json.Number("1769076100")), ""},
		{"sheets", "a formula", leadSetter("name", "=IMPORTXML(1)"), `"name":"'=IMPORTXML(1)"`},
		{"sheets", "a question that is called like a column", questionSetter("email"), `"email":"test@example.com"`},
		{"sheets", "a question that is a formula", questionSetter("=1+1"), `"q1 =1+1":"Sample answer"`},
		{"zapier", "long ids", setter("poltio_user_id", json.Number("9007199254740993")), `"visitor":"9007199254740993"`},
		{"zapier", "consent was refused", leadSetter("tc_checked", false), `"consent":false`},
		{"salesforce", "no name", leadSetter("name", nil), "last_name=Visitor"},
		{"salesforce", "one word", leadSetter("name", "Ada"), "last_name=Ada"},
		{"salesforce", "a phone number alone", leadSetter("email", nil), "phone=%2B1231231234"},
		{"form", "several answers", nil, "answer=Sample+question%3A+Sample+answer"},
		{"ntfy", "once a session", nil, `"sequence_id":"22ffdf18-1035-4e56-baa2-8327e3af5242"`},
	} {
		r := recipeNamed(t, c.recipe)
		payload := samplePayload(t)
		if c.change != nil {
			c.change(payload)
		}
		result, err := transform.Eval(job(r, marshal(t, payload)))
		if err != nil || result.Filtered != (c.want == "") || !strings.Contains(string(result.Body), c.want) {
			t.Errorf("%s: %s: %v, filtered %t, want %s in\n%s", c.recipe, c.about, err, result.Filtered, c.want, result.Body)
		}
	}
}

// TestDocumentationRecipeMember: the MD5 in the URL of Mailchimp is that of the address in lower case, as Mailchimp's documentation has it.
func TestDocumentationRecipeMember(t *testing.T) {
	payload := samplePayload(t)
	leadSetter("email", "Urist.McVankab@freddiesjokes.com ")(payload)
	result, err := transform.Eval(job(recipeNamed(t, "mailchimp"), marshal(t, payload)))
	if err != nil || result.URLValues["subscriber"] != "62eeb292278cc15f5817cb78f7790b08" {
		t.Errorf("%v, %v", result.URLValues, err)
	}
}

func recipeNamed(t *testing.T, name string) *ui.Recipe {
	t.Helper()
	at := slices.IndexFunc(ui.Recipes, func(r ui.Recipe) bool { return r.Name == name })
	if at < 0 {
		t.Fatalf("there is no recipe %q", name)
	}
	return &ui.Recipes[at]
}
