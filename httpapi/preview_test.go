package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// shownPreview is a preview as its caller reads it.
type shownPreview struct {
	Passes    bool    `json:"passes"`
	StoppedBy *string `json:"stopped_by"`
	Error     *struct {
		Field        string
		Line, Column *int
		Detail       string
	} `json:"error"`
	Method      *string         `json:"method"`
	URL         *string         `json:"url"`
	ContentType *string         `json:"content_type"`
	Headers     []string        `json:"headers"`
	Body        *string         `json:"body"`
	Payload     json.RawMessage `json:"payload"`
	Steps       int             `json:"steps"`
}

// previewed posts a preview, which must be answered with 200.
func (f *fixture) previewed(body string) (p shownPreview) {
	f.t.Helper()
	f.wantJSON(&p, 200, "POST", "/v1/preview", body)
	return p
}

// TestPreviewOfSettings previews settings that are not saved: of a new webhook, merged with stored ones, for samples and for a stored session. What
// is shown of a payload is, byte for byte, what is sent.
func TestPreviewOfSettings(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/{id}?m={mail}","filter":".leads|length > 0","transform":"{s: .session_id, m: .leads[0].email}",
		"url_values":"{id: .session_id, mail: .leads[0].email}","headers":{"X-Api-Key":"hidden-key"}}`)
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA)+`{"type":"lead","session_id":"`+sessionA+`","lead":{"email":"a&b@example.com","name":"<\u2028>"}}`)

	p := f.previewed(`{}`)
	if !p.Passes || p.URL != nil || *p.Method != "POST" || *p.ContentType != "application/json" || *p.Body != string(p.Payload) || p.Steps != 0 {
		t.Errorf("a new webhook: %+v", p)
	}
	if p := f.previewed(`{"sample":"incomplete"}`); !strings.Contains(*p.Body, `"complete_session":false`) {
		t.Errorf("the sample of an incomplete session: %s", *p.Body)
	}
	p = f.previewed(`{"webhook_id":1,"session_id":"` + sessionA + `"}`)
	if !p.Passes || *p.Body != `{"m":"a&b@example.com","s":"`+sessionA+`"}` || *p.URL != "https://example.com/"+sessionA+"?m=a%26b%40example.com" || p.Steps == 0 ||
		!strings.Contains(string(p.Payload), `"name":"<`+"\u2028"+`>"`) {
		t.Errorf("as it is stored: %+v %s", p, p.Payload)
	}
	if !slices.Contains(p.Headers, "X-Api-Key") || !slices.Contains(p.Headers, "webhook-signature") {
		t.Errorf("headers %q", p.Headers)
	}
	p = f.previewed(`{"webhook_id":1,"session_id":"` + sessionA + `","settings":{"transform":"{name: .leads[0].name}","content_type":"application/x-www-form-urlencoded","filter":null,"send_answers":false}}`)
	if *p.Body != "name=%3C%E2%80%A8%3E" || *p.ContentType != "application/x-www-form-urlencoded" || strings.Contains(string(p.Payload), `"answers"`) {
		t.Errorf("merged: %+v", p)
	}
	if p := f.previewed(`{"webhook_id":1,"settings":{"url":"https://elsewhere.example/{id}{mail}"}}`); slices.Contains(p.Headers, "X-Api-Key") {
		t.Errorf("at another host: %+v", p)
	}
	// What does not go out.
	for settings, by := range map[string]string{`{"filter":"false"}`: "filter", `{"filter":null,"transform":"empty"}`: "transform", `{"filter":"true","transform":"empty"}`: "transform"} {
		if p := f.previewed(`{"webhook_id":1,"settings":` + settings + `}`); p.Passes || *p.StoppedBy != by || p.Body != nil || p.URL != nil || len(p.Headers) != 0 || p.Payload == nil {
			t.Errorf("%s: %+v", settings, p)
		}
	}
	// Nothing has come of it.
	var list listOf[shownDelivery]
	f.wantJSON(&list, 200, "GET", "/v1/deliveries", "")
	if w := f.want(200, "GET", "/v1/webhooks/1", ""); len(list.Items) != 1 || !strings.Contains(w, `"transform":"{s: .session_id, m: .leads[0].email}"`) {
		t.Errorf("%+v %s", list.Items, w)
	}
}

// TestPreviewOfFailures: a program that fails is told beside the payload; everything else that is wrong is refused, and named.
func TestPreviewOfFailures(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/","content_id":"`+contentB+`","basic_auth":{"username":"u","password":"hidden-password"}}`)
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	for _, c := range []struct {
		settings, field, detail string
		line, column            int
	}{
		{`{"filter":".a ||"}`, "filter", "", 1, 5},
		{`{"transform":"{\n  a: 1,\n  b: ][\n}"}`, "transform", "", 3, 6},
		{`{"transform":".session_id | keys"}`, "transform", "keys", 0, 0},
		{`{"transform":"input"}`, "transform", "input", 0, 0},
		{`{"url":"https://example.com/{id}","url_values":"{}"}`, "url_values", "there is no value for {id}", 0, 0},
		{`{"url":"https://example.com/{id}","url_values":"{id: .nothing}"}`, "url_values", "", 0, 0},
		{`{"transform":"{}","content_type":"text/plain"}`, "transform", "wants a string", 0, 0},
	} {
		p := f.previewed(`{"settings":` + c.settings + `}`)
		switch e := p.Error; {
		case p.Passes || p.Body != nil || len(p.Payload) == 0:
			t.Errorf("%s: %+v", c.settings, p)
		case e == nil || e.Field != c.field || !strings.Contains(e.Detail, c.detail):
			t.Errorf("%s: error %+v", c.settings, e)
		case c.line > 0 && (e.Line == nil || *e.Line != c.line || *e.Column != c.column):
			t.Errorf("%s: at %v, %v", c.settings, e.Line, e.Column)
		}
	}
	for body, want := range map[string][2]string{
		`nonsense`:                                                      {"", "JSON"},
		`{"settings":[]}`:                                               {"settings", "must be"},
		`{"settings":{"transfrom":"."}}`:                                {"settings.transfrom", "unknown field"},
		`{"settings":{"transform":" "}}`:                                {"settings.transform", "must hold a program"},
		`{"settings":{"delay":-1}}`:                                     {"settings.delay", "whole seconds"},
		`{"settings":{"content_type":"text"}}`:                          {"settings.content_type", "media type"},
		`{"settings":{"content_type":"text/plain"}}`:                    {"settings.content_type", "needs a transform"},
		`{"settings":{"url":"https://example.com/","url_values":"{}"}}`: {"settings.url_values", "have none"},
		`{"settings":{"basic_auth":{"username":"u"}}}`:                  {"settings.basic_auth.password", "is required"},
		`{"webhook_id":1,"settings":{"url":"https://a.example/","basic_auth":{"username":"v"}}}`: {"settings.basic_auth", ""},
		`{"webhook_id":1,"settings":{"headers":{"Authorization":"x"}}}`:                          {"settings.basic_auth", "only one of"},
		`{"webhook_id":0}`:   {"webhook_id", "id of a webhook"},
		`{"webhook_id":"1"}`: {"webhook_id", "must be an integer"},
		`{"session_id":"x"}`: {"session_id", "UUID"},
		`{"sample":"all"}`:   {"sample", "complete or incomplete"},
		`{"sample":"complete","session_id":"` + sessionA + `"}`:            {"sample", "without session_id"},
		`{"as_of":"2026-01-01T00:00:00Z"}`:                                 {"as_of", "give its session_id"},
		`{"as_of":"2000-01-01T00:00:00Z","session_id":"` + sessionA + `"}`: {"as_of", "had happened by then"},
		`{"webhook":1}`: {"webhook", "unknown field"},
	} {
		rec := f.do("POST", "/v1/preview", body)
		if p := wantProblem(t, rec, http.StatusBadRequest); len(p.Errors) == 0 || p.Errors[0].Field == nil || !strings.HasPrefix(*p.Errors[0].Field, want[0]) || !strings.Contains(p.Errors[0].Detail, want[1]) || strings.Contains(rec.Body.String(), "hidden") {
			t.Errorf("%s: %s", body, rec.Body)
		}
	}
	wantProblem(t, f.do("POST", "/v1/preview", `{"webhook_id":9}`), http.StatusNotFound)
	wantProblem(t, f.do("POST", "/v1/preview", `{"session_id":"`+nobodys+`"}`), http.StatusNotFound)
	wantProblem(t, f.do("POST", "/v1/preview", `{"webhook_id":1,"session_id":"`+sessionA+`"}`), http.StatusConflict)
	conflict := wantProblem(t, f.do("POST", "/v1/preview", `{"settings":{"content_id":"`+contentB+`"},"session_id":"`+sessionA+`"}`), http.StatusConflict)
	if !strings.Contains(conflict.Detail, "the webhook is for content "+contentB) {
		t.Errorf("%q", conflict.Detail)
	}
}

// TestPreviewOfWebhook: the preview of a stored webhook is the body, with its type. It cannot be run by a browser, and where nothing would be sent it
// says so.
func TestPreviewOfWebhook(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(202, "POST", "/v1/events", start(sessionA)+finish(sessionA))
	for settings, want := range map[string]struct {
		status     int
		typ, is    string
		isContains bool
	}{
		`"transform":"\"<script>\"","content_type":"text/html"`:                     {200, "text/html", "<script>", false},
		`"transform":"{a: .session_id}"`:                                            {200, "application/json", `{"a":"` + sessionA + `"}`, false},
		`"transform":"{a: [1]}","content_type":"application/x-www-form-urlencoded"`: {200, "application/x-www-form-urlencoded", "a=1", false},
		`"filter":".leads != []"`:                                                   {409, "application/problem+json", "its filter gives nothing for this session", true},
		`"transform":".leads[0].email | ascii_downcase? // empty"`:                  {409, "application/problem+json", "its transform gives nothing for this session", true},
		`"transform":".leads[0].email | ascii_downcase"`:                            {409, "application/problem+json", "its transform fails", true},
	} {
		var w struct{ ID json.Number }
		f.wantJSON(&w, 201, "POST", "/v1/webhooks", `{"url":"https://example.com/",`+settings+`}`)
		rec := f.do("GET", "/v1/webhooks/"+w.ID.String()+"/preview?session_id="+sessionA, "")
		body := rec.Body.String()
		if rec.Code != want.status || rec.Header().Get("Content-Type") != want.typ || body != want.is && !(want.isContains && strings.Contains(body, want.is)) {
			t.Errorf("%s: %d %s %s", settings, rec.Code, rec.Header().Get("Content-Type"), body)
		}
		if rec.Code == 200 && (rec.Header().Get("Content-Security-Policy") != "sandbox; default-src 'none'" || rec.Header().Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s: %v", settings, rec.Header())
		}
	}
}

// TestPreviewLeavesNoTrace: previews are made while somebody types, so the audit does not tell them; and only those may make them who may save.
func TestPreviewLeavesNoTrace(t *testing.T) {
	f := newFixture(t, Config{AdminTokens: []string{"admin"}, ReadTokens: []string{"read"}})
	f.token = "read"
	wantProblem(t, f.do("POST", "/v1/preview", `{}`), http.StatusForbidden)
	f.token = "admin"
	f.want(200, "POST", "/v1/preview", `{"settings":{"headers":{"X-Key":"hidden-key"},"transform":"error(\"hidden-text\")"}}`)
	if got := f.log.String(); strings.Contains(got, "hidden") || strings.Contains(got, "audit") {
		t.Errorf("the log has %s", got)
	}
}
