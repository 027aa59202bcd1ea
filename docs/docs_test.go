// Package docs has the pages of the documentation, and tests that hold them against the program. It has no code of the program.
//
// The pages of the documentation are programs: what stands in their code blocks is run, in the order of the page. A block's info string
// says what it is.
//
//	sh              run in the page's own directory, beside a server of its own; each command must succeed
//	sh stopped      the same while the server is stopped
//	sh norun        only its syntax is looked at: it wants another machine, or hours
//	text output     what the block before has printed; … stands for any text
//	json output     the same, where the spaces of JSON do not count
//	json delivered  the body of a webhook that has arrived, but for event_time
//	toml            settings
//	toml NAME       the same, and the page's directory gets it as a file; so with other languages
//	toml webhooks   webhooks for "hookbolt apply", as webhooks.toml
//
// The pages of recipes are run by tests of their own, which also write a part of each: go test ./docs -update.
//
// A line "hookbolt serve …" starts the page's server anew with what it says, and "hookbolt listen …" an endpoint, as another terminal would.
// http://127.0.0.1:8080 and port 9000 stand for theirs. Other languages have tests of their own.
package docs

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"hookbolt/internal/config"
	"hookbolt/internal/hookbolttest"
)

func TestMain(m *testing.M) { hookbolttest.Main(m) }

// pages are the files of the documentation, by their paths from the root.
func pages(t *testing.T) []string {
	t.Helper()
	list := []string{"README.md", "deploy/README.md"}
	for _, dir := range []string{"", "recipes/"} {
		files, err := os.ReadDir("./" + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if path.Ext(file.Name()) == ".md" {
				list = append(list, "docs/"+dir+file.Name())
			}
		}
	}
	return list
}

func TestDocumentation(t *testing.T) {
	hookbolttest.Needs(t, "sh", "curl", "grep", "openssl")
	for _, page := range pages(t) {
		if strings.HasPrefix(page, "docs/recipes/") {
			continue // TestDocumentationRecipesRun runs them
		}
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			runPage(t, page, hookbolttest.CodeBlocks(t, page, hookbolttest.ReadFile(t, page)))
		})
	}
}

// TestDocumentationIsTested shows that a page which is wrong would be noticed.
func TestDocumentationIsTested(t *testing.T) {
	hookbolttest.Needs(t, "sh", "curl", "grep")
	for name, page := range map[string]string{
		"a call that is refused":  "```sh\ncurl -s http://127.0.0.1:8080/v1/webhooks/77\n```\n",
		"a call in the middle":    "```sh\ncurl -s http://127.0.0.1:8080/v1/webhooks/77\ntrue\n```\n",
		"another output":          "```sh\necho a\n```\n```text output\nb\n```\n",
		"a setting that is none":  "```toml\n[http]\nlisten_on = 1\n```\n",
		"JSON that is none":       "```json\n{\"a\": }\n```\n",
		"a command that is none":  "```sh\nhookbolt destroy\n```\n",
		"a server that cannot be": "```sh\nhookbolt serve -config none.toml\n```\n",
		"syntax":                  "```sh norun\nif true\n```\n",
		"nothing that arrived":    "```json delivered\n{\"a\": 1}\n```\n",
	} {
		if err := newPageRun(t).all(hookbolttest.CodeBlocks(t, name, page)); err == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
}

func runPage(t *testing.T, page string, blocks []hookbolttest.CodeBlock) {
	if err := newPageRun(t).all(blocks); err != nil {
		t.Errorf("%s:%v", page, err)
	}
}

// TestDocumentationLinks: links lead to files and headings that are there, or to the web.
func TestDocumentationLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(withoutCode(hookbolttest.ReadFile(t, page)), -1) {
			if strings.HasPrefix(m[1], "https://") {
				continue
			}
			to, anchor, _ := strings.Cut(m[1], "#")
			file := page
			if to != "" {
				file = path.Join(path.Dir(page), to)
			}
			info, err := os.Stat(hookbolttest.Path(t, file))
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if anchor != "" && (info.IsDir() || !slices.Contains(anchorsOf(hookbolttest.ReadFile(t, file)), anchor)) {
				t.Errorf("%s: %s has no heading #%s", page, file, anchor)
			}
		}
	}
}

// withoutCode takes the code blocks out of a page.
func withoutCode(markdown string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(markdown, "")
}

// anchorsOf are the names under which a page's headings can be linked to.
func anchorsOf(markdown string) []string {
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(withoutCode(markdown), -1) {
		anchors = append(anchors, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return anchors
}

// TestDocumentedSettings: the page about the configuration has every setting, and no other.
func TestDocumentedSettings(t *testing.T) {
	text := hookbolttest.ReadFile(t, "docs/configuration.md")
	for _, name := range config.Names() {
		if !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("the table of settings lacks %s", name)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+\\.[a-z_]+)` \\|").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(config.Names(), m[1]) {
			t.Errorf("there is no setting %s", m[1])
		}
	}
}

// TestDocumentedMetrics: the page about operations has every metric, and no other.
func TestDocumentedMetrics(t *testing.T) {
	p := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), "", ""))
	hookbolttest.Call(t, "GET", p.URL(t)+"/metrics", "") // makes the metrics of calls
	_, scraped := hookbolttest.Call(t, "GET", p.URL(t)+"/metrics", "")
	names := func(text, pattern string) []string {
		var list []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			list = append(list, m[1])
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	is, told := names(scraped, `(?m)^# TYPE (hookbolt_\S+)`), names(hookbolttest.ReadFile(t, "docs/operations.md"), "`(hookbolt_[a-z_]+)")
	if !slices.Equal(is, told) {
		t.Errorf("told of are\n%v\nthere are\n%v", told, is)
	}
}

// TestDocumentedCommands: the README has every command.
func TestDocumentedCommands(t *testing.T) {
	readme := hookbolttest.ReadFile(t, "README.md")
	_, usage, _ := hookbolttest.Run(t, "help")
	commands := regexp.MustCompile(`(?m)^  ([a-z]+) `).FindAllStringSubmatch(usage, -1)
	if len(commands) < 10 {
		t.Fatalf("the usage has %d commands:\n%s", len(commands), usage)
	}
	for _, m := range commands {
		if !regexp.MustCompile("`(hookbolt )?" + m[1] + "[` ]").MatchString(readme) {
			t.Errorf("the README lacks the command %s", m[1])
		}
	}
}
