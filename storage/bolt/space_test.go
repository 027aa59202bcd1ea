package bolt

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// A commit counts as refused only if nothing of it can have been seen; every other failure is fail-stop.
func TestIsRefusal(t *testing.T) {
	write := func(err error) error { return &fs.PathError{Op: "write", Path: "db", Err: err} }
	for _, tc := range []struct {
		name   string
		err    error
		newest uint64
		want   bool
	}{
		{"no space for pages", write(syscall.ENOSPC), 6, true},
		{"quota", write(syscall.EDQUOT), 6, true},
		{"file too large", write(syscall.EFBIG), 6, true},
		{"the file cannot grow", errors.New("file resize error: truncate db: no space left on device"), 6, true},
		{"the meta page was written", write(syscall.ENOSPC), 7, false},
		{"a sick disk", write(syscall.EIO), 6, false},
		{"a sync that failed", syscall.EIO, 6, false},
		{"a sync without space", syscall.ENOSPC, 6, false},
		{"a sync of the grown file", errors.New("file sync error: input/output error"), 6, false},
		{"a map that failed", errors.New("mmap allocate error: cannot allocate memory"), 6, false},
	} {
		if got := isRefusal(tc.err, tc.newest, 7); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
}

func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := disk{free: 100 << 20, known: true}
		looks := 0
		p := space{minFree: 64 << 20, look: func(string) (disk, error) { looks++; return now, nil }}
		expect := func(what string, full bool) {
			t.Helper()
			if err := p.room(); full != errors.Is(err, engine.ErrFull) || !full && err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		expect("enough", false)
		now.free = 63 << 20
		expect("the look is not a second old", false)
		if looks != 1 {
			t.Errorf("%d looks, want 1", looks)
		}
		time.Sleep(diskLook)
		expect("below the watermark", true)
		p.note(10<<20, 1<<20)
		expect("what is free in the file counts", false)
		p.note(10<<20, 0)
		now = disk{}
		time.Sleep(diskLook)
		expect("nothing is known", false)
		p.maxBytes = 9 << 20
		expect("max_bytes", true)
		p.note(10<<20, 2<<20)
		expect("pages in use, not the file", false)

		p.refuse(engine.ErrFull, time.Second)
		expect("a commit was refused", true)
		if p.writable() == nil {
			t.Error("something is written right after a refusal")
		}
		time.Sleep(refusalPauseFactor * time.Second)
		expect("after the pause it is tried again", false)
		if err := p.writable(); err != nil {
			t.Error(err)
		}
	})
}

func TestNetworkFileSystemIsRefused(t *testing.T) {
	if d, err := lookAtDisk(t.TempDir()); err != nil || d.network != "" {
		t.Fatalf("a directory for tests: %+v, %v", d, err)
	}
	old := lookForNetwork
	defer func() { lookForNetwork = old }()
	lookForNetwork = func(string) (disk, error) { return disk{network: "NFS"}, nil }
	path := newPath(t)
	if _, err := Open(path, Options{}); !errors.Is(err, ErrNetwork) || !strings.Contains(err.Error(), "NFS") {
		t.Errorf("got %v, want ErrNetwork and the word NFS", err)
	}
	if _, err := lookAtDisk(path); err == nil {
		t.Error("it was made all the same")
	}
}

// Near max_bytes what is finished goes, oldest first, and nothing that waits or may come to wait.
func TestEviction(t *testing.T) {
	const most = 400 << 10
	s, err := Open(newPath(t), Options{MaxBytes: most})
	if err != nil {
		t.Fatal(err)
	}
	defer checkAndClose(t, s)
	w := putWebhook(t, s, engine.Webhook{})
	begun := begin(t, s) // has not finished
	waiting := addSession(t, s, time.Now().Add(-time.Minute))[0]
	lane := engine.Lane{WebhookID: w.ID}
	held := take(t, s, lane, 1).Claimed[0].Delivery
	if held.ID != waiting.ID {
		t.Fatalf("took %s, want %s", held.ID, waiting.ID)
	}
	var done []engine.Delivery
	full := func() error {
		for range 5000 {
			id := uuid.New()
			if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, id, time.Now()), now())); err != nil {
				return err
			}
			d := take(t, s, lane, 1).Claimed[0].Delivery
			deliver(t, s, d, delivered, ok)
			done = append(done, d)
		}
		return nil
	}
	if err := full(); !errors.Is(err, engine.ErrFull) || !strings.Contains(err.Error(), "storage.max_bytes") {
		t.Fatalf("at the limit: %v, want ErrFull with the setting's name", err)
	}
	stats, err := s.Stats(t.Context(), time.Now(), true)
	if err != nil || !errors.Is(stats.Full, engine.ErrFull) {
		t.Errorf("stats at the limit: %v, %v", stats.Full, err)
	}

	retention := engine.Retention{Sessions: 720 * time.Hour, Deliveries: 720 * time.Hour}
	var gone engine.Removed
	for range 1000 {
		m, err := s.Maintain(t.Context(), now(), retention)
		if err != nil {
			t.Fatal(err)
		}
		gone.Deliveries += m.Evicted.Deliveries
		gone.Sessions += m.Evicted.Sessions
		if !s.space.crowded() {
			break
		}
	}
	if gone.Deliveries == 0 || gone.Deliveries == len(done) || gone.Sessions > 0 {
		t.Errorf("%+v gone of %d: want some of the deliveries and no session", gone, len(done))
	}
	for i, d := range done {
		if _, _, _, err := s.Delivery(t.Context(), d.ID); errors.Is(err, engine.ErrNotFound) != (i < gone.Deliveries) {
			t.Fatalf("%d deliveries gone, number %d: %v; want the oldest to go", gone.Deliveries, i, err)
		}
	}
	if err := full(); !errors.Is(err, engine.ErrFull) { // there was room for more
		t.Fatalf("after it: %v", err)
	}

	// With no deliveries left sessions go, but not those of which something waits or may come.
	for s.space.maxBytes = 64 << 10; s.space.crowded(); {
		m, err := s.Maintain(t.Context(), now(), retention)
		if err != nil {
			t.Fatal(err)
		}
		if gone.Sessions += m.Evicted.Sessions; !s.eviction.rest.IsZero() {
			break // nothing more to be found
		}
	}
	if gone.Sessions != len(done) {
		t.Errorf("%d of %d finished sessions gone, want all", gone.Sessions, len(done))
	}
	for _, id := range []uuid.UUID{waiting.SessionID, begun} {
		if _, _, err := s.Session(t.Context(), id); err != nil {
			t.Errorf("a session that was to stay: %v", err)
		}
	}
	deliver(t, s, held, delivered, ok)
}

// begin stores a session that has only begun.
func begin(t *testing.T, s *Store) uuid.UUID {
	t.Helper()
	id := uuid.New()
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, id, time.Now())[:1], now())); err != nil {
		t.Fatal(err)
	}
	return id
}

// damage changes a byte in the middle of a record's value.
func damage(t *testing.T, path string, bucket []byte, key func(*bbolt.Cursor) (k, v []byte)) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		k, v := key(tx.Bucket(bucket).Cursor())
		k, v = append([]byte(nil), k...), append([]byte(nil), v...)
		v[len(v)/2] ^= 1
		return tx.Bucket(bucket).Put(k, v)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A damaged record is set aside, and named: what lies behind it in its lane or in its retention does not wait for it.
func TestDamagedRecordIsSetAside(t *testing.T) {
	for name, bucket := range map[string][]byte{"delivery": bucketDeliveries, "session": bucketSessions, "events": bucketEvents} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			s := openTest(t, path)
			w := putWebhook(t, s, engine.Webhook{})
			addSession(t, s, time.Now().Add(-2*time.Second))
			second := addSession(t, s, time.Now().Add(-time.Second))[0]
			checkAndClose(t, s)
			damage(t, path, bucket, (*bbolt.Cursor).First)

			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if stats, err := s.Stats(t.Context(), time.Now(), true); err != nil || stats.Webhooks[w.ID].Due != 2 {
				t.Errorf("stats, which every start reads: %+v, %v", stats.Webhooks[w.ID], err)
			}
			lane := engine.Lane{WebhookID: w.ID}
			got := take(t, s, lane, 1)
			if len(got.Claimed) != 0 || len(got.Damaged) != 1 || !errors.Is(got.Damaged[0], ErrCorrupt) {
				t.Fatalf("the damaged one: took %d, damaged %v", len(got.Claimed), got.Damaged)
			}
			got = take(t, s, lane, 5)
			if len(got.Claimed) != 1 || got.Claimed[0].Delivery.ID != second.ID || len(got.Damaged) != 0 {
				t.Fatalf("after it: took %d, damaged %v, want the second", len(got.Claimed), got.Damaged)
			}
			deliver(t, s, got.Claimed[0].Delivery, delivered, ok)
			m, err := s.Maintain(t.Context(), now().Add(time.Hour), engine.Retention{Sessions: time.Minute, Deliveries: time.Minute})
			if err != nil || m.Expired.Deliveries != 1 {
				t.Errorf("retention: %+v, %v; want one delivery to expire", m, err)
			}
			if name != "events" && len(m.Damaged) != 1 {
				t.Errorf("retention names %v, want one", m.Damaged)
			}
		})
	}
}

// Keys have no checksum: an entry of the queue that is not its delivery's is not taken for it.
func TestMisplacedQueueEntryIsSetAside(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{Delay: 3600})
	addSession(t, s, time.Now())
	checkAndClose(t, s)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		k, _ := tx.Bucket(bucketQueue).Cursor().First()
		early := append([]byte(nil), k...)
		early[lanePrefixLen+1] = 0 // due decades ago
		return errors.Join(tx.Bucket(bucketQueue).Delete(append([]byte(nil), k...)), tx.Bucket(bucketQueue).Put(early, nil))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s, err = Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := take(t, s, engine.Lane{WebhookID: w.ID}, 1); len(got.Claimed) != 0 || len(got.Damaged) != 1 {
		t.Errorf("took %d, damaged %v", len(got.Claimed), got.Damaged)
	}
	if len(s.Check()) == 0 {
		t.Error("the check finds nothing")
	}
}

// A file that is cut off under the process leads to errors, not to the end of the process without a word.
func TestTruncatedWhileOpen(t *testing.T) {
	path := newPath(t)
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	putWebhook(t, s, engine.Webhook{})
	var last uuid.UUID
	for range 50 {
		last = addSession(t, s, time.Now())[0].SessionID
	}
	if err := os.Truncate(path, 2*pageSize); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Session(t.Context(), last); !errors.Is(err, ErrCorrupt) {
		t.Errorf("reading: %v, want ErrCorrupt", err)
	}
	if _, err := s.AppendEvents(t.Context(), engine.NewAppend(session(t, uuid.New(), time.Now()), now())); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("writing: %v, want ErrUnavailable", err)
	}
	<-s.Failed()
	if err := s.Err(); !errors.Is(err, ErrCorrupt) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the store has failed with %v, want ErrCorrupt in one line", err)
	}
}
