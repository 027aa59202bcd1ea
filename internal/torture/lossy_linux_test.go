package torture

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/internal/torture/lossyfs"
)

func init() { lossyfs.Main() }

// keeps are what a cut may leave, in the order in which experiments try them.
var keeps = []lossyfs.Keep{lossyfs.KeepNone, lossyfs.KeepSome, lossyfs.KeepAll}

// inMemory makes a directory that is as fast as there is one.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "hookbolt-torture-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// driver is the edit that builds testdata/driver.go in.
func driver(t *testing.T) edit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "driver.go"))
	if err != nil {
		t.Fatal(err)
	}
	return edit{file: "internal/cli/torture_driver.go", new: string(text)}
}

// drive is what one run of the driver has told.
type drive struct {
	items      []item // what was acknowledged and recorded
	opened     bool
	closed     bool // it came to its end
	afterError int  // how many acknowledgements followed an error
	code       int
	stderr     string
	endedAt    time.Time
}

// runDriver stores sessions in the database on f, numbered from from on, until it has count of them or cannot go on.
func runDriver(t *testing.T, binary string, f *lossyfs.FS, from, count int) *drive {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "torture-append", filepath.Join(f.Dir, "hookbolt.db"), strconv.Itoa(from), strconv.Itoa(count))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &drive{}
	failed := false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		what, id, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "open":
			d.opened = true
		case "closed":
			d.closed = true
		case "error":
			failed = true
		case "ack", "done":
			i := item{ID: uuid.MustParse(id), Events: 3}
			if what == "done" {
				i = item{ID: i.ID, Delivered: true}
			}
			d.items = append(d.items, i)
			if failed {
				d.afterError++
			}
		default:
			t.Fatalf("the driver says %q", lines.Text())
		}
	}
	io.Copy(io.Discard, stdout)
	cmd.Wait()
	d.endedAt = time.Now()
	d.code, d.stderr = cmd.ProcessState.ExitCode(), stderr.String()
	return d
}

// newRand is for what a seed of its own stands for.
func newRand(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
