package ui

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// TestFirstPageSize makes the largest first page that there can be, and holds it against the bound that we promise.
func TestFirstPageSize(t *testing.T) {
	for _, s := range spans {
		intervals := make([]engine.Interval, s.n)
		for i := range intervals {
			intervals[i] = engine.Interval{Start: time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * s.step),
				Accepted: 10_000_000, Delivered: 1_234_567, Retried: 1_234_567, Failed: 1_234_567, Cancelled: 1_234_567,
				Attempted: 1_234_567, LagP50: 123 * time.Millisecond, LagP99: 45 * time.Minute, LagMax: 25*time.Hour + 10*time.Minute}
		}
		d := overviewData{Webhooked: true, Spans: spans, Span: s, Outcomes: outcomeChart(intervals, s.step), Lag: lagChart(intervals, s.step), MoreAttention: 10_000}
		d.Full = errors.New("no room")
		for range maxAttention {
			d.Attention = append(d.Attention, attention{Name: "a name of as many letters as people give", State: "failing",
				Reasons: []string{"its last 1 234 567 attempts have failed, for 4 d 23 h; the next one comes in 5 min", "1 234 567 due, the oldest for 12 h 34 min", "1 234 567 deliveries have failed"}})
		}
		for range maxFailedShown {
			d.Failed = append(d.Failed, deliveryRow{Delivery: engine.Delivery{ID: uuid.New()}, Webhook: "a name of as many letters as people give", When: time.Now(), Outcome: "address refused"})
		}
		page, err := New(nil, func() bool { return false }, nil).show(view{Template: "overview", Title: "Overview", Nav: "/", Live: true, Data: d})
		if err != nil || page.Status != http.StatusOK {
			t.Fatal(page, err)
		}
		if len(page.body) >= 100_000 {
			t.Errorf("the overview of %s has %d bytes, want fewer than 100,000", s.Text, len(page.body))
		}
	}
}
