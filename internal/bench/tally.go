package bench

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// tally is what was sent in a part of a run, such as its warm-up, and what came of it. Any number of goroutines may use it at once.
type tally struct {
	index int          // in the run; it travels in the sessions' custom_id
	next  atomic.Int64 // number of the next session

	sent     atomic.Int64 // sessions of requests that were begun
	accepted atomic.Int64 // sessions that were acknowledged
	owed     atomic.Int64 // those of them that the sink is to get
	arrived  atomic.Int64 // sessions whose delivery the sink has answered with 200
	repeated atomic.Int64 // deliveries that it had answered so already
	refused  atomic.Int64 // requests that got another answer than 202, or none
	unsent   atomic.Int64 // requests of a steady rate that were given up: the server was too far behind

	acknowledgement histogram // from the instant of a request to its answer
	lag             histogram // from due to arrival

	expected, seen bitset // by number: what the sink is to get, what it has got

	mu      sync.Mutex
	trouble error // why the first of the refused ones was; guarded by mu
}

// take returns the number of the first of n new sessions.
func (t *tally) take(n int) int64 {
	t.sent.Add(int64(n))
	return t.next.Add(int64(n)) - int64(n)
}

// arrive notes that the sink has got a session.
func (t *tally) arrive(number int64) {
	if t.seen.set(number) {
		t.arrived.Add(1)
	} else {
		t.repeated.Add(1)
	}
}

// refuse notes a request that failed.
func (t *tally) refuse(err error) {
	t.refused.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trouble == nil {
		t.trouble = err
	}
}

// firstTrouble tells why the first request that failed did; nil if none has.
func (t *tally) firstTrouble() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trouble
}

// missing counts the sessions that the sink is to get and has not got.
func (t *tally) missing() int64 { return t.expected.without(&t.seen) }

// waiting is about how many sessions are on their way: what has arrived may not be acknowledged yet.
func (t *tally) waiting() int64 { return max(0, t.owed.Load()-t.arrived.Load()) }

const (
	chunkBits = 1 << 20 // 128 KiB
	maxChunks = 4096    // for 4,294,967,296 sessions
)

type chunk [chunkBits / 64]atomic.Uint64

// bitset is a set of numbers from 0 on. It grows by chunks and takes a bit for each number.
type bitset struct {
	chunks [maxChunks]atomic.Pointer[chunk]
}

// set adds a number and tells whether it is new. One that no run can have reached is taken for a repeated one.
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

// without counts the numbers that are in b and not in other.
func (b *bitset) without(other *bitset) int64 {
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

// perSecond is a rate; 0 for no time at all.
func perSecond(n int64, span time.Duration) float64 {
	if span <= 0 {
		return 0
	}
	return float64(n) / span.Seconds()
}
