package engine

import (
	"container/heap"
	"sync"
	"time"

	"github.com/google/uuid"
)

// prefetch is how many deliveries of a lane may be claimed for each attempt that may be in flight: while one is sent, the next
// one is rendered and frozen, so that an endpoint need not wait for the disk.
const prefetch = 2

// lanes knows which lanes may have work, how much of it may be claimed, and how many attempts may be in flight. The rule for
// both: each lane may always have one; what goes beyond the first of each shares a global limit.
//
// A lane is in one place at a time:
//
//	idle     nothing waits in it
//	timed    its next delivery is due, or may be sent, at wakeAt (a lower bound); in the heap
//	ready    something is due: to be asked for in the next turn
//	asked    the store is being asked
//	blocked  something is due, but as much as may be is claimed, or the lane is held
type lanes struct {
	limits   func(Lane) laneLimits // what the webhook allows; none of a lane that another process owns
	maxExtra int                   // attempts at once, beyond the first of each lane
	wake     chan struct{}         // capacity 1; sent to by whoever makes a turn of the loop worthwhile, received by Engine.loop

	mu               sync.Mutex
	byID             map[Lane]*lane          // guarded by mu, as all below
	timed            laneHeap                // lanes in place timed
	ready            []*lane                 // lanes in place ready, in turn
	claims           map[uuid.UUID]*claim    // what is claimed
	extraClaims      int                     // claims beyond the first prefetch of each lane
	extraSending     int                     // attempts in flight beyond the first of each lane
	waitingForGlobal []*lane                 // lanes that could send but for the global limit, in turn
	order            uint64                  // the last Health.Order
	running          bool                    // Engine.loop takes up arrivals
	arrived          []*claim                // claimed as they were stored, for the loop to take up
	calls            map[*claimCall]struct{} // calls of the store that may return claims
	open             map[uint32]bool         // see openWebhooks; nil when it has to be made anew. It is replaced, never changed
	openOf           *WebhookSet             // the webhooks that open was made from
}

type lanePlace uint8

const (
	placeIdle lanePlace = iota
	placeTimed
	placeReady
	placeAsked
	placeBlocked
)

type lane struct {
	id         Lane
	place      lanePlace
	wakeAt     time.Time // for placeTimed; for placeAsked: the earliest that was named meanwhile, or zero
	heapIndex  int       // owned by laneHeap
	claimed    int
	sending    int
	readyQueue []*claim // what is claimed and not sent yet, in the order of the claims
	waiting    bool     // in waitingForGlobal

	health   endpointHealth // of the webhook's endpoint; not for tests, which somebody waits for
	nextSlot time.Time      // with a rate limit: the earliest time of the next attempt
	timer    *time.Timer    // goes off at nextSlot, if something waits for it
}

func newLanes(limits func(Lane) laneLimits, maxExtra int) *lanes {
	return &lanes{limits: limits, maxExtra: maxExtra, wake: make(chan struct{}, 1), byID: make(map[Lane]*lane),
		claims: make(map[uuid.UUID]*claim), calls: make(map[*claimCall]struct{})}
}

func (l *lanes) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// wakeAt has lanes looked at when what was put into them is due.
func (l *lanes) wakeAt(queued ...Queued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range queued {
		l.wakeAtLocked(l.laneLocked(q.Lane), q.At)
	}
}

// laneLocked returns a lane, a new one if there is none yet.
func (l *lanes) laneLocked(id Lane) *lane {
	ln := l.byID[id]
	if ln == nil {
		ln = &lane{id: id}
		l.byID[id] = ln
	}
	return ln
}

func (l *lanes) wakeAtLocked(ln *lane, at time.Time) {
	if ln.health.Failing() {
		at = later(at, ln.health.NextProbeAt)
	}
	switch ln.place {
	case placeIdle:
		l.putTimedLocked(ln, at)
	case placeTimed:
		if at.Before(ln.wakeAt) {
			ln.wakeAt = at
			heap.Fix(&l.timed, ln.heapIndex)
			if ln.heapIndex == 0 {
				l.signal()
			}
		}
	case placeAsked:
		if ln.wakeAt.IsZero() || at.Before(ln.wakeAt) {
			ln.wakeAt = at
		}
	}
}

func (l *lanes) putTimedLocked(ln *lane, at time.Time) {
	ln.place, ln.wakeAt = placeTimed, at
	heap.Push(&l.timed, ln)
	if ln.heapIndex == 0 {
		l.signal()
	}
}

// start lets what is due on its arrival be taken up without a look at the queue.
func (l *lanes) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running, l.open = true, nil
}

// stop ends that, and returns what has arrived and was not taken up.
func (l *lanes) stop() []Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running, l.open = false, nil
	var left []Delivery
	for _, c := range l.arrived {
		left = append(left, c.claimed.Delivery)
		l.endLocked(c)
	}
	l.arrived = nil
	return left
}

// openWebhooks returns the webhooks whose lanes send what is due as soon as there is room. It is made anew when something has changed.
func (l *lanes) openWebhooks(hooks *WebhookSet) map[uint32]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != nil && l.openOf == hooks {
		return l.open
	}
	l.open, l.openOf = make(map[uint32]bool), hooks
	if !l.running {
		return l.open
	}
	for _, w := range hooks.All() {
		id := Lane{WebhookID: w.ID}
		if limits := l.limits(id); limits.inFlight > 0 && limits.rate == 0 && !l.laneLocked(id).health.Failing() {
			l.open[w.ID] = true
		}
	}
	return l.open
}

// setMaxExtra changes how many attempts may be in flight beyond the first of each lane. Those that are go on.
func (l *lanes) setMaxExtra(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.maxExtra = n
	l.signal()
}

// refresh looks at the limits of a webhook's lanes anew, after it was changed, or removed: then gone is true.
func (l *lanes) refresh(webhookID uint32, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = nil
	now := time.Now()
	for _, id := range []Lane{{webhookID, false}, {webhookID, true}} {
		ln := l.byID[id]
		if ln == nil {
			continue
		}
		if l.limitLocked(ln, now) == 0 {
			l.releaseReadyLocked(ln)
		}
		l.clipSlotLocked(ln, now)
		if ln.timer != nil {
			ln.timer.Stop()
			ln.timer = nil
		}
		l.recheckLocked(ln)
		if gone && ln.claimed == 0 && ln.place == placeIdle {
			delete(l.byID, id)
		}
	}
}

// recheckLocked makes the loop look at a lane, whatever it waits for.
func (l *lanes) recheckLocked(ln *lane) {
	switch ln.place {
	case placeBlocked:
		ln.place = placeReady
		l.ready = append(l.ready, ln)
	case placeTimed:
		ln.wakeAt = time.Time{}
		heap.Fix(&l.timed, ln.heapIndex)
	}
	l.advanceLocked(ln)
	l.signal()
}

// laneHeap is the timed lanes, the earliest first.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].wakeAt.Before(h[j].wakeAt) }

func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

func (h *laneHeap) Push(x any) {
	ln := x.(*lane)
	ln.heapIndex = len(*h)
	*h = append(*h, ln)
}

func (h *laneHeap) Pop() any {
	last := len(*h) - 1
	ln := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return ln
}
