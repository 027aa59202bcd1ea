package engine

import (
	"slices"
	"time"

	"hookbolt/engine/send"
)

// A trouble of this machine keeps attempts from being made: no descriptor is left, or the network is down (send.Trouble). It says nothing
// about an endpoint. The delivery keeps its place and its tries, and nothing of the attempt is stored: during an outage that would be a
// record for each delivery every few seconds. The lane waits, and then makes one attempt at a time until one is made. Each lane waits by
// itself, because one with open connections needs no descriptor.
const (
	minTroubleWait = time.Second
	maxTroubleWait = 30 * time.Second
	// troubleShownFor is how long a trouble is shown after the wait that it caused. A lane without due deliveries never learns of its end.
	troubleShownFor = 10 * time.Second
)

// laneTrouble is the trouble that a lane's last attempt met.
type laneTrouble struct {
	kind  Trouble       // "" for none
	wait  time.Duration // the last one; it doubles
	until time.Time     // when the next attempt may begin, by the monotonic clock
}

// met records a trouble at now. An attempt that began before the wait does not make it longer.
func (t *laneTrouble) met(kind Trouble, now time.Time) {
	t.kind = kind
	if now.Before(t.until) {
		return
	}
	t.wait = min(max(minTroubleWait, 2*t.wait), maxTroubleWait)
	t.until = now.Add(t.wait)
}

// observeTrouble makes the lane of a claim wait if its attempt met a trouble, and lets it send again if it met none. It logs a trouble at most
// once a minute: one may come and go with each attempt.
func (e *Engine) observeTrouble(c *claim, o *Outcome) {
	began, ended := e.lanes.observeTrouble(c.lane, o.Trouble)
	if o.Trouble != "" {
		e.metrics.unmade.WithLabelValues(string(o.Trouble)).Inc()
	}
	now := time.Now().UnixNano()
	switch last := e.troubleLogged.Load(); {
	case began && now-last >= int64(time.Minute) && e.troubleLogged.CompareAndSwap(last, now):
		e.troubleTold.Store(true)
		e.log.Error("attempts cannot be made: this machine has a trouble. Deliveries wait and use no try", "trouble", o.Trouble, "error", o.ErrorDetail)
	case ended && e.troubleTold.Swap(false):
		e.log.Info("attempts can be made again")
	}
}

// observeRun ends the trouble that kept the programs of a claim's webhook from being run. An attempt would end it, too, but of a session that is
// filtered there is none.
func (e *Engine) observeRun(c *claim) {
	if e.lanes.hasTrouble(c.lane, send.TroubleProcesses) {
		e.observeTrouble(c, &Outcome{})
	}
}

// hasTrouble reports whether the last attempt of a lane met that trouble.
func (l *lanes) hasTrouble(ln *lane, kind Trouble) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ln.trouble.kind == kind
}

// observeTrouble is Engine.observeTrouble for a lane. began reports that an attempt met a trouble, ended that no lane has one any more.
func (l *lanes) observeTrouble(ln *lane, kind Trouble) (began, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case kind != "":
		ln.trouble.met(kind, now)
		l.troubled[ln] = struct{}{}
		l.open = nil
		l.releaseReadyLocked(ln)
		return true, false
	case ln.trouble.kind == "" || now.Before(ln.trouble.until): // in the latter case the attempt began before the trouble
		return false, false
	}
	ln.trouble = laneTrouble{}
	delete(l.troubled, ln)
	l.open = nil
	l.recheckLocked(ln)
	return false, len(l.troubled) == 0
}

// troubles returns how many lanes wait because of each trouble.
func (l *lanes) troubles() map[Trouble]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, counts := time.Now(), make(map[Trouble]int)
	for ln := range l.troubled {
		if now.Sub(ln.trouble.until) > troubleShownFor {
			delete(l.troubled, ln)
			continue
		}
		counts[ln.trouble.kind]++
	}
	return counts
}

// Troubles returns the troubles of this machine that keep attempts from being made now; nil for none.
func (e *Engine) Troubles() []Trouble {
	counts := e.lanes.troubles()
	if len(counts) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(send.Troubles), func(t Trouble) bool { return counts[t] == 0 })
}
