package engine_test

import (
	"context"
	"flag"
	"fmt"
	"hookbolt/engine"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
)

var (
	simSeeds = flag.Int("sim.seeds", 4, "how many seeds TestSimulation runs")
	simFirst = flag.Uint64("sim.first", 1, "the first of them")
	simSlow  = flag.Duration("sim.slow", 0, "how long each of the store's calls may take, twice; 0 for no time")
)

// TestSimulation runs days of random traffic, endpoints and administration, and holds what endpoints see and what is stored
// against a small model that knows nothing of lanes, claims and commits.
func TestSimulation(t *testing.T) {
	seeds := *simSeeds
	if raced {
		seeds = (seeds + 3) / 4
	}
	for i := range seeds {
		seed := *simFirst + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newSim(t, seed).run() })
		})
	}
}

type sim struct {
	*world
	seed uint64
	rng  *rand.Rand
	ctx  context.Context

	contents []uuid.UUID
	sessions []*simSession

	mu         sync.Mutex
	hooks      []*simHook
	deliveries map[simKey]*simDelivery
	byID       map[string]*simDelivery
	marks      []simMark
	sending    map[simLane]int
	freed      map[simLane]time.Time // when an attempt ended last
	upAt       time.Time             // when the engine was started last
	stalled    time.Time             // until when the background work stands still
	replays    []*simReplay
	late       []simLate
	requests   int
	tests      int
	soft       map[string]int
	violations int
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), deliveries: map[simKey]*simDelivery{}, byID: map[string]*simDelivery{}, soft: map[string]int{},
		sending: map[simLane]int{}, freed: map[simLane]time.Time{}}
	s.world = newWorld(t, func(c *engine.Config) {
		c.MaxInFlight = s.rng.IntN(5)
		c.WebhookMaxInFlight = 1 + s.rng.IntN(6)
		c.ShutdownTimeout = 0
		c.PauseAfter = 30*time.Minute + time.Duration(s.rng.Int64N(int64(4*time.Hour)))
		c.Retention.Deliveries = 20 * 24 * time.Hour
	})
	s.net.answer = s.answer
	s.wrap = func(store engine.Store) engine.Store { return slowStore{store, *simSlow, s.stalledUntil} }
	s.stop()
	s.start()
	s.ctx = t.Context()
	for range 3 {
		s.contents = append(s.contents, s.uuid())
	}
	return s
}

func (s *sim) uuid() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(s.rng.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func (s *sim) violate(format string, args ...any) {
	if s.violations++; s.violations <= 15 {
		s.t.Errorf("seed %d, %s: %s", s.seed, time.Now().UTC().Format("02 15:04:05.000000000"), fmt.Sprintf(format, args...))
	}
}

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

func (s *sim) session(id uuid.UUID) *simSession {
	for _, ss := range s.sessions {
		if ss.id == id {
			return ss
		}
	}
	return nil
}

var (
	simBegin = time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)
	simEnd   = simBegin.Add(3 * 24 * time.Hour)
)

func (s *sim) drained() bool { return time.Now().After(simEnd) }

func (s *sim) run() {
	time.Sleep(time.Until(simBegin))
	for range 2 + s.rng.IntN(4) {
		s.addHook()
	}
	for time.Now().Before(simEnd) {
		// Bursts with pauses between them.
		pause := time.Duration(s.rng.Int64N(int64(40 * time.Second)))
		if s.rng.IntN(9) == 0 {
			pause = time.Duration(s.rng.Int64N(int64(3 * time.Hour)))
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
	}
	s.finish()
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
	switch n := s.rng.IntN(100); {
	case n < 50:
		s.events()
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
	case n < 90:
		s.patchHook()
	case n < 92:
		s.addHook()
	case n < 93:
		s.deleteHook()
	case n < 97:
		s.down(s.rng.IntN(2) == 0)
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
	for _, d := range s.byID {
		if d.sending || now.Before(d.touched.Add(4**simSlow)) {
			continue // its attempt may not be recorded yet
		}
		if *simSlow > 0 && d.settled != d.touched {
			d.settled = d.touched
			if stored, _, _, err := s.world.Delivery(context.Background(), d.ID()); err == nil {
				switch {
				case !stored.Status.Waiting() && d.state != stored.Status:
					s.soft["resynchronized"]++
					d.state, d.stateAt = stored.Status, stored.FinishedAt
				case stored.Status.Waiting() && d.state == engine.StatusPending && !d.due.Equal(stored.NextAttemptAt):
					d.fuzzy = true
				}
			}
		}
		if d.fuzzy && !d.sending {
			s.resync(d)
			d.readyAt = d.due
			if now.After(d.due) {
				d.readyAt = now
			}
		}
	}
	s.settleReplays()
	s.checkHealth()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
