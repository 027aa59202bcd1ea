package torture

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"hookbolt/internal/torture/lossyfs"
)

var (
	// brittleWriter takes every commit that failed for the end.
	brittleWriter = []edit{{"storage/bolt/writer.go", "lookErr != nil || !isRefusal(err, newest, txid)", "lookErr != nil || newest <= txid"}}
	// noWatermark takes events in as long as there is room at all.
	noWatermark = []edit{{"storage/bolt/space.go", "p.disk.known && left < p.minFree", "p.disk.known && left < 0"}}
)

func init() { mutants = append(mutants, brittleWriter, noWatermark) }

const (
	// maxReturn is how long it may take until events are taken in again once there is room.
	maxReturn = 5 * time.Second
	// fullFor is how long the disk stays full.
	fullFor = 2 * time.Second
)

// fullDisk is one way in which the disk gets full.
type fullDisk struct {
	minFree string // the watermark
	// room is how much the disk has left when the load begins, in bytes.
	room int64
	// reserved tells that the watermark keeps room for what is due, so that deliveries go on while events are refused.
	reserved bool
	// owed is how many deliveries may be owed before the producers wait. The watermark's room must do for them; without one the disk must
	// be full before.
	owed int
	// hooks are the webhooks; nil for standardHooks.
	hooks []hook
}

var (
	watermarkReached = fullDisk{minFree: "4MiB", room: 5 << 20, reserved: true, owed: 300}
	nothingLeft      = fullDisk{minFree: "0", room: 512 << 10, owed: 4000}
	programsFull     = fullDisk{minFree: "0", room: 512 << 10, owed: 4000, hooks: programHooks}
)

// The disk gets full under load, once up to the watermark and once wholly, stays so for a while, in which the process may also be
// killed, and has room again: events are refused by 503 and by nothing else, what was acknowledged is delivered, at the watermark even
// meanwhile, and events are taken in again by themselves.
func TestFullDisk(t *testing.T) {
	experiment(t)
	f := lossyfs.Start(t)
	binary := build(t)
	var total verdict
	var fill fillings
	for round := range scale(1, 5) {
		for i, how := range []fullDisk{watermarkReached, nothingLeft, programsFull} {
			total.add(fill.run(t, f, binary, random(t, fmt.Sprint("round", i), round), how, scale(1, 2)))
		}
	}
	summarize(t, "full disk: %d times, %d requests refused by 503, nothing else; events taken in again at most %v after there was room; %v", fill.times, fill.refused,
		fill.slowest.Round(time.Millisecond), &total)
	total.hold(t)
}

func TestFullDiskControls(t *testing.T) {
	experiment(t)
	f := lossyfs.Start(t)
	for _, c := range []struct {
		name  string
		how   fullDisk
		edits []edit
	}{
		{"a refused commit is the end", nothingLeft, brittleWriter},
		{"no watermark", watermarkReached, noWatermark},
	} {
		var fill fillings
		line := caught(t, c.name, func(r *rand.Rand) *verdict { return fill.run(t, f, build(t, c.edits...), r, c.how, 1) })
		if line != "" {
			summarize(t, "full disk, control %q: caught: %s", c.name, firstLines(line, 1))
		}
	}
}

// fillings counts what happened over all runs.
type fillings struct {
	times, refused int
	slowest        time.Duration // until events were taken in again
}

// run fills the disk of a fresh rig so many times and returns the verdict.
func (c *fillings) run(t *testing.T, f *lossyfs.FS, binary string, r *rand.Rand, how fullDisk, times int) *verdict {
	f.Reset()
	g := newRig(t, rigOptions{binary: binary, databaseDir: f.Dir, hooks: how.hooks, storage: fmt.Sprintf("min_free = %q", how.minFree),
		manner: manner{failing: 0.08, slow: 0.05, slowness: 200 * time.Millisecond}})
	s := g.setUp()
	load := g.refusable(16, how.owed)
	ok := true
	for n := 0; ok && n < times; n++ {
		c.times++
		s, ok = c.fill(f, g, s, load, how, (r.IntN(2)+n)%2 == 0)
	}
	if !ok { // enough was seen
		s.kill()
		g.giveUp()
	}
	load.halt()
	c.refused += load.count(http.StatusServiceUnavailable)
	if !ok {
		g.afterCut(false)
		return g.verdict()
	}
	return g.finish(s)
}

// fill lets the disk get full once and makes room again; in between it ends the server, by kill -9 or as it should be stopped, and starts
// another one. It returns the one that runs then, and false once there is something to complain about.
func (c *fillings) fill(f *lossyfs.FS, g *rig, s *server, load *refusable, how fullDisk, kill bool) (*server, bool) {
	wrong := func(format string, args ...any) (*server, bool) {
		g.books.complain(format, args...)
		return s, false
	}
	before := f.Stats()
	f.SetQuota(before.Used + how.room)
	refused := load.count(http.StatusServiceUnavailable)
	if !await(20*time.Second, func() bool { return load.count(http.StatusServiceUnavailable) > refused || !s.running() }) {
		return wrong("no request was refused: %+v", f.Stats())
	}
	pass(fullFor, s.exited)
	if !s.running() {
		return wrong("it ended by itself with code %d:\n%s", s.exitCode(), s.log)
	}
	if how.reserved {
		if n := f.Stats().Refused - before.Refused; n > 0 {
			return wrong("%d writes were refused in spite of the watermark", n)
		}
		if !await(20*time.Second, func() bool { return g.ledger.owing() == 0 }) {
			return wrong("%d deliveries do not go on while events are refused", g.ledger.owing())
		}
	}

	if kill {
		s.kill()
	} else {
		s.terminate()
		if code, err := s.wait(20 * time.Second); err != nil || code != 0 {
			return wrong("SIGTERM with a full disk: code %d, %v:\n%s", code, err, s.log)
		}
	}
	g.afterCut(false) // what was sent may have found no room to be recorded
	var err error
	if s, err = g.start(); err != nil {
		return wrong("with a full disk: %v", err)
	}

	accepted := load.count(http.StatusAccepted)
	f.SetQuota(0)
	began := time.Now()
	await(4*maxReturn, func() bool { return load.count(http.StatusAccepted) > accepted })
	took := time.Since(began)
	if c.slowest = max(c.slowest, took); took > maxReturn {
		return wrong("no events are taken in, %v after there was room", took)
	}
	return s, true
}

// refusable are producers to whom a refusal by 503 is an answer: nothing of the request was stored.
type refusable struct {
	rig  *rig
	owed int // how many deliveries may be owed before they wait
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	answered map[int]int // requests by the status of their answer; guarded by mu
}

// refusable starts n of them on a rig.
func (g *rig) refusable(n, owed int) *refusable {
	p := &refusable{rig: g, owed: owed, stop: make(chan struct{}), answered: make(map[int]int)}
	for i := range n {
		r := random(g.t, "producer", g.nextPart()*1000+i)
		p.done.Go(func() { p.run(r) })
	}
	return p
}

func (p *refusable) halt() {
	close(p.stop)
	p.done.Wait()
}

// forget forgets what was counted so far.
func (p *refusable) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.answered)
}

func (p *refusable) count(status int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered[status]
}

func (p *refusable) run(r *rand.Rand) {
	client := newClient()
	defer client.CloseIdleConnections()
	for {
		select {
		case <-p.stop:
			return
		default:
		}
		// Where nothing is delivered, because the disk is full, what is owed stays; a request is due all the same, to be refused.
		for waits := 0; waits < 100 && p.rig.ledger.owing() > p.owed; waits++ {
			pass(10*time.Millisecond, p.stop)
		}
		for _, req := range p.rig.draft(r) {
			if !p.send(client, req) {
				break
			}
		}
	}
}

// send sends a request once and tells whether it was acknowledged.
func (p *refusable) send(client *http.Client, req *request) bool {
	urls, _ := p.rig.await(p.stop, false)
	if len(urls) == 0 {
		return false
	}
	p.rig.ledger.sending(req)
	status, err := post(client, urls[0]+"/v1/events", req.body, req.events)
	p.mu.Lock()
	p.answered[status]++ // 0 where it was killed
	p.mu.Unlock()
	if err == nil && status == http.StatusAccepted {
		p.rig.ledger.acknowledge(req)
		return true
	}
	if err == nil && status != http.StatusServiceUnavailable {
		p.rig.ledger.complain("POST /v1/events: %d", status)
	}
	p.rig.ledger.abandon(req)
	pass(20*time.Millisecond, p.stop)
	return false
}
