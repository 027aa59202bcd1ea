package bench

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// tally counts the sessions of a part of a run, such as the warm-up, and their outcomes. Its methods may be called concurrently.
type tally struct {
	index int          // in the run; part of the sessions' custom_id
	next  atomic.Int64 // number of the next session

	sent     atomic.Int64 // sessions of requests that were started
	accepted atomic.Int64 // sessions that were acknowledged
	due      atomic.Int64 // accepted sessions that must arrive at the sink
	arrived  atomic.Int64 // sessions whose delivery the sink has answered with 200
	repeated atomic.Int64 // further deliveries of these sessions
	refused  atomic.Int64 // requests that got another status than 202, or no response
	unsent   atomic.Int64 // requests of a steady rate that were not sent, because the server was too slow

	acknowledgement histogram // from the scheduled send time of a request to its response
	lag             histogram // from due to arrival

	expected, seen bitset // numbers of the sessions that must arrive, and of those that have arrived

	mu      sync.Mutex
	refusal error // of the first refused request; guarded by mu
}

// reserve reserves the numbers of n new sessions, and returns the first one.
func (t *tally) reserve(n int) int64 {
	t.sent.Add(int64(n))
	return t.next.Add(int64(n)) - int64(n)
}

// arrive counts the arrival of a session at the sink.
func (t *tally) arrive(number int64) {
	if t.seen.set(number) {
		t.arrived.Add(1)
	} else {
		t.repeated.Add(1)
	}
}

// refuse counts a failed request.
func (t *tally) refuse(err error) {
	t.refused.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refusal == nil {
		t.refusal = err
	}
}

// firstError returns the error of the first failed request; nil if none has failed.
func (t *tally) firstError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refusal
}

// missing returns how many sessions that must arrive have not arrived.
func (t *tally) missing() int64 { return t.expected.countMissing(&t.seen) }

// waiting returns about how many accepted sessions have not arrived. It is not exact, because a session may arrive before it is
// acknowledged.
func (t *tally) waiting() int64 { return max(0, t.due.Load()-t.arrived.Load()) }

const (
	chunkBits = 1 << 20 // 128 KiB
	maxChunks = 4096    // for 4,294,967,296 sessions
)

type chunk [chunkBits / 64]atomic.Uint64

// bitset is a set of numbers from 0 on, with a bit for each number. It grows in chunks.
type bitset struct {
	chunks [maxChunks]atomic.Pointer[chunk]
}

// set adds a number and reports whether it is new. A number beyond maxChunks counts as repeated: no run reaches it.
func (b *bitset) set(number int64) bool {
	if number < 0 || number >= maxChunks*chunkBits {
		return false
	}
	slot := &b.chunks[number/chunkBits]
	c := slot.Load()
	if c == nil {
		slot.CompareAndSwap(nil, new(chunk))
		c = slot.Load()
	}
	bit := uint64(1) << (number % 64)
	return c[number%chunkBits/64].Or(bit)&bit == 0
}

// countMissing returns how many numbers of b are not in other.
func (b *bitset) countMissing(other *bitset) int64 {
	count := 0
	for i := range b.chunks {
		mine, theirs := b.chunks[i].Load(), other.chunks[i].Load()
		if mine == nil {
			continue
		}
		for w := range mine {
			word := mine[w].Load()
			if theirs != nil {
				word &^= theirs[w].Load()
			}
			count += bits.OnesCount64(word)
		}
	}
	return int64(count)
}

// perSecond returns a rate; 0 if span is not positive.
func perSecond(n int64, span time.Duration) float64 {
	if span <= 0 {
		return 0
	}
	return float64(n) / span.Seconds()
}
