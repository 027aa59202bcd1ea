package engine_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

var (
	simSeeds = flag.Int("sim.seeds", 4, "how many seeds TestSimulation runs")
	simFirst = flag.Uint64("sim.first", 1, "the first of them")
	simDays  = flag.Int("sim.days", 3, "how many days each of them lasts")
	simSlow  = flag.Duration("sim.slow", 0, "how long each of the store's calls may take, twice; 0 for no time")
)

// TestSimulation runs days of random traffic, endpoints, administration and restarts, and holds what endpoints see and what is stored
// against a small model that knows nothing of lanes, claims and commits. The long form is
//
//	go test ./engine -run TestSimulation -sim.seeds 400 -sim.days 30 -timeout 60m -v
//
// and a seed that has failed runs again with -sim.first and -sim.seeds 1.
func TestSimulation(t *testing.T) {
	seeds := *simSeeds
	if raced {
		seeds = (seeds + 3) / 4
	}
	simulate(t, seeds, *simDays, func(*testing.T) func(*sim) { return func(*sim) {} })
}

// simulate runs seeds, each in a subtest. prepare is called outside of the bubble, with the subtest.
func simulate(t *testing.T, seeds, days int, prepare func(*testing.T) func(*sim)) {
	var all simTotals
	for i := range seeds {
		seed := *simFirst + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			use := prepare(t)
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, seed, days)
				use(s)
				s.run()
				for _, v := range s.violations {
					t.Error(v)
				}
				t.Logf("seed %d: %v; %v", seed, &s.totals, s.soft)
				all.add(&s.totals)
			})
		})
	}
	t.Logf("simulation of %d seeds: %v", seeds, &all)
}

// simTotals is what a simulation has come to.
type simTotals struct {
	days, sessions, events, deliveries, tests, attempts, payloads, restarts, crashes int
	found                                                                            [simOther + 1]int
}

func (t *simTotals) add(o *simTotals) {
	t.days, t.sessions, t.events, t.deliveries = t.days+o.days, t.sessions+o.sessions, t.events+o.events, t.deliveries+o.deliveries
	t.tests, t.attempts, t.payloads, t.restarts, t.crashes = t.tests+o.tests, t.attempts+o.attempts, t.payloads+o.payloads, t.restarts+o.restarts, t.crashes+o.crashes
	for i, n := range o.found {
		t.found[i] += n
	}
}

func (t *simTotals) String() string {
	return fmt.Sprintf("%d virtual days, %d sessions of %d events, %d deliveries, %d payloads as the model says, %d attempts, %d stops, %d crashes; "+
		"lost %d, sent again after a recorded 2xx %d, off schedule %d, wrong contents %d, other violations %d", t.days, t.sessions, t.events,
		t.deliveries, t.payloads, t.attempts, t.restarts, t.crashes, t.found[simLost], t.found[simAgain], t.found[simOff], t.found[simWrong], t.found[simOther])
}

// simFinding is what kind of violation something is.
type simFinding int

const (
	simLost  simFinding = iota // an event, a session or a delivery is not there that has to be
	simAgain                   // an attempt after a 2xx that was recorded, or a second delivery
	simOff                     // an attempt at another time than the schedule asks for
	simWrong                   // other bytes than were frozen or sent, or than the model says
	simOther
)

type sim struct {
	quotas map[string]simUsed // of endpoints that have one, by host; guarded by mu
	*world
	seed    uint64
	end     time.Time
	rng     *rand.Rand
	ctx     context.Context
	dir     string   // of the database file
	path    string   // the database file
	process *process // the present one
	// database opens the database for a process.
	database func() (simDatabase, error)
	// For TestSimulationSees: fault makes the store misbehave, and staleCrashes a crash: it takes the last attempt that was recorded and
	// all since then.
	fault        func(engine.Store) engine.Store
	staleCrashes bool
	wanted       []simFinding // what shows the fault: the run ends at the first
	checkNext    bool         // the database is to be checked when it is opened next

	contents     []uuid.UUID
	sessions     []*simSession
	bySession    map[uuid.UUID]*simSession
	known        sync.Map // the ids of sessions
	slowPrograms atomic.Bool

	mu         sync.Mutex
	hooks      []*simHook
	deliveries map[simKey]*simDelivery
	together   map[simPair][]*simDelivery // deliveries by session and webhook
	byID       map[string]*simDelivery
	marks      []simMark
	sending    map[simLane]int
	freed      map[simLane]time.Time // when an attempt ended last
	upAt       time.Time             // when the engine was started last
	stalled    time.Time             // until when the background work stands still
	plan       crashPlan
	full       bool // the store has no room
	replays    []*simReplay
	late       []simLate
	totals     simTotals
	soft       map[string]int

	foundMu    sync.Mutex
	violations []string
}

func newSim(t *testing.T, seed uint64, days int) *sim {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), ctx: t.Context(), end: simBegin.Add(time.Duration(days) * 24 * time.Hour),
		world: &world{t: t, cfg: engine.DefaultConfig()}, deliveries: map[simKey]*simDelivery{}, together: map[simPair][]*simDelivery{}, byID: map[string]*simDelivery{},
		bySession: map[uuid.UUID]*simSession{}, soft: map[string]int{}, sending: map[simLane]int{}, freed: map[simLane]time.Time{}}
	s.totals.days = days
	s.dir = simDir(t)
	s.path = s.dir + "/hookbolt.db"
	s.database = s.openBolt
	s.cfg.Retry.Jitter = 0
	s.cfg.MaxInFlight = s.rng.IntN(5)
	s.cfg.WebhookMaxInFlight = 1 + s.rng.IntN(6)
	s.cfg.ShutdownTimeout = 0
	s.cfg.Settle = []time.Duration{0, 2 * time.Second, 10 * time.Second}[s.rng.IntN(3)]
	if s.rng.IntN(2) == 0 { // the default is rare to come true
		s.cfg.PauseAfter = 30*time.Minute + time.Duration(s.rng.Int64N(int64(4*time.Hour)))
	}
	s.cfg.Retention = engine.Retention{
		Sessions:   []time.Duration{2 * time.Hour, 24 * time.Hour, 5 * 24 * time.Hour, 30 * 24 * time.Hour}[s.rng.IntN(4)],
		Deliveries: []time.Duration{2 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 20 * 24 * time.Hour}[s.rng.IntN(4)],
	}
	for range 3 {
		s.contents = append(s.contents, s.uuid())
	}
	return s
}

// simDir is a directory in memory, where there is one, even if TMPDIR is on a disk. The store syncs as ever; that there a sync costs nothing is what makes hundreds
// of seeds possible, and since a crash here is one of the process, it makes no difference for what is left.
func simDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "hookbolt-simulation-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *sim) uuid() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(s.rng.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// found takes note of a violation.
func (s *sim) found(what simFinding, format string, args ...any) {
	s.foundMu.Lock()
	defer s.foundMu.Unlock()
	if s.totals.found[what]++; len(s.violations) < 15 {
		s.violations = append(s.violations, fmt.Sprintf("seed %d, day %s: %s", s.seed, time.Now().UTC().Format("02 15:04:05.000000000"), fmt.Sprintf(format, args...)))
	}
}

func (s *sim) violate(format string, args ...any) { s.found(simOther, format, args...) }

func (s *sim) mark(lane simLane, kind byte, n int) {
	s.marks = append(s.marks, simMark{at: time.Now(), lane: lane, kind: kind, n: n})
}

func (s *sim) stalledUntil() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stalled
}

func (s *sim) hook(id uint32) *simHook {
	for _, h := range s.hooks {
		if h.id == id {
			return h
		}
	}
	return nil
}

func (s *sim) session(id uuid.UUID) *simSession { return s.bySession[id] }

var simBegin = time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)

func (s *sim) drained() bool { return time.Now().After(s.end) }

func (s *sim) run() {
	time.Sleep(time.Until(simBegin))
	s.open()
	s.start()
	defer func() { s.stop() }()
	for range 2 + s.rng.IntN(4) {
		s.addHook()
	}
	for !s.drained() {
		// Bursts with pauses between them.
		pause := time.Duration(s.rng.Int64N(int64(40 * time.Second)))
		if s.rng.IntN(9) == 0 {
			pause = time.Duration(s.rng.Int64N(int64(min(24, 2*s.totals.days)) * int64(time.Hour)))
		}
		if len(s.replays) > 0 { // so that what they do is seen soon
			pause %= time.Minute
		}
		time.Sleep(pause)
		if s.rng.IntN(5) > 0 {
			synctest.Wait()
		}
		s.act()
		if s.rng.IntN(8) == 0 { // another one in the same instant
			s.act()
		}
		synctest.Wait()
		s.settle()
		if s.sawFault() {
			return
		}
	}
	s.finish()
}

// sawFault tells whether a simulation of a fault has shown it.
func (s *sim) sawFault() bool {
	s.foundMu.Lock()
	defer s.foundMu.Unlock()
	return slices.ContainsFunc(s.wanted, func(w simFinding) bool { return s.totals.found[w] > 0 })
}

func (s *sim) act() {
	s.mu.Lock()
	if len(s.replays) > 0 {
		s.mu.Unlock()
		synctest.Wait()
		s.mu.Lock()
		s.settleReplays()
	}
	s.mu.Unlock()
	switch n := s.rng.IntN(102); {
	case n < 35:
		s.events()
	case n < 50:
		s.pieces()
	case n < 54:
		s.retry()
	case n < 58:
		s.cancel()
	case n < 61:
		s.test()
	case n < 66:
		s.replay()
	case n < 68:
		s.rotate()
	case n < 87:
		s.patchHook()
	case n < 89:
		s.erase()
	case n < 91:
		s.addHook()
	case n < 92:
		s.deleteHook()
	case n < 94:
		s.down(s.rng.IntN(2) == 0)
	case n < 96:
		s.crash()
	case n < 97:
		s.fill()
	case n < 98:
		s.lose()
	case n < 99:
		s.yield()
	case n < 101:
		s.interfere()
	default:
		s.overview()
	}
}

// settle makes up, after an instant with several changes, for orders that the model cannot know.
func (s *sim) settle() {
	time.Sleep(8 * *simSlow)
	synctest.Wait()
	now := time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleUnsure()
	for _, d := range s.byID {
		if d.sending || d.gone || now.Before(d.touched.Add(4**simSlow)) {
			continue // its attempt may not be recorded yet
		}
		if *simSlow > 0 && d.settled != d.touched {
			d.settled = d.touched
			if stored, _, _, err := s.world.Delivery(context.Background(), d.ID()); err == nil {
				switch {
				case !stored.Status.Waiting() && d.state != stored.Status:
					s.soft["resynchronized"]++
					d.state, d.stateAt = stored.Status, stored.FinishedAt
				case stored.Status.Waiting() && d.waits() && !d.fuzzy && !s.isDue(d, stored.NextAttemptAt):
					s.found(simOff, "%s %s: the next attempt is due at %v, the model says %v", d.kind, d.id, stored.NextAttemptAt, d.due)
				case stored.Status.Waiting() && d.waits():
					d.fuzzy = true // by a little
				}
			}
		}
		if d.fuzzy && !d.sending {
			s.resync(d)
			d.readyAt = later(d.due, now)
		}
	}
	s.settleReplays()
	s.checkHealth()
}

// isDue tells whether a stored due time is the model's, but for what it takes to get from the attempt's end, or from a call, to the store.
func (s *sim) isDue(d *simDelivery, stored time.Time) bool {
	by := stored.Sub(d.due)
	return 0 <= by && by <= 8**simSlow
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
