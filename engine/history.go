package engine

import (
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"
)

// historyMinutes is for how many minutes the history reaches back, the running one included: a day and one.
const historyMinutes = 24*60 + 1

// lagBounds are the upper ends of the buckets that lag is counted in, in seconds.
var lagBounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200}

// Interval is what happened in a span of time.
type Interval struct {
	// Start is the beginning of the span, in UTC.
	Start time.Time
	// Accepted counts events, as hookbolt_events_accepted_total does.
	Accepted int64
	// Delivered, Failed and Cancelled count the deliveries that reached that state, Retried the failed attempts after which a delivery
	// goes on.
	Delivered, Failed, Cancelled, Retried int64
	// Attempted counts first attempts. The lags are theirs, as hookbolt_delivery_lag_seconds has them: the median, the 99th percentile,
	// both within the resolution of its buckets, and the greatest. All are 0 where Attempted is.
	Attempted              int64
	LagP50, LagP99, LagMax time.Duration
}

// Recent is what a webhook's last attempts came to, since the engine was made.
type Recent struct {
	// AttemptedAt is when the last attempt ended, DeliveryID its delivery, Status and Error its outcome. Zero if there was none.
	AttemptedAt time.Time
	DeliveryID  uuid.UUID
	Status      int
	Error       ErrorClass
	// DeliveredAt is when the last successful one ended; zero if there was none.
	DeliveredAt time.Time
	// Lag is that of the first attempt that ended last, at LagAt, test deliveries' left out; zero if there was none.
	Lag   time.Duration
	LagAt time.Time
}

// history counts by the minute, in memory, what the metrics count for ever.
type history struct {
	mu      sync.Mutex
	since   time.Time              // guarded by mu, as all below
	last    int64                  // the running minute, when last somebody looked
	minutes [historyMinutes]minute // by Unix minute modulo the length
	recent  map[uint32]*Recent     // by webhook
}

// minute is what happened in a minute.
type minute struct {
	unix                                            int64 // which one it is; 0 for none
	accepted, delivered, failed, cancelled, retried int64
	lags                                            lagCounts
}

// lagCounts is a histogram over lagBounds and what lies beyond.
type lagCounts struct {
	counts  [len(lagBounds) + 1]uint32
	longest time.Duration
}

func newHistory() *history {
	return &history{since: utcNow(), recent: make(map[uint32]*Recent)}
}

// placeLocked is where a Unix minute is kept. Those before 1970 are asked for by a machine whose clock is not set yet.
func (h *history) placeLocked(unix int64) *minute {
	return &h.minutes[(unix%historyMinutes+historyMinutes)%historyMinutes]
}

// observeTimeLocked notes the time, which must have been read under the lock, and returns its Unix minute. What was counted under a clock that
// was ahead and has been set back since is dropped: it would come up as new when its time has come.
func (h *history) observeTimeLocked(now time.Time) (unix int64) {
	unix = now.Unix() / 60
	if unix < h.last {
		for i := range h.minutes {
			if h.minutes[i].unix > unix {
				h.minutes[i] = minute{}
			}
		}
	}
	h.last = unix
	if h.since.After(now) {
		h.since = now
	}
	return unix
}

// nowLocked returns the running minute.
func (h *history) nowLocked() *minute {
	unix := h.observeTimeLocked(utcNow())
	m := h.placeLocked(unix)
	if m.unix != unix {
		*m = minute{unix: unix}
	}
	return m
}

func (h *history) accepted(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nowLocked().accepted += int64(n)
}

// finished counts deliveries that have reached a final state.
func (h *history) finished(s Status, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch m := h.nowLocked(); s {
	case StatusDelivered:
		m.delivered += int64(n)
	case StatusFailed:
		m.failed += int64(n)
	case StatusCancelled:
		m.cancelled += int64(n)
	}
}

func (h *history) retried() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nowLocked().retried++
}

// attempted notes an attempt that has ended; lag is negative if it was not the delivery's first.
func (h *history) attempted(d *Delivery, a *Attempt, lag time.Duration) {
	now := utcNow()
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.recent[d.WebhookID]
	if r == nil {
		r = new(Recent)
		h.recent[d.WebhookID] = r
	}
	r.AttemptedAt, r.DeliveryID, r.Status, r.Error = now, d.ID, a.Status, a.Error
	if a.Delivered() {
		r.DeliveredAt = now
	}
	if lag >= 0 {
		if d.Kind != KindTest {
			r.Lag, r.LagAt = lag, now
		}
		l := &h.nowLocked().lags
		l.counts[sort.SearchFloat64s(lagBounds[:], lag.Seconds())]++
		l.longest = max(l.longest, lag)
	}
}

// forget drops what is known of a webhook.
func (h *history) forget(webhookID uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.recent, webhookID)
}

// intervalsLocked returns the last n spans of step, the running one last, and since when there is anything to tell.
func (h *history) intervalsLocked(now time.Time, step time.Duration, n int) ([]Interval, time.Time) {
	h.observeTimeLocked(now)
	list := make([]Interval, n)
	last := now.UTC().Truncate(step)
	for i := range list {
		in := &list[i]
		in.Start = last.Add(-time.Duration(n-1-i) * step)
		var lags lagCounts
		first := in.Start.Unix() / 60
		for unix := first; unix < first+int64(step/time.Minute); unix++ {
			m := h.placeLocked(unix)
			if m.unix != unix { // another day's, or nothing happened
				continue
			}
			in.Accepted += m.accepted
			in.Delivered += m.delivered
			in.Failed += m.failed
			in.Cancelled += m.cancelled
			in.Retried += m.retried
			lags.add(&m.lags)
		}
		in.Attempted = lags.total()
		in.LagP50, in.LagP99, in.LagMax = lags.quantile(.5), lags.quantile(.99), lags.longest
	}
	return list, h.since
}

func (l *lagCounts) add(other *lagCounts) {
	for i, n := range other.counts {
		l.counts[i] += n
	}
	l.longest = max(l.longest, other.longest)
}

func (l *lagCounts) total() int64 {
	sum := int64(0)
	for _, n := range l.counts {
		sum += int64(n)
	}
	return sum
}

// quantile returns the lag that a share q of all does not exceed, as if they were spread evenly within their bucket; 0 if there are none.
func (l *lagCounts) quantile(q float64) time.Duration {
	rank, below := q*float64(l.total()), 0.0
	for i, n := range l.counts {
		if n == 0 || below+float64(n) < rank {
			below += float64(n)
			continue
		}
		low, high := 0.0, l.longest.Seconds()
		if i > 0 {
			low = lagBounds[i-1]
		}
		if i < len(lagBounds) {
			high = min(high, lagBounds[i])
		}
		return min(time.Duration((low+(high-low)*(rank-below)/float64(n))*float64(time.Second)), l.longest) // a long one is rounded
	}
	return 0
}

// History returns the last n spans of step, oldest first, the last one still running. step is a whole number of minutes that a day has
// a whole number of, and n of them are a day at the most. What is counted is kept in memory only, since the time that is returned with it.
func (e *Engine) History(step time.Duration, n int) (intervals []Interval, since time.Time) {
	h := e.metrics.history
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.intervalsLocked(utcNow(), step, n)
}

// Recent tells what a webhook's last attempts came to.
func (e *Engine) Recent(webhookID uint32) Recent {
	h := e.metrics.history
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.recent[webhookID]; r != nil {
		return *r
	}
	return Recent{}
}
