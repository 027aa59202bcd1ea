package bench

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// subBits sets the precision: each power of two is divided into 2^(subBits-1) buckets. The middle of a bucket is within 0.8 % of every value
// in it.
const subBits = 7

// numBuckets is enough for every time.Duration.
const numBuckets = (64-subBits)<<(subBits-1) + 1<<subBits

// histogram counts durations in buckets whose width grows with the duration. It has a fixed size of 30 KB. Its methods may be called
// concurrently.
type histogram struct {
	buckets [numBuckets]atomic.Uint64
	max     atomic.Int64
}

// record counts a duration; a negative one counts as zero.
func (h *histogram) record(d time.Duration) {
	v := max(0, int64(d))
	h.buckets[bucketOf(uint64(v))].Add(1)
	for {
		most := h.max.Load()
		if v <= most || h.max.CompareAndSwap(most, v) {
			return
		}
	}
}

// bucketOf returns the bucket of a duration in nanoseconds. Small durations have a bucket each; others share one by their exponent and their
// first subBits bits.
func bucketOf(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits
	return shift<<(subBits-1) + int(v>>shift)
}

// middleOf returns the middle of a bucket, in nanoseconds.
func middleOf(bucket int) int64 {
	if bucket < 1<<subBits {
		return int64(bucket)
	}
	shift := bucket>>(subBits-1) - 1
	low := int64(bucket-shift<<(subBits-1)) << shift
	return low + int64(1)<<shift/2
}

// counts is a copy of a histogram.
type counts struct {
	buckets [numBuckets]uint64
	total   uint64
	max     time.Duration
}

// read returns a copy of the histogram.
func (h *histogram) read() *counts {
	c := &counts{max: time.Duration(h.max.Load())}
	for i := range h.buckets {
		n := h.buckets[i].Load()
		c.buckets[i] = n
		c.total += n
	}
	return c
}

// since returns the durations that were counted after an earlier reading. Its maximum is the middle of the highest bucket in use.
func (c *counts) since(earlier *counts) *counts {
	d := &counts{}
	for i := range c.buckets {
		if n := c.buckets[i] - earlier.buckets[i]; n > 0 {
			d.buckets[i] = n
			d.total += n
			d.max = min(c.max, time.Duration(middleOf(i)))
		}
	}
	return d
}

// percentile returns the duration that a share of all durations (such as 0.99) does not exceed; 0 if there are none.
func (c *counts) percentile(share float64) time.Duration {
	rank := uint64(math.Ceil(share * float64(c.total)))
	seen := uint64(0)
	for i, n := range c.buckets {
		if seen += n; n > 0 && seen >= rank {
			return min(c.max, time.Duration(middleOf(i)))
		}
	}
	return 0
}
