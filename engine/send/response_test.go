package send

import (
	"testing"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		header string
		want   time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"120", 2 * time.Minute},
		{" 120\t", 2 * time.Minute},
		{"-5", 0},
		{"+5", 0},
		{"1.5", 0},
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
		if got := parseRetryAfter(tt.header, now); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.header, got, tt.want)
		}
	}
}
