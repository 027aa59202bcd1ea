package torture

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
)

var fleetRunLength = flag.Duration("torture.run", 20*time.Minute, "how long TestFleetRun goes on")

// Three members serve a load. Each is killed in turn, all the time; after a third of it the primary crashes and its synchronous standby is promoted; after two thirds
// a next version rolls through. Nothing that was acknowledged is lost, and nothing is sent again after a recorded 2xx.
func TestFleetRun(t *testing.T) {
	if !*longForm {
		t.Skip("a run of many minutes, with -torture.long alone")
	}
	experiment(t)
	run := &fleetRun{r: random(t, "adversary", 0), next: build(t, newer...)}
	v := run.play(t, build(t))
	summarize(t, "fleet, a run of %v: %v; %v", *fleetRunLength, run, v)
	v.hold(t)
	run.killed.hold(t, resumeWithin())
	run.stopped.hold(t, resumeWithinTerm())
	if run.kills < 3 || run.failover == 0 || run.replaced != fleetSize {
		t.Errorf("the run was too short to show anything: %v", run)
	}
}

// fleetRun is a run, and what happened in it.
type fleetRun struct {
	r                *rand.Rand
	next             string // the program of the next version
	primary, standby *postgrestest.Cluster

	kills, replaced int
	killed, stopped gaps
	failover        time.Duration // until each member took events in again
}

func (run *fleetRun) String() string {
	return fmt.Sprintf("%d kills, deliveries went on: %v; a failover, events taken in by all again after %v; %d members replaced by the next version, deliveries went on: %v", run.kills, run.killed,
		run.failover.Round(time.Millisecond), run.replaced, run.stopped)
}

func (run *fleetRun) play(t *testing.T, binary string) *verdict {
	f := run.start(t, binary)
	began, length := time.Now(), *fleetRunLength
	due := func(thirds int) bool { return time.Since(began) > time.Duration(thirds)*length/3 }
	for step := run.kill; time.Since(began) < length; step = run.kill {
		switch {
		case due(1) && run.failover == 0:
			step = run.failOver
		case due(2) && run.replaced < fleetSize:
			step = run.replace
		}
		pass(between(run.r, 2*time.Second, 6*time.Second), nil)
		if f.complains(step(f)) || f.complains(f.allRun()) {
			break
		}
	}
	// What inspects the database is of this version, and the step of the next one has only added to it.
	mustExecute(t, f.opts.schema.direct, strings.ReplaceAll(`UPDATE "@".schema SET version = 2`, "@", f.opts.schema.name))
	return f.finish(false, time.Minute)
}

// start starts a fleet on a primary with a synchronous standby.
func (run *fleetRun) start(t *testing.T, binary string) *fleet {
	o := postgrestest.Options{Durable: true, Replicates: true}
	run.primary = postgrestest.Start(t, o)
	run.standby = run.primary.Standby(t, "other", o)
	s := newSchema(t, run.primary)
	s.direct = fmt.Sprintf("host=%s,%s port=5432,5432 user=hookbolt dbname=hookbolt target_session_attrs=read-write", run.standby.Dir(), run.primary.Dir())
	s.url = s.direct
	mustExecute(t, run.primary.URL(), "ALTER SYSTEM SET synchronous_standby_names = 'other'")
	mustExecute(t, run.primary.URL(), "SELECT pg_reload_conf()")
	return newFleet(t, fleetOptions{rigOptions: rigOptions{binary: binary, schema: s, manner: difficult}, cluster: run.primary, apart: requireApart(t)})
}

// kill kills the next member, and starts it again.
func (run *fleetRun) kill(f *fleet) error {
	m := f.members[run.kills%fleetSize]
	run.kills++
	paths, pid := f.lanesOf(m.pid()), m.pid()
	f.forget(pid)
	from := time.Now()
	m.kill()
	f.strikes = append(f.strikes, strike{pid: pid, from: from, until: time.Now().Add(readLate), ended: true})
	f.tell()
	run.killed = append(run.killed, f.resumed(paths, from, resumeWithin())...)
	return f.restart(m)
}

// failOver crashes the primary, and promotes the standby.
func (run *fleetRun) failOver(f *fleet) error {
	from := time.Now()
	if err := failOver(run.primary, run.standby, nil); err != nil {
		return err
	}
	for _, m := range f.members {
		if err := f.takesIn(m); err != nil {
			return err
		}
	}
	run.failover = time.Since(from)
	for _, m := range f.members { // results of attempts that were in flight wait, but no longer than the lease
		f.strikes = append(f.strikes, strike{pid: m.pid(), from: from, until: time.Now()})
	}
	return nil
}

// replace stops the next member, and starts the next version in its place.
func (run *fleetRun) replace(f *fleet) error {
	m := f.members[run.replaced]
	f.opts.binary = run.next
	paths := f.lanesOf(m.pid())
	f.forget(m.pid())
	from := time.Now()
	m.terminate()
	code, err := m.wait(30 * time.Second)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d, want 0:\n%s", code, m.log)
	}
	f.tell()
	if err != nil {
		return err
	}
	run.stopped = append(run.stopped, f.resumed(paths, from, resumeWithinTerm())...)
	run.replaced++
	return f.restart(m)
}
