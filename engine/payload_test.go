package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"
)

// TestPayloadIsPossible: clocks that are wrong, and pages that count backwards, lead to no end before the start and to no negative span, in no
// payload. A span that the event gave passes unless it is negative.
func TestPayloadIsPossible(t *testing.T) {
	seconds := func(ms int) time.Time { return foldStart.Add(time.Duration(ms) * time.Millisecond) }
	for _, tt := range []struct {
		start, end int
		given      *int64
		wantEnd    int
		want       int64
	}{
		{0, 9500, nil, 9500, 9500},
		{0, 9500, new(int64(0)), 9500, 0},
		{0, 9500, new(int64(77)), 9500, 77},
		{0, 9500, new(int64(-1)), 9500, 9500},
		{8000, 5000, nil, 8000, 0},
		{8000, 5000, new(int64(-3000)), 8000, 0},
		{8000, 5000, new(int64(77)), 8000, 77},
		{5000, 5000, new(int64(math.MinInt64)), 5000, 0},
	} {
		s := Session{StartedAt: seconds(tt.start), FinishedAt: seconds(tt.end), EndedAt: seconds(tt.end), Result: &Result{ID: 1, TimeSpent: tt.given}}
		payload := renderForTest(t, s, &Webhook{}, KindComplete, foldStart)
		described, err := DescribeSession(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range [][]byte{payload, described} {
			checkSpans(t, text)
			for _, want := range []string{fmt.Sprintf(`"session_end_date":%q`, FormatTime(seconds(tt.wantEnd))), fmt.Sprintf(`"time_spent":%d,`, tt.want)} {
				if !bytes.Contains(text, []byte(want)) {
					t.Errorf("%+v: %s is not in %s", tt, want, text)
				}
			}
		}
		if given := s.Result.TimeSpent; given != tt.given {
			t.Error("the session was changed")
		}
		if text := renderForTest(t, s, &Webhook{}, KindIncomplete, foldStart); !bytes.Contains(text, []byte(`"session_end_date":null`)) {
			t.Errorf("incomplete: %s", text)
		}
	}
}

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
