package webhookfile_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"

	"hookbolt/internal/cli"
	"hookbolt/internal/hookbolttest"
)

// dumped runs dump and returns what it writes.
func dumped(t *testing.T, url string, args ...string) string {
	t.Helper()
	code, stdout, stderr := hookbolttest.Run(t, append([]string{"dump", "-url", url}, args...)...)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d; it said %s", code, stderr)
	}
	return stdout
}

// TestDump: the file of a server with a webhook that has everything, one that has nothing, and one that is paused.
func TestDump(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	for _, settings := range []string{
		`{"name":"lead's \"crm\"","url":"https://example.com/?a=<1>&b","content_id":"66666666-7777-4888-8999-aaaaaaaaaaaa","active":false,"delay":0,"send_answers":false,
			"send_leads":false,"send_incomplete":true,"incomplete_delay":0,"timeout":"90s","max_in_flight":1,"retry_schedule":[],"rate_limit":0.5,
			"allow_networks":["10.0.0.0/8","fd00::1"],"headers":{"X-Api-Key":"sekret","X.!":"sekret"},"basic_auth":{"username":"sekret","password":"sekret"},"secret":"` + hookbolttest.Secret + `"}`,
		`{"name":"plain","url":"https://example.com/","signature":{"header":"X-Sig","prefix":"\"","v1a":true}}`,
		`{"name":"own","url":"https://example.com/","signature":{"header":"X-Sig","encoding":"base64","secret":"sekret \" text"}}`,
		`{"name":"7 \u001b\u0085","url":"https://example.com/","paused":true,"oauth2":{"token_url":"https://example.com/sekret","body":"sekret"}}`,
	} {
		status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", settings)
		hookbolttest.WantStatus(t, 201, status, answer)
	}
	want := `# The webhooks of URL. "hookbolt apply -f FILE" makes a server's webhooks those of the file.

[[webhook]]
name = "lead's \"crm\""
url = "https://example.com/?a=%3C1%3E&b"
content_id = "66666666-7777-4888-8999-aaaaaaaaaaaa"
active = false
delay = 0
send_answers = false
send_leads = false
send_incomplete = true
incomplete_delay = 0
timeout = "1m30s"
max_in_flight = 1
retry_schedule = []
rate_limit = 0.5
allow_networks = ["10.0.0.0/8","fd00::1/128"]
headers = {keep = true} # the server does not show it; elsewhere, such as {X-Api-Key = {env = "LEAD_S__CRM_X_API_KEY"}, "X.!" = {env = "LEAD_S__CRM_X__"}}
basic_auth = {keep = true} # the server does not show it; elsewhere, such as {username = {env = "LEAD_S__CRM_USERNAME"}, password = {env = "LEAD_S__CRM_PASSWORD"}}

[[webhook]]
name = "plain"
url = "https://example.com/"
signature = {header = "X-Sig", prefix = "\"", encoding = "hex", v1a = true} # the key pair stays on the server: another one makes its own

[[webhook]]
name = "own"
url = "https://example.com/"
signature = {keep = true} # its secret is not shown; elsewhere, such as {header = "X-Sig", prefix = "", encoding = "base64", secret = {env = "OWN_SIGNATURE_SECRET"}}

[[webhook]]
name = "7 \u001B\u0085"
url = "https://example.com/"
# It is paused: paused by hand.
oauth2 = {keep = true} # the server does not show it; elsewhere, such as {token_url = {env = "WEBHOOK_4_TOKEN_URL"}, client_id = {env = "WEBHOOK_4_CLIENT_ID"}, client_secret = {env = "WEBHOOK_4_CLIENT_SECRET"}}
`
	text := dumped(t, api)
	if got := strings.ReplaceAll(text, api, "URL"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if text := dumped(t, api, "-secrets"); strings.Count(text, `secret = "whsec_`) != 4 || !strings.Contains(text, hookbolttest.Secret) || strings.Contains(text, "whsk_") ||
		strings.Count(text, "sekret") != 1 || !strings.Contains(text, `signature = {header = "X-Sig", prefix = "", encoding = "base64", secret = "sekret \" text"}`) {
		t.Errorf("with secrets: %s", text)
	}
}

// Names that apply could not tell apart are written as they are, and called by their ids.
func TestDumpWithoutNames(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	for _, name := range []string{"", "a", "b", "a"} {
		status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", fmt.Sprintf(`{"name":%q,"url":"https://example.com/"}`, name))
		hookbolttest.WantStatus(t, 201, status, answer)
	}
	code, stdout, stderr := hookbolttest.Run(t, "dump", "-url", api)
	if code != cli.ExitFailure || !strings.HasSuffix(stderr, "name these on the server, or delete them: \"\" (id 1), \"a\" (id 2), \"a\" (id 4)\n") {
		t.Errorf("exit code %d; it said %s", code, stderr)
	}
	if strings.Count(stdout, "[[webhook]]\n# apply wants a name that no other webhook has.\nname = ") != 3 || strings.Count(stdout, "[[webhook]]\nname = \"b\"\n") != 1 {
		t.Errorf("got\n%s", stdout)
	}
	if code, _, stderr := runApply(t, api, stdout); code != cli.ExitFailure || !strings.Contains(stderr, "webhook 1: name: is required") || !strings.Contains(stderr, `webhook "a": name: stands twice`) {
		t.Errorf("apply: exit code %d; it said %s", code, stderr)
	}
}

// randomWebhook is the JSON of a webhook with some settings.
func randomWebhook(rng *rand.Rand, i int) string {
	settings := map[string]any{"url": fmt.Sprintf("https://example.com/%d?a=\\\"%%20", i)}
	pick := func(share float64, setting string, values ...any) {
		if rng.Float64() < share {
			settings[setting] = values[rng.IntN(len(values))]
		}
	}
	letters := []rune("abc 0\"\\'#\n\t\r\u0000\u007f\u0085\u2028é😀\ufeff=[]{}<&>\U000e0001")
	name := []rune(fmt.Sprint(i, ".")) // so that no two are equal: a 0 may follow
	for range rng.IntN(12) {
		name = append(name, letters[rng.IntN(len(letters))])
	}
	settings["name"] = string(name)
	pick(0.3, "content_id", "66666666-7777-4888-8999-AAAAAAAAAAAA", "11111111-7777-4888-8999-aaaaaaaaaaaa", nil)
	pick(0.3, "active", true, false)
	pick(0.3, "paused", true, false)
	pick(0.3, "delay", 0, 10, 31536000, nil)
	pick(0.3, "incomplete_delay", 0, 60, 3600)
	pick(0.3, "send_answers", true, false)
	pick(0.3, "send_leads", true, false)
	pick(0.3, "send_incomplete", true, false)
	pick(0.3, "timeout", "1s", "1500ms", "2m", "60s", "1m1.000000001s")
	pick(0.3, "max_in_flight", 1, 1000)
	pick(0.3, "rate_limit", 0.001, 1, 1.5, 10000, rng.Float64()*9999+0.001)
	pick(0.3, "signature", map[string]any{"v1a": true}, map[string]any{"header": "x-sig", "prefix": "<\"\\", "secret": "ü \u2028."}, map[string]any{"header": "X-Sig", "encoding": "base64", "v1a": true}, nil)
	pick(0.3, "retry_schedule", []string{}, []string{"5s", "720h"}, []string{"60s"}, nil)
	for _, setting := range []string{"filter", "transform"} {
		pick(0.3, setting, nastyPrograms[rng.IntN(len(nastyPrograms))], ".")
	}
	pick(0.3, "tls", map[string]string{"min_version": "1.3"}, map[string]string{"server_name": "a.example", "min_version": "1.2"}, nil)
	pick(0.3, "allow_networks", []string{}, []string{"10.1.2.3", "fd00::/8"}, []string{"0.0.0.0/0"})
	pick(0.3, "headers", map[string]string{}, map[string]string{"x-a": "b"}, map[string]string{"X_!#$%&'*+.^`|~": "c"})
	if rng.IntN(3) == 0 {
		pick(1, "basic_auth", map[string]string{"username": "u", "password": ""})
	} else {
		pick(0.3, "oauth2", map[string]any{"token_url": "https://a.example/", "client_id": "i", "client_secret": "s", "scopes": []string{"a"}},
			map[string]any{"token_url": "https://a.example/", "body": map[string]any{"b": "c"}, "headers": map[string]string{"X": "y"}})
	}
	text, _ := json.Marshal(settings)
	return string(text)
}

// Applying what was dumped changes nothing; on a server that has nothing it makes the same webhooks, but for credentials.
func TestDumpApplied(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	api, another := hookbolttest.Serve(t, "", ""), hookbolttest.Serve(t, "", "")
	const many = 210
	for i := range many {
		status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", randomWebhook(rng, i))
		hookbolttest.WantStatus(t, 201, status, answer)
	}
	webhooks := func(url string) string { // of two pages
		_, first := hookbolttest.Call(t, "GET", url+"/v1/webhooks?limit=200", "")
		_, second := hookbolttest.Call(t, "GET", url+"/v1/webhooks?limit=200&cursor=200", "")
		return first + second
	}
	before := webhooks(api)
	unchanged := fmt.Sprintf("%d unchanged.\n", many)
	for _, text := range []string{dumped(t, api), dumped(t, api, "-secrets")} {
		code, stdout, stderr := runApply(t, api, text, "-prune", "-dry-run")
		if code != 0 || !strings.HasSuffix(stdout, "0 to create, 0 to change, 0 to delete, "+unchanged) {
			t.Fatalf("exit code %d; it said %s%s", code, stdout, stderr)
		}
		code, stdout, stderr = runApply(t, api, text, "-prune")
		if code != 0 || !strings.HasSuffix(stdout, "0 created, 0 changed, 0 deleted, "+unchanged) {
			t.Fatalf("exit code %d; it said %s%s", code, stdout, stderr)
		}
		if after := webhooks(api); after != before {
			t.Fatalf("became\n%s\nfrom\n%s", after, before)
		}
	}

	var given []string
	for line := range strings.Lines(dumped(t, api, "-secrets")) { // lines of programs may begin with # as well
		if !strings.Contains(line, "{keep = true}") && !strings.HasPrefix(line, "# The webhooks of ") && !strings.HasPrefix(line, "# It is paused: ") {
			given = append(given, line)
		}
	}
	code, stdout, stderr := runApply(t, another, strings.Join(given, ""))
	if code != 0 || !strings.HasSuffix(stdout, fmt.Sprintf("%d created, 0 changed, 0 deleted, 0 unchanged.\n", many)) {
		t.Fatalf("exit code %d; it said %s%s", code, stdout, stderr)
	}
	_, again, _ := strings.Cut(dumped(t, another, "-secrets"), "\n")
	if want := strings.Join(given, ""); again != want {
		t.Errorf("another server has\n%s\nwant\n%s", again, want)
	}
}

// TestApplyFromStandardInput is "hookbolt dump | hookbolt apply -f -".
func TestApplyFromStandardInput(t *testing.T) {
	api := hookbolttest.Serve(t, "", "")
	status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", `{"name":"a","url":"https://example.com/","delay":5}`)
	hookbolttest.WantStatus(t, 201, status, answer)
	for text, want := range map[string]string{
		dumped(t, api):                "= \"a\" unchanged\n0 created, 0 changed, 0 deleted, 1 unchanged.\n",
		dumped(t, api) + "dely = 1\n": "hookbolt: apply: nothing was changed:\n  standard input: webhook \"a\": dely: unknown field\n",
	} {
		if _, stdout, stderr := hookbolttest.RunWith(t, text, "apply", "-url", api, "-f", "-"); stdout+stderr != want {
			t.Errorf("it said %s%s\nwant %s", stdout, stderr, want)
		}
	}
}

// TestDumpTLS: certificates are not shown and stay on the server; what is shown is written down. What the server shows is compared.
func TestDumpTLS(t *testing.T) {
	issuer := httptest.NewTLSServer(nil)
	defer issuer.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}))
	api := hookbolttest.Serve(t, "", "")
	for _, settings := range []string{
		`{"name":"own","url":"https://example.com/","method":"PUT","success":[302],"tls":{"ca":` + quoted(ca) + `,"min_version":"1.3"}}`,
		`{"name":"shown","url":"https://example.com/","tls":{"server_name":"a.example","min_version":"1.3"}}`,
	} {
		status, answer := hookbolttest.Call(t, "POST", api+"/v1/webhooks", settings)
		hookbolttest.WantStatus(t, 201, status, answer)
	}
	const shown = `
[[webhook]]
name = "shown"
url = "https://example.com/"
tls = {min_version = "1.3", server_name = "a.example"}
`
	want := `method = "PUT"
success = [302]
tls = {keep = true} # the server does not show it; elsewhere, such as {ca = {env = "OWN_CA"}, min_version = "1.3"}
` + shown
	file := dumped(t, api)
	if !strings.HasSuffix(file, want) {
		t.Errorf("got\n%s\nwant at its end\n%s", file, want)
	}
	wantApplied(t, api, file, "= \"own\" unchanged\n= \"shown\" unchanged\nDry run: 0 to create, 0 to change, 0 to delete, 2 unchanged.\n", "-dry-run")
	own := "[[webhook]]\nname = \"own\"\nurl = \"https://example.com/\"\nmethod = \"PUT\"\nsuccess = [302]\ntls = {ca = \"\"\"\n" + ca + "\"\"\", min_version = \"1.%d\"}\n"
	wantApplied(t, api, fmt.Sprintf(own, 3)+shown, "? \"own\" unchanged, unless these are others, which the server does not show: tls\n= \"shown\" unchanged\n"+
		"Dry run: 0 to create, 0 to change, 0 to delete, 1 unchanged, 1 perhaps unchanged.\n", "-dry-run")
	wantApplied(t, api, fmt.Sprintf(own, 2)+strings.Replace(shown, ", server_name = \"a.example\"", "", 1), `
		~ change "own"
		    tls: {"ca":true,"min_version":"1.3"} -> {"ca":true,"min_version":"1.2"}
		~ change "shown"
		    tls: {"min_version":"1.3","server_name":"a.example"} -> {"min_version":"1.3"}
		0 created, 2 changed, 0 deleted, 0 unchanged.
		`)
	wantApplied(t, hookbolttest.Serve(t, "", ""), shown, `
		+ create "shown" (id 1)
		    url: "https://example.com/"
		    tls: {"min_version":"1.3","server_name":"a.example"}
		    secret: made; GET /v1/webhooks/1/secret shows it
		1 created, 0 changed, 0 deleted, 0 unchanged.
		`)
}

func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}
