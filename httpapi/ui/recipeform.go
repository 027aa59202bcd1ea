package ui

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"hookbolt/engine"
)

// recipeNamed returns the recipe of that name; nil if there is none.
func recipeNamed(name string) *Recipe {
	for i := range Recipes {
		if Recipes[i].Name == name {
			return &Recipes[i]
		}
	}
	return nil
}

// beginForm makes the form of a new webhook, filled in as the recipe of that name has it. Without such a recipe it is empty.
func (p *Pages) beginForm(name string) (*webhookForm, error) {
	r := recipeNamed(name)
	if r == nil {
		return p.newForm(new(engine.DefaultWebhook())), nil
	}
	settings := r.Settings()
	delete(settings, "headers") // credentials, which no form shows: their placeholders are put in below
	delete(settings, "basic_auth")
	body, err := json.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	patch, err := engine.ParseWebhookPatch(body)
	if err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	w, err := engine.NewWebhook(patch)
	if err != nil {
		return nil, fmt.Errorf("recipe %s: %w", name, err)
	}
	f := p.newForm(&w)
	f.setRecipe(r)
	var lines []string
	for _, h := range r.Headers {
		lines = append(lines, h.Name+": "+h.Value)
	}
	f.input("headers").Value = strings.Join(lines, "\n")
	f.input("basic_auth.username").Value = r.Username
	return f, nil
}

// setRecipe notes beside the inputs what has to be filled in.
func (f *webhookForm) setRecipe(r *Recipe) {
	if f.Recipe = r; r == nil {
		return
	}
	for _, b := range r.Blanks {
		name := b.In
		if name == "basic_auth" {
			name = "basic_auth.password"
		}
		if i := f.input(name); i != nil {
			i.Blanks = append(i.Blanks, b)
		}
	}
}

// ScriptBlanks are what to fill in in the receiver's script.
func (r *Recipe) ScriptBlanks() []RecipeBlank {
	return slices.DeleteFunc(slices.Clone(r.Blanks), func(b RecipeBlank) bool { return b.In != "script" })
}

// Recipes are those to begin a new webhook with; none for one that exists.
func (f *webhookForm) Recipes() []Recipe {
	if f.ID != 0 {
		return nil
	}
	return Recipes
}
