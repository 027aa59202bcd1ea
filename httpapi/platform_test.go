package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"hookbolt/engine"
)

// platform makes a call as the platform's tools do, with the header that they send, and returns the answer's JSON.
func (f *fixture) platform(status int, method, target, body string) map[string]any {
	f.t.Helper()
	r := f.request(method, "/platform"+target, body)
	r.Header.Set("Organization-Id", "1")
	rec := f.serve(r)
	if rec.Code != status || rec.Header().Get("Content-Type") != "application/json" {
		f.t.Fatalf("%s %s: got %d %s, want %d\n%s", method, target, rec.Code, rec.Header().Get("Content-Type"), status, rec.Body)
	}
	var answer map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
		f.t.Fatalf("%s %s: %v in %s", method, target, err, rec.Body)
	}
	return answer
}

// has compares some members of an answer.
func has(t *testing.T, answer map[string]any, want string) {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(want), &members); err != nil {
		t.Fatal(err)
	}
	for name, value := range members {
		if got, ok := answer[name]; !ok || !reflect.DeepEqual(got, value) {
			t.Errorf("%s is %v, want %v, in %v", name, got, value, answer)
		}
	}
}

func TestPlatformHooks(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}})
	f.token = "admin"
	profile := f.platform(200, "GET", "/account/profile", "")
	has(t, profile, `{"organizations":[{"id":1,"name":"hookbolt"}]}`)

	made := f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/hook","is_active":true,"public_id":"`+contentA+`"}`)
	has(t, made, `{"id":1,"url":"https://example.com/hook","public_id":"`+contentA+`","name":"","is_active":true,"delay":10,"send_leads":true,"send_answers":true,
		"account_wide":false,"incomplete_send":false,"incomplete_delay":60,"use_oauth":false,"oauth_login_endpoint":null,"oauth_request_body":null,"oauth_request_headers":null}`)
	if secret, _ := made["secret"].(string); !strings.HasPrefix(secret, "whsec_") {
		t.Errorf("secret %v", made["secret"])
	}
	// What differs from the names of /v1 is there the same.
	f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/2","account_wide":1,"public_id":"`+contentB+`","name":"all","is_active":0,"delay":"30",
		"send_leads":false,"send_answers":"0","incomplete_send":1,"incomplete_delay":120,"organization_id":7}`)
	var w shownWebhook
	read := func(id int) { // an empty change answers the webhook alone
		t.Helper()
		w = shownWebhook{}
		f.wantJSON(&w, 200, "PATCH", fmt.Sprintf("/v1/webhooks/%d", id), "{}")
	}
	read(2)
	if w.ContentID != nil || w.Name != "all" || w.Active || w.Delay != 30 || w.SendLeads || w.SendAnswers || !w.SendIncomplete || w.IncompleteDelay != 120 {
		t.Errorf("made %+v", w)
	}

	// A change changes what it has, whatever else is set.
	f.want(200, "PATCH", "/v1/webhooks/1", `{"timeout":"7s","headers":{"x-api-key":"k"}}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"name":"first","send_leads":0}`), `{"id":1,"name":"first","send_leads":false,"public_id":"`+contentA+`","delay":10}`)
	read(1)
	if w.Name != "first" || w.Timeout == nil || !w.Headers["X-Api-Key"] {
		t.Errorf("changed %+v", w)
	}
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"account_wide":true}`), `{"account_wide":true,"public_id":null}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"public_id":"`+contentB+`"}`), `{"account_wide":false,"public_id":"`+contentB+`"}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"delay":3e1,"incomplete_delay":"00"}`), `{"delay":30,"incomplete_delay":0}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"delay":10,"incomplete_delay":60.0}`), `{"delay":10,"incomplete_delay":60}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"account_wide":false,"public_id":null}`), `{"account_wide":false,"public_id":"`+contentB+`"}`)
	// A null changes nothing, whatever is the default.
	f.platform(200, "PUT", "/hooks/web/1", `{"is_active":false,"send_leads":0,"name":"quiet","delay":"0045"}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"is_active":null,"send_leads":null,"name":null,"delay":null,"use_oauth":null}`),
		`{"url":"https://example.com/hook","is_active":false,"send_leads":false,"name":"quiet","delay":45,"use_oauth":false}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"is_active":"on","send_leads":"off"}`), `{"is_active":true,"send_leads":false}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"is_active":true,"send_leads":1,"delay":"000"}`), `{"is_active":true,"send_leads":true,"delay":0}`)
	// What was read can be written back.
	shown := f.platform(200, "GET", "/hooks/web/1", "")
	text, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	again := f.platform(200, "PUT", "/hooks/web/1", string(text))
	delete(shown, "updated_at")
	delete(again, "updated_at")
	if !reflect.DeepEqual(shown, again) {
		t.Errorf("written back %v\nas %v", shown, again)
	}

	has(t, f.platform(200, "DELETE", "/hooks/web/1", ""), `{"message":"deleted"}`)
	has(t, f.platform(404, "GET", "/hooks/web/1", ""), `{"message":"webhook 1: not found"}`)
	f.platform(404, "PUT", "/hooks/web/1", `{}`)
	f.platform(404, "DELETE", "/hooks/web/x", "")
	f.platform(404, "GET", "/hooks/sheet", "")
	f.platform(405, "PATCH", "/hooks/web/1", "{}")
	f.token = "other"
	if answer := f.platform(401, "GET", "/hooks/web", ""); answer["message"] == "" || answer["errors"] != nil {
		t.Errorf("%v", answer)
	}
}

// TestPlatformAccountWide: account_wide set to false is the platform's default, which tools send with all other fields. It names no content,
// and takes none away.
func TestPlatformAccountWide(t *testing.T) {
	f := newFixture(t, Config{})
	for i, flag := range []string{"0", "false", `"0"`, "null"} {
		has(t, f.platform(201, "POST", "/hooks/web", fmt.Sprintf(`{"url":"https://example.com/%d","account_wide":%s}`, i, flag)), `{"public_id":null,"account_wide":true}`)
		target := fmt.Sprintf("/hooks/web/%d", i+1)
		has(t, f.platform(200, "PUT", target, `{"name":"n","account_wide":`+flag+`}`), `{"name":"n","public_id":null,"account_wide":true}`)
		has(t, f.platform(200, "PUT", target, `{"public_id":"`+contentA+`","account_wide":`+flag+`}`), `{"public_id":"`+contentA+`","account_wide":false}`)
		has(t, f.platform(200, "PUT", target, `{"account_wide":`+flag+`}`), `{"public_id":"`+contentA+`","account_wide":false}`)
	}
	has(t, f.platform(201, "POST", "/hooks/web", "\ufeff"+`{"url":"https://example.com/","account_wide":0,"public_id":"`+contentA+`"}`), `{"public_id":"`+contentA+`","account_wide":false}`)
	// The platform's own limits are not hookbolt's.
	has(t, f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/","account_wide":1,"incomplete_send":1,"delay":30,"incomplete_delay":5}`), `{"delay":30,"incomplete_delay":5}`)
}

func TestPlatformBadInput(t *testing.T) {
	f := newFixture(t, Config{})
	f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/","account_wide":true}`)
	for _, c := range []struct{ method, target, body, field, detail string }{
		{"POST", "/hooks/web", `{}`, "url", "is required"},
		{"POST", "/hooks/web", `{"url":"nowhere"}`, "url", "http or https URL"},
		{"POST", "/hooks/web", `{"url":"https://example.com/","public_id":"abc"}`, "public_id", "UUID"},
		{"POST", "/hooks/web", `{"url":"https://example.com/","is_active":"yes"}`, "is_active", "true or false, 1 or 0"},
		{"POST", "/hooks/web", `{"url":"https://example.com/","incomplete_delay":-1}`, "incomplete_delay", "0 to 31536000"},
		{"POST", "/hooks/web", `{"url":"https://example.com/","use_oauth":1}`, "oauth_login_endpoint", "is required"},
		{"POST", "/hooks/web", `{"url":"https://example.com/","use_oauth":1,"oauth_login_endpoint":"https://a.example/","oauth_request_headers":{"x":1}}`, "oauth_request_headers.x", "must be a string"},
		{"POST", "/hooks/web", `[]`, "", "must be a JSON object"},
		{"POST", "/hooks/web", `{`, "", "must be a JSON object"},
		{"POST", "/hooks/web", `null`, "", "must be a JSON object"},
		{"PUT", "/hooks/web/1", `{"account_wide":2}`, "account_wide", "true or false, 1 or 0"},
		{"PUT", "/hooks/web/1", `{"delay":"-1"}`, "delay", "0 to 31536000 (got -1)"},
		{"PUT", "/hooks/web/1", `{"delay":"1.5"}`, "delay", "must be an integer"},
		{"PUT", "/hooks/web/1", `{"delay":1.5}`, "delay", "must be an integer"},
		{"PUT", "/hooks/web/1", `{"delay":"soon"}`, "delay", "must be"},
		{"GET", "/hooks/web?page=0", "", "page", "must be 1 to"},
		{"GET", "/hooks/web?page=16777217", "", "page", "must be 1 to 16777216"},
		{"GET", "/hooks/web?per_page=101", "", "per_page", "must be 1 to 100"},
		{"GET", "/hooks/web?public_id=x", "", "public_id", "UUID"},
		{"GET", "/hooks/web/1/logs?page=x", "", "page", "must be 1 to"},
	} {
		answer := f.platform(422, c.method, c.target, c.body)
		list, _ := answer["errors"].(map[string]any)
		details, _ := list[c.field].([]any)
		if len(details) == 0 || !strings.Contains(details[0].(string), c.detail) || answer["message"] == "" {
			t.Errorf("%s %s %s: %v", c.method, c.target, c.body, answer)
		}
	}
	var list listOf[shownWebhook]
	if f.wantJSON(&list, 200, "GET", "/v1/webhooks", ""); len(list.Items) != 1 {
		t.Errorf("%d webhooks", len(list.Items))
	}
}

func TestPlatformOAuth(t *testing.T) {
	f := newFixture(t, Config{})
	oauth := func(id uint32) *engine.OAuth2 {
		w, err := f.engine.Webhook(id)
		if err != nil {
			t.Fatal(err)
		}
		return w.OAuth2
	}
	has(t, f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/","use_oauth":true,"oauth_login_endpoint":"https://auth.example/token?k=v",
		"oauth_request_body":{"client":"a", "n":1},"oauth_request_headers":{"x-tenant":"t"}}`), `{"use_oauth":true,"oauth_login_endpoint":null}`)
	if o := oauth(1); string(o.TokenURL) != "https://auth.example/token?k=v" || string(o.Body) != `{"client":"a","n":1}` && string(o.Body) != `{"client":"a", "n":1}` || !o.IsJSON || o.Headers["X-Tenant"] != "t" {
		t.Errorf("made %#v", engine.OAuth2Setting(o))
	}
	// A part of it, the rest as it was.
	f.platform(200, "PUT", "/hooks/web/1", `{"oauth_request_headers":{"x-tenant":"u"}}`)
	f.platform(200, "PUT", "/hooks/web/1", `{"use_oauth":1,"oauth_login_endpoint":null,"oauth_request_body":null}`)
	if o := oauth(1); string(o.TokenURL) != "https://auth.example/token?k=v" || !strings.Contains(string(o.Body), `"n":1`) || o.Headers["X-Tenant"] != "u" {
		t.Errorf("changed to %#v", engine.OAuth2Setting(o))
	}
	// Its text is sent as it came.
	f.platform(200, "PUT", "/hooks/web/1", `{"oauth_request_body":{"client":"a&b<c>"}}`)
	f.platform(200, "PUT", "/hooks/web/1", `{"oauth_request_headers":{"x-tenant":"v"}}`)
	if o := oauth(1); string(o.Body) != `{"client":"a&b<c>"}` || o.Headers["X-Tenant"] != "v" {
		t.Errorf("changed to %s", engine.OAuth2Setting(o))
	}
	// One that was set by /v1 keeps its form, too.
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","oauth2":{"token_url":"https://auth.example/","client_id":"i","client_secret":"s","scopes":["a","b"]}}`)
	f.platform(200, "PUT", "/hooks/web/2", `{"oauth_login_endpoint":"https://auth.example/2"}`)
	if o := oauth(2); o.TokenURL != "https://auth.example/2" || o.ClientID != "i" || o.ClientSecret != "s" || len(o.Scopes) != 2 || o.Body != "" {
		t.Errorf("changed to %#v", engine.OAuth2Setting(o))
	}
	f.platform(200, "PUT", "/hooks/web/2", `{"oauth_request_body":{"a":"b"}}`)
	if o := oauth(2); o.ClientID != "" || o.Scopes != nil || string(o.Body) != `{"a":"b"}` {
		t.Errorf("changed to %#v", engine.OAuth2Setting(o))
	}
	has(t, f.platform(200, "PUT", "/hooks/web/2", `{"use_oauth":"0"}`), `{"use_oauth":false}`)
	if oauth(2) != nil {
		t.Error("it is still used")
	}
	// Without a body, the grant alone; PHP's empty list is an empty object.
	f.platform(200, "PUT", "/hooks/web/2", `{"use_oauth":true,"oauth_login_endpoint":"https://auth.example/","oauth_request_headers":[]}`)
	if o := oauth(2); string(o.Body) != `{"grant_type":"client_credentials"}` || !o.IsJSON {
		t.Errorf("made %#v", engine.OAuth2Setting(o))
	}
	// Not used, not kept.
	f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/","oauth_login_endpoint":"https://auth.example/"}`)
	if oauth(3) != nil {
		t.Error("it is used unasked")
	}
}

// TestPlatformMoves: credentials do not follow a webhook, or its token endpoint, to another host.
func TestPlatformMoves(t *testing.T) {
	f := newFixture(t, Config{})
	const part = `"oauth_login_endpoint":"https://auth.example/token","oauth_request_body":{"client":"sekret"},"oauth_request_headers":{"X-Tenant":"sekret"}`
	f.platform(201, "POST", "/hooks/web", `{"url":"https://a.example/","use_oauth":true,`+part+`}`)
	f.want(200, "PATCH", "/v1/webhooks/1", `{"headers":{"X-Key":"sekret"}}`)

	// On the same host all stays.
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"url":"https://a.example/2","oauth_login_endpoint":"https://auth.example/2"}`), `{"use_oauth":true}`)

	// Another token endpoint gets no part that is not given for it, and another endpoint no token.
	for _, tc := range []struct{ body, lacks string }{
		{`{"oauth_login_endpoint":"https://evil.example/"}`, "oauth_request_body oauth_request_headers"},
		{`{"oauth_login_endpoint":"https://auth.example:8443/","oauth_request_body":{"a":"b"}}`, "oauth_request_headers"},
		{`{"url":"https://evil.example/","oauth_request_body":{"a":"b"}}`, "oauth_login_endpoint oauth_request_headers"},
		{`{"url":"https://evil.example/","use_oauth":true,"oauth_login_endpoint":"https://auth.example/token"}`, "oauth_request_body oauth_request_headers"},
	} {
		errs, _ := f.platform(422, "PUT", "/hooks/web/1", tc.body)["errors"].(map[string]any)
		for field := range strings.FieldsSeq(tc.lacks) {
			if !strings.Contains(fmt.Sprint(errs[field]), "must be given again: what is set is for another host") {
				t.Errorf("%s: %v", tc.body, errs)
			}
		}
		if len(errs) != len(strings.Fields(tc.lacks)) {
			t.Errorf("%s: %v", tc.body, errs)
		}
	}
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"oauth_login_endpoint":"https://auth2.example/","oauth_request_body":{"client":"b"},"oauth_request_headers":{}}`),
		`{"use_oauth":true}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"url":"https://b.example/","use_oauth":true}`), `{"use_oauth":false,"dropped":["headers.X-Key","use_oauth"]}`)
	has(t, f.platform(200, "PUT", "/hooks/web/1", `{"url":"https://c.example/","use_oauth":true,`+part+`}`), `{"use_oauth":true}`)
	w, err := f.engine.Webhook(1)
	if err != nil || len(w.Headers) != 0 || w.OAuth2 == nil || w.OAuth2.Headers["X-Tenant"] != "sekret" {
		t.Errorf("%v, %v", w, err)
	}
}

func TestPlatformPages(t *testing.T) {
	f := newFixture(t, Config{})
	for i := range 17 {
		body := fmt.Sprintf(`{"url":"https://example.com/%d","public_id":%q}`, i, contentA)
		if i%2 == 1 {
			body = fmt.Sprintf(`{"url":"https://example.com/%d","account_wide":true}`, i)
		}
		f.platform(201, "POST", "/hooks/web", body)
	}
	for _, c := range []struct {
		query, meta string
		ids         []float64
	}{
		{"", `{"current_page":1,"per_page":15,"last_page":2,"total":17}`, []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
		{"?page=2", `{"current_page":2,"per_page":15,"last_page":2,"total":17}`, []float64{16, 17}},
		{"?page=3&per_page=4", `{"current_page":3,"per_page":4,"last_page":5,"total":17}`, []float64{9, 10, 11, 12}},
		{"?page=16777216&per_page=100", `{"current_page":16777216,"per_page":100,"last_page":1,"total":17}`, nil},
		{"?page=99&unknown=1", `{"current_page":99,"per_page":15,"last_page":2,"total":17}`, nil},
		{"?public_id=" + contentA + "&per_page=2&page=2", `{"current_page":2,"per_page":2,"last_page":5,"total":9}`, []float64{5, 7}},
		{"?public_id=" + contentB, `{"current_page":1,"per_page":15,"last_page":1,"total":0}`, nil},
	} {
		page := f.platform(200, "GET", "/hooks/web"+c.query, "")
		has(t, page, c.meta)
		data, ok := page["data"].([]any)
		var ids []float64
		for _, hook := range data {
			ids = append(ids, hook.(map[string]any)["id"].(float64))
		}
		if !ok || !reflect.DeepEqual(ids, c.ids) || len(page) != 5 {
			t.Errorf("%s: %v, want %v, of %v", c.query, ids, c.ids, page)
		}
	}
}

// TestPlatformEmptyText: Laravel turns an empty text into null, and a null says nothing.
func TestPlatformEmptyText(t *testing.T) {
	f := newFixture(t, Config{})
	f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/","name":"crm","public_id":"","account_wide":"","delay":"","is_active":"","incomplete_delay":"",
		"use_oauth":"","oauth_login_endpoint":"","oauth_request_body":"","oauth_request_headers":""}`)
	has(t, f.platform(200, "GET", "/hooks/web/1", ""), `{"url":"https://example.com/","name":"crm","public_id":null,"account_wide":true,"delay":10,"is_active":true,"use_oauth":false}`)
	f.platform(200, "PUT", "/hooks/web/1", `{"url":"","name":"","public_id":"`+contentA+`","is_active":0}`)
	f.platform(200, "PUT", "/hooks/web/1", `{"name":"","public_id":"","is_active":"","send_leads":""}`)
	has(t, f.platform(200, "GET", "/hooks/web/1", ""), `{"url":"https://example.com/","name":"crm","public_id":"`+contentA+`","is_active":false,"send_leads":true}`)
	wantProblem(t, f.do("POST", "/platform/hooks/web", `{"url":""}`), 422)
}

func TestPlatformLogs(t *testing.T) {
	// Sessions fail, tests are delivered.
	f := newFixtureOn(t, Config{}, func(r *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "sample") {
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		}
		return nil, errors.New("no")
	})
	f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/","account_wide":true,"delay":0}`)
	f.platform(201, "POST", "/hooks/web", `{"url":"https://example.com/2","account_wide":true,"delay":3600}`)
	for i := range 450 {
		f.want(202, "POST", "/v1/events", start(fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012d", i))+finish(fmt.Sprintf("22ffdf18-1035-4e56-baa2-%012d", i)))
	}
	page := f.platform(200, "GET", "/hooks/web/2/logs?page=5&per_page=100", "")
	has(t, page, `{"current_page":5,"per_page":100,"last_page":5,"total":450}`)
	data := page["data"].([]any)
	if len(data) != 50 {
		t.Fatalf("%d entries", len(data))
	}
	oldest := data[49].(map[string]any)
	has(t, oldest, `{"hook_id":2,"session_id":"22ffdf18-1035-4e56-baa2-000000000000","complete_session":true,"status":"scheduled","status_code":null,"error":null,"attempts":0,"finished_at":null}`)
	newest := f.platform(200, "GET", "/hooks/web/2/logs", "")["data"].([]any)[0].(map[string]any)
	has(t, newest, `{"session_id":"22ffdf18-1035-4e56-baa2-000000000449"}`)
	f.want(202, "POST", "/v1/webhooks/2/test", "")
	has(t, f.platform(200, "GET", "/hooks/web/2/logs?per_page=1", "")["data"].([]any)[0].(map[string]any), `{"session_id":null,"complete_session":null,"status":"pending"}`)
	if page := f.platform(200, "GET", "/hooks/web/2/logs?page=6&per_page=100", ""); len(page["data"].([]any)) != 0 {
		t.Errorf("beyond the end: %v", page)
	}
	f.platform(404, "GET", "/hooks/web/9/logs", "")
}
