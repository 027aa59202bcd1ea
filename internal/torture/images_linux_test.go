package torture

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/internal/torture/lossyfs"
)

// quickRetention lets retention be as short as this experiment needs it.
var quickRetention = []edit{{"internal/config/config.go", "minRetention       = engine.Duration(time.Minute)", "minRetention       = engine.Duration(time.Second)"}}

func init() { mutants = append(mutants, quickRetention) }

// What a recorded run keeps, and for how long.
const (
	imageSessionRetention  = 4 * time.Second
	imageDeliveryRetention = 2 * time.Second
)

// The whole binary runs (it takes events in, delivers them, some at the second try, and forgets them), and every operation on its
// files is recorded. From that come the images that power cuts would have left, after each operation: each must open, be whole, and
// hold what was acknowledged and recorded by then.
func TestCrashImages(t *testing.T) {
	experiment(t)
	f := lossyfs.Start(t)
	scratch := inMemory(t)
	run := recordRun(t, f, scratch, scale(2500*time.Millisecond, 5*time.Second))
	images := scale(250, max(12000, len(run.ops)+1)) // at least one after each operation
	bad := run.judge(t, scratch, "images", images, 0)
	for i, line := range bad {
		if i == 10 {
			t.Errorf("and %d more", len(bad)-i)
			break
		}
		t.Error(line)
	}
	if run.expired == 0 {
		t.Errorf("nothing has expired: the experiment saw too little")
	}

	// Without what the syncs have done in its second half, the same run must be found guilty.
	control := run.judge(t, scratch, "control", 50, len(run.ops)/2)
	if len(control) == 0 {
		t.Error("control: without syncs nothing was lost in 50 images: this test sees nothing")
	}
	summarize(t, "crash images: %d of a run of %d operations, %d syncs; %d events in %d requests acknowledged, %d deliveries seen as delivered, %d of the sessions expired: %d images lost something or were damaged; control (syncs that do nothing): %d of 50",
		images, len(run.ops), run.syncs, run.events, run.requests, run.delivered, run.expired, len(bad), len(control))
}

// recordedRun is a run with all its operations and what the world knew after which of them.
type recordedRun struct {
	ops   []lossyfs.Op
	items []item

	syncs, events, requests, delivered, expired int
}

// witness notes what the world knows, each thing with a stamp: the number of operations by which it was known.
type witness struct {
	f *lossyfs.FS

	mu    sync.Mutex
	notes []note // guarded by mu
}

type note struct {
	item
	until time.Time // from then on it may be gone
}

func (w *witness) note(until time.Time, items ...item) {
	stamp := w.f.Stats().Ops
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range items {
		i.From = stamp
		w.notes = append(w.notes, note{i, until})
	}
}

// recordRun runs the binary under load for some time and stops it.
func recordRun(t *testing.T, f *lossyfs.FS, scratch string, span time.Duration) *recordedRun {
	t.Helper()
	f.Reset()
	f.Record()
	g := newRig(t, rigOptions{
		binary: build(t, quickRetention...), databaseDir: f.Dir, manner: manner{failing: 0.15}, hooks: standardHooks,
		storage: fmt.Sprintf("session_retention = %q\ndelivery_retention = %q", imageSessionRetention, imageDeliveryRetention),
	})
	s := g.setUp()
	run := &recordedRun{}
	w := &witness{f: f}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for i := range 3 {
		r := random(t, "producer", i)
		work.Go(func() { run.produce(g, s, w, r, stop) })
	}
	work.Go(func() { run.watch(t, s, w, stop) })
	pass(span, s.exited)
	close(stop)
	work.Wait()
	if err := g.settle(s, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	s.terminate()
	if code, err := s.wait(20 * time.Second); err != nil || code != 0 {
		t.Fatalf("SIGTERM: code %d, %v:\n%s", code, err, s.log)
	}
	var err error
	if run.ops, err = f.Log(filepath.Join(scratch, "log")); err != nil {
		t.Fatal(err)
	}
	run.date(w.notes)
	return run
}

// produce posts sessions, in one request or in two, at the pace of a quiet day: most commits have one operation.
func (run *recordedRun) produce(g *rig, s *server, w *witness, r *rand.Rand, stop chan struct{}) {
	client := newClient()
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		v := newSession(r, true)
		for part := range 1 + n%2 {
			select {
			case <-stop:
				return
			default:
			}
			if part == 0 {
				v.start("")
				v.votes(1+r.IntN(3), "")
			}
			if part == n%2 {
				v.lead(1)
				v.finish("")
			}
			req := g.request(true, v)
			g.ledger.sending(req)
			began := time.Now()
			status, err := post(client, s.url()+"/v1/events", req.body, req.events)
			if err != nil || status != http.StatusAccepted {
				g.t.Errorf("POST /v1/events: %d, %v", status, err)
				return
			}
			w.note(began.Add(imageSessionRetention), item{ID: v.id, Events: v.count})
			w.mu.Lock()
			run.requests++
			run.events += req.events
			w.mu.Unlock()
			pass(between(r, time.Millisecond, 60*time.Millisecond), stop)
		}
	}
}

// watch asks what is delivered, again and again.
func (run *recordedRun) watch(t *testing.T, s *server, w *witness, stop chan struct{}) {
	seen := make(map[uuid.UUID]bool)
	for last := false; !last; {
		select {
		case <-stop:
			last = true
		default:
			pass(20*time.Millisecond, stop)
		}
		var page struct {
			Items []struct {
				ID         uuid.UUID
				FinishedAt time.Time `json:"finished_at"`
			}
		}
		if err := call(t.Context(), "GET", s.url()+"/v1/deliveries?status=delivered&limit=200", nil, &page); err != nil {
			t.Error(err)
			return
		}
		for _, d := range page.Items {
			if !seen[d.ID] {
				seen[d.ID] = true
				run.delivered++
				w.note(d.FinishedAt.Add(imageDeliveryRetention), item{ID: d.ID, Delivered: true})
			}
		}
	}
}

// date turns notes into items: the stamps by which things may be gone, and those of what was seen in the database. A reader sees a
// commit once its meta page is written: it is durable with the next sync.
func (run *recordedRun) date(notes []note) {
	syncs := make([]int, len(run.ops)+1) // the stamp after the next sync, by stamp
	next := len(run.ops) + 1             // never
	for n := len(run.ops) - 1; n >= 0; n-- {
		if run.ops[n].Kind == lossyfs.Sync {
			next = n + 1
			run.syncs++
		}
		syncs[n] = next
	}
	syncs[len(run.ops)] = len(run.ops) + 1
	for _, n := range notes {
		i := n.item
		if i.Delivered {
			i.From = syncs[i.From]
		}
		for stamp := i.From; stamp < len(run.ops); stamp++ {
			if !run.ops[stamp].At.Before(n.until) {
				i.Until = max(1, stamp)
				run.expired++
				break
			}
		}
		run.items = append(run.items, i)
	}
}

// judge makes so many images and returns what is wrong with them. From one operation on syncs do nothing, if that is not 0.
func (run *recordedRun) judge(t *testing.T, scratch, name string, images, lostFrom int) (bad []string) {
	t.Helper()
	ledger := filepath.Join(scratch, name+".json")
	writeLedger(t, ledger, run.items)
	type image struct {
		question
		what string
	}
	queue := make(chan image) // from the loop below to the verifiers
	var mu sync.Mutex         // guards bad
	var verifiers sync.WaitGroup
	for range 2 {
		v := newVerifier(t)
		verifiers.Go(func() {
			for i := range queue {
				if a := v.judge(i.question); !a.whole() {
					mu.Lock()
					bad = append(bad, fmt.Sprintf("%s: %v", i.what, &a))
					mu.Unlock()
				}
				os.RemoveAll(i.Dir)
			}
		})
	}
	r := random(t, name, 0)
	disk := lossyfs.NewDisk()
	made := 0
	for n := 0; n <= len(run.ops); n++ {
		// As many images after each operation as come out even.
		for left := n + 1; n >= lostFrom && made < images*(left-lostFrom)/(len(run.ops)+1-lostFrom); made++ {
			keep, imageSeed := []lossyfs.Keep{lossyfs.KeepSome, lossyfs.KeepAll, lossyfs.KeepSome, lossyfs.KeepNone}[made%4], r.Uint64()
			i := image{question{Dir: filepath.Join(scratch, fmt.Sprintf("%s-%d", name, made)), Ledger: ledger, Stamp: n},
				fmt.Sprintf("image %d, after operation %d of %d, keeping %s (%d)", made, n, len(run.ops), keep, imageSeed)}
			if err := disk.Cut(keep, newRand(imageSeed)).Save(i.Dir); err != nil {
				t.Fatal(err)
			}
			queue <- i
		}
		if n == len(run.ops) {
			break
		}
		op := run.ops[n]
		op.Failed = lostFrom > 0 && n >= lostFrom && op.Kind == lossyfs.Sync
		if err := disk.Apply(op); err != nil {
			t.Fatal(err)
		}
	}
	close(queue)
	verifiers.Wait()
	return bad
}
