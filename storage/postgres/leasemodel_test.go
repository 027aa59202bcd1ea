package postgres

import (
	"fmt"
	"strings"
)

// A model of the lease and the fence, for a search through all that can happen: see TestLeaseModel. Two processes, A and B, watch each other and compete for the
// lanes of one webhook. Each function names what it stands for. What the model leaves out: more than one lane and delivery, drains at the end of a process, folds.
//
// Time goes in beats. Between two beats anything may happen in any order. What goes wrong is counted: each fault takes one from modelState.faults.
//
//   - A poll, and a transaction, is done at once; a slow one is begun, carried out and answered in steps, or its answer is lost. A poll lasts pollTimeout at most.
//   - A clock loses one beat in a run at most. So of eight beats of one clock another one counts at least seven.
//   - A machine is suspended: its monotonic clock stands still, its attempt in flight may go on at the endpoint, and what it has sent may be carried out.
//   - A process is killed. Its partner may be on the same machine, and know.
//   - A process is cut off; the database is away; an engine hangs, and takes no news in.
//   - The standby stops receiving: it has the commits up to then. A failover without that loses nothing, as with a synchronous standby.
//
// Two primaries at the same time are not in it: whoever manages the failover has to see to that.

// leaseRules is how the protocol is carried out. Its zero values, with the constants, are what the code does; each other field breaks one rule.
type leaseRules struct {
	idle, cut, dead, barrier int8

	fromAnswer    bool // a lease counts from when a beat was answered, not from when it was begun
	heardAtBegin  bool // a watcher counts from when the poll was begun that has read a beat, not from when that was answered
	countsUnread  bool // a watcher counts while it cannot read
	oldBeat       bool // a takeover does not ask whether the beat was raised meanwhile
	noFence       bool // a transaction does not ask for its writer's row
	noLock        bool // the fence is looked at as a transaction begins, and not held: a takeover does not wait
	keepsClaims   bool // claims last over a join anew
	awakeOnly     bool // a lease counts by the monotonic clock alone
	awakeCut      bool // attempts are cut off after a time of the monotonic clock
	aloneNoCut    bool // a process that knows of no others cuts nothing off
	owesFromRead  bool // others are owed an acknowledgement from when the change was read, not from when it may have been made
	owesNothing   bool // who acknowledges nothing goes on beginning attempts
	freshless     bool // a barrier trusts a poll that was begun before it
	reusedIDs     bool // ids are from a sequence, which a failover sets back
	noSetBack     bool // nobody looks whether the last acknowledged batch is there
	skipsSilent   bool // a barrier does not wait for a member that has not beaten for three beats
	ignoresEnds   bool // a process that has ended on the same machine is watched as one of another machine
	foreignPID    bool // a process of another machine is taken for one that has ended here
	ignoresAnswer bool // a take without an answer is never asked about again
}

func theRules() leaseRules {
	return leaseRules{idle: idleAfter, cut: cutAfter, dead: deadAfter, barrier: deadAfter}
}

const (
	processes  = 2
	maxModelID = 6 // ids of members are from 1 on
	searchedID = 4 // the search itself ends with this one
	ageLimit   = 9 // the counters stop there
)

// phases of a poll and of a transaction.
const (
	none     = iota
	begun    // sent; of a transaction: it has its locks
	carried  // carried out, not answered
	rejected // of a transaction: it was rolled back, and the process does not know
)

// lives of a process.
const (
	runs = iota
	suspended
	killed
	unborn // it has not begun yet
)

// kinds of transactions.
const (
	record = iota
	take
	free
	change
)

// attempts.
const (
	inFlight = 1
	orphaned = 2 // the process was suspended meanwhile: endpoints check no fence
	ended    = 3 // its result waits to be recorded
)

// watched is what a process knows of a member.
type watched struct {
	known, dead bool
	heard       int8 // beats since its last new beat was read
	reads       int8 // how often it was read since (of the search, not of the code)
}

// proc is a process.
type proc struct {
	life              int8
	id                int8 // the member that it takes itself for; 0 for none
	age, awakeAge     int8 // beats since its last successful beat was begun, by the further clock and by the monotonic one
	linkDown, hung    bool
	slowed, isAlone   bool // its clock has lost a beat; it knows of no others
	polled            bool // in this beat
	poll, pollAge     int8
	raised, same      int8 // results of a poll: whether the own row was there; a bit for each id
	read, acks        int8 // the members that were there; those that had acknowledged the change
	readEpoch, beats  bool
	early             bool // the poll was begun before the barrier
	owns, giving      bool
	attempt           int8
	claimed           bool
	tx, kind, txAge   int8
	reconnects        bool
	saw               int8 // of the change: 1 it was read, 2 the engine has it
	owes              int8
	waits, waited     bool // in the barrier; the barrier has returned
	wait              int8
	sinceRead, unread int8 // beats since the last poll that was answered was begun, by the monotonic clock and by the further one
	later, lacks      int8 // members that have beaten since the poll was carried out; those whose beat the standby lacked then
	of                [maxModelID + 1]watched
}

// db is what is stored.
type db struct {
	present, seen int8 // members, and those that have acknowledged the change: a bit for each id
	owner         int8
	epoch         bool
	acked, pend   int8                 // the last batch that a process knows of is there; so is the one that it does not know of. A bit for each process
	fresh         [processes]int8      // whose beat was raised since a process has read it
	of            [maxModelID + 1]int8 // whose member an id is, counted from 1
	next          int8
}

// modelState is a state of all.
type modelState struct {
	p       [processes]proc
	db      db
	standby db // what the standby has, if it receives nothing any more
	behind  int8
	stalled bool
	away    bool
	lossy   bool // a failover has lost commits: attempts may be made twice
	faults  int8
	gives   int8
	next    int8 // the next id, where ids are never used twice
	changed bool
	oneHost bool // A and B are on the same machine
}

func bit(n int8) int8 { return 1 << n }

func newModelState(faults int8) modelState {
	s := modelState{faults: faults, gives: 1, next: 3}
	for i := range s.p {
		id := int8(i + 1)
		s.p[i] = proc{id: id}
		s.p[i].of[2-i] = watched{known: true}
		s.db.present |= bit(id)
		s.db.of[id] = id
		s.db.acked |= bit(int8(i))
	}
	s.p[0].owns, s.db.owner, s.db.next = true, 1, 3
	return s
}

// alive is fleet.alive.
func (r *leaseRules) alive(p *proc) bool {
	age, owes := p.age, p.owes
	if r.awakeOnly {
		age = p.awakeAge
	}
	if r.owesNothing || p.saw != 1 {
		owes = 0
	}
	return p.id != 0 && max(age, owes) < r.idle
}

func (p *proc) isSending() bool { return p.attempt == inFlight || p.attempt == orphaned }

func (s *modelState) reaches(p *proc) bool { return !s.away && !p.linkDown }

// lose is fleet.lose: the writer has found its row missing.
func (r *leaseRules) lose(s *modelState, i int) {
	p := &s.p[i]
	if r.keepsClaims {
		p.owns = false
	} else {
		p.owns, p.claimed, p.attempt = false, false, none
	}
	p.id, p.giving, p.tx, p.reconnects, p.age, p.awakeAge = 0, false, none, false, r.dead, r.dead
}

// join is fleet.join. It returns false if no id is left for the search.
func (r *leaseRules) join(s *modelState, i int, most int8) bool {
	p := &s.p[i]
	id := s.next
	if r.reusedIDs {
		id = s.db.next
	}
	if id > most {
		return false
	}
	s.next = max(s.next, id+1)
	s.db.next = id + 1
	s.db.present |= bit(id)
	s.db.of[id] = int8(i + 1)
	s.db.seen &^= bit(id)
	s.db.acked |= bit(int8(i))
	s.db.pend &^= bit(int8(i))
	for w := range s.db.fresh {
		s.db.fresh[w] |= bit(id)
	}
	p.id, p.age, p.awakeAge, p.reconnects, p.isAlone, p.owes, p.saw = id, 0, 0, false, true, 0, 0
	if s.db.epoch {
		p.saw = 2
		s.db.seen |= bit(id)
	}
	p.of, p.sinceRead = [maxModelID + 1]watched{}, 0
	p.unread = 0
	return true
}

// fenced is the first trip of a transaction, see batch.load: the writer's row is not there.
func (r *leaseRules) fenced(s *modelState, p *proc) bool {
	return !r.noFence && s.db.present&bit(p.id) == 0
}

// isSetBack is Store.isSetBack. Where the id is another process's by now, that one has a batch with this number as well.
func (r *leaseRules) isSetBack(s *modelState, i int) bool {
	p := &s.p[i]
	return !r.noSetBack && s.db.acked&bit(int8(i)) == 0 && s.db.of[p.id] == int8(i+1) && s.db.present&bit(p.id) != 0
}

// violation is a rule that does not hold; "" for none.
type violation string

const (
	twoAttempts     violation = "two attempts at the same time"
	notOwnerBegins  violation = "an attempt begins that is not the owner's"
	afterReturn     violation = "an attempt begins for a webhook as it was, after the change has returned"
	notOwnerRecords violation = "an attempt is recorded by a process that does not own the lanes"
	notWatched      violation = "a process is taken over that nobody has watched for long enough"
	lateCut         violation = "an attempt is in flight after it had to be cut off"
	noOwner         violation = "the lanes have no owner that sends, for ever"
)

// begin is the check before an attempt: Store.Mine.
func (r *leaseRules) begin(s *modelState, i int) violation {
	p, other := &s.p[i], &s.p[1-i]
	p.attempt, p.claimed = inFlight, true
	switch {
	case s.lossy:
	case other.attempt == inFlight:
		return twoAttempts
	case s.db.owner != p.id:
		return notOwnerBegins
	case other.waited && p.saw < 2:
		return afterReturn
	}
	return ""
}

// commit is the end of a transaction: batch.flush.
func (r *leaseRules) commit(s *modelState, i int) (v violation) {
	p := &s.p[i]
	me := bit(int8(i))
	p.tx = carried
	switch p.kind {
	case record:
		if s.db.owner != p.id || s.db.of[p.id] != int8(i+1) {
			v = notOwnerRecords
		}
	case take:
		if s.db.owner != 0 && s.db.owner != p.id {
			p.tx = rejected
			return ""
		}
		s.db.owner = p.id
	case free:
		if s.db.owner == p.id {
			s.db.owner = 0
		}
	case change:
		s.db.epoch = true
	}
	s.db.pend |= me
	return v
}

// settled is what a process does once it knows that its transaction was committed: batch.publish.
func (r *leaseRules) settled(s *modelState, i int) {
	p, me := &s.p[i], bit(int8(i))
	for _, d := range []*db{&s.db, &s.standby} {
		if d.pend&me != 0 {
			d.acked |= me
		} else {
			d.acked &^= me
		}
		d.pend &^= me
	}
	p.tx = none
	switch p.kind {
	case record:
		p.attempt, p.claimed = none, false
	case take:
		p.owns = true
	case free:
		p.giving = false
	case change:
		p.saw, p.waits, p.wait, p.early = 2, true, 0, p.poll != none
	}
	if !s.stalled {
		s.standby = db{}
	}
}

// abandon ends a transaction that was not carried out.
func (p *proc) abandon() { p.tx, p.txAge = none, 0 }

// readRows is the round trip of a poll at the server: poller.poll and fleet.queuePoll.
func (r *leaseRules) readRows(s *modelState, i int) {
	p := &s.p[i]
	p.poll, p.raised = carried, 0
	if mine := s.db.present & bit(p.id); mine != 0 && p.beats {
		p.raised = 1
		for w := range s.db.fresh {
			if w != i {
				s.db.fresh[w] |= bit(p.id)
				s.p[w].later |= bit(p.id)
			}
		}
		if s.stalled {
			s.behind |= bit(p.id)
		}
		if p.saw == 2 {
			s.db.seen |= bit(p.id)
		}
	} else if mine != 0 {
		p.raised = 2
	}
	others := s.db.present &^ bit(p.id)
	p.read, p.same, p.acks, p.readEpoch = others, others&^s.db.fresh[i], s.db.seen, s.db.epoch
	p.later, p.lacks = 0, s.behind&others
}

// answered is the end of a poll: the beat counts from when it was begun; then fleet.note.
func (r *leaseRules) answered(s *modelState, i int) {
	p := &s.p[i]
	p.poll = none
	if p.raised == 0 {
		return // it was taken for dead; the writer finds that out
	}
	if p.raised == 1 {
		p.age = p.pollAge
		if r.fromAnswer {
			p.age = 0
		}
		p.awakeAge = p.age
	}
	s.db.fresh[i] = s.db.fresh[i]&^p.read | p.later
	if s.stalled {
		s.standby.fresh[i] = s.standby.fresh[i]&^p.read | p.lacks
	}
	gap := max(0, p.sinceRead-p.pollAge-pollTimeout)
	if r.countsUnread {
		gap = 0
	}
	for id := int8(1); id <= maxModelID; id++ {
		w := &p.of[id]
		switch {
		case p.read&bit(id) == 0:
			*w = watched{}
			continue
		case !w.known || p.same&bit(id) == 0:
			*w = watched{known: true}
			if r.heardAtBegin {
				w.heard = p.pollAge
			}
		default:
			w.heard -= gap
			w.reads = min(w.reads+1, 4)
		}
		of := s.db.of[id]
		hasEnded := of > 0 && s.oneHost && !r.ignoresEnds && s.p[of-1].life == killed // process.hasEnded
		w.dead = w.heard-p.pollAge >= r.dead || hasEnded || r.foreignPID && of > 0 && of != int8(i+1)
	}
	p.isAlone = p.read == 0
	if p.readEpoch && p.saw == 0 {
		p.saw, p.owes = 1, p.unread
		if r.owesFromRead {
			p.owes = p.pollAge
		}
	}
	p.sinceRead, p.unread = p.pollAge, p.pollAge
	if p.waits && (!p.early || r.freshless) && r.open(p) == 0 {
		p.waits, p.waited = false, !s.lossy
	}
	p.early = false
}

// open are the members that a barrier waits for.
func (r *leaseRules) open(p *proc) int8 {
	open := p.read &^ p.acks
	for id := int8(1); r.skipsSilent && id <= maxModelID; id++ {
		if p.of[id].heard >= 3 {
			open &^= bit(id)
		}
	}
	return open
}

// takeOver is Store.takeOverMember.
func (r *leaseRules) takeOver(s *modelState, i int, id int8) (v violation) {
	w := s.p[i].of[id]
	of := s.db.of[id] - 1
	s.db.present &^= bit(id)
	s.db.seen &^= bit(id)
	if s.db.owner == id {
		s.db.owner = 0
	}
	if of >= 0 && s.p[of].id == id && s.p[of].life != killed && !s.lossy && w.reads < 4 {
		v = notWatched
	}
	return v
}

// locked reports whether a takeover waits: for the transactions of the writers of the dead one.
func (r *leaseRules) locked(s *modelState, id int8) bool {
	if r.noLock {
		return false
	}
	for i := range s.p {
		if p := &s.p[i]; p.id == id && p.tx == begun {
			return true
		}
	}
	return false
}

// passes lets a beat pass. slow is the process whose clock does not count it, -1 for none. It returns false if something has to happen first.
func (r *leaseRules) passes(s *modelState, slow int) (ok bool, v violation) {
	for i := range s.p {
		p := &s.p[i]
		if p.life == runs && p.id != 0 && !p.polled && p.poll == none && s.reaches(p) {
			return false, ""
		}
	}
	for i := range s.p {
		p := &s.p[i]
		p.polled = false
		if p.life == killed || p.life == unborn {
			p.poll, p.pollAge = none, 0
			if p.tx == begun {
				p.tx = rejected // the server has rolled it back
			}
			continue
		}
		if p.poll != none {
			if p.pollAge++; p.pollAge > pollTimeout {
				p.poll, p.pollAge = none, 0
			}
		}
		if p.tx == begun {
			if p.txAge++; p.txAge > 2 { // idle_in_transaction_session_timeout
				p.tx, p.txAge, p.reconnects = rejected, 0, true
			}
		}
		if i != slow {
			r.count(p)
		}
		age := p.age
		if r.awakeCut || r.awakeOnly {
			age = p.awakeAge
		}
		if p.life == runs && age >= r.cut && p.isSending() && !(r.aloneNoCut && p.isAlone) { // fleet.cutOff
			p.attempt, p.claimed = none, false
		}
		if p.life == runs && p.age >= r.cut && p.isSending() && !p.isAlone {
			v = lateCut
		}
		if p.waits && p.wait >= r.barrier { // the end of fleet.barrier
			p.waits, p.waited = false, r.alive(p) && !s.lossy
		}
	}
	return true, v
}

// count moves the clocks of a process on by a beat.
func (r *leaseRules) count(p *proc) {
	later := func(n *int8) { *n = min(*n+1, ageLimit) }
	later(&p.age)
	later(&p.unread)
	if p.saw == 1 {
		later(&p.owes)
	}
	if p.life != runs {
		return
	}
	later(&p.awakeAge)
	later(&p.sinceRead)
	if p.waits {
		later(&p.wait)
	}
	for id := range p.of {
		if p.of[id].known {
			later(&p.of[id].heard)
		}
	}
}

// failOver has the standby become the primary. All connections are lost.
func (r *leaseRules) failOver(s *modelState) {
	if s.stalled {
		s.db, s.standby, s.stalled, s.lossy, s.behind = s.standby, db{}, false, true, 0
	}
	for i := range s.p {
		p := &s.p[i]
		p.poll, p.pollAge, p.reconnects = none, 0, true
		switch {
		case p.tx == begun, p.tx == carried && s.db.pend&bit(int8(i)) == 0:
			p.tx, p.txAge = rejected, 0
		}
		if s.lossy && !s.db.epoch {
			p.waits, p.waited, p.saw, p.owes = false, false, 0, 0
		}
	}
}

func (s *modelState) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "owner %d of members %07b", s.db.owner, uint8(s.db.present))
	for i := range s.p {
		p := &s.p[i]
		fmt.Fprintf(&b, "; %c is member %d, %d beats since its last", 'A'+i, p.id, p.age)
		if p.owns {
			b.WriteString(", owns")
		}
		if p.attempt != none {
			b.WriteString(", sends")
		}
	}
	return b.String()
}
