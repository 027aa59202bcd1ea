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

// violation is a violation of a rule, as axe-core reports it.
type violation struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// axe checks the page with axe-core. The test fails for each serious or critical violation.
func axe(t *testing.T, p *page) {
	t.Helper()
	where := eval[string](p, "location.pathname")
	for _, v := range violations(t, p) {
		for _, n := range v.Nodes {
			t.Errorf("%s: axe: %s (%s): %s\n\t%s\n\t%s", where, v.ID, v.Impact, v.Help, n.HTML, strings.ReplaceAll(n.Summary, "\n", "\n\t"))
		}
	}
}

// violations returns the serious and critical violations that axe-core finds in the page. They keep people with poor sight, or without a mouse,
// from using it. axe-core is injected over the DevTools protocol, so the Content-Security-Policy does not block it. JavaScript must be on in
// the page. The test is skipped if axe-core is missing, unless HOOKBOLT_REQUIRE_CHROMIUM=1.
func violations(t *testing.T, p *page) []violation {
	t.Helper()
	source, err := axeSource()
	if errors.Is(err, fs.ErrNotExist) {
		missing(t, "AXE HAS NOT LOOKED AT THE PAGES: it is not there. Install node with npm, and run: cd internal/browser/testdata/axe && npm ci --ignore-scripts")
	}
	if err != nil {
		t.Fatal(err)
	}
	eval[bool](p, source+"; true") // its own result is large and not needed
	found := eval[[]violation](p, `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations)`)
	return slices.DeleteFunc(found, func(v violation) bool { return v.Impact != "serious" && v.Impact != "critical" })
}
