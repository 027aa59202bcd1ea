package torture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
)

var (
	// sleepwalkingFleet keeps its lanes when it finds out that others have taken over.
	sleepwalkingFleet = mutantFlock.shared("fleet-sleepwalking",
		edit{file: "storage/postgres/fleet.go", old: "	f.disown()\n	f.s.dropAllClaims()\n	wake(f.lost)\n", new: "	if mutant(\"fleet-sleepwalking\") {\n		return\n	}\n	f.disown()\n	f.s.dropAllClaims()\n	wake(f.lost)\n"},
		edit{file: "storage/postgres/lanes.go", old: "	if f.joins.Load() != b.joins {\n		return 0, lostError(errFenced)\n", new: "	if f.joins.Load() != b.joins && !mutant(\"fleet-sleepwalking\") {\n		return 0, lostError(errFenced)\n"})
	// uncutFleet begins no attempts without a lease, and lets those in flight go on.
	uncutFleet = mutantFlock.shared("fleet-uncut", edit{file: "storage/postgres/lanes.go", old: "\t\tif left <= 0 {\n\t\t\treport(engine.News{CutOff: true", new: "\t\tif left <= 0 && !mutant(\"fleet-uncut\") {\n\t\t\treport(engine.News{CutOff: true"})
	// comparingFleet goes by the clocks of others: a beat is a time.
	comparingFleet = clockFlock.shared("fleet-comparing",
		edit{file: "storage/postgres/poll.go", old: "b.Queue(s.sql(\"UPDATE @.members SET beat = beat + 1, state = $2",
			new: "b.Queue(s.sql(\"UPDATE @.members SET beat = \"+mutated(\"fleet-comparing\", strconv.FormatInt(time.Now().UnixNano(), 10), \"beat + 1\")+\", state = $2"},
		edit{file: "storage/postgres/poll.go", old: "import (\n", new: "import (\n	\"strconv\"\n"},
		edit{file: "storage/postgres/poll.go", old: "began.Sub(m.heardAt) >= deadAfter*f.beat ||",
			new: "began.Sub(m.heardAt) >= deadAfter*f.beat || mutant(\"fleet-comparing\") && m.beat > 1000 && began.UnixNano()-m.beat >= int64(deadAfter*f.beat) ||"})
)

// failingHooks are fleetHooks and one whose endpoint takes nothing.
var failingHooks = append([]hook{{path: "/down"}}, fleetHooks...)

// A process is stopped for longer than its lease, and goes on then: others have taken its lanes over. It begins no attempt for them, and records nothing: at the
// endpoint and in the log, no two attempts are made at once, and one probe at a time is sent to an endpoint that fails.
func TestFleetStop(t *testing.T) {
	fleetExperiment(t)
	binary := build(t)
	var total verdict
	var s fleetStops
	rounds, n := scale(1, 10), scale(1, 10)
	for round := range rounds {
		total.add(s.round(t, binary, random(t, "adversary", round), n, false))
	}
	summarize(t, "fleet, stopped: %v; %v", &s, &total)
	total.hold(t)
	s.gaps.hold(t, resumeWithin())
}

func TestFleetStopControl(t *testing.T) {
	fleetExperiment(t)
	var s fleetStops
	line := caught(t, "lanes that are kept", func(r *rand.Rand) *verdict { return s.round(t, build(t, sleepwalkingFleet...), r, scale(1, 5), true) })
	if line != "" {
		summarize(t, "fleet, stopped, control %q: caught after %d: %s", "lanes that are kept", len(s.gaps), firstLines(line, 1))
	}
}

// fleetStops measures what stops, and partitions, have led to.
type fleetStops struct {
	gaps   gaps
	woken  int // requests that a process sent when it was woken, between its last look at the lease and the packet
	probes int
}

func (s *fleetStops) String() string {
	return fmt.Sprintf("went on: %v; sent by the one that was stopped: %d, probes: %d", s.gaps, s.woken, s.probes)
}

// round stops members n times.
func (s *fleetStops) round(t *testing.T, binary string, r *rand.Rand, n int, enough bool) *verdict {
	f := newFleet(t, fleetOptions{woken: maxInFlight, rigOptions: rigOptions{binary: binary, hooks: failingHooks, manner: manner{failing: 0.08, slow: 0.3, slowness: 800 * time.Millisecond, moves: true},
		delivery: "pause_after = \"87600h\"\nretry_schedule = [" + strings.Repeat(`"1s", `, 49) + `"24h"]`}})
	f.receiver.fail("/down", true)
	for i := range n {
		// At first the one that probes.
		m, err := f.victim(r, func(m *fleetMember) bool { return i > 0 || f.probes(m.pid()) })
		if f.complains(err) {
			break
		}
		paths, pid := f.lanesOf(m.pid()), m.pid()
		f.forget(pid)
		k := strike{pid: pid, from: time.Now()}
		m.cmd.Process.Signal(syscall.SIGSTOP)
		k.until = time.Now().Add(readLate)
		s.gaps = append(s.gaps, f.resumed(withoutPath(paths, "/down"), k.from, resumeWithin())...)
		pass(time.Until(k.from.Add(scale(11*time.Second, 20*time.Second))), nil)
		k.woken = time.Now()
		m.cmd.Process.Signal(syscall.SIGCONT)
		f.strikes = append(f.strikes, k)
		if f.complains(f.takesIn(m)) || f.complains(f.allRun()) {
			break
		}
	}
	pass(2*time.Second, nil)
	if enough { // a mutant shows itself only by what comes to it now, and takes its time to answer
		pass(8*time.Second, nil)
	}
	if !enough && len(f.books.trouble) == 0 {
		s.probes += f.judgeProbes("/down")
	}
	f.receiver.fail("/down", false)
	if id := f.hook("/down"); !f.complains(call(t.Context(), "PATCH", fmt.Sprintf("%s/v1/webhooks/%d", f.members[0].url(), id), map[string]any{"url": f.receiver.url + "/down/up"}, nil)) {
		// Its endpoint is taken for a new one.
		f.receiver.fail("/down", false)
	}
	v := f.finish(enough || len(f.books.trouble) > 0, 30*time.Second)
	s.woken += f.books.Again
	return v
}

// withoutPath are paths but one.
func withoutPath(paths []string, not string) (kept []string) {
	for _, path := range paths {
		if path != not {
			kept = append(kept, path)
		}
	}
	return kept
}

// hook is the webhook with a path.
func (f *fleet) hook(path string) uint32 {
	for id, p := range f.paths {
		if p == path {
			return id
		}
	}
	return 0
}

// probes tells whether the last request for the path that takes nothing came from a process, and is a probe.
func (f *fleet) probes(pid int) bool {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	last := f.receiver.lastOf["/down"]
	return last != nil && last.sender == pid && time.Since(last.begin) > time.Second
}

// judgeProbes holds the probes of an endpoint that fails against the rule: one at a time, seconds apart. It returns how many there were.
func (f *fleet) judgeProbes(path string) (probes int) {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	var last *sighting
	for _, s := range f.receiver.sightings {
		if s.path != path {
			continue
		}
		// A probe comes 5 s after the failure that made the endpoint failing, or more.
		if last != nil && (probes > 0 || s.begin.Sub(last.begin) > 3*time.Second) {
			if probes++; s.begin.Sub(last.begin) < 3*time.Second {
				f.books.complain("probe %d came %v after the one before, from process %d", probes, s.begin.Sub(last.begin), s.sender)
			}
		}
		last = s
	}
	if probes == 0 {
		f.books.complain("there was no probe")
	}
	return probes
}

// takesIn waits until a member takes events in.
func (f *fleet) takesIn(m *fleetMember) error {
	why := ""
	if await(20*time.Second, func() bool { why = notReady(m.server); return strings.HasPrefix(why, "200") }) {
		return nil
	}
	return fmt.Errorf("it is not ready: %s\n%s", why, m.log)
}

// A process is cut off from the database, by a network that loses everything, or refuses it, and by one that brings what was sent late. Others take its lanes over,
// and no delivery is ever attempted by two processes at once: the first one begins no attempts any more and cuts off those in flight.
func TestFleetPartition(t *testing.T) {
	fleetExperiment(t)
	binary := build(t)
	var total verdict
	var p fleetPartitions
	rounds, n := scale(1, 10), scale(2, 10)
	for round := range rounds {
		total.add(p.round(t, binary, random(t, "adversary", round), n, false))
	}
	summarize(t, "fleet, partitions: %v; %v", &p, &total)
	total.hold(t)
	p.gaps.hold(t, resumeWithin())
}

func TestFleetPartitionControl(t *testing.T) {
	fleetExperiment(t)
	var p fleetPartitions
	line := caught(t, "attempts that go on without a lease", func(r *rand.Rand) *verdict { return p.round(t, build(t, uncutFleet...), r, scale(1, 5), true) })
	if line != "" {
		summarize(t, "fleet, partitions, control %q: caught after %d: %s", "attempts that go on without a lease", p.silent, firstLines(line, 1))
	}
}

type fleetPartitions struct {
	silent, refused, short int
	gaps                   gaps
}

func (p *fleetPartitions) String() string {
	return fmt.Sprintf("%d silent and %d refused, %d of them too short for others to take over; went on: %v", p.silent, p.refused, p.short, p.gaps)
}

// round cuts members off n times. Some attempts last longer than the lease.
func (p *fleetPartitions) round(t *testing.T, binary string, r *rand.Rand, n int, enough bool) *verdict {
	f := newFleet(t, fleetOptions{rigOptions: rigOptions{binary: binary, manner: manner{failing: 0.05, slow: 0.05, slowness: 200 * time.Millisecond, long: 0.02, longness: 9500 * time.Millisecond}}, proxied: true})
	pass(2*time.Second, nil) // for long attempts
	for i := range n {
		m, err := f.victim(r, nil)
		if f.complains(err) {
			break
		}
		lasts := between(r, 10*time.Second, 12*time.Second)
		if *longForm && r.IntN(3) == 0 {
			lasts = between(r, time.Second, 7*time.Second)
			p.short++
		}
		paths, pid := f.lanesOf(m.pid()), m.pid()
		f.forget(pid)
		k := strike{pid: pid, from: time.Now()}
		if enough || r.IntN(2) == i%2 {
			p.silent++
			m.proxy.silence()
		} else {
			p.refused++
			m.proxy.refuse()
		}
		// Its last beat may have been begun just before.
		k.until = k.from.Add(leaseOfAttempts)
		if lasts > 9*time.Second {
			p.gaps = append(p.gaps, f.resumed(paths, k.from, resumeWithin())...)
		}
		pass(time.Until(k.from.Add(lasts)), m.exited)
		m.proxy.mend(r.IntN(2) == 0)
		f.strikes = append(f.strikes, k)
		if f.complains(f.takesIn(m)) || f.complains(f.allRun()) {
			break
		}
	}
	return f.finish(enough || len(f.books.trouble) > 0, 30*time.Second)
}

// leaseOfAttempts is for how long a process may begin attempts that is cut off: for five beats, and some time to be read by the receiver.
const leaseOfAttempts = 5*time.Second + readLate

// Connections of three processes break in the middle of commits, without their answers: nothing is lost, stored twice, or repeated.
func TestFleetCut(t *testing.T) {
	fleetExperiment(t)
	binary := build(t)
	var total verdict
	var cuts commitCuts
	rounds, n := scale(1, 10), scale(12, 100)
	for round := range rounds {
		total.add(cuts.fleetRound(t, binary, random(t, "adversary", round), n))
	}
	summarize(t, "fleet, cut in commits: %v; %v", &cuts, &total)
	total.hold(t)
	if total.Unrecorded > 0 || cuts.settled == 0 {
		t.Errorf("%d attempts were unrecorded, %g commits settled, want none, and some", total.Unrecorded, cuts.settled)
	}
}

func TestFleetCutControl(t *testing.T) {
	fleetExperiment(t)
	var cuts commitCuts
	line := caught(t, "no settling", func(r *rand.Rand) *verdict {
		return cuts.fleetRound(t, build(t, unsettledPostgres...), r, scale(12, 50))
	})
	if line != "" {
		summarize(t, "fleet, cut in commits, control %q: caught after %d: %s", "no settling", cuts.n, firstLines(line, 1))
	}
}

// fleetRound cuts n commits of the members of a fleet off.
func (k *commitCuts) fleetRound(t *testing.T, binary string, r *rand.Rand, n int) *verdict {
	f := newFleet(t, fleetOptions{rigOptions: rigOptions{binary: binary, manner: difficult}, proxied: true})
	for range n {
		m := f.members[r.IntN(fleetSize)]
		pass(between(r, 0, 60*time.Millisecond), m.exited)
		had := m.proxy.cuts.Load()
		m.proxy.armed.Store(new(cut{mid: r.IntN(4) == 0, wait: between(r, 0, 10*time.Millisecond) / 2, answer: r.IntN(40)}))
		if !await(20*time.Second, func() bool { return m.proxy.cuts.Load() > had || !m.running() }) {
			f.books.complain("no commit came")
		}
		k.n++
		took, err := f.takenIn(m.server, 20*time.Second)
		if k.slowest = max(k.slowest, took); f.complains(err) || f.complains(f.allRun()) {
			break
		}
	}
	for _, m := range f.members {
		if m.running() {
			k.settled += max(metric(t, m.server, "hookbolt_postgres_settled_commits_total"), 0)
		}
	}
	return f.finish(len(f.books.trouble) > 0, 30*time.Second)
}

// The server of the database crashes, or loses a process, under three processes: they go on when it is back, nothing is lost, stored twice or repeated, and nobody is
// taken for dead.
func TestFleetServerKill(t *testing.T) {
	fleetExperiment(t)
	binary := build(t)
	c := postgrestest.Start(t, postgrestest.Options{Durable: true})
	var total verdict
	var kills serverKills
	rounds, n := scale(1, 5), scale(3, 20)
	for round := range rounds {
		total.add(kills.fleetRound(t, c, binary, random(t, "adversary", round), n, false))
	}
	summarize(t, "fleet, the server of its database: %v; %v", &kills, &total)
	total.hold(t)
	if total.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded", total.Unrecorded)
	}
}

func TestFleetServerKillControl(t *testing.T) {
	fleetExperiment(t)
	var kills serverKills
	c := postgrestest.Start(t, postgrestest.Options{Durable: true})
	line := caught(t, "commits that are not waited for", func(r *rand.Rand) *verdict {
		return kills.fleetRound(t, c, build(t, asynchronous...), r, scale(4, 20), true)
	})
	if line != "" {
		summarize(t, "fleet, the server of its database, control %q: caught after %d: %s", "commits that are not waited for", kills.all(), firstLines(line, 1))
	}
}

// fleetRound strikes a server n times under a fleet.
func (k *serverKills) fleetRound(t *testing.T, c *postgrestest.Cluster, binary string, r *rand.Rand, n int, crash bool) *verdict {
	f := newFleet(t, fleetOptions{rigOptions: rigOptions{binary: binary, manner: difficult}, cluster: c})
	before := f.memberIDs()
	for range n {
		pass(between(r, 300*time.Millisecond, 1500*time.Millisecond), nil)
		if err := k.strike(t, c, r, crash); err != nil {
			t.Error(err)
			break
		}
		for _, m := range f.members {
			took, err := f.takenIn(m.server, 20*time.Second)
			if k.slowest = max(k.slowest, took); f.complains(err) {
				break
			}
		}
		if f.complains(f.allRun()) {
			break
		}
	}
	f.stay(before)
	for _, m := range f.members {
		if m.running() {
			k.settled += max(metric(t, m.server, "hookbolt_postgres_settled_commits_total"), 0)
		}
	}
	return f.finish(len(f.books.trouble) > 0, 30*time.Second)
}

// The clocks of the members differ, by two minutes in the long form: nobody is taken for dead, nothing is lost or repeated, and nothing is later than that.
func TestFleetSkew(t *testing.T) {
	fleetExperiment(t)
	skew := scale(15*time.Second, 2*time.Minute)
	v, latest := skewRound(t, build(t, skewedClock...), random(t, "adversary", 0), skew, false)
	summarize(t, "fleet, clocks off by ±%v: latest attempt %v after due; %v", skew, latest.Round(time.Millisecond), v)
	v.hold(t)
	if v.Unrecorded > 0 {
		t.Errorf("%d attempts were unrecorded", v.Unrecorded)
	}
}

func TestFleetSkewControl(t *testing.T) {
	fleetExperiment(t)
	line := caught(t, "beats that are times", func(r *rand.Rand) *verdict {
		v, _ := skewRound(t, build(t, comparingFleet...), r, scale(15*time.Second, 2*time.Minute), true)
		return v
	})
	if line != "" {
		summarize(t, "fleet, clocks off, control %q: caught: %s", "beats that are times", firstLines(line, 1))
	}
}

// skewRound has a fleet work with clocks that are off by skew, in one direction and, in the long form, in both.
func skewRound(t *testing.T, binary string, r *rand.Rand, skew time.Duration, enough bool) (v *verdict, latestAfter time.Duration) {
	skews := scale([]time.Duration{0, -skew, 0}, []time.Duration{skew, -skew, 0})
	f := newFleet(t, fleetOptions{rigOptions: rigOptions{binary: binary, manner: difficult}, skews: skews})
	before := f.memberIDs()
	pass(between(r, scale(4*time.Second, time.Minute), scale(5*time.Second, 2*time.Minute)), nil)
	f.stay(before)
	v = f.finish(enough, 30*time.Second+scale(skew, 2*skew))
	delays := make(map[string]time.Duration)
	for _, h := range f.opts.hooks {
		delays[h.path] = time.Duration(h.delay+h.incompleteDelay) * time.Second
	}
	f.ledger.mu.Lock()
	defer f.ledger.mu.Unlock()
	for k, e := range f.ledger.expected {
		if e.must && !e.seenAt.IsZero() {
			latestAfter = max(latestAfter, e.seenAt.Sub(e.ackedAt)-delays[k.path])
		}
	}
	if most := scale(skew, 2*skew) + latest; latestAfter > most {
		v.trouble = append(v.trouble, fmt.Sprintf("an attempt came %v after it was due, at most %v are allowed", latestAfter, most))
	}
	return v, latestAfter
}

// memberIDs are the members of a fleet, as the database has them: one that was taken for dead gets another id.
func (f *fleet) memberIDs() (ids string) {
	var err error
	if !await(20*time.Second, func() bool { // the server may recover
		err = query(f.t, f.opts.schema, &ids, "SELECT COALESCE(string_agg(id::text, ' ' ORDER BY id), '') FROM @.members")
		return err == nil
	}) {
		f.t.Error(err)
	}
	return ids
}

// stay complains if the members are others than before.
func (f *fleet) stay(before string) {
	if now := f.memberIDs(); now != before {
		f.books.complain("members %s were taken for dead: now they are %s: %s", before, now, f.logs())
	}
}
