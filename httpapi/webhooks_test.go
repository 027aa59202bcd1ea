package httpapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hookbolt/engine"
)

const knownSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// TestWebhookURLForm: a URL is stored and answered in the form that is sent, by each way to set it.
func TestWebhookURLForm(t *testing.T) {
	f := newFixture(t, Config{})
	const given, want = `"https://M\u00dcLLER.example:0443/a%2Fb \u00e7?q=1 2"`, "https://xn--mller-kva.example:443/a%2Fb%20%C3%A7?q=1%202"
	var w shownWebhook
	for _, call := range []struct {
		status         int
		method, target string
	}{{201, "POST", "/v1/webhooks"}, {200, "PATCH", "/v1/webhooks/1"}, {201, "POST", "/platform/hooks/web"}, {200, "PUT", "/platform/hooks/web/1"}} {
		f.wantJSON(&w, call.status, call.method, call.target, `{"url":`+given+`}`)
		if w.URL != want {
			t.Errorf("%s %s: %s", call.method, call.target, w.URL)
		}
		f.wantJSON(&w, 200, "GET", "/v1/webhooks/"+fmt.Sprint(w.ID), "")
		if w.URL != want {
			t.Errorf("%s %s stored %s", call.method, call.target, w.URL)
		}
	}
}

// TestWebhookHeaderForms: a webhook is created with each form of a header's value.
func TestWebhookHeaderForms(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://a.example/","headers":{"X-Plain":"v","X-Env":{"value":"production","secret":false}}}`)
}

// TestWebhookMoves: the answer to a change says which credentials were dropped because the URL moved to another host.
func TestWebhookMoves(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://a.example/","headers":{"X-Key":"sekret","X-Other":"sekret"},"basic_auth":{"username":"u","password":"p"}}`)
	var w struct {
		shownWebhook
		Dropped []string `json:"dropped"`
	}
	f.wantJSON(&w, 200, "PATCH", "/v1/webhooks/1", `{"url":"https://a.example/2"}`)
	if w.Dropped == nil || len(w.Dropped) != 0 {
		t.Errorf("on the same host: %v", w.Dropped)
	}
	f.wantJSON(&w, 200, "PATCH", "/v1/webhooks/1", `{"url":"https://b.example/2"}`)
	if !slices.Equal(w.Dropped, []string{"headers.X-Key", "headers.X-Other", "basic_auth"}) {
		t.Errorf("dropped: %v", w.Dropped)
	}
	if got := f.want(200, "GET", "/v1/webhooks/1", ""); strings.Contains(got, "dropped") || !strings.Contains(got, `"headers":{},"basic_auth":null`) {
		t.Errorf("it has %s", got)
	}
}

// A change of one header keeps the others, for another host it does not, and with replace it never does.
func TestWebhookMerge(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://a.example/","headers":{"X-A":"1","X-B":"2"},
		"oauth2":{"token_url":"https://auth.example/t","client_id":"i","client_secret":"s","scopes":["a"]}}`)
	type update struct {
		shownWebhook
		Headers map[string]bool `json:"headers"`
		Dropped []string        `json:"dropped"`
	}
	for _, c := range []struct{ query, body, headers, dropped, audited string }{
		{"", `{"headers":{"x-a":"new"}}`, "[X-A X-B]", "[]", "settings=[headers]"},
		{"", `{"headers":{"X-C":"3","x-b":null}}`, "[X-A X-C]", "[]", "settings=[headers]"},
		{"", `{"oauth2":{"client_secret":"new"}}`, "[X-A X-C]", "[]", "settings=[oauth2]"},
		{"", `{"headers":{"X-A":"new"}}`, "[X-A X-C]", "[]", ""},
		{"?replace=false", `{"headers":{}}`, "[X-A X-C]", "[]", ""},
		{"?replace=true", `{"headers":{"X-D":"4"}}`, "[X-D]", "[]", "settings=[headers]"},
		{"", `{"headers":{"X-A":"1"}}`, "[X-A X-D]", "[]", "settings=[headers]"},
		{"", `{"headers":{"X-A":"1"},"url":"https://b.example/"}`, "[X-A]", "[headers.X-D oauth2]", `settings="[headers url oauth2]"`},
		{"", `{"headers":null}`, "[]", "[]", "settings=[headers]"},
	} {
		var w update
		f.wantJSON(&w, 200, "PATCH", "/v1/webhooks/1"+c.query, c.body)
		if got := fmt.Sprint(slices.Sorted(maps.Keys(w.Headers))); got != c.headers || fmt.Sprint(w.Dropped) != c.dropped {
			t.Errorf("after %s it has the headers %s, dropped %v; want %s, %s", c.body, got, w.Dropped, c.headers, c.dropped)
		}
		lines := f.log.audited()
		_, told, _ := strings.Cut(lines[len(lines)-1], "webhook=1 ")
		if settings, _, _ := strings.Cut(told, "status="); strings.TrimSpace(settings) != c.audited {
			t.Errorf("%s is told as %s", c.body, told)
		}
	}
	wantInputProblem(t, f.do("PATCH", "/v1/webhooks/1?replace=yes", `{}`), 0, "replace", "must be true or false")
	wantInputProblem(t, f.do("PATCH", "/v1/webhooks/1", `{"oauth2":{"client_secret":"hunter2"}}`), 0, "oauth2.token_url", "is required")
	f.want(200, "PATCH", "/v1/webhooks/1", `{"oauth2":{"token_url":"https://auth.example/t","body":"b"}}`)
	wantInputProblem(t, f.do("PATCH", "/v1/webhooks/1", `{"oauth2":{"token_url":"https://evil.example/t"}}`), 0, "oauth2.body", "what is set is for another host")
	wantInputProblem(t, f.do("PATCH", "/v1/webhooks/1", `{"oauth2":{"headers":{"X-A":"1"}},"url":"https://evil.example/"}`), 0, "oauth2.body", "what is set is for another host")
}

func TestWebhookLife(t *testing.T) {
	f := newFixture(t, Config{})
	rec := f.do("POST", "/v1/webhooks", `{"url":"https://example.com/hook?a=1&b=<2>"}`)
	if rec.Code != 201 || rec.Header().Get("Location") != "/v1/webhooks/1" {
		t.Fatalf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	var created struct {
		shownWebhook
		Secret string `json:"secret"`
	}
	f.wantJSON(&created, 201, "POST", "/v1/webhooks", `{"url":"https://example.com/hook?a=1&b=<2>"}`)
	if !strings.HasPrefix(created.Secret, "whsec_") || len(created.Secret) != 50 || created.ID != 2 {
		t.Errorf("%+v", created)
	}
	var shown struct{ Secret string }
	f.wantJSON(&shown, 200, "GET", "/v1/webhooks/2/secret", "")
	if shown.Secret != created.Secret {
		t.Errorf("secret %q, then %q", created.Secret, shown.Secret)
	}

	all := `{"url":"http://example.com/2","content_id":"` + contentA + `","name":"né & <b>","active":false,"paused":true,"delay":0,"send_answers":false,` +
		`"send_leads":false,"send_incomplete":true,"incomplete_delay":31536000,"timeout":"1500ms","max_in_flight":3,"retry_schedule":["5s","90m"],"rate_limit":2.5,` +
		`"allow_networks":["10.0.0.0/8","fd00::1"],"headers":{"x-api-key":"k","X-Tenant":"t"},"basic_auth":{"username":"u","password":"p"},"secret":"` + knownSecret + `"}`
	var w shownWebhook
	f.wantJSON(&w, 200, "PATCH", "/v1/webhooks/2", all)
	if w.URL != "http://example.com/2" || *w.ContentID != contentA || w.Name != "né & <b>" || w.Active || !w.Paused || *w.PauseReason != "paused by hand" ||
		w.Delay != 0 || w.SendAnswers || w.SendLeads || !w.SendIncomplete || w.IncompleteDelay != 31536000 || *w.Timeout != "1.5s" || *w.MaxInFlight != 3 ||
		fmt.Sprint(*w.RetrySchedule) != "[5s 1h30m]" || *w.RateLimit != 2.5 || fmt.Sprint(w.AllowNetworks) != "[10.0.0.0/8 fd00::1/128]" ||
		fmt.Sprint(w.Headers) != "map[X-Api-Key:true X-Tenant:true]" || !*w.BasicAuth || w.OAuth2 != nil || w.CreatedAt != created.CreatedAt {
		t.Errorf("%+v", w)
	}
	f.wantJSON(&shown, 200, "GET", "/v1/webhooks/2/secret", "")
	if shown.Secret != knownSecret {
		t.Errorf("secret %q", shown.Secret)
	}

	w = shownWebhook{}
	f.wantJSON(&w, 200, "PATCH", "/v1/webhooks/2", `{"content_id":null,"name":null,"active":null,"paused":null,"delay":null,"send_answers":null,"send_leads":null,`+
		`"send_incomplete":null,"incomplete_delay":null,"timeout":null,"max_in_flight":null,"retry_schedule":null,"rate_limit":null,"allow_networks":null,"headers":null,"basic_auth":null,"oauth2":null}`)
	if w.ContentID != nil || w.Name != "" || !w.Active || w.Paused || w.PauseReason != nil || w.Delay != 10 || !w.SendAnswers || !w.SendLeads ||
		w.SendIncomplete || w.IncompleteDelay != 60 || w.Timeout != nil || w.MaxInFlight != nil || w.RetrySchedule != nil || w.RateLimit != nil ||
		len(w.AllowNetworks) != 0 || len(w.Headers) != 0 || w.BasicAuth != nil || w.OAuth2 != nil || w.URL != "http://example.com/2" {
		t.Errorf("null did not set the defaults: %+v", w)
	}

	rec = f.do("DELETE", "/v1/webhooks/2", "")
	if rec.Code != 204 || rec.Body.Len() != 0 || rec.Header().Get("Content-Type") != "" {
		t.Errorf("DELETE: %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	for _, c := range []struct{ method, target, body string }{
		{"GET", "/v1/webhooks/2", ""}, {"GET", "/v1/webhooks/2/secret", ""}, {"PATCH", "/v1/webhooks/2", "{}"},
		{"DELETE", "/v1/webhooks/2", ""}, {"POST", "/v1/webhooks/2/test", ""}, {"POST", "/v1/webhooks/2/rotate-secret", ""},
		{"POST", "/v1/webhooks/2/replay", `{"status":"failed"}`}, {"GET", "/v1/webhooks/2/preview?session_id=" + sessionA, ""},
	} {
		wantProblem(t, f.do(c.method, c.target, c.body), http.StatusNotFound)
	}
	f.wantJSON(&created, 201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	if created.ID != 3 {
		t.Errorf("the id of a deleted webhook is used again: %d", created.ID)
	}
}

func TestWebhookIDs(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	for _, id := range []string{"0", "-1", "+1", "01", "1.0", "0x1", "1e0", "x", "2", "4294967296", "4294967297", "18446744073709551617", "%31%20", "%EF%BC%91", "new", strings.Repeat("9", 5000)} {
		for _, c := range []struct{ method, path, body string }{{"GET", "", ""}, {"GET", "/secret", ""}, {"PATCH", "", "{}"}, {"DELETE", "", ""}, {"POST", "/test", ""},
			{"POST", "/rotate-secret", ""}} {
			rec := f.do(c.method, "/v1/webhooks/"+id+c.path, c.body)
			wantProblem(t, rec, http.StatusNotFound)
			if rec.Body.Len() > 300 {
				t.Errorf("the answer repeats the input: %d bytes", rec.Body.Len())
			}
		}
	}
	f.want(200, "GET", "/v1/webhooks/1", "")
}

func TestBadWebhooks(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","name":"before","secret":"`+knownSecret+`"}`)
	before := f.want(200, "GET", "/v1/webhooks", "")
	with := func(field string) string { return `{"url":"https://example.com/",` + field + `}` }
	url := func(u string) string { return `{"url":"` + u + `"}` }
	for _, c := range []struct{ name, body, field, detail string }{
		{"empty", "", "", "malformed JSON"},
		{"not JSON", "url=https://example.com/", "", "malformed JSON at byte 1"},
		{"cut off", `{"url":"https://exa`, "", "malformed JSON"},
		{"a list", `[{"url":"https://example.com/"}]`, "", "must be an object (got a list)"},
		{"null", `null`, "", "must be an object"},
		{"two objects", url("https://example.com/") + url("https://example.com/"), "", "the end of the body after one object expected"},
		{"deep", with(`"name":` + strings.Repeat("[", 100_000)), "", "nested deeper"},
		{"invalid UTF-8", with("\"name\":\"\xff\""), "", "not valid UTF-8"},
		{"unknown field", with(`"sendleads":true`), "sendleads", "unknown field"},
		{"read-only field", with(`"id":7`), "id", "unknown field"},
		{"read-only previous_secrets", with(`"previous_secrets":[]`), "previous_secrets", "unknown field"},
		{"read-only pause_reason", with(`"pause_reason":"x"`), "pause_reason", "unknown field"},
		{"key twice", with(`"url":"https://example.org/"`), "url", "twice"},
		{"url null", `{"url":null}`, "url", "no default"},
		{"url a number", `{"url":7}`, "url", "must be a string"},
		{"url empty", url(""), "url", "http or https"},
		{"url relative", url("/hook"), "url", "http or https"},
		{"url without scheme", url("example.com/hook"), "url", "http or https"},
		{"url of another scheme", url("ftp://example.com/"), "url", `got scheme "ftp"`},
		{"url of a file", url("file:///etc/passwd"), "url", `got scheme "file"`},
		{"url opaque", url("https:example.com"), "url", "must have // after https:"},
		{"url without host", url("https:///hook"), "url", "must name a host"},
		{"url with a port only", url("https://:443/"), "url", "must name a host"},
		{"url with a password", url("https://me:pass@example.com/"), "url", "user name or password"},
		{"url with a fragment", url("https://example.com/#x"), "url", "fragment"},
		{"url with a space", url("https://exa mple.com/"), "url", "space in its host"},
		{"url with a control character", url(`https://example.com/\u0000`), "url", "a control character (U+0000)"},
		{"url too long", url("https://example.com/" + strings.Repeat("x", 2048)), "url", "at most 2048 bytes"},
		{"url of loopback", url("http://127.0.0.1:9/"), "url", "-allow 127.0.0.1/32"},
		{"url of IPv6 loopback", url("http://[::1]/"), "url", "-allow ::1/128"},
		{"url of localhost", url("http://LOCALHOST./"), "url", "delivery.allow_networks"},
		{"url of link-local", url("http://169.254.169.254/latest/meta-data"), "url", "169.254.169.254 is not a public address"},
		{"url of mapped IPv4", url("http://[::ffff:10.0.0.1]/"), "url", "10.0.0.1 is not a public address"},
		{"content_id", with(`"content_id":"x"`), "content_id", "must be a UUID"},
		{"name", with(`"name":"` + strings.Repeat("é", 201) + `"`), "name", "at most 200 characters"},
		{"active", with(`"active":"yes"`), "active", "must be true or false (got a string)"},
		{"active as a number", with(`"active":1`), "active", "must be true or false"},
		{"negative delay", with(`"delay":-1`), "delay", "0 to 31536000 (got -1)"},
		{"large delay", with(`"delay":31536001`), "delay", "0 to 31536000"},
		{"delay over 64 bits", with(`"delay":9223372036854775808`), "delay", "64-bit"},
		{"delay with a fraction", with(`"delay":0.5`), "delay", "without fraction"},
		{"delay as a whole number of another form", with(`"delay":1e1`), "delay", "without fraction or exponent"},
		{"delay as a string", with(`"delay":"10"`), "delay", "must be an integer (got a string)"},
		{"delay as a duration", with(`"delay":"10s"`), "delay", "must be an integer"},
		{"negative incomplete_delay", with(`"incomplete_delay":-60`), "incomplete_delay", "(got -60)"},
		{"timeout as a number", with(`"timeout":15`), "timeout", "must be a string"},
		{"timeout without unit", with(`"timeout":"15"`), "timeout", "must be a duration"},
		{"short timeout", with(`"timeout":"999ms"`), "timeout", "1s to 2m"},
		{"long timeout", with(`"timeout":"2m1s"`), "timeout", "1s to 2m"},
		{"negative timeout", with(`"timeout":"-5s"`), "timeout", "1s to 2m"},
		{"endless timeout", with(`"timeout":"9999999999h"`), "timeout", "must be a duration"},
		{"no flight", with(`"max_in_flight":0`), "max_in_flight", "1 to 1000"},
		{"many flights", with(`"max_in_flight":1001`), "max_in_flight", "1 to 1000"},
		{"schedule", with(`"retry_schedule":"5s"`), "retry_schedule", "must be a list"},
		{"step", with(`"retry_schedule":["5s",7]`), "retry_schedule[1]", "must be a string"},
		{"short step", with(`"retry_schedule":["0s"]`), "retry_schedule", "1s to 720h"},
		{"long schedule", with(`"retry_schedule":["1s"` + strings.Repeat(`,"1s"`, 50) + `]`), "retry_schedule", "at most 50 steps"},
		{"header of ours", with(`"headers":{"Webhook-Id":"hunter2"}`), "headers.Webhook-Id", "hookbolt's own"},
		{"header with a line break", with(`"headers":{"X-A":"hunter2\r\nX-B: 1"}`), "headers.X-A", "line breaks"},
		{"basic auth without password", with(`"basic_auth":{"username":"hunter2"}`), "basic_auth.password", "is required"},
		{"two credentials", with(`"basic_auth":{"username":"a","password":"hunter2"},"headers":{"Authorization":"hunter2"}`), "basic_auth", "only one of"},
		{"oauth2 without client", with(`"oauth2":{"token_url":"https://example.com/hunter2"}`), "oauth2.client_id", "is required"},
		{"token url of loopback", with(`"oauth2":{"token_url":"http://127.0.0.1/hunter2","body":"hunter2"}`), "oauth2.token_url", "127.0.0.1 is not a public address"},
		{"token url with a password", with(`"oauth2":{"token_url":"https://a:hunter2@example.com/","body":"x"}`), "oauth2.token_url", "user name or password"},
		{"rate", with(`"rate_limit":0`), "rate_limit", "0.001 to 10000"},
		{"networks", with(`"allow_networks":["10.0.0.0/99"]`), "allow_networks[0]", "must be a network or an address"},
		{"secret", with(`"secret":"hunter2"`), "secret", "must be whsec_"},
		{"short secret", with(`"secret":"whsec_aHVudGVyMg=="`), "secret", "24 to 64 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, call := range []struct{ method, target string }{{"POST", "/v1/webhooks"}, {"PATCH", "/v1/webhooks/1"}} {
				rec := f.do(call.method, call.target, c.body)
				wantInputProblem(t, rec, 0, c.field, c.detail)
				if strings.Contains(rec.Body.String(), "hunter2") || strings.Contains(rec.Body.String(), "aHVudGVyMg") {
					t.Errorf("the answer repeats a secret: %s", rec.Body)
				}
				if got := f.want(200, "GET", "/v1/webhooks", ""); got != before {
					t.Fatalf("%s changed something: %s", call.method, got)
				}
			}
		})
	}
	wantInputProblem(t, f.do("POST", "/v1/webhooks", "{}"), 0, "url", "is required")
	var shown struct{ Secret string }
	if f.wantJSON(&shown, 200, "GET", "/v1/webhooks/1/secret", ""); shown.Secret != knownSecret {
		t.Errorf("the secret is %q", shown.Secret)
	}
}

func TestListWebhooks(t *testing.T) {
	f := newFixture(t, Config{})
	var empty listOf[shownWebhook]
	if got := f.want(200, "GET", "/v1/webhooks", ""); got != `{"items":[],"next_cursor":null}`+"\n" {
		t.Errorf("empty list: %s", got)
	}
	for i := range 7 { // 1, 4 and 7 for A, 2 and 5 for B, 3 and 6 for all
		content := []string{`"` + contentA + `"`, `"` + contentB + `"`, "null"}[i%3]
		f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","content_id":`+content+`}`)
	}
	f.want(204, "DELETE", "/v1/webhooks/4", "")
	for _, c := range []struct{ query, pages string }{
		{"", "1 2 3 5 6 7"},
		{"limit=200", "1 2 3 5 6 7"},
		{"limit=6", "1 2 3 5 6 7"},
		{"limit=3", "1 2 3|5 6 7"},
		{"limit=4", "1 2 3 5|6 7"},
		{"content_id=" + contentA, "1 7"},
		{"content_id=" + strings.ToUpper(contentB) + "&limit=1", "2|5"},
		{"content_id=" + nobodys, ""},
		{"cursor=5", "6 7"},
		{"cursor=4", "5 6 7"}, // deleted meanwhile
		{"cursor=4294967295", ""},
	} {
		var pages []string
		for cursor := ""; len(pages) < 10; {
			list := empty
			f.wantJSON(&list, 200, "GET", "/v1/webhooks?"+c.query+cursor, "")
			var ids []string
			for _, w := range list.Items {
				ids = append(ids, fmt.Sprint(w.ID))
			}
			pages = append(pages, strings.Join(ids, " "))
			if list.NextCursor == nil {
				break
			}
			cursor = "&cursor=" + *list.NextCursor
		}
		if got := strings.Join(pages, "|"); got != c.pages {
			t.Errorf("%q: got %q, want %q", c.query, got, c.pages)
		}
	}
}

// rotatedWebhook is the answer to a rotation as a client reads it.
type rotatedWebhook struct {
	shownWebhook
	Secret          string  `json:"secret"`
	SignatureSecret *string `json:"signature_secret"`
}

func TestRotateSecret(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","secret":"`+knownSecret+`"}`)
	until := func(shown string) time.Duration {
		at, err := time.Parse(time.RFC3339Nano, shown)
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(at).Round(time.Minute)
	}

	rec := f.do("POST", "/v1/webhooks/1/rotate-secret", "")
	if rec.Code != 200 || rec.Header().Get("Location") != "" {
		t.Fatalf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	var first, second, third rotatedWebhook
	f.wantJSON(&second, 200, "POST", "/v1/webhooks/1/rotate-secret", `{"overlap":"720h"}`)
	if !strings.HasPrefix(second.Secret, "whsec_") || second.Secret == knownSecret || len(second.PreviousSecrets) != 2 ||
		until(second.PreviousSecrets[0].SignsUntil) != 720*time.Hour || until(second.PreviousSecrets[1].SignsUntil) != 24*time.Hour {
		t.Errorf("after two: %+v", second)
	}
	// The same shape as that of creation, and the same webhook as everywhere else.
	f.wantJSON(&first, 201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	if first.PreviousSecrets == nil || len(first.PreviousSecrets) != 0 {
		t.Errorf("a new one: %+v", first)
	}
	var list listOf[shownWebhook]
	if f.wantJSON(&list, 200, "GET", "/v1/webhooks?limit=1", ""); !reflect.DeepEqual(list.Items[0], second.shownWebhook) {
		t.Errorf("listed as %+v, rotated as %+v", list.Items[0], second)
	}
	var shown struct{ Secret string }
	if f.wantJSON(&shown, 200, "GET", "/v1/webhooks/1/secret", ""); shown.Secret != second.Secret {
		t.Errorf("the present secret is %s, the rotation gave %s", shown.Secret, second.Secret)
	}
	given := "whsec_" + strings.Repeat("A", 32)
	f.wantJSON(&third, 200, "POST", "/v1/webhooks/1/rotate-secret", `{"overlap":"0s","secret":"`+given+`"}`)
	if third.Secret != given || len(third.PreviousSecrets) != 2 || until(third.PreviousSecrets[0].SignsUntil) != 720*time.Hour {
		t.Errorf("one that stops at once, beside those that were to sign on: %+v", third)
	}

	before := f.want(200, "GET", "/v1/webhooks", "")
	for _, c := range []struct{ body, field, detail string }{
		{`{"secret":"` + given + `"}`, "secret", "is the current secret already"},
		{`{"secret":"whsec_aHVudGVyMg=="}`, "secret", "24 to 64 bytes"},
		{`{"overlap":"721h"}`, "overlap", "must be 0s to 720h (got 721h)"},
		{`{"overlap":86400}`, "overlap", "must be a string"},
		{`{"overlaps":"1h"}`, "overlaps", "unknown field"},
		{`overlap=1h`, "", "malformed JSON"},
	} {
		rec := f.do("POST", "/v1/webhooks/1/rotate-secret", c.body)
		wantInputProblem(t, rec, 0, c.field, c.detail)
		if strings.Contains(rec.Body.String(), "AAAA") || strings.Contains(rec.Body.String(), "aHVudGVyMg") {
			t.Errorf("the answer repeats a secret: %s", rec.Body)
		}
	}
	if got := f.want(200, "GET", "/v1/webhooks", ""); got != before {
		t.Errorf("a refused rotation changed something: %s", got)
	}

	var patched shownWebhook
	f.wantJSON(&patched, 200, "PATCH", "/v1/webhooks/1", `{"name":"x"}`)
	if len(patched.PreviousSecrets) != 2 {
		t.Errorf("another setting ended the overlap: %+v", patched)
	}
	patched = shownWebhook{}
	f.wantJSON(&patched, 200, "PATCH", "/v1/webhooks/1", `{"secret":null}`)
	if len(patched.PreviousSecrets) != 0 {
		t.Errorf("a secret that is set leaves an overlap: %+v", patched)
	}
}

// TestOverlapShown: a previous secret is shown for as long as it signs.
func TestOverlapShown(t *testing.T) {
	now := time.Now()
	w := engine.Webhook{PreviousSecrets: []engine.PreviousSecret{{Secret: knownSecret, SignsUntil: now.Add(time.Hour)}, {Secret: knownSecret, SignsUntil: now}}}
	want := jsonOf(t, []previousSecret{{"secret", instant(now.Add(time.Hour))}})
	if got := jsonOf(t, showWebhook(&w, engine.Health{})); !strings.Contains(got, `"previous_secrets":`+want) {
		t.Errorf("shown: %s, want %s", got, want)
	}
}

// TestSecretsStayInside looks for a webhook's secrets, the present one and one of an overlap, in everything that may not show it.
func TestSecretsStayInside(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","secret":"`+knownSecret+`"}`)
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	present := "whsec_" + strings.Repeat("QUJD", 8)
	if got := f.want(200, "POST", "/v1/webhooks/1/rotate-secret", `{"secret":"`+present+`"}`); strings.Count(got, "whsec_") != 1 || strings.Contains(got, "MDEyMzQ1") {
		t.Errorf("the rotation shows the secret before: %s", got)
	}
	if got := f.want(200, "GET", "/v1/webhooks/1/secret", ""); got != `{"secret":"`+present+"\",\"signature_secret\":null}\n" {
		t.Errorf("not the present secret alone: %s", got)
	}
	var d shownDelivery
	f.wantJSON(&d, 202, "POST", "/v1/webhooks/1/test", "")
	for _, c := range []struct{ method, target, body string }{
		{"GET", "/v1/webhooks", ""}, {"GET", "/v1/webhooks/1", ""}, {"PATCH", "/v1/webhooks/1", `{"name":"x"}`},
		{"GET", "/v1/deliveries", ""}, {"GET", "/v1/deliveries/" + d.ID, ""}, {"GET", "/v1/sessions/" + sessionA, ""}, {"GET", "/metrics", ""},
		{"PATCH", "/v1/webhooks/1", `{"secret":"` + knownSecret + `"}`},
	} {
		if got := f.want(200, c.method, c.target, c.body); strings.Contains(got, "whsec_") || strings.Contains(got, "MDEyMzQ1") || strings.Contains(got, "QUJD") {
			t.Errorf("%s %s shows the secret: %s", c.method, c.target, got)
		}
	}
	if strings.Contains(f.log.String(), "MDEyMzQ1") || strings.Contains(f.log.String(), "QUJD") {
		t.Error("the log shows the secret")
	}
}

// TestCredentialsStayInside looks for a webhook's credentials in everything that is answered, logged or measured, also when the
// endpoint and the token endpoint answer with what they were sent.
func TestCredentialsStayInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixtureOn(t, Config{}, func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			if r.URL.Host == "auth.example" {
				answer := `{"access_token":"sekret-token","token_type":"Bearer","expires_in":3600}`
				if strings.HasSuffix(r.URL.Path, "broken") {
					return &http.Response{StatusCode: 400, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
						Body: io.NopCloser(strings.NewReader(`{"error":"` + string(body) + r.URL.String() + r.Header.Get("Authorization") + `"}`))}, nil
				}
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Request: r, Body: io.NopCloser(strings.NewReader(answer))}, nil
			}
			echo := r.Header.Get("Authorization") + r.Header.Get("X-Api-Key")
			return &http.Response{StatusCode: 500, Header: http.Header{"X-Echo": {echo}}, Body: io.NopCloser(strings.NewReader(echo))}, nil
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.engine.Run(ctx) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		var all strings.Builder
		for i, settings := range []string{
			`"headers":{"X-Api-Key":"sekret-key","Authorization":"Bearer sekret-bearer"}`,
			`"basic_auth":{"username":"sekret-user","password":"sekret-pass"}`,
			`"oauth2":{"token_url":"https://auth.example/sekret-path?sekret=query","client_id":"sekret-id","client_secret":"sekret-cs","scopes":["sekret-scope"]}`,
			`"oauth2":{"token_url":"https://auth.example/broken","body":"sekret-body","headers":{"X-A":"sekret-header"}}`,
		} {
			all.WriteString(f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","delay":0,`+settings+`}`))
			all.WriteString(f.want(200, "PATCH", fmt.Sprintf("/v1/webhooks/%d", i+1), `{"name":"x"}`))
		}
		all.WriteString(f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA)))
		time.Sleep(time.Minute)
		var list listOf[shownDelivery]
		f.wantJSON(&list, 200, "GET", "/v1/deliveries", "")
		if len(list.Items) != 4 {
			t.Fatalf("%d deliveries", len(list.Items))
		}
		for _, d := range list.Items {
			if d.AttemptsMade < 2 {
				t.Errorf("%d attempts", d.AttemptsMade)
			}
			all.WriteString(f.want(200, "GET", "/v1/deliveries/"+d.ID, ""))
		}
		for _, target := range []string{"/v1/webhooks", "/v1/webhooks/1", "/v1/webhooks/3", "/v1/sessions/" + sessionA, "/v1/deliveries", "/metrics"} {
			all.WriteString(f.want(200, "GET", target, ""))
		}
		all.WriteString(f.log.String())
		basic := base64.StdEncoding.EncodeToString([]byte("sekret-user:sekret-pass"))
		for _, piece := range []string{"sekret", basic} {
			if i := strings.Index(all.String(), piece); i >= 0 {
				t.Errorf("%s: …%s…", piece, all.String()[max(0, i-100):min(len(all.String()), i+40)])
			}
		}
		if !strings.Contains(all.String(), "[redacted]") || !strings.Contains(all.String(), "the token endpoint answered 400") {
			t.Error("the endpoints' answers are not there")
		}
	})
}
