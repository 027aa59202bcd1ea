package browser

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hookbolt/internal/memdir"
)

var shotsDir = flag.String("browser.shots", "", "write pictures of the pages, at each width and in both schemes, into this `directory`")

// patience is the timeout of all waits. It is far longer than needed on a busy machine.
const patience = 20 * time.Second

// workDir has the binary of this run and the home directory of its Chromium. It is removed at the end.
var workDir string

// atOnce is how many tests run at once: most of their time is that of waiting.
const atOnce = 4

// TestMain fails the package if its tests leak a goroutine.
func TestMain(m *testing.M) { goleak.VerifyTestMain(run{m}) }

type run struct{ *testing.M }

func (r run) Run() int {
	defer memdir.Use()()
	var err error
	if workDir, err = os.MkdirTemp("", "hookbolt-browser-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(workDir)
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", strconv.Itoa(atOnce))
	}
	defer quitChromium()
	return r.M.Run()
}

// await polls ok until it returns true, and reports whether it did in time. Events in other processes cannot be waited for in another way.
func await(ok func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
