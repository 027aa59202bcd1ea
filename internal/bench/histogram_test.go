package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Percentiles are within 2 % of those of the sorted values, from nanoseconds to hours.
func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := &histogram{}
	var all []time.Duration
	for range 20_000 {
		d := time.Duration(math.Exp(random.Float64() * math.Log(float64(3*time.Hour))))
		h.record(d)
		all = append(all, d)
	}
	slices.Sort(all)
	c := h.read()
	for _, share := range []float64{0, .01, .25, .5, .9, .99, .999, 1} {
		want := all[max(0, int(math.Ceil(share*float64(len(all))))-1)]
		if got := c.percentile(share); math.Abs(float64(got-want)) > .02*float64(want) {
			t.Errorf("percentile %g: got %v, want %v", share, got, want)
		}
	}
	if c.max != all[len(all)-1] || c.percentile(1) > c.max {
		t.Errorf("maximum %v, want %v", c.max, all[len(all)-1])
	}
}

func TestHistogramEdges(t *testing.T) {
	h := &histogram{}
	if got := h.read().percentiles(); got != nil {
		t.Errorf("of nothing there are %v", got)
	}
	for _, d := range []time.Duration{-time.Second, 0, 1, 127, 128, 129, math.MaxInt64} {
		before := h.read()
		h.record(d)
		since := h.read().since(before)
		want := max(0, d)
		if got := since.percentile(.5); since.total != 1 || math.Abs(float64(got-want)) > .02*float64(want) {
			t.Errorf("%d came back as %d, of %d", d, got, since.total)
		}
	}
}

// What comes after a reading is told from what was before it.
func TestHistogramSince(t *testing.T) {
	h := &histogram{}
	for range 1000 {
		h.record(time.Hour)
	}
	before := h.read()
	h.record(time.Millisecond)
	h.record(3 * time.Millisecond)
	p := h.read().since(before).percentiles()
	if math.Abs(p.P50-1) > .02 || math.Abs(p.P99-3) > .06 || math.Abs(p.Max-3) > .06 {
		t.Errorf("got %+v, want 1 ms and 3 ms", p)
	}
}
