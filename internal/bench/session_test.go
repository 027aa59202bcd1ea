package bench

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestBody(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89_000, time.UTC)
	targets := []target{{newUUID(), true}, {newUUID(), true}, {newUUID(), true}}
	b := newBody(usualSession, 4, "0badcafe")
	b.fill(1, 2, targets, at.Add(-time.Hour)) // nothing of it is left
	b.fill(12, 123_456_789, targets, at)
	sessions := make(map[string]bool)
	lines := strings.Split(strings.TrimSpace(string(b.text)), "\n")
	if size := len(usualSession.text); len(lines) != 4*eventsPerSession || size < 900 || size > 1200 {
		t.Fatalf("%d lines, %d bytes a session", len(lines), size)
	}
	for i, line := range lines {
		var ev struct {
			Type      string
			SessionID string `json:"session_id"`
			Time      time.Time
			ContentID string `json:"content_id"`
			CustomID  string `json:"custom_id"`
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatal(err)
		}
		number := int64(123_456_789 + i/eventsPerSession)
		sessions[ev.SessionID] = true
		if !ev.Time.Equal(at) || len(sessions) != i/eventsPerSession+1 || len(ev.SessionID) != 36 || ev.SessionID[14] != '4' {
			t.Errorf("event %d is %+v", i, ev)
		}
		if ev.Type != "start" {
			continue
		}
		if want := targets[number%3].contentID; ev.ContentID != want {
			t.Errorf("content %s, want %s", ev.ContentID, want)
		}
		tally, got, ok := parseCustomID([]byte(ev.CustomID), "0badcafe")
		if tally != 12 || got != number || !ok {
			t.Errorf("%s was read as %d, %d, %v", ev.CustomID, tally, got, ok)
		}
	}
}

func TestParseCustomID(t *testing.T) {
	for _, id := range []string{"", "b0badcafe-000-000000000", "b0badcafe-000-00000000000", "bdeadbeef-000-0000000000", "b0badcafe-00x-0000000000",
		"b0badcafe-000-00000000 0", "b0badcafe+000-0000000000", "b0badcafe-000+0000000000", "c0badcafe-000-0000000000"} {
		if _, _, ok := parseCustomID([]byte(id), "0badcafe"); ok {
			t.Errorf("%q was taken for a session of the run", id)
		}
	}
}
