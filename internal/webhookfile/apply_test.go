package webhookfile_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
	"hookbolt/internal/webhookfile"
)

func TestMain(m *testing.M) { hookbolttest.Main(m) }

// runApply runs apply with a file of that text, and returns its exit code and what it says.
func runApply(t *testing.T, url, text string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "webhooks.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return hookbolttest.Run(t, append([]string{"apply", "-url", url, "-f", path}, args...)...)
}

// wantApplied runs apply, which must say this and no more.
func wantApplied(t *testing.T, url, text, want string, args ...string) {
	t.Helper()
	code, stdout, stderr := runApply(t, url, text, args...)
	wantCode := 0
	if strings.Contains(want, "Dry run") && !strings.Contains(want, "0 to create, 0 to change, 0 to delete") {
		wantCode = cli.ExitPending
	}
	if want = strings.TrimLeft(strings.ReplaceAll(want, "\t", ""), "\n"); stdout != want || stderr != "" || code != wantCode {
		t.Fatalf("exit code %d, want %d; it said\n%s%s\nwant\n%s", code, wantCode, stdout, stderr, want)
	}
}

// stored is all that the API shows of the webhooks.
func stored(t *testing.T, url string) string {
	t.Helper()
	status, answer := hookbolttest.Call(t, "GET", url+"/v1/webhooks", "")
	hookbolttest.WantStatus(t, 200, status, answer)
	return answer
}

// fullEnvironment sets what webhookfile.FullFile refers to, and returns it with the endpoint, and all that must never be shown.
func fullEnvironment(t *testing.T, endpoint, password string) (file string, secrets []string) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("sekret-key\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APPLY_SECRET", hookbolttest.Secret)
	t.Setenv("APPLY_PASSWORD", password)
	t.Setenv("APPLY_URL", "https://mail.example.com/sekret-url")
	return strings.NewReplacer("ENDPOINT", endpoint, "KEYFILE", filepath.ToSlash(key)).Replace(webhookfile.FullFile),
		[]string{hookbolttest.Secret, password, "sekret-key", "sekret-url", "in plain sight", "auth.example.com"}
}

// A file gives the webhooks that it describes, down to what the endpoint gets. Applied again it changes nothing, and a dry run never does.
func TestApply(t *testing.T) {
	requests := make(chan *http.Request, 1)
	bodies := make(chan []byte, 1)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r
		bodies <- body
	}))
	defer endpoint.Close()
	api := hookbolttest.Serve(t, "", "")
	file, secrets := fullEnvironment(t, endpoint.URL, "sekret-password")

	created := func(crm, mail, end string) string {
		return `
			+ create "crm"` + crm + `
			    url: "` + endpoint.URL + `"
			    content_id: "66666666-7777-4888-8999-aaaaaaaaaaaa"
			    delay: 3600
			    send_answers: false
			    send_leads: false
			    send_incomplete: true
			    incomplete_delay: 7200
			    timeout: "1m30s"
			    max_in_flight: 3
			    retry_schedule: ["1s","1m"]
			    rate_limit: 20
			    allow_networks: ["10.1.2.3/32"]
			    headers.X-Api-Key: set (not shown)
			    headers.X-Plain: set (not shown)
			    basic_auth: set (not shown)
			    secret: set (not shown)
			+ create "mail"` + mail + `
			    url: set (not shown)
			    active: false
			    paused: true
			    oauth2: set (not shown)
			` + end
	}
	wantApplied(t, api, file, created("", "", "Dry run: 2 to create, 0 to change, 0 to delete, 0 unchanged.\n"), "-dry-run")
	if got := stored(t, api); !strings.Contains(got, `"items":[]`) {
		t.Fatalf("a dry run has stored %s", got)
	}
	wantApplied(t, api, file, created(" (id 1)", " (id 2)", "    secret: made; GET /v1/webhooks/2/secret shows it\n2 created, 0 changed, 0 deleted, 0 unchanged.\n"))

	before := stored(t, api)
	wantApplied(t, api, file, `
		? "crm" unchanged, unless these are others, which the server does not show: headers.X-Api-Key, headers.X-Plain, basic_auth
		? "mail" unchanged, unless these are others, which the server does not show: oauth2
		Dry run: 0 to create, 0 to change, 0 to delete, 0 unchanged, 2 perhaps unchanged.
		`, "-dry-run")
	wantApplied(t, api, file, `
		= "crm" unchanged
		= "mail" unchanged
		0 created, 0 changed, 0 deleted, 2 unchanged.
		`)
	if after := stored(t, api); after != before {
		t.Errorf("the second time has changed\n%s\nto\n%s", before, after)
	}
	for _, secret := range secrets[:2] { // what the API shows has the URL
		if strings.Contains(before, secret) {
			t.Errorf("%s is shown", secret)
		}
	}

	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks/1/test", "")
	hookbolttest.WantStatus(t, 202, status, answer)
	select {
	case r := <-requests:
		if err := engine.Verify(r.Header, hookbolttest.Secret, <-bodies, time.Now()); err != nil {
			t.Error(err)
		}
		username, password, _ := r.BasicAuth()
		if username != "ada" || password != "sekret-password" || r.Header.Get("X-Api-Key") != "sekret-key" || r.Header.Get("X-Plain") != "in plain sight" {
			t.Errorf("the endpoint got %q", r.Header)
		}
	case <-time.After(hookbolttest.Timeout):
		t.Fatal("no webhook")
	}
}

// What differs is changed and told, and nothing else is touched; no credential is.
func TestApplyChanges(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	file, secrets := fullEnvironment(t, "https://crm.example.com/", "sekret-password")
	wantNoSecret := func(text string) {
		t.Helper()
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s stands in\n%s", secret, text)
			}
		}
	}
	code, stdout, _ := runApply(t, api, file)
	if wantNoSecret(stdout); code != 0 {
		t.Fatal(stdout)
	}

	// Another password in the environment: what only the server knows, it tells by what it has changed.
	t.Setenv("APPLY_PASSWORD", "sekret-other")
	wantApplied(t, api, file, `
		~ change "crm"
		    headers.X-Api-Key, headers.X-Plain, basic_auth: another value (not shown)
		~ change "mail"
		    oauth2: another value (not shown)
		0 created, 2 changed, 0 deleted, 0 unchanged.
		`)

	// What the file leaves out gets its default, but for secret and paused.
	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks/1/rotate-secret", `{}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	fewer := `
		[[webhook]]
		name = "crm"
		url = {env = "APPLY_URL"}
		content_id = "11111111-7777-4888-8999-aaaaaaaaaaaa"
		headers = {X-New = "sekret-new", X-Plain = "in plain sight"}
		[[webhook]]
		name = "mail"
		url = "https://elsewhere.example.com/?a=<1>&b=2"
		active = false`
	wantApplied(t, api, fewer, `
		~ change "crm" (what waits and no longer fits is cancelled)
		    url: another value (not shown)
		    content_id: "66666666-7777-4888-8999-aaaaaaaaaaaa" -> "11111111-7777-4888-8999-aaaaaaaaaaaa"
		    delay: 3600 -> 10
		    send_answers: false -> true
		    send_leads: false -> true
		    send_incomplete: true -> false
		    incomplete_delay: 7200 -> 60
		    timeout: "1m30s" -> not set
		    max_in_flight: 3 -> not set
		    retry_schedule: ["1s","1m"] -> not set
		    rate_limit: 20 -> not set
		    allow_networks: ["10.1.2.3/32"] -> not set
		    headers.X-New: set (not shown)
		    headers.X-Api-Key: removed
		    basic_auth: removed
		    headers.X-Plain: sent again (not shown)
		~ change "mail"
		    url: "https://mail.example.com/sekret-url" -> "https://elsewhere.example.com/?a=%3C1%3E&b=2"
		    oauth2: removed
		0 created, 2 changed, 0 deleted, 0 unchanged.
		`)
	if got := stored(t, api); strings.Contains(got, `"basic_auth":true`) || strings.Contains(got, `"oauth2":true`) || !strings.Contains(got, `"headers":{"X-New":true,"X-Plain":true}`) ||
		!strings.Contains(got, `"paused":true`) || !strings.Contains(got, `"signs_until"`) {
		t.Errorf("there are %s", got)
	}
	wantApplied(t, api, fewer, "= \"crm\" unchanged\n= \"mail\" unchanged\n0 created, 0 changed, 0 deleted, 2 unchanged.\n")
}

// What may be lost is told with the deletion; what is not in the file stays without -prune, and is counted.
func TestApplyPrune(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	for _, settings := range []string{`{"url":"https://example.com/1","name":"kept","delay":3600}`, `{"url":"https://example.com/2","name":"twice","delay":3600}`,
		`{"url":"https://example.com/3","delay":3600,"send_incomplete":true,"incomplete_delay":3600}`, `{"url":"https://example.com/4","name":"twice"}`} {
		status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", settings)
		hookbolttest.WantStatus(t, 201, status, answer)
	}
	status, answer := hookbolttest.Call(t, "PATCH", api+"/v1/webhooks/4", `{"content_id":"11111111-7777-4888-8999-aaaaaaaaaaaa"}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	status, answer = hookbolttest.Call(t, "POST", api+"/v1/events", hookbolttest.Session)
	hookbolttest.WantStatus(t, 202, status, answer)

	const file = `webhook = [{name = "kept", url = "https://example.com/1", delay = 3600}]`
	before := stored(t, api)
	wantApplied(t, api, file, `
		= "kept" unchanged
		0 created, 0 changed, 0 deleted, 1 unchanged. On the server and not in the file: 3 (-prune deletes them).
		`)
	deletions := `
		= "kept" unchanged
		- delete "twice" (id 2) (1 delivery waits and is cancelled)
		- delete "" (id 3) (1 delivery waits and is cancelled)
		    url: "https://example.com/3"
		- delete "twice" (id 4) (nothing waits for it)
		`
	wantApplied(t, api, file, deletions+"Dry run: 0 to create, 0 to change, 3 to delete, 1 unchanged.\n", "-dry-run", "-prune")
	for _, empty := range []string{"", "webhook = []", "# all of it is gone"} {
		code, stdout, stderr := runApply(t, api, empty, "-prune")
		if code != cli.ExitFailure || stdout != "" || !strings.Contains(stderr, "the file has no webhooks, and -prune would delete all webhooks of the server") {
			t.Errorf("%q: exit code %d; it said %s%s", empty, code, stdout, stderr)
		}
	}
	if after := stored(t, api); after != before {
		t.Fatalf("became\n%s\nfrom\n%s", after, before)
	}
	wantApplied(t, api, file, deletions+"0 created, 0 changed, 3 deleted, 1 unchanged.\n", "-prune")
	if got := stored(t, api); strings.Count(got, `"url"`) != 1 || !strings.Contains(got, `"name":"kept"`) {
		t.Errorf("there are %s", got)
	}
	if _, answer := hookbolttest.Call(t, "GET", api+"/v1/deliveries?status=cancelled", ""); strings.Count(answer, `"id"`) == 0 {
		t.Errorf("nothing was cancelled: %s", answer)
	}
	wantApplied(t, api, file+"\n", "= \"kept\" unchanged\n0 created, 0 changed, 0 deleted, 1 unchanged.\n", "-prune")

	// Switching off is told like a deletion.
	status, answer = hookbolttest.Call(t, "POST", api+"/v1/events", strings.ReplaceAll(hookbolttest.Session, "11111111", "22222222")+strings.ReplaceAll(hookbolttest.Session, "11111111", "33333333"))
	hookbolttest.WantStatus(t, 202, status, answer)
	wantApplied(t, api, `
		[[webhook]]
		name = "kept"
		url = "https://example.com/1"
		active = false`, `
		~ change "kept" (3 deliveries wait and are cancelled)
		    active: true -> false
		    delay: 3600 -> 10
		0 created, 1 changed, 0 deleted, 0 unchanged.
		`)
}

// A file has the whole of each setting: what it does not have is not kept, nor where the server does not show what is set.
func TestApplyReplaces(t *testing.T) {
	tokens := make(chan *http.Request, 8)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		tokens <- r
		io.WriteString(w, `{"access_token":"t","token_type":"Bearer"}`)
	}))
	defer endpoint.Close()
	api := hookbolttest.Serve(t, "", "")
	file := func(rest string) string {
		return "[[webhook]]\nname = \"a\"\nurl = \"" + endpoint.URL + "\"\nallow_networks = [\"127.0.0.1\"]\n" + rest
	}
	const oauth = `oauth2 = {token_url = "ENDPOINT", client_id = "i", client_secret = "s"`
	for _, rest := range []string{"headers = {X-A = \"1\", X-B = \"2\"}\n" + oauth + `, scopes = ["wide"], headers = {X-Old = "1"}}`, "headers = {X-B = \"2\"}\n" + oauth + "}"} {
		if code, stdout, stderr := runApply(t, api, file(strings.ReplaceAll(rest, "ENDPOINT", endpoint.URL))); code != 0 {
			t.Fatal(stdout, stderr)
		}
	}
	if got := stored(t, api); !strings.Contains(got, `"headers":{"X-B":true}`) {
		t.Errorf("there are %s", got)
	}
	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks/1/test", "")
	hookbolttest.WantStatus(t, 202, status, answer)
	select {
	case r := <-tokens:
		if r.Form.Has("scope") || r.Header.Get("X-Old") != "" {
			t.Errorf("the token is asked for with %v and %v", r.Form, r.Header)
		}
	case <-time.After(hookbolttest.Timeout):
		t.Fatal("no token was asked for")
	}
}

func TestApplyWithoutToken(t *testing.T) {
	const token = "an-admin-token-of-mine"
	api := hookbolttest.Start(t, "serve", "-config", hookbolttest.WriteConfig(t, t.TempDir(), `admin_tokens = ["`+token+`"]`, "")).URL(t)
	const file = "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\n"
	for _, wrong := range []string{"", "another-token-of-mine"} {
		t.Setenv("HOOKBOLT_TOKEN", wrong)
		code, _, stderr := runApply(t, api, file)
		if code != cli.ExitFailure || !strings.Contains(stderr, "401 Unauthorized: ") || !strings.Contains(stderr, "set HOOKBOLT_TOKEN to one of the server's http.admin_tokens") {
			t.Errorf("exit code %d; it said %s", code, stderr)
		}
		if code, _, stderr := hookbolttest.Run(t, "dump", "-url", api); code != cli.ExitFailure || !strings.Contains(stderr, "hookbolt: dump: ") || !strings.Contains(stderr, "401") {
			t.Errorf("exit code %d; it said %s", code, stderr)
		}
	}
	t.Setenv("HOOKBOLT_TOKEN", token)
	if code, _, stderr := runApply(t, api, file); code != 0 {
		t.Error(stderr)
	}
}

// A rotation's overlap goes on when the file has the new secret, and ends when it has another one.
func TestApplySecret(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	file := func(secret string) string {
		return "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\nsecret = \"" + secret + "\""
	}
	const next, other = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4"
	if code, _, stderr := runApply(t, api, file(hookbolttest.Secret)); code != 0 {
		t.Fatal(stderr)
	}
	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks/1/rotate-secret", `{"secret":"`+next+`"}`)
	hookbolttest.WantStatus(t, 200, status, answer)
	wantApplied(t, api, file(next), "= \"a\" unchanged\n0 created, 0 changed, 0 deleted, 1 unchanged.\n")
	if got := stored(t, api); !strings.Contains(got, `"signs_until"`) {
		t.Errorf("the overlap has ended: %s", got)
	}
	wantApplied(t, api, file(other), "~ change \"a\"\n    secret: another one (not shown), which signs alone from then on\n0 created, 1 changed, 0 deleted, 0 unchanged.\n")
	if _, answer := hookbolttest.Call(t, "GET", api+"/v1/webhooks/1/secret", ""); !strings.Contains(answer, other) {
		t.Errorf("the secret is %s", answer)
	}
}

// What the server does not show of a signature is compared all the same, so an overlap goes on, and a file that fits changes nothing.
func TestApplySignature(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	t.Setenv("SIGNATURE_SECRET", "sekret-text")
	file := func(signature string) string {
		return "[[webhook]]\nname = \"a\"\nurl = \"https://example.com/\"\n" + signature
	}
	const unchanged = "= \"a\" unchanged\n0 created, 0 changed, 0 deleted, 1 unchanged.\n"
	const changed = "~ change \"a\"\n    %s\n0 created, 1 changed, 0 deleted, 0 unchanged.\n"
	const v1a = `signature = {v1a = true}`
	const shownKey = `{"header":null,"prefix":null,"encoding":null,"secret":null,"v1a":true}`
	wantApplied(t, api, file(v1a), "+ create \"a\" (id 1)\n    url: \"https://example.com/\"\n    signature: "+shownKey+"\n    secret: made; GET /v1/webhooks/1/secret shows it\n1 created, 0 changed, 0 deleted, 0 unchanged.\n")
	keys := func() string {
		_, answer := hookbolttest.Call(t, "GET", api+"/v1/webhooks/1/public-key", "")
		return answer
	}
	made := keys()
	wantApplied(t, api, file(v1a), unchanged)
	wantApplied(t, api, file(`signature = {keep = true}`), unchanged)
	if keys() != made {
		t.Error("the key pair has changed")
	}

	const header = `signature = {header = "x-sig", prefix = "<p>=", secret = {env = "SIGNATURE_SECRET"}, v1a = true}`
	const shownHeader = `{"header":"X-Sig","prefix":"<p>=","encoding":"hex","secret":true,"v1a":true}`
	wantApplied(t, api, file(header), fmt.Sprintf(changed, "signature: "+shownKey+" -> "+shownHeader))
	wantApplied(t, api, file(header), unchanged)
	for _, rotation := range []string{`{"which":"signature.secret","secret":"next"}`, `{"which":"signature.secret_key","secret":"` + keyPair + `"}`} {
		status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks/1/rotate-secret", rotation)
		hookbolttest.WantStatus(t, 200, status, answer)
	}
	t.Setenv("SIGNATURE_SECRET", "next")
	const withKey = `signature = {header = "x-sig", prefix = "<p>=", secret = {env = "SIGNATURE_SECRET"}, secret_key = "` + keyPair + `"}`
	wantApplied(t, api, file(header), unchanged)
	wantApplied(t, api, file(withKey), unchanged)
	if got := stored(t, api); strings.Count(got, `"signs_until"`) != 2 {
		t.Errorf("an overlap has ended: %s", got)
	}
	t.Setenv("SIGNATURE_SECRET", "sekret-other")
	wantApplied(t, api, file(header), fmt.Sprintf(changed, "signature.secret: another one (not shown), which signs alone from then on"))
	other := strings.Replace(withKey, keyPair, "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", 1)
	wantApplied(t, api, file(other), fmt.Sprintf(changed, "signature.secret_key: another one (not shown), which signs alone from then on"))
	if got := stored(t, api); strings.Contains(got, `"signs_until"`) || !strings.Contains(keys(), "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=") {
		t.Errorf("now it is %s", got)
	}
	t.Setenv("SIGNATURE_HEADER", "X-Hidden")
	wantApplied(t, api, file(`signature = {header = {env = "SIGNATURE_HEADER"}}`), fmt.Sprintf(changed, "signature: another value (not shown)"))
	wantApplied(t, api, file(""), fmt.Sprintf(changed, `signature: {"header":"X-Hidden","prefix":"","encoding":"hex","secret":null,"v1a":false} -> not set`))
	if code, _, stderr := runApply(t, api, file(`signature = {keep = true}`)); code == 0 || !strings.Contains(stderr, "signature: keep = true, but on the server it has none") {
		t.Errorf("keep of nothing: %s", stderr)
	}
	if code, _, stderr := runApply(t, api, file(`signature = {env = "SIGNATURE_SECRET"}`)); code == 0 || !strings.Contains(stderr, "a reference for each value, as in {secret = ") {
		t.Errorf("a reference for all: %s", stderr)
	}
}

// keyPair is a key pair as a seed.
const keyPair = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="
