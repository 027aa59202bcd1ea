package engine

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// prefetch is how many deliveries of a lane may be claimed for each attempt that may be under way: while one is sent, the next
// one is built and frozen, so that an endpoint need not wait for the disk.
const prefetch = 2

// maxRoomsPerTurn bounds how many lanes are asked in one look at the store, and with it how long its read transaction lasts.
const maxRoomsPerTurn = 64

// lanes knows which lanes may have work, how much of it may be claimed, and how many attempts may be under way. The rule for
// both: each lane may always have one; what goes beyond the first of each shares a global limit.
//
// A lane is in one place at a time:
//
//	idle     nothing waits in it
//	timed    its next delivery is due, or may be sent, at next (a lower bound); in the heap
//	ready    something is due: to be asked in the next turn
//	asked    the store is being asked
//	blocked  something is due, but as much as may be is claimed, or the webhook is held
type lanes struct {
	limits   func(Lane) laneLimits // what the webhook allows
	maxExtra int                   // attempts at once, beyond the first of each lane
	wake     chan struct{}         // capacity 1; sent to by whoever makes a turn of the loop worthwhile, received by Engine.Run

	mu           sync.Mutex
	byID         map[Lane]*lane       // guarded by mu, as all below
	timed        laneHeap             // lanes in place timed
	ready        []*lane              // lanes in place ready, in turn
	claims       map[uuid.UUID]*claim // what is taken up
	extraClaims  int                  // claims beyond the first prefetch of each lane
	extraSending int                  // attempts under way beyond the first of each lane
	wantSend     []*lane              // lanes that could send but for the global limit, in turn
	running      bool                 // Engine.Run takes up arrivals
	arrived      []*claim             // claimed as they were stored, for the loop to take up
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
	id        Lane
	place     lanePlace
	next      time.Time // for placeTimed; for placeAsked: the earliest that was noted meanwhile, or zero
	heapIndex int       // owned by laneHeap
	claimed   int
	sending   int
	line      []*claim    // what is claimed and not sent yet, in the order of the claims
	inWant    bool        // in wantSend
	cancelled []uuid.UUID // for placeAsked: what was cancelled meanwhile

	health      Health      // of the webhook's endpoint; not for tests, which somebody waits for
	order       uint64      // the last Health.Order, or one that the store has refused
	forgetOrder uint64      // the last that forgetting has given out
	beat        time.Time   // with a rate limit: the earliest time of the next attempt
	timer       *time.Timer // goes off at beat, if something waits for it
}

// claim is a delivery that was taken from the store and not yet given back.
type claim struct {
	taken Taken
	// revision is the webhook's when the delivery was taken: a cancellation since then may cover it.
	revision uint64
	lane     *lane
	turn     chan bool // capacity 1; receives one value, from lanes, once ready: whether it may be sent

	ready     bool // it is frozen and waits in line for its turn; guarded by lanes.mu
	cancelled bool // it was cancelled since it was claimed; guarded by lanes.mu
	// beat is the lane's beat since its turn, if the lane has a rate limit; guarded by lanes.mu.
	beat  time.Time
	probe bool // it is sent to a failing endpoint; guarded by lanes.mu until its turn

	health Health // of the webhook's endpoint since the attempt; owned by the claim's goroutine, as notice is
	notice []byte // what the operator is to be told of it; nil for nothing
}

func newLanes(limits func(Lane) laneLimits, maxExtra int) *lanes {
	return &lanes{limits: limits, maxExtra: maxExtra, wake: make(chan struct{}, 1), byID: make(map[Lane]*lane), claims: make(map[uuid.UUID]*claim)}
}

func (l *lanes) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// note tells that something was put into lanes.
func (l *lanes) note(queued ...Queued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range queued {
		l.noteLocked(l.laneLocked(q.Lane), q.At)
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

func (l *lanes) noteLocked(ln *lane, at time.Time) {
	if ln.health.Failing() {
		at = later(at, ln.health.NextProbeAt)
	}
	switch ln.place {
	case placeIdle:
		l.putTimedLocked(ln, at)
	case placeTimed:
		if at.Before(ln.next) {
			ln.next = at
			heap.Fix(&l.timed, ln.heapIndex)
			if ln.heapIndex == 0 {
				l.signal()
			}
		}
	case placeAsked:
		if ln.next.IsZero() || at.Before(ln.next) {
			ln.next = at
		}
	}
}

func (l *lanes) putTimedLocked(ln *lane, at time.Time) {
	ln.place, ln.next = placeTimed, at
	heap.Push(&l.timed, ln)
	if ln.heapIndex == 0 {
		l.signal()
	}
}

// rooms returns the lanes to ask for what is due at now, and how much of each. Each is in place asked until took is called
// with the answer. Where there is none to ask, next is when there will be; zero means not before something is noted.
func (l *lanes) rooms(now time.Time) (rooms []LaneRoom, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.timed) > 0 && !l.timed[0].next.After(now) {
		ln := heap.Pop(&l.timed).(*lane)
		ln.place = placeReady
		l.ready = append(l.ready, ln)
	}
	global := prefetch*l.maxExtra - l.extraClaims
	share := 1
	if len(l.ready) > 0 {
		share = max(1, global/len(l.ready))
	}
	rest := l.ready[:0]
	for i, ln := range l.ready {
		if len(rooms) == maxRoomsPerTurn {
			rest = append(rest, l.ready[i:]...)
			break
		}
		room, again := l.roomLocked(ln, now)
		switch {
		case !again.IsZero():
			l.putTimedLocked(ln, again)
			continue
		case room <= 0:
			ln.place = placeBlocked
			continue
		}
		first := min(room, max(0, prefetch-ln.claimed))
		extra := max(0, min(room-first, share, global))
		if first+extra == 0 {
			rest = append(rest, ln) // only the global limit is in the way
			continue
		}
		global -= extra
		ln.place, ln.next = placeAsked, time.Time{}
		rooms = append(rooms, LaneRoom{ln.id, first + extra})
	}
	clear(l.ready[len(rest):])
	l.ready = rest
	if len(rooms) == 0 && len(l.timed) > 0 {
		next = l.timed[0].next
	}
	return rooms, next
}

// took takes note of the store's answer for rooms and returns the claims to work on. hooks are the webhooks as they were before
// the store was asked.
func (l *lanes) took(rooms []LaneRoom, takes []LaneTake, hooks *WebhookSet) []*claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	var claims []*claim
	for i, room := range rooms {
		ln, take := l.byID[room.Lane], takes[i]
		for _, t := range take.Taken {
			c := l.claimLocked(ln, t)
			c.cancelled = slices.Contains(ln.cancelled, t.Delivery.ID)
			if w := hooks.Get(ln.id.WebhookID); w != nil {
				c.revision = w.Revision
			}
			claims = append(claims, c)
		}
		ln.cancelled = nil
		noted := ln.next
		next := take.Next
		if next.IsZero() || !noted.IsZero() && noted.Before(next) {
			next = noted
		}
		switch {
		case len(take.Taken)+len(take.Damaged) == room.Room: // there may be more
			ln.place = placeReady
			l.ready = append(l.ready, ln)
		case next.IsZero():
			ln.place = placeIdle
		default:
			l.putTimedLocked(ln, next)
		}
	}
	return claims
}

// claimLocked puts what was taken from the store into its lane's line.
func (l *lanes) claimLocked(ln *lane, t Taken) *claim {
	c := &claim{taken: t, lane: ln, turn: make(chan bool, 1)}
	l.claims[t.Delivery.ID] = c
	if ln.claimed++; ln.claimed > prefetch {
		l.extraClaims++
	}
	ln.line = append(ln.line, c)
	return c
}

// open lets what is due on its arrival be taken up without a look at the store.
func (l *lanes) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = true
}

// close ends that, and returns what has arrived and was not taken up.
func (l *lanes) close() []Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running = false
	var left []Delivery
	for _, c := range l.arrived {
		left = append(left, c.taken.Delivery)
	}
	l.arrived = nil
	return left
}

// isOpen tells whether what is due in a lane is sent as soon as there is room.
func (l *lanes) isOpen(id Lane) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limits := l.limits(id)
	return l.running && limits.inFlight > 0 && limits.rate == 0 && !l.laneLocked(id).health.Failing()
}

// offer takes up a delivery that was claimed as it was stored; revision is that of its webhook then. It refuses what would overtake
// something that waits, and what there is no room for.
func (l *lanes) offer(t Taken, revision uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	ln := l.laneLocked(t.Delivery.Lane())
	waits := ln.place != placeIdle && (ln.place != placeTimed || !ln.next.After(now))
	if !l.running || waits || ln.claimed >= prefetch && l.extraClaims >= prefetch*l.maxExtra {
		return false
	}
	if room, _ := l.roomLocked(ln, now); room <= 0 {
		return false
	}
	c := l.claimLocked(ln, t)
	c.revision = revision
	l.arrived = append(l.arrived, c)
	l.signal()
	return true
}

// arrivals returns the claims that have arrived, to work on.
func (l *lanes) arrivals() []*claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	claims := l.arrived
	l.arrived = nil
	return claims
}

// end ends a claim. again is when the delivery is due once more, zero if it is not.
func (l *lanes) end(c *claim, again time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := c.lane
	l.leaveLocked(c)
	if l.claims[c.taken.Delivery.ID] == c { // the store may have given it out again already
		delete(l.claims, c.taken.Delivery.ID)
	}
	if ln.claimed--; ln.claimed >= prefetch {
		l.extraClaims--
	}
	switch {
	case ln.place == placeBlocked:
		ln.place = placeReady
		l.ready = append(l.ready, ln)
	case ln.place == placeTimed && l.limits(ln.id).rate > 0:
		l.lookLocked(ln) // it may not have been sent: its beat is another one's then
	}
	if !again.IsZero() {
		l.noteLocked(ln, again)
	}
	if len(l.ready) > 0 {
		l.signal()
	}
}

// acquire waits until it is the claim's turn to be sent: a lane sends in the order of its claims. False means that it is to be
// given back: ctx has ended, or the lane is held.
func (l *lanes) acquire(ctx context.Context, c *claim) bool {
	l.mu.Lock()
	if l.limitLocked(c.lane, time.Now()) == 0 {
		l.mu.Unlock()
		return false
	}
	c.ready = true
	l.advanceLocked(c.lane)
	l.mu.Unlock()
	select {
	case ok := <-c.turn:
		return ok
	case <-ctx.Done():
	}
	l.mu.Lock()
	left := l.leaveLocked(c)
	l.mu.Unlock()
	if !left && <-c.turn { // its turn came at the same moment
		l.release(c)
	}
	return false
}

// leaveLocked takes a claim out of the line, if it is still in it.
func (l *lanes) leaveLocked(c *claim) bool {
	at := slices.Index(c.lane.line, c)
	if at < 0 {
		return false
	}
	c.lane.line = slices.Delete(c.lane.line, at, at+1)
	l.advanceLocked(c.lane)
	return true
}

// release ends an attempt: another one may begin.
func (l *lanes) release(c *claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := c.lane
	if ln.sending--; ln.sending > 0 {
		l.extraSending--
	}
	l.advanceLocked(ln)
}

// advanceLocked lets the first in line of a lane be sent, if it is ready and the limits allow it. A lane that has nothing under
// way depends on nobody; the others take turns in what the global limit leaves.
func (l *lanes) advanceLocked(ln *lane) {
	if ln.sending == 0 {
		l.sendFirstLocked(ln)
	}
	l.wantLocked(ln)
	for len(l.wantSend) > 0 && l.extraSending < l.maxExtra {
		first := l.wantSend[0]
		l.wantSend = slices.Delete(l.wantSend, 0, 1)
		first.inWant = false
		l.sendFirstLocked(first)
		l.wantLocked(first)
	}
}

// wantLocked puts a lane in the queue for what the global limit leaves, if it could send one more.
func (l *lanes) wantLocked(ln *lane) {
	if !ln.inWant && l.maySendLocked(ln) {
		ln.inWant = true
		l.wantSend = append(l.wantSend, ln)
	}
}

func (l *lanes) sendFirstLocked(ln *lane) {
	if !l.maySendLocked(ln) {
		return
	}
	if rate := l.limits(ln.id).rate; rate > 0 {
		now := time.Now()
		if now.Sub(ln.beat) > rateSlack {
			ln.beat = now
		}
		ln.beat = ln.beat.Add(rateInterval(rate))
		ln.line[0].beat = ln.beat
	}
	c := ln.line[0]
	ln.line = slices.Delete(ln.line, 0, 1)
	if ln.sending++; ln.sending > 1 {
		l.extraSending++
	}
	// A test goes out at once, and tells as much of the endpoint as a probe.
	of := l.laneLocked(Lane{WebhookID: ln.id.WebhookID})
	c.probe = of.health.Failing()
	c.turn <- true
}

// cancel marks a delivery that is claimed as cancelled: unless its attempt is under way already, it is not sent.
func (l *lanes) cancel(id uuid.UUID, of Lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.claims[id]; c != nil {
		c.cancelled = true
	}
	if ln := l.byID[of]; ln != nil && ln.place == placeAsked {
		ln.cancelled = append(ln.cancelled, id) // the store may have answered already
	}
}

func (l *lanes) isCancelled(c *claim) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.cancelled
}

// setMaxExtra changes how many attempts may be under way beyond the first of each lane. Those that are go on.
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
	now := time.Now()
	for _, id := range []Lane{{webhookID, false}, {webhookID, true}} {
		ln := l.byID[id]
		if ln == nil {
			continue
		}
		if l.limitLocked(ln, now) == 0 {
			l.giveBackLocked(ln)
		}
		if rate := l.limits(id).rate; rate > 0 { // the beat is that of the rate before
			if next := now.Add(rateInterval(rate)); ln.beat.After(next) {
				ln.beat = next
			}
		}
		if ln.timer != nil {
			ln.timer.Stop()
			ln.timer = nil
		}
		l.lookLocked(ln)
		if gone && ln.claimed == 0 && ln.place == placeIdle {
			delete(l.byID, id)
		}
	}
}

// giveBackLocked gives back what waits in a lane's line: the lane is held, for now or for longer.
func (l *lanes) giveBackLocked(ln *lane) {
	ln.line = slices.DeleteFunc(ln.line, func(c *claim) bool {
		if c.ready {
			c.turn <- false
		}
		return c.ready
	})
}

// lookLocked makes the loop look at a lane, whatever it waits for.
func (l *lanes) lookLocked(ln *lane) {
	switch ln.place {
	case placeBlocked:
		ln.place = placeReady
		l.ready = append(l.ready, ln)
	case placeTimed:
		ln.next = time.Time{}
		heap.Fix(&l.timed, ln.heapIndex)
	}
	l.advanceLocked(ln)
	l.signal()
}

// inFlight is how many deliveries are claimed, by lane.
func (l *lanes) inFlight() map[Lane]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := make(map[Lane]int64)
	for _, c := range l.claims {
		n[c.lane.id]++
	}
	return n
}

// laneHeap is the timed lanes, the earliest first.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
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
