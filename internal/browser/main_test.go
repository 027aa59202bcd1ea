package browser

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var shotsDir = flag.String("browser.shots", "", "write pictures of the pages, at each width and in both schemes, into this `directory`")

// patience is how long anything may take that a test waits for: far longer than it does on a busy machine.
const patience = 20 * time.Second

// workDir holds what this run has built, and the home directory of its Chromium. It is removed at the end.
var workDir string

// TestMain fails the package if its tests leave a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(run{m}) }

type run struct{ *testing.M }

func (r run) Run() int {
	var err error
	if workDir, err = os.MkdirTemp("", "hookbolt-browser-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(workDir)
	defer quitChromium()
	return r.M.Run()
}

// await looks again and again whether ok, and tells whether it became so in time. What happens in other processes cannot be waited
// for otherwise.
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
