//go:build !race

package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
)

// limit returns a limit that the description has.
func limit(t *testing.T, where tree, keyword string) int {
	t.Helper()
	n, ok := where[keyword].(int)
	if !ok {
		t.Fatalf("%s is %v", keyword, where[keyword])
	}
	return n
}

// TestDescriptionHasTheLimits goes to each limit that the description gives a number for, which must be taken, and a step beyond, which must
// be refused.
func TestDescriptionHasTheLimits(t *testing.T) {
	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	setting := func(keys ...string) tree {
		return at(schema("WebhookChange"), append([]string{"properties"}, keys...)...)
	}
	patch := func(format string) func(int) (string, string, string) {
		return func(n int) (string, string, string) { return "PATCH", "/v1/webhooks/1", fmt.Sprintf(format, n) }
	}
	texts := func(format, unit string) func(int) (string, string, string) {
		return func(n int) (string, string, string) {
			return "PATCH", "/v1/webhooks/1", fmt.Sprintf(format, strings.Repeat(unit, n))
		}
	}
	lists := func(format, unit string) func(int) (string, string, string) {
		return func(n int) (string, string, string) {
			return "PATCH", "/v1/webhooks/1", fmt.Sprintf(format, strings.Join(slices.Repeat([]string{unit}, n), ","))
		}
	}
	names := func(n int) (string, string, string) {
		headers := make(map[string]string)
		for i := range n {
			headers[fmt.Sprintf("X-%d", i)] = "x"
		}
		return "PATCH", "/v1/webhooks/1", `{"headers":` + jsonOf(t, headers) + "}"
	}
	// Of a secret only every fourth length is the base64 of something; a step is as much.
	secret := func(n int) (string, string, string) {
		bytes := (n - len("whsec_")) / 4 * 3
		if n == limit(t, setting("secret"), "maxLength") { // two of its four characters are for one byte, and padding
			bytes -= 2
		}
		return "PATCH", "/v1/webhooks/1", `{"secret":"whsec_` + base64.StdEncoding.EncodeToString(make([]byte, bytes)) + `"}`
	}
	const oauth = `{"oauth2":{"token_url":"https://a.example/",`
	parameter := func(name string) tree { return at(described, "components", "parameters", name, "schema") }
	for _, c := range []struct {
		name    string
		where   tree
		keyword string
		step    int
		request func(n int) (method, target, body string)
	}{
		{"id", at(schema("EventFields"), "properties", "id"), "maxLength", 1, func(n int) (string, string, string) {
			return "POST", "/v1/events", strings.TrimSuffix(start(sessionA), "}") + `,"id":"` + strings.Repeat("x", n) + `"}`
		}},
		{"id", at(schema("EventFields"), "properties", "id"), "minLength", -1, func(n int) (string, string, string) {
			return "POST", "/v1/events", strings.TrimSuffix(start(sessionA), "}") + `,"id":"` + strings.Repeat("x", n) + `"}`
		}},
		{"answers", at(schema("VoteEvent"), "properties", "answers"), "minItems", -1, func(n int) (string, string, string) {
			return "POST", "/v1/events", start(sessionA) + `{"type":"vote","session_id":"` + sessionA + `","question_id":1,"answers":[` +
				strings.Join(slices.Repeat([]string{`{"answer_id":1}`}, n), ",") + `]}`
		}},
		{"url", setting("url"), "maxLength", 1, func(n int) (string, string, string) {
			const begin = "https://example.com/"
			return "PATCH", "/v1/webhooks/1", `{"url":"` + begin + strings.Repeat("x", n-len(begin)) + `"}`
		}},
		{"name", setting("name"), "maxLength", 1, texts(`{"name":"%s"}`, "ü")},
		{"delay", setting("delay"), "minimum", -1, patch(`{"delay":%d}`)},
		{"delay", setting("delay"), "maximum", 1, patch(`{"delay":%d}`)},
		{"incomplete_delay", setting("incomplete_delay"), "minimum", -1, patch(`{"incomplete_delay":%d}`)},
		{"incomplete_delay", setting("incomplete_delay"), "maximum", 1, patch(`{"incomplete_delay":%d}`)},
		{"max_in_flight", setting("max_in_flight"), "minimum", -1, patch(`{"max_in_flight":%d}`)},
		{"max_in_flight", setting("max_in_flight"), "maximum", 1, patch(`{"max_in_flight":%d}`)},
		{"rate_limit", setting("rate_limit"), "maximum", 1, patch(`{"rate_limit":%d}`)},
		{"retry_schedule", setting("retry_schedule"), "maxItems", 1, lists(`{"retry_schedule":[%s]}`, `"1s"`)},
		{"allow_networks", setting("allow_networks"), "maxItems", 1, lists(`{"allow_networks":[%s]}`, `"10.0.0.0/8"`)},
		{"headers", setting("headers"), "maxProperties", 1, names},
		{"a header", at(schema("EndpointHeaders"), "additionalProperties"), "maxLength", 1, texts(`{"headers":{"X-0":"%s"}}`, "x")},
		{"a header", at(schema("EndpointHeaders"), "additionalProperties"), "minLength", -1, texts(`{"headers":{"X-0":"%s"}}`, "x")},
		{"a header's value", at(schema("EndpointHeaders"), "additionalProperties", "properties", "value"), "maxLength", 1, texts(`{"headers":{"X-0":{"value":"%s","secret":true}}}`, "x")},
		{"username", setting("basic_auth", "properties", "username"), "maxLength", 1, texts(`{"headers":null,"basic_auth":{"username":"%s","password":""}}`, "x")},
		{"password", setting("basic_auth", "properties", "password"), "maxLength", 1, texts(`{"headers":null,"basic_auth":{"username":"","password":"%s"}}`, "x")},
		{"token_url", setting("oauth2", "properties", "token_url"), "maxLength", 1, func(n int) (string, string, string) {
			const begin = "https://example.com/"
			return "PATCH", "/v1/webhooks/1", `{"basic_auth":null,"oauth2":{"body":"x","token_url":"` + begin + strings.Repeat("x", n-len(begin)) + `"}}`
		}},
		{"client_id", setting("oauth2", "properties", "client_id"), "maxLength", 1, texts(oauth+`"client_secret":"x","client_id":"%s"}}`, "x")},
		{"client_secret", setting("oauth2", "properties", "client_secret"), "maxLength", 1, texts(oauth+`"client_id":"x","client_secret":"%s"}}`, "x")},
		{"scopes", setting("oauth2", "properties", "scopes"), "maxItems", 1, lists(oauth+`"client_id":"x","client_secret":"x","scopes":[%s]}}`, `"x"`)},
		{"a scope", setting("oauth2", "properties", "scopes", "items"), "maxLength", 1, texts(oauth+`"client_id":"x","client_secret":"x","scopes":["%s"]}}`, "x")},
		{"body", setting("oauth2", "properties", "body"), "maxLength", 1, texts(oauth+`"body":"%s"}}`, "x")},
		{"body", setting("oauth2", "properties", "body"), "minLength", -1, texts(oauth+`"body":"%s"}}`, "x")},
		{"a header of a token request", at(schema("Headers"), "additionalProperties"), "maxLength", 1, texts(`{"oauth2":{"token_url":"https://a.example/","body":"b","headers":{"X":"%s"}}}`, "x")},
		{"a header of a token request", at(schema("Headers"), "additionalProperties"), "minLength", -1, texts(`{"oauth2":{"token_url":"https://a.example/","body":"b","headers":{"X":"%s"}}}`, "x")},
		{"secret", setting("secret"), "minLength", -4, secret},
		{"secret", setting("secret"), "maxLength", 4, secret},
		{"limit", parameter("limit"), "minimum", -1, func(n int) (string, string, string) { return "GET", fmt.Sprint("/v1/deliveries?limit=", n), "" }},
		{"limit", parameter("limit"), "maximum", 1, func(n int) (string, string, string) { return "GET", fmt.Sprint("/v1/webhooks?limit=", n), "" }},
		{"page", parameter("page"), "minimum", -1, func(n int) (string, string, string) { return "GET", fmt.Sprint("/platform/hooks/web?page=", n), "" }},
		{"page", parameter("page"), "maximum", 1, func(n int) (string, string, string) { return "GET", fmt.Sprint("/platform/hooks/web?page=", n), "" }},
		{"per_page", parameter("perPage"), "minimum", -1, func(n int) (string, string, string) {
			return "GET", fmt.Sprint("/platform/hooks/web/1/logs?per_page=", n), ""
		}},
		{"per_page", parameter("perPage"), "maximum", 1, func(n int) (string, string, string) {
			return "GET", fmt.Sprint("/platform/hooks/web?per_page=", n), ""
		}},
	} {
		most := limit(t, c.where, c.keyword)
		if rec := f.do(c.request(most)); rec.Code >= 300 {
			t.Errorf("%s, %s %d: refused: %.300s", c.name, c.keyword, most, rec.Body)
		}
		if rec := f.do(c.request(most + c.step)); rec.Code != 400 && rec.Code != 422 {
			t.Errorf("%s, %d beyond %s %d: answered with %d: %.300s", c.name, c.step, c.keyword, most, rec.Code, rec.Body)
		}
	}
	if at := setting("rate_limit"); at["minimum"] != engine.MinRateLimit {
		t.Errorf("rate_limit is %v at least", at["minimum"])
	}
	many := wantProblem(t, f.do("POST", "/v1/events", strings.Repeat("{}", 1000)), 400)
	if got := limit(t, at(schema("Problem"), "properties", "errors"), "maxItems"); got != len(many.Errors) {
		t.Errorf("a problem has %d errors, described are %d at the most", len(many.Errors), got)
	}
	if got := limit(t, at(schema("WebhookPage"), "properties", "items"), "maxItems"); got != maxLimit {
		t.Errorf("a page has %d items at the most", got)
	}
}

// TestDescriptionHasTheDefaults makes webhooks with as little as there has to be, and compares what they have got with what is described.
func TestDescriptionHasTheDefaults(t *testing.T) {
	f := newFixture(t, Config{})
	for _, c := range []struct {
		name, target string
		without      []string // those that have no default
	}{
		{"NewWebhook", "/v1/webhooks", []string{"url", "secret"}},
		{"NewPlatformHook", "/platform/hooks/web", []string{"url", "public_id", "account_wide", "use_oauth", "oauth_login_endpoint", "oauth_request_body",
			"oauth_request_headers"}},
	} {
		var made map[string]any
		if err := json.Unmarshal([]byte(f.want(201, "POST", c.target, `{"url":"https://example.com/"}`)), &made); err != nil {
			t.Fatal(err)
		}
		// A change has no defaults: who leaves a setting out of it leaves it as it is.
		settings, _ := properties(schema(c.name))
		for name := range settings {
			preset, has := at(schema(c.name), "properties", name)["default"]
			if has == slices.Contains(c.without, name) {
				t.Errorf("%s of %s has a default: %t", name, c.name, has)
			}
			if got := jsonOf(t, made[name]); has && got != jsonOf(t, preset) {
				t.Errorf("%s of %s is %s, described is %v", name, c.name, got, preset)
			}
		}
	}
	for _, c := range []struct {
		name string
		want int
	}{{"limit", defaultLimit}, {"page", 1}, {"perPage", platformPerPage}} {
		if got := limit(t, at(described, "components", "parameters", c.name, "schema"), "default"); got != c.want {
			t.Errorf("%s is %d unless it is given, described is %d", c.name, c.want, got)
		}
	}
	var rotated rotatedWebhook
	f.wantJSON(&rotated, 200, "POST", "/v1/webhooks/1/rotate-secret", "")
	until, err := time.Parse(time.RFC3339, rotated.PreviousSecrets[0].SignsUntil)
	if err != nil {
		t.Fatal(err)
	}
	overlap, _ := at(schema("Rotation"), "properties", "overlap")["default"].(string)
	if got := time.Until(until).Round(time.Hour); overlap != engine.Duration(got).String() {
		t.Errorf("the overlap is %s, described is %s", got, overlap)
	}
	// What the configuration has instead of null is told in words.
	cfg := engine.DefaultConfig()
	for setting, want := range map[string]string{"timeout": engine.Duration(cfg.Timeout).String(), "max_in_flight": fmt.Sprint(cfg.WebhookMaxInFlight),
		"retry_schedule": strings.Trim(strings.ReplaceAll(fmt.Sprint(cfg.Retry.Schedule), " ", ", "), "[]")} {
		want = "by default " + want + "."
		if words, _ := at(schema("WebhookChange"), "properties", setting)["description"].(string); !strings.Contains(words, want) {
			t.Errorf("%s: %q is not in %q", setting, want, words)
		}
	}
}
