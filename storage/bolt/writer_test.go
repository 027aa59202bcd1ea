package bolt

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
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
