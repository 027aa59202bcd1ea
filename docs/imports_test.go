package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport says which packages of hookbolt a package may import, tests aside: "X knows nothing of Y" of architecture.md. A package that is
// not here may import none. Paths are from the root; "" is package main.
var mayImport = map[string][]string{
	"":                         {"internal/cli"},
	"engine":                   {"engine/jsonread", "engine/send", "engine/transform"},
	"engine/send":              {"engine/jsonread"},
	"storage":                  {"engine", "storage/bolt", "storage/internal/copying", "storage/postgres"},
	"storage/bolt":             {"engine", "storage/internal/copying"},
	"storage/bolt/bolttest":    {"storage/bolt"},
	"storage/postgres":         {"engine", "internal/loopback", "storage/internal/copying", "storage/internal/fields"},
	"storage/internal/copying": {"engine", "storage/internal/fields"},
	"storage/storetest":        {"engine"},
	"httpapi":                  {"engine", "httpapi/audit", "httpapi/jsonobject", "httpapi/ui", "internal/loopback"},
	"httpapi/ui":               {"engine", "httpapi/audit", "httpapi/jsonobject"},
	"internal/cli": {"engine/send", "engine/transform", "internal/bench", "internal/buildinfo", "internal/client", "internal/config", "internal/dbfile", "internal/demo",
		"internal/loopback", "internal/receiver", "internal/server", "internal/status", "internal/text", "internal/webhookfile", "storage", "storage/postgres"},
	"internal/client":       {"internal/buildinfo", "internal/text"},
	"internal/config":       {"engine", "internal/loopback", "internal/text"},
	"internal/dbfile":       {"storage/bolt"},
	"internal/demo":         {"engine", "internal/client", "internal/config", "internal/receiver", "internal/server"},
	"internal/hookbolttest": {"engine/transform", "internal/cli", "internal/teststore"},
	"internal/teststore":    {"engine", "internal/memdir", "internal/postgrestest", "storage/bolt", "storage/postgres"},
	"internal/receiver":     {"engine/send", "internal/text"},
	"internal/server": {"engine", "httpapi", "internal/buildinfo", "internal/config", "internal/dbfile", "internal/loopback", "internal/systemd",
		"storage"},
	"internal/status":      {"internal/client", "internal/text"},
	"internal/webhookfile": {"engine", "internal/client", "internal/text"},
	"internal/bench":       {"internal/text"},
}

// onlyIn says where alone a library may be imported: each is one package's trade. Tests may use what they like.
var onlyIn = map[string][]string{
	"go.etcd.io/bbolt":                    {"storage/bolt"},
	"github.com/jackc/pgx":                {"internal/postgrestest", "storage/postgres"},
	"github.com/julienschmidt/httprouter": {"httpapi", "httpapi/ui"},
	"github.com/BurntSushi/toml":          {"internal/cli", "internal/config", "internal/text", "internal/webhookfile"},
	"golang.org/x/net":                    {"engine/send"},
	"net/smtp":                            {"engine/send"},
	"golang.org/x/sync":                   {"httpapi"},
	"code.dny.dev/ssrf":                   {}, // for tests: the guard's own table is held against it
	"github.com/prometheus/client_golang": {"engine", "httpapi", "internal/server"},
	"github.com/prometheus/common":        {"internal/status"},
	"github.com/itchyny/gojq":             {"engine/transform"},
}

// TestImports holds the imports of all packages against the directions of the house.
func TestImports(t *testing.T) {
	packages := importsOf(t)
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		for _, imported := range packages[dir] {
			if own, ok := strings.CutPrefix(imported, "hookbolt/"); ok {
				if !slices.Contains(mayImport[dir], own) {
					t.Errorf("%q imports %q, of which it is to know nothing", dir, own)
				}
				continue
			}
			for library, places := range onlyIn {
				if within(imported, library) && !slices.Contains(places, dir) {
					t.Errorf("%q imports %s, which is for %q only", dir, imported, places)
				}
			}
		}
	}
	// What is allowed and not used any more is forgotten.
	for dir, allowed := range mayImport {
		if _, ok := packages[dir]; !ok {
			t.Errorf("there is no package %q", dir)
		}
		for _, own := range allowed {
			if !slices.Contains(packages[dir], "hookbolt/"+own) {
				t.Errorf("%q may import %q, and does not", dir, own)
			}
		}
	}
}

// The rules forbid something: that a package below imports one above, or a neighbour.
func TestImportsForbidSomething(t *testing.T) {
	for dir, forbidden := range map[string]string{"engine": "storage/bolt", "storage/bolt": "httpapi", "httpapi": "storage/bolt", "internal/bench": "engine",
		"internal/client": "engine", "engine/send": "engine", "engine/jsonread": "engine", "internal/server": "internal/cli", "storage/storetest": "storage/bolt"} {
		if slices.Contains(mayImport[dir], forbidden) {
			t.Errorf("%q may import %q", dir, forbidden)
		}
	}
}

// TestArchitectureNamesEachPackage holds the table of architecture.md against the packages there are.
func TestArchitectureNamesEachPackage(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for dir := range importsOf(t) {
		if dir != "" && !strings.Contains(string(page), "`"+dir+"/`") {
			t.Errorf("architecture.md does not name `%s/`", dir)
		}
	}
}

// within tells whether a package belongs to a library.
func within(imported, library string) bool {
	return imported == library || strings.HasPrefix(imported, library+"/")
}

// importsOf returns what each package of the program imports, tests aside.
func importsOf(t *testing.T) map[string][]string {
	t.Helper()
	packages := make(map[string][]string)
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := strings.TrimPrefix(strings.TrimPrefix(path.Dir(filepath.ToSlash(file)), ".."), "/")
		packages[dir] = append(packages[dir], nil...)
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			packages[dir] = append(packages[dir], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}
