package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// job is a cancellation, a replay or an erasure in progress. Its JSON form is the stored one.
type job struct {
	*engine.Cancellation            // nil for the others
	Replay               *replayJob `json:"replay,omitempty"`
	Erasure              *eraseJob  `json:"erasure,omitempty"`
	// Cursor is the last place in the queue that the cancellation has handled; see queuePlace.
	Cursor string `json:"cursor,omitempty"`
	// Passed tells that the cancellation has passed something that the server cannot read: it may not end yet.
	Passed bool `json:"passed,omitempty"`
	// Epoch is that of the cancellation. It begins when all processes have seen it: what they queue afterwards it does not cover.
	Epoch int64 `json:"epoch,omitempty"`

	damaged bool // it cannot be read; then it is none of the three
}

// replayJob is a replay in progress. It walks once, upwards: the ids of deliveries, or the numbers of sessions for deliveries that are missing. It goes on
// behind After, and ends with To.
type replayJob struct {
	engine.Replay
	After        uuid.UUID `json:"after,omitzero"`
	To           uuid.UUID `json:"to,omitzero"`
	AfterSession int64     `json:"after_session,omitzero"`
	ToSession    int64     `json:"to_session,omitzero"`
}

// eraseJob is an erasure in progress. It is stored from the first step to the last one, so that it is completed if the process ends.
type eraseJob struct {
	Target engine.Erasure `json:"target"`
	Place  string         `json:"place"`
	Erased engine.Erased  `json:"erased"`
	// Damaged are the texts of the errors about damaged rows.
	Damaged []string `json:"damaged,omitempty"`
	// Member is the process that carries it out, of several.
	Member int64 `json:"member,omitempty"`
	// Once is the key of the request, if it has one.
	Once []byte `json:"once,omitempty"`
}

// numberedJob is a job with its number.
type numberedJob struct {
	no int64
	*job
}

// readJobs reads all jobs, the oldest first.
func (s *Store) readJobs(ctx context.Context, conn *pgx.Conn) (all []numberedJob, err error) {
	found, err := conn.Query(ctx, s.sql("SELECT no, job::text FROM @.jobs ORDER BY no"))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		one, err := s.scanJob(found)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, found.Err()
}

// scanJob reads a number and a job. A damaged job is named, and is none of the three.
func (s *Store) scanJob(found pgx.Rows) (one numberedJob, err error) {
	one.job = new(job)
	var text []byte
	if err := found.Scan(&one.no, &text); err != nil {
		return one, err
	}
	if json.Unmarshal(text, one.job) != nil || one.Cancellation == nil && one.Replay == nil && one.Erasure == nil {
		s.passes(damage("job", one.no))
		one.job = &job{damaged: true}
	}
	return one, nil
}

// allJobs returns the jobs as of this batch, the oldest first. It reads them in a round trip of its own.
func (b *batch) allJobs() ([]numberedJob, error) {
	b.walked = true
	stored, err := b.s.readJobs(b.ctx, b.conn)
	if err != nil {
		return nil, err
	}
	for _, one := range stored {
		b.jobs.read(one.no, one.job)
	}
	var all []numberedJob
	for no := range b.jobs.stored {
		if _, again := b.jobs.changed[no]; !again && b.jobs.stored[no] != nil {
			all = append(all, numberedJob{no, b.jobs.stored[no]})
		}
	}
	for no, j := range b.jobs.changed {
		if j != nil {
			all = append(all, numberedJob{no, j})
		}
	}
	slices.SortFunc(all, func(a, b numberedJob) int { return cmp.Compare(a.no, b.no) })
	return all, nil
}

// lockJob locks a job before it is carried on: another process may be about to end it. It reports whether it is still there.
func (b *batch) lockJob(no int64) (there bool, err error) {
	err = b.query(func(pgx.Rows) error {
		there = true
		return nil
	}, "SELECT FROM @.jobs WHERE no = $1 FOR UPDATE", no)
	return there, err
}

// oneJob returns a job as of this batch, nil if there is none. It reads it in a round trip of its own.
func (b *batch) oneJob(no int64) (*job, error) {
	if j, known := b.jobs.get(no); known {
		return j, nil
	}
	b.jobs.read(no, nil)
	err := b.query(func(found pgx.Rows) error {
		one, err := b.s.scanJob(found)
		b.jobs.read(no, one.job)
		return err
	}, "SELECT no, job::text FROM @.jobs WHERE no = $1 FOR UPDATE", no)
	j, _ := b.jobs.get(no)
	return j, err
}

// addJob adds a job and returns its number.
func (b *batch) addJob(j *job) (no int64, err error) {
	if no, err = b.number("numbers"); err != nil {
		return 0, err
	}
	b.jobs.read(no, nil)
	b.putJob(no, j)
	return no, nil
}

// putJob replaces a job. nil removes it.
func (b *batch) putJob(no int64, j *job) {
	b.changes++
	b.jobs.put(no, j)
}

// beginCancellations adds a job for each cancellation of a webhook.
func (b *batch) beginCancellations(webhookID uint32, cancels []engine.Cancellation) error {
	for _, cancel := range cancels {
		if cancel.Scope == engine.CancelAll {
			if err := b.endReplays(webhookID); err != nil {
				return err
			}
		}
		if _, err := b.addJob(&job{Cancellation: &cancel, Epoch: b.raised}); err != nil {
			return err
		}
	}
	return nil
}

// endReplays ends a webhook's replays. Deliveries that they have not queued yet are not sent again.
func (b *batch) endReplays(webhookID uint32) error {
	all, err := b.allJobs()
	for _, one := range all {
		if one.Replay != nil && one.Replay.WebhookID == webhookID {
			b.putJob(one.no, nil)
		}
	}
	return err
}

// setCancellations puts the cancellations in progress into the set of webhooks.
func (b *batch) setCancellations() error {
	if err := b.lockSet(); err != nil {
		return err
	}
	all, err := b.allJobs()
	if err == nil {
		b.hooks = b.hooks.WithCancellations(cancellationsOf(all, b.hooks.All()))
	}
	return err
}

// cancellationsOf returns the cancellations among jobs. A damaged job may be the cancellation of a webhook that was switched off, so lostCancellations takes its
// place.
func cancellationsOf(jobs []numberedJob, hooks []*engine.Webhook) (cancels []engine.Cancellation) {
	for _, one := range jobs {
		if one.Cancellation != nil {
			cancels = append(cancels, *one.Cancellation)
		}
	}
	if countDamaged(jobs) > 0 {
		cancels = append(cancels, lostCancellations(hooks)...)
	}
	return cancels
}

func countDamaged(jobs []numberedJob) (n int) {
	for _, one := range jobs {
		if one.damaged {
			n++
		}
	}
	return n
}

// lostCancellations returns the cancellations of all webhooks that are switched off, as the webhooks themselves tell them. They cancel what was to be
// cancelled when the webhook was switched off, and nothing that came later.
func lostCancellations(hooks []*engine.Webhook) (cancels []engine.Cancellation) {
	for _, w := range hooks {
		if !w.Active && w.CancelledUpTo > 0 {
			cancels = append(cancels, engine.Cancellation{WebhookID: w.ID, Revision: w.CancelledUpTo, Scope: engine.CancelAll})
		}
	}
	return cancels
}
