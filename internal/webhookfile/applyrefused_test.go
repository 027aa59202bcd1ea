package webhookfile_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

// What is wrong is told in full, by webhook and field, and nothing is changed.
func TestApplyRefuses(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	for _, settings := range []string{`{"url":"https://example.com/1","name":"a","headers":{"X-A":"b"}}`, `{"url":"https://example.com/2","name":"b"}`, `{"url":"https://example.com/3","name":"b"}`} {
		status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", settings)
		hookbolttest.WantStatus(t, 201, status, answer)
	}
	before := stored(t, api)
	missing := filepath.ToSlash(filepath.Join(t.TempDir(), "missing"))
	for name, secret := range map[string]string{"APPLY_EMPTY": "", "APPLY_SET": "sekret"} {
		t.Setenv(name, secret)
	}
	const valid = "[[webhook]]\nname = \"c\"\nurl = \"https://example.com/\"\n"
	for text, want := range map[string][]string{
		"webhook = ":                                        {"line 1, column 10: "},
		"[[webhook]]\nsecret = sekret":                      {"line 2, column 10: expected value but found … instead"},
		"[webhook]\nname = \"c\"":                           {"webhook: must be tables, each of which begins with [[webhook]]"},
		"webhooks = 1\n" + valid:                            {`unknown key "webhooks"`},
		"[[Webhook]]\nname = \"c\"":                         {`unknown key "Webhook"`},
		"webhook = [1]":                                     {"webhook: must be tables"},
		"[[webhook]]\nurl = \"x\"":                          {"webhook 1: name: is required", "webhook 1: url: "},
		valid + "[[webhook]]\nname = \"\"":                  {"webhook 2: name: is required"},
		"[[webhook]]\nname = {env = \"X\"}":                 {"webhook 1: name: is required"},
		valid + valid:                                       {`webhook "c": name: stands twice`},
		"[[webhook]]\nname = \"c\"":                         {`webhook "c": url: is required`},
		valid + "dely = 5":                                  {`webhook "c": dely: unknown field`},
		valid + "pause_reason = \"x\"":                      {`webhook "c": pause_reason: unknown field`},
		valid + "delay = \"5\"":                             {`webhook "c": delay: must be an integer (got a string)`},
		valid + "delay = -5\ntimeout = \"5\"":               {`webhook "c": delay: must be whole seconds`, `webhook "c": timeout: must be a duration`},
		valid + "delay = 2024-01-01":                        {`webhook "c": delay: must be in quotes`},
		valid + "rate_limit = nan":                          {`webhook "c": rate_limit: must be a number that can be written down (got NaN)`},
		valid + "headers = {X-A = 5}":                       {`webhook "c": headers.X-A: must be a string (got a number)`},
		valid + "headers = {X-A = {var = \"X\"}}":           {`webhook "c": headers.X-A.var: unknown field; what stands elsewhere is {env = "VARIABLE"} or {file = "PATH"}`},
		valid + "headers = {X-A = {env = \"APPLY_UNSET\"}}": {`webhook "c": headers.X-A: the variable "APPLY_UNSET" is not set`},
		valid + "secret = {env = \"APPLY_EMPTY\"}":          {`webhook "c": secret: the variable "APPLY_EMPTY" is empty`},
		valid + "secret = {env = \"APPLY_SET\"}":            {`webhook "c": secret: must be whsec_`},
		valid + "[webhook.basic_auth]\nusername = \"u\"\npassword = {file = \"" + missing + "\"}":                      {`webhook "c": basic_auth.password: open ` + filepath.FromSlash(missing)},
		valid + "oauth2 = {token_url = \"https://a.example/\", client_id = \"i\", scopes = [{env = \"APPLY_UNSET\"}]}": {`webhook "c": oauth2.scopes[0]: the variable "APPLY_UNSET" is not set`},
		valid + "oauth2 = {token_url = \"https://a.example/\", client_id = \"i\"}":                                     {`webhook "c": oauth2.client_secret: is required with client_id`},
		valid + "oauth2 = {token_url = \"https://a.example/\", body = \"b\"}\nheaders = {Authorization = \"sekret\"}":  {`webhook "c": oauth2: only one of`},
		valid + "headers = {keep = true}\nbasic_auth = {keep = true, username = \"u\"}":                                {`webhook "c": basic_auth: keep = true stands alone`},
		valid + "headers = {keep = true}\noauth2 = {keep = true}":                                                      {`webhook "c": headers: keep = true, but the server has no such webhook`, `webhook "c": oauth2: keep = true, but`},
		"[[webhook]]\nname = \"a\"\nurl = \"https://example.com/1\"\nheaders = {keep = true}\noauth2 = {keep = true}":  {`webhook "a": oauth2: keep = true, but on the server it has none`},
		"[[webhook]]\nname = \"a\"\nurl = \"https://elsewhere.example/1\"\nheaders = {keep = true}":                    {`webhook "a": headers: keep = true, but its url moves to another host, and what is kept is not for that one: give the values`},
		"[[webhook]]\nname = \"b\"\nurl = \"https://example.com/1\"":                                                   {`webhook "b": the server has several of that name, with the ids 2, 3`},
	} {
		code, stdout, stderr := runApply(t, api, text, "-prune")
		if code != cli.ExitFailure || stdout != "" || !strings.Contains(stderr, "hookbolt: apply: nothing was changed:") || strings.Contains(stderr, "sekret") {
			t.Errorf("%s\nexit code %d; it said %s%s", text, code, stdout, stderr)
		}
		for _, w := range want {
			if !strings.Contains(stderr, w) {
				t.Errorf("%s\nit said %s\nwant %s", text, stderr, w)
			}
		}
		if got := strings.Count(stderr, "\n") - 1; got != max(len(want), 1) && strings.Contains(stderr, `webhook "`) {
			t.Errorf("%s\n%d problems, want %d: %s", text, got, len(want), stderr)
		}
	}
	if after := stored(t, api); after != before {
		t.Errorf("became\n%s\nfrom\n%s", after, before)
	}
	for _, args := range [][]string{{"apply"}, {"apply", "x.toml"}, {"apply", "-f", "x.toml", "-url", "example.com"}, {"dump", "-f", "x"}} {
		if code, stdout, _ := hookbolttest.Run(t, args...); code != cli.ExitUsage || stdout != "" {
			t.Errorf("%v: exit code %d, want %d", args, code, cli.ExitUsage)
		}
	}
	if code, _, stderr := hookbolttest.Run(t, "apply", "-url", api, "-f", missing); code != cli.ExitFailure || !strings.Contains(stderr, "nothing was changed: open ") {
		t.Errorf("exit code %d; it said %s", code, stderr)
	}
}

// Whichever change fails, what was done and what was not is told, and another run does the rest.
func TestApplyFailsInTheMiddle(t *testing.T) {
	const before = `
		[[webhook]]
		name = "changed"
		url = "https://example.com/1"
		[[webhook]]
		name = "deleted"
		url = "https://example.com/2"`
	const file = `
		[[webhook]]
		name = "created"
		url = "https://example.com/3"
		[[webhook]]
		name = "changed"
		url = "https://example.com/4"`
	steps := []string{`create "created"`, `change "changed"`, `delete "deleted" (id 2)`}
	for failing := range len(steps) {
		api := hookbolttest.Serve(t, "", "")
		target, err := url.Parse(api)
		if err != nil {
			t.Fatal(err)
		}
		var writes atomic.Int64
		through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "GET" && writes.Add(1) == int64(failing)+1 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			through.ServeHTTP(w, r)
		}))
		if code, _, stderr := runApply(t, api, before); code != 0 {
			t.Fatal(stderr)
		}
		code, stdout, stderr := runApply(t, proxy.URL, file, "-prune")
		proxy.Close()
		if code != cli.ExitFailure || !strings.Contains(stderr, "apply: "+steps[failing]+": ") || !strings.Contains(stderr, "502 Bad Gateway") {
			t.Errorf("exit code %d; it said %s", code, stderr)
		}
		for i, step := range steps {
			verb, _, _ := strings.Cut(step, " (")
			if done := strings.Contains(stdout, " "+verb) && !strings.Contains(stdout, "! not done: "+step+"\n"); done != (i < failing) {
				t.Errorf("step %d fails: it said of %s\n%s", failing, step, stdout)
			}
		}
		if code, _, stderr := runApply(t, api, file, "-prune"); code != 0 {
			t.Errorf("the second run: exit code %d; it said %s", code, stderr)
		}
		wantApplied(t, api, file, "= \"created\" unchanged\n= \"changed\" unchanged\n0 created, 0 changed, 0 deleted, 2 unchanged.\n")
	}

	// An address that the server refuses, which the file alone does not tell.
	api := hookbolttest.Serve(t, "", "")
	code, stdout, stderr := runApply(t, api, file+"\n[[webhook]]\nname = \"z\"\nurl = \"http://10.1.2.3/\"")
	if code != cli.ExitFailure || !strings.Contains(stdout, "! not done: create \"z\"\n2 created, 0 changed, 0 deleted, 0 unchanged.\n") ||
		!strings.Contains(stderr, `apply: create "z": POST `+api+`/v1/webhooks: 400 Bad Request: url: address refused: 10.1.2.3 is not a public address`) {
		t.Errorf("exit code %d; it said %s%s", code, stdout, stderr)
	}
}
