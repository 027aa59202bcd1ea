package torture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// lingeringReader holds the read transaction of a list for as long as a client might read.
var lingeringReader = mutantFlock.shared("lingering", edit{file: "storage/bolt/list.go", old: "\t\tpage = engine.DeliveryPage{}\n",
	new: "\t\tpage = engine.DeliveryPage{}\n\t\tdefer time.Sleep(mutated(\"lingering\", 3*time.Second, 0))\n"})

// Long lists, sessions, metrics and backups in a loop, some read slowly, beside load: those who send events hardly notice, the file does
// not grow for it, and each backup is a database that holds what had been acknowledged before it was asked for.
func TestReaders(t *testing.T) {
	experiment(t)
	r := readersRound(t, build(t))
	summarize(t, "readers: %v", r)
	if limit := scale(5*time.Second, 100*time.Millisecond); r.p99 > limit {
		t.Errorf("p99 of ingest is %v, want at most %v", r.p99, limit)
	}
	if r.growth() > 2 {
		t.Errorf("the file has %.1f times the pages for what it holds", r.growth())
	}
	if r.lists == 0 || r.backups == 0 {
		t.Error("too little was read")
	}
}

func TestReadersControl(t *testing.T) {
	experiment(t)
	line := caught(t, "lingering readers", func(*rand.Rand) *verdict {
		r := readersRound(t, build(t, lingeringReader...))
		if r.growth() <= 2 {
			return &verdict{}
		}
		return &verdict{trouble: []string{r.String()}}
	})
	if line != "" {
		summarize(t, "readers, control %q: caught: %s", "lingering readers", line)
	}
}

type readers struct {
	p99, quiet             time.Duration // of ingest, with readers and without
	pages, quietPages      float64       // of the file for 1,000 events
	lists, others, backups int
	listed, backupBytes    int64
}

// growth is how much larger the file has become for what it holds.
func (r *readers) growth() float64 { return r.pages / r.quietPages }

func (r *readers) String() string {
	return fmt.Sprintf("%d lists to their ends (%d deliveries), %d sessions and metrics, %d backups (%d MiB): ingest p99 %v (%v without), the file has %.1f "+
		"times the pages for what it holds", r.lists, r.listed, r.others, r.backups, r.backupBytes>>20, r.p99.Round(100*time.Microsecond),
		r.quiet.Round(100*time.Microsecond), r.growth())
}

func readersRound(t *testing.T, binary string) *readers {
	g := newRig(t, rigOptions{binary: binary})
	s := g.setUp()
	load := g.produce(8)
	span := scale(1500*time.Millisecond, 30*time.Second)
	pass(span/2, s.exited) // the file finds its shape
	r := &readers{}
	scratch := t.TempDir()
	phase := func() (time.Duration, float64) {
		g.latency.reset()
		pass(span, s.exited)
		return percentile(g.latency.reset(), 0.99), 1000 * float64(g.highWater()) / float64(g.ledger.total())
	}
	r.quiet, r.quietPages = phase()

	stop := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex // guards r's counts
	var all sync.WaitGroup
	each := func(read func() error) {
		all.Go(func() {
			for !isClosed(stop) {
				if err := read(); err != nil && !isClosed(stop) {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, filter := range []string{"", "&status=scheduled", "&webhook_id=1"} {
		each(func() error {
			n, err := list(ctx, s.url()+"/v1/deliveries?limit=100"+filter)
			mu.Lock()
			defer mu.Unlock()
			r.lists++
			r.listed += n
			return err
		})
	}
	each(func() error {
		session, ok := g.ledger.any()
		if ok {
			if err := call(ctx, "GET", s.url()+"/v1/sessions/"+session, nil, nil); err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		r.others++
		return fetch(ctx, s.url()+"/metrics", io.Discard, 0)
	})
	paces := []time.Duration{0, 5 * time.Millisecond} // fast and slow in turn; there is one at a time
	each(func() error {
		size, err := g.backup(ctx, s.url(), scratch, paces[r.backups%2])
		mu.Lock()
		defer mu.Unlock()
		r.backups++
		r.backupBytes += size
		return err
	})
	r.p99, r.pages = phase()
	close(stop)
	cancel()
	all.Wait()
	load.halt()
	g.finish(s).hold(t)
	return r
}

// list reads a list to its end and returns how long it was.
func list(ctx context.Context, url string) (n int64, err error) {
	for cursor := ""; ; {
		var page struct {
			Items []struct{ ID string } `json:"items"`
			Next  *string               `json:"next_cursor"`
		}
		if err := call(ctx, "GET", url+cursor, nil, &page); err != nil {
			return n, err
		}
		n += int64(len(page.Items))
		if page.Next == nil {
			return n, nil
		}
		cursor = "&cursor=" + *page.Next
	}
}

// fetch reads an answer whole, with a pause after each 64 KiB.
func fetch(ctx context.Context, url string, to io.Writer, pause time.Duration) error {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	for {
		_, err := io.CopyN(to, resp.Body, 64<<10)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case pause > 0:
			pass(pause, ctx.Done())
		}
	}
}

// backup takes a backup and holds it against what had been acknowledged before.
func (g *rig) backup(ctx context.Context, url, dir string, pause time.Duration) (size int64, err error) {
	acknowledged := g.ledger.certain()
	path := filepath.Join(dir, "backup.db")
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(fetch(ctx, url+"/v1/backup", f, pause), f.Close()); err != nil {
		return 0, err
	}
	found, err := inspect(ctx, path, dir)
	if err != nil {
		return 0, err
	}
	if len(found.Violations) > 0 {
		return 0, fmt.Errorf("a backup is damaged: %s", found.Violations[0])
	}
	stored := g.stored(found)
	for _, k := range acknowledged {
		if !stored[k] {
			return 0, fmt.Errorf("a backup lacks %v, which was acknowledged before", k)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// highWater is how many pages of the database have ever been in use: what bbolt's newer meta page says.
func (g *rig) highWater() uint64 {
	f, err := os.Open(g.database)
	if err != nil {
		g.t.Error(err)
		return 0
	}
	defer f.Close()
	raw := make([]byte, 2*pageSize)
	if _, err := f.ReadAt(raw, 0); err != nil {
		g.t.Error(err)
		return 0
	}
	return highWater(raw)
}

// highWater reads it from a file's first two pages.
func highWater(raw []byte) (pages uint64) {
	var newest uint64
	for _, meta := range [][]byte{raw[:pageSize], raw[pageSize:]} {
		if txid := binary.NativeEndian.Uint64(meta[64:]); txid >= newest { // behind the page's header of 16 bytes
			newest, pages = txid, binary.NativeEndian.Uint64(meta[56:])
		}
	}
	return pages
}
