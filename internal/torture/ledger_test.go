package torture

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// hook is a webhook of an experiment: its settings, and the path by which the receiver tells it from others.
type hook struct {
	path            string
	delay           int // seconds
	incomplete      bool
	incompleteDelay int // seconds
	answers, leads  bool
	// end is added to the path in its URL, and not to path. settings are further ones.
	end      string
	settings map[string]any
	// passes tells whether its filter lets a session through; nil if there is none.
	passes func(*session) bool
}

// key names a delivery by what it is about: there may be one for each webhook, session and kind.
type key struct {
	path     string
	session  uuid.UUID
	complete bool
}

// expectation is what the ledger knows of a delivery.
type expectation struct {
	// must tells that what leads to it was acknowledged. Until then it may come or not.
	must bool
	// facts are what its payload has to say, see factsOf; "" where several things would be right.
	facts   string
	arrived bool // it was answered with 2xx
	// excused tells that it need not come any more: the complete payload of its session has, which supersedes the incomplete one, or it was cancelled.
	excused bool
	lost    bool
	// ackedAt is when it became certain that it must come, seenAt when its first request was read; zero before.
	ackedAt, seenAt time.Time
}

// ledger is the strict account of what was sent and what was acknowledged. A request that is acknowledged makes deliveries due; one
// that was sent and not answered may or may not be stored.
type ledger struct {
	mu           sync.Mutex
	expected     map[key]*expectation
	owed         int // how many must arrive and have not
	lost         int // how many never will
	twice        int // sessions with more events than were sent
	acknowledged int // requests
	events       int // in them
	unanswered   int // requests that were sent and never answered
	sessions     map[uuid.UUID]*sent
	trouble      []string
}

// sent is how many events of a session were acknowledged, and how many were sent at all.
type sent struct {
	acknowledged, all int
	wrong             bool // it was complained about
}

func newLedger() *ledger {
	return &ledger{expected: make(map[key]*expectation), sessions: make(map[uuid.UUID]*sent)}
}

// request is one POST of events.
type request struct {
	body   string
	events int
	// repeatable tells that each event has an id: the request may be sent until it is answered.
	repeatable bool
	// expects are the deliveries that it leads to.
	expects map[key]expectation
	// sessions are how many events of each session it has.
	sessions map[uuid.UUID]int
	noted    bool // by ledger.sending
}

// sending notes that a request is about to leave: what it leads to may come from now on.
func (l *ledger) sending(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range r.expects {
		if l.expected[k] == nil {
			l.expected[k] = &expectation{facts: e.facts}
		}
	}
	if r.noted {
		return
	}
	r.noted = true
	for id, n := range r.sessions {
		if l.sessions[id] == nil {
			l.sessions[id] = &sent{}
		}
		l.sessions[id].all += n
	}
}

// acknowledge notes that a request was answered with 202 and the answer read whole.
func (l *ledger) acknowledge(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged++
	l.events += r.events
	for id, n := range r.sessions {
		l.sessions[id].acknowledged += n
	}
	for k, e := range r.expects {
		if have := l.expected[k]; e.must && !have.must {
			have.must, have.ackedAt = true, time.Now()
			if !have.arrived && !have.excused {
				l.owed++
			}
		}
	}
}

// abandon notes that a request was sent, not answered, and will not be sent again.
func (l *ledger) abandon(*request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unanswered++
}

// arrive notes that a delivery was answered with 2xx.
func (l *ledger) arrive(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.expected[k]; e != nil && !e.arrived {
		e.arrived = true
		if e.must && !e.excused {
			l.owed--
		}
	}
	if !k.complete {
		return
	}
	k.complete = false
	if e := l.expected[k]; e != nil && !e.arrived && !e.excused {
		e.excused = true
		if e.must {
			l.owed--
		}
	}
}

// excuse notes that a delivery need not come: it was cancelled.
func (l *ledger) excuse(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.expected[k]; e != nil && !e.arrived && !e.excused {
		e.excused = true
		if e.must {
			l.owed--
		}
	}
}

// complain notes what must not be.
func (l *ledger) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = append(l.trouble, fmt.Sprintf(format, args...))
}

// check holds the payload of a first request against what is expected of it. It returns "" if it is right.
func (l *ledger) check(k key, facts string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.expected[k]
	if e == nil {
		return fmt.Sprintf("%v: nobody has sent what could lead to it", k)
	}
	if e.seenAt = time.Now(); e.facts != "" && e.facts != facts {
		return fmt.Sprintf("%v: its payload has %s, want %s", k, facts, e.facts)
	}
	return ""
}

// owing is how many deliveries must arrive and have not.
func (l *ledger) owing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owed
}

// audit looks for everything that was acknowledged in what a database holds after a cut: it need not have arrived yet, but it must be
// there; unless it has arrived, and what has may be forgotten.
func (l *ledger) audit(stored map[key]bool, forgets bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.expected {
		if e.must && !stored[k] && !(forgets && e.arrived) {
			l.loseLocked(k, e, "is not stored after a cut")
		}
	}
}

// count holds the number of events that are stored of each session against those that were sent: no event may be there twice.
func (l *ledger) count(stored map[uuid.UUID]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, have := range stored {
		switch s := l.sessions[id]; {
		case s == nil || s.wrong:
		case have > s.all:
			s.wrong = true
			l.twice++
			l.trouble = append(l.trouble, fmt.Sprintf("session %s: %d events are stored, %d were sent", id, have, s.all))
		case have < s.acknowledged:
			s.wrong = true
			l.trouble = append(l.trouble, fmt.Sprintf("session %s: %d events are stored, %d were acknowledged", id, have, s.acknowledged))
		}
	}
	for id, s := range l.sessions {
		if _, is := stored[id]; !is && s.acknowledged > 0 && !s.wrong {
			s.wrong = true
			l.trouble = append(l.trouble, fmt.Sprintf("session %s: it is not stored, %d events were acknowledged", id, s.acknowledged))
		}
	}
}

// close ends the account: what must arrive and has not is lost.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.expected {
		if e.must && !e.arrived && !e.excused {
			l.loseLocked(k, e, "has not arrived")
		}
	}
}

func (l *ledger) loseLocked(k key, e *expectation, how string) {
	if !e.lost {
		e.lost = true
		l.lost++
		l.trouble = append(l.trouble, fmt.Sprintf("%v: was acknowledged, and %s", k, how))
	}
}

// losses is how many deliveries are lost, as far as it is known.
func (l *ledger) losses() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// due is how many deliveries must arrive, whether they have or not.
func (l *ledger) due() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.expected {
		if e.must {
			n++
		}
	}
	return n
}

// answered is how many requests were acknowledged.
func (l *ledger) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acknowledged
}

// total is how many events were acknowledged.
func (l *ledger) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events
}

// certain are the deliveries that must arrive, or have.
func (l *ledger) certain() []key {
	l.mu.Lock()
	defer l.mu.Unlock()
	var keys []key
	for k, e := range l.expected {
		if e.must {
			keys = append(keys, k)
		}
	}
	return keys
}

// any is a session that was acknowledged.
func (l *ledger) any() (session string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, e := range l.expected {
		if e.must {
			return k.session.String(), true
		}
	}
	return "", false
}
