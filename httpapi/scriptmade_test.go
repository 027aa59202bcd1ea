//go:build !race

package httpapi

import (
	"flag"
	"os"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

var update = flag.Bool("update", false, "make script/hookbolt.min.js anew")

// TestScriptIsMadeOfItsSource holds what is served against what people read and change.
func TestScriptIsMadeOfItsSource(t *testing.T) {
	const path = "script/hookbolt.min.js"
	source, err := os.ReadFile("script/hookbolt.js")
	if err != nil {
		t.Fatal(err)
	}
	// ES2020 is what browsers have taken since 2020.
	made := api.Transform(string(source), api.TransformOptions{Target: api.ES2020, MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true})
	if len(made.Errors) > 0 || len(made.Warnings) > 0 {
		t.Fatal(made.Errors, made.Warnings)
	}
	if *update {
		if err := os.WriteFile(path, made.Code, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(script) != string(made.Code) {
		t.Errorf("%s is not what its source makes: go test ./httpapi -run %s -update", path, t.Name())
	}
}
