package postgres

import (
	"hash/maphash"
	"slices"
	"strings"
)

// move is a step from a state.
type move struct {
	by   int // the process, -1 for none
	what string
	s    modelState
	v    violation
	beat bool // a beat has passed
}

func (m *move) String() string {
	text := m.what
	if m.by >= 0 {
		text = string(rune('A'+m.by)) + " " + text
	}
	if m.beat {
		text += "  [" + m.s.String() + "]"
	}
	return text
}

// moves are the steps that may follow.
type moves struct {
	r    *leaseRules
	only []string // the faults that happen; nil for all
	out  []move
}

// add adds a step: f changes a copy of the state, and returns false if it cannot be.
func (m *moves) add(from *modelState, i int, what string, f func(s *modelState, p *proc) (violation, bool)) {
	to := *from
	p := (*proc)(nil)
	if i >= 0 {
		p = &to.p[i]
	}
	if v, ok := f(&to, p); ok {
		m.out = append(m.out, move{by: i, what: what, s: to, v: v})
	}
}

// fault is add for what goes wrong.
func (m *moves) fault(from *modelState, i int, what string, f func(s *modelState, p *proc)) {
	if from.faults > 0 && (m.only == nil || slices.Contains(m.only, what)) {
		m.add(from, i, what, func(s *modelState, p *proc) (violation, bool) {
			s.faults--
			f(s, p)
			return "", true
		})
	}
}

// from returns the steps from a state.
func (m *moves) from(s *modelState) []move {
	m.out = m.out[:0]
	for i := range s.p {
		p := &s.p[i]
		m.faults(s, i)
		m.atServer(s, i)
		if p.life != runs {
			continue
		}
		m.attempts(s, i)
		if s.reaches(p) && p.id != 0 {
			m.polls(s, i)
			m.writes(s, i)
			m.takeovers(s, i)
		} else if s.reaches(p) {
			m.add(s, i, "joins", func(s *modelState, _ *proc) (violation, bool) { return "", m.r.join(s, i, searchedID) })
		}
	}
	m.database(s)
	for slow := -1; slow < processes; slow++ {
		if slow >= 0 && (s.faults == 0 || s.p[slow].slowed || s.p[slow].life != runs) {
			continue
		}
		if slow >= 0 && m.only != nil && !slices.Contains(m.only, slowClock) {
			continue
		}
		what := [...]string{"a beat", "a beat that the clock of A does not count", "a beat that the clock of B does not count"}[slow+1]
		had := len(m.out)
		m.add(s, -1, what, func(s *modelState, _ *proc) (violation, bool) {
			if slow >= 0 {
				s.faults--
				s.p[slow].slowed = true
			}
			ok, v := m.r.passes(s, slow)
			return v, ok
		})
		if len(m.out) > had {
			m.out[had].beat = true
		}
	}
	return m.out
}

const slowClock = "its clock does not count a beat"

// polls are the steps of poller.poll at the process.
func (m *moves) polls(s *modelState, i int) {
	p := &s.p[i]
	begin := func(p *proc) {
		p.polled, p.pollAge, p.early = true, 0, false
		p.beats = p.saw != 1 || p.owes <= m.r.cut
	}
	if p.poll == none && !p.polled {
		m.add(s, i, "polls", func(s *modelState, p *proc) (violation, bool) {
			begin(p)
			m.r.readRows(s, i)
			m.r.answered(s, i)
			return "", true
		})
		m.fault(s, i, "begins a slow poll", func(s *modelState, p *proc) {
			begin(p)
			p.poll = begun
		})
	}
	if p.poll == carried {
		m.add(s, i, "gets the answer to its poll", func(s *modelState, _ *proc) (violation, bool) {
			m.r.answered(s, i)
			return "", true
		})
	}
	if p.saw == 1 && !p.hung && !p.reconnects && !m.r.fenced(s, p) { // fleet.hearOnce
		m.add(s, i, "hears of the change", func(s *modelState, p *proc) (violation, bool) {
			p.saw, p.owes = 2, 0
			return "", true
		})
	}
}

// atServer are the steps of what was sent: the server does it, or the connection breaks.
func (m *moves) atServer(s *modelState, i int) {
	p := &s.p[i]
	if p.poll == begun && !s.away {
		m.add(s, i, "has its poll carried out", func(s *modelState, _ *proc) (violation, bool) {
			m.r.readRows(s, i)
			return "", true
		})
	}
	if p.poll != none {
		m.add(s, i, "loses the connection of its poll", func(_ *modelState, p *proc) (violation, bool) {
			p.poll, p.pollAge = none, 0
			return "", true
		})
	}
	if p.tx == begun && !s.away {
		m.add(s, i, "has its transaction committed", func(s *modelState, p *proc) (violation, bool) {
			if s.db.present&bit(p.id) == 0 && !m.r.noFence && !m.r.noLock { // the foreign key of batches
				p.tx = rejected
				return "", true
			}
			return m.r.commit(s, i), true
		})
	}
	if p.tx != none && !p.reconnects {
		m.add(s, i, "loses the connection of its writer", func(_ *modelState, p *proc) (violation, bool) {
			if p.reconnects = true; p.tx == begun {
				p.tx = rejected
			}
			return "", true
		})
	}
}

// writes are the steps of the writer.
func (m *moves) writes(s *modelState, i int) {
	p := &s.p[i]
	if p.reconnects && p.tx != begun || p.tx == none && m.r.fenced(s, p) {
		m.add(s, i, "looks at its fence", func(s *modelState, _ *proc) (violation, bool) { return "", m.r.touch(s, i, searchedID) })
		return
	}
	if p.tx == carried || p.tx == rejected {
		m.add(s, i, "gets the answer to its transaction", func(s *modelState, p *proc) (violation, bool) {
			if p.tx == rejected {
				p.abandon()
			} else {
				m.r.settled(s, i)
			}
			return "", true
		})
	}
	if p.tx != none || p.reconnects {
		return
	}
	m.transaction(s, i, record, p.attempt == ended && p.claimed)
	m.transaction(s, i, take, !p.owns && !p.giving && (s.db.owner == 0 || s.db.owner == p.id && !m.r.ignoresAnswer))
	m.transaction(s, i, free, p.giving && p.attempt == none)
	m.transaction(s, i, change, !s.changed && p.saw == 0 && i == 1)
}

var kindNames = [...]string{"records an attempt", "takes the lanes", "frees the lanes", "changes the webhook"}

var slowNames = [...]string{"begins to record an attempt", "begins to take the lanes", "begins to free the lanes", "begins to change the webhook"}

// transaction is one of the writer: at once, or in steps.
func (m *moves) transaction(s *modelState, i int, kind int8, may bool) {
	if !may {
		return
	}
	begin := func(s *modelState, p *proc) {
		p.tx, p.kind, p.txAge = begun, kind, 0
		s.changed = s.changed || kind == change
	}
	m.add(s, i, kindNames[kind], func(s *modelState, p *proc) (v violation, ok bool) {
		begin(s, p)
		if v = m.r.commit(s, i); p.tx == rejected {
			p.abandon()
		} else {
			m.r.settled(s, i)
		}
		return v, true
	})
	m.fault(s, i, slowNames[kind], begin)
}

// touch is what the writer finds as it begins: its row is missing, the database was set back, or a commit has to be settled; see Store.ready and fleet.touch.
func (r *leaseRules) touch(s *modelState, i int, most int8) bool {
	p := &s.p[i]
	p.reconnects = false
	switch {
	case r.fenced(s, p):
		r.lose(s, i)
		return r.join(s, i, most)
	case p.tx == carried && r.ignoresAnswer && p.kind == take:
		r.settled(s, i)
		p.owns = false
	case p.tx == carried:
		r.settled(s, i)
	case r.isSetBack(s, i):
		r.lose(s, i)
		return r.join(s, i, most)
	case p.tx == rejected:
		p.abandon()
	}
	return true
}

// attempts are the steps of the engine.
func (m *moves) attempts(s *modelState, i int) {
	p := &s.p[i]
	if p.owns && p.attempt == none && m.r.alive(p) {
		m.add(s, i, "begins an attempt", func(s *modelState, _ *proc) (violation, bool) { return m.r.begin(s, i), true })
	}
	if p.isSending() {
		m.add(s, i, "has its attempt answered", func(_ *modelState, p *proc) (violation, bool) {
			if p.attempt = ended; !p.claimed {
				p.attempt = none
			}
			return "", true
		})
	}
	if p.owns && s.gives > 0 && p.tx == none && !p.isAlone {
		m.add(s, i, "gives the lanes up", func(s *modelState, p *proc) (violation, bool) {
			s.gives--
			p.owns, p.giving = false, true
			return "", true
		})
	}
}

var takeoverNames = [...]string{"", "takes member 1 over", "takes member 2 over", "takes member 3 over", "takes member 4 over", "takes member 5 over", "takes member 6 over"}

// takeovers are those of members that the last poll has found dead.
func (m *moves) takeovers(s *modelState, i int) {
	p := &s.p[i]
	for id := int8(1); id <= maxModelID; id++ {
		here := s.db.present&bit(id) != 0 && s.db.present&bit(p.id) != 0
		raised := s.db.fresh[i]&bit(id) != 0 && !m.r.oldBeat
		if !p.of[id].dead || !here || raised || m.r.locked(s, id) {
			continue
		}
		m.add(s, i, takeoverNames[id], func(s *modelState, p *proc) (violation, bool) {
			v := m.r.takeOver(s, i, id)
			p.of[id].dead = false
			return v, true
		})
	}
}

// faults are those of a process.
func (m *moves) faults(s *modelState, i int) {
	p, other := &s.p[i], &s.p[1-i]
	set := func(what string, f func(p *proc)) {
		m.add(s, i, what, func(_ *modelState, p *proc) (violation, bool) { f(p); return "", true })
	}
	switch p.life {
	case unborn:
		m.add(s, i, "is started", func(s *modelState, p *proc) (violation, bool) {
			p.life = runs
			return "", s.reaches(p) && m.r.join(s, i, searchedID)
		})
	case suspended:
		set("is resumed", func(p *proc) { p.life = runs })
	case runs:
		m.fault(s, i, "is suspended", func(_ *modelState, p *proc) {
			if p.life = suspended; p.attempt == inFlight {
				p.attempt = orphaned
			}
		})
		if other.life == runs {
			for _, near := range []bool{false, true} {
				m.fault(s, i, map[bool]string{false: "is killed", true: "is killed, and the other one is on the same machine"}[near], func(s *modelState, p *proc) {
					p.life, s.oneHost = killed, near
				})
			}
		}
	}
	if p.life == killed || p.life == unborn {
		return
	}
	if p.linkDown {
		set("is connected again", func(p *proc) { p.linkDown = false })
	} else {
		m.fault(s, i, "is cut off", func(_ *modelState, p *proc) { p.linkDown, p.reconnects = true, true })
	}
	if p.hung {
		set("goes on after a hang", func(p *proc) { p.hung = false })
	} else if s.changed && p.saw < 2 {
		m.fault(s, i, "hangs", func(_ *modelState, p *proc) { p.hung = true })
	}
}

// database are the faults of the database.
func (m *moves) database(s *modelState) {
	if s.away {
		m.add(s, -1, "the database is back", func(s *modelState, _ *proc) (violation, bool) { s.away = false; return "", true })
	} else {
		m.fault(s, -1, "the database goes away", func(s *modelState, _ *proc) {
			for i := range s.p {
				s.p[i].reconnects = true
				if s.p[i].tx == begun {
					s.p[i].tx = rejected
				}
			}
			s.away = true
		})
	}
	if !s.stalled && !s.lossy {
		m.fault(s, -1, "the standby receives nothing any more", func(s *modelState, _ *proc) { s.stall() })
	}
	m.fault(s, -1, "the standby becomes the primary", func(s *modelState, _ *proc) { m.r.failOver(s) })
}

// stall ends what the standby receives.
func (s *modelState) stall() {
	s.standby, s.behind, s.stalled = s.db, 0, true
	for i := range s.p {
		s.p[i].lacks |= s.p[i].later // that beat is another one than the poll has read
	}
}

// search goes through all states that are to be reached within some beats.
type search struct {
	rules   leaseRules
	beats   int
	live    uint64 // one of so many states is asked whether the lanes get an owner
	visited map[[2]uint64]struct{}
	from    []cameFrom
	seeds   [2]maphash.Seed
	starts  []modelState
	only    []string // the faults that happen; nil for all
}

// cameFrom tells how a state was reached: by a move, of those from another state.
type cameFrom struct {
	parent int32
	move   int16
}

// waiting is a state whose moves are still to be looked at.
type waiting struct {
	s  modelState
	no int32
}

// run returns the first violation, and how it came to that.
func (x *search) run() (violation, []string) {
	x.visited = make(map[[2]uint64]struct{})
	x.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	var now, later []waiting
	for i, s := range x.starts {
		now = x.visit(now, s, -1, i)
	}
	m := moves{r: &x.rules, only: x.only}
	for beat := 0; len(now) > 0 && beat <= x.beats; beat++ {
		for at := 0; at < len(now); at++ {
			from := now[at]
			for n, to := range m.from(&from.s) {
				if to.v != "" {
					return to.v, append(x.trace(from.no), to.String())
				}
				if to.beat {
					later = x.visit(later, to.s, from.no, n)
				} else {
					now = x.visit(now, to.s, from.no, n)
				}
			}
			if x.live > 0 && x.hash(&from.s)[0]%x.live == 0 && !x.rules.recovers(from.s) {
				return noOwner, x.trace(from.no)
			}
		}
		now, later = later, now[:0]
	}
	return "", nil
}

func (x *search) hash(s *modelState) [2]uint64 {
	return [2]uint64{maphash.Comparable(x.seeds[0], *s), maphash.Comparable(x.seeds[1], *s)}
}

// visit adds a state, unless it was visited.
func (x *search) visit(list []waiting, s modelState, parent int32, n int) []waiting {
	x.rules.forget(&s)
	key := x.hash(&s)
	if _, was := x.visited[key]; was {
		return list
	}
	x.visited[key] = struct{}{}
	x.from = append(x.from, cameFrom{parent, int16(n)})
	return append(list, waiting{s, int32(len(x.from) - 1)})
}

// forget clears what nobody asks for any more, so that states are alike that go on alike.
func (r *leaseRules) forget(s *modelState) {
	if r.reusedIDs {
		s.next = 0
	} else {
		s.db.next, s.standby.next = 0, 0
	}
	for i := range s.p {
		p := &s.p[i]
		if p.poll == none {
			p.pollAge, p.early, p.beats = 0, false, false
		}
		if p.poll != carried {
			p.raised, p.same, p.read, p.acks, p.readEpoch, p.later, p.lacks = 0, 0, 0, 0, false, 0, 0
		}
		if p.tx == none {
			p.kind = 0
		}
		if p.tx != begun {
			p.txAge = 0
		}
		if !p.waits {
			p.wait = 0
		}
		if p.saw == 2 {
			p.unread = 0
		}
		if p.saw != 1 {
			p.owes, p.hung = 0, false
		}
		if !r.awakeOnly && !r.awakeCut {
			p.awakeAge = 0
		}
		for id := range p.of {
			if !p.of[id].known {
				p.of[id] = watched{}
			}
		}
		for _, d := range []*db{&s.db, &s.standby} {
			d.fresh[i] &= d.present &^ bit(p.id)
		}
		if p.life == killed {
			*p = proc{life: killed, id: p.id, poll: p.poll, beats: p.beats, tx: p.tx, kind: p.kind}
			if p.poll == carried {
				p.poll = none
			}
			if p.tx == carried || p.tx == rejected {
				p.tx, p.kind = none, 0
			}
		}
	}
}

// trace tells how a state was reached, by going the way again.
func (x *search) trace(no int32) (steps []string) {
	var way []int16
	for ; no >= 0; no = x.from[no].parent {
		way = append(way, x.from[no].move)
	}
	slices.Reverse(way)
	s := x.starts[way[0]]
	x.rules.forget(&s)
	m := moves{r: &x.rules, only: x.only}
	steps = append(steps, s.String())
	for _, n := range way[1:] {
		to := m.from(&s)[n]
		s = to.s
		x.rules.forget(&s)
		steps = append(steps, to.String())
	}
	return steps
}

// recovers reports whether the lanes get an owner that sends, once nothing goes wrong any more: within two leases, all processes doing what they can.
func (r *leaseRules) recovers(s modelState) bool {
	s.away, s.faults, s.gives = false, 0, 0
	anybody := false
	for i := range s.p {
		p := &s.p[i]
		p.linkDown, p.hung, p.poll, p.pollAge = false, false, none, 0
		if p.life == suspended {
			p.life = runs
		}
		anybody = anybody || p.life == runs
		if p.tx == begun {
			p.tx, p.reconnects = rejected, true
		}
	}
	within := 2*r.dead + 4
	if s.oneHost && !s.lossy { // somebody has seen a process end
		within = 4
	}
	for range within {
		for i := range s.p {
			r.work(&s, i)
		}
		for i := range s.p {
			if p := &s.p[i]; p.life == runs && p.owns && r.alive(p) && s.db.owner == p.id {
				return true
			}
		}
		if ok, _ := r.passes(&s, -1); !ok {
			return false
		}
	}
	return !anybody
}

// work does all that a process can do.
func (r *leaseRules) work(s *modelState, i int) {
	p := &s.p[i]
	if p.life != runs {
		return
	}
	m := moves{r: r}
	for range 20 {
		if p.id == 0 {
			if !r.join(s, i, maxModelID) {
				return
			}
			continue
		}
		if p.reconnects || r.fenced(s, p) {
			r.touch(s, i, maxModelID)
			continue
		}
		m.out = m.out[:0]
		m.polls(s, i)
		m.writes(s, i)
		m.takeovers(s, i)
		if p.isSending() {
			p.attempt = none
			p.claimed = false
			continue
		}
		at := slices.IndexFunc(m.out, func(to move) bool { return !strings.HasSuffix(to.what, kindNames[change]) })
		if at < 0 {
			return
		}
		*s = m.out[at].s
	}
}
