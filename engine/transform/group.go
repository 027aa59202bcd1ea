package transform

import (
	"context"
	"errors"
	"time"
)

// The jobs of an owner that wait together run together: one message has them all, and the worker wakes once for them. Each switch between two
// processes costs about a third of what a common program takes.

const (
	// groupTime is how long the jobs of a group may take together, by what those of their owner took of late: others wait so much longer.
	groupTime = 4 * time.Millisecond
	// maxGroup and maxGroupBytes are how many jobs a group has at the most, and how large their payloads are together.
	maxGroup      = 16
	maxGroupBytes = 128 << 10
)

// group returns how many of the jobs of an owner that wait run together next, and whether no other one could run with them.
func (o *owner) group() (n int, full bool) {
	size, took := 0, time.Duration(0)
	for _, at := range o.waiting {
		size += len(at.job.Payload)
		took += o.cost
		if n > 0 && (o.class != known || n == maxGroup || size > maxGroupBytes || took > groupTime || at.job.Programs != o.waiting[0].job.Programs) {
			return n, true
		}
		n++
	}
	return n, false
}

// runGroup runs the jobs of a group on a worker, and answers each: with its result, with an *Error, with an ErrNoWorker, or with an *endedError
// if the worker has ended instead of answering.
func (p *Pool) runGroup(ctx context.Context, at *place) {
	group := append([]*place{at}, at.group...)
	w, err := p.takeWorker(at.class)
	if err != nil {
		p.leave(at, 0)
		answerAll(group, err)
		return
	}
	p.begin(at, w)
	stop := context.AfterFunc(ctx, func() { w.kill(endedAbandoned) })
	rest, err := w.do(group)
	wanted := stop()
	if err == nil {
		took := at.watch.took()
		if took < slowAfter {
			took = max(1, took/time.Duration(len(group)))
		}
		if !wanted {
			w.kill(endedAbandoned) // it is about to be killed anyway, and not in the middle of another job
		}
		p.returnWorker(w) // first: who runs next takes it
		p.leave(at, took)
		return
	}
	ended := w.ending()
	p.countEnd(ended.why)
	took := slowAfter // a program that ends its worker is slow, however fast it does so
	if ended.why == endedAbandoned || ended.why == endedLost || ended.why == endedStarved {
		took = 0
	}
	ended.shared = took > 0 && len(rest) > 1 // which of them it was is seen when they run alone
	p.leave(at, took)
	answerAll(rest, ended)
}

// answer ends the job of a place.
func (at *place) answer(r Result, err error) {
	at.result, at.err, at.answered = r, err, true
	if at.follows {
		at.granted <- struct{}{}
	}
}

func answerAll(group []*place, err error) {
	for _, at := range group {
		at.answer(Result{}, err)
	}
}

// do has the worker run the jobs of a group, and answers those that it answers. It returns the others, if there are any, with an error: then the
// worker is of no use any more.
func (w *worker) do(group []*place) (rest []*place, err error) {
	if err := w.send(group); err != nil {
		return group, err
	}
	for i, at := range group {
		message, err := readMessage(w.reader, nil, maxAnswerBytes)
		if err != nil {
			return group[i:], err
		}
		result, err := parseAnswer(message, at.job)
		if _, failed := errors.AsType[*Error](err); err != nil && !failed {
			return group[i:], err
		}
		at.answer(result, err)
	}
	return nil, nil
}

// send writes the jobs of a group.
func (w *worker) send(group []*place) error {
	jobs := make([]*Job, 0, maxGroup)
	for _, at := range group {
		jobs = append(jobs, at.job)
	}
	b, payload := appendGroup(w.buffer[:0], jobs)
	_, err := w.in.Write(b)
	if err == nil && payload != nil {
		_, err = w.in.Write(payload)
	}
	w.buffer = nil
	if cap(b) <= keepBytes {
		w.buffer = b
	}
	return err
}
