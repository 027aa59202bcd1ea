package torture

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// skewedClock makes time.Now add the seconds that stand in a file, which can be changed while the process runs. Spans and timers go by
// the monotonic clock as ever.
var skewedClock = clockFlock.shared("skewed",
	edit{file: "GOROOT/src/time/time.go", old: "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {",
		new: "\tsec, nsec, mono := runtimeNow()\n\tsec += skew()\n\tif mono == 0 {"},
	edit{file: "GOROOT/src/time/skew_unix.go", new: `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var skewed *int64

func init() {
	path, _ := syscall.Getenv("HOOKBOLT_TORTURE_SKEW")
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		return // go build runs no program; only a rig's servers have the file
	}
	m, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	skewed = (*int64)(unsafe.Pointer(&m[0]))
}

func skew() int64 {
	if skewed == nil {
		return 0
	}
	return atomic.LoadInt64(skewed)
}
`})

// sleepyEngine relies on its timers: it does not look at the clock while something waits.
var sleepyEngine = clockFlock.shared("sleepy", edit{file: "engine/engine.go", old: "const maxSleep = 4 * time.Second",
	new: "var maxSleep = mutated(\"sleepy\", 1000*time.Hour, 4*time.Second)"})

// latest is how long after it is due a delivery may be attempted: 5 s, and one more for machines that do other things as well.
const latest = 6 * time.Second

// The wall clock jumps, while hookbolt runs and while it does not: what is due by the new time is attempted soon, what is not waits,
// nothing is lost and nothing comes twice.
func TestClock(t *testing.T) {
	experiment(t)
	var total verdict
	jumps := 0
	// Each begins at the first time and ends where everything is due.
	for round, times := range scale([][]string{{"1970", "1970+1h", "1970", "1970+3y"}}, [][]string{
		{"0", "+1h", "0", "-1h", "0", "+1d", "0", "-1d", "0", "+1y", "0", "+3y"},
		{"0", "-1h", "+1h", "-1d", "+1d", "0", "+1y", "+1h", "+3y"},
		{"1970", "1970+1h", "1970", "1970+1d", "1970+1h", "1970+1y", "1970+3y"},
		{"1970", "0", "1970", "+1d", "+3y"},
		{"0", "1970", "+1h", "1970+1d", "0", "+3y"},
	}) {
		v, n := clockRound(t, build(t, skewedClock...), random(t, "clock", round), times, false)
		total.add(v)
		jumps += n
	}
	summarize(t, "clock: %d jumps, latest attempt %v after due; %v", jumps, total.Latest.Round(time.Millisecond), &total)
	total.hold(t)
}

func TestClockControl(t *testing.T) {
	experiment(t)
	n := 0
	line := caught(t, "no look at the clock", func(r *rand.Rand) (v *verdict) {
		v, n = clockRound(t, build(t, sleepyEngine...), r, []string{"0", "+1h"}, true)
		return v
	})
	if line != "" {
		summarize(t, "clock, control %q: caught after %d jumps: %s", "no look at the clock", n, firstLines(line, 1))
	}
}

// clock is a wall clock that a rig's servers go by.
type clock struct {
	file   *os.File
	points []point
}

// point is the moment from which the clock has been off by skew.
type point struct {
	at   time.Time
	skew time.Duration
}

func newClock(t *testing.T) *clock {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "skew"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &clock{file: f}
}

// set puts the clock off by skew, as far as processes see it.
func (c *clock) set(t *testing.T, skew time.Duration) {
	t.Helper()
	if _, err := c.file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(skew/time.Second))), 0); err != nil {
		t.Fatal(err)
	}
}

// mark notes that a server goes by skew from now on.
func (c *clock) mark(skew time.Duration) { c.points = append(c.points, point{time.Now(), skew}) }

// dueAt is when, by the real clock, something becomes due that was acknowledged at acked with that delay; zero if it is not due yet.
func (c *clock) dueAt(acked time.Time, delay time.Duration, now time.Time) time.Time {
	var due time.Time // by the clock that jumps
	for i, p := range c.points {
		end := now
		if i+1 < len(c.points) {
			end = c.points[i+1].at
		}
		if due.IsZero() {
			if acked.After(end) {
				continue
			}
			due = acked.Add(p.skew + delay)
		}
		at := due.Add(-p.skew)
		if at.Before(p.at) {
			at = p.at
		}
		if at.Before(acked) {
			at = acked
		}
		if at.Before(end) {
			return at
		}
	}
	return time.Time{}
}

var skews = map[string]time.Duration{"0": 0, "+1h": time.Hour, "-1h": -time.Hour, "+1d": 24 * time.Hour, "-1d": -24 * time.Hour,
	"+1y": 365 * 24 * time.Hour, "+3y": 3 * 365 * 24 * time.Hour}

// skewOf reads a time's name. "1970" is the second day of that year, "1970+1h" an hour later.
func skewOf(name string) time.Duration {
	more, ok := strings.CutPrefix(name, "1970")
	if !ok {
		return skews[name]
	}
	return time.Until(time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC)) + skews[more]
}

// clockRound lets the clock jump from time to time. Around each jump nothing is posted, so that nothing but the clock makes hookbolt look.
func clockRound(t *testing.T, binary string, r *rand.Rand, times []string, enough bool) (v *verdict, made int) {
	c := newClock(t)
	c.set(t, skewOf(times[0]))
	hooks := []hook{{path: "/now"}, {path: "/hour", delay: 3000}, {path: "/day", delay: 80_000}, {path: "/year", delay: 31_000_000}}
	g := newRig(t, rigOptions{binary: binary, env: []string{"HOOKBOLT_TORTURE_SKEW=" + c.file.Name()}, hooks: hooks,
		// Else a year's jump ends what is kept.
		forgets:  slices.Contains(times, "0") && slices.Contains(times, "1970"), // it is ten years at most
		storage:  "session_retention = \"87600h\"\ndelivery_retention = \"87600h\"",
		delivery: "pause_after = \"87600h\"",
		draft: func(g *rig, r *rand.Rand) []*request {
			pass(between(r, 0, 150*time.Millisecond), nil) // few: how soon a lane begins is asked, not how fast it is
			s := newSession(r, true)
			s.start("")
			s.finish("")
			return []*request{g.request(true, s)}
		}})
	s := g.setUp()
	c.mark(skewOf(times[0]))
	first := r.IntN(2)
	if enough {
		first = 1 // the control is for a jump while it runs
	}
	for i, jump := range times[1:] {
		load := g.produce(4)
		pass(scale(400*time.Millisecond, time.Second), s.exited)
		load.halt()
		g.awaitPunctual(c)
		skew := skewOf(jump)
		if i%2 == first { // while it does not run
			s.kill()
			g.afterCut(false)
			c.set(t, skew)
			var err error
			if s, err = g.start(); err != nil {
				g.books.complain("after cut %d: %v", made+1, err)
				return g.verdict(), made
			}
		} else {
			c.set(t, skew)
		}
		c.mark(skew)
		made++
		if late := g.awaitPunctual(c); late != "" {
			g.books.complain("after the jump to %s: %s", jump, late)
			if enough {
				break
			}
		}
	}
	if enough {
		return g.verdict(), made
	}
	v = g.finish(s)
	v.Latest = g.punctuality(c).latest
	return v, made
}

// awaitPunctual waits until everything that is due has been attempted. It says what is late.
func (g *rig) awaitPunctual(c *clock) string {
	var p punctuality
	await(latest+time.Second, func() bool {
		p = g.punctuality(c)
		return p.owed == 0
	})
	return p.late
}

type punctuality struct {
	owed   int           // due and not attempted
	latest time.Duration // of what was attempted
	late   string        // what is wrong; "" if nothing is
}

// punctuality holds the first attempts against the times at which deliveries were due.
func (g *rig) punctuality(c *clock) (p punctuality) {
	delays := make(map[string]time.Duration)
	for _, h := range g.opts.hooks {
		delays[h.path] = time.Duration(h.delay) * time.Second
	}
	g.ledger.mu.Lock()
	defer g.ledger.mu.Unlock()
	now := time.Now()
	for k, e := range g.ledger.expected {
		if !e.must {
			continue
		}
		due := c.dueAt(e.ackedAt, delays[k.path], now)
		switch {
		case due.IsZero() && e.seenAt.IsZero():
		case due.IsZero() || !e.seenAt.IsZero() && e.seenAt.Before(due.Add(-latest)):
			p.late = fmt.Sprintf("%v: attempted before it was due", k)
		case e.seenAt.IsZero():
			p.owed++
			if after := now.Sub(due); after > latest {
				p.late = fmt.Sprintf("%v: not attempted %v after it was due", k, after.Round(time.Millisecond))
			}
		default:
			after := e.seenAt.Sub(due)
			p.latest = max(p.latest, after)
			if after > latest {
				p.late = fmt.Sprintf("%v: attempted %v after it was due", k, after.Round(time.Millisecond))
			}
		}
	}
	return p
}
