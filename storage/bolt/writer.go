package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"hookbolt/engine"
)

// Bounds of one commit: what a crowd of callers may gather, so that the first of them does not wait for ever.
const (
	maxBatchMutations = 2048
	maxBatchBytes     = 4 << 20
	// maxBulkBytes is from what size on a commit takes no large mutation more, bulkBytes from where on one is large. Large ones stand in
	// a line of their own: attempts and single sessions are not to wait for several imports.
	maxBulkBytes = 2 << 20
	bulkBytes    = 64 << 10
)

// growingFill is how full bbolt leaves a page when it splits one: pages to which nothing is added any more may be full.
const growingFill = 0.9

// mutation is one caller's change.
type mutation struct {
	// run makes the change. It has no effect outside its batch, for it may be called again. An error that it returns before
	// its first change fails this caller alone; a later one makes the batch start anew without it.
	run  func(*batch) error
	size int        // about how many bytes it writes
	done chan error // capacity 1; receives one answer from the writer
}

// write hands a change to the writer and waits until it is durable. ctx bounds the wait for its turn alone: what the writer has
// may become durable, and the caller has to know.
func (s *Store) write(ctx context.Context, size int, run func(*batch) error) error {
	return s.submit(ctx, nil, size, run)
}

// submitRead is write for a question, whose answer is not waited for beyond ctx: a writer that hangs with its disk must not take those along
// who ask how it does. After an error run may still be going on.
func (s *Store) submitRead(ctx context.Context, size int, run func(*batch) error) error {
	return s.submit(ctx, ctx.Done(), size, run)
}

func (s *Store) submit(ctx context.Context, enough <-chan struct{}, size int, run func(*batch) error) error {
	o := &mutation{run: run, size: size, done: make(chan error, 1)}
	line := s.mutations
	if size >= bulkBytes {
		line = s.bulk
	}
	select {
	case line <- o:
	case <-s.stopped:
		return s.unavailable()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-enough:
		return ctx.Err()
	case <-s.stopped: // it answers what it has begun before it ends
	}
	select {
	case err := <-o.done:
		return err
	default:
		return s.unavailable()
	}
}

// writer is the goroutine that makes all changes. It ends when quit is closed, or after a failed commit.
func (s *Store) writer() {
	defer close(s.stopped)
	debug.SetPanicOnFault(true) // see recoverDamage
	var mutations []*mutation
	for {
		select {
		case o := <-s.mutations:
			mutations = s.gather(append(mutations[:0], o))
		case o := <-s.bulk:
			mutations = s.gather(append(mutations[:0], o))
		case <-s.quit:
			return
		}
		if err := s.commit(mutations); err != nil {
			s.fail(err)
			return
		}
		clear(mutations) // a request may be large
	}
}

// gather adds to the first mutation of a batch those that wait behind it. Whoever is about to hand one in, such as the callers
// that the commit before has just answered, gets the processor first: that costs no time when nobody is, and commits are what costs
// most. The batch is bounded, so that the first of a crowd does not wait for ever.
func (s *Store) gather(mutations []*mutation) []*mutation {
	size := mutations[0].size
	take := func(line chan *mutation, most int) {
		for len(line) > 0 && len(mutations) < maxBatchMutations && size < most {
			o := <-line
			mutations = append(mutations, o)
			size += o.size
		}
	}
	for had := 0; had < len(mutations); {
		had = len(mutations)
		runtime.Gosched()
		take(s.mutations, maxBatchBytes)
		take(s.bulk, maxBulkBytes)
	}
	return mutations
}

// commit applies mutations in one transaction and answers them. It returns an error if the transaction could not be made
// durable: then nothing may be written any more. A transaction that was refused for want of space fails its callers alone.
func (s *Store) commit(mutations []*mutation) (err error) {
	if full := s.space.writable(); full != nil {
		return s.answerFull(mutations, full)
	}
	var b *batch
	defer func() {
		if damage := recoverDamage(recover()); damage != nil {
			b.tx.Rollback()
			err = s.refuse(mutations, damage)
		}
	}()
	for len(mutations) > 0 {
		b, err = s.begin()
		if err != nil {
			return s.refuse(mutations, fmt.Errorf("begin: %w", err))
		}
		applied, failed := b.apply(mutations)
		if failed != nil {
			b.tx.Rollback()
			mutations = remainingAfter(mutations, applied, failed)
			continue
		}
		mutations = applied
		if b.changes > 0 {
			if err := b.finish(); err != nil {
				b.tx.Rollback()
				return s.refuse(mutations, fmt.Errorf("finish: %w", err))
			}
			started, txid := time.Now(), uint64(b.tx.ID())
			s.claim(b.claims...) // before anybody can see them
			if err := b.tx.Commit(); err != nil {
				return s.commitFailed(mutations, b.claims, err, txid, time.Since(started))
			}
			s.observe(len(mutations), time.Since(started))
			s.space.accepted()
		} else {
			b.tx.Rollback()
		}
		b.publish()
		for _, o := range mutations {
			o.done <- nil
		}
		return nil
	}
	return nil
}

// apply runs mutations one after another, and answers those that fail: without a change they have failed alone, else the transaction has to
// begin anew without the one that it returns.
func (b *batch) apply(mutations []*mutation) (applied []*mutation, failed *mutation) {
	for _, o := range mutations {
		before := b.changes
		err := o.run(b)
		if err == nil {
			applied = append(applied, o)
			continue
		}
		o.done <- err
		if b.changes != before {
			return applied, o
		}
	}
	return applied, nil
}

// commitFailed answers mutations whose commit has failed. Where nothing of it can have been seen the writer goes on, and the claims end.
// Else they stay: its meta page may be in the file, where readers see it, and what is not on the disk must not be sent.
func (s *Store) commitFailed(mutations []*mutation, claims []claimedNumber, err error, txid uint64, took time.Duration) error {
	newest, lookErr := s.newestOnDisk()
	if lookErr != nil || !isRefusal(err, newest, txid) {
		return s.refuse(mutations, fmt.Errorf("commit: %w", err))
	}
	for _, c := range claims {
		s.unclaim(c.number)
	}
	full := fmt.Errorf("%w: the disk takes no more", engine.ErrFull)
	s.space.refuse(full, took)
	for _, o := range mutations {
		o.done <- full
	}
	return nil
}

// newestOnDisk returns the newest transaction that the file shows.
func (s *Store) newestOnDisk() (uint64, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	metas, err := readMetas(f)
	txid, _ := newestMeta(metas)
	return txid, err
}

// answerFull answers mutations while nothing can be written: those that only look get what they want, the others full.
func (s *Store) answerFull(mutations []*mutation, full error) error {
	for _, o := range mutations {
		b, err := s.begin()
		if err != nil {
			return s.refuse(mutations, fmt.Errorf("begin: %w", err))
		}
		b.full = true
		err = o.run(b)
		b.tx.Rollback()
		if err == nil && b.changes > 0 {
			err = full
		}
		o.done <- err
	}
	return nil
}

// recoverDamage makes an error of what was recovered from a panic; nil of nil. bbolt panics where a page is not what it should be, and
// debug.SetPanicOnFault makes a panic of reading beyond the end of a file that was truncated under the process.
func recoverDamage(v any) error {
	if v == nil {
		return nil
	}
	return fmt.Errorf("%w: reading the file led to: %v", ErrCorrupt, v)
}

// remainingAfter returns the mutations that are still to be answered after one has failed half-way: those that were applied
// before it, and those that did not have their turn.
func remainingAfter(mutations, applied []*mutation, failed *mutation) []*mutation {
	rest := applied
	for i, o := range mutations {
		if o == failed {
			return append(rest, mutations[i+1:]...)
		}
	}
	return rest
}

// refuse answers mutations of which none became durable.
func (s *Store) refuse(mutations []*mutation, err error) error {
	for _, o := range mutations {
		select {
		case o.done <- fmt.Errorf("%w: %w", engine.ErrUnavailable, err):
		default: // it has failed alone before
		}
	}
	return err
}

// batch is one transaction under way, with what becomes visible in memory once it is durable.
type batch struct {
	s       *Store
	tx      *bbolt.Tx
	began   time.Time
	changes int  // how many puts and deletes there were
	full    bool // nothing can be written: it is rolled back

	meta, webhooks, sessionNumbers, sessions, events, deliveries, attempts         *bbolt.Bucket
	payloads, queue, byWebhook, failedOrCancelled, expiry, jobs, counters, healths *bbolt.Bucket

	hooks  *engine.WebhookSet       // as of this batch
	counts map[uint32]*counts       // those that this batch has touched
	health map[uint32]engine.Health // those that this batch has changed
	// numbers are those of the sessions that this batch has made, 0 for those that it has removed.
	numbers  map[uuid.UUID]uint64
	expiring [expiryDelivery + 1]expiring // by kind
	claims   []claimedNumber              // what is claimed as it is made
	after    []func()                     // run once the batch is durable
}

func (s *Store) begin() (b *batch, err error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return nil, err
	}
	defer func() {
		if damage := recoverDamage(recover()); damage != nil {
			tx.Rollback()
			b, err = nil, damage
		}
	}()
	s.space.note(tx.Size(), s.freeInFile())
	b = &batch{s: s, tx: tx, began: time.Now().UTC().Round(0), hooks: s.hooks.Load(), counts: make(map[uint32]*counts),
		health: make(map[uint32]engine.Health), numbers: make(map[uuid.UUID]uint64),
		meta: tx.Bucket(bucketMeta), webhooks: tx.Bucket(bucketWebhooks), sessionNumbers: tx.Bucket(bucketSessionNumbers),
		sessions: tx.Bucket(bucketSessions), events: tx.Bucket(bucketEvents), deliveries: tx.Bucket(bucketDeliveries),
		attempts: tx.Bucket(bucketAttempts), payloads: tx.Bucket(bucketPayloads), queue: tx.Bucket(bucketQueue),
		byWebhook: tx.Bucket(bucketByWebhook), failedOrCancelled: tx.Bucket(bucketFailedOrCancelled), expiry: tx.Bucket(bucketExpiry),
		jobs: tx.Bucket(bucketJobs), counters: tx.Bucket(bucketCounts),
		healths: tx.Bucket(bucketHealth),
	}
	// bbolt forgets the fill percent with each bucket handle.
	for _, bucket := range []*bbolt.Bucket{b.sessions, b.events, b.deliveries, b.attempts, b.payloads, b.queue, b.byWebhook, b.expiry} {
		bucket.FillPercent = growingFill
	}
	return b, nil
}

func (b *batch) put(bucket *bbolt.Bucket, key, value []byte) error {
	b.changes++
	return bucket.Put(key, value)
}

func (b *batch) delete(bucket *bbolt.Bucket, key []byte) error {
	b.changes++
	return bucket.Delete(key)
}

// next draws the next number of a bucket.
func (b *batch) next(bucket *bbolt.Bucket) (uint64, error) {
	b.changes++
	return bucket.NextSequence()
}

// count returns the counts of a webhook, to be changed.
func (b *batch) count(webhookID uint32) *counts {
	c := b.counts[webhookID]
	if c == nil {
		c = new(counts)
		*c = b.s.counts[webhookID]
		b.counts[webhookID] = c
	}
	return c
}

// healthOf returns the health of a webhook's endpoint as of this batch.
func (b *batch) healthOf(webhookID uint32) engine.Health {
	if h, ok := b.health[webhookID]; ok {
		return h
	}
	return b.s.health[webhookID]
}

// setHealth sets the health of a webhook's endpoint. What is as healthy as before, the most frequent case by far, costs no write.
func (b *batch) setHealth(webhookID uint32, h engine.Health) {
	before := b.healthOf(webhookID)
	b.health[webhookID] = h
	if !sameHealth(h, before) {
		b.changes++
	}
}

// sameHealth compares what is written of two healths.
func sameHealth(a, b engine.Health) bool {
	a.Order, a.Notified = b.Order, b.Notified
	return a == b
}

// finish writes what is gathered over the batch.
func (b *batch) finish() error {
	if err := errors.Join(b.mergeNumbers(), b.putExpiring()); err != nil {
		return err
	}
	for id, h := range b.health {
		key := u32key(id)
		var err error
		switch {
		case sameHealth(h, b.s.health[id]):
		case h.Failures == 0:
			err = b.healths.Delete(key)
		default:
			err = b.healths.Put(key, encodeHealth(key, &h))
		}
		if err != nil {
			return err
		}
	}
	for id, c := range b.counts {
		key := u32key(id)
		var err error
		if c.empty() && b.hooks.Get(id) == nil {
			err = b.counters.Delete(key)
		} else if *c != b.s.counts[id] {
			err = b.counters.Put(key, c.encode(key))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// publish makes the batch visible in memory.
func (b *batch) publish() {
	for id, c := range b.counts {
		if c.empty() && b.hooks.Get(id) == nil {
			delete(b.s.counts, id)
		} else {
			b.s.counts[id] = *c
		}
	}
	for id, h := range b.health {
		if b.hooks.Get(id) == nil {
			delete(b.s.health, id)
		} else {
			b.s.health[id] = h
		}
	}
	b.s.hooks.Store(b.hooks)
	b.s.numbers.apply(b.numbers)
	for _, f := range b.after {
		f()
	}
}
