package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"hookbolt/engine"
	"hookbolt/storage/bolt"
)

// boundlessEngine knows no limit for all lanes together.
var boundlessEngine = mutantFlock.shared("boundless", edit{file: "engine/turns.go", old: "len(l.waitingForGlobal) > 0 && l.extraSending < l.maxExtra",
	new: "len(l.waitingForGlobal) > 0 && (l.extraSending < l.maxExtra || mutant(\"boundless\"))"})

// readyLimit is how long a start may take with a million deliveries due. The short form runs on machines that do other things as well.
func readyLimit() time.Duration { return scale(10*time.Second, 3*time.Second) }

// A start with a million deliveries due is quick, after a clean stop and after a crash, and does not send more at once than it may.
func TestManyDue(t *testing.T) {
	experiment(t)
	n := scale(20_000, 1_000_000)
	m := manyDueRound(t, build(t), n)
	summarize(t, "many due: %v", m)
	if m.clean > readyLimit() || m.crashed > readyLimit() {
		t.Errorf("ready after %v, after a crash %v, want at most %v", m.clean, m.crashed, readyLimit())
	}
	if m.wrong() != "" {
		t.Error(m.wrong())
	}
	if m.most < maxInFlight {
		t.Errorf("only %d requests at once: the experiment saw too little", m.most)
	}
}

func TestManyDueControl(t *testing.T) {
	experiment(t)
	line := caught(t, "no limit", func(*rand.Rand) *verdict {
		if wrong := manyDueRound(t, build(t, boundlessEngine...), 5000).wrong(); wrong != "" {
			return &verdict{trouble: []string{wrong}}
		}
		return &verdict{}
	})
	if line != "" {
		summarize(t, "many due, control %q: caught: %s", "no limit", line)
	}
}

const dueHooks = 10

type manyDue struct {
	due            int
	clean, crashed time.Duration // until ready
	most, mostPath int           // requests at once, in all and of one webhook
	sent           int
	memory         int64
}

// wrong says which limit was not held; "" if all were. Each lane may have one, beyond that there is a limit for all.
func (m manyDue) wrong() string {
	switch {
	case m.most > maxInFlight+dueHooks:
		return fmt.Sprintf("%d requests at once, at most %d may be", m.most, maxInFlight+dueHooks)
	case m.mostPath > webhookMaxInFlight:
		return fmt.Sprintf("%d requests of one webhook at once, at most %d may be", m.mostPath, webhookMaxInFlight)
	}
	return ""
}

func (m manyDue) String() string {
	return fmt.Sprintf("%d due, ready after %v, after a crash %v; %d requests, at most %d at once, %d of one webhook; memory %d MiB", m.due,
		m.clean.Round(time.Millisecond), m.crashed.Round(time.Millisecond), m.sent, m.most, m.mostPath, m.memory>>20)
}

func manyDueRound(t *testing.T, binary string, due int) manyDue {
	hooks := make([]hook, dueHooks)
	for i := range hooks {
		hooks[i] = hook{path: fmt.Sprintf("/%d", i), answers: true}
	}
	g := newRig(t, rigOptions{binary: binary, hooks: hooks, manner: manner{slow: 1, slowness: scale(300*time.Millisecond, 40*time.Millisecond), anything: true}})
	stop := func(s *server) {
		s.terminate()
		if code, err := s.wait(time.Minute); err != nil || code != 0 {
			t.Fatal(code, err)
		}
	}
	stop(g.setUp())
	fillDue(t, g.database, due/dueHooks)
	m := manyDue{due: due}
	enough := min(due/10, scale(300, 10_000)) // requests
	for _, took := range []*time.Duration{&m.clean, &m.crashed} {
		s := g.launch()
		var err error
		if *took, err = s.awaitReady(time.Minute); err != nil {
			t.Fatal(err)
		}
		before := g.receiver.total()
		if !await(time.Minute, func() bool { return g.receiver.total() >= before+enough || !s.running() }) || !s.running() {
			t.Fatalf("only %d requests in a minute:\n%s", g.receiver.total()-before, s.log)
		}
		m.memory = max(m.memory, s.memory())
		s.kill()
	}
	if err := g.receiver.quiesce(10 * time.Second); err != nil {
		t.Error(err)
	}
	for _, line := range g.ledger.trouble {
		t.Error(line)
	}
	g.receiver.mu.Lock()
	defer g.receiver.mu.Unlock()
	m.sent, m.most, m.mostPath = g.receiver.requests, g.receiver.most, g.receiver.mostPath
	return m
}

// fillDue puts sessions that have finished into a database that no process has open.
func fillDue(t *testing.T, database string, sessions int) {
	t.Helper()
	store, err := bolt.Open(database, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const batch = 250
	var writers sync.WaitGroup
	var mu sync.Mutex
	for w := range 2 {
		r := random(t, "due", w)
		writers.Go(func() {
			for range sessions / batch / 2 {
				var all []string
				for range batch {
					s := newSession(r, false)
					s.start("")
					s.votes(2, "")
					s.finish("")
					all = append(all, s.events...)
				}
				events, err := engine.DecodeEvents([]byte("["+strings.Join(all, ",")+"]"), time.Now())
				if err == nil {
					_, err = store.AppendEvents(context.Background(), engine.NewAppend(events, time.Now().UTC().Round(0)))
				}
				if err != nil {
					mu.Lock()
					t.Error(err)
					mu.Unlock()
					return
				}
			}
		})
	}
	writers.Wait()
}
