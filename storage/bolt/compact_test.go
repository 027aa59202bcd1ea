package bolt

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// compactTest makes a compacted copy, which must hold what the database does and be no larger.
func compactTest(t *testing.T, path string) (copyPath string, size, copySize int64) {
	t.Helper()
	copyPath = newPath(t)
	size, copySize, err := Compact(path, copyPath)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(copyPath)
	if err != nil || info.Size() != copySize || copySize > size || len(beside(t, copyPath)) != 1 {
		t.Errorf("%d bytes have become %d, and beside the copy is %v: %v", size, copySize, beside(t, copyPath), err)
	}
	if want, got := contentOf(t, path), contentOf(t, copyPath); !maps.Equal(got, want) {
		t.Errorf("%d entries, want the same %d", len(got), len(want))
	}
	return copyPath, size, copySize
}

// A copy is no larger than its database, and one that was compacted already stays as large as it is.
func TestCompactIsNeverLarger(t *testing.T) {
	for name, path := range map[string]string{
		"empty":                 backedUp(t, newPath(t)),
		"small":                 filled(t),
		"backup of a small one": backedUp(t, filled(t)),
		"backup of a large one": backedUp(t, withPayloads(t, 20, 1<<20)),
		"dense":                 dense(t),
	} {
		t.Run(name, func(t *testing.T) {
			out, _, size := compactTest(t, path)
			if _, _, again := compactTest(t, out); again != size {
				t.Errorf("%d bytes, compacted once more %d", size, again)
			}
			putWebhook(t, openTest(t, out), engine.Webhook{}) // it can be written
		})
	}
}

// What was deleted from a large database takes no room in its copy.
func TestCompactWithoutWhatWasDeleted(t *testing.T) {
	const payloads, deleted, size = 20, 12, 1 << 20
	path := withPayloads(t, payloads, size)
	s := openTest(t, path)
	page, err := s.Deliveries(t.Context(), engine.DeliveryQuery{Limit: deleted})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range page.Items {
		if err := cancel(s, d.ID); err != nil {
			t.Fatal(err)
		}
	}
	m, err := s.Maintain(t.Context(), now().Add(48*time.Hour), engine.Retention{Sessions: time.Hour, Deliveries: time.Hour})
	if err != nil || m.Expired.Deliveries != deleted {
		t.Fatalf("%d deliveries were deleted, want %d: %v", m.Expired.Deliveries, deleted, err)
	}
	checkAndClose(t, s)
	_, before, after := compactTest(t, path)
	if limit := int64(payloads-deleted+4) * size; before < payloads*size || after > limit {
		t.Errorf("%d bytes have become %d, want no more than %d", before, after, limit)
	}
}

// A database with fuller pages than bbolt would make of its entries is copied as it is, without what was deleted from it.
func TestCompactOfFullPages(t *testing.T) {
	path := fuller(t)
	before, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(before, deletedText) {
		t.Fatalf("what was deleted should be in the database, on a free page: %v", err)
	}
	out, _, size := compactTest(t, path)
	after, err := os.ReadFile(out)
	if err != nil || bytes.Contains(after, deletedText) || size != int64(len(before)) {
		t.Errorf("the copy has %d bytes of %d, and what was deleted: %t, %v", size, len(before), bytes.Contains(after, deletedText), err)
	}
}

// backedUp makes a backup, which has no more pages than it needs.
func backedUp(t *testing.T, path string) string {
	t.Helper()
	s := openTest(t, path)
	defer checkAndClose(t, s)
	b, err := s.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(b)
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	out := newPath(t)
	if err := os.WriteFile(out, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// withPayloads makes a database with deliveries whose payloads have a little more than size bytes.
func withPayloads(t *testing.T, count, size int) string {
	t.Helper()
	path := newPath(t)
	s := openTest(t, path)
	defer checkAndClose(t, s)
	w := putWebhook(t, s, engine.Webhook{})
	payload := []byte(`{"text":"` + strings.Repeat("x", size) + `"}`)
	for range count {
		if _, err := s.Enqueue(t.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: payload, At: now()}); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

var deletedText = []byte("what was deleted")

// fuller makes a database with fuller pages than a copy of its entries would have. How full those of dense are depends on the ids in it.
func fuller(t *testing.T) string {
	t.Helper()
	for range 10 {
		path, fits := dense(t), false
		err := withFile(path, false, func(db *bbolt.DB) (err error) {
			fits, err = copyEntries(newPath(t), db)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if !fits {
			return path
		}
	}
	t.Fatal("a copy of the entries is no larger: the test shows nothing")
	return ""
}

// dense makes a database with payloads that are larger than a page, and come in no order: three or four of them share pages where two do
// that come in their order. Beside them deletedText was put and deleted.
func dense(t *testing.T) string {
	t.Helper()
	var puts []func(*bbolt.Tx) error
	o := boltOptions()
	o.NoSync = true
	path := newPath(t)
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		t.Fatal(err)
	}
	err = withFile(withPayloads(t, 100, pageSize), false, func(src *bbolt.DB) error {
		return src.View(func(from *bbolt.Tx) error {
			return from.ForEach(func(name []byte, b *bbolt.Bucket) error {
				name = bytes.Clone(name)
				sequence := b.Sequence()
				err := db.Update(func(tx *bbolt.Tx) error {
					made, err := tx.CreateBucket(name)
					return errors.Join(err, made.SetSequence(sequence))
				})
				if err != nil {
					return err
				}
				return b.ForEach(func(k, v []byte) error {
					k, v = bytes.Clone(k), bytes.Clone(v)
					puts = append(puts, func(tx *bbolt.Tx) error { return tx.Bucket(name).Put(k, v) })
					return nil
				})
			})
		})
	})
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(puts), func(i, j int) { puts[i], puts[j] = puts[j], puts[i] })
	puts = append(puts, func(tx *bbolt.Tx) error { return tx.Bucket(bucketHealth).Put(u32key(9), deletedText) },
		func(tx *bbolt.Tx) error { return tx.Bucket(bucketHealth).Delete(u32key(9)) })
	for _, put := range puts {
		err = errors.Join(err, db.Update(put))
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return backedUp(t, path)
}
