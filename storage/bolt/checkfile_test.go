package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// filled makes a database with something in every bucket, and closes it. Some of its sessions are numbered, some not yet.
func filled(t testing.TB) string {
	t.Helper()
	mergeEach(t, 5)
	path := newPath(t)
	s := openTest(t, path)
	w := putWebhook(t, s, engine.Webhook{})
	for range 20 {
		addVisit(t, s, 7)
	}
	spread(t, s, engine.Lane{WebhookID: w.ID}, 0)
	setHealth(t, s, w.ID, engine.Health{Failures: 1, FirstFailedAt: now(), Order: 1}) // by a test delivery
	later := putWebhook(t, s, engine.Webhook{})
	if _, err := s.Replay(t.Context(), engine.Replay{WebhookID: later.ID, Scope: engine.ReplayMissing, Until: now()}); err != nil {
		t.Fatal(err)
	}
	checkAndClose(t, s)
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	return path
}

// tamper changes a database behind hookbolt's back.
func tamper(t testing.TB, path string, change func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func beside(t testing.TB, path string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestCheckFile(t *testing.T) {
	path := filled(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(path)
	r, err := CheckFile(path)
	if err != nil || len(r.Violations) > 0 {
		t.Fatalf("%v: %v", r.Violations, err)
	}
	if r.Sessions != 20 || r.Deliveries != 21 || r.Webhooks != 2 || r.SizeBytes != int64(len(before)) || r.FreeBytes <= 0 || r.FreeBytes >= r.SizeBytes || r.Outdated {
		t.Errorf("%+v", r)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("it was changed: %v", err)
	}
	if now, _ := os.Stat(path); !now.ModTime().Equal(info.ModTime()) {
		t.Error("it was written")
	}
	if names := beside(t, path); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	tamper(t, path, func(tx *bbolt.Tx) error {
		return errors.Join(numberAll(tx), tx.DeleteBucket(bucketHealth), tx.Bucket(bucketMeta).Put(keySchema, sealBytes(keySchema, u32key(1))))
	})
	if r, err := CheckFile(path); err != nil || len(r.Violations) > 0 || !r.Outdated {
		t.Errorf("of version 1: %+v: %v", r, err)
	}
	s := openTest(t, path)
	if _, err := CheckFile(path); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v, want ErrInUse", err)
	}
	if _, _, err := Compact(path, path+".2"); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v, want ErrInUse", err)
	}
	checkAndClose(t, s)
}

// TestCheckFileMetaHeaders flips each bit of the headers of the meta pages: a start does without them, and the check names those that
// bbolt looks at.
func TestCheckFileMetaHeaders(t *testing.T) {
	path := filled(t)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for bit := range 2 * pageHeaderSize * 8 {
		at := int64(bit/8/pageHeaderSize*pageSize + bit/8%pageHeaderSize)
		flip := func() {
			t.Helper()
			b := make([]byte, 1)
			if _, err := file.ReadAt(b, at); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 1 << (bit % 8)
			if _, err := file.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		r, err := CheckFile(path)
		if err != nil || at%pageSize < 10 && len(r.Violations) == 0 || strings.Contains(fmt.Sprint(r.Violations), "panic") {
			t.Errorf("bit %d of byte %d: %v: %v", bit%8, at, r.Violations, err)
		}
		if err := Inspect(path); err != nil {
			t.Errorf("bit %d of byte %d: a start is refused: %v", bit%8, at, err)
		}
		flip()
	}
	if r, err := CheckFile(path); err != nil || len(r.Violations) > 0 {
		t.Errorf("as it was: %v: %v", r.Violations, err)
	}
}

func TestCheckFileRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want error
		text string
	}{
		"nothing":        {func(t *testing.T, path string) { os.Remove(path) }, fs.ErrNotExist, ""},
		"a directory":    {func(t *testing.T, path string) { os.Remove(path); os.Mkdir(path, 0o700) }, ErrNotDatabase, "regular"},
		"an empty file":  {func(t *testing.T, path string) { os.Truncate(path, 0) }, ErrNotDatabase, "only 0 bytes"},
		"a text":         {func(t *testing.T, path string) { os.WriteFile(path, bytes.Repeat([]byte("text "), 9999), 0o600) }, ErrNotDatabase, "meta pages"},
		"half of it":     {func(t *testing.T, path string) { os.Truncate(path, 8*pageSize) }, ErrCorrupt, "truncated"},
		"a newer schema": {func(t *testing.T, path string) { tamper(t, path, newer) }, ErrSchema, "schema"},
		"another database": {func(t *testing.T, path string) {
			os.Remove(path)
			tamper(t, path, func(*bbolt.Tx) error { return nil })
		}, ErrNotDatabase, "meta bucket"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t)
			c.make(t, path)
			names := beside(t, path)
			for what, err := range map[string]error{"check": second(CheckFile(path)), "compact": third(Compact(path, path+".out"))} {
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v, want %v", what, err, c.want)
				}
			}
			if now := beside(t, path); !slices.Equal(now, names) {
				t.Errorf("%v has become %v", names, now)
			}
		})
	}
}

func newer(tx *bbolt.Tx) error {
	return tx.Bucket(bucketMeta).Put(keySchema, sealBytes(keySchema, u32key(schemaVersion+1)))
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

// Each invariant is held, from both sides where there are two, and what violates it is named.
func TestCheckNamesViolations(t *testing.T) {
	first := func(tx *bbolt.Tx, bucket []byte) (k, v []byte) {
		k, v = tx.Bucket(bucket).Cursor().First()
		return bytes.Clone(k), bytes.Clone(v)
	}
	drop := func(bucket []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { k, _ := first(tx, bucket); return tx.Bucket(bucket).Delete(k) }
	}
	put := func(bucket, key, value []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put(key, value) }
	}
	// change rewrites the first delivery in a state.
	change := func(status engine.Status, f func(*deliveryRecord)) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketDeliveries)
			for c, n := b.Cursor(), 1; ; n++ {
				k, v := c.Seek(u64key(uint64(n)))
				r, err := decodeDelivery(0, uint64(n), v)
				if err != nil {
					return err
				}
				if r.Status == status && r.Kind != engine.KindTest {
					f(&r)
					return b.Put(bytes.Clone(k), r.encode())
				}
			}
		}
	}
	whole, err := os.ReadFile(filled(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*bbolt.Tx) error
		want   string
	}{
		"queue lacks":    {drop(bucketQueue), `delivery \d+: (scheduled|pending), not at its place in the queue`},
		"queue has more": {put(bucketQueue, make([]byte, queueKeyLen), nil), `queue 0+: delivery 0 is not stored`},
		"queue has one twice": {func(tx *bbolt.Tx) error {
			k, _ := first(tx, bucketQueue)
			k[lanePrefixLen+7]++
			return tx.Bucket(bucketQueue).Put(k, nil)
		}, `queue \w+: not the place of delivery \d+`},
		"queue, bad key":         {put(bucketQueue, []byte("x"), nil), `queue 78: bad key`},
		"by_webhook lacks":       {drop(bucketByWebhook), `delivery 1: not in by_webhook`},
		"by_webhook has more":    {put(bucketByWebhook, make([]byte, 12), nil), `by_webhook 0+: delivery 0 is not stored`},
		"by_webhook, another's":  {put(bucketByWebhook, itemKey(9<<32, 1), nil), `by_webhook \w+: not the place of delivery 1`},
		"exceptions lacks":       {drop(bucketUndelivered), `delivery \d+: (failed|cancelled), not at its place in exceptions`},
		"exceptions has more":    {put(bucketUndelivered, append(make([]byte, 12), 1), nil), `exceptions \w+: not the place of delivery 1`},
		"expiry lacks a session": {drop(bucketExpiry), `session 1: does not expire`},
		"expiry lacks a delivery": {func(tx *bbolt.Tx) error {
			k, _ := tx.Bucket(bucketExpiry).Cursor().Last()
			return tx.Bucket(bucketExpiry).Delete(bytes.Clone(k))
		}, `delivery \d+: does not expire`},
		"expiry, bad key":          {put(bucketExpiry, []byte{9}, nil), `expiry 09: bad key`},
		"delivered and waiting":    {change(engine.StatusDelivered, func(r *deliveryRecord) { r.FinishedAt = time.Time{} }), `delivery \d+: delivered, finished at 0001`},
		"another's payload":        {change(engine.StatusDelivered, func(r *deliveryRecord) { r.payload = 1 }), `payload 1: belongs to two deliveries`},
		"no payload":               {change(engine.StatusDelivered, func(r *deliveryRecord) { r.payload = 0 }), `delivery \d+: delivered without a payload`},
		"payload lacks":            {drop(bucketPayloads), `delivery \d+: payload 1: `},
		"payload has more":         {put(bucketPayloads, u64key(999), sealBytes(u64key(999), []byte(`{}`))), `payload 0+3e7: belongs to no delivery`},
		"payload, a far number":    {put(bucketPayloads, u64key(1<<63), sealBytes(u64key(1<<63), []byte(`{}`))), `payload 80+: belongs to no delivery`},
		"payload is no JSON":       {put(bucketPayloads, u64key(1), sealBytes(u64key(1), []byte(`{`))), `delivery \d+: payload 1: `},
		"scheduled with a payload": {change(engine.StatusScheduled, func(r *deliveryRecord) { r.payload = 1 }), `delivery \d+: frozen at 0001-01-01 .*, payload 1`},
		"scheduled, no session":    {change(engine.StatusScheduled, func(r *deliveryRecord) { r.session = 999 }), `delivery \d+: waits, its session 999 is gone`},
		"attempts lacks":           {drop(bucketAttempts), `delivery \d+: 0 attempts stored, 1 counted`},
		"attempts has more":        {put(bucketAttempts, itemKey(999, 1), nil), `attempts \w+: belongs to nothing`},
		"session lacks events":     {drop(bucketEvents), `session 1: 0 events in 0 batches stored, 2 in 1 counted`},
		"events has more":          {put(bucketEvents, itemKey(999, 1), nil), `events \w+: belongs to nothing`},
		"session_numbers lacks": {func(tx *bbolt.Tx) error {
			k, v := first(tx, bucketSessions)
			r, err := decodeSession(binary.BigEndian.Uint64(k), v)
			return errors.Join(err, tx.Bucket(bucketSessionNumbers).Delete(r.ID[:]))
		}, `session 1: session_numbers does not lead to it`},
		"numbered":                 {put(bucketMeta, keyNumbered, []byte{1}), `meta 6e756d6265726564: not a sealed value`},
		"session_numbers has more": {put(bucketSessionNumbers, make([]byte, 16), u64key(1)), `session_numbers has \d+ entries, and \d+ lead to a session`},
		"counts lacks":             {drop(bucketCounts), `counts of webhook 1: none kept, counted`},
		"counts has more":          {put(bucketCounts, u32key(9), (&counts{due: 1}).encode(u32key(9))), `counts of webhook 9: 1 kept as due, 0 counted`},
		"webhook, damaged":         {put(bucketWebhooks, u32key(1), []byte("x")), `webhooks 00000001: `},
		"job, damaged":             {put(bucketJobs, u64key(1), []byte("x")), `jobs 0+1: `},
		"health of nobody":         {put(bucketHealth, u32key(9), encodeHealth(u32key(9), &engine.Health{Failures: 1, FirstFailedAt: now()})), `health 00000009: there is no such webhook`},
		"a number given again":     {func(tx *bbolt.Tx) error { return tx.Bucket(bucketSessions).SetSequence(19) }, `sessions: 0+14 is stored, and the last number given is 19`},
		"a webhook's, too":         {func(tx *bbolt.Tx) error { return tx.Bucket(bucketWebhooks).SetSequence(1) }, `webhooks: 00000002 is stored, and the last number given is 1`},
		"no nonce":                 {put(bucketMeta, keyNonce, []byte("x")), `meta \w+: `},
		"a bucket lacks":           {func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketPayloads) }, `bucket payloads is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			tamper(t, path, c.change)
			r, err := CheckFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(r.Violations, func(v error) bool { return regexp.MustCompile(c.want).MatchString(v.Error()) }) {
				t.Errorf("%q is not among %v", c.want, r.Violations)
			}
			for _, v := range r.Violations {
				if strings.Contains(v.Error(), "\n") {
					t.Errorf("more than a line: %v", v)
				}
			}
			if _, _, err := Compact(path, path+".out"); !errors.Is(err, ErrViolations) || len(beside(t, path)) != 1 {
				t.Errorf("compact: %v, and left are %v", err, beside(t, path))
			}
		})
	}
}

// content is all that is in a database.
func contentOf(t testing.TB, path string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			all[string(name)] = string(u64key(b.Sequence()))
			return b.ForEach(func(k, v []byte) error { all[string(name)+"/"+string(k)] = string(v); return nil })
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCompact(t *testing.T) {
	path := filled(t)
	s := openTest(t, path)
	for range 300 {
		addVisit(t, s, 8)
	}
	erase(t, s, visitor(8))
	checkAndClose(t, s)
	out := filepath.Join(t.TempDir(), "out.db")
	if err := os.WriteFile(out+UnfinishedSuffix, []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	size, copySize, err := Compact(path, out)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(out)
	if err != nil || info.Size() != copySize || copySize >= size || len(beside(t, out)) != 1 {
		t.Errorf("%d and %d bytes, and beside it %v: %v", size, copySize, beside(t, out), err)
	}
	if want, got := contentOf(t, path), contentOf(t, out); !maps.Equal(got, want) {
		t.Errorf("%d entries, want the same %d", len(got), len(want))
	}
	if _, _, err := Compact(path, out); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a copy that is there: %v, want ErrExist", err)
	}
	if _, _, err := Compact(path, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto itself: %v, want ErrExist", err)
	}
	// It works as the original would: numbers go on.
	s = openTest(t, out)
	if w := putWebhook(t, s, engine.Webhook{}); w.ID != 3 {
		t.Errorf("the next webhook is %d", w.ID)
	}
	addVisit(t, s, 7)
	if _, _, err := Compact(path, filepath.Join(t.TempDir(), "no", "out.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// Whatever bytes of a file are others than they were, checking it ends; and where it finds nothing, the file holds what it held.
func FuzzDamagedFile(f *testing.F) {
	path := filled(f)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	want := contentOf(f, path)
	var used int // bytes, of pages that are not beyond the last one
	for meta := range 2 {
		used = max(used, int(binary.NativeEndian.Uint64(whole[meta*pageSize+metaHighWater:]))*pageSize)
	}
	whole = whole[:used]
	for page := range used / pageSize {
		f.Add(uint32(page*pageSize+8), []byte{1})              // flags
		f.Add(uint32(page*pageSize+10), []byte{0xff, 0xff})    // count
		f.Add(uint32(page*pageSize+15), []byte{0x80})          // overflow
		f.Add(uint32(page*pageSize+16), []byte{0, 0, 0, 0})    // first element
		f.Add(uint32(page*pageSize+24), []byte{3, 0, 0, 0})    // child
		f.Add(uint32(page*pageSize+pageSize-1), []byte{0x55})  // the end of a value
		f.Add(uint32(page*pageSize+pageSize-40), []byte{0x55}) // somewhere in one
	}
	f.Add(uint32(metaRoot), []byte{7})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		damaged := bytes.Clone(whole)
		copy(damaged[int(at%uint32(used)):], patch)
		path := newPath(t)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := CheckFile(path)
		if err != nil || len(r.Violations) > 0 {
			return
		}
		got := contentOf(t, path)
		for k, v := range want {
			bucket, key, isKey := strings.Cut(k, "/")
			switch {
			case !isKey || bucket == string(bucketExpiry): // the last number given may be greater; a session may be looked at earlier, or later
			case bucket == string(bucketMeta) && key == string(keyProbe):
			case got[k] != v && !slices.Contains([]string{string(bucketQueue), string(bucketByWebhook), string(bucketUndelivered)}, bucket):
				t.Errorf("%q is %q, was %q", k, got[k], v)
			default:
				if _, ok := got[k]; !ok {
					t.Errorf("%q is gone", k)
				}
			}
		}
	})
}

// A damaged number may be any. It takes no memory for those before it.
func TestCheckOfAFarNumber(t *testing.T) {
	s := openTest(t, newPath(t))
	putWebhook(t, s, engine.Webhook{})
	addSession(t, s, time.Now())
	path := s.db.Path()
	checkAndClose(t, s)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket(bucketSessions).Put(u64key(math.MaxUint64>>1), []byte("x")), tx.Bucket(bucketPayloads).Put(u64key(math.MaxUint64), []byte("x")))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	report, err := CheckFile(path)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; err != nil || len(report.Violations) == 0 || grown > 16<<20 {
		t.Errorf("%v, %v, %d MiB were allocated", report.Violations, err, grown>>20)
	}
}
