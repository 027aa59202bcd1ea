package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"hookbolt/internal/hookbolttest"
)

// recipePayload is a payload that recipes are tried with. sent says that every recipe sends it.
type recipePayload struct {
	name string
	json []byte
	sent bool
}

// recipePayloads are a usual session and those that break programs.
func recipePayloads(t *testing.T) []recipePayload {
	t.Helper()
	list := []recipePayload{{name: "sample", json: marshal(t, samplePayload(t)), sent: true}}
	add := func(name string, change func(map[string]any)) {
		payload := samplePayload(t)
		change(payload)
		list = append(list, recipePayload{name: name, json: marshal(t, payload)})
	}
	add("incomplete", func(p map[string]any) {
		maps.Copy(p, map[string]any{"complete_session": false, "session_end_date": nil, "result": nil})
	})
	add("incomplete, no lead", func(p map[string]any) {
		maps.Copy(p, map[string]any{"complete_session": false, "session_end_date": nil, "result": nil, "leads": []any{}})
	})
	add("nothing", func(p map[string]any) {
		maps.Copy(p, map[string]any{"answers": []any{}, "result": nil, "leads": []any{}})
	})
	add("no answers and leads", func(p map[string]any) { delete(p, "answers"); delete(p, "leads") })
	add("nulls", func(p map[string]any) { eachField(p, func(object map[string]any, name string) { object[name] = nil }) })
	for name, text := range hostileTexts() {
		hostile := func(p map[string]any) {
			eachField(p, func(object map[string]any, name string) { object[name] = text })
		}
		add("hostile: "+name, hostile)
		add("hostile, with an address: "+name, func(p map[string]any) { hostile(p); leadSetter("email", "Ada.O'Neil+quiz@example.com")(p) })
	}
	add("many questions", func(p map[string]any) {
		p["answers"] = repeated(10_000, func(i int) any { return question(i, 1) })
	})
	add("many questions with long texts", func(p map[string]any) {
		p["answers"] = repeated(100, func(i int) any {
			q := question(i, 3)
			eachField(q, func(object map[string]any, name string) { object[name] = strings.Repeat("𝔸", 1000) })
			return q
		})
	})
	add("many answers", func(p map[string]any) { p["answers"] = []any{question(1, 10_000)} })
	add("many leads", func(p map[string]any) {
		leads := p["leads"].([]any)
		p["leads"] = repeated(500, func(int) any { return leads[0] })
	})
	add("long ids", func(p map[string]any) {
		p["poltio_user_id"] = json.Number("9223372036854775807")
		p["answers"].([]any)[0].(map[string]any)["question_id"] = json.Number("9007199254740993")
		p["answers"].([]any)[0].(map[string]any)["question"] = nil
		p["result"].(map[string]any)["result_id"] = json.Number("-9223372036854775808")
	})
	return list
}

// hostileTexts are texts that visitors can write.
func hostileTexts() map[string]string {
	var control strings.Builder
	for r := range rune(32) {
		control.WriteRune(r)
	}
	texts := map[string]string{
		"empty": "", "spaces": " \t\n ", "wide spaces": "\u2003\u00a0\u3000", "unseen": "\u200b\u200d\ufeff", "control": control.String() + "\x7f\u0085",
		"right to left": "\u202eevil\u2066 שלום العربية \u2069", "emoji": "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 é", "mentions": "<!channel> <!here> <@U1> <#C1> @everyone @here <@&1> </a:1>",
		"markdown": "**a** __b__ ~~c~~ `d` ||e|| [f](https://evil.example) > g\n# h\n- i ```j```", "escapes": `\\\*\_ \`, "formula": `=HYPERLINK("https://evil.example","a")`,
		"formulas": "+1", "dash": "-1", "at": "@SUM(1)", "hidden formula": "\t\r\n =1+1", "quotes": `"'` + "`" + `\"`, "braces": "{{a}} ${b} {c} %s %00",
		"html": "<script>alert(1)</script>&amp;&", "form": "a=b&c=d;e+f%20#g", "number": "00123", "true": "true", "date": "1-2",
	}
	for name, r := range map[string]string{"letters": "a", "ampersands": "&", "brackets": "<", "backslashes": `\`, "stars": "*", "emojis": "👩‍👩‍👧", "lines": "\n", "quotes": `"`, "wide": "ﷺ", "spaced": "a ", "control": "\x01", "turns": "\u202e"} {
		texts["long "+name] = strings.Repeat(r, 10_000)
	}
	return texts
}

// eachField calls do with each text of a payload that visitors, or the owner of the content, may have written.
func eachField(v any, do func(object map[string]any, name string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			switch name {
			case "publisher_uuid", "custom_id", "question", "answer", "parent", "result_title", "result_image", "result_desc", "calculator_result",
				"phone", "email", "name", "comment":
				do(v, name)
			default:
				eachField(inner, do)
			}
		}
	case []any:
		for _, inner := range v {
			eachField(inner, do)
		}
	}
}

// question is a question with answers.
func question(id, answers int) map[string]any {
	return map[string]any{"question_id": id, "question": fmt.Sprintf("Question number %d", id), "answers": repeated(answers, func(i int) any {
		return map[string]any{"answer_id": i, "answer": fmt.Sprintf("Answer number %d", i), "parent": nil}
	})}
}

func repeated(n int, item func(i int) any) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = item(i)
	}
	return list
}

// samplePayload is that of a test delivery.
func samplePayload(t *testing.T) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(hookbolttest.ReadFile(t, "docs/recipes/testdata/sample.json")))
	d.UseNumber()
	var payload map[string]any
	if err := d.Decode(&payload); err != nil {
		t.Fatal(err)
	}
	return payload
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// setter sets a field of a payload, leadSetter one of its first lead, questionSetter the title of its first question.
func setter(name string, value any) func(map[string]any) {
	return func(p map[string]any) { p[name] = value }
}

func leadSetter(name string, value any) func(map[string]any) {
	return func(p map[string]any) { p["leads"].([]any)[0].(map[string]any)[name] = value }
}

func questionSetter(title string) func(map[string]any) {
	return func(p map[string]any) { p["answers"].([]any)[0].(map[string]any)["question"] = title }
}

// addLead adds a second lead, which is like the first but for some fields.
func addLead(fields ...any) func(map[string]any) {
	return func(p map[string]any) {
		lead := maps.Clone(p["leads"].([]any)[0].(map[string]any))
		for i := 0; i < len(fields); i += 2 {
			lead[fields[i].(string)] = fields[i+1]
		}
		p["leads"] = append(p["leads"].([]any), lead)
	}
}
