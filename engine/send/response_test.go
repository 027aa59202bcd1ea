package send

import (
	"net/http"
	"testing"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		header string
		want   time.Duration
	}{
		{"1.5", 1500 * time.Millisecond},
		{"0.0004", time.Millisecond},
		{"99999999999999.5", 2147483647 * time.Second},
		{"1.", 0},
		{".5", 0},
		{"1.5.5", 0},
		{"1e3", 0},
		{"", 0},
		{"0", 0},
		{"120", 2 * time.Minute},
		{" 120\t", 2 * time.Minute},
		{"-5", 0},
		{"+5", 0},
		{"5s", 0},
		{"soon", 0},
		{"2147483647", 2147483647 * time.Second},
		{"99999999999999999999999", 2147483647 * time.Second}, // asks for long, so it is not forgotten
		{"Sun, 01 Mar 2026 12:01:00 GMT", time.Minute},
		{"Sunday, 01-Mar-26 12:01:00 GMT", time.Minute},
		{"Sun Mar  1 12:01:00 2026", time.Minute},
		{"Sun, 01 Mar 2026 11:59:00 GMT", 0},
		{"2026-03-01T12:01:00Z", 0}, // not HTTP's form
	}
	for _, tt := range tests {
		if got := parseRetryAfter(http.Header{"Retry-After": {tt.header}}, now); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.header, got, tt.want)
		}
	}
}

// A date is one of the endpoint's own clock, whatever the time is here.
func TestRetryAfterByItsOwnClock(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for date, want := range map[string]time.Duration{
		"Sun, 01 Mar 2026 13:00:00 GMT": time.Minute,
		"Sun, 01 Mar 2026 13:02:00 GMT": 0,
		"":                              time.Hour + time.Minute,
		"nonsense":                      time.Hour + time.Minute,
	} {
		h := http.Header{"Retry-After": {"Sun, 01 Mar 2026 13:01:00 GMT"}, "Date": {date}}
		if got := parseRetryAfter(h, now); got != want {
			t.Errorf("sent at %q: %s, want %s", date, got, want)
		}
	}
}
