package engine

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestCredentialSettings(t *testing.T) {
	w := applyPatch(t, DefaultWebhook(), `{"headers":{"X-Api-Key":"k1","authorization":"Bearer t1"},"rate_limit":0.5,
		"allow_networks":["10.1.2.3","fd00::/8","::ffff:192.168.0.0/112"]}`)
	if fmt.Sprint(w.AllowNetworks) != "[10.1.2.3/32 fd00::/8 192.168.0.0/16]" || *w.RateLimit != 0.5 {
		t.Errorf("got %v, %v", w.AllowNetworks, *w.RateLimit)
	}
	if len(w.Headers) != 2 || w.Headers["X-Api-Key"].Value != "k1" || w.Headers["Authorization"].Value != "Bearer t1" {
		t.Errorf("got %d headers", len(w.Headers))
	}
	// A header's value is stored as it was given: with whether it is secret, or alone, as older data have it.
	w = applyPatch(t, w, `{"headers":{"X-A":"a","X-B":{"value":"b","secret":false},"X-C":{"secret":true,"value":"c"}}}`)
	stored, err := json.Marshal(w.Headers)
	var back map[string]Header
	if err != nil || string(stored) != `{"X-A":"a","X-B":{"value":"b","secret":false},"X-C":{"value":"c","secret":true}}` || json.Unmarshal(stored, &back) != nil || !reflect.DeepEqual(back, w.Headers) {
		t.Errorf("headers are stored as %s: %v", stored, err)
	}
	if shown := string(SettingNamed("headers").JSON(&w)); shown != `{"X-A":true,"X-B":true,"X-C":true}` {
		t.Errorf("headers are shown as %s", shown)
	}
	w = applyPatch(t, w, `{"headers":{"X-Other":"k2"},"basic_auth":{"username":"","password":""}}`)
	if len(w.Headers) != 1 || *w.BasicAuth != (BasicAuth{}) {
		t.Errorf("headers are not replaced as a whole: %d; %q, %q", len(w.Headers), string(w.BasicAuth.Username), string(w.BasicAuth.Password))
	}
	w = applyPatch(t, w, `{"headers":null,"basic_auth":null,"rate_limit":null,"allow_networks":null,
		"oauth2":{"token_url":"https://auth.example/token","client_id":"c","client_secret":"s","scopes":["a","b:c"]}}`)
	if w.Headers != nil || w.BasicAuth != nil || w.RateLimit != nil || w.AllowNetworks != nil || w.OAuth2.Scopes[1] != "b:c" {
		t.Errorf("null does not set the default again: %+v", w.OAuth2.Scopes)
	}
	w = applyPatch(t, w, `{"oauth2":{"token_url":"https://auth.example/token","body": {"a": [1, "ü"]} ,"headers":{"content-type":"text/x"}}}`)
	if w.OAuth2.Body != `{"a": [1, "ü"]}` || !w.OAuth2.IsJSON || w.OAuth2.Headers["Content-Type"] != "text/x" {
		t.Errorf("a body of the caller's own: %q", string(w.OAuth2.Body))
	}
	for style, want := range map[string]string{`"header"`: `"auth_style":"header"`, `"body"`: `"auth_style":"body"`, `"auto"`: ""} {
		w := applyPatch(t, w, `{"oauth2":{"token_url":"https://auth.example/token","client_id":"c","client_secret":"s","auth_style":`+style+`}}`)
		stored, err := json.Marshal(w)
		if err != nil || strings.Contains(string(stored), "auth_style") != (want != "") || !strings.Contains(string(stored), want) {
			t.Errorf("%s is stored as %s: %v", style, stored, err)
		}
	}
	w = applyPatch(t, w, `{"oauth2":{"token_url":"https://auth.example/token","body":"a=b\r\n\tc"}}`)
	if w.OAuth2.Body != "a=b\r\n\tc" {
		t.Errorf("a body with line breaks: %q", string(w.OAuth2.Body))
	}
	w = applyPatch(t, w, `{"basic_auth":{"username":"ü x","password":" pass 👩‍💻 word "},"oauth2":null}`)
	if w.BasicAuth.Password != " pass 👩‍💻 word " {
		t.Errorf("a password with spaces: %q", string(w.BasicAuth.Password))
	}
	w = applyPatch(t, w, `{"basic_auth":null,"oauth2":{"token_url":"https://auth.example/token","body": {"a": [1, "ü"]}}}`)
	// What is stored is what was set.
	stored, err = json.Marshal(w)
	var whole Webhook
	if err != nil || json.Unmarshal(stored, &whole) != nil || whole.OAuth2.Body != w.OAuth2.Body || whole.OAuth2.TokenURL != w.OAuth2.TokenURL {
		t.Errorf("stored as %s: %v", stored, err)
	}
}

func TestCredentialSettingsRefuse(t *testing.T) {
	many := []string{}
	for i := range 33 {
		many = append(many, fmt.Sprintf(`"X-%d":"v"`, i))
	}
	const token = `"token_url":"https://auth.example/token"`
	for _, tt := range []struct{ body, field, detail string }{
		{`{"headers":["X"]}`, "headers", "must be an object (got a list)"},
		{`{"headers":{"X Y":"v"}}`, "headers.X Y", "letters, digits, -"},
		{`{"headers":{"":"v"}}`, "headers.", "letters, digits, -"},
		{`{"headers":{"X\r\nY":"v"}}`, "headers.X\r\nY", "letters, digits, -"},
		{`{"headers":{"X-Y":""}}`, "headers.X-Y", "1 to 4096 bytes (got 0)"},
		{`{"headers":{"X-Y":7}}`, "headers.X-Y", "must be a string (got a number)"},
		{`{"headers":{"X-Y":"a\r\nInjected: 1"}}`, "headers.X-Y", "line breaks"},
		{`{"headers":{"X-Y":" a"}}`, "headers.X-Y", "begin or end with a space"},
		{`{"headers":{"X-Y":"a\u0085b"}}`, "headers.X-Y", "a header's value must not hold line breaks or other control characters"},
		{`{"headers":{"X-Y":"a\u200b"}}`, "headers.X-Y", "a header's value must not begin or end with a zero-width space (U+200B)"},
		{`{"headers":{"X-Y":"` + strings.Repeat("a", 4097) + `"}}`, "headers.X-Y", "1 to 4096 bytes (got 4097)"},
		{`{"headers":{"x-y":"a","X-Y":"b"}}`, "headers.X-Y", "stands twice"},
		{`{"headers":{` + strings.Join(many, ",") + `}}`, "headers", "at most 32 headers"},
		{`{"headers":{"Webhook-Id":"x"}}`, "headers.Webhook-Id", "hookbolt's own"},
		{`{"headers":{"Hookbolt-Kind":"x"}}`, "headers.Hookbolt-Kind", "hookbolt's own"},
		{`{"headers":{"webhook-signature":"x"}}`, "headers.webhook-signature", "hookbolt's own"},
		{`{"headers":{"content-type":"x"}}`, "headers.content-type", "hookbolt's own"},
		{`{"headers":{"User-Agent":"x"}}`, "headers.User-Agent", "hookbolt's own"},
		{`{"headers":{"HOST":"x"}}`, "headers.HOST", "hookbolt's own"},
		{`{"headers":{"Content-Length":"1"}}`, "headers.Content-Length", "hookbolt's own"},
		{`{"headers":{"Transfer-Encoding":"chunked"}}`, "headers.Transfer-Encoding", "hookbolt's own"},
		{`{"headers":{"Idempotency-Key":"x"}}`, "headers.Idempotency-Key", "hookbolt's own"},
		{`{"headers":{"X-Idempotency-Key":"x"}}`, "headers.X-Idempotency-Key", "hookbolt's own"},
		{`{"headers":{"Accept-Encoding":"gzip"}}`, "headers.Accept-Encoding", "hookbolt's own"},
		{`{"headers":{"Proxy-Authorization":"x"}}`, "headers.Proxy-Authorization", "hookbolt's own"},
		{`{"headers":{"X-Y":{"value":"a"}}}`, "headers.X-Y.secret", "is required: true or false"},
		{`{"headers":{"X-Y":{"secret":true}}}`, "headers.X-Y.value", "is required"},
		{`{"headers":{"X-Y":{"value":"a\n","secret":true}}}`, "headers.X-Y.value", "must not hold line breaks"},
		{`{"headers":{"X-Y":{"value":"a","secret":"yes"}}}`, "headers.X-Y.secret", "must be true or false"},
		{`{"headers":{"X-Y":{"value":"a","secret":true,"note":"b"}}}`, "headers.X-Y.note", "unknown field"},
		{`{"headers":{"X-Y":{"env":"a"}}}`, "headers.X-Y.env", "unknown field"},
		{`{"oauth2":{` + token + `,"body":"b","headers":{"X-A":{"value":"a","secret":true}}}}`, "oauth2.headers.X-A", "must be a string"},
		{`{"basic_auth":{"username":"a"}}`, "basic_auth.password", "is required"},
		{`{"basic_auth":{"password":"a"}}`, "basic_auth.username", "is required"},
		{`{"basic_auth":{"username":"a:b","password":"c"}}`, "basic_auth.username", "colon"},
		{`{"basic_auth":{"username":"a","password":"c","realm":"x"}}`, "basic_auth.realm", "unknown field"},
		{`{"basic_auth":{"username":"a\n","password":"c"}}`, "basic_auth.username", "must not hold line breaks or other control characters"},
		{`{"basic_auth":{"username":"a","password":"c\r\nX: y"}}`, "basic_auth.password", "must not hold line breaks"},
		{`{"basic_auth":{"username":"a","password":"c\u007f"}}`, "basic_auth.password", "must not hold line breaks"},
		{`{"basic_auth":{"username":"a","password":"\ufeffc"}}`, "basic_auth.password", "must not begin or end with a byte order mark"},
		{`{"basic_auth":"a:b"}`, "basic_auth", "must be an object (got a string)"},
		{`{"oauth2":{}}`, "oauth2.token_url", "is required"},
		{`{"oauth2":{"token_url":"ftp://x","client_id":"c","client_secret":"s"}}`, "oauth2.token_url", "http or https"},
		{`{"oauth2":{` + token + `}}`, "oauth2.client_id", "is required"},
		{`{"oauth2":{` + token + `,"client_id":"c\n","client_secret":"s"}}`, "oauth2.client_id", "must not hold line breaks or other control characters"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s\t"}}`, "oauth2.client_secret", "must not hold line breaks"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","scopes":["a\u0000"]}}`, "oauth2.scopes[0]", "must not hold line breaks"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","headers":{"X-A":"b\u0001"}}}`, "oauth2.headers.X-A", "a header's value must not hold line breaks"},
		{`{"oauth2":{` + token + `,"body":"a=b\u0000"}}`, "oauth2.body", "must not hold control characters but tabs and line breaks"},
		{`{"oauth2":{` + token + `,"body":{"a":"\ud83d"}}}`, "oauth2.body", "must not hold half of a surrogate pair"},
		{`{"oauth2":{"token_url":"https://auth.example/\u200b","body":"b"}}`, "oauth2.token_url", "must not begin or end with a zero-width space"},
		{`{"oauth2":{` + token + `,"client_id":"c"}}`, "oauth2.client_secret", "is required"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","body":"b"}}`, "oauth2.body", "replaces client_id"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","scopes":["a b"]}}`, "oauth2.scopes[0]", "white space"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","audience":"b"}}`, "oauth2.audience", "unknown field"},
		{`{"oauth2":{` + token + `,"body":"b","headers":{"Host":"x"}}}`, "oauth2.headers.Host", "hookbolt's own"},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","auth_style":"post"}}`, "oauth2.auth_style", `must be "auto", "header" or "body" (got "post")`},
		{`{"oauth2":{` + token + `,"client_id":"c","client_secret":"s","auth_style":1}}`, "oauth2.auth_style", "must be a string"},
		{`{"oauth2":{` + token + `,"body":"b","auth_style":"auto"}}`, "oauth2.auth_style", "which body replaces: leave it out"},
		{`{"oauth2":{` + token + `,"body":7}}`, "oauth2.body", "must be a string (got a number)"},
		{`{"rate_limit":0}`, "rate_limit", "must be 0.001 to 10000 deliveries a second (got 0)"},
		{`{"rate_limit":-1}`, "rate_limit", "(got -1)"},
		{`{"rate_limit":10001}`, "rate_limit", "(got 10001)"},
		{`{"rate_limit":1e999}`, "rate_limit", "too large"},
		{`{"rate_limit":"10"}`, "rate_limit", "must be a number (got a string)"},
		{`{"allow_networks":"10.0.0.0/8"}`, "allow_networks", "must be a list (got a string)"},
		{`{"allow_networks":["10.0.0.0/8","10.0.0"]}`, "allow_networks[1]", "must be a network or an address"},
	} {
		_, err := ParseWebhookPatch([]byte(tt.body))
		bad, ok := err.(InputErrors)
		if !ok || len(bad) != 1 || bad[0].Field != tt.field || !strings.Contains(bad[0].Detail, tt.detail) {
			t.Errorf("%.90s: got %v, want %s: …%s…", tt.body, err, tt.field, tt.detail)
		}
	}
	for _, tt := range []struct{ body, field string }{
		{`{"basic_auth":{"username":"a","password":"b"},"headers":{"Authorization":"x"}}`, "basic_auth"},
		{`{"oauth2":{` + token + `,"body":"b"},"headers":{"Authorization":"x"}}`, "oauth2"},
		{`{"oauth2":{` + token + `,"body":"b"},"basic_auth":{"username":"a","password":"b"}}`, "basic_auth"},
	} {
		w := applyPatch(t, DefaultWebhook(), tt.body)
		if bad, ok := w.checkCredentials().(InputErrors); !ok || bad[0].Field != tt.field || !strings.Contains(bad[0].Detail, "only one of") {
			t.Errorf("%s: got %v", tt.body, w.checkCredentials())
		}
	}
}

// Whatever prints a webhook prints none of its credentials.
func TestCredentialsAreNotPrinted(t *testing.T) {
	w := applyPatch(t, DefaultWebhook(), `{"headers":{"X-Api-Key":"sekret-1"},"oauth2":{"token_url":"https://auth.example/sekret-2","client_id":"sekret-3",
		"client_secret":"sekret-4"},"secret":"whsec_`+base64.StdEncoding.EncodeToString([]byte("sekret-5sekret-5sekret-5"))+`"}`)
	w.BasicAuth = &BasicAuth{Username: "sekret-6", Password: "sekret-7"}
	var out strings.Builder
	for _, v := range []any{w, &w, w.Headers, w.OAuth2, *w.OAuth2, w.BasicAuth, *w.BasicAuth} {
		fmt.Fprintf(&out, "%v %+v %s\n", v, v, v)
	}
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("x", "key", w.Headers["X-Api-Key"], "password", w.BasicAuth.Password, "secret", w.Secret, "basic", w.BasicAuth, "oauth2", w.OAuth2)
	if i := strings.Index(out.String(), "sekret"); i >= 0 {
		t.Errorf("…%s…", out.String()[max(0, i-50):i+10])
	}
}
