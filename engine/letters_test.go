package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestLetters: each system event becomes words for people, whatever its texts hold; what is unknown is shown as it is.
func TestLetters(t *testing.T) {
	at := time.Date(2026, 1, 15, 10, 0, 9, 5e8, time.UTC)
	id := uuid.MustParse("019bc0a5-3f1c-7d21-9c65-0a1b2c3d4e18")
	w := &Webhook{ID: 3, Name: "crm & co", PauseReason: "the endpoint answered 410 Gone at 2026-01-15T10:00:09Z", ContentID: new(uuid.MustParse("6caaa000-2bd8-4b28-8b9b-bfe1fca94f39"))}
	hostile := &Webhook{ID: 4, Name: "x\r\nBcc: y\u202e" + strings.Repeat("z", 100)}
	program := &Webhook{ID: 5, PauseReason: "its programs have failed for 5 deliveries in a row"}
	unbuilt := &Delivery{ID: id, LastError: ErrorTransform, BuildError: "transform, line 1, column 1: no", CreatedAt: at, Kind: KindComplete}
	d := &Delivery{ID: id, Attempts: 10, LastError: ErrorStatus, LastStatus: 503, CreatedAt: at, Kind: KindComplete}
	for _, tc := range []struct {
		payload []byte
		subject string
		has     []string
	}{
		{pausedNotice(w, pauseEndpointGone, at), "webhook 3 (crm & co) is paused", []string{"Reason: the endpoint answered 410 Gone", "Content: 6caaa000-2bd8-4b28-8b9b-bfe1fca94f39\n", "/webhooks/3"}},
		{pausedNotice(hostile, pauseByHand, at), "webhook 4 (x Bcc: y " + strings.Repeat("z", 51) + "…) is paused", []string{"Reason: paused by hand\nContent: all\n", "whoever has paused it"}},
		{pausedNotice(program, pauseProgram, at), "webhook 5 is paused", []string{"What to do: mend the program, then resume the webhook on its page, /webhooks/5, and replay there what has failed.\n"}},
		{SystemEventFailing.payload(at, failingData{describeWebhook(w), FormatTime(at), 312, ErrorTimeout, nil}), "webhook 3 (crm & co) is failing",
			[]string{"since 2026-01-15 10:00:09 UTC", "Failed attempts in a row: 312\nLast error: timeout\n"}},
		{SystemEventRecovered.payload(at, recoveredData{describeWebhook(w), FormatTime(at), 312}), "webhook 3 (crm & co) works again", []string{"since 2026-01-15 10:00:09 UTC", "Failed attempts: 312\n"}},
		{failedNotice(w, d, 0, at), "a delivery of webhook 3 (crm & co) has failed for good", []string{"Delivery: " + id.String() + "\nKind: complete\n", "Attempts: 10\nLast error: status 503 Service Unavailable\n", "/deliveries/" + id.String()}},
		{failedNotice(program, unbuilt, 0, at), "a delivery of webhook 5 has failed for good", []string{"a program of the webhook could not build its body.\n", "Attempts: 0\nLast error: transform\n", "What to do: see the program's error on the page"}},
		{failedNotice(w, d, 41, at), "42 deliveries of webhook 3 (crm & co) have failed for good", []string{"So have 41 others"}},
		{SystemEventDiskLow.payload(at, diskData{nil, new(int64(3 << 29)), 1 << 30, 1 << 33, 1 << 32, nil}), "room is running out", []string{"Free on the disk: 1.5 GiB\n", "(storage.min_free): 1.0 GiB\n", "Of that in use: 4.0 GiB\n\n"}},
		{SystemEventDiskLow.payload(at, diskData{new("the disk is full"), nil, 1 << 30, 1 << 33, 1 << 32, new(int64(1 << 34))}), "no room: events are refused", []string{"Events are refused: the disk is full\n", "(storage.max_bytes): 16.0 GiB\n"}},
		{SystemEventDiskOK.payload(at, diskData{nil, nil, 1 << 30, 1 << 33, 1 << 32, nil}), "there is room again", []string{"What to do: nothing."}},
		{testNotice(at), "a test", []string{"They arrive."}},
		{[]byte(`{"type":"a.new.one","timestamp":"2026-01-15T10:00:09.5Z","data":{}}`), "a.new.one", []string{`{"type":"a.new.one"`}},
		{[]byte(`{"type":"webhook.paused","timestamp":"2026-01-15T10:00:09.5Z","data":5}`), "webhook.paused", []string{`"data":5`}},
		{[]byte("no JSON"), "an operational event", []string{"no JSON"}},
	} {
		l := letterOf(tc.payload)
		if l.subject != tc.subject || !strings.HasSuffix(l.text, "\n") || strings.ContainsAny(l.text, "\r\u202e") {
			t.Errorf("%s: %q, %q", tc.payload, l.subject, l.text)
		}
		for _, part := range tc.has {
			if !strings.Contains(l.text, part) {
				t.Errorf("%s lacks %q:\n%s", tc.subject, part, l.text)
			}
		}
		if tc.subject != "an operational event" && !l.at.Equal(at) {
			t.Errorf("%s: %v", tc.subject, l.at)
		}
	}
}
