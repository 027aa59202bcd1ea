package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/engine/transform"
)

// programHooks are webhooks of which half have programs. What these make differs each time they run: so it shows when one runs again.
var programHooks = []hook{
	{path: "/now", answers: true, leads: true},
	{path: "/unfinished", delay: 1, incomplete: true, incompleteDelay: 1, answers: true, leads: true},
	{path: "/later", delay: 2, answers: true},
	{path: "/shaped", delay: 1, incomplete: true, incompleteDelay: 1, answers: true, leads: true, settings: map[string]any{"transform": ". + {made: now}"}},
	{path: "/filtered", answers: true, leads: true, passes: func(s *session) bool { return len(s.emails) > 0 },
		settings: map[string]any{"filter": ".leads | length > 0", "transform": ". + {made: now}"}},
	{path: "/text", answers: true, end: "/{s}?at={at}", settings: map[string]any{"content_type": "text/plain", "transform": "(. + {made: now}) | tojson",
		"url_values": "{s: .session_id, at: now}"}},
}

// withLateLeads is draft, with sessions whose lead comes long after their finish, when they were filtered.
func withLateLeads() func(*rig, *rand.Rand) []*request {
	type finished struct {
		*session
		at time.Time
	}
	var mu sync.Mutex
	var waiting []finished // guarded by mu
	return func(g *rig, r *rand.Rand) []*request {
		mu.Lock()
		defer mu.Unlock()
		if len(waiting) > 0 && time.Since(waiting[0].at) > time.Second {
			s := waiting[0].session
			waiting = waiting[1:]
			s.r = r
			s.lead(1)
			return []*request{g.request(true, s)}
		}
		if r.IntN(2) > 0 {
			return g.draft(r)
		}
		s := newSession(r, true)
		s.later = true
		s.start("")
		s.votes(1+r.IntN(3), "")
		s.finish("")
		waiting = append(waiting, finished{s, time.Now()})
		return []*request{g.request(true, s)}
	}
}

// ownBinary gives a binary a name of its own, by which its workers can be told from those of other experiments.
func ownBinary(t *testing.T, binary, name string) string {
	t.Helper()
	named := filepath.Join(workDir, "hookbolt-"+name)
	if err := os.Link(binary, named); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return named
}

// workersOf returns the processes that run programs for servers of a binary.
func workersOf(binary string) (pids []int) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range list {
		raw, err := os.ReadFile(path)
		if err != nil { // it has ended
			continue
		}
		args := bytes.Split(raw, []byte{0})
		exe, err := os.Readlink(filepath.Join(filepath.Dir(path), "exe")) // a worker is started by a name that all share
		if err != nil || len(args) < 2 || string(args[1]) != transform.Command || filepath.Base(exe) != filepath.Base(binary) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// workerKiller kills workers at random moments, as an out-of-memory killer would.
type workerKiller struct {
	stop   chan struct{}
	done   sync.WaitGroup
	killed int
}

func killWorkers(binary string, r *rand.Rand) *workerKiller {
	k := &workerKiller{stop: make(chan struct{})}
	k.done.Go(func() {
		for !isClosed(k.stop) {
			pass(between(r, 30*time.Millisecond, 300*time.Millisecond), k.stop)
			if pids := workersOf(binary); len(pids) > 0 && syscall.Kill(pids[r.IntN(len(pids))], syscall.SIGKILL) == nil {
				k.killed++
			}
		}
	})
	return k
}

func (k *workerKiller) halt() int {
	close(k.stop)
	k.done.Wait()
	return k.killed
}

// programKills is what TestProgramKill has come to.
type programKills struct {
	workers, filtered, parked int
}

// kill -9 of servers and of their workers at random moments, with programs in half of the webhooks.
func TestProgramKill(t *testing.T) {
	experiment(t)
	binary := ownBinary(t, build(t), "programs")
	var total verdict
	var kills programKills
	for round := range scale(1, 10) {
		total.add(kills.round(t, binary, random(t, "adversary", round), scale(6, 20), false))
	}
	summarize(t, "programs, kill -9: %d workers killed, %d deliveries filtered at the end, %d parked; %v", kills.workers, kills.filtered, kills.parked, &total)
	total.hold(t)
	if kills.workers == 0 || kills.filtered == 0 {
		t.Errorf("%d workers killed, %d filtered: the experiment saw too little", kills.workers, kills.filtered)
	}
}

var (
	// rebuilds runs the programs for each attempt.
	rebuilds = mutantFlock.shared("rebuilds", edit{file: "engine/deliver.go", old: "\t\tc.claimed.Session, c.claimed.Payload = nil, nil // free",
		new: "\t\tif mutant(\"rebuilds\") {\n\t\t\tpayload = append(payload, fmt.Sprint(\" \", time.Now().UnixNano())...)\n\t\t}\n\t\tc.claimed.Session, c.claimed.Payload = nil, nil // free"})
	// filteredOnce does not evaluate a filtered session again.
	filteredOnce = mutantFlock.shared("filtered-once", edit{file: "engine/late.go", old: "\tcase filtered:\n", new: "\tcase filtered && !mutant(\"filtered-once\"):\n"})
)

func TestProgramKillControls(t *testing.T) {
	experiment(t)
	for _, c := range []struct {
		name  string
		edits []edit
	}{{"other bytes than were frozen", rebuilds}, {"filtered once, filtered for ever", filteredOnce}} {
		var kills programKills
		line := caught(t, c.name, func(r *rand.Rand) *verdict { return kills.round(t, build(t, c.edits...), r, 4, true) })
		if line != "" {
			summarize(t, "programs, control %q: caught: %s", c.name, firstLines(line, 1))
		}
	}
}

// round is killRound with programs.
func (c *programKills) round(t *testing.T, binary string, r *rand.Rand, cycles int, enough bool) *verdict {
	// The backlog is short: a session that waits for more than a second before it is filtered has its lead by then.
	g := newRig(t, rigOptions{binary: binary, hooks: programHooks, backlog: 600, draft: withLateLeads(), manner: manner{failing: 0.08, slow: 0.05, slowness: 200 * time.Millisecond}})
	s := g.setUp()
	var loop struct{ ID uint32 }
	// It takes a worker for long, and is paused after five sessions.
	if err := call(t.Context(), "POST", s.url()+"/v1/webhooks", map[string]any{"url": g.receiver.url + "/loop", "delay": 0,
		"filter": `.session_id == "22ffdf18-1035-4e56-baa2-8327e3af5242" or last(range(1e12)) > 0`}, &loop); err != nil {
		t.Fatal(err)
	}
	loopURL := func() string { return fmt.Sprintf("%s/v1/webhooks/%d", s.url(), loop.ID) }
	load := g.produce(8)
	killer := killWorkers(binary, random(t, "killer", r.IntN(1000)))
	for cycle := range cycles {
		pass(between(r, 100*time.Millisecond, 1500*time.Millisecond), s.exited)
		if r.IntN(3) == 0 {
			s.terminate()
			pass(between(r, 0, 60*time.Millisecond), s.exited)
		}
		if !s.running() && s.exitCode() != 0 {
			g.books.complain("it ended by itself with code %d:\n%s", s.exitCode(), s.log)
		}
		s.kill()
		if !await(3*time.Second, func() bool { return len(workersOf(binary)) == 0 }) {
			g.books.complain("cut %d: workers %v run 3 s after the end of their server", cycle+1, workersOf(binary))
		}
		g.afterCut(false)
		var err error
		if s, err = g.start(); err != nil {
			g.books.complain("after cut %d: %v", cycle+1, err)
			c.workers += killer.halt()
			return g.abandon(load)
		}
		if enough && len(g.verdict().trouble) > 0 {
			c.workers += killer.halt()
			return g.abandon(load)
		}
		if err := call(t.Context(), "PATCH", loopURL(), map[string]any{"paused": false}, nil); err != nil {
			g.books.complain("%v", err)
		}
	}
	load.halt()
	c.workers += killer.halt()
	if err := call(t.Context(), "DELETE", loopURL(), nil, nil); err != nil {
		g.books.complain("%v", err)
	}
	v := g.finish(s)
	if !await(3*time.Second, func() bool { return len(workersOf(binary)) == 0 }) {
		v.trouble = append(v.trouble, fmt.Sprintf("workers %v run 3 s after the end of their server", workersOf(binary)))
	}
	c.count(t, g)
	return v
}

// count counts what was not sent.
func (c *programKills) count(t *testing.T, g *rig) {
	found, err := inspect(t.Context(), g.database, g.dir)
	if err != nil {
		t.Error(err)
	}
	for _, d := range found.Deliveries {
		switch path := g.paths[d.WebhookID]; {
		case path == "": // the one that loops
		case d.Status == engine.StatusFiltered:
			c.filtered++
		case d.Status == engine.StatusFailed && d.Attempts == 0:
			c.parked++
		}
	}
}
