package docs

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hookbolt/engine/transform"
	"hookbolt/httpapi/ui"
	"hookbolt/internal/hookbolttest"
)

var update = flag.Bool("update", false, "write what the recipes' pages say of programs, settings and samples")

// The part of a recipe's page between these lines is made from the recipe.
const (
	recipeBegins = "<!-- From here to the next comment, go test ./docs -update writes the page. -->\n"
	recipeEnds   = "<!-- The end of what is written. -->\n"
)

// TestDocumentationRecipePages: each recipe has a page, whose program, settings and sample are the recipe's, and the index has each page.
func TestDocumentationRecipePages(t *testing.T) {
	index := hookbolttest.ReadFile(t, "docs/recipes/README.md")
	for i := range ui.Recipes {
		r := &ui.Recipes[i]
		name := "docs/recipes/" + r.Name + ".md"
		page := hookbolttest.ReadFile(t, name)
		before, rest, ok := strings.Cut(page, recipeBegins)
		_, after, closed := strings.Cut(rest, recipeEnds)
		if !ok || !closed || !strings.HasPrefix(page, "# Send to "+r.Title+"\n") && !strings.HasPrefix(page, "# Send a form\n") {
			t.Errorf("%s has another title, or lacks the comments around what is written", name)
			continue
		}
		want := before + recipeBegins + recipePart(t, r) + recipeEnds + after
		if page != want && *update {
			hookbolttest.Write(t, hookbolttest.Path(t, name), want)
		} else if page != want {
			t.Errorf("%s is not what the recipe gives: run go test ./docs -update", name)
		}
		if !strings.Contains(index, "("+r.Name+".md)") {
			t.Errorf("the index lacks %s", name)
		}
	}
	files, err := filepath.Glob("recipes/*.md")
	if err != nil || len(files) != len(ui.Recipes)+1 {
		t.Errorf("%d pages for %d recipes and their index, %v", len(files), len(ui.Recipes), err)
	}
}

// recipePart is what is written of a recipe's page.
func recipePart(t *testing.T, r *ui.Recipe) string {
	t.Helper()
	var b strings.Builder
	block := func(info, text string) { fmt.Fprintf(&b, "\n```%s\n%s```\n", info, text) }
	if r.Script != "" {
		b.WriteString("\n## The script\n")
		block("js "+r.ScriptName, r.Script)
	}
	fmt.Fprintf(&b, "\n## The program\n\nSave it as `%s.jq`:\n", r.Name)
	block("jq "+r.Name+".jq", r.Transform)
	if r.URLValues != "" {
		fmt.Fprintf(&b, "\nThis one makes a part of the URL. Save it as `%s-url.jq`:\n", r.Name)
		block("jq "+r.Name+"-url.jq", r.URLValues)
	}
	b.WriteString("\n## Create the webhook\n\nReplace what stands for your own values:\n\n| in | replace | by |\n| --- | --- | --- |\n")
	for _, blank := range r.Blanks {
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", map[string]string{"transform": "the program", "script": "the script"}[blank.In]+settingName(blank.In), blank.Text, blank.Hint)
	}
	b.WriteString("\nBy curl, with the command `jq` to put the program into JSON:\n")
	block("sh", recipeCurl(r))
	b.WriteString("\nOr by a [file of webhooks](../declarative.md):\n")
	block("toml webhooks", recipeTOML(r))
	block("sh", "hookbolt apply -f webhooks.toml\n")
	b.WriteString("\n## What is sent\n\nOf the session of a test delivery:\n")
	result, err := transform.Eval(job(r, []byte(hookbolttest.ReadFile(t, "docs/recipes/testdata/sample.json"))))
	if err != nil {
		t.Fatal(err)
	}
	method := r.Method
	if method == "" {
		method = "POST"
	}
	url := r.URL
	for name, value := range result.URLValues {
		url = strings.ReplaceAll(url, "{"+name+"}", value)
	}
	block("text", method+" "+url+"\n")
	if strings.HasSuffix(r.ContentType, "urlencoded") {
		block("text", strings.ReplaceAll(string(result.Body), "&", "\n&")+"\n")
	} else {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, result.Body, "", "  "); err != nil {
			t.Fatal(err)
		}
		block("json", pretty.String()+"\n")
	}
	b.WriteString("\n")
	return b.String()
}

// settingName writes the name of a setting, and nothing for what is none.
func settingName(in string) string {
	if in == "transform" || in == "script" {
		return ""
	}
	return "`" + in + "`"
}

// settingOrder are the settings of a recipe in the order in which pages have them.
var settingOrder = []string{"name", "url", "url_values", "method", "content_type", "filter", "transform", "success", "headers", "basic_auth", "timeout", "rate_limit", "max_in_flight"}

// recipeSettings calls do with each setting of a recipe in order.
func recipeSettings(r *ui.Recipe, do func(name string, value any)) {
	settings := r.Settings()
	for _, name := range settingOrder {
		if value, ok := settings[name]; ok {
			do(name, value)
			delete(settings, name)
		}
	}
	if len(settings) > 0 {
		panic(fmt.Sprintf("settingOrder lacks %v", slices.Sorted(maps.Keys(settings))))
	}
}

// recipeCurl is the command that creates a recipe's webhook.
func recipeCurl(r *ui.Recipe) string {
	command, members := "jq -n --rawfile transform "+r.Name+".jq", []string{}
	if r.URLValues != "" {
		command += " --rawfile url_values " + r.Name + "-url.jq"
	}
	recipeSettings(r, func(name string, value any) {
		text := jsonText(value)
		if name == "transform" || name == "url_values" {
			text = "$" + name
		}
		members = append(members, "  "+name+": "+text)
	})
	return command + " '{\n" + strings.Join(members, ",\n") + "\n}' | curl -s http://127.0.0.1:8080/v1/webhooks -d @-\n"
}

func jsonText(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// recipeTOML is a recipe's webhook in a file.
func recipeTOML(r *ui.Recipe) string {
	text := "[[webhook]]\n"
	recipeSettings(r, func(name string, value any) {
		switch name {
		case "transform":
			value = map[string]any{"file": r.Name + ".jq"}
		case "url_values":
			value = map[string]any{"file": r.Name + "-url.jq"}
		}
		text += name + " = " + tomlText(value) + "\n"
	})
	return text
}

func tomlText(v any) string {
	table, ok := v.(map[string]any)
	if !ok {
		return jsonText(v) // of texts, numbers and lists it is TOML, too
	}
	var members []string
	for _, name := range slices.Sorted(maps.Keys(table)) {
		members = append(members, name+" = "+tomlText(table[name]))
	}
	return "{" + strings.Join(members, ", ") + "}"
}

// TestDocumentationRecipesRun runs the pages of recipes: the webhook is created by curl, and the file of webhooks makes the same one.
func TestDocumentationRecipesRun(t *testing.T) {
	hookbolttest.Needs(t, "sh", "curl", "jq")
	for i := range ui.Recipes {
		r := &ui.Recipes[i]
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			page := "docs/recipes/" + r.Name + ".md"
			p := newPageRun(t)
			blocks := hookbolttest.CodeBlocks(t, page, hookbolttest.ReadFile(t, page))
			// The file first says what it would change of the webhook that curl has made.
			last := slices.IndexFunc(blocks, func(b hookbolttest.CodeBlock) bool { return strings.HasPrefix(b.Text, "hookbolt apply") })
			dry := hookbolttest.CodeBlock{Line: blocks[last].Line, Language: "sh", Text: "hookbolt apply -f webhooks.toml -dry-run >dry\n"}
			blocks = slices.Insert(blocks, last, dry)
			if err := p.all(blocks); err != nil {
				t.Errorf("%s:%v", page, err)
			}
			if said := hookbolttest.Read(t, filepath.Join(p.Dir, "dry")); !sameWebhook(said) {
				t.Errorf("%s: the file makes another webhook than curl:\n%s", page, said)
			}
		})
	}
}

// sameWebhook tells whether a dry run finds the webhook as the file has it. Credentials cannot be compared.
func sameWebhook(said string) bool {
	return regexp.MustCompile(`^(= "[a-z]+" unchanged|\? "[a-z]+" unchanged, unless these are others, .*: (basic_auth|headers\.[A-Za-z-]+)(, headers\.[A-Za-z-]+)*)
Dry run: 0 to create, 0 to change, 0 to delete, [01] unchanged(, 1 perhaps unchanged)?\.
$`).MatchString(said)
}

// TestDocumentationRecipeSample: the sample of the pages is the payload of a test delivery, but for its times.
func TestDocumentationRecipeSample(t *testing.T) {
	base := hookbolttest.Serve(t, "", "")
	status, answer := hookbolttest.Call(t, "POST", base+"/v1/webhooks", `{"url":"http://127.0.0.1:1/"}`)
	hookbolttest.WantStatus(t, 201, status, answer)
	status, answer = hookbolttest.Call(t, "POST", base+"/v1/webhooks/1/test", "")
	hookbolttest.WantStatus(t, 202, status, answer)
	var delivery struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &delivery); err != nil {
		t.Fatal(err)
	}
	status, answer = hookbolttest.Call(t, "GET", base+"/v1/deliveries/"+delivery.ID, "")
	hookbolttest.WantStatus(t, 200, status, answer)
	var got struct{ Payload map[string]any }
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	want := samplePayload(t)
	for _, name := range []string{"session_start_date", "session_end_date", "event_time"} {
		got.Payload[name] = want[name]
	}
	leadSetter("created_at", "2026-01-15T10:00:26.000000Z")(got.Payload)
	if a, b := string(marshal(t, got.Payload)), string(marshal(t, want)); a != b {
		t.Errorf("a test delivery has\n%s\nthe sample\n%s", a, b)
	}
}

// TestDocumentationRecipeScript runs the script of Google Sheets in node, with a sheet that does what Google documents.
func TestDocumentationRecipeScript(t *testing.T) {
	hookbolttest.Needs(t, "node")
	sh := hookbolttest.NewShell(t, t.TempDir())
	for name, text := range map[string]string{"sheets.gs": recipeNamed(t, "sheets").Script, "sheet.js": hookbolttest.ReadFile(t, "docs/recipes/testdata/sheet.js")} {
		if err := os.WriteFile(filepath.Join(sh.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := sh.Script("-eu", "cat sheets.gs sheet.js >all.js\nnode all.js"); err != nil || strings.TrimSpace(out) != "ok" {
		t.Errorf("%v\n%s", err, out)
	}
}
