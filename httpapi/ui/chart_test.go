package ui

import (
	"strings"
	"testing"
	"time"

	"hookbolt/engine"
)

// hourOf makes an hour of which only some minutes have something.
func hourOf(some map[int]engine.Interval) []engine.Interval {
	list := make([]engine.Interval, 60)
	for i := range list {
		list[i] = some[i]
		list[i].Start = time.Date(2026, 11, 26, 10, 7+i, 0, 0, time.UTC)
	}
	return list
}

func TestOutcomeChart(t *testing.T) {
	c := outcomeChart(hourOf(map[int]engine.Interval{
		3:  {Delivered: 30, Failed: 10},
		59: {Delivered: 1, Retried: 2, Failed: 3, Cancelled: 4},
	}), time.Minute)
	if c.Width != 60 || len(c.Bars) != 2 {
		t.Fatalf("%d intervals, %d bars", c.Width, len(c.Bars))
	}
	first := c.Bars[0]
	if first.X != 3 || first.Title != "10:10: 30 delivered, 10 failed for good" {
		t.Errorf("first bar %+v", first)
	}
	// The scale ends at 50: parts are 60 and 20 high and stand upon each other.
	if want := []barPart{{"ok", 40, 60}, {"bad", 20, 20}}; len(first.Parts) != 2 || first.Parts[0] != want[0] || first.Parts[1] != want[1] {
		t.Errorf("parts %v, want %v", first.Parts, want)
	}
	if want := "Deliveries a minute, in all: 31 delivered, 2 failed attempt, retried, 13 failed for good, 4 cancelled"; c.Label != want {
		t.Errorf("label %q", c.Label)
	}
	if len(c.Grid) != 2 || c.Grid[0] != (gridLine{0, "50/min"}) || c.Grid[1] != (gridLine{50, "25/min"}) {
		t.Errorf("grid %v", c.Grid)
	}
	if len(c.Ticks) == 0 || !strings.HasSuffix(c.Ticks[0].Text, "0") {
		t.Errorf("ticks %v", c.Ticks)
	}
	if c := outcomeChart(hourOf(nil), time.Minute); len(c.Bars) != 0 || len(c.Grid) != 2 {
		t.Errorf("an hour with nothing: %+v", c)
	}
}

func TestLagChart(t *testing.T) {
	c := lagChart(hourOf(map[int]engine.Interval{
		0:  {Attempted: 100, LagP50: time.Millisecond, LagP99: 10 * time.Second, LagMax: 10 * time.Second},
		30: {Attempted: 1, LagP50: 100 * time.Millisecond, LagP99: 100 * time.Millisecond, LagMax: 100 * time.Millisecond},
		31: {Attempted: 1, LagMax: 0},
	}), time.Minute)
	if len(c.Bars) != 3 || c.Bars[0].Parts[0] != (barPart{"info", 0, 100}) || c.Bars[1].Parts[0] != (barPart{"info", 50, 2}) {
		t.Errorf("bars %+v", c.Bars)
	}
	if c.Grid[len(c.Grid)-1] != (gridLine{0, "10 s"}) {
		t.Errorf("grid %v", c.Grid)
	}
	if want := "Lag of first attempts: the 99th percentile was 10 s at most, the latest 10 s"; c.Label != want {
		t.Errorf("label %q", c.Label)
	}
	// The scale grows with what is on it, to a day and beyond.
	for _, latest := range []time.Duration{11 * time.Second, time.Hour, 100 * time.Hour} {
		c := lagChart(hourOf(map[int]engine.Interval{5: {Attempted: 1, LagP50: latest, LagP99: latest, LagMax: latest}}), time.Minute)
		if p := c.Bars[0].Parts[0]; p.Y < 0 || p.Y > 30 {
			t.Errorf("%v is drawn at %v", latest, p.Y)
		}
	}
}

func TestNiceTop(t *testing.T) {
	for highest, want := range map[float64]float64{0: 10, 0.1: 0.2, 0.9: 1, 1: 2, 2.5: 3, 4.9: 10, 5: 10, 40: 50, 999: 2000} {
		if got := niceTop(highest); got != want {
			t.Errorf("%v: got %v, want %v", highest, got, want)
		}
	}
}
