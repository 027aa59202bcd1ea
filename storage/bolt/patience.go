package bolt

import "time"

// A commit costs the CPU and the disk about the same for ten mutations as for one. Where many come each moment, though never many at once, the writer waits
// for some more before it commits.
const (
	// gatherWait is how long it waits: at half of full speed commits hold twice as many mutations then, and write little more than half as much for each.
	gatherWait = time.Millisecond
	// A batch of fewer than fewMutations has no company to wait for: its callers may be the only ones, and wait for the commit. One of
	// manyMutations gains little from more.
	fewMutations, manyMutations = 3, 24
	// A commit that takes less than quickCommit costs too little to wait for.
	quickCommit = gatherWait / 10
	// maxWaitSkip is how often the writer does not wait after waits that brought nothing: 2 to the power of this.
	maxWaitSkip = 6
)

// patience decides whether the writer waits for more mutations.
type patience struct {
	began     time.Time     // when the batch before was committed
	took      time.Duration // how long that took
	fruitless int           // waits in a row that brought nothing
	skip      int           // batches for which it does not wait
}

// waits reports whether a batch of n mutations, which have come since the commit before began, is to wait for more.
func (p *patience) waits(n int, now time.Time) bool {
	period := now.Sub(p.began)
	// As many come in the wait as have come in as much time before: one at least.
	if n < fewMutations || n >= manyMutations || p.took < quickCommit || int64(n)*int64(gatherWait) < int64(period) {
		return false
	}
	if p.skip > 0 {
		p.skip--
		return false
	}
	return true
}

// waited notes how many more have come. Callers that wait for the commit themselves, as many as there are, send nothing meanwhile.
func (p *patience) waited(more int) {
	if more > 1 {
		p.fruitless = 0
		return
	}
	p.skip = 1 << p.fruitless
	p.fruitless = min(p.fruitless+1, maxWaitSkip)
}
