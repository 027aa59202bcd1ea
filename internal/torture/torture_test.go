package torture

import (
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	shortForm  = flag.Bool("torture.short", false, "run the short form of the experiments")
	lagFigures = flag.Bool("torture.lag", false, "print the lag of webhooks beside hostile programs, and nothing else")
	longForm   = flag.Bool("torture.long", false, "run the long form of the experiments")
	seedFlag   = flag.Uint64("torture.seed", 0, "what everything random comes from; 0 stands for one drawn at random")
)

// seed is that of this run.
var seed uint64

// workDir holds the binaries of this run, and is removed at its end.
var workDir string

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		os.Exit(runChild(name))
	}
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if !*shortForm && !*longForm {
		fmt.Println("torture: experiments run only with -torture.short or -torture.long")
		return m.Run()
	}
	if seed = *seedFlag; seed == 0 {
		seed = rand.Uint64()
	}
	fmt.Printf("torture: seed %d\n", seed)
	var err error
	if workDir, err = os.MkdirTemp("", "hookbolt-torture-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(workDir)
	code := m.Run()
	summaries.Lock()
	defer summaries.Unlock()
	fmt.Printf("torture: seed %d\n", seed)
	for _, line := range summaries.lines {
		fmt.Println("  " + line)
	}
	return code
}

// experiment begins an experiment: it is skipped unless a flag asks for it, and tells how to repeat it when it fails.
func experiment(t *testing.T) {
	t.Helper()
	if !*shortForm && !*longForm {
		t.Skip("runs only with -torture.short or -torture.long")
	}
	if runtime.GOOS == "windows" {
		t.Skip("needs signals")
	}
	form := "short"
	if *longForm {
		form = "long"
	} else {
		t.Parallel() // most of a short experiment is waiting; the figures are those of the long form
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: go test ./internal/torture -v -run '^%s$' -torture.%s -torture.seed %d", strings.ReplaceAll(t.Name(), "/", "$/^"), form, seed)
		}
	})
}

// scale is a count of the short or of the long form.
func scale[T any](short, long T) T {
	if *longForm {
		return long
	}
	return short
}

// random is a source of its own for a part of an experiment, so that what one part draws does not change what others do.
func random(t *testing.T, part string, n int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, t.Name(), " ", part, " ", n)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// between draws a span.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

var summaries struct {
	sync.Mutex
	lines []string
}

// summarize prints an experiment's figures, and once more at the end of the run.
func summarize(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	summaries.Lock()
	defer summaries.Unlock()
	summaries.lines = append(summaries.lines, line)
}

// await polls until ok is true. It is the only wait on the clock here: what happens in other processes cannot be waited for
// otherwise.
func await(patience time.Duration, ok func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// pass lets time pass while another process works, or less if stop is closed.
func pass(d time.Duration, stop <-chan struct{}) {
	select {
	case <-time.After(d):
	case <-stop:
	}
}
