package webhookfile_test

import (
	"strings"
	"testing"

	"hookbolt/internal/hookbolttest"
)

// TestApplyHidesValues: no value that comes from a variable is shown, wherever it stands, whether it is accepted, refused by the rules of the
// file, or refused by the server.
func TestApplyHidesValues(t *testing.T) {
	const url = "url = \"https://example.com/\"\n"
	for _, c := range []struct{ settings, value, shown string }{
		{`url = {env = "HIDDEN"}`, "https://sekret.example.com/path", "url: set (not shown)"},
		{`url = {env = "HIDDEN"}`, "http://10.1.2.3:4711/sekret", "url: the server refuses the value"},
		{`url = {env = "HIDDEN"}`, "http://[fd00::4711]/sekret", "url: the server refuses the value"},
		{`url = {env = "HIDDEN"}`, "ftp://sekret/", "url: "},
		{url + `oauth2 = {token_url = {env = "HIDDEN"}, client_id = "a", client_secret = "b"}`, "http://10.1.2.3/sekret", "oauth2.token_url: the server refuses the value"},
		{url + `oauth2 = {token_url = "https://a.example/", client_id = {env = "HIDDEN"}, client_secret = "b"}`, "sekret", "oauth2: set (not shown)"},
		{url + `content_id = {env = "HIDDEN"}`, "5e4bed00-2bd8-4b28-8b9b-bfe1fca94711", "content_id: set (not shown)"},
		{url + `content_id = {env = "HIDDEN"}`, "sekret", "content_id: must be a UUID"},
		{url + `timeout = {env = "HIDDEN"}`, "47.11s", "timeout: set (not shown)"},
		{url + `timeout = {env = "HIDDEN"}`, "4711h", "timeout: must be "},
		{url + `retry_schedule = ["1s", {env = "HIDDEN"}]`, "47.11s", "retry_schedule: set (not shown)"},
		{url + `retry_schedule = ["1s", {env = "HIDDEN"}]`, "sekret", "retry_schedule[1]: must be "},
		{url + `allow_networks = [{env = "HIDDEN"}]`, "10.47.11.0/24", "allow_networks: set (not shown)"},
		{url + `allow_networks = [{env = "HIDDEN"}, "10.0.0.0/8"]`, "sekret", "allow_networks[0]: must be "},
		{url + `headers = {X-A = {env = "HIDDEN"}}`, "sekret", "headers.X-A: set (not shown)"},
		{url + `headers = {X-A = {env = "HIDDEN"}}`, "sekret\n", "headers.X-A: "},
		{url + `secret = {env = "HIDDEN"}`, "whsec_sekret", "secret: must be "},
		{url + `basic_auth = {username = {env = "HIDDEN"}, password = "p"}`, "sekret:u", "basic_auth.username: "},
	} {
		t.Setenv("HIDDEN", c.value)
		api := hookbolttest.Serve(t, "", "")
		for _, already := range []bool{false, true} { // to be made, or to be changed
			if already {
				hookbolttest.Call(t, "POST", api+"/v1/webhooks", `{"name":"a","url":"https://other.example.com/","timeout":"3s","retry_schedule":["3s"],"allow_networks":["127.0.0.1"]}`)
			}
			for _, dry := range [][]string{{"-dry-run"}, nil} {
				_, stdout, stderr := runApply(t, api, "[[webhook]]\nname = \"a\"\n"+c.settings, dry...)
				said := stdout + stderr
				for _, part := range []string{"sekret", "4711", "47.11", "10.1.2.3", "5e4bed00"} {
					if strings.Contains(c.value, part) && strings.Contains(said, part) {
						t.Errorf("%s = %q: it said %s", c.settings, c.value, said)
					}
				}
				if shown := strings.Contains(said, c.shown); !shown && !already && (dry == nil || !strings.Contains(c.shown, "the server")) {
					t.Errorf("%s = %q: it said %s\nwant %s", c.settings, c.value, said, c.shown)
				}
			}
		}
	}
}
