package webhookfile

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"hookbolt/engine"
	"hookbolt/internal/client"
	"hookbolt/internal/text"
)

// servedWebhook is a webhook as the API shows it: without secrets; of credentials it shows only that they are set.
type servedWebhook struct {
	engine.Webhook
	Headers   map[string]bool `json:"headers"`
	BasicAuth *bool           `json:"basic_auth"`
	OAuth2    *bool           `json:"oauth2"`
}

// servedWebhooks lists a server's webhooks, except for the one for operational events, which belongs to its configuration.
func servedWebhooks(ctx context.Context, c *client.Client) ([]*servedWebhook, error) {
	all, err := client.List[*servedWebhook](ctx, c, "/v1/webhooks")
	return slices.DeleteFunc(all, func(s *servedWebhook) bool { return s.Operations }), err
}

// label names a webhook of the server, with its id: several may have the same name, or none.
func (s *servedWebhook) label() string { return fmt.Sprintf("%q (id %d)", s.Name, s.ID) }

// has tells which of credentialTables are set.
func (s *servedWebhook) has(setting string) bool {
	switch setting {
	case "headers":
		return len(s.Headers) > 0
	case "basic_auth":
		return s.BasicAuth != nil
	}
	return s.OAuth2 != nil
}

// plainSettings are the settings that the API shows, in the order in which they are printed, without the name, which identifies a webhook.
var plainSettings = []string{"url", "content_id", "active", "paused", "delay", "send_answers", "send_leads", "send_incomplete", "incomplete_delay",
	"timeout", "max_in_flight", "retry_schedule", "rate_limit", "allow_networks"}

// plainValues returns them by name, as JSON; null for what is not set.
func plainValues(w *engine.Webhook) map[string]json.RawMessage {
	all, values := make(map[string]json.RawMessage), make(map[string]json.RawMessage)
	if err := json.Unmarshal(client.EncodeJSON(w), &all); err != nil {
		panic(err) // it was just written
	}
	for _, name := range plainSettings {
		if values[name] = all[name]; values[name] == nil {
			values[name] = json.RawMessage("null")
		}
	}
	return values
}

// shownValue is a setting's value for people.
func shownValue(v json.RawMessage) string {
	if string(v) == "null" {
		return "not set"
	}
	return text.OneLine(string(v))
}

// costOfCancelling says how many deliveries wait for a webhook.
func costOfCancelling(ctx context.Context, c *client.Client, id uint32) (string, error) {
	var hook struct {
		Deliveries struct {
			Scheduled int64 `json:"scheduled"`
			Pending   int64 `json:"pending"`
		} `json:"deliveries"`
	}
	if err := c.Call(ctx, http.MethodGet, fmt.Sprintf("/v1/webhooks/%d", id), nil, &hook); err != nil {
		return "", err
	}
	switch n := hook.Deliveries.Scheduled + hook.Deliveries.Pending; n {
	case 0:
		return "nothing waits for it", nil
	case 1:
		return "1 delivery waits and is cancelled", nil
	default:
		return fmt.Sprintf("%d deliveries wait and are cancelled", n), nil
	}
}
