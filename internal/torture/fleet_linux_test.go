package torture

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hookbolt/internal/postgrestest"
)

// fleet is a rig of several processes on one database. They are struck one after another while the others go on, so its books are closed once, at the end: see
// account. The system tells whose each request at the receiver is.
type fleet struct {
	*rig
	opts    fleetOptions
	members []*fleetMember
	load    *producers
	strikes []strike

	pidsMu sync.Mutex
	pids   []int // of all processes so far; guarded by pidsMu
}

// fleetOptions are what an experiment chooses.
type fleetOptions struct {
	rigOptions
	cluster *postgrestest.Cluster
	// apart has the last member see no process of the others, nor they its process, as on another machine.
	apart bool
	// proxied has each member reach the database through a proxy of its own.
	proxied bool
	// woken is how many requests a process may send that was stopped, taken over, and woken: of attempts that had passed their last look at the lease.
	woken int
	// skews are how far the members' clocks are off; nil for not at all.
	skews []time.Duration
	// spread has each member own webhooks before the load begins.
	spread bool
}

// fleetMember is a place in a fleet, and the process that has it now.
type fleetMember struct {
	*server
	env   []string
	apart bool
	proxy *cutter
	skew  time.Duration
}

// strike is what was done to a process, from when until when its requests may be repeated.
type strike struct {
	pid         int
	from, until time.Time
	// woken is when it went on; zero where it did not. See account.
	woken time.Time
	ended bool // it was killed
}

const fleetSize = 3

// fleetHooks are enough for each member to own some, more often than not: see spread.
var fleetHooks = []hook{
	{path: "/a", answers: true, leads: true},
	{path: "/b", answers: true},
	{path: "/c", leads: true},
	{path: "/d"},
	{path: "/later", delay: 1, answers: true},
	{path: "/unfinished", delay: 1, incomplete: true, incompleteDelay: 1, answers: true, leads: true},
}

// resumeWithin is how soon deliveries of lanes must go on after their process has ended, of three members, and resumeWithinTerm after one was stopped. The short form
// runs beside other experiments, on machines that are noisy.
func resumeWithin() time.Duration     { return scale(30*time.Second, 12*time.Second) }
func resumeWithinTerm() time.Duration { return scale(10*time.Second, 3*time.Second) }

// The short form of all fleets would take minutes. So it makes some of the experiments, and some of the controls; others the next time.
const (
	shortFleets        = 2
	shortFleetControls = 2
)

var (
	fleetTests = []string{"TestFleetRestart", "TestFleetStop", "TestFleetPartition", "TestFleetCut", "TestFleetServerKill", "TestFleetSkew", "TestFleetSettings"}
	// fleetControls are those with broken fleets.
	fleetControls = []string{"TestFleetKillOrphanedControl", "TestFleetKillRashControl", "TestFleetRestartControl", "TestFleetStopControl", "TestFleetPartitionControl", "TestFleetCutControl",
		"TestFleetServerKillControl", "TestFleetSkewControl", "TestFleetSettingsControl"}
)

// fleetExperiment is experiment for one of fleetTests or fleetControls.
func fleetExperiment(t *testing.T) {
	t.Helper()
	asked := flag.Lookup("test.run").Value.String() != ""
	r := rand.New(rand.NewPCG(seed, 0))
	var drawn []string
	for _, list := range []struct {
		names []string
		n     int
	}{{fleetTests, shortFleets}, {fleetControls, shortFleetControls}} {
		for _, i := range r.Perm(len(list.names))[:list.n] {
			drawn = append(drawn, list.names[i])
		}
	}
	if !slices.Contains(fleetTests, t.Name()) && !slices.Contains(fleetControls, t.Name()) {
		t.Fatal("it is in no list of those that are drawn")
	}
	if *shortForm && !asked && !slices.Contains(drawn, t.Name()) {
		t.Skipf("the short form makes %d of %d such experiments, which the seed draws, unless -run asks for others", shortFleets+shortFleetControls, len(fleetTests)+len(fleetControls))
	}
	experiment(t)
}

// requireApart tells whether members can be kept from seeing each other's processes.
func requireApart(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("not root: all members see each other's processes, so that none is found dead by its beats alone")
		return false
	}
	return true
}

// newFleet starts the members of a fleet, makes its webhooks and lets producers begin.
func newFleet(t *testing.T, opts fleetOptions) *fleet {
	t.Helper()
	if opts.cluster == nil {
		opts.cluster = postgrestest.SharedDurable(t)
	}
	if opts.schema == nil {
		opts.schema = newSchema(t, opts.cluster)
	}
	opts.patience = 2 * time.Second
	if opts.hooks == nil {
		opts.hooks = fleetHooks
	}
	if opts.draft == nil {
		opts.draft = func(g *rig, r *rand.Rand) []*request {
			pass(between(r, 0, 250*time.Millisecond), g.over)
			return g.draft(r)
		}
	}
	f := &fleet{rig: newRig(t, opts.rigOptions), opts: opts}
	f.receiver.sender = f.sender
	for i := range fleetSize {
		m := &fleetMember{apart: opts.apart && i == fleetSize-1}
		if opts.proxied {
			m.proxy = newCutter(t, opts.cluster)
			m.env = append(m.env, "HOOKBOLT_STORAGE_POSTGRES_URL="+m.proxy.url())
		}
		if opts.skews != nil {
			m.skew = opts.skews[i]
			c := newClock(t)
			c.set(t, m.skew)
			m.env = append(m.env, "HOOKBOLT_TORTURE_SKEW="+c.file.Name())
		}
		f.members = append(f.members, m)
		f.launch(m)
		if _, err := m.awaitReady(startPatience); err != nil {
			t.Fatal(err)
		}
	}
	f.makeHooks(f.members[0].server)
	if opts.spread {
		f.spread()
	}
	f.tell()
	f.load = f.produce(scale(3, 6))
	return f
}

// spread makes webhooks anew until each member owns some: who owns one is drawn with its id, and of six a member of three gets none in nine cases of a hundred.
func (f *fleet) spread() {
	f.t.Helper()
	s := f.members[0].server
	for range 100 {
		lacks := false
		settled := await(10*time.Second, func() bool {
			var shown struct {
				Items []struct{ Webhooks int }
			}
			if err := call(f.t.Context(), "GET", s.url()+"/v1/members", nil, &shown); err != nil {
				f.t.Fatal(err)
			}
			owned := 0
			lacks = len(shown.Items) < fleetSize
			for _, m := range shown.Items {
				owned += m.Webhooks
				lacks = lacks || m.Webhooks == 0
			}
			return owned == len(f.rig.opts.hooks)
		})
		if settled && !lacks {
			return
		}
		for id, path := range f.paths { // one of them
			if err := call(f.t.Context(), "DELETE", fmt.Sprintf("%s/v1/webhooks/%d", s.url(), id), nil, nil); err != nil {
				f.t.Fatal(err)
			}
			delete(f.paths, id)
			f.makeHook(s, f.rig.opts.hooks[slices.IndexFunc(f.rig.opts.hooks, func(h hook) bool { return h.path == path })])
			break
		}
	}
	f.t.Fatalf("webhooks were made anew a hundred times, and there is a member that owns none: %s", f.logs())
}

// launch starts a process for a member.
func (f *fleet) launch(m *fleetMember) {
	f.t.Helper()
	as := &syscall.SysProcAttr{}
	if m.apart {
		as.Cloneflags = syscall.CLONE_NEWPID
	}
	m.server = launchAs(f.t, as, f.opts.binary, slices.Concat(f.opts.env, m.env), "serve", "-config", f.config)
	f.pidsMu.Lock()
	f.pids = append(f.pids, m.pid())
	f.pidsMu.Unlock()
}

// restart starts a process for a member again.
func (f *fleet) restart(m *fleetMember) error {
	f.launch(m)
	took, err := m.awaitReady(startPatience)
	f.slowest = max(f.slowest, took)
	f.tell()
	return err
}

// tell tells the producers which members there are.
func (f *fleet) tell() {
	var urls []string
	for _, m := range f.members {
		if m.running() {
			urls = append(urls, m.url())
		}
	}
	f.announce(urls...)
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// sender is the process that has made a connection: its socket is among its open files.
func (f *fleet) sender(at net.Addr) int {
	f.pidsMu.Lock()
	defer f.pidsMu.Unlock()
	for range 5 { // the table changes while it is read
		inode := socketOf(at)
		for _, pid := range slices.Backward(f.pids) {
			if inode != "" && hasSocket(pid, inode) {
				return pid
			}
		}
	}
	return 0
}

// socketOf is the number of the socket with an address of IPv4; "" if there is none.
func socketOf(at net.Addr) string {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	port := fmt.Sprintf(":%04X", at.(*net.TCPAddr).Port)
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 9 && strings.HasSuffix(fields[1], port) {
			return fields[9]
		}
	}
	return ""
}

func hasSocket(pid int, inode string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, file := range files {
		if to, err := os.Readlink(filepath.Join(dir, file.Name())); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}

// lanesOf are the paths whose last request came from a process.
func (f *fleet) lanesOf(pid int) (paths []string) {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	for path, s := range f.receiver.lastOf {
		if s.sender == pid && time.Since(s.begin) < 3*time.Second {
			paths = append(paths, path)
		}
	}
	return paths
}

// victim draws a member that owns lanes, after some time.
func (f *fleet) victim(r *rand.Rand, which func(*fleetMember) bool) (*fleetMember, error) {
	pass(between(r, 1200*time.Millisecond, 2*time.Second), nil) // a newcomer gets lanes in less than that
	var owners []*fleetMember
	await(20*time.Second, func() bool {
		owners = nil
		for _, m := range f.members {
			if m.running() && len(f.lanesOf(m.pid())) > 0 && (which == nil || which(m)) {
				owners = append(owners, m)
			}
		}
		return len(owners) > 0
	})
	if len(owners) == 0 {
		return nil, fmt.Errorf("no such member sends anything: %s", f.logs())
	}
	return owners[r.IntN(len(owners))], nil
}

// logs are the ends of what all members have printed.
func (f *fleet) logs() string {
	var all strings.Builder
	for i, m := range f.members {
		text := m.log.String()
		fmt.Fprintf(&all, "\nmember %d, process %d:\n%s", i+1, m.pid(), text[max(0, len(text)-3000):])
	}
	return all.String()
}

// gaps are for how long lanes stood still.
type gaps []time.Duration

func (g gaps) String() string {
	if len(g) == 0 {
		return "no lane"
	}
	return fmt.Sprintf("%d lanes, p50 %v, p99 %v, at most %v", len(g), percentile(g, 0.5).Round(10*time.Millisecond), percentile(g, 0.99).Round(10*time.Millisecond),
		slices.Max(g).Round(10*time.Millisecond))
}

// forget has the receiver look for the first requests that come from other processes than this one.
func (f *fleet) forget(pid int) {
	f.receiver.mu.Lock()
	defer f.receiver.mu.Unlock()
	f.receiver.forgotten = pid
	clear(f.receiver.firstOf)
}

// hold checks that 99 of 100 lanes went on in time.
func (g gaps) hold(t *testing.T, within time.Duration) {
	t.Helper()
	if p99 := percentile(g, 0.99); p99 > within {
		t.Errorf("deliveries went on after %v (p99), at most %v are allowed", p99.Round(time.Millisecond), within)
	}
}

// probePatience is how much longer than within resumed waits for a lane: its endpoint may just have failed, and is asked again after some seconds.
const probePatience = 10 * time.Second

// resumed waits until the deliveries of lanes go on, and returns after how long each did. forget was called just before that.
func (f *fleet) resumed(paths []string, from time.Time, within time.Duration) (found gaps) {
	at := func(path string) *sighting {
		f.receiver.mu.Lock()
		defer f.receiver.mu.Unlock()
		return f.receiver.firstOf[path]
	}
	for _, path := range paths {
		if !await(time.Until(from.Add(within+probePatience)), func() bool { return at(path) != nil }) {
			f.books.complain("strike %d: nothing of %s was sent for %v: %s", len(f.strikes), path, time.Since(from).Round(time.Millisecond), f.logs())
			return found
		}
		found = append(found, at(path).begin.Sub(from))
	}
	return found
}

// complains notes an error and tells whether there is one.
func (f *fleet) complains(err error) bool {
	if err != nil {
		f.books.complain("strike %d: %v", len(f.strikes), err)
	}
	return err != nil
}

// finish ends the load, lets everything arrive, stops all members as they should be stopped, and closes the books. With abandon it does not wait for what has not
// arrived: there is something to complain of already.
func (f *fleet) finish(abandon bool, patience time.Duration) *verdict {
	if abandon {
		f.giveUp()
	}
	f.load.halt()
	if !abandon {
		s := f.members[0].server
		if err := f.settle(s, patience); err != nil {
			f.books.complain("at the end: %v; %s %s", err, f.state(s), f.logs())
		}
		f.ledger.close()
	}
	f.announce()
	for _, m := range f.members {
		m.terminate()
	}
	for i, m := range f.members {
		code, err := m.wait(20 * time.Second)
		if err == nil && code != 0 && !abandon {
			err = fmt.Errorf("exit code %d, want 0:\n%s", code, m.log)
		}
		if err != nil {
			f.books.complain("SIGTERM of member %d: %v", i+1, err)
			m.kill()
		}
	}
	f.closeBooks(abandon)
	v := f.verdict()
	v.Cuts, v.Attempts, v.Repeated = len(f.strikes), f.books.attempts(), v.Unrecorded
	return v
}

// allRun returns an error if a member has ended.
func (f *fleet) allRun() error {
	for i, m := range f.members {
		if !m.running() {
			return errors.Join(fmt.Errorf("member %d has ended by itself with code %d", i+1, m.exitCode()), errors.New(m.log.String()))
		}
	}
	return nil
}
