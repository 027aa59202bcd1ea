package ui

import (
	"slices"
	"testing"

	"hookbolt/engine"
)

// TestEverySettingHasWords: the pages can show and change each setting that there is, and explain it.
func TestEverySettingHasWords(t *testing.T) {
	var names []string
	for _, g := range settingGroups {
		if g.id == "" || g.title == "" {
			t.Errorf("the group %q has no title or no id", g.id+g.title)
		}
		for i := range g.settings {
			s := &g.settings[i]
			names = append(names, s.name)
			row := engine.SettingNamed(s.name)
			if row == nil {
				t.Errorf("%s is no setting", s.name)
				continue
			}
			if s.label == "" {
				t.Errorf("%s has no label", s.name)
			}
			if s.inputs == nil && (s.kind == "" || s.help == "") {
				t.Errorf("%s needs a kind of input and a help", s.name)
			}
			if s.inputs != nil && s.read == nil || row.Secret && s.inputs == nil {
				t.Errorf("%s needs inputs that hide what is typed, and their reading", s.name)
			}
			if s.kind == numberInput && s.example == "" {
				t.Errorf("%s needs an example of a number", s.name)
			}
		}
	}
	names = append(names, buttonSettings...)
	var want []string
	for _, s := range engine.Settings {
		want = append(want, s.Name)
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the pages have words or buttons for\n%v, the settings are\n%v", names, want)
	}
}
