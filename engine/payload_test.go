package engine

import (
	"encoding/json"
	"testing"
	"time"
)

// Text goes out as it came: the same characters, with no escape but those that RFC 8259 demands.
func TestPayloadTextIsPlain(t *testing.T) {
	for text, want := range map[string]string{
		"a & b < c > d":                         `"a & b < c > d"`,
		"line\u2028paragraph\u2029end":          "\"line\u2028paragraph\u2029end\"",
		`the letters \u2028, not the character`: `"the letters \\u2028, not the character"`,
		"both \\\u2028":                         "\"both \\\\\u2028\"",
		"\" \\ / \b \n \x01":                    `"\" \\ / \b \n \u0001"`,
		"مرحبا 👋 é":                             `"مرحبا 👋 é"`,
		"\u202e\u202a":                          "\"\u202e\u202a\"",
	} {
		payload, err := Render(Session{Identity: Identity{CustomID: &text}}, &Webhook{}, KindIncomplete, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		var raw struct {
			CustomID json.RawMessage `json:"custom_id"`
		}
		var back struct {
			CustomID string `json:"custom_id"`
		}
		if err := json.Unmarshal(payload, &raw); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if err := json.Unmarshal(payload, &back); err != nil || back.CustomID != text {
			t.Errorf("%q came out as %q: %v", text, back.CustomID, err)
		}
		if string(raw.CustomID) != want {
			t.Errorf("%q was written %s, want %s", text, raw.CustomID, want)
		}
	}
}
