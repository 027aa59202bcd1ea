package ui

import (
	"fmt"
	"math"
	"strings"
	"time"

	"hookbolt/engine"
)

// The charts' plots are plotHeight units high and one unit wide for each interval; the page stretches them. Text is placed beside the
// plot, in percent of its size, so that text is not stretched.
const plotHeight = 100.0

// chart is what the part "chart" draws.
type chart struct {
	// Label describes the chart for screen readers.
	Label string
	// Width is the number of intervals.
	Width int
	Bars  []bar
	Grid  []gridLine
	Ticks []tick
}

// bar is the bar of an interval. Its parts are stacked.
type bar struct {
	X     int
	Title string
	Parts []barPart
}

type barPart struct {
	Class  string
	Y      float64 // of the upper end, from the top
	Height float64
}

// gridLine is a horizontal line of the plot. Percent is its place from the top.
type gridLine struct {
	Percent float64
	Text    string
}

// tick is a time below the plot. Percent is its place from the left.
type tick struct {
	Percent float64
	Text    string
}

// outcomes are the outcomes of deliveries and attempts in the first chart, from the bottom up.
var outcomes = []struct {
	Class, Text string
	count       func(*engine.Interval) int64
}{
	{"ok", "delivered", func(i *engine.Interval) int64 { return i.Delivered }},
	{"warn", "failed attempt, retried", func(i *engine.Interval) int64 { return i.Retried }},
	{"bad", "failed for good", func(i *engine.Interval) int64 { return i.Failed }},
	{"off", "cancelled", func(i *engine.Interval) int64 { return i.Cancelled }},
}

// outcomeChart shows the outcomes of deliveries a minute.
func outcomeChart(intervals []engine.Interval, step time.Duration) chart {
	minutes := step.Minutes()
	c := newChart(intervals, step)
	highest := 0.0
	for i := range intervals {
		sum := int64(0)
		for _, o := range outcomes {
			sum += o.count(&intervals[i])
		}
		highest = max(highest, float64(sum)/minutes)
	}
	top := niceTop(highest)
	for _, level := range []float64{top, top / 2} {
		c.Grid = append(c.Grid, gridLine{100 * (1 - level/top), fmt.Sprintf("%g/min", level)})
	}
	totals := make([]int64, len(outcomes))
	for i := range intervals {
		b := bar{X: i}
		y := plotHeight
		var words []string
		for n, o := range outcomes {
			count := o.count(&intervals[i])
			if count == 0 {
				continue
			}
			totals[n] += count
			height := max(float64(count)/minutes/top*plotHeight, 1) // at least visible
			y -= height
			b.Parts = append(b.Parts, barPart{o.Class, max(y, 0), height})
			words = append(words, thousands(count)+" "+o.Text)
		}
		if words != nil {
			b.Title = clock(intervals[i].Start) + ": " + strings.Join(words, ", ")
			c.Bars = append(c.Bars, b)
		}
	}
	var words []string
	for n, o := range outcomes {
		words = append(words, thousands(totals[n])+" "+o.Text)
	}
	c.Label = "Deliveries a minute, in all: " + strings.Join(words, ", ")
	return c
}

// Bounds of the lag's scale. It is logarithmic, so that both a millisecond and an hour are visible.
const (
	leastLag = time.Millisecond
	leastTop = 10 * time.Second
)

// lagLevels are the grid lines of the lag's scale.
var lagLevels = []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

// lagChart shows how late first attempts were: from the median to the 99th percentile, and the latest.
func lagChart(intervals []engine.Interval, step time.Duration) chart {
	c := newChart(intervals, step)
	top, latest := leastTop, time.Duration(0)
	for i := range intervals {
		latest = max(latest, intervals[i].LagMax)
	}
	for _, level := range lagLevels {
		if top < latest {
			top = max(top, level)
		}
	}
	top = max(top, latest)
	share := func(lag time.Duration) float64 {
		return math.Log(float64(max(lag, leastLag))/float64(leastLag)) / math.Log(float64(top)/float64(leastLag))
	}
	for _, level := range lagLevels {
		if level <= top {
			c.Grid = append(c.Grid, gridLine{100 * (1 - share(level)), roughly(level)})
		}
	}
	worst := time.Duration(0)
	for i := range intervals {
		in := &intervals[i]
		if in.Attempted == 0 {
			continue
		}
		worst = max(worst, in.LagP99)
		b := bar{X: i, Title: fmt.Sprintf("%s: %s first attempts, half of them within %s of being due, 99 %% within %s, all within %s",
			clock(in.Start), thousands(in.Attempted), roughly(in.LagP50), roughly(in.LagP99), roughly(in.LagMax))}
		from, to, end := share(in.LagP50), share(in.LagP99), share(in.LagMax)
		b.Parts = append(b.Parts, barPart{"info", (1 - to) * plotHeight, max((to-from)*plotHeight, 2)})
		if end-to > 0.02 {
			b.Parts = append(b.Parts, barPart{"warn", (1 - end) * plotHeight, 2})
		}
		c.Bars = append(c.Bars, b)
	}
	c.Label = "Lag of first attempts: none was made"
	if len(c.Bars) > 0 {
		c.Label = fmt.Sprintf("Lag of first attempts: the 99th percentile was %s at most, the latest %s", roughly(worst), roughly(latest))
	}
	return c
}

// newChart makes a chart with the times below the plot.
func newChart(intervals []engine.Interval, step time.Duration) chart {
	c := chart{Width: len(intervals)}
	every := 10 * time.Minute
	if step > time.Minute {
		every = 4 * time.Hour
	}
	for i := range intervals {
		// Leave out the ends, where text would be cut off.
		if at := intervals[i].Start; at.Truncate(every).Equal(at) && i > len(intervals)/20 && i < len(intervals)*19/20 {
			c.Ticks = append(c.Ticks, tick{100 * float64(i) / float64(len(intervals)), clock(at)})
		}
	}
	return c
}

// niceTop is a round number that is no less than the highest value.
func niceTop(highest float64) float64 {
	if highest <= 0 {
		return 10
	}
	for unit := math.Pow(10, math.Floor(math.Log10(highest))); ; unit *= 10 {
		for _, n := range []float64{1, 2, 3, 5} {
			if top := n * unit; top >= highest*1.05 {
				return top
			}
		}
	}
}

func clock(t time.Time) string { return t.UTC().Format("15:04") }
