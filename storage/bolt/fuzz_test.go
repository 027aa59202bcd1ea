package bolt

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// FuzzStoredRecords: whatever a value holds, reading it leads to no panic and to no endless memory, and what is read is what would be
// written again. A checksum keeps most damage out; the second reading is behind it.
func FuzzStoredRecords(f *testing.F) {
	s := openTest(f, newPath(f))
	w := putWebhook(f, s, engine.Webhook{Headers: map[string]engine.Header{"X-Key": {Value: "k"}}, Timeout: new(engine.Duration(time.Second))})
	addSession(f, s, time.Now())
	full := engine.Attempt{Outcome: engine.Outcome{StartedAt: now(), Duration: time.Second, Phases: engine.Phases{DNS: 1, FirstByte: 2}, Address: "192.0.2.1:443", Reused: true, Repeated: engine.RepeatClosed,
		Sent:     engine.Sent{Method: "GET", Signature: "v1,c2lnbmF0dXJl", UserAgent: "hookbolt/dev", Credentials: []string{"Authorization"}},
		Protocol: "HTTP/2.0", Status: 500, Error: engine.ErrorStatus, ErrorDetail: "the endpoint answered 500", Response: []byte("no"),
		ResponseHeader: []engine.HeaderField{{Name: "Server", Value: "x"}}}}
	deliver(f, s, take(f, s, engine.Lane{WebhookID: w.ID}, 1).Claimed[0].Delivery, engine.Next{Status: engine.StatusFailed, Reason: engine.NextExhausted}, full)
	setHealth(f, s, w.ID, engine.Health{Failures: 1, FirstFailedAt: now(), Order: 1})
	for _, j := range []job{{Cancellation: &engine.Cancellation{WebhookID: 1}}, {Replay: &replayJob{}}} {
		body, err := json.Marshal(j)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	s.db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, v []byte) error {
				f.Add(v)
				if len(v) > sealOverhead {
					f.Add(v[1 : len(v)-4])
				}
				return nil
			})
		})
	})
	f.Fuzz(func(t *testing.T, value []byte) {
		key := u64key(1)
		for _, v := range [][]byte{value, sealBytes(key, value)} {
			given := bytes.Clone(v)
			if r, err := decodeSession(1, v); err == nil {
				again, err := decodeSession(1, r.encode())
				wantSame(t, r, again, err)
				visitor, err := sessionVisitor(key, v)
				wantSame(t, r.Identity.PoltioUserID, visitor, err)
			}
			if r, err := decodeDelivery(5, 1, v); err == nil {
				again, err := decodeDelivery(5, 1, r.encode())
				wantSame(t, r, again, err)
			}
			if a, err := decodeAttempt(key, v); err == nil {
				again, err := decodeAttempt(key, encodeAttempt(key, &a))
				wantSame(t, a, again, err)
			}
			if c, err := decodeCounts(key, v); err == nil {
				again, err := decodeCounts(key, c.encode(key))
				wantSame(t, c, again, err)
			}
			if h, err := decodeHealth(key, v); err == nil {
				again, err := decodeHealth(key, encodeHealth(key, &h))
				wantSame(t, h, again, err)
			}
			if j, err := decodeJob(key, v); err == nil {
				body, err := json.Marshal(j)
				if err != nil {
					t.Fatalf("a job that cannot be written again: %v", err)
				}
				again, err := decodeJob(key, sealBytes(key, body))
				if err != nil {
					t.Fatalf("%s is not read: %v", body, err)
				}
				body2, err := json.Marshal(again)
				wantSame(t, string(body), string(body2), err)
			}
			sameEvents(t, key, v)
			if !bytes.Equal(v, given) {
				t.Fatal("reading has changed the value")
			}
		}
	})
}

// sameEvents writes events that were read once more: if the JSON is a list that the engine reads, they are the same.
func sameEvents(t *testing.T, key, v []byte) {
	var ids []string
	b, err := decodeEvents(key, v, func(id string) { ids = append(ids, id) })
	if err != nil {
		return
	}
	if len(ids) > len(v) {
		t.Fatalf("%d ids in %d bytes", len(ids), len(v))
	}
	events, err := engine.DecodeEvents(b.JSON, b.ReceivedAt)
	if err != nil || len(events) == 0 {
		return
	}
	again, err := decodeEvents(key, encodeEvents(key, events), nil)
	if err != nil || !again.ReceivedAt.Equal(b.ReceivedAt) {
		t.Fatalf("received at %s, then at %s: %v", b.ReceivedAt, again.ReceivedAt, err)
	}
	events2, err := engine.DecodeEvents(again.JSON, again.ReceivedAt)
	wantSame(t, events, events2, err)
}

func wantSame[T any](t *testing.T, first, again T, err error) {
	t.Helper()
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Fatalf("%+v\nbecame %+v\n%v", first, again, err)
	}
}

// FuzzMetas: of any two meta pages the one is taken that bbolt takes, and a file passes only if it is as long as that one says. noise
// changes the pages after their checksums were made.
func FuzzMetas(f *testing.F) {
	const version = 2
	f.Add(uint64(4), uint64(40), uint32(version), uint64(5), uint64(41), uint32(version), []byte{})
	f.Add(uint64(5), uint64(40), uint32(version), uint64(4), uint64(41), uint32(version), []byte{})
	f.Add(uint64(5), uint64(40), uint32(version), uint64(6), uint64(41), uint32(version), append(make([]byte, pageSize+metaMagic), 1))
	f.Add(uint64(6), uint64(40), uint32(version), uint64(5), uint64(41), uint32(version), append(make([]byte, metaMagic), 1))
	f.Add(uint64(6), uint64(1)<<40, uint32(version), uint64(5), uint64(41), uint32(version), []byte{})
	path := newPath(f)
	if err := create(path); err != nil {
		f.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		f.Fatal(err)
	}
	empty, err := readMetas(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, txid0, pages0 uint64, version0 uint32, txid1, pages1 uint64, version1 uint32, noise []byte) {
		metas := bytes.Clone(empty)
		setMeta(metas[:pageSize], txid0, pages0, version0)
		setMeta(metas[pageSize:], txid1, pages1, version1)
		noise = noise[:min(len(noise), len(metas))]
		subtle.XORBytes(metas, metas, noise)
		if _, err := file.WriteAt(metas, 0); err != nil {
			t.Fatal(err)
		}

		txid, highWater := newestMeta(metas)
		if err := checkSize(file, metas); (err == nil) != (highWater > 0 && highWater <= uint64(info.Size())/pageSize) {
			t.Errorf("%d pages in a file of %d bytes: %v", highWater, info.Size(), err)
		} else if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotDatabase) {
			t.Errorf("the error is not one of ours: %v", err)
		}
		db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, PageSize: pageSize}) // reads no more than these pages
		if err != nil {
			if highWater != 0 {
				t.Errorf("meta pages that bbolt refuses (%v) pass with transaction %d and %d pages", err, txid, highWater)
			}
			return
		}
		defer db.Close()
		if db.Info().PageSize != pageSize { // bbolt has found something else in the noise
			return
		}
		err = db.View(func(tx *bbolt.Tx) error {
			if uint64(tx.ID()) != txid || uint64(tx.Size()) != highWater*pageSize {
				t.Errorf("bbolt takes transaction %d with %d bytes, we %d with %d pages", tx.ID(), tx.Size(), txid, highWater)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// setMeta changes a meta page and its checksum.
func setMeta(page []byte, txid, highWater uint64, version uint32) {
	binary.NativeEndian.PutUint32(page[metaMagic+4:], version)
	binary.NativeEndian.PutUint64(page[metaHighWater:], highWater)
	binary.NativeEndian.PutUint64(page[metaTxid:], txid)
	sum := fnv.New64a()
	sum.Write(page[metaMagic:metaChecksum])
	binary.NativeEndian.PutUint64(page[metaChecksum:], sum.Sum64())
}

// FuzzPages: a file with damaged pages is checked without an end of the process, and one that passes holds what was written and can be
// opened. Of damage, each three bytes are a place, counted from the third page on, and a fourth is what the byte there becomes.
func FuzzPages(f *testing.F) {
	s, _ := variousDeliveries(f)
	path := s.db.Path()
	checkAndClose(f, s)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	_, highWater := newestMeta(whole[:2*pageSize])
	whole = whole[:highWater*pageSize]
	stored := dump(f, path)
	f.Add([]byte{})
	for id := uint64(2); id < highWater; id++ {
		for _, at := range []uint64{8, 12, 16, 28} { // of the header and of the first element
			place := (id-2)*pageSize + at
			f.Add([]byte{byte(place >> 16), byte(place >> 8), byte(place), 3})
		}
	}
	f.Fuzz(func(t *testing.T, damage []byte) {
		path := newPath(t)
		damaged := bytes.Clone(whole)
		pages := damaged[2*pageSize:]
		for ; len(damage) >= 4; damage = damage[4:] {
			pages[(int(damage[0])<<16|int(damage[1])<<8|int(damage[2]))%len(pages)] = damage[3]
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := CheckFile(path)
		if err != nil || len(report.Violations) > 0 {
			if len(report.Violations) > maxViolations || err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNotDatabase) && !errors.Is(err, ErrSchema) {
				t.Fatalf("%d violations, %v", len(report.Violations), err)
			}
			return
		}
		if got := dump(t, path); got != stored {
			t.Fatalf("what is stored differs, and the check says nothing:\n%s", difference(got, stored))
		}
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkAndClose(t, s)
	})
}

// dump is all that a database holds, as text, but for the sequences, of which the check knows what they must not be, and for expiry, where
// the times only say when to look.
func dump(t testing.TB, path string) string {
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var b strings.Builder
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
			if bytes.Equal(name, bucketExpiry) {
				return nil
			}
			return bucket.ForEach(func(k, v []byte) error {
				if slices.ContainsFunc([][]byte{bucketQueue, bucketByWebhook, bucketUndelivered}, func(b []byte) bool { return bytes.Equal(b, name) }) {
					v = nil // nobody reads it
				}
				fmt.Fprintf(&b, "%s %x %x\n", name, k, v)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// difference is the first line in which two texts differ, of both.
func difference(a, b string) string {
	linesA, linesB := strings.Split(a, "\n"), strings.Split(b, "\n")
	i := 0
	for i < min(len(linesA), len(linesB))-1 && linesA[i] == linesB[i] {
		i++
	}
	return linesA[i] + "\n" + linesB[i]
}

// FuzzDeliveries: whatever is asked for, the pages of a list have each delivery that fits once and no other, and no cursor, wherever
// it comes from, leads to what does not fit.
func FuzzDeliveries(f *testing.F) {
	s, all := variousDeliveries(f)
	first := all[len(all)-1].CreatedAt
	f.Add(uint32(0), uint8(0), uint8(0), int64(0), int64(0), uint8(1), []byte{})
	f.Add(uint32(1), uint8(1), uint8(0), int64(0), int64(0), uint8(3), []byte{})
	f.Add(uint32(0), uint8(0), uint8(1), int64(0), int64(0), uint8(1), []byte{})
	f.Add(uint32(2), uint8(0), uint8(3), int64(1), int64(1<<40), uint8(2), u64key(7))
	f.Add(uint32(0), uint8(4), uint8(0), int64(-5), int64(0), uint8(200), bytes.Repeat(u64key(9), 2))
	for status := range 6 {
		f.Add(uint32(0), uint8(status), uint8(0), int64(0), int64(0), uint8(2), bytes.Repeat([]byte{0x7f}, 16))
	}
	f.Fuzz(func(t *testing.T, webhookID uint32, status, sessionOf uint8, since, until int64, limit uint8, cursor []byte) {
		ask := engine.DeliveryQuery{WebhookID: webhookID, Status: engine.Status(status % 6), Limit: max(1, int(limit))}
		if sessionOf > 0 {
			ask.SessionID = all[int(sessionOf)%len(all)].SessionID
		}
		if since != 0 {
			ask.Since = first.Add(time.Duration(since))
		}
		if until != 0 {
			ask.Until = first.Add(time.Duration(until))
		}
		want := slices.DeleteFunc(slices.Clone(all), func(d engine.Delivery) bool {
			return ask.SessionID != uuid.Nil && d.SessionID != ask.SessionID || webhookID != 0 && d.WebhookID != webhookID ||
				ask.Status != 0 && d.Status != ask.Status || since != 0 && d.CreatedAt.Before(ask.Since) || until != 0 && d.CreatedAt.After(ask.Until)
		})

		ask.Cursor = base64.RawURLEncoding.EncodeToString(cursor)
		from := 0
		if len(cursor) > 0 {
			page, err := s.Deliveries(t.Context(), ask)
			if _, ok := errors.AsType[engine.InputErrors](err); err != nil && !ok {
				t.Fatal(err)
			}
			for _, d := range page.Items {
				at := slices.Index(want[from:], d)
				if at < 0 && !ask.Status.Waiting() { // these are in the order in which they are due
					t.Fatalf("delivery %s does not belong there", d.ID)
				}
				from += at + 1
			}
			ask.Cursor = ""
		}
		var got []engine.Delivery
		for {
			page, err := s.Deliveries(t.Context(), ask)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Items) > ask.Limit || len(got) > len(all) || page.NextCursor != "" && page.NextCursor == ask.Cursor {
				t.Fatalf("%d deliveries on a page, %d in all, cursor %q after %q", len(page.Items), len(got), page.NextCursor, ask.Cursor)
			}
			got = append(got, page.Items...)
			if ask.Cursor = page.NextCursor; ask.Cursor == "" {
				break
			}
		}
		if ask.Status.Waiting() {
			newestFirst(got)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: got %d deliveries, want %d, or in another order", ask, len(got), len(want))
		}
	})
}

func newestFirst(list []engine.Delivery) {
	slices.SortFunc(list, func(x, y engine.Delivery) int { return strings.Compare(y.ID.String(), x.ID.String()) })
}

// variousDeliveries makes a database with deliveries of each status, and returns them, newest first.
func variousDeliveries(f *testing.F) (*Store, []engine.Delivery) {
	s := openTest(f, newPath(f))
	hooks := []engine.Webhook{putWebhook(f, s, engine.Webhook{}), putWebhook(f, s, engine.Webhook{Delay: 3600}), putWebhook(f, s, engine.Webhook{})}
	var all []engine.Delivery
	for i := range 10 {
		all = append(all, addSession(f, s, time.Now().Add(time.Duration(i)*time.Millisecond-time.Minute))...)
	}
	for _, w := range hooks {
		for i, taken := range take(f, s, engine.Lane{WebhookID: w.ID}, 8).Claimed {
			next := []engine.Next{delivered, {Status: engine.StatusFailed}, {Status: engine.StatusPending, At: now().Add(time.Hour)}}[i%3]
			deliver(f, s, taken.Delivery, next, ok)
		}
		d, err := s.Enqueue(f.Context(), engine.Enqueue{WebhookID: w.ID, Kind: engine.KindTest, Payload: []byte("{}"), At: now()})
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, d)
	}
	if err := cancel(s, all[len(all)-4].ID); err != nil {
		f.Fatal(err)
	}
	for i := range all {
		var err error
		if all[i], _, _, err = s.Delivery(f.Context(), all[i].ID); err != nil {
			f.Fatal(err)
		}
	}
	newestFirst(all)
	return s, all
}
