package docs

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"hookbolt/engine/transform"
	"hookbolt/internal/hookbolttest"
)

// TestDocumentedPrograms: each program of the page about transforms gives what stands below it, and each mistake the message.
func TestDocumentedPrograms(t *testing.T) {
	payload := []byte(hookbolttest.ReadFile(t, "testdata/sessions/seed-example.complete.json"))
	run := func(program string, encoding transform.Encoding) (string, error) {
		r, err := transform.Eval(transform.Job{Programs: transform.Programs{Transform: program, Encoding: encoding}, Payload: payload})
		return string(r.Body), err
	}
	programs, mistakes := 0, 0
	var got string
	for _, b := range hookbolttest.CodeBlocks(t, "transform.md", hookbolttest.ReadFile(t, "docs/transform.md")) {
		switch {
		case b.Language == "jq":
			encoding := transform.EncodingJSON
			if b.Word == "form" {
				encoding = transform.EncodingForm
			}
			var err error
			if got, err = run(b.Text, encoding); err != nil {
				t.Errorf("line %d: %v", b.Line, err)
			}
		case b.Word == "result":
			programs++
			want := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(b.Text)), "…", ".*")
			if !regexp.MustCompile("^" + want + "$").MatchString(got) {
				t.Errorf("line %d: the program gives %s", b.Line, got)
			}
		case b.Word == "mistakes":
			lines := strings.Split(strings.TrimSpace(b.Text), "\n")
			for i := 0; i+1 < len(lines); i += 2 {
				mistakes++
				_, err := run(lines[i], transform.EncodingJSON)
				failed, _ := errors.AsType[*transform.Error](err)
				if want := "transform: " + strings.TrimSpace(lines[i+1]); failed == nil || failed.Error() != want {
					t.Errorf("%s: %v\nwant %s", lines[i], err, want)
				}
			}
		}
	}
	if programs < 5 || mistakes < 5 {
		t.Errorf("the page has %d programs and %d mistakes", programs, mistakes)
	}
}

// TestDocumentedFunctions: what the page says that hookbolt adds or changes is there, and what it says is refused is.
func TestDocumentedFunctions(t *testing.T) {
	for program, want := range map[string]string{
		`"abc" | [sha256, sha1, md5, hmac_sha256("k")] | map(length)`: `[64,40,32,64]`,
		`"Ä" | [downcase, upcase, ascii_downcase]`:                    `["ä","Ä","Ä"]`,
		`"2024-01-23T11:59:59.900000Z" | fromdate`:                    `1706011199`,
		`" a " | [trim, (toarray | length)] + [-1 | abs]`:             `["a",1,1]`,
		`18446744073709551615 + 1`:                                    `18446744073709551616`,
		`[env, $ENV, (1 | debug | debug("x") | stderr)]`:              `[{},{},1]`,
		`0 | [localtime | mktime, (0 | strflocaltime("%H %Z"))]`:      `[0,"00 UTC"]`,
		`{b: 1, a: 2}`: `{"a":2,"b":1}`,
		`[pick(.a), ([1, 2, 3] | skip(1; .[])), ("%41" | @urid)]`: `[{"a":null},2,3,"A"]`,
	} {
		r, err := transform.Eval(transform.Job{Programs: transform.Programs{Transform: program}, Payload: []byte(`{}`)})
		if err != nil || string(r.Body) != want {
			t.Errorf("%s gives %s, %v; want %s", program, r.Body, err, want)
		}
	}
	for _, program := range []string{"input", "[inputs]", "input_filename", "input_line_number", "$__loc__", `import "a" as a; .`, `include "a"; .`, "halt", "halt_error",
		`test("(?=x)")`, `"a" | test("(.)\\1")`} {
		if r, err := transform.Eval(transform.Job{Programs: transform.Programs{Transform: program}, Payload: []byte(`"a"`)}); err == nil {
			t.Errorf("%s gives %s", program, r.Body)
		}
	}
}
