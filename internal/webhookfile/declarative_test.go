package webhookfile_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/webhookfile"
)

// docs/declarative.md has every key, and its files of webhooks are valid.
func TestDeclarativeDoc(t *testing.T) {
	doc := hookbolttest.ReadFile(t, "docs/declarative.md")
	keys := webhookfile.Keys()
	for _, key := range keys {
		if !strings.Contains(doc, "\n| `"+key+"` | ") {
			t.Errorf("the table of keys lacks %s", key)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\|").FindAllStringSubmatch(doc, -1) {
		if !slices.Contains(keys, m[1]) {
			t.Errorf("the table has a key that does not exist: %s", m[1])
		}
	}
	blocks := slices.DeleteFunc(hookbolttest.CodeBlocks(t, "docs/declarative.md", doc), func(b hookbolttest.CodeBlock) bool { return b.Language+b.Word != "tomlwebhooks" })
	if len(blocks) == 0 {
		t.Fatal("there is no file")
	}
	from := webhookfile.Sources{
		Variable: func(name string) (string, bool) { return "https://example.com/" + name, true },
		File:     func(string) (string, error) { return hookbolttest.Secret, nil },
	}
	given := make(map[string]bool)
	for _, block := range blocks {
		hooks, err := webhookfile.Read("page", block.Text, from)
		if err != nil {
			t.Errorf("%v in\n%s", err, block.Text)
		}
		for _, want := range hooks {
			for key := range want.JSON {
				given[key] = true
			}
		}
	}
	for _, key := range keys {
		if !given[key] {
			t.Errorf("no example has %s", key)
		}
	}
}
