package webhookfile_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

// nastyPrograms are programs that are hard to write down in TOML.
var nastyPrograms = []string{
	`"it's \"quoted\" \\ and \(.session_id)"`,
	`"no apostrophe: \\ \"\""`,
	"# ''' in a comment\n{a: \"''' \\\"\\\"\\\" \\\\\"}",
	"# \"\"\" \"\"\"\" \"\"\"\"\"\n{a: \"\"}\n# ends in a quote \"",
	". # ends in quotes '''",
	"\n\n\t{a: 1,\n\t b: 2}\n\n# ends in a backslash \\",
	"{a: 1,\r\n b: 2}\r\n# of Windows\r\n| .",
	"# \x1b[31m \u0085 \u2028 \u202e \ufeff \u007f \U000e0001 😀 é ü\n{\"ü\": \"\u00a0日本\"}",
	"{a: \"x\ny\"} # a string over two lines",
	"{a: 1}   \n \t\n# spaces at the ends of lines  \n| .",
	"{}\r# a carriage return alone",
	`# \u0041 \n \t stay as they are` + "\n{}",
}

// store creates a webhook.
func store(t *testing.T, api string, settings map[string]any) {
	t.Helper()
	text, _ := json.Marshal(settings)
	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", string(text))
	hookbolttest.WantStatus(t, 201, status, answer)
}

// programs returns the programs of a server's webhooks, by their name and setting.
func programs(t *testing.T, api string) map[string]string {
	t.Helper()
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal([]byte(stored(t, api)), &list); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, hook := range list.Items {
		for _, setting := range []string{"filter", "transform", "url_values"} {
			if program, ok := hook[setting].(string); ok {
				found[fmt.Sprint(hook["name"], " ", setting)] = program
			}
		}
	}
	return found
}

// TestDumpPrograms: what was dumped is the same program byte for byte, whatever is in it, and people can read it.
func TestDumpPrograms(t *testing.T) {
	api, another := hookbolttest.Serve(t, "", ""), hookbolttest.Serve(t, "", "")
	for i, program := range nastyPrograms {
		store(t, api, map[string]any{"name": fmt.Sprint(i), "url": "https://example.com/", "transform": program, "filter": program + "\n| true"})
	}
	store(t, api, map[string]any{"name": "plain", "url": "https://example.com/{id}", "filter": `.a != "\\"`, "transform": "{\n\ta: \"\\(.session_id)\"\n}\n", "url_values": "{id: .session_id}"})
	file := dumped(t, api)
	want := `
name = "plain"
url = "https://example.com/{id}"
filter = '.a != "\\"'
transform = '''
{
	a: "\(.session_id)"
}
'''
url_values = "{id: .session_id}"
`
	if !strings.HasSuffix(file, want) {
		t.Errorf("got\n%s\nwant at its end%s", file, want)
	}
	unchanged := fmt.Sprintf("%d unchanged.\n", len(nastyPrograms)+1)
	for _, args := range [][]string{{"-dry-run"}, nil} {
		if code, stdout, stderr := runApply(t, api, file, args...); code != 0 || !strings.HasSuffix(stdout, unchanged) || strings.Contains(stdout, "~") {
			t.Fatalf("exit code %d; it said %s%s", code, stdout, stderr)
		}
	}
	if code, _, stderr := runApply(t, another, file); code != 0 {
		t.Fatalf("another server: %s", stderr)
	}
	before, after := programs(t, api), programs(t, another)
	for name, program := range before {
		if after[name] != program {
			t.Errorf("%s became %q from %q", name, after[name], program)
		}
	}
	if len(before) != 2*len(nastyPrograms)+3 || len(after) != len(before) {
		t.Errorf("%d programs of %d", len(after), len(before))
	}
}

// writeFiles writes files into a directory, and returns their paths' beginning.
func writeFiles(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantSaid runs apply with a file, and wants this output and this exit code.
func wantSaid(t *testing.T, api, path string, code int, want string, args ...string) {
	t.Helper()
	got, stdout, stderr := hookbolttest.Run(t, append([]string{"apply", "-url", api, "-f", path}, args...)...)
	if said := strings.ReplaceAll(strings.ReplaceAll(stdout+stderr, api, "URL"), filepath.Dir(path), "DIR"); got != code || said != want {
		t.Errorf("exit code %d; it said\n%s\nwant %d\n%s", got, said, code, want)
	}
}

// TestApplyProgramFiles: programs in files beside the file of webhooks are found from any directory, and what changes in them is shown.
func TestApplyProgramFiles(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	dir := writeFiles(t, map[string]string{
		"webhooks.toml": "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/{id}\"\nfilter = {file = \"jq/filter.jq\"}\ntransform = {file = \"jq/a.jq\"}\nurl_values = {file = 'jq/url.jq'}\n",
		"jq/filter.jq":  "\ufeff.complete_session\n",
		"jq/a.jq":       "# Who\n{\n  who: .poltio_user_id,\n  at: .event_time,\n  id: .session_id\n}\n",
		"jq/url.jq":     "{id: .session_id}",
	})
	path := filepath.Join(dir, "webhooks.toml")
	created := `+ create "a"%s
    url: "https://example.com/{id}"
    filter (jq/filter.jq): ".complete_session"
    transform (jq/a.jq):
      @@ -0,0 +1,6 @@
      +# Who
      +{
      +  who: .poltio_user_id,
      +  at: .event_time,
      +  id: .session_id
      +}
    url_values (jq/url.jq): "{id: .session_id}"
%s`
	wantSaid(t, api, path, cli.ExitPending, fmt.Sprintf(created, "", "Dry run: 1 to create, 0 to change, 0 to delete, 0 unchanged.\n"), "-dry-run")
	wantSaid(t, api, path, 0, fmt.Sprintf(created, " (id 1)", "    secret: made; GET /v1/webhooks/1/secret shows it\n1 created, 0 changed, 0 deleted, 0 unchanged.\n"))
	wantSaid(t, api, path, 0, "= \"a\" unchanged\n0 created, 0 changed, 0 deleted, 1 unchanged.\n")
	hookbolttest.Write(t, filepath.Join(dir, "jq/a.jq"), "# Who\n{\n  who: .poltio_user_id,\n  at: .event_time,\n  session: .session_id\n}\n")
	hookbolttest.Write(t, filepath.Join(dir, "jq/filter.jq"), ".complete_session  and true")
	changed := `~ change "a"
    filter (jq/filter.jq): ".complete_session" -> ".complete_session  and true"
    transform (jq/a.jq):
      @@ -2,5 +2,5 @@
       {
         who: .poltio_user_id,
         at: .event_time,
      -  id: .session_id
      +  session: .session_id
       }
%s`
	wantSaid(t, api, path, cli.ExitPending, fmt.Sprintf(changed, "Dry run: 0 to create, 1 to change, 0 to delete, 0 unchanged.\n"), "-dry-run")
	wantSaid(t, api, path, 0, fmt.Sprintf(changed, "0 created, 1 changed, 0 deleted, 0 unchanged.\n"))
	hookbolttest.Write(t, path, "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\nfilter = \"\"\"\n.complete_session\nand true\"\"\"\n")
	wantSaid(t, api, path, 0, `~ change "a"
    url: "https://example.com/{id}" -> "https://example.com/"
    filter:
      @@ -1,1 +1,2 @@
      -.complete_session  and true
      +.complete_session
      +and true
    transform:
      @@ -1,6 +0,0 @@
      -# Who
      -{
      -  who: .poltio_user_id,
      -  at: .event_time,
      -  session: .session_id
      -}
    url_values: "{id: .session_id}" -> not set
0 created, 1 changed, 0 deleted, 0 unchanged.
`)
}

// TestApplyProgramErrors: a program that cannot be used is told with webhook, setting and file before anything is changed; a wrong one with its
// place.
func TestApplyProgramErrors(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	dir := writeFiles(t, map[string]string{
		"wrong.jq":  "{\n\ta: [.session_id,\n\tb: ][\n}\n",
		"data.jq":   "{a: .session_id}\n| tonumber + 1",
		"latin.jq":  "# fine\n\"gr\xfc\xdfe\"",
		"blank.jq":  " \n\t\r\n",
		"large.jq":  strings.Repeat("# 345678\n", 1821),
		"folder.jq": "",
	})
	os.Remove(filepath.Join(dir, "folder.jq"))
	os.Mkdir(filepath.Join(dir, "folder.jq"), 0o700)
	path := filepath.Join(dir, "webhooks.toml")
	const nothing = "hookbolt: apply: nothing was changed:\n"
	for _, tt := range []struct{ settings, want string }{
		{`transform = {file = "missing.jq"}`, `  DIR/webhooks.toml: webhook "a": transform: open DIR/missing.jq: no such file or directory` + "\n"},
		{`filter = {file = "latin.jq"}`, `  DIR/webhooks.toml: webhook "a": filter: latin.jq is not valid UTF-8 in line 2` + "\n"},
		{`url_values = {file = "blank.jq"}`, `  DIR/webhooks.toml: webhook "a": url_values: blank.jq is empty: it must hold a program in jq` + "\n"},
		{`transform = {file = "large.jq"}`, `  DIR/webhooks.toml: webhook "a": transform: DIR/large.jq has more than 16384 bytes, the most that a program may have` + "\n"},
		{`transform = {file = "folder.jq"}`, `  DIR/webhooks.toml: webhook "a": transform: DIR/folder.jq is no regular file (d---------)` + "\n"},
		{`transform = {file = "wrong.jq"}`, "  webhook \"a\": transform: wrong.jq, line 3, column 3: unexpected : after b\n      \tb: ][\n      \t ^\n"},
		{"transform = '''\n{\n\ta: [.session_id,\n\tb: ][\n}'''", "  webhook \"a\": transform: line 3, column 3: unexpected : after b\n      \tb: ][\n      \t ^\n"},
		{`transform = {file = "data.jq"}`, "  webhook \"a\": transform: data.jq…\n"},
		{`url_values = "{a: 1}"`, "  webhook \"a\": url_values: gives values for names in the URL, but its path and query have none: write {name} where a value belongs\n"},
	} {
		hookbolttest.Write(t, path, "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\n"+tt.settings)
		for _, args := range [][]string{{"-dry-run"}, nil} {
			code, stdout, stderr := hookbolttest.Run(t, append([]string{"apply", "-url", api, "-f", path}, args...)...)
			head, tail, _ := strings.Cut(nothing+tt.want, "…")
			if said := strings.ReplaceAll(stderr, dir, "DIR"); code != cli.ExitFailure || stdout != "" || !strings.HasPrefix(said, head) || !strings.HasSuffix(said, tail) {
				t.Errorf("%s: exit code %d; it said\n%s%s\nwant\n%s%s", tt.settings, code, stdout, said, nothing, tt.want)
			}
		}
	}
	if got := stored(t, api); !strings.Contains(got, `"items":[]`) {
		t.Errorf("there are %s", got)
	}
}

// TestApplyProgramsElsewhere: a server that previews nothing, or not for this token, still tells where a program is wrong, with its file; and what comes
// from a variable is not shown.
func TestApplyProgramsElsewhere(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	dir := writeFiles(t, map[string]string{"wrong.jq": "{\n\ta: [.session_id,\n\tb: ][\n}\n", "webhooks.toml": "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\ntransform = {file = \"wrong.jq\"}"})
	path := filepath.Join(dir, "webhooks.toml")
	target, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	without := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/preview" {
			http.NotFound(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(without.Close)
	code, stdout, stderr := hookbolttest.Run(t, "apply", "-url", without.URL, "-f", path)
	if code != cli.ExitFailure || !strings.Contains(stdout, "! not done: create \"a\"\n") || !strings.Contains(stderr, "400 Bad Request: transform (wrong.jq): line 3, column 3: ") ||
		!strings.HasSuffix(stderr, "\n    \tb: ][\n    \t ^\n") {
		t.Errorf("exit code %d; it said %s%s", code, stdout, stderr)
	}
	t.Setenv("PROGRAM", "{sekret: }")
	hookbolttest.Write(t, path, "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\ntransform = {env = \"PROGRAM\"}")
	for _, url := range []string{api, without.URL} {
		if code, stdout, stderr := hookbolttest.Run(t, "apply", "-url", url, "-f", path); code != cli.ExitFailure || strings.Contains(stdout+stderr, "sekret") || !strings.Contains(stderr, "transform: the server refuses the value") {
			t.Errorf("exit code %d; it said %s%s", code, stdout, stderr)
		}
	}
}
