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
	fleet := largeFleet()
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
		size := func() int {
			page, err := New(nil, func() bool { return false }, nil).show(view{Template: "overview", Title: "Overview", Nav: "/", Live: true, Data: d})
			if err != nil || page.Status != http.StatusOK {
				t.Fatal(page, err)
			}
			return len(page.body)
		}
		alone := size()
		d.Members, d.MoreMembers = membersOf(&fleet, time.Now())
		d.Unowned = 10_000
		// With a fleet, the bound holds for what is seen first; the day may have the rows of the members beyond it.
		if alone >= 100_000 || s == spans[0] && size() >= 100_000 || size()-alone >= 600*(maxMembersShown+2) {
			t.Errorf("the overview of %s has %d bytes, want fewer than 100,000; with %d members it has %d", s.Text, alone, maxMembersShown, size())
		}
	}
}

// largeFleet has 1,000 members with all that a row may have; the last one is away.
func largeFleet() (fleet engine.Fleet) {
	for range 1000 {
		fleet.Members = append(fleet.Members, engine.Member{ID: 1_000_000_000, Host: "hookbolt-7f9c6d5b84-x2x4z.production.example.com", Release: "v1.23.45-rc.1", State: engine.MemberWorking,
			JoinedAt: time.Now().Add(-99 * time.Hour), BeatAge: 7 * time.Second, Webhooks: 10_000, InFlight: 1_000_000, Keeper: len(fleet.Members) == 0})
	}
	fleet.Members[999].State = engine.MemberAway
	return fleet
}

// The overview lists so many members of a fleet, and those first that are away.
func TestMembersShown(t *testing.T) {
	fleet := largeFleet()
	rows, more := membersOf(&fleet, time.Now())
	if len(rows) != maxMembersShown || more != 1000-maxMembersShown || rows[0].State != engine.MemberAway || !rows[1].Keeper {
		t.Errorf("%d members are shown, %d are not, and the first ones are %+v, %+v", len(rows), more, rows[0], rows[1])
	}
	fleet.Members = fleet.Members[1000-maxMembersShown:]
	if rows, more := membersOf(&fleet, time.Now()); len(rows) != maxMembersShown || more != 0 || rows[0].State == engine.MemberAway {
		t.Errorf("of few members %d are shown, %d are not, and the first one is %s", len(rows), more, rows[0].State)
	}
	if rows, more := membersOf(nil, time.Now()); rows != nil || more != 0 {
		t.Error("a server on a file shows members")
	}
}
