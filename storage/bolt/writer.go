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

// Bounds of one commit. They limit how long the first caller of a batch waits for the others.
const (
	maxBatchMutations = 2048
	maxBatchBytes     = 4 << 20
	// A mutation of more than bulkBytes is large. Large mutations have a queue of their own, so that attempts and single sessions do
	// not wait for several imports. A commit takes no further large mutation once it has maxBulkBytes.
	maxBulkBytes = 2 << 20
	bulkBytes    = 64 << 10
	// maxBatchChanges bounds the puts and deletes of a commit. What a mutation writes is known only when it has run, so a batch that has
	// made so many leaves its other mutations to the next commit.
	maxBatchChanges = 10_000
)

// growingFill is how full bbolt leaves a page when it splits one. Buckets whose keys grow get full pages, because nothing is inserted
// into them later.
const growingFill = 0.9

// mutation is one caller's change.
type mutation struct {
	// run makes the change. It may be called again, so it must have no effect outside its batch. An error before its first change
	// fails this caller alone. An error after a change makes the batch start again without it.
	run  func(*batch) error
	size int        // about how many bytes it writes
	done chan error // capacity 1; answer sends, the caller receives
	// answered is set by answer. Owned by the writer.
	answered bool
}

// answer sends the caller its answer. The first answer is the only one: whoever answers all mutations of a batch need not know which have
// failed alone before, and done always has room.
func (m *mutation) answer(err error) {
	if !m.answered {
		m.answered = true
		m.done <- err
	}
}

// write hands a change to the writer and waits until it is durable. ctx bounds only the wait for the writer. A change that the writer
// has accepted may become durable, and the caller has to know.
func (s *Store) write(ctx context.Context, size int, run func(*batch) error) error {
	return s.submit(ctx, nil, size, run)
}

// submitRead is write for a question. It stops waiting when ctx ends, because a writer that hangs with its disk must not block those
// who ask about its state. After an error, run may still be running.
func (s *Store) submitRead(ctx context.Context, size int, run func(*batch) error) error {
	return s.submit(ctx, ctx.Done(), size, run)
}

func (s *Store) submit(ctx context.Context, giveUp <-chan struct{}, size int, run func(*batch) error) error {
	if err := ctx.Err(); err != nil { // the select below may choose the writer all the same
		return err
	}
	m := &mutation{run: run, size: size, done: make(chan error, 1)}
	queue := s.mutations
	if size >= bulkBytes {
		queue = s.bulk
	}
	select {
	case queue <- m:
	case <-s.stopped:
		return s.unavailable()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-m.done:
		return err
	case <-giveUp:
		return ctx.Err()
	case <-s.stopped: // the writer answers what it has begun before it ends
	}
	select {
	case err := <-m.done:
		return err
	default:
		return s.unavailable()
	}
}

// writer is the goroutine that makes all changes. It ends when quit is closed or a commit fails.
func (s *Store) writer() {
	defer close(s.stopped)
	debug.SetPanicOnFault(true) // see recoverDamage
	var mutations []*mutation
	var p patience
	for {
		select {
		case m := <-s.mutations:
			mutations = s.gather(append(mutations[:0], m))
		case m := <-s.bulk:
			mutations = s.gather(append(mutations[:0], m))
		case <-s.quit:
			return
		}
		if had := len(mutations); p.waits(had, time.Now()) {
			time.Sleep(gatherWait)
			mutations = s.gather(mutations)
			p.waited(len(mutations) - had)
		}
		p.began = time.Now()
		if err := s.commit(mutations); err != nil {
			s.fail(err)
			return
		}
		p.took = time.Since(p.began)
		clear(mutations) // a request may be large; do not keep it alive
	}
}

// gather adds the mutations that wait already to a batch. It first lets other goroutines run, such as callers that the commit before
// has just answered: they may submit another mutation. That costs no time when there are none, and fewer commits cost less. The batch
// is bounded, so that its first caller does not wait for ever.
func (s *Store) gather(mutations []*mutation) []*mutation {
	size := 0
	for _, m := range mutations {
		size += m.size
	}
	drain := func(queue chan *mutation, most int) {
		for len(queue) > 0 && len(mutations) < maxBatchMutations && size < most {
			m := <-queue
			mutations = append(mutations, m)
			size += m.size
		}
	}
	for had := 0; had < len(mutations); {
		had = len(mutations)
		runtime.Gosched()
		drain(s.mutations, maxBatchBytes)
		drain(s.bulk, maxBulkBytes)
	}
	return mutations
}

// commit applies mutations in one transaction and answers all of them. It returns an error if the transaction could not be made durable,
// or if something panicked; nothing may be written after that. If a transaction was refused for want of space, only its callers get an
// error.
func (s *Store) commit(mutations []*mutation) (err error) {
	defer func() {
		if damage := recoverDamage(recover()); damage != nil {
			err = damage
		}
		if err == nil {
			return
		}
		for _, m := range mutations {
			m.answer(fmt.Errorf("%w: %w", engine.ErrUnavailable, err))
		}
	}()
	for left := mutations; len(left) > 0; {
		if full := s.space.writable(); full != nil {
			return s.answerFull(left, full)
		}
		if left, err = s.tryCommit(left); err != nil {
			return err
		}
	}
	return nil
}

// tryCommit is commit in a single transaction. It returns the mutations that are left for another one. If a mutation fails half-way, nothing is
// committed, and these are all others.
func (s *Store) tryCommit(mutations []*mutation) (left []*mutation, err error) {
	b, err := s.begin()
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer b.tx.Rollback() // does nothing after a commit
	applied, left, failed := b.apply(mutations)
	if failed {
		return append(applied, left...), nil
	}
	if b.changes > 0 {
		if err := b.finish(); err != nil {
			return nil, fmt.Errorf("finish: %w", err)
		}
		started, txid := time.Now(), uint64(b.tx.ID())
		s.claim(b.claims...) // before readers can see the deliveries
		if err := b.tx.Commit(); err != nil {
			b.tx.Rollback() // Commit has done it, but commitFailed would wait for ever if it had not
			return left, s.commitFailed(applied, b.claims, err, txid, time.Since(started))
		}
		s.observe(len(applied), time.Since(started))
		s.space.accepted()
	}
	b.publish()
	for _, m := range applied {
		m.answer(nil)
	}
	return left, nil
}

// apply runs mutations one after another, as many as a commit may hold, and answers those that fail. left are those that have not run. One that
// fails before its first change has failed alone. If one fails later, failed is true: the transaction must start again without it.
func (b *batch) apply(mutations []*mutation) (applied, left []*mutation, failed bool) {
	for i, m := range mutations {
		before := b.changes
		if before > maxBatchChanges {
			return applied, mutations[i:], false
		}
		err := m.run(b)
		if err == nil {
			applied = append(applied, m)
			continue
		}
		m.answer(err)
		if b.changes != before {
			return applied, mutations[i+1:], true
		}
	}
	return applied, nil, false
}

// commitFailed handles a failed commit. If no reader can have seen any of it, the mutations are answered, the claims end, and the writer
// goes on: those that change nothing only had bad company, and get their answer. Otherwise it returns an error, and the claims stay: readers may see the new meta page, and a delivery that is not on the disk
// must not be sent.
func (s *Store) commitFailed(mutations []*mutation, claims []claimedNumber, err error, txid uint64, took time.Duration) error {
	newest, lookErr := s.newestOnDisk()
	if lookErr != nil || !isRefusal(err, newest, txid) {
		return fmt.Errorf("commit: %w", err)
	}
	for _, c := range claims {
		s.unclaim(c.number)
	}
	full := fmt.Errorf("%w: the disk takes no more", engine.ErrFull)
	s.space.refuse(full, took)
	return s.answerFull(mutations, full)
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

// answerFull answers mutations while nothing can be written. Those that change nothing get their answer; the others get full.
func (s *Store) answerFull(mutations []*mutation, full error) error {
	for _, m := range mutations {
		if err := s.answerFullOne(m, full); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) answerFullOne(m *mutation, full error) error {
	b, err := s.begin()
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer b.tx.Rollback()
	b.full = true
	err = m.run(b)
	if err == nil && b.changes > 0 {
		err = full
	}
	m.answer(err)
	return nil
}

// recoverDamage turns a recovered panic into an error, and nil into nil. bbolt panics on a page that is malformed.
// debug.SetPanicOnFault turns a read beyond the end of a truncated file into a panic.
func recoverDamage(v any) error {
	if v == nil {
		return nil
	}
	return fmt.Errorf("%w: reading the file led to: %v", ErrCorrupt, v)
}

// batch is a transaction in progress, with the state that becomes visible in memory once it is durable.
type batch struct {
	s       *Store
	tx      *bbolt.Tx
	began   time.Time
	changes int  // how many puts and deletes there were
	looked  int  // how many deliveries of sessions were looked at, to see whether they wait
	full    bool // nothing can be written: the transaction is rolled back

	meta, webhooks, sessionNumbers, sessions, events, deliveries, attempts *bbolt.Bucket
	payloads, expiry, jobs, counters, healths, marks, fanOuts              *bbolt.Bucket
	requestKeys, requestTimes, deliveryIDs                                 *bbolt.Bucket
	queue, byWebhook, undelivered                                          index

	hooks  *engine.WebhookSet       // as of this batch
	counts map[uint32]*counts       // those that this batch has touched
	health map[uint32]engine.Health // those that this batch has changed
	// numbers holds the sessions that this batch has created, by id. The number 0 marks a session that it has removed.
	numbers  map[uuid.UUID]uint64
	expiring [expiryDelivery + 1]expiring // by kind
	claims   []claimedNumber              // deliveries that are claimed as they are created
	// fanningOut is how many sessions the batch has added to the fan-outs, less those that it has done.
	fanningOut int64
	// fannedOutNumbers are the sessions of the fan-outs; nil until fansOut needs them.
	fannedOutNumbers map[uint64]bool
	// remembered is how many requests with keys the batch has added, less those that it has removed.
	remembered int
	after      []func() // run once the batch is durable
}

func (s *Store) begin() (b *batch, err error) {
	tx, err := s.beginTx(true)
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
		attempts: tx.Bucket(bucketAttempts), payloads: tx.Bucket(bucketPayloads), queue: index{Bucket: tx.Bucket(bucketQueue)},
		byWebhook: index{Bucket: tx.Bucket(bucketByWebhook)}, undelivered: index{Bucket: tx.Bucket(bucketUndelivered)}, expiry: tx.Bucket(bucketExpiry),
		jobs: tx.Bucket(bucketJobs), counters: tx.Bucket(bucketCounts),
		healths: tx.Bucket(bucketHealth), marks: tx.Bucket(bucketMarks), fanOuts: tx.Bucket(bucketFanOuts),
		requestKeys: tx.Bucket(bucketRequestKeys), requestTimes: tx.Bucket(bucketRequestTimes), deliveryIDs: tx.Bucket(bucketDeliveryIDs),
	}
	// bbolt forgets the fill percent with each bucket handle.
	for _, bucket := range []*bbolt.Bucket{b.sessions, b.events, b.deliveries, b.attempts, b.payloads, b.queue.Bucket, b.byWebhook.Bucket, b.expiry, b.marks} {
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

// next returns the next number of a bucket.
func (b *batch) next(bucket *bbolt.Bucket) (uint64, error) {
	b.changes++
	return bucket.NextSequence()
}

// count returns the counts of a webhook, for the caller to change.
func (b *batch) count(webhookID uint32) *counts {
	c := b.counts[webhookID]
	if c == nil {
		c = new(counts)
		*c = b.s.counts[webhookID]
		b.counts[webhookID] = c
	}
	return c
}

// counted returns the counts of a webhook as of this batch, to read.
func (b *batch) counted(webhookID uint32) counts {
	if c := b.counts[webhookID]; c != nil {
		return *c
	}
	return b.s.counts[webhookID]
}

// healthOf returns the health of a webhook's endpoint as of this batch.
func (b *batch) healthOf(webhookID uint32) engine.Health {
	if h, ok := b.health[webhookID]; ok {
		return h
	}
	return b.s.health[webhookID]
}

// setHealth sets the health of a webhook's endpoint. Unchanged health, by far the most frequent case, costs no write.
func (b *batch) setHealth(webhookID uint32, h engine.Health) {
	before := b.healthOf(webhookID)
	b.health[webhookID] = h
	if !sameHealth(h, before) {
		b.changes++
	}
}

// sameHealth compares the stored parts of two healths.
func sameHealth(a, b engine.Health) bool {
	a.Order, a.Notified = b.Order, b.Notified
	return a == b
}

// finish writes what was gathered over the batch.
func (b *batch) finish() error {
	if err := errors.Join(b.mergeNumbers(), b.putExpiring(), b.settle()); err != nil {
		return err
	}
	for id, h := range b.health {
		key := u32key(id)
		var err error
		switch {
		case sameHealth(h, b.s.health[id]):
		case h.IsZero():
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
		} else if !c.same(b.s.counts[id]) {
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
			b.s.forgetResumePoints(id)
		} else {
			b.s.health[id] = h
		}
	}
	b.s.hooks.Store(b.hooks)
	b.s.numbers.apply(b.numbers)
	b.s.fanningOut.Add(b.fanningOut)
	b.s.remembered += b.remembered
	for _, f := range b.after {
		f()
	}
}
