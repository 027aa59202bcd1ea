package bolt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"hookbolt/engine"
)

// inChild reports whether this is the process of the test's own that it starts otherwise: a limit for the size of files is a process's.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv("HOOKBOLT_TEST_RLIMIT") != "" {
		signal.Ignore(syscall.SIGXFSZ)
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "HOOKBOLT_TEST_RLIMIT=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// fillDisk keeps a database from growing until lift is called.
func fillDisk(t *testing.T, path string) (lift func()) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	set := func(size uint64) {
		t.Helper()
		small := limit
		small.Cur = size
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
			t.Fatal(err)
		}
	}
	set(uint64(info.Size()))
	return func() { set(limit.Cur) }
}

// A disk that takes no more refuses changes and nothing else: the process goes on, what was acknowledged is there, and it works again
// once there is space. The limit for the size of files stands in for the disk.
func TestFullDisk(t *testing.T) {
	if !inChild(t) {
		return
	}
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	addSession(t, s, time.Now().Add(-time.Second))
	d := take(t, s, engine.Lane{WebhookID: w.ID}, 1).Claimed[0].Delivery

	lift := fillDisk(t, path)
	if err := readBesideRefused(t, s); err != nil {
		t.Errorf("stats in a commit that is refused: %v", err)
	}
	s.space.accepted() // no pause
	var err error
	var kept []uuid.UUID
	for err == nil {
		id := uuid.New()
		if _, err = s.AppendEvents(t.Context(), engine.NewAppend(session(t, id, time.Now()), now())); err == nil {
			kept = append(kept, id)
		}
	}
	if !errors.Is(err, engine.ErrFull) {
		t.Fatalf("events: %v, want ErrFull", err)
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, uuid.New(), time.Now()), now())); !errors.Is(err, engine.ErrFull) {
		t.Errorf("events right after: %v, want ErrFull", err)
	}
	if err := freeze(t.Context(), s, d, []byte("{}")); !errors.Is(err, engine.ErrFull) {
		t.Errorf("freezing: %v, want ErrFull", err)
	}
	if stats, err := s.Stats(t.Context(), time.Now(), false); err != nil || !errors.Is(stats.Full, engine.ErrFull) {
		t.Errorf("stats: %v, %v", stats.Full, err)
	}
	if s.Err() != nil {
		t.Fatalf("the store has stopped: %v", s.Err())
	}

	lift()
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); {
		_, err = s.Stats(t.Context(), time.Now(), true)
	}
	if err != nil {
		t.Fatalf("with space again: %v", err)
	}
	deliver(t, s, d, delivered, ok) // its claim is still there
	kept = append(kept, addSession(t, s, time.Now())[0].SessionID)
	checkAndClose(t, s)
	s = openTest(t, path)
	for _, id := range kept {
		if _, _, err := s.Session(t.Context(), id); err != nil {
			t.Errorf("acknowledged session %s: %v", id, err)
		}
	}
	t.Logf("%d sessions until the disk was full", len(kept)-1)
}

// readBesideRefused asks for the stats in the same commit as a change that has no room, and returns the error.
func readBesideRefused(t *testing.T, s *Store) error {
	t.Helper()
	begun, goOn := make(chan struct{}), make(chan struct{})
	go s.write(t.Context(), 1, func(*batch) error {
		close(begun)
		<-goOn
		return nil
	})
	<-begun
	refused, stats := make(chan error, 1), make(chan error, 1)
	go func() {
		refused <- s.write(t.Context(), 1, func(b *batch) error { return b.put(b.meta, []byte("large"), make([]byte, 8<<20)) })
	}()
	go func() {
		_, err := s.Stats(t.Context(), time.Now(), false)
		stats <- err
	}()
	for len(s.mutations) < 2 {
		time.Sleep(time.Millisecond)
	}
	close(goOn)
	if err := <-refused; !errors.Is(err, engine.ErrFull) {
		t.Errorf("8 MiB: %v, want ErrFull", err)
	}
	return <-stats
}

// Where the disk has no room for the mark of an open database, the database is opened without it.
func TestMarkOpenOnFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := full.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := markOpen(full); err != nil {
		t.Error(err)
	}
	if err := markOpen(os.NewFile(^uintptr(0), "none")); err == nil {
		t.Error("another error is passed over, too")
	}
}

// A commit that the disk refuses leaves nobody without an answer, also those whose changes were left to the next commit.
func TestFullDiskAnswersEverybody(t *testing.T) {
	if !inChild(t) {
		return
	}
	path := newPath(t)
	s := openTest(t, path)
	lift := fillDisk(t, path)
	var mutations []*mutation
	for i := range 3 {
		mutations = append(mutations, &mutation{done: make(chan error, 1), run: func(b *batch) error {
			for n := range maxBatchChanges + 1 {
				key := fmt.Appendf(nil, "%d %d", i, n)
				if err := b.put(b.meta, key, make([]byte, 256)); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	if err := s.commit(slices.Clone(mutations)); err != nil {
		t.Fatal(err)
	}
	for i, m := range mutations {
		select {
		case err := <-m.done:
			if !errors.Is(err, engine.ErrFull) {
				t.Errorf("mutation %d: %v, want ErrFull", i, err)
			}
		default:
			t.Errorf("mutation %d has no answer", i)
		}
	}
	lift()
}
