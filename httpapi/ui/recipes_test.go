package ui

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hookbolt/engine/transform"
)

// holds returns the text in which a blank of a recipe stands.
func (r *Recipe) holds(b RecipeBlank) string {
	texts := map[string]string{"url": r.URL, "transform": r.Transform, "basic_auth": r.Password, "script": r.Script}
	for _, h := range r.Headers {
		texts["headers"] += h.Value + "\n"
	}
	return texts[b.In]
}

// TestRecipes: a recipe is whole, and what is to be filled in stands once where it says so.
func TestRecipes(t *testing.T) {
	used := []string{}
	for i := range Recipes {
		r := &Recipes[i]
		used = append(used, r.Name+".jq")
		if !regexp.MustCompile(`^[a-z]+$`).MatchString(r.Name) || r.Title == "" || !strings.HasSuffix(r.About, ".") || !strings.HasPrefix(r.URL, "https://") {
			t.Errorf("%+v", r)
		}
		for _, program := range []string{r.Filter, r.Transform, r.URLValues} {
			if len(program) > transform.MaxProgramBytes/4 || strings.Contains(program, "\t") || strings.Contains(program, "'''") {
				t.Errorf("%s has a program of %d bytes, with a tab, or with what ends a text in a file of webhooks", r.Name, len(program))
			}
		}
		if r.URLValues != "" {
			used = append(used, r.Name+"-url.jq")
		}
		if r.Script != "" {
			used = append(used, r.ScriptName)
		}
		for _, b := range r.Blanks {
			if n := strings.Count(r.holds(b), b.Text); n != 1 || !strings.HasSuffix(b.Hint, ".") && !strings.HasSuffix(b.Hint, "…") {
				t.Errorf("%s: %q stands %d times in %s: %s", r.Name, b.Text, n, b.In, b.Hint)
			}
		}
	}
	files, err := filepath.Glob("recipes/*")
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	if slices.Sort(used); !slices.Equal(slices.Compact(used), files) {
		t.Errorf("the recipes use\n%v\nthere are\n%v", used, files)
	}
}

// TestRecipesMakeABody: each recipe sends the example of the seed document, and its settings are JSON.
func TestRecipesMakeABody(t *testing.T) {
	payload, err := os.ReadFile("../../testdata/sessions/seed-example.complete.json")
	if err != nil {
		t.Fatal(err)
	}
	for i := range Recipes {
		r := &Recipes[i]
		result, err := transform.Eval(transform.Job{Payload: payload, Programs: transform.Programs{
			Filter: r.Filter, Transform: r.Transform, URLValues: r.URLValues, Encoding: transform.EncodingOf(r.contentType()),
		}})
		if err != nil || result.Filtered {
			t.Errorf("%s: %v, filtered %t", r.Name, err, result.Filtered)
		}
		if text, err := json.Marshal(r.Settings()); err != nil || !json.Valid(text) {
			t.Errorf("%s: %s %v", r.Name, text, err)
		}
		for name := range result.URLValues {
			if !strings.Contains(r.URL, "{"+name+"}") {
				t.Errorf("%s: the URL has no {%s}", r.Name, name)
			}
		}
	}
}

func (r *Recipe) contentType() string {
	if r.ContentType == "" {
		return "application/json"
	}
	return r.ContentType
}
