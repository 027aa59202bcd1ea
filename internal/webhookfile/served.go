package webhookfile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"hookbolt/engine"
	"hookbolt/internal/client"
	"hookbolt/internal/text"
)

// servedWebhook is a webhook as the API shows it: without secrets; of credentials it shows only that they are set.
type servedWebhook struct {
	engine.Webhook
	// credentials has what the API shows of credentialSettings and partlySettings, by name.
	credentials map[string]json.RawMessage
}

// UnmarshalJSON reads an answer of the API. A setting that it lacks, because the server is older, has its default.
func (s *servedWebhook) UnmarshalJSON(answer []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(answer, &members); err != nil {
		return err
	}
	s.credentials = make(map[string]json.RawMessage)
	for _, setting := range slices.Concat(credentialSettings, partlySettings) {
		s.credentials[setting.Name] = members[setting.Name]
		delete(members, setting.Name)
	}
	s.Webhook = engine.DefaultWebhook()
	return json.Unmarshal(client.EncodeJSON(members), &s.Webhook)
}

// has tells which of credentialSettings and partlySettings are set.
func (s *servedWebhook) has(setting string) bool {
	switch string(s.credentials[setting]) {
	case "", "null", "{}":
		return false
	}
	return true
}

// names returns the caller's own names in a setting, such as those of headers, in order; nil for a setting that has none.
func (s *servedWebhook) names(setting string) []string {
	var names map[string]bool
	if len(engine.SettingNamed(setting).Parts) > 0 { // tls, whose members are hookbolt's
		return nil
	}
	if err := json.Unmarshal(s.credentials[setting], &names); err != nil {
		return nil // true
	}
	return slices.Sorted(maps.Keys(names))
}

// servedWebhooks lists a server's webhooks, except for the one for operational events, which belongs to its configuration.
func servedWebhooks(ctx context.Context, c *client.Client) ([]*servedWebhook, error) {
	all, err := client.List[*servedWebhook](ctx, c, "/v1/webhooks")
	return slices.DeleteFunc(all, func(s *servedWebhook) bool { return s.Operations }), err
}

// label names a webhook of the server, with its id: several may have the same name, or none.
func (s *servedWebhook) label() string { return fmt.Sprintf("%q (id %d)", s.Name, s.ID) }

// The settings by how apply and dump treat them, in the order in which they are printed. The name, which identifies a webhook, is in neither
// list, nor is the secret that signs.
var (
	// plainSettings are those that the API shows.
	plainSettings = settingsThat(func(s *engine.Setting) bool { return !s.Secret && s.Name != "name" })
	// credentialSettings are those that the API shows to be set. A file can keep the values of the server.
	credentialSettings = settingsThat(func(s *engine.Setting) bool { return s.Secret && !s.KeptByFile && !s.Partly })
	// partlySettings are those that the API shows without the secrets in them. A file can keep them, too.
	partlySettings = settingsThat(func(s *engine.Setting) bool { return s.Partly })
)

// shownMembers returns what answers show of a setting that is an object of hookbolt's own members, such as tls, as JSON, and whether that is all
// of it: whether none of its Parts is set, of which they tell no more. It is nil for other settings.
func shownMembers(setting *engine.Setting, shown json.RawMessage) (members json.RawMessage, all bool) {
	var object map[string]json.RawMessage
	if len(setting.Parts) == 0 || json.Unmarshal(shown, &object) != nil || object == nil {
		return nil, false
	}
	hasPart := slices.ContainsFunc(setting.Parts, func(part string) bool { return object[part] != nil })
	return client.EncodeJSON(object), !hasPart
}

// currentSecrets are the secrets that the API shows on request.
type currentSecrets struct {
	Secret          engine.Secret `json:"secret"`
	SignatureSecret string        `json:"signature_secret"` // "" without signature.header
}

// secretsOf returns the current secrets of a webhook.
func secretsOf(ctx context.Context, c *client.Client, id uint32) (now currentSecrets, err error) {
	err = c.Call(ctx, http.MethodGet, fmt.Sprintf("/v1/webhooks/%d/secret", id), nil, &now)
	return now, err
}

func settingsThat(fit func(*engine.Setting) bool) (list []*engine.Setting) {
	for i := range engine.Settings {
		if s := &engine.Settings[i]; fit(s) {
			list = append(list, s)
		}
	}
	return list
}

// shownValue is a webhook's value of a setting for people.
func shownValue(setting *engine.Setting, w *engine.Webhook) string {
	v, byDefault := string(setting.JSON(w)), engine.DefaultWebhook()
	if v == "[]" && v == string(setting.JSON(&byDefault)) { // [] is a value where the default is null
		return "not set"
	}
	return notSet(v)
}

// notSet is a JSON value for people.
func notSet(v string) string {
	if v == "null" {
		return "not set"
	}
	return text.OneLine(v)
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
