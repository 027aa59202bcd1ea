package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/jackc/pgx/v5"

	"hookbolt/engine"
)

// job is a cancellation, a replay or an erasure in progress. Its JSON form is the stored one.
type job struct {
	*engine.Cancellation            // nil for the others
	Replay               *replayJob `json:"replay,omitempty"`
	Erasure              *eraseJob  `json:"erasure,omitempty"`
	// Cursor is the last place in the queue that the cancellation has handled.
	Cursor string `json:"cursor,omitempty"`
}

// replayJob is a replay in progress.
type replayJob struct {
	engine.Replay
}

// eraseJob is an erasure in progress.
type eraseJob struct {
	engine.Erasure
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
		one := numberedJob{job: new(job)}
		var text []byte
		if err := found.Scan(&one.no, &text); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, one.job); err != nil {
			return nil, damage("job", one.no)
		}
		all = append(all, one)
	}
	return all, found.Err()
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

// addJob adds a job.
func (b *batch) addJob(j *job) error {
	no, err := b.number("numbers")
	if err != nil {
		return err
	}
	b.jobs.read(no, nil)
	b.putJob(no, j)
	return nil
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
		if err := b.addJob(&job{Cancellation: &cancel}); err != nil {
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
	all, err := b.allJobs()
	if err == nil {
		b.hooks = b.hooks.WithCancellations(cancellationsOf(all))
	}
	return err
}

func cancellationsOf(jobs []numberedJob) (cancels []engine.Cancellation) {
	for _, one := range jobs {
		if one.Cancellation != nil {
			cancels = append(cancels, *one.Cancellation)
		}
	}
	return cancels
}
