package transform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waitFor is how long a test waits for something that should happen soon. It is long enough for a busy machine.
const waitFor = 20 * time.Second

// events counts what a pool tells its observer.
type events struct {
	sync.Mutex
	seen    map[string]int
	changed chan struct{} // gets a value after each event
}

func newEvents() *events { return &events{seen: make(map[string]int), changed: make(chan struct{}, 1)} }

func (e *events) add(name string) {
	e.Lock()
	e.seen[name]++
	e.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *events) observer() Observer {
	return Observer{
		Ran:     func(outcome string, _ time.Duration) { e.add(outcome) },
		Started: func() { e.add("started") },
		Ended:   func(reason string) { e.add(reason) },
	}
}

// wait waits until an event has happened n times.
func (e *events) wait(t *testing.T, name string, n int) {
	t.Helper()
	timeout := time.After(waitFor)
	for {
		e.Lock()
		seen := e.seen[name]
		e.Unlock()
		if seen >= n {
			return
		}
		select {
		case <-e.changed:
		case <-timeout:
			t.Fatalf("%q happened %d times, want %d: %v", name, seen, n, e.seen)
		}
	}
}

// long is a program that takes a while and gives a result, and endless one that never looks at its budget.
const (
	long    = `[range(5000) | tostring] | length`
	endless = `("a" * 3000000) | test("(a?){500}(a?){500}b")`
)

// active returns a worker that runs a job; nil if none does.
func active(p *Pool) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := range p.schedule.active {
		return at.worker
	}
	return nil
}

// running waits until a worker runs a job.
func running(t *testing.T, p *Pool) {
	t.Helper()
	for deadline := time.Now().Add(waitFor); active(p) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no worker runs")
		}
	}
}

// kill ends the process of a worker as the kernel does when memory runs out.
func kill(w *worker) { w.cmd.Process.Kill() }

// A pool has no process before there is a program to run, and ends those that have nothing to do.
func TestPoolStartsAndEndsWorkers(t *testing.T) {
	e := newEvents()
	pool := NewPool(Options{IdleTimeout: 50 * time.Millisecond, Observe: e.observer()})
	defer pool.Close()
	if r, err := pool.Run(t.Context(), Job{Payload: []byte(`{}`)}); err != nil || string(r.Body) != "{}" {
		t.Fatal(r, err)
	}
	if len(e.seen) > 0 {
		t.Errorf("without programs: %v", e.seen)
	}
	for range 3 {
		if r, err := pool.Run(t.Context(), Job{Programs: Programs{Transform: "[.]"}, Payload: []byte(`{}`)}); err != nil || string(r.Body) != "[{}]" {
			t.Fatal(r, err)
		}
	}
	if e.seen["started"] != 2 || e.seen["sent"] != 3 { // one of low priority, while the owner is unknown
		t.Errorf("after three jobs, one after the other: %v", e.seen)
	}
	e.wait(t, "idle", 2)
}

// A result comes through the pipes as Eval gives it.
func TestPoolResults(t *testing.T) {
	pool := NewPool(Options{})
	defer pool.Close()
	large := []byte(`"` + strings.Repeat("x", 300<<10) + `"`)
	for _, job := range []Job{
		{Programs: Programs{Filter: "true"}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{Filter: "false"}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{Transform: "empty"}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{Transform: `"ü\u2028"`, Encoding: EncodingText}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{Transform: `""`, Encoding: EncodingText}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{Transform: `{a, b: [1, 2]}`, Encoding: EncodingForm}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{URLValues: `{a, b: "x y", c: true}`}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{URLValues: `{}`}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{Transform: `.[:200000]`}, Payload: large},
		{Programs: Programs{Filter: `true`}, Payload: large},
		{Programs: Programs{Transform: `. * 5`}, Payload: large},
		{Programs: Programs{Filter: ".a |"}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{URLValues: "{a: []}"}, Payload: []byte(`{"a":1}`)},
		{Programs: Programs{Filter: "true"}, Payload: []byte(`{`)},
		{Programs: Programs{Filter: strings.Repeat(" ", MaxProgramBytes) + "1"}, Payload: []byte(`{}`)},
	} {
		want, wantErr := Eval(job)
		got, err := pool.Run(t.Context(), job)
		if got.Filtered != want.Filtered || !bytes.Equal(got.Body, want.Body) || (got.URLValues == nil) != (want.URLValues == nil) ||
			!maps.Equal(got.URLValues, want.URLValues) || got.Steps != want.Steps || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%.100q: got %.100s, %v, %v, %d steps\nwant %.100s, %v, %v, %d steps", job.Transform, got.Body, got.URLValues, err, got.Steps,
				want.Body, want.URLValues, wantErr, want.Steps)
		}
	}
}

// A worker that somebody else ends is replaced, and its job runs again; not for ever.
func TestPoolSurvivesLostWorkers(t *testing.T) {
	for kills := range 4 {
		for lost := -1; lost != min(kills, maxTries); { // a job may end before its worker is killed: try again
			lost = 0
			e := newEvents()
			pool := NewPool(Options{Observe: e.observer()})
			answered := make(chan struct{})
			var result Result
			var err error
			go func() {
				defer close(answered)
				result, err = pool.Run(t.Context(), Job{Programs: Programs{Transform: long}, Payload: []byte(`{}`)})
			}()
			killed := make(map[*worker]bool)
			for done := false; !done; {
				select {
				case <-answered:
					done = true
				case <-time.After(200 * time.Microsecond):
					if w := active(pool); w != nil && !killed[w] && len(killed) < kills {
						kill(w)
						killed[w] = true
					}
				}
			}
			pool.Close()
			lost = e.seen["lost"]
			if lost < maxTries && (err != nil || string(result.Body) != "5000") || lost == maxTries && !errors.Is(err, ErrNoWorker) {
				t.Fatalf("%d kills: got %s, %v", lost, result.Body, err)
			}
		}
	}
}

// A worker that was ended while it had no job is replaced without anybody noticing.
func TestPoolReplacesIdleWorkers(t *testing.T) {
	pool := NewPool(Options{})
	defer pool.Close()
	job := Job{Programs: Programs{Transform: "1"}, Payload: []byte(`{}`)}
	for range 3 {
		if _, err := pool.Run(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		for _, w := range pool.idle {
			kill(w)
			<-w.ended
		}
	}
}

// A caller that gives up gets an answer at once, whether its job waits or runs, and so does everybody when the pool is closed.
func TestPoolGivesUp(t *testing.T) {
	pool := NewPool(Options{Fast: 2, Slow: 1})
	job := Job{Programs: Programs{Transform: endless}, Payload: []byte(`{}`)}
	because := errors.New("because")
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	for range 4 { // of one owner: one runs, the others wait
		wg.Go(func() {
			if _, err := pool.Run(ctx, job); err != because {
				t.Errorf("got %v", err)
			}
		})
	}
	running(t, pool)
	cancel(because)
	wg.Wait()
	for range 4 {
		wg.Go(func() {
			if _, err := pool.Run(t.Context(), job); err != ErrClosed {
				t.Errorf("got %v", err)
			}
		})
	}
	running(t, pool)
	pool.Close()
	wg.Wait()
	if _, err := pool.Run(t.Context(), job); err != ErrClosed {
		t.Errorf("after Close: %v", err)
	}
	pool.Close()
}

// Where no worker can be started, the error says so, and blames no program.
func TestNoWorker(t *testing.T) {
	for name, command := range map[string][]string{
		"no program":         {filepath.Join(t.TempDir(), "gone"), Command},
		"ends at once":       {os.Args[0], "-test.run=^$"},
		"of another version": {os.Args[0], "-test.run=^TestNone$", "-test.v"},
	} {
		e := newEvents()
		pool := NewPool(Options{Command: command, Observe: e.observer()})
		_, err := pool.Run(t.Context(), Job{Programs: Programs{Transform: "1"}, Payload: []byte(`{}`)})
		if !errors.Is(err, ErrNoWorker) || e.seen["no_worker"] != 1 {
			t.Errorf("%s: %v, %v", name, err, e.seen)
		}
		pool.Close()
	}
}

// While thirty owners have programs that mean harm, the jobs of another one find a worker.
func TestPoolIsFair(t *testing.T) {
	pool := NewPool(Options{Fast: 2, Slow: 1})
	good := Job{Programs: Programs{Transform: "{a}"}, Owner: 1000, Payload: []byte(`{"a":1}`)}
	if _, err := pool.Run(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var ended atomic.Int32
	for i := range 30 {
		wg.Go(func() {
			for ctx.Err() == nil {
				program := []string{endless, `def f: f; f`, `def f: [f]; f`, `"^" * 78888880 | test("x")`}[i%4]
				if _, err := pool.Run(ctx, Job{Programs: Programs{Transform: program}, Owner: uint32(i), Payload: []byte(`{}`)}); err == nil && i%4 != 3 { // the last one may end within its limits
					t.Error("it gave a result")
				}
				ended.Add(1)
			}
		})
	}
	running(t, pool)
	var slowest time.Duration
	const jobs = 200
	for range jobs {
		began := time.Now()
		if _, err := pool.Run(t.Context(), good); err != nil {
			t.Error(err)
		}
		slowest = max(slowest, time.Since(began))
		time.Sleep(time.Millisecond)
	}
	cancel()
	wg.Wait()
	pool.Close()
	t.Logf("the slowest of %d jobs took %s, while %d others ended", jobs, slowest, ended.Load())
	if slowest > time.Second { // in turn with the others it would be many
		t.Errorf("the slowest of %d jobs took %s", jobs, slowest)
	}
}

// parentCommand makes the test binary a parent of workers: it removes its file, runs a job, and then one that does not end.
const parentCommand = "transform-parent"

func parent() int {
	os.Remove(os.Args[2])
	pool := NewPool(Options{})
	r, err := pool.Run(context.Background(), Job{Programs: Programs{Transform: "{a}"}, Payload: []byte(`{"a":1}`)})
	w := pool.idleWorker(unknown)
	if err != nil || w == nil {
		fmt.Println(err)
		return 1
	}
	pool.returnWorker(w)
	fmt.Println(string(r.Body), w.cmd.Process.Pid)
	pool.Run(context.Background(), Job{Programs: Programs{Transform: `("a" * 300000) | test("(a?){500}(a?){500}b")`}, Payload: []byte(`{}`)})
	return 0
}

// A program whose file was removed, or replaced by another version, can still start workers, and they end with their parent.
func TestWorkerOfARemovedFileEndsWithItsParent(t *testing.T) {
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		t.Skip("what this is about is Linux's way: ", err)
	}
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, binary, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, parentCommand, path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var body string
	var pid int
	if _, err := fmt.Fscan(out, &body, &pid); err != nil || body != `{"a":1}` {
		t.Fatal(body, pid, err)
	}
	for deadline := time.Now().Add(waitFor); !strings.HasPrefix(state(pid), "R") && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	cmd.Process.Kill()
	cmd.Wait()
	began := time.Now()
	for state(pid) != "" {
		if time.Since(began) > 2*time.Second {
			t.Fatalf("the worker is still there: %s", state(pid))
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("the worker ended within %s", time.Since(began))
}

// state returns the state of a process; "" if it has ended.
func state(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, s, _ := strings.Cut(string(stat), ") ")
	if err != nil || strings.HasPrefix(s, "Z") {
		return ""
	}
	return s
}

// Workers that come and go leave no descriptor behind.
func TestPoolLeaksNoDescriptor(t *testing.T) {
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("only Linux tells: ", err)
		}
		return len(entries)
	}
	job := Job{Programs: Programs{Transform: `[limit(3; repeat(1))] | error`}, Payload: []byte(`{}`)}
	before := descriptors()
	for range 10 {
		pool := NewPool(Options{})
		pool.Run(t.Context(), job)
		for _, w := range pool.idle {
			kill(w)
		}
		pool.Run(t.Context(), job)
		pool.Close()
	}
	if after := descriptors(); after > before+2 { // what the runtime and others open
		t.Errorf("%d descriptors, and %d before", after, before)
	}
}
