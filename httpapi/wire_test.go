package httpapi

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/httpapi/jsonobject"
)

// TestWebhookOnTheWire holds the answers that show a webhook to the byte: clients may rely on the order of the members. Settings that came later
// may stand between them.
func TestWebhookOnTheWire(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	content := uuid.MustParse("6caaa000-2bd8-4b28-8b9b-bfe1fca94f39")
	bare := engine.DefaultWebhook()
	bare.ID, bare.URL, bare.CreatedAt, bare.UpdatedAt = 1, "https://example.com/?a=1&b=<2>", at, at
	full := bare
	full.ID, full.ContentID, full.Name, full.Active, full.Paused, full.PauseReason = 2, &content, "<n>", false, true, "410 Gone"
	full.Delay, full.SendAnswers, full.SendLeads, full.SendIncomplete, full.IncompleteDelay = 1, false, false, true, 2
	full.Timeout, full.MaxInFlight, full.RateLimit = new(engine.Duration(5*time.Second)), new(7), new(0.5)
	full.HTTP2 = new(false)
	full.RetrySchedule = new([]engine.Duration{engine.Duration(time.Minute)})
	network, err := engine.ParseNetwork("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	full.AllowNetworks = append(full.AllowNetworks, network)
	full.Headers = map[string]engine.Header{"X-B": {Value: "b"}, "X-A": {Value: "a"}}
	full.BasicAuth, full.OAuth2 = &engine.BasicAuth{}, &engine.OAuth2{}
	const health = `"health":{"state":"ok","failures":0,"first_failed_at":null,"failing_since":null,"next_probe_at":null,"throttle":null},"previous_secrets":[],` +
		`"created_at":"2026-05-01T12:00:00Z","updated_at":"2026-05-01T12:00:00Z"`
	bareJSON := `"id":1,"url":"https://example.com/?a=1&b=<2>","content_id":null,"name":"","operations":false,"active":true,"paused":false,"pause_reason":null,"delay":10,` +
		`"send_answers":true,"send_leads":true,"send_incomplete":false,"incomplete_delay":60,"timeout":null,"max_in_flight":null,"retry_schedule":null,"rate_limit":null,"http2":true,"content_type":"application/json","filter":null,"transform":null,"url_values":null,` +
		`"allow_networks":[],"headers":{},"basic_auth":null,"oauth2":null,` + health
	for _, tt := range []struct {
		answer jsonobject.Object
		want   string
	}{
		{showWebhook(&bare, engine.Health{}), "{" + bareJSON + "}"},
		{showWebhook(&full, engine.Health{}), `{"id":2,"url":"https://example.com/?a=1&b=<2>","content_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","name":"<n>","operations":false,` +
			`"active":false,"paused":true,"pause_reason":"410 Gone","delay":1,"send_answers":false,"send_leads":false,"send_incomplete":true,"incomplete_delay":2,` +
			`"timeout":"5s","max_in_flight":7,"retry_schedule":["1m"],"rate_limit":0.5,"http2":false,"allow_networks":["10.0.0.0/8"],"headers":{"X-A":true,"X-B":true},` +
			`"basic_auth":true,"oauth2":true,` + health + "}"},
		{showPlatformHook(&bare), `{"id":1,"url":"https://example.com/?a=1&b=<2>","public_id":null,"name":"","is_active":true,"delay":10,"send_leads":true,"send_answers":true,` +
			`"account_wide":true,"incomplete_send":false,"incomplete_delay":60,"use_oauth":false,"oauth_login_endpoint":null,"oauth_request_body":null,` +
			`"oauth_request_headers":null,"created_at":"2026-05-01T12:00:00.000000Z","updated_at":"2026-05-01T12:00:00.000000Z"}`},
		{showPlatformHook(&full), `{"id":2,"url":"https://example.com/?a=1&b=<2>","public_id":"6caaa000-2bd8-4b28-8b9b-bfe1fca94f39","name":"<n>","is_active":false,"delay":1,` +
			`"send_leads":false,"send_answers":false,"account_wide":false,"incomplete_send":true,"incomplete_delay":2,"use_oauth":true,"oauth_login_endpoint":null,` +
			`"oauth_request_body":null,"oauth_request_headers":null,"created_at":"2026-05-01T12:00:00.000000Z","updated_at":"2026-05-01T12:00:00.000000Z"}`},
	} {
		body, _, err := encode(slices.DeleteFunc(tt.answer, func(m jsonobject.Member) bool {
			return engine.SettingNamed(m.Name) != nil && !strings.Contains(tt.want, `"`+m.Name+`":`)
		}))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSuffix(string(body), "\n"); got != tt.want {
			t.Errorf("\n got %s\nwant %s", got, tt.want)
		}
	}

	f := newFixture(t, Config{})
	f.want(201, "POST", "/v1/webhooks", `{"url":"https://example.com/"}`)
	for target, end := range map[string]string{
		"/v1/webhooks/1":        `,"deliveries":{"scheduled":0,"pending":0,"delivered":0,"failed":0,"cancelled":0,"filtered":0,"due":0,"oldest_due_at":null,"with_late_events":0,"parked":0},"replays":[],"client_certificate":null}`,
		"/v1/webhooks":          `Z"}],"next_cursor":null}`,
		"/v1/webhooks/1/secret": `","signature_secret":null}`,
	} {
		if got := strings.TrimSuffix(f.want(200, "GET", target, ""), "\n"); !strings.HasSuffix(got, end) {
			t.Errorf("%s ends with\n%s, want\n%s", target, got, end)
		}
	}
	for _, target := range []string{"/v1/webhooks", "/platform/hooks/web"} {
		if got := f.want(201, "POST", target, `{"url":"https://example.com/"}`); !strings.Contains(got, `Z","secret":"whsec_`) {
			t.Errorf("%s answers\n%s", target, got)
		}
	}
}
