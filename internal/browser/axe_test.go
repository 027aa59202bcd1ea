package browser

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var axeSource = sync.OnceValues(func() (string, error) {
	source, err := os.ReadFile(filepath.Join("testdata", "axe", "node_modules", "axe-core", "axe.min.js"))
	return string(source), err
})

// violation is a rule that a page breaks, in axe's words.
type violation struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// axe has axe-core look at what the page shows, and fails the test for everything serious or critical that it finds.
func axe(t *testing.T, p *page) {
	t.Helper()
	where := eval[string](p, "location.pathname")
	for _, v := range violations(t, p) {
		for _, n := range v.Nodes {
			t.Errorf("%s: axe: %s (%s): %s\n\t%s\n\t%s", where, v.ID, v.Impact, v.Help, n.HTML, strings.ReplaceAll(n.Summary, "\n", "\n\t"))
		}
	}
}

// violations are what axe-core finds serious or critical in the page: what keeps people who see little, or use no mouse, from using it.
// The script comes in over the DevTools protocol, which no Content-Security-Policy stops; the page must run JavaScript. The test is
// skipped where there is no axe-core, unless HOOKBOLT_REQUIRE_CHROMIUM=1.
func violations(t *testing.T, p *page) []violation {
	t.Helper()
	source, err := axeSource()
	if errors.Is(err, fs.ErrNotExist) {
		missing(t, "AXE HAS NOT LOOKED AT THE PAGES: it is not there. Install node with npm, and run: cd internal/browser/testdata/axe && npm ci --ignore-scripts")
	}
	if err != nil {
		t.Fatal(err)
	}
	eval[bool](p, source+"; true") // what it returns is not wanted, and large
	found := eval[[]violation](p, `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations)`)
	return slices.DeleteFunc(found, func(v violation) bool { return v.Impact != "serious" && v.Impact != "critical" })
}
