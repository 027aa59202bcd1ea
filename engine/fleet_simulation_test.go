package engine_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
	"hookbolt/internal/postgrestest"
	"hookbolt/storage/postgres"
)

var (
	fleetSeeds = flag.Int("fleet.seeds", 1, "how many seeds TestFleetSimulation runs")
	fleetFirst = flag.Uint64("fleet.first", 1, "the first of them")
	fleetTime  = flag.Duration("fleet.time", 45*time.Second, "how long each of them lasts, before all is healed")
	fleetTrace = flag.Bool("fleet.trace", false, "log what happens")
	fleetAll   = flag.Bool("fleet.controls", false, "have TestFleetSimulationSees try all broken stores, and not only those that are seen within a second")
)

// TestFleetSimulation runs minutes of several engines on one database: sessions that are posted to any of them, endpoints that fail, changes of
// webhooks, members that are killed, cut off, hung, that leave and that join. It holds what endpoints see and what is stored in the end against a model
// that knows nothing of members. The long form is
//
//	go test ./engine -run TestFleetSimulation -fleet.seeds 100 -fleet.time 5m -timeout 60m -v
//
// A seed that has failed runs again with -fleet.first and -fleet.seeds 1. The order of what happens in one instant may be another one then, because the
// database is a process of its own.
func TestFleetSimulation(t *testing.T) {
	seeds := *fleetSeeds
	if raced {
		seeds = 1
	}
	all := fleetTotals{count: make(map[string]int), resumed: make(map[string][]time.Duration)}
	for i := range seeds {
		seed := *fleetFirst + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			s := runFleet(t, seed, fleetFaults{})
			for _, v := range s.violations {
				t.Error(v)
			}
			all.add(&s.fleetTotals)
			t.Logf("seed %d: %v", seed, &s.fleetTotals)
		})
	}
	t.Logf("%d seeds: %v", seeds, &all)
	if killed := all.resumed["after a kill"]; percentile(killed, 99) > 12*time.Second {
		t.Errorf("after a kill p99 of the lanes go on after %s", percentile(killed, 99))
	}
}

// fleetFaults are what a control breaks.
type fleetFaults struct {
	store   func(*postgres.Store) engine.Store
	options func(member int, o *postgres.Options)
	wanted  []fleetFinding // what shows the fault: the run ends at the first
	acts    []int          // what happens more often; see act
	only    bool           // nothing else happens
}

// slow reports whether endpoints are slow, so that much is in flight; health shows only where they fail.
func (f *fleetFaults) slow() bool { return f.wanted != nil && f.wanted[0] != fleetHealth }

// fleetFinding is a kind of violation.
type fleetFinding int

const (
	fleetLost      fleetFinding = iota // an event, or a delivery
	fleetTwice                         // stored twice
	fleetAgain                         // sent again after a 2xx
	fleetOverlap                       // two at once
	fleetLimit                         // max_in_flight and rate limits
	fleetForbidden                     // sent after a change that forbids it
	fleetLate                          // nothing was in its way
	fleetHealth                        // of a lane that has moved
	fleetFigures                       // differ at members
	fleetOther
	fleetFindings
)

var fleetNames = [...]string{"lost", "twice", "again", "overlap", "limit", "forbidden", "late", "health", "figures", "other"}

// fleetTotals is what a simulation has come to.
type fleetTotals struct {
	posted, delivered, requests int
	virtual                     time.Duration
	lags, calmCalls, calls      []time.Duration
	resumed                     map[string][]time.Duration
	count                       map[string]int
	violated                    [fleetFindings]int
}

func (t *fleetTotals) add(o *fleetTotals) {
	t.posted, t.delivered, t.requests, t.virtual = t.posted+o.posted, t.delivered+o.delivered, t.requests+o.requests, t.virtual+o.virtual
	t.lags, t.calmCalls, t.calls = append(t.lags, o.lags...), append(t.calmCalls, o.calmCalls...), append(t.calls, o.calls...)
	for kind, list := range o.resumed {
		t.resumed[kind] = append(t.resumed[kind], list...)
	}
	for what, n := range o.count {
		t.count[what] += n
	}
	for i, n := range o.violated {
		t.violated[i] += n
	}
}

func (t *fleetTotals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d sessions, %d deliveries by %d requests", t.virtual.Round(time.Second), t.posted, t.delivered, t.requests)
	fmt.Fprintf(&b, "; lag %s; calls %s, while nothing happens %s", spread(t.lags), spread(t.calls), spread(t.calmCalls))
	for _, kind := range slices.Sorted(maps.Keys(t.resumed)) {
		fmt.Fprintf(&b, "; %s %s", kind, spread(t.resumed[kind]))
	}
	for _, what := range slices.Sorted(maps.Keys(t.count)) {
		fmt.Fprintf(&b, "; %s %d", what, t.count[what])
	}
	b.WriteString("; violations:")
	for i, n := range t.violated {
		fmt.Fprintf(&b, " %s %d", fleetNames[i], n)
	}
	return b.String()
}

func percentile(list []time.Duration, p int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[min(len(list)-1, len(list)*p/100)].Round(time.Millisecond)
}

func spread(list []time.Duration) string {
	return fmt.Sprintf("p50 %s p99 %s max %s (%d)", percentile(list, 50), percentile(list, 99), percentile(list, 100), len(list))
}

type fleetSim struct {
	t       *testing.T
	seed    uint64
	schema  string
	rng     *rand.Rand // of the driver
	cfg     engine.Config
	faults  fleetFaults
	end     time.Time
	joined  int
	clients sync.WaitGroup
	work    sync.WaitGroup // what is left of killed members, and cuts that last

	mu           sync.Mutex
	members      []*fleetMember // with those that have gone
	hosts        uint32
	byHost       map[uint32]*fleetHook
	byID         map[uint32]*fleetHook
	hooks        []*fleetHook
	operations   *fleetHook
	tests        []fleetTest
	asked        int  // how many tests were asked for
	imported     bool // somebody has posted so many sessions at once that they are a fan-out
	sessions     []*fleetSession
	bySession    map[uuid.UUID]*fleetSession
	deliveries   map[uuid.UUID]*fleetDelivery
	together     map[fleetPair]int
	answers      *rand.Rand
	healed       bool // endpoints answer 200
	disturbances []fleetDisturbance
	fleetTotals

	violations []string
}

// runFleet runs one seed.
func runFleet(t *testing.T, seed uint64, faults fleetFaults) *fleetSim {
	cluster := postgrestest.Shared(t)
	schema := cluster.Schema(t)
	var s *fleetSim
	synctest.Test(t, func(t *testing.T) {
		s = &fleetSim{t: t, seed: seed, schema: schema, faults: faults, rng: rand.New(rand.NewPCG(seed, 1)), answers: rand.New(rand.NewPCG(seed, 2)), cfg: engine.DefaultConfig(),
			byHost: make(map[uint32]*fleetHook), byID: make(map[uint32]*fleetHook), bySession: make(map[uuid.UUID]*fleetSession), deliveries: make(map[uuid.UUID]*fleetDelivery),
			together: make(map[fleetPair]int), fleetTotals: fleetTotals{count: make(map[string]int), resumed: make(map[string][]time.Duration)}}
		s.operations = &fleetHook{canary: true, limit: 1 << 20}
		s.cfg.OperationsURL, s.cfg.OperationsSecret = "https://"+operationsHost+"/", operationsSecret
		s.cfg.Retry.Jitter, s.cfg.Settle, s.cfg.Timeout = 0, 0, 5*time.Second
		s.cfg.MaxInFlight = []int{0, 3, 20}[seed%3]
		s.run()
	})
	report, err := postgres.Check(t.Context(), postgres.Options{URL: cluster.URL(), Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		s.found(fleetOther, "check: %v", v)
	}
	return s
}

func (s *fleetSim) found(what fleetFinding, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foundLocked(what, format, args...)
}

func (s *fleetSim) foundLocked(what fleetFinding, format string, args ...any) {
	s.violated[what]++
	if len(s.violations) < 15 {
		s.violations = append(s.violations, fmt.Sprintf("seed %d, %s: %s: %s", s.seed, stamp(time.Now()), fleetNames[what], fmt.Sprintf(format, args...)))
	}
}

func (s *fleetSim) trace(format string, args ...any) {
	if *fleetTrace {
		s.t.Logf("%s: %s", stamp(time.Now()), fmt.Sprintf(format, args...))
	}
}

// sawFault tells whether a simulation of a fault has shown it.
func (s *fleetSim) sawFault() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.faults.wanted, func(w fleetFinding) bool { return s.violated[w] > 0 })
}

func (s *fleetSim) run() {
	time.Sleep(time.Until(simBegin))
	for range 2 + s.rng.IntN(2) {
		s.join()
	}
	time.Sleep(2 * time.Second)
	for n := range 7 {
		s.addHook(s.rng, n < 3)
	}
	began := time.Now()
	s.end = began.Add(*fleetTime)
	for time.Now().Before(s.end) && !s.sawFault() {
		pause := time.Duration(s.rng.Int64N(int64(700 * time.Millisecond)))
		if s.rng.IntN(25) == 0 {
			pause = time.Duration(s.rng.Int64N(int64(8 * time.Second)))
		}
		time.Sleep(pause)
		s.act()
	}
	s.virtual = time.Since(began)
	if s.faults.wanted == nil || !s.sawFault() {
		s.finish()
		s.virtual = time.Since(began)
	}
	s.stopAll()
}

func (s *fleetSim) act() {
	n := s.rng.IntN(100)
	if s.faults.only || s.faults.wanted != nil && s.rng.IntN(4) == 0 { // a control is to see its fault soon
		n = s.faults.acts[s.rng.IntN(len(s.faults.acts))]
	}
	switch {
	case n == 54 && !s.imported && s.faults.wanted == nil && *fleetTime > time.Minute:
		s.imported = true
		s.note(nil, "imports", 30*time.Second)
		s.client(s.importMany)
	case n < 55:
		for range 1 + s.rng.IntN(1+s.rng.IntN(4)) {
			s.client(s.post)
		}
	case n < 66:
		s.client(s.change)
	case n < 70:
		s.client(s.test)
	case n < 75:
		s.client(func(rng *rand.Rand) { s.cancel(rng, false) })
	case n < 78:
		s.client(func(rng *rand.Rand) { s.cancel(rng, true) })
	case n < 80:
		s.client(s.erase)
	case n < 88:
		s.mu.Lock()
		if h := s.hooks[s.rng.IntN(len(s.hooks))]; !h.canary {
			h.mode = fleetMode(s.rng.IntN(int(modes)))
			if s.faults.slow() {
				h.mode = modeSlow
			}
		}
		s.mu.Unlock()
	case n < 90:
		s.cut()
	case n < 92:
		s.kill()
	case n < 94:
		s.hang()
	case n < 96:
		s.leave()
	case n < 98:
		if len(s.present()) < 4 {
			s.note(nil, "newcomers", 6*time.Second)
			s.join()
		}
	default:
		m := s.someMember(s.rng)
		if _, err := m.engine.Overview(context.Background()); err != nil {
			s.mu.Lock()
			calm := !s.disturbed(time.Now().Add(-15*time.Second), time.Now(), nil)
			s.mu.Unlock()
			if calm {
				s.found(fleetOther, "overview of %s: %v", m.name, err)
			}
		}
	}
}

// note counts what happens to a member.
func (s *fleetSim) note(m *fleetMember, what string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disturb(m, d)
	s.count[what]++
}

// victim is a member with which nothing is wrong, if another one stays like that.
func (s *fleetSim) victim() *fleetMember {
	now := time.Now()
	well := slices.DeleteFunc(s.present(), func(m *fleetMember) bool { return m.troubled(now, now) })
	if len(well) < 2 {
		return nil
	}
	return well[s.rng.IntN(len(well))]
}

func (s *fleetSim) cut() {
	m := s.victim()
	if m == nil {
		return
	}
	d := time.Second + time.Duration(s.rng.Int64N(int64(19*time.Second)))
	s.note(m, "cuts", d+15*time.Second)
	m.cut(s.rng.IntN(6), d)
}

// owned returns the webhooks whose endpoints are always well and whose lanes a member owns: only measurements ask.
func (s *fleetSim) owned(m *fleetMember) (all []*fleetHook) {
	for _, h := range s.hooks {
		if h.canary && m.pg.Mine(h.id) {
			all = append(all, h)
		}
	}
	return all
}

// measureResumes measures how long the lanes rest of a member that goes.
func (s *fleetSim) measureResumes(m *fleetMember, owned []*fleetHook, leave bool) {
	s.mu.Lock()
	for _, h := range owned {
		h.resumes = append(h.resumes, &fleetResume{from: time.Now(), gone: m, leave: leave})
	}
	s.mu.Unlock()
	s.client(s.post)
}

func (s *fleetSim) kill() {
	m := s.victim()
	if m == nil {
		return
	}
	s.mu.Lock()
	owned := s.owned(m)
	s.mu.Unlock()
	s.note(m, "kills", 15*time.Second)
	m.kill(s.rng.IntN(6))
	s.measureResumes(m, owned, false)
	s.replace()
}

// replace starts a member in place of one that has gone, at once or later, if there are too few.
func (s *fleetSim) replace() {
	if len(s.present()) < 2 || s.rng.IntN(2) == 0 {
		if s.rng.IntN(2) == 0 {
			time.Sleep(time.Duration(s.rng.Int64N(int64(5 * time.Second))))
		}
		s.note(nil, "newcomers", 6*time.Second)
		s.join()
	}
}

func (s *fleetSim) hang() {
	m := s.victim()
	if m == nil {
		return
	}
	d := time.Duration(s.rng.Int64N(int64(12 * time.Second)))
	s.note(m, "hangs", d+10*time.Second)
	m.hang(d)
}

func (s *fleetSim) leave() {
	m := s.victim()
	if m == nil {
		return
	}
	s.mu.Lock()
	owned := s.owned(m)
	s.mu.Unlock()
	s.note(m, "leaves", 10*time.Second)
	m.away.Store(true)
	s.work.Go(m.leave)
	s.measureResumes(m, owned, true)
	s.replace()
}

// finish heals all, waits until nothing is under way, and compares.
func (s *fleetSim) finish() {
	s.mu.Lock()
	s.healed = true
	s.disturb(nil, 24*time.Hour)
	for _, m := range s.members {
		m.hang(0)
	}
	s.mu.Unlock()
	s.clients.Wait()
	s.work.Wait()
	time.Sleep(12 * time.Second)
	s.mu.Lock()
	for _, h := range s.hooks {
		h.rate, h.rateAt, h.limit = 0, time.Time{}, max(h.limit, 20)
	}
	s.mu.Unlock()
	for _, h := range s.hooks {
		if !h.canary && !h.deleted {
			h.busy, h.unsure = true, true
			s.resumeHook(s.rng, h)
			s.patch(s.rng, h, `{"rate_limit":null,"max_in_flight":20}`)
			s.moveHook(s.rng, h) // its endpoint has no past
			h.busy = false
		}
	}
	began := time.Now()
	for quiet := 0; quiet < 3; time.Sleep(time.Second) {
		o, err := s.someMember(s.rng).engine.Overview(context.Background())
		if err == nil && o.Stored[engine.StatusScheduled]+o.Stored[engine.StatusPending] == 0 && o.FanningOut == 0 && len(o.Replays) == 0 {
			quiet++
		} else if quiet = 0; time.Since(began) > 2*time.Minute {
			s.found(fleetLost, "two minutes after all is well something waits: %v, %+v", err, o)
			break
		}
	}
	s.audit()
	s.compareFigures()
}

// compareFigures holds that all members say the same.
func (s *fleetSim) compareFigures() {
	say := func(m *fleetMember) string {
		o, err := m.engine.Overview(context.Background())
		if err != nil {
			return err.Error()
		}
		stats, err := m.pg.Stats(context.Background(), time.Now(), false)
		if err != nil {
			return err.Error()
		}
		for id, h := range stats.Health {
			if h.Order = 0; h.IsZero() {
				delete(stats.Health, id)
			} else {
				stats.Health[id] = h
			}
		}
		o.SizeBytes = 0
		return fmt.Sprintf("%+v %+v", o, stats.Health)
	}
	all := s.present()
	first := say(all[0])
	for _, m := range all[1:] {
		if got := say(m); got != first {
			s.found(fleetFigures, "%s says\n%s, and %s says\n%s", all[0].name, first, m.name, got)
		}
	}
}

// stopAll ends the members, one after the other.
func (s *fleetSim) stopAll() {
	s.mu.Lock()
	s.healed = true
	for _, m := range s.members {
		m.hang(0)
	}
	s.mu.Unlock()
	s.clients.Wait()
	s.work.Wait()
	for _, m := range s.present() {
		m.leave()
	}
}
