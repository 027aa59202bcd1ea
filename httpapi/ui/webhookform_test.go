package ui_test

import (
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hookbolt/engine"
)

// inputTag finds the inputs of a page.
var (
	inputTag  = regexp.MustCompile(`<input [^>]*>`)
	textTag   = regexp.MustCompile(`(?s)<textarea id="([^"]*)"[^>]*>\n(.*?)</textarea>`)
	attribute = regexp.MustCompile(` (name|value|type)="([^"]*)"`)
)

// settingsOf is what a browser would send for a page's form if nothing in it were touched.
func settingsOf(page string) url.Values {
	form := url.Values{}
	for _, tag := range inputTag.FindAllString(mainOf(page), -1) {
		a := map[string]string{}
		for _, m := range attribute.FindAllStringSubmatch(tag, -1) {
			a[m[1]] = html.UnescapeString(m[2])
		}
		if a["type"] != "checkbox" || strings.Contains(tag, " checked") {
			form.Set(a["name"], a["value"])
		}
	}
	for _, m := range textTag.FindAllStringSubmatch(mainOf(page), -1) {
		form.Set(html.UnescapeString(m[1]), strings.ReplaceAll(html.UnescapeString(m[2]), "\n", "\r\n"))
	}
	return form
}

// with returns the form with other values; "" unticks a box, too.
func with(form url.Values, values ...string) url.Values {
	form = maps.Clone(form)
	for i := 0; i < len(values); i += 2 {
		if form.Set(values[i], values[i+1]); values[i+1] == "" {
			form.Del(values[i])
		}
	}
	return form
}

// webhook returns a webhook as the engine has it.
func (f *fixture) webhook(id uint32) engine.Webhook {
	f.t.Helper()
	w, err := f.engine.Webhook(id)
	if err != nil {
		f.t.Fatal(err)
	}
	return w
}

// asJSON is a webhook's stored form, which has its credentials.
func asJSON(t *testing.T, w engine.Webhook) map[string]any {
	t.Helper()
	b, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// save sends a form for a webhook, which must be taken.
func (f *fixture) save(id uint32, form url.Values) engine.Webhook {
	f.t.Helper()
	target := fmt.Sprintf("/webhooks/%d", id)
	rec := f.post(target, form)
	f.wantIn(rec, 303)
	if got := rec.Header().Get("Location"); got != target+"?done=saved" {
		f.t.Errorf("led to %s", got)
	}
	return f.webhook(id)
}

// everySetting is a form with each setting, and the webhook that comes of it, as it is stored.
var everySetting = url.Values{
	"url": {" https://example.com/hook?a=1&b=<2> "}, "name": {`A "label" & <b>more</b>`}, "content_id": {contentA}, "delay": {"120"}, "send_leads": {"on"},
	"send_incomplete": {"on"}, "incomplete_delay": {"0"}, "timeout": {"2s"}, "max_in_flight": {"7"}, "rate_limit": {"0.5"}, "method": {"put"}, "success": {"409, 302"}, "tls.server_name": {"hooks.example.com"}, "tls.min_version": {" 1.3 "},
	"retry_schedule": {"5s, 5m,30m"}, "allow_networks": {"10.0.0.0/8\r\n127.0.0.1\r\n"}, "headers": {"X-Api-Key: sekret-header: 1\r\n\r\nx-env: sekret-env"},
	"oauth2.token_url": {"https://auth.example/sekret-url"}, "oauth2.client_id": {"sekret-id"}, "oauth2.client_secret": {"sekret-secret"},
	"oauth2.scopes": {"sekret-a sekret-b"}, "oauth2.headers": {"X-Tenant: sekret-tenant"}, "secret": {"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"},
}

const everyStored = `{"url":"https://example.com/hook?a=1&b=%3C2%3E","name":"A \"label\" & <b>more</b>","content_id":"` + contentA + `","active":true,"paused":false,
	"pause_reason":"","delay":120,"incomplete_delay":0,"send_answers":false,"send_leads":true,"send_incomplete":true,"timeout":"2s","max_in_flight":7,
	"rate_limit":0.5,"http2":false,"method":"PUT","success":[302,409],"tls":{"server_name":"hooks.example.com","min_version":"1.3"},"retry_schedule":["5s","5m","30m"],"allow_networks":["10.0.0.0/8","127.0.0.1/32"],
	"headers":{"X-Api-Key":"sekret-header: 1","X-Env":"sekret-env"},
	"oauth2":{"token_url":"https://auth.example/sekret-url","client_id":"sekret-id","client_secret":"sekret-secret","scopes":["sekret-a","sekret-b"],
	"headers":{"X-Tenant":"sekret-tenant"}},"secret":"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"}`

// wantStored holds a webhook against what is to be stored of its settings.
func wantStored(t *testing.T, w engine.Webhook, stored string) {
	t.Helper()
	got := asJSON(t, w)
	for _, name := range []string{"id", "revision", "created_at", "updated_at", "cancelled_up_to"} {
		delete(got, name)
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(stored), &want); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("stored\n%s\nwant\n%s", a, b)
	}
}

// TestEverySetting takes every setting from the form into the engine, and back into the form, which changes nothing if it is sent as
// it is.
func TestEverySetting(t *testing.T) {
	f := newFixture(t, nil)
	rec := f.post("/webhooks", everySetting)
	f.wantIn(rec, 303)
	if got := rec.Header().Get("Location"); got != "/webhooks/1/secret?done=created" {
		t.Errorf("led to %s", got)
	}
	wantStored(t, f.webhook(1), everyStored)
	page := f.wantPage("/webhooks/1/edit", `action="/webhooks/1"`, "what waits for it from other contents is cancelled", "what waits for unfinished sessions is cancelled",
		`<details class="card" open>`, `value="5s, 5m, 30m"`, "10.0.0.0/8\n127.0.0.1/32</textarea>", `name="headers.X-Env"`)
	if strings.Contains(page, "sekret") || strings.Contains(page, "whsec_") {
		t.Error("the page shows a credential")
	}
	wantStored(t, f.save(1, settingsOf(page)), everyStored)

	// All at their defaults again.
	f.save(1, url.Values{"revision": {"1"}, "url": {"https://example.com/"}, "send_answers": {"on"}, "send_leads": {"on"}, "http2": {"on"},
		"remove.headers.X-Api-Key": {"on"}, "remove.headers.X-Env": {"on"}, "remove.oauth2": {"on"}})
	byDefault := `{"url":"https://example.com/","name":"","content_id":null,"active":true,"paused":false,"pause_reason":"","delay":10,"incomplete_delay":60,
		"send_answers":true,"send_leads":true,"send_incomplete":false,"timeout":null,"max_in_flight":null,"retry_schedule":null,`
	wantStored(t, f.webhook(1), byDefault+`"secret":"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"}`)

	// A form that was opened for a new webhook has the same.
	form := settingsOf(f.wantPage("/new-webhook", `action="/webhooks"`, `<details class="card">`))
	f.wantIn(f.post("/webhooks", with(form, "url", "https://example.com/")), 303)
	w := f.webhook(2)
	wantStored(t, w, byDefault+`"secret":"`+string(w.Secret)+`"}`)

	// No retries is something else than the default ones.
	f.save(2, with(settingsOf(f.wantPage("/webhooks/2/edit")), "retry_schedule", "none"))
	if w := f.save(2, settingsOf(f.wantPage("/webhooks/2/edit", `value="none"`))); w.RetrySchedule == nil || len(*w.RetrySchedule) != 0 {
		t.Errorf("no retries became %v", w.RetrySchedule)
	}
}

// TestBadInput shows that each kind of bad input is told beside its input and above, and stores nothing.
func TestBadInput(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://example.com/","headers":{"X-Set":"sekret-0"}}`)
	for _, tt := range []struct {
		input, value string
		want         string // what is told
		at           string // where, if not at the input
	}{
		{"url", "", "must be an http or https URL", ""},
		{"url", "ftp://example.com", "got scheme &#34;ftp&#34;", ""},
		{"url", "http://127.0.0.1:9000/", "127.0.0.1 is not a public address; to allow it, name it in the webhook&#39;s allow_networks", ""},
		{"name", strings.Repeat("x", 201), "at most 200 characters", ""},
		{"name", "\xff", "is not valid UTF-8", ""},
		{"content_id", "my quiz", "UUID", ""},
		{"delay", "ten", "must be a number, written as in 10 (got “ten”)", ""},
		{"delay", "1 000", "must be a number", ""},
		{"delay", "null", "must be a number", ""},
		{"delay", "1.5", "must be an integer", ""},
		{"delay", "-1", "must be whole seconds, 0 to 31536000 (got -1)", ""},
		{"incomplete_delay", "31536001", "must be whole seconds", ""},
		{"timeout", "15", "must be a duration", ""},
		{"timeout", "3m", "must be 1s to 2m", ""},
		{"max_in_flight", "0", "must be 1 to 1000", ""},
		{"max_in_flight", "[1]", "must be a number", ""},
		{"rate_limit", "0,5", "must be a number, written as in 0.5", ""},
		{"rate_limit", "1e9", "deliveries a second", ""},
		{"retry_schedule", "5s, soon", "entry 2: must be a duration", ""},
		{"retry_schedule", "1ms", "each step must be", ""},
		{"method", "delete", "must be POST, PUT, PATCH or GET", ""},
		{"success", "302, ok", "must be statuses with commas between, as in 302, 409 (got “ok”)", ""},
		{"success", "302, 204", "entry 2: must be 300 to 599 (got 204): every 2xx delivers anyway", ""},
		{"success", "0302", "must be statuses", ""},
		{"allow_networks", "10.0.0.0/8\r\nhome", "entry 2: must be a network or an address", ""},
		{"headers", "Bearer sekret-1", "must have a name, without spaces, and a colon on each line", ""},
		{"headers", "Bearer sekret-1:x", "must have a name, without spaces, and a colon on each line", ""},
		{"headers", "Host: sekret-1", "Host: this header is hookbolt&#39;s own", ""},
		{"headers", "X-A: sekret-1\r\nx-a: sekret-2", "stands twice", ""},
		{"headers", "X-A: sekret-1\r\nX-A: sekret-2", "stands twice", ""},
		{"headers", "X A: sekret-1", "must have a name, without spaces, and a colon", ""},
		{"headers", "Authorization: sekret-1", "only one of basic_auth, oauth2 and the header", "basic_auth.username"},
		{"headers.X-Set", " sekret-1", "must not begin or end with a space", ""},
		{"basic_auth.username", "sekret:1", "must not hold a colon", ""},
		{"basic_auth.password", "sekret-1", "is required", "basic_auth.username"},
		{"oauth2.token_url", "sekret", "must be an http or https URL", ""},
		{"oauth2.token_url", "http://10.1.2.3/sekret", "10.1.2.3 is not a public address", ""},
		{"oauth2.client_id", "sekret-1", "is required: where to get a token", "oauth2.token_url"},
		{"oauth2.client_secret", "sekret-1", "is required, with client_secret", "oauth2.client_id"},
		{"oauth2.body", `{"sekret":`, "begins as a JSON object and is none", ""},
		{"oauth2.body", `{"sekret":"\ud800"}`, "begins as a JSON object and is none", ""},
		{"oauth2.body", "sekret=1", "replaces client_id", ""},
		{"oauth2.headers", "sekret", "must have a name, without spaces, and a colon", ""},
		{"secret", "sekret", "must be whsec_ followed by", ""},
	} {
		t.Run(tt.input+" "+engine.Excerpt(strings.ToValidUTF8(tt.value, "?")), func(t *testing.T) {
			f := *f
			f.t = t
			edited := !slices.Contains([]string{"secret"}, tt.input)
			target, page := "/webhooks", f.wantPage("/new-webhook")
			if edited {
				target, page = "/webhooks/1", f.wantPage("/webhooks/1/edit")
			}
			form := with(settingsOf(page), "url", "https://example.com/", tt.input, tt.value)
			switch tt.value { // what else it takes to be the thing that is wrong
			case "Authorization: sekret-1":
				form.Set("basic_auth.username", "sekret-2")
			case "sekret=1":
				form.Set("oauth2.client_id", "sekret-2")
				form.Set("oauth2.token_url", "https://auth.example/")
			case "http://10.1.2.3/sekret":
				form.Set("oauth2.client_id", "sekret-2")
				form.Set("oauth2.client_secret", "sekret-2")
			}
			if tt.input == "oauth2.client_secret" {
				form.Set("oauth2.token_url", "https://auth.example/")
			}
			at := tt.at
			if at == "" {
				at = tt.input
			}
			before := asJSON(t, f.webhook(1))
			page = f.wantIn(f.post(target, form), 400, `<li><a href="#`+at+`">`, "autofocus", `id="`+at+`-error"`)
			_, beside, _ := strings.Cut(page, `id="`+at+`-error">`)
			beside, _, _ = strings.Cut(beside, "</p>")
			if !strings.Contains(beside, tt.want) {
				t.Errorf("beside the input stands %q, want %q", beside, tt.want)
			}
			tag := regexp.MustCompile(`<(input|textarea)[^>]* id="` + regexp.QuoteMeta(at) + `"[^>]*>`).FindString(page)
			if !strings.Contains(tag, at+`-error"`) || !strings.Contains(tag, `aria-invalid="true"`) {
				t.Errorf("the input is not marked: %s", tag)
			}
			if strings.Contains(page, "sekret") {
				t.Error("the page repeats a credential")
			}
			for _, folded := range strings.Split(page, "<details")[1:] {
				if tag, _, _ := strings.Cut(folded, ">"); strings.Contains(folded, `aria-invalid`) && !strings.HasSuffix(tag, " open") {
					t.Error("the error is hidden")
				}
			}
			if all := f.engine.Webhooks(); len(all) != 1 || fmt.Sprint(asJSON(t, *all[0])) != fmt.Sprint(before) {
				t.Error("something was stored")
			}
		})
	}
}

// TestBadInputs shows that all that is wrong is told at once, that what was typed stays, and that credentials do not.
func TestBadInputs(t *testing.T) {
	f := newFixture(t, nil)
	page := f.wantIn(f.post("/webhooks", url.Values{"url": {"nowhere"}, "name": {"<script>"}, "delay": {"soon"}, "send_incomplete": {"on"},
		"basic_auth.username": {"sekret-user"}, "basic_auth.password": {"sekret-password"}, "headers": {"X-Api-Key: sekret"}, "oauth2.scopes": {"sekret"}}), 400,
		`value="nowhere"`, `value="&lt;script&gt;"`, `value="soon"`, `<a href="#url">URL</a>`, `<a href="#delay">Delay</a>`,
		`<a href="#basic_auth.password">Password</a>: has to be typed again`, `<a href="#headers">More headers</a>: has to be typed again`)
	if strings.Contains(page, "sekret") {
		t.Error("the page repeats a credential")
	}
	form := settingsOf(page)
	if form.Has("send_answers") || !form.Has("send_incomplete") {
		t.Errorf("the boxes are not as they were: %v", form)
	}
	if len(f.engine.Webhooks()) != 0 {
		t.Error("something was stored")
	}
}

// TestAllowAddress shows the way of somebody whose endpoint is on his own machine.
func TestAllowAddress(t *testing.T) {
	f := newFixture(t, nil)
	form := with(settingsOf(f.get("/new-webhook").Body.String()), "url", "http://localhost:9000/")
	page := f.wantIn(f.post("/webhooks", form), 400, `name="allow" value="127.0.0.1/32"`, `<details class="card" open>`)
	form = settingsOf(page)
	if form.Has("allow") {
		t.Fatal("the box is ticked already")
	}
	// Another mistake does not lose the tick.
	page = f.wantIn(f.post("/webhooks", with(form, "allow", "127.0.0.1/32", "delay", "x")), 400, ">\n127.0.0.1/32</textarea>")
	f.wantIn(f.post("/webhooks", with(settingsOf(page), "delay", "1")), 303)
	if got := fmt.Sprint(f.webhook(1).AllowNetworks); got != "[127.0.0.1/32]" {
		t.Errorf("allowed is %s", got)
	}
}

// TestEditCredentials shows that credentials stay, are replaced and are removed one by one, without typing the others again.
func TestEditCredentials(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://example.com/","headers":{"X-A":"sekret-a","X-B":"sekret-b","X-C":"sekret-c","X-D":"sekret-d"},
		"basic_auth":{"username":"sekret-u","password":"sekret-p"}}`)
	edit := func(values ...string) map[string]any {
		t.Helper()
		page := f.wantPage("/webhooks/1/edit")
		if strings.Contains(page, "sekret") {
			t.Error("the page shows a credential")
		}
		return asJSON(t, f.save(1, with(settingsOf(page), values...)))
	}
	for _, tt := range []struct {
		values       []string
		setting, now string
	}{
		{[]string{"headers.X-A", "new-a", "remove.headers.X-B", "on", "headers", "x-c: new-c\r\nX-E: new-e"}, "headers",
			`map[X-A:new-a X-C:new-c X-D:sekret-d X-E:new-e]`},
		{[]string{"headers.X-A", "newer-a"}, "basic_auth", `map[password:sekret-p username:sekret-u]`},
		{[]string{"basic_auth.password", "new-p"}, "basic_auth", `map[password:new-p username:sekret-u]`},
		{[]string{"basic_auth.username", "new-u"}, "basic_auth", `map[password:new-p username:new-u]`},
		{[]string{"remove.basic_auth", "on", "basic_auth.username", "only"}, "basic_auth", `map[password: username:only]`},
		{[]string{"remove.basic_auth", "on", "oauth2.token_url", "https://auth.example/", "oauth2.client_id", "i", "oauth2.client_secret", "s",
			"oauth2.scopes", "a b", "oauth2.headers", "X-T: t"}, "oauth2",
			`map[client_id:i client_secret:s headers:map[X-T:t] scopes:[a b] token_url:https://auth.example/]`},
		{nil, "basic_auth", `<nil>`},
		{[]string{"oauth2.client_secret", "s2"}, "oauth2", `map[client_id:i client_secret:s2 headers:map[X-T:t] scopes:[a b] token_url:https://auth.example/]`},
		{[]string{"oauth2.body", `{"a": "<&>"}`}, "oauth2", `map[body:{"a":"<&>"} headers:map[X-T:t] is_json:true token_url:https://auth.example/]`},
		{[]string{"oauth2.headers", "X-U: u"}, "oauth2", `map[body:{"a":"<&>"} headers:map[X-U:u] is_json:true token_url:https://auth.example/]`},
		{[]string{"oauth2.body", "a=1\r\nb=2"}, "oauth2", "map[body:a=1\nb=2 headers:map[X-U:u] token_url:https://auth.example/]"},
		{[]string{"oauth2.client_id", "i", "oauth2.client_secret", "s"}, "oauth2", `map[client_id:i client_secret:s headers:map[X-U:u] token_url:https://auth.example/]`},
		{[]string{"oauth2.auth_style", "body"}, "oauth2", `map[auth_style:body client_id:i client_secret:s headers:map[X-U:u] token_url:https://auth.example/]`},
		{[]string{"oauth2.auth_style", "body", "oauth2.client_secret", "s2"}, "oauth2", `map[auth_style:body client_id:i client_secret:s2 headers:map[X-U:u] token_url:https://auth.example/]`},
		{[]string{"oauth2.auth_style", "body", "oauth2.body", "a"}, "oauth2", `map[body:a headers:map[X-U:u] token_url:https://auth.example/]`},
		{[]string{"oauth2.auth_style", "header", "oauth2.client_id", "i", "oauth2.client_secret", "s"}, "oauth2", `map[auth_style:header client_id:i client_secret:s headers:map[X-U:u] token_url:https://auth.example/]`},
		{[]string{"oauth2.auth_style", "header", "remove.oauth2", "on", "oauth2.token_url", "https://auth.example/", "oauth2.client_id", "i", "oauth2.client_secret", "s"}, "oauth2",
			`map[auth_style:header client_id:i client_secret:s token_url:https://auth.example/]`},
		{[]string{"oauth2.auth_style", "auto", "oauth2.client_secret", "s"}, "oauth2", `map[client_id:i client_secret:s token_url:https://auth.example/]`},
		{[]string{"oauth2.auth_style", "body"}, "oauth2", `map[auth_style:body client_id:i client_secret:s token_url:https://auth.example/]`},
		{[]string{"oauth2.auth_style", "body", "remove.oauth2", "on"}, "oauth2", `<nil>`},
		{[]string{"remove.headers.X-A", "on", "remove.headers.X-C", "on", "remove.headers.X-D", "on", "remove.headers.X-E", "on"}, "headers", `<nil>`},
	} {
		if got := fmt.Sprint(edit(tt.values...)[tt.setting]); got != tt.now {
			t.Errorf("%q: %s is %s, want %s", tt.values, tt.setting, got, tt.now)
		}
	}
}

// TestEditKeepsSecrecy shows that a header that gets another value keeps what is said of it, as do those that stay.
func TestEditKeepsSecrecy(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://example.com/","headers":{"X-A":{"value":"a","secret":false},"X-B":{"value":"b","secret":true},"X-C":"c"}}`)
	page := f.wantPage("/webhooks/1/edit")
	now := asJSON(t, f.save(1, with(settingsOf(page), "headers.X-A", "a2", "headers.X-C", "c2")))
	if got, want := fmt.Sprint(now["headers"]), "map[X-A:map[secret:false value:a2] X-B:map[secret:true value:b] X-C:c2]"; got != want {
		t.Errorf("headers are %s, want %s", got, want)
	}
}

// TestEditMoves shows that credentials do not follow a webhook, or its token endpoint, to another host.
func TestEditMoves(t *testing.T) {
	f := newFixture(t, nil)
	const all = `"headers":{"X-A":"sekret-a","X-B":"sekret-b"},"basic_auth":{"username":"sekret-u","password":"sekret-p"}`
	const oauth = `"oauth2":{"token_url":"https://auth.example/","client_id":"sekret-i","client_secret":"sekret-s","scopes":["a"],"headers":{"X-T":"sekret-t"}}`
	for _, tt := range []struct {
		has, values string // name=value, with spaces between
		saved       string // where it leads to, or what is told
		now         string
	}{
		{all, "url=https://a.example/2", "done=saved", `map[X-A:sekret-a X-B:sekret-b] map[password:sekret-p username:sekret-u] <nil>`},
		{all, "url=https://b.example/", "done=moved", `<nil> <nil> <nil>`},
		{all, "url=https://a.example:8443/", "done=moved", `<nil> <nil> <nil>`},
		{all, "url=http://a.example/", "done=moved", `<nil> <nil> <nil>`},
		{all, "url=https://b.example/ headers.X-A=new-a", "done=moved", `map[X-A:new-a] <nil> <nil>`},
		{all, "url=https://b.example/ headers=X-N:n", "done=moved", `map[X-N:n] <nil> <nil>`},
		{all, "url=https://b.example/ basic_auth.username=u", "Password", ""},
		{all, "url=https://b.example/ basic_auth.password=p", "User name", ""},
		{all, "url=https://b.example/ basic_auth.username=u basic_auth.password=p", "done=moved", `<nil> map[password:p username:u] <nil>`},
		{all, "url=https://b.example/ remove.basic_auth=on basic_auth.username=u", "done=moved", `<nil> map[password: username:u] <nil>`},
		{oauth, "url=https://b.example/", "done=moved", `<nil> <nil> <nil>`},
		{oauth, "url=https://b.example/ oauth2.client_secret=s", "Token URL", ""},
		{oauth, "oauth2.token_url=https://auth.example/2", "done=saved", `<nil> <nil> map[client_id:sekret-i client_secret:sekret-s headers:map[X-T:sekret-t] scopes:[a] token_url:https://auth.example/2]`},
		{oauth, "oauth2.token_url=https://evil.example/", "Client secret", ""},
		{oauth, "oauth2.token_url=https://evil.example/ oauth2.client_id=i oauth2.client_secret=s", "Headers of the token request", ""},
		{oauth, "oauth2.token_url=https://evil.example/ oauth2.body=a=b", "Headers of the token request", ""},
		{oauth, "oauth2.token_url=https://auth2.example/ oauth2.client_id=i oauth2.client_secret=s oauth2.headers=X-T:t", "done=saved",
			`<nil> <nil> map[client_id:i client_secret:s headers:map[X-T:t] scopes:[a] token_url:https://auth2.example/]`},
		{`"headers":{}`, "url=https://b.example/", "done=saved", `<nil> <nil> <nil>`},
	} {
		var made struct{ ID uint32 }
		if err := json.Unmarshal([]byte(f.api("POST", "/v1/webhooks", `{"url":"https://a.example/",`+tt.has+`}`)), &made); err != nil {
			t.Fatal(err)
		}
		before := asJSON(t, f.webhook(made.ID))
		form := settingsOf(f.wantPage(fmt.Sprintf("/webhooks/%d/edit", made.ID), "On another host or port it loses the headers"))
		for field := range strings.FieldsSeq(tt.values) {
			name, value, _ := strings.Cut(field, "=")
			form.Set(name, value)
		}
		rec := f.post(fmt.Sprintf("/webhooks/%d", made.ID), form)
		now := asJSON(t, f.webhook(made.ID))
		if tt.now == "" {
			page := f.wantIn(rec, 400, ">"+tt.saved+"</a>: must be typed again")
			if strings.Contains(page, "sekret") || !reflect.DeepEqual(now, before) {
				t.Errorf("%s: it was saved, or shown: %v", tt.values, now)
			}
			continue
		}
		if at := rec.Header().Get("Location"); !strings.HasSuffix(at, tt.saved) {
			t.Errorf("%s: leads to %s, want %s", tt.values, at, tt.saved)
		}
		if got := fmt.Sprint(now["headers"], now["basic_auth"], now["oauth2"]); got != tt.now {
			t.Errorf("%s: it has %s, want %s", tt.values, got, tt.now)
		}
	}
	f.wantPage("/webhooks/1?done=moved", "that were not typed again were removed")
}

// TestEditConflict shows that a form that was opened before another change does not take that back.
func TestEditConflict(t *testing.T) {
	f := newFixture(t, nil)
	f.api("POST", "/v1/webhooks", `{"url":"https://example.com/","headers":{"X-A":"sekret-a"}}`)
	old := settingsOf(f.wantPage("/webhooks/1/edit"))
	f.api("PATCH", "/v1/webhooks/1", `{"headers":{"X-A":"sekret-a","X-B":"sekret-b"},"delay":7}`)
	changed := fmt.Sprint(asJSON(t, f.webhook(1)))
	page := f.wantIn(f.post("/webhooks/1", with(old, "name", "mine", "headers", "X-C: sekret-c", "allow", "10.0.0.7")), 409, ">\n10.0.0.7</textarea>", "was changed since you opened this form", `value="mine"`,
		`name="headers.X-B"`, `href="/webhooks/1/edit"`, "has to be typed again")
	if strings.Contains(page, "sekret") {
		t.Error("the page shows a credential")
	}
	for _, revision := range []string{"", "x", "0", "99"} {
		f.wantIn(f.post("/webhooks/1", with(old, "revision", revision)), 409)
	}
	if got := fmt.Sprint(asJSON(t, f.webhook(1))); got != changed {
		t.Errorf("the webhook became %s", got)
	}
	// Sent again, it is meant to be. The header that came meanwhile stays.
	w := f.save(1, with(settingsOf(page), "headers", "X-C: sekret-c", "allow_networks", ""))
	if got := fmt.Sprint(asJSON(t, w)["headers"]); got != "map[X-A:sekret-a X-B:sekret-b X-C:sekret-c]" || w.Name != "mine" || w.Delay != 10 {
		t.Errorf("headers %s, name %q, delay %d", got, w.Name, w.Delay)
	}
}

func TestEditUnknown(t *testing.T) {
	f := newFixture(t, nil)
	for _, target := range []string{"/webhooks/7/edit", "/webhooks/x/edit", "/webhooks/7/secret"} {
		f.wantIn(f.get(target), 404)
	}
	for _, target := range []string{"/webhooks/7", "/webhooks/7/secret"} {
		f.wantIn(f.post(target, everySetting), 404)
	}
}
