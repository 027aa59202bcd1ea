package bolt

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// onceAt is a request with a key, which came at a time.
func onceAt(key uint64, at time.Time) *engine.Once {
	o := &engine.Once{Request: []byte("request"), At: at}
	copy(o.Key[:], u64key(key))
	return o
}

// enqueueOnce queues a test for a request with a key.
func enqueueOnce(t *testing.T, s *Store, webhookID uint32, o *engine.Once) error {
	t.Helper()
	_, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: webhookID, Kind: engine.KindTest, Payload: []byte("{}"), At: now(), Once: o})
	return err
}

func remembers(t *testing.T, s *Store, key uint64) bool {
	t.Helper()
	_, err := s.Done(t.Context(), onceAt(key, now()).Key)
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// Beyond the limit the oldest request gives way, whether it was counted in this process or found at its start.
func TestRememberedRequestsAreBounded(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	at := now()
	const n = 5
	for i := range uint64(n) {
		if err := enqueueOnce(t, s, w.ID, onceAt(i, at.Add(time.Duration(i)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, path)
	if s.remembered != n {
		t.Fatalf("%d are counted at the start", s.remembered)
	}
	err := s.write(t.Context(), 1, func(b *batch) error {
		b.changes++
		b.remembered = engine.MaxOnce - n // as if there were as many
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(n); i < n+2; i++ {
		if err := enqueueOnce(t, s, w.ID, onceAt(i, at.Add(time.Duration(i)))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(n + 2) {
		if got := remembers(t, s, i); got != (i >= 2) {
			t.Errorf("request %d is remembered: %t", i, got)
		}
	}
	// One that is repeated after its time takes no room.
	if err := enqueueOnce(t, s, w.ID, onceAt(4, at.Add(2*engine.OnceRetention))); err != nil {
		t.Fatal(err)
	}
	if s.remembered != engine.MaxOnce || !remembers(t, s, 2) {
		t.Errorf("%d are counted", s.remembered)
	}
}

// A step of the background work is bounded, and the steps come to an end.
func TestRequestsAreForgottenInSteps(t *testing.T) {
	s := openTest(t, newPath(t))
	w := putWebhook(t, s, engine.Webhook{})
	at := now()
	const n = forgetStep + 50
	for i := range uint64(n) {
		if err := enqueueOnce(t, s, w.ID, onceAt(i, at)); err != nil {
			t.Fatal(err)
		}
	}
	later := at.Add(engine.OnceRetention)
	for _, left := range []int{n - forgetStep, 0} {
		m, err := s.Maintain(t.Context(), later, engine.Retention{Sessions: time.Hour * 1000, Deliveries: time.Hour * 1000})
		if err != nil || s.remembered != left || m.Next.After(later) == (left > 0) {
			t.Errorf("%d are left, want %d; the next step is at %s, %v", s.remembered, left, m.Next, err)
		}
	}
}

// A file from before there were keys has no buckets for them. It is whole, can be inspected and checked, and gets them at the next start.
func TestFileWithoutRequestKeys(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, boltOptions())
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket(bucketRequestKeys), tx.DeleteBucket(bucketRequestTimes))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := Inspect(path); err != nil {
		t.Errorf("inspect: %v", err)
	}
	if report, err := CheckFile(path); err != nil || len(report.Violations) > 0 || report.Outdated {
		t.Errorf("check: %+v, %v", report, err)
	}
	if _, _, err := Compact(path, path+".compact"); err != nil {
		t.Errorf("compact: %v", err)
	}
	for _, path := range []string{path, path + ".compact"} {
		s := openTest(t, path)
		if err := enqueueOnce(t, s, w.ID, onceAt(1, now())); err != nil || !remembers(t, s, 1) {
			t.Errorf("%s: %v", path, err)
		}
		if err := enqueueOnce(t, s, w.ID, onceAt(1, now())); !errors.Is(err, engine.ErrRepeated) {
			t.Errorf("repeated: %v", err)
		}
		if errs := s.Check(); len(errs) > 0 {
			t.Error(errs)
		}
	}
}

// What is remembered goes along into backups and compact copies.
func TestRequestKeysAreCopied(t *testing.T) {
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	if err := enqueueOnce(t, s, w.ID, onceAt(1, now())); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Compact(path, path+".compact"); err != nil {
		t.Fatal(err)
	}
	if s := openTest(t, path+".compact"); !remembers(t, s, 1) {
		t.Error("the copy has forgotten it")
	}
}
