package bolt

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// A small change does not wait for the large ones that were there before it: no more than the commit under way and one of them.
func TestSmallChangesPassLargeOnes(t *testing.T) {
	s := openTest(t, newPath(t))
	began, goOn := make(chan struct{}), make(chan struct{})
	var order []string // in which they were made; by the writer alone
	change := func(name string) func(*batch) error {
		return func(b *batch) error {
			order = append(order, name)
			return b.put(b.meta, keyProbe, sealBytes(keyProbe, u64key(1)))
		}
	}
	var callers sync.WaitGroup
	call := func(size int, run func(*batch) error) {
		callers.Go(func() {
			if err := s.write(context.Background(), size, run); err != nil {
				t.Error(err)
			}
		})
	}
	call(1, func(b *batch) error {
		close(began)
		<-goOn
		return change("first")(b)
	})
	<-began
	for n := range 3 {
		call(maxBulkBytes, change("large"))
		for len(s.bulk) <= n { // it stands in line
			runtime.Gosched()
		}
	}
	call(1, change("small"))
	for len(s.mutations) == 0 {
		runtime.Gosched()
	}
	close(goOn)
	callers.Wait()
	for i, name := range order {
		if name == "small" && i > 2 {
			t.Errorf("made in the order %v", order)
		}
	}
	if len(order) != 5 {
		t.Errorf("%d changes made, want 5", len(order))
	}
}

// A store that is closed answers everybody: nobody waits for ever, and nobody is told that what was made was not.
func TestCloseAnswersAll(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	var mu sync.Mutex
	made, told := 0, 0
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			err := s.write(context.Background(), 1, func(b *batch) error {
				b.after = append(b.after, func() { made++ })
				return b.put(b.meta, keyProbe, sealBytes(keyProbe, u64key(1)))
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				told++
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	callers.Wait()
	if made != told {
		t.Errorf("%d changes were made, and %d callers heard so", made, told)
	}
}

// A writer that hangs with its disk does not take those along who ask how the store does.
func TestQuestionsDoNotHangWithTheWriter(t *testing.T) {
	s := openTest(t, newPath(t))
	began, goOn := make(chan struct{}), make(chan struct{})
	var callers sync.WaitGroup
	callers.Go(func() {
		err := s.write(context.Background(), 1, func(b *batch) error {
			close(began)
			<-goOn
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	callers.Go(func() {
		if _, err := s.Stats(ctx, now(), true); !errors.Is(err, context.Canceled) {
			t.Errorf("asked of a writer that hangs: %v", err)
		}
		close(goOn)
	})
	for len(s.mutations) == 0 { // the question stands in line
		runtime.Gosched()
	}
	cancel()
	callers.Wait()
	if _, err := s.Stats(t.Context(), now(), true); err != nil {
		t.Errorf("asked again: %v", err)
	}
}

// After a commit that failed when it may have been seen, what it has put into lanes stays claimed: it is not on the disk, and must not be
// sent in the moment before the store has failed as a whole.
func TestFailedCommitKeepsItsClaims(t *testing.T) {
	s := openTest(t, newPath(t))
	claimed := func() bool {
		s.claimMu.Lock()
		defer s.claimMu.Unlock()
		_, ok := s.claims[7]
		return ok
	}
	s.claim(claimedNumber{number: 7})
	if err := s.commitFailed(nil, []claimedNumber{{number: 7}}, errors.New("sync: input/output error"), 1<<40, 0); err == nil || !claimed() {
		t.Errorf("after a failed sync: %v, claimed: %t", err, claimed())
	}
	if err := s.commitFailed(nil, []claimedNumber{{number: 7}}, errors.New(boltResizeFailed+"no space"), 1<<40, 0); err != nil || claimed() {
		t.Errorf("after a refusal: %v, claimed: %t", err, claimed())
	}
}

// Whoever has an answer gets no other one, whatever becomes of the rest of the batch; and all the others get one.
func TestEachMutationIsAnsweredOnce(t *testing.T) {
	s := openTest(t, newPath(t))
	boom := errors.New("boom")
	var early error
	alone := &mutation{done: make(chan error, 1), run: func(*batch) error { return boom }}
	applied := &mutation{done: make(chan error, 1), run: func(b *batch) error { return b.delete(b.meta, keyProbe) }}
	bad := &mutation{done: make(chan error, 1), run: func(*batch) error {
		early = <-alone.done // its caller has gone on with its answer
		panic("a page that is none")
	}}
	last := &mutation{done: make(chan error, 1), run: func(*batch) error { return nil }}
	if err := s.commit([]*mutation{alone, applied, bad, last}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("commit: %v, want ErrCorrupt", err)
	}
	if early != boom || len(alone.done) != 0 {
		t.Errorf("the one that failed alone got %v, and %d answers more", early, len(alone.done))
	}
	for name, m := range map[string]*mutation{"applied": applied, "bad": bad, "last": last} {
		select {
		case err := <-m.done:
			if !errors.Is(err, engine.ErrUnavailable) || !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v, want ErrUnavailable and ErrCorrupt", name, err)
			}
		default:
			t.Errorf("%s: no answer", name)
		}
	}
}

// A panic in the writer's turn fails the store in good order: those who wait are told, and the process does not end by it. That holds
// wherever in the turn it comes, and also while the store takes nothing for want of space.
func TestPanicFailsTheStore(t *testing.T) {
	panics := func(*batch) error { panic("a page that is none") }
	for name, c := range map[string]struct {
		full bool
		run  func(*batch) error
	}{
		"in a change":  {run: panics},
		"while paused": {full: true, run: panics},
		"after the commit": {run: func(b *batch) error {
			b.after = append(b.after, func() { panics(b) })
			return b.delete(b.meta, keyProbe)
		}},
		"in the commit": {run: func(b *batch) error {
			b.expiring[0].numbers, b.expiry = []uint64{1}, nil
			return b.delete(b.meta, keyProbe)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(newPath(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if c.full {
				s.space.refuse(engine.ErrFull, time.Hour)
			}
			if err := s.write(t.Context(), 1, c.run); !errors.Is(err, engine.ErrUnavailable) || !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v, want ErrUnavailable and ErrCorrupt", err)
			}
			<-s.Failed()
			if err := s.write(t.Context(), 1, func(*batch) error { return nil }); !errors.Is(err, engine.ErrUnavailable) {
				t.Errorf("after it: %v, want ErrUnavailable", err)
			}
			if err := s.Close(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("close: %v, want ErrCorrupt", err)
			}
		})
	}
}

// A file that is emptied under the process has no meta pages any more. bbolt panics over that with its locks held, and still nobody waits
// for ever: neither who reads, nor the writer, nor who closes the store.
func TestEmptiedWhileOpen(t *testing.T) {
	for _, first := range []string{"read", "write"} {
		t.Run(first, func(t *testing.T) {
			path := newPath(t)
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			if first == "read" {
				if _, _, err := s.Session(t.Context(), uuid.New()); !errors.Is(err, ErrCorrupt) {
					t.Errorf("reading: %v, want ErrCorrupt", err)
				}
			}
			if err := s.write(t.Context(), 1, func(*batch) error { return nil }); !errors.Is(err, engine.ErrUnavailable) {
				t.Errorf("writing: %v, want ErrUnavailable", err)
			}
			<-s.Failed()
			if err := s.Close(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("close: %v, want ErrCorrupt", err)
			}
		})
	}
}

// A commit is bounded by what its mutations write, however many have gathered.
func TestCommitIsBoundedByChanges(t *testing.T) {
	var commits []int
	s, err := Open(newPath(t), Options{ObserveCommit: func(n int, _ time.Duration) { commits = append(commits, n) }})
	if err != nil {
		t.Fatal(err)
	}
	change := func(b *batch) error {
		for range maxBatchChanges/4 + 1 {
			if err := b.put(b.meta, keyProbe, sealBytes(keyProbe, u64key(1))); err != nil {
				return err
			}
		}
		return nil
	}
	began, goOn := make(chan struct{}), make(chan struct{})
	var callers sync.WaitGroup
	call := func(run func(*batch) error) {
		callers.Go(func() {
			if err := s.write(context.Background(), 1, run); err != nil {
				t.Error(err)
			}
		})
	}
	call(func(b *batch) error {
		close(began)
		<-goOn
		return b.put(b.meta, keyProbe, sealBytes(keyProbe, u64key(1)))
	})
	<-began
	for range 10 {
		call(change)
	}
	for len(s.mutations) < 10 {
		runtime.Gosched()
	}
	close(goOn)
	callers.Wait()
	if err := s.Close(); err != nil { // the writer has ended
		t.Fatal(err)
	}
	if !slices.Equal(commits, []int{1, 4, 4, 2}) {
		t.Errorf("commits of %v mutations, want at most 4 in each", commits)
	}
}
