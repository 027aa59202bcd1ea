package bolt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"hookbolt/engine"
	"hookbolt/storage/internal/copying"
)

// copyingSchema stands in place of the version of the layout until a copy is complete. No program opens such a file.
const copyingSchema = 1 << 31

// bucketCopy holds the state of a copy, until it is complete.
var (
	bucketCopy = []byte("copy")
	keyState   = []byte("state")
)

// copyFill is how full the pages of a copy are. Keys that grow fill one page after another.
const copyFill = 0.95

// WriteFile calls f with a writer to the file at path, which must not exist, or be an unfinished copy. It holds both locks of the file meanwhile.
func WriteFile(path string, f func(copying.Writer) error) error {
	named := path
	path, exists, err := resolve(path)
	if err == nil {
		var d disk
		if d, err = lookForNetwork(filepath.Dir(path)); err == nil && d.network != "" {
			err = fmt.Errorf("%w (%s)", ErrNetwork, d.network)
		}
	}
	if err == nil {
		err = writeFile(path, exists, f)
	}
	if err != nil {
		return fmt.Errorf("copy to %s: %w", named, err)
	}
	return nil
}

func writeFile(path string, exists bool, f func(copying.Writer) error) (err error) {
	lock, err := acquireLock(path + ".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Lstat(path); !exists && errors.Is(err, fs.ErrNotExist) {
		if err := createVersion(path, copyingSchema); err != nil {
			return fmt.Errorf("create: %w", err)
		}
	} else if err := isCopy(path); err != nil {
		return err
	}
	w, err := openCopy(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.db.Close()) }()
	return f(w)
}

// isCopy returns why a file is not an unfinished copy; nil if it is one. It writes nothing.
func isCopy(path string) error {
	return withFile(path, false, func(db *bbolt.DB) error {
		_, err := (&Store{db: db}).schema()
		switch {
		case errors.Is(err, copying.ErrUnfinished):
			return nil
		case err == nil:
			err = copying.ErrNotEmpty
		}
		return err
	})
}

// copyWriter implements copying.Writer.
type copyWriter struct {
	db    *bbolt.DB
	nonce uint32
	state copying.State
}

func openCopy(path string) (*copyWriter, error) {
	file, err := lockDatabase(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // bbolt has the lock, too
	if err := lockForWriting(file); err != nil {
		return nil, err
	}
	if err := heal(file); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	o := boltOptions()
	o.OpenFile = handOver(file)
	db, err := bbolt.Open(path, 0o600, o)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	w := &copyWriter{db: db}
	err = db.View(func(tx *bbolt.Tx) error {
		if w.nonce, err = metaU32(tx.Bucket(bucketMeta), keyNonce); err != nil {
			return err
		}
		b := tx.Bucket(bucketCopy)
		if b == nil {
			return nil
		}
		body, err := unseal(bucketCopy, keyState, b.Get(keyState))
		if err == nil {
			err = json.Unmarshal(body, &w.state)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return w, nil
}

// State implements copying.Writer.
func (w *copyWriter) State() copying.State { return w.state }

// Put implements copying.Writer.
func (w *copyWriter) Put(_ context.Context, b *copying.Batch, s *copying.State) error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return w.db.Update(func(tx *bbolt.Tx) error {
		p := &copyBatch{tx: tx, nonce: w.nonce, counts: make(map[uint32]*counts)}
		p.sessions(b.Sessions)
		p.deliveries(b.Deliveries)
		p.requests(b.Requests)
		if b.Rest != nil {
			p.rest(b.Rest)
		}
		p.keepCounts()
		bucket, err := tx.CreateBucketIfNotExists(bucketCopy)
		if err == nil {
			err = bucket.Put(keyState, sealBytes(keyState, body))
		}
		return errors.Join(p.err, err)
	})
}

// copyBatch writes records in a transaction. After an error it does nothing.
type copyBatch struct {
	tx     *bbolt.Tx
	nonce  uint32
	counts map[uint32]*counts
	err    error
}

// put writes an entry.
func (p *copyBatch) put(bucket, key, value []byte) {
	if p.err != nil {
		return
	}
	b := p.tx.Bucket(bucket)
	b.FillPercent = copyFill
	p.err = b.Put(key, value)
}

// number returns the next number of a bucket.
func (p *copyBatch) number(bucket []byte) (n uint64) {
	if p.err == nil {
		n, p.err = p.tx.Bucket(bucket).NextSequence()
	}
	return n
}

// raise makes sure that a number is not given again.
func (p *copyBatch) raise(bucket []byte, last int64) {
	if b := p.tx.Bucket(bucket); p.err == nil && last > 0 && b.Sequence() < uint64(last) {
		p.err = b.SetSequence(uint64(last))
	}
}

// expires is a record that expires.
type expires struct {
	number uint64
	at     time.Time
}

// expirySpan is by how much the times of records with a common entry in expiry may differ.
const expirySpan = time.Minute

// expire writes the places of some records in expiry.
func (p *copyBatch) expire(kind byte, list []expires) {
	slices.SortFunc(list, func(a, b expires) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.number, b.number)) })
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].at.Sub(list[0].at) < expirySpan {
			n++
		}
		numbers := make([]uint64, n)
		for i := range numbers {
			numbers[i] = list[i].number
		}
		slices.Sort(numbers)
		key := expiryKey(kind, list[n-1].at, numbers[0])
		p.put(bucketExpiry, key, encodeExpiry(key, numbers[1:]))
		list = list[n:]
	}
}

func (p *copyBatch) sessions(list []*copying.Session) {
	var expiring []expires
	for _, one := range list {
		r := sessionRecord{SessionHead: one.SessionHead, number: uint64(one.No), batches: uint32(len(one.Requests))}
		for i := range one.Requests {
			key := itemKey(r.number, uint32(i+1))
			p.put(bucketEvents, key, encodeRequest(key, &one.Requests[i]))
		}
		in := one.Deliveries[:min(len(one.Deliveries), maxMarksInHead)]
		r.Deliveries = in
		updates := make(map[uint32]uint64) // by webhook
		for _, ref := range one.Deliveries[len(in):] {
			key := markKey(r.number, ref.WebhookID, ref.Kind)
			if ref.Kind == engine.KindUpdate { // in the order in which they were made, and before those to come
				updates[ref.WebhookID]++
				key = binary.BigEndian.AppendUint64(key, updates[ref.WebhookID])
			}
			p.put(bucketMarks, key, sealBytes(key, ref.ID[:]))
			r.marks++
		}
		for _, n := range updates {
			p.raise(bucketDeliveries, int64(n)) // the keys of those to come have a higher D
		}
		p.put(bucketSessions, u64key(r.number), r.encode())
		p.raise(bucketSessions, one.No)
		expiring = append(expiring, expires{r.number, r.LastReceivedAt})
	}
	p.expire(expirySession, expiring)
}

// encodeRequest is encodeEvents for events that are a list already.
func encodeRequest(key []byte, r *copying.Events) []byte {
	e := newRecord(32 + len(r.JSON) + 40*len(r.IDs))
	e.time(r.ReceivedAt)
	e.uint(uint64(len(r.IDs)))
	for _, id := range r.IDs {
		e.string(id)
	}
	e.b = append(e.b, r.JSON...)
	return e.seal(key)
}

func (p *copyBatch) deliveries(list []*copying.Delivery) {
	var expiring []expires
	var queue, exceptions, byWebhook [][]byte
	for _, one := range list {
		d := deliveryRecord{Delivery: one.Delivery, number: p.number(bucketDeliveries), session: uint64(one.SessionNo), visitor: one.Visitor, visitorKnown: true}
		d.adopted = d.ID != deliveryID(d.CreatedAt, p.nonce, d.number)
		if d.adopted {
			p.put(bucketDeliveryIDs, d.ID[:], u64key(d.number))
		}
		if one.Payload != nil {
			d.payload = p.number(bucketPayloads)
			key := u64key(d.payload)
			p.put(bucketPayloads, key, sealBytes(key, one.Payload))
		}
		for i := range one.Attempts {
			key := itemKey(d.number, uint32(i+1))
			p.put(bucketAttempts, key, encodeAttempt(key, &one.Attempts[i]))
		}
		p.put(bucketDeliveries, u64key(d.number), d.encode())
		byWebhook = append(byWebhook, byWebhookKey(&d))
		waits, excepted := indexKeys(&d)
		if waits != nil {
			queue = append(queue, waits)
		}
		if excepted != nil {
			exceptions = append(exceptions, excepted)
		}
		if !d.FinishedAt.IsZero() {
			expiring = append(expiring, expires{d.number, d.FinishedAt})
		}
		p.count(&d)
	}
	p.index(bucketQueue, queue)
	p.index(bucketUndelivered, exceptions)
	p.index(bucketByWebhook, byWebhook)
	p.expire(expiryDelivery, expiring)
}

// index writes the keys of an index in their order.
func (p *copyBatch) index(bucket []byte, keys [][]byte) {
	slices.SortFunc(keys, bytes.Compare)
	for _, key := range keys {
		p.put(bucket, key, nil)
	}
}

// count counts a delivery. Those that are due are counted at the first start: none lies before the mark that counts begin with.
func (p *copyBatch) count(d *deliveryRecord) {
	c := p.counts[d.WebhookID]
	if c == nil {
		c = new(counts)
		key := u32key(d.WebhookID)
		if v := p.tx.Bucket(bucketCounts).Get(key); v != nil && p.err == nil {
			*c, p.err = decodeCounts(key, v)
		}
		p.counts[d.WebhookID] = c
	}
	c.byStatus[d.Status]++
	c.late += isLate(d)
	c.parked += isParked(d)
}

func (p *copyBatch) keepCounts() {
	for id, c := range p.counts {
		key := u32key(id)
		p.put(bucketCounts, key, c.encode(key))
	}
}

func (p *copyBatch) requests(list []*copying.Request) {
	for _, one := range list {
		key := one.Key[:]
		p.put(bucketRequestKeys, key, sealBytes(key, p.json(&one.Done)))
		p.put(bucketRequestTimes, requestTime(one.Done.At, key), nil)
	}
}

func (p *copyBatch) json(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil && p.err == nil {
		p.err = err
	}
	return body
}

func (p *copyBatch) rest(r *copying.Rest) {
	for _, w := range r.Webhooks {
		key := u32key(w.ID)
		p.put(bucketWebhooks, key, sealBytes(key, p.json(w)))
	}
	for id, h := range r.Health {
		key := u32key(id)
		p.put(bucketHealth, key, encodeHealth(key, &h))
	}
	for i := range r.Jobs {
		key := u64key(uint64(r.Jobs[i].No))
		p.put(bucketJobs, key, sealBytes(key, p.json(p.job(&r.Jobs[i]))))
	}
	for i := range r.FanOuts {
		f := fanOut{after: r.FanOuts[i].After, last: r.FanOuts[i].Last}
		for _, s := range r.FanOuts[i].Sessions {
			f.sessions = append(f.sessions, fannedOut{uint64(s.No), s.FanOut})
		}
		key := u64key(uint64(r.FanOuts[i].No))
		p.put(bucketFanOuts, key, f.encode(key))
	}
	p.raise(bucketWebhooks, r.LastWebhook)
	p.raise(bucketSessions, r.LastSession)
	p.raise(bucketJobs, r.LastJob)
	p.raise(bucketFanOuts, r.LastJob)
}

// job returns a job as this store has it.
func (p *copyBatch) job(one *copying.Job) job {
	j := job{Cancellation: one.Cancellation}
	switch {
	case one.Replay != nil && one.Replay.Scope == engine.ReplayMissing:
		j.Replay = &replayJob{Replay: one.Replay.Replay, From: uint64(one.Replay.AfterSession) + 1, To: uint64(one.Replay.ToSession)}
	case one.Replay != nil:
		j.Replay = &replayJob{Replay: one.Replay.Replay, From: p.delivery(one.Replay.After) + 1, To: p.delivery(one.Replay.To)}
	case one.Erasure != nil:
		place := erasePlace{phase: eraseSessions, job: uint64(one.No)}
		j.Erasure = &eraseJob{Target: one.Erasure.Target, Place: place.String(), Erased: one.Erasure.Erased, Damaged: one.Erasure.Damaged, Once: one.Erasure.Once}
	}
	return j
}

// delivery returns D of a delivery that was written, 0 of none.
func (p *copyBatch) delivery(id uuid.UUID) uint64 {
	return (&Store{nonce: p.nonce}).numberOf(p.tx, id)
}

// Read implements copying.Writer.
func (w *copyWriter) Read(context.Context) (copying.Reader, error) { return newCopyReader(w.db) }

// Check implements copying.Writer. It adds what a session is found by first.
func (w *copyWriter) Check(context.Context) ([]error, error) {
	if err := w.numberSessions(); err != nil {
		return nil, err
	}
	c := newChecker(w.nonce)
	err := w.db.View(c.run)
	if err != nil && len(c.errs) == 0 {
		return nil, err
	}
	return c.errs, nil
}

// numberedAtOnce is how many sessions numberSessions keeps in memory; a variable for tests.
var numberedAtOnce = 1 << 20

// numberSessions writes session_numbers, whose keys are random, in the order of the keys: first those that come first.
func (w *copyWriter) numberSessions() error {
	after := []byte{}
	for {
		some, more, err := w.firstSessions(after)
		if err != nil || len(some) == 0 {
			return err
		}
		for part := range slices.Chunk(some, 20_000) {
			err := w.db.Update(func(tx *bbolt.Tx) error {
				b := tx.Bucket(bucketSessionNumbers)
				b.FillPercent = copyFill
				for _, one := range part {
					if err := b.Put(one.id[:], u64key(one.number)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		after = some[len(some)-1].id[:]
		if !more {
			break
		}
	}
	return w.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyNumbered, sealBytes(keyNumbered, u64key(tx.Bucket(bucketSessions).Sequence())))
	})
}

// firstSessions returns the sessions with the lowest ids behind after, in their order.
func (w *copyWriter) firstSessions(after []byte) (some []numbered, more bool, err error) {
	cut := func() {
		slices.SortFunc(some, func(a, b numbered) int { return bytes.Compare(a.id[:], b.id[:]) })
		if len(some) > numberedAtOnce {
			some, more = some[:numberedAtOnce], true
		}
	}
	err = w.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketSessions).ForEach(func(k, v []byte) error {
			body, err := unseal(bucketSessions, k, v)
			if err != nil {
				return err
			}
			id := (&decoder{b: body}).uuid()
			if bytes.Compare(id[:], after) <= 0 {
				return nil
			}
			if some = append(some, numbered{id, binary.BigEndian.Uint64(k)}); len(some) == 2*numberedAtOnce {
				cut()
			}
			return nil
		})
	})
	cut()
	return some, more, err
}

// Finish implements copying.Writer. The list of free pages is written, so that the next start need not search them.
func (w *copyWriter) Finish(context.Context) error {
	w.db.NoFreelistSync = false
	return w.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(bucketCopy); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put(keySchema, sealBytes(keySchema, u32key(schemaVersion)))
	})
}
