package engine

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// prefetch is how many deliveries of a lane may be claimed for each attempt that may be in flight. While one is sent, the next one is
// rendered and frozen, so that the endpoint does not wait for the disk.
const prefetch = 2

// lanes tracks which lanes may have work, how many of their deliveries may be claimed, and how many attempts may be in flight. Each lane
// may always have one attempt in flight, and prefetch claims. What exceeds that shares a global limit with the other lanes.
//
// A lane is in one place at a time:
//
//	idle     no delivery waits
//	timed    the next delivery is due, or may be sent, at wakeAt or later; in the heap
//	ready    a delivery is due: the next turn asks the store for it
//	asked    the store has been asked and has not answered yet
//	blocked  a delivery is due, but the claims have reached their limit, or the lane must not send
type lanes struct {
	limits   func(Lane) laneLimits // the limits of a lane's webhook; zero for a lane that another process owns
	maxExtra int                   // attempts at once, beyond the first of each lane
	// failingAfter is Config.FailingAfter; guarded by mu.
	failingAfter time.Duration
	wake         chan struct{} // capacity 1; sent to when there is something for the loop to do; received by Engine.loop

	mu               sync.Mutex
	byID             map[Lane]*lane       // guarded by mu, as all below
	timed            laneHeap             // lanes in place timed
	ready            []*lane              // lanes in place ready, in turn
	claims           map[uuid.UUID]*claim // by delivery
	turnstiles       map[turnstileKey]turnstile
	extraClaims      int                     // claims beyond the first prefetch of each lane
	extraSending     int                     // attempts in flight beyond the first of each lane
	waitingForGlobal []*lane                 // lanes that only the global limit keeps from sending, in turn
	order            uint64                  // the last Health.Order
	running          bool                    // Engine.loop runs and accepts arrivals
	arrived          []*claim                // claimed on arrival, for the loop to start
	calls            map[*claimCall]struct{} // running calls of the store that may return claims
	troubled         map[*lane]struct{}      // lanes that have a trouble, or had one lately
	open             map[uint32]bool         // cached by openWebhooks; nil when it is outdated. It is replaced, never changed
	openOf           *WebhookSet             // the webhooks that open was computed from
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
	wakeAt     time.Time // by the monotonic clock; for placeTimed; for placeAsked: the earliest time that wakeAtLocked got meanwhile, or zero
	heapIndex  int       // set by laneHeap
	claimed    int
	sending    int
	readyQueue []*claim  // claims that are not sent yet, in the order of the claims
	waiting    bool      // in waitingForGlobal
	progressAt time.Time // when an attempt last began or ended, or this process began to own the lane

	health   endpointHealth // of the webhook's endpoint; unused in a test lane
	nextSlot time.Time      // by the monotonic clock; the earliest time of the next attempt, if there is a rate limit
	// throttledSlot is nextSlot for a lane that its endpoint has slowed down.
	throttledSlot time.Time
	timer         *time.Timer // fires at nextSlot, if a delivery waits for it
	trouble       laneTrouble // of this machine, at the last attempt
	load                      // that the endpoint takes; unused in a test lane
	building                  // by the webhook's programs
	gone          bool        // the webhook was deleted: the lane is dropped when its last claim has ended
}

func newLanes(limits func(Lane) laneLimits, maxExtra int) *lanes {
	return &lanes{limits: limits, maxExtra: maxExtra, wake: make(chan struct{}, 1), byID: make(map[Lane]*lane),
		claims: make(map[uuid.UUID]*claim), turnstiles: make(map[turnstileKey]turnstile), calls: make(map[*claimCall]struct{}), troubled: make(map[*lane]struct{})}
}

// signal wakes the loop.
func (l *lanes) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// wakeAt makes the loop ask for the given lanes when their new deliveries are due.
func (l *lanes) wakeAt(queued ...Queued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range queued {
		l.wakeAtLocked(l.laneLocked(q.Lane), monotonic(q.At))
	}
}

// laneLocked returns a lane. It creates the lane if there is none.
func (l *lanes) laneLocked(id Lane) *lane {
	ln := l.byID[id]
	if ln == nil {
		ln = &lane{id: id, building: newBuilding()}
		if !id.Test {
			ln.load = newLoad()
		}
		l.byID[id] = ln
	}
	return ln
}

// wakeAtLocked is wakeAt for one lane, and an instant of the monotonic clock.
func (l *lanes) wakeAtLocked(ln *lane, at time.Time) {
	at = later(at, ln.startsAt())
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

// putTimedLocked puts a lane that is in no list into the heap.
func (l *lanes) putTimedLocked(ln *lane, at time.Time) {
	ln.place, ln.wakeAt = placeTimed, at
	heap.Push(&l.timed, ln)
	if ln.heapIndex == 0 {
		l.signal()
	}
}

// start lets deliveries be claimed on arrival.
func (l *lanes) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running, l.open = true, nil
}

// stop ends that. It returns the deliveries that were claimed on arrival and not started.
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

// openWebhooks returns the webhooks whose lanes send a due delivery as soon as there is room. The result is cached until something changes.
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
		limits, ln := l.limits(id), l.laneLocked(id)
		if limits.inFlight > 0 && limits.rate == 0 && !ln.health.Impedes() && ln.trouble.kind == "" {
			l.open[w.ID] = true
		}
	}
	return l.open
}

// configure applies a configuration. Attempts that are in flight continue.
func (l *lanes) configure(cfg *Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.maxExtra, l.failingAfter = cfg.MaxInFlight, cfg.FailingAfter
	l.signal()
}

// refresh applies the current limits to a webhook's lanes, after the webhook was changed or deleted; gone is true if it was deleted.
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
		if l.limitsLocked(ln, now).inFlight == 0 {
			l.releaseReadyLocked(ln)
		}
		l.clipSlotLocked(ln, now)
		if ln.timer != nil {
			ln.timer.Stop()
			ln.timer = nil
		}
		l.recheckLocked(ln)
		ln.gone = gone
		l.dropLocked(ln)
	}
}

// dropLocked drops the lane of a deleted webhook, unless it has claims or a call of the store may bring some. What is scheduled in it is
// cancelled by the store.
func (l *lanes) dropLocked(ln *lane) {
	if !ln.gone || ln.claimed > 0 || ln.place == placeAsked {
		return
	}
	switch ln.place {
	case placeTimed:
		heap.Remove(&l.timed, ln.heapIndex)
	case placeReady:
		l.ready = slices.DeleteFunc(l.ready, func(r *lane) bool { return r == ln })
	}
	if ln.waiting {
		l.waitingForGlobal = slices.DeleteFunc(l.waitingForGlobal, func(w *lane) bool { return w == ln })
	}
	delete(l.byID, ln.id)
	delete(l.troubled, ln)
}

// clockSet makes the loop ask for all lanes, because the wall clock was set: what waits for an instant of it may be due earlier or later.
func (l *lanes) clockSet() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.byID {
		switch ln.place {
		case placeTimed:
			l.recheckLocked(ln)
		case placeAsked:
			ln.wakeAt = time.Now()
		}
	}
}

// recheckLocked makes the loop check a lane, whatever the lane waits for.
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

// laneHeap is the heap of the timed lanes, the earliest first.
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
