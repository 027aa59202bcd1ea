package engine

import (
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"
)

// HistoryMinutes is how many minutes the history covers, the running one included: a day and one minute.
const HistoryMinutes = 24*60 + 1

// lagBounds are the upper bounds of the lag histogram's buckets, in seconds.
var lagBounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200}

// Interval counts what happened in a span of time.
type Interval struct {
	// Start is the beginning of the span, in UTC.
	Start time.Time
	// Accepted counts accepted events, as hookbolt_events_accepted_total does.
	Accepted int64
	// Delivered, Failed and Cancelled count the deliveries that reached that state. Retried counts the failed attempts that are followed by
	// another one.
	Delivered, Failed, Cancelled, Retried int64
	// Attempted counts first attempts. The lags are those of these attempts, as in hookbolt_delivery_lag_seconds: the median, the 99th
	// percentile, and the maximum. The first two are estimates within a bucket. All are 0 if Attempted is 0.
	Attempted              int64
	LagP50, LagP99, LagMax time.Duration
}

// Recent is the result of a webhook's last attempts, since the engine was created, or, where several processes share the store, since the webhook was.
type Recent struct {
	// AttemptedAt is when the last attempt ended, in UTC. DeliveryID is its delivery, Status and Error are its outcome. Zero if there was
	// none.
	AttemptedAt time.Time
	DeliveryID  uuid.UUID
	Status      int
	Error       ErrorClass
	// DeliveredAt is when the last successful attempt ended, in UTC; zero if there was none.
	DeliveredAt time.Time
	// Lag is the lag of the last first attempt, without tests; LagAt is when that attempt ended. Zero if there was none.
	Lag   time.Duration
	LagAt time.Time
}

// history counts by the minute, in memory, what the metrics count since the start. shared.go adds what other processes have counted.
type history struct {
	mu      sync.Mutex
	since   time.Time              // guarded by mu, as all below
	last    int64                  // the running minute at the last call
	minutes [HistoryMinutes]Minute // a ring, by Unix minute modulo its length
	recent  map[uint32]*Recent     // by webhook
	unkept  *unkeptCounts          // nil where one process has the store for itself
}

// Minute is what a process has counted in a minute. Its fields are those of Interval.
type Minute struct {
	// Unix is the minute, in minutes of Unix time; 0 for none.
	Unix                                            int64
	Accepted, Delivered, Failed, Cancelled, Retried int64
	Lags                                            LagCounts
}

// LagCounts is a histogram of lags by fixed bounds, with a last bucket for longer ones.
type LagCounts struct {
	Counts  [len(lagBounds) + 1]uint32
	Longest time.Duration
}

func newHistory() *history {
	return &history{since: utcNow(), recent: make(map[uint32]*Recent)}
}

// placeLocked returns the place of a Unix minute in the ring. The minute may be negative: the clock of a machine may not be set yet.
func (h *history) placeLocked(unix int64) *Minute {
	return &h.minutes[(unix%HistoryMinutes+HistoryMinutes)%HistoryMinutes]
}

// observeTimeLocked sets the history's time, which must have been read under the lock, and returns its Unix minute. If the clock has been
// set back, it drops the counts of later minutes: they would reappear when their time comes.
func (h *history) observeTimeLocked(now time.Time) (unix int64) {
	unix = now.Unix() / 60
	if unix < h.last {
		for i := range h.minutes {
			if h.minutes[i].Unix > unix {
				h.minutes[i] = Minute{}
			}
		}
	}
	h.last = unix
	if h.since.After(now) {
		h.since = now
	}
	return unix
}

// nowLocked returns the counts of the running minute.
func (h *history) nowLocked() *Minute {
	unix := h.observeTimeLocked(utcNow())
	m := h.placeLocked(unix)
	if m.Unix != unix {
		*m = Minute{Unix: unix}
	}
	if h.unkept != nil {
		h.unkept.minutes[unix] = true
	}
	return m
}

// accepted counts accepted events.
func (h *history) accepted(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nowLocked().Accepted += int64(n)
}

// finished counts deliveries that have reached a final state.
func (h *history) finished(s Status, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch m := h.nowLocked(); s {
	case StatusDelivered:
		m.Delivered += int64(n)
	case StatusFailed:
		m.Failed += int64(n)
	case StatusCancelled:
		m.Cancelled += int64(n)
	}
}

// retried counts a failed attempt that is followed by another one.
func (h *history) retried() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nowLocked().Retried++
}

// attempted counts an attempt that has ended. lag is negative if it was not the delivery's first.
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
	if h.unkept != nil {
		h.unkept.webhooks[d.WebhookID] = true
	}
	if a.Delivered() {
		r.DeliveredAt = now
	}
	if lag >= 0 {
		if d.Kind != KindTest {
			r.Lag, r.LagAt = lag, now
		}
		l := &h.nowLocked().Lags
		l.Counts[sort.SearchFloat64s(lagBounds[:], lag.Seconds())]++
		l.Longest = max(l.Longest, lag)
	}
}

// forget drops the last attempts of a webhook.
func (h *history) forget(webhookID uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.recent, webhookID)
}

// intervalsLocked returns the last n spans of length step, the running one last, and since when the history counts. others are what other processes have counted.
func (h *history) intervalsLocked(now time.Time, step time.Duration, n int, others []Minute) ([]Interval, time.Time) {
	h.observeTimeLocked(now)
	elsewhere := make(map[int64][]*Minute)
	for i := range others {
		elsewhere[others[i].Unix] = append(elsewhere[others[i].Unix], &others[i])
	}
	list := make([]Interval, n)
	last := now.UTC().Truncate(step)
	for i := range list {
		in := &list[i]
		in.Start = last.Add(-time.Duration(n-1-i) * step)
		var lags LagCounts
		first := in.Start.Unix() / 60
		for unix := first; unix < first+int64(step/time.Minute); unix++ {
			if m := h.placeLocked(unix); m.Unix == unix { // else its place has another minute, or none
				in.add(m, &lags)
			}
			for _, m := range elsewhere[unix] {
				in.add(m, &lags)
			}
		}
		in.Attempted = lags.total()
		in.LagP50, in.LagP99, in.LagMax = lags.quantile(.5), lags.quantile(.99), lags.Longest
	}
	return list, h.since
}

// add counts what happened in a minute of the interval.
func (in *Interval) add(m *Minute, lags *LagCounts) {
	in.Accepted += m.Accepted
	in.Delivered += m.Delivered
	in.Failed += m.Failed
	in.Cancelled += m.Cancelled
	in.Retried += m.Retried
	lags.add(&m.Lags)
}

func (l *LagCounts) add(other *LagCounts) {
	for i, n := range other.Counts {
		l.Counts[i] += n
	}
	l.Longest = max(l.Longest, other.Longest)
}

func (l *LagCounts) total() int64 {
	sum := int64(0)
	for _, n := range l.Counts {
		sum += int64(n)
	}
	return sum
}

// quantile returns the q-quantile of the lags, as if they were spread evenly within their bucket; 0 if there are none.
func (l *LagCounts) quantile(q float64) time.Duration {
	rank, below := q*float64(l.total()), 0.0
	for i, n := range l.Counts {
		if n == 0 || below+float64(n) < rank {
			below += float64(n)
			continue
		}
		low, high := 0.0, l.Longest.Seconds()
		if i > 0 {
			low = lagBounds[i-1]
		}
		if i < len(lagBounds) {
			high = min(high, lagBounds[i])
		}
		return min(time.Duration((low+(high-low)*(rank-below)/float64(n))*float64(time.Second)), l.Longest) // float64 rounds a long lag
	}
	return 0
}
