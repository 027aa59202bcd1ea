package webhookfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"hookbolt/engine"
	"hookbolt/internal/client"
)

// FullFile has every setting of a webhook.
const FullFile = `
[[webhook]]
name = "crm"
url = "ENDPOINT"
content_id = "66666666-7777-4888-8999-AAAAAAAAAAAA"
delay = 3600
send_answers = false
send_leads = false
send_incomplete = true
incomplete_delay = 7200
timeout = "90000ms"
max_in_flight = 3
retry_schedule = ["1s", "60s"]
rate_limit = 20
allow_networks = ["10.1.2.3"]
secret = {env = "APPLY_SECRET"}
headers = {x-api-key = {file = "KEYFILE"}, X-Plain = "in plain sight"}
[webhook.basic_auth]
username = "ada"
password = {env = "APPLY_PASSWORD"}

[[webhook]]
name = "mail"
url = {env = "APPLY_URL"}
active = false
paused = true
[webhook.oauth2]
token_url = "https://auth.example.com/token?<&>"
body = {grant = "x", "<&>" = {env = "APPLY_PASSWORD"}}
headers = {env = {env = "APPLY_PASSWORD"}}
`

// FuzzWebhookFile: a file of webhooks gives settings that the API takes, and that come back if they are written down again; or lines that
// say what is wrong, steer no terminal and show nothing of what was referred to.
func FuzzWebhookFile(f *testing.F) {
	const head = "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\n"
	for _, text := range []string{
		"", FullFile, head, head + head, "webhook = [{name = \"a\", url = {env = \"X\"}}]", "webhook = 1", "[webhook]", "a.b = 1\n\"c\\n\" = 2", "[[webhook]]\nname = \"\\u001b\\u0085\"",
		head + "headers = {keep = true}\noauth2 = {keep = true}\npaused = true", head + "headers = {env = {file = \"/x\"}, file = \"y\"}", head + "timeout = {env = \"BYTES\"}",
		head + "secret = {env = \"NONE\"}", head + "content_id = {file = \"x\"}\ndelay = 1e3\nrate_limit = inf\nmax_in_flight = 07:32:00", head + "oauth2 = {token_url = {env = \"Y\"}, body = [[{}]]}",
		head + "retry_schedule = [\"1s\", {env = \"A\\nB\"}]\nallow_networks = [{file = \"\\u0085\"}]", head + "[webhook.oauth2.body.a.b.c]\nd = 1979-05-27T07:32:00Z", "[[webhook.name]]\n[[webhook.url]]",
		head + "transform = {file = \"a.jq\"}\nfilter = {file = \"12345\"}", head + "transform = '''\n{a: \"\\(.b)\"}\n'''\nurl_values = \"\"\"\\u0085\n''' \\r\"\"\"\nfilter = '\"x'",
		head + "tls = {min_version = \"1.3\", ca_file = \"a\"}",
	} {
		f.Add(text)
	}
	const sekret = "zq9-sekret-zq9"
	from := Sources{
		Variable: func(name string) (string, bool) {
			return map[string]string{"BYTES": "\xff" + sekret, "EMPTY": "", "SECRET": "whsec_aG9va2JvbHQsIGEgc2VjcmV0IHRvIHBsYXkgd2l0aCE="}[name] + strings.Repeat(sekret, len(name)%3), name != "NONE"
		},
		File: func(path string) (string, error) {
			if len(path) > 20 {
				return "", &os.PathError{Op: "open", Path: path, Err: errors.New("not there")}
			}
			return "https://example.com/?" + sekret, nil
		},
		Program: func(path string) (string, error) {
			return map[bool]string{true: "\xff", false: "# " + path}[len(path)%5 == 0], nil
		},
	}
	f.Fuzz(func(t *testing.T, text string) {
		hooks, err := parse(text, from)
		if err != nil {
			said := err.Error()
			if said == "" || !utf8.ValidString(said) || strings.ContainsFunc(said, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
				t.Fatalf("not lines of text: %q", said)
			}
			if strings.Contains(said, sekret) && !strings.Contains(text, sekret) {
				t.Fatalf("what was referred to stands in %q", said)
			}
			return
		}
		names := make(map[string]bool)
		var dump strings.Builder
		for _, want := range hooks {
			if names[want.Settings.Name] || want.Settings.Name == "" {
				t.Fatalf("%q is no name of its own", want.Settings.Name)
			}
			names[want.Settings.Name] = true
			patch, err := engine.ParseWebhookPatch(client.EncodeJSON(want.JSON))
			if err == nil {
				_, err = engine.NewWebhook(patch)
			}
			if err != nil {
				t.Fatalf("accepted, but not valid: %v", err)
			}
			s := servedWebhook{Webhook: want.Settings, credentials: make(map[string]json.RawMessage)}
			for _, setting := range credentialSettings {
				s.credentials[setting.Name] = setting.JSON(&want.Settings)
			}
			dump.WriteString("[[webhook]]\n")
			s.dump(&dump)
		}
		again, err := parse(dump.String(), from)
		if err != nil || len(again) != len(hooks) {
			t.Fatalf("written down as\n%s\nit gives %d webhooks of %d: %v", dump.String(), len(again), len(hooks), err)
		}
		for i := range hooks {
			for _, setting := range slices.Concat(plainSettings, []*engine.Setting{engine.SettingNamed("name")}) {
				want, got := setting.JSON(&hooks[i].Settings), setting.JSON(&again[i].Settings)
				if !setting.KeptByFile && !bytes.Equal(got, want) { // paused is not written down
					t.Fatalf("written down as\n%s\n%s becomes %s\nwant %s", dump.String(), setting.Name, got, want)
				}
			}
		}
	})
}

// References are put in wherever a value stands, and nowhere else.
func TestReferences(t *testing.T) {
	from := Sources{
		Variable: func(name string) (string, bool) {
			return map[string]string{"A": "of <A>", "BYTES": "\xff"}[name], name == "A" || name == "BYTES"
		},
		File: func(path string) (string, error) { return "of file " + path, nil },
	}
	const oauth2 = `oauth2 = {token_url = "https://a.example/", `
	for text, want := range map[string]string{
		`headers = {env = "A"}`:                                                       `webhook "a": headers: must have a reference for each value, as in {X-Api-Key = {env = "…"}}; a header that is called env is written Env`,
		`headers = {file = "A"}`:                                                      `webhook "a": headers: must have a reference for each value, as in {X-Api-Key = {file = "…"}}; a header that is called file is written File`,
		`headers = {Env = "A"}`:                                                       `{"headers":{"Env":"A"}}`,
		`basic_auth = {env = "A"}`:                                                    `webhook "a": basic_auth: must have a reference for each value, as in {username = {env = "…"}}`,
		`headers = {env = {env = "A"}}`:                                               `{"headers":{"env":"of <A>"}}`,
		`headers = {X-A = {file = "f"}, file = "f"}`:                                  `{"headers":{"X-A":"of file f","file":"f"}}`,
		`basic_auth = {username = {env = "A"}, password = {file = "f"}}`:              `{"basic_auth":{"password":"of file f","username":"of <A>"}}`,
		oauth2 + `client_id = "i", client_secret = "s", scopes = ["a", {env = "A"}]}`: `webhook "a": oauth2.scopes[1]: a scope must not hold white space: each is a string of its own`,
		oauth2 + `body = {env = "A"}, headers = {env = {env = "A"}}}`:                 `{"oauth2":{"body":"of <A>","headers":{"env":"of <A>"},"token_url":"https://a.example/"}}`,
		oauth2 + `body = "b", headers = {file = "f"}}`:                                `webhook "a": oauth2.headers: must have a reference for each value, as in {X-Api-Key = {file = "…"}}; a header that is called file is written File`,
		oauth2 + `body = {b = {env = "A"}, a = [1, {file = "f", g = 2.5}]}}`:          `{"oauth2":{"body":{"a":[1,{"file":"f","g":2.5}],"b":"of <A>"},"token_url":"https://a.example/"}}`,
		`content_id = {env = "A"}`:                                                    `webhook "a": content_id: must be a UUID of 36 characters, such as 22ffdf18-1035-4e56-baa2-8327e3af5242`,
		`headers = {X-A = {value = {env = "A"}, secret = false}}`:                     `{"headers":{"X-A":{"secret":false,"value":"of <A>"}}}`,
		`headers = {X-A = {value = "a"}}`:                                             `webhook "a": headers.X-A.secret: is required: true or false; or give the value alone, as a string`,
		`headers = {X-A = {env = "BYTES"}}`:                                           `webhook "a": headers.X-A: what it refers to is not valid UTF-8`,
	} {
		hooks, err := parse("[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\n"+text, from)
		if err != nil {
			if err.Error() != want {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
			continue
		}
		delete(hooks[0].JSON, "name")
		delete(hooks[0].JSON, "url")
		if got := string(client.EncodeJSON(hooks[0].JSON)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// apply knows each setting that there is: else it would leave one as it is, and dump would leave it out.
func TestApplyKnowsEverySetting(t *testing.T) {
	var known []string
	for _, s := range engine.Settings {
		known = append(known, s.Name)
	}
	want := Keys()
	slices.Sort(known)
	slices.Sort(want)
	if !slices.Equal(known, want) {
		t.Errorf("the engine knows %v, apply %v", known, want)
	}
}

// Keys are all keys that a webhook may have in a file.
func Keys() []string {
	keys := []string{"name", "secret"}
	for _, s := range slices.Concat(plainSettings, credentialSettings, partlySettings) {
		keys = append(keys, s.Name)
	}
	return keys
}
