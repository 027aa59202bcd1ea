package transform

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"syscall"
	"time"
)

// Exit codes of a worker that has ended itself, because a program of a job went beyond a limit where no step was counted. The runtime of Go
// ends a process with exitCrash: a stack that is too deep, or memory that the system does not give.
// The number of the program, from 0, is added to the others.
const (
	exitCrash  = 2
	exitMemory = 70
	exitTime   = 80
)

const (
	// watchInterval is how often the heap of a job is looked at. A program that does nothing else allocates some ten MiB meanwhile.
	watchInterval = 5 * time.Millisecond
	// watchGrace is how much longer than MaxTime a job may run that does not look at its budget, as in a regular expression.
	watchGrace = 250 * time.Millisecond
	// maxStackBytes is far more than a program of MaxProgramBytes needs, and far less than MaxHeapBytes.
	maxStackBytes = 32 << 20
	// collectAtBytes is the heap above which a worker makes room after a job, so that the next one does not pay for it.
	collectAtBytes = 32 << 20
	// keepBytes is the size of the buffers that are kept for the next job.
	keepBytes = 256 << 10
)

// Work is a worker: it answers the jobs that come from in on out until in ends, or the process that started it has. It sets limits for the
// whole process, which is to do nothing else.
func Work(in io.Reader, out io.Writer) error {
	// A service manager and a terminal send these to all processes of the service. A worker ends after the server, which may still need it.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	debug.SetMaxStack(maxStackBytes)
	debug.SetGCPercent(400)                    // what a job leaves is small: collect after some hundred of them
	debug.SetMemoryLimit(MaxHeapBytes * 3 / 4) // collect more often before the limit is reached
	restrict()
	w := &watch{evaluator: newEvaluator(), parent: os.Getppid()}
	w.evaluator.clock, w.evaluator.check = ownTime, w.checkHeap
	return serve(in, out, w)
}

// serve answers jobs until in ends.
func serve(in io.Reader, out io.Writer, w *watch) error {
	if _, err := out.Write([]byte{protocolVersion}); err != nil {
		return err
	}
	reader := bufio.NewReader(in)
	var message []byte
	var programs Programs
	var payloads [][]byte
	for {
		var err error
		message, err = readMessage(reader, message[:0], maxGroupMessage)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		programs, payloads, err = parseGroup(message, &programs, payloads[:0])
		if err != nil {
			return err
		}
		for _, payload := range payloads {
			if err := w.answer(out, &Job{Programs: programs, Payload: payload}); err != nil {
				return err
			}
		}
		if cap(message) > keepBytes {
			message = nil
			clear(payloads)
		}
		if heapBytes() > collectAtBytes {
			w.evaluator.forget()
			debug.FreeOSMemory()
		}
	}
}

// answer runs a job and writes its answer.
func (w *watch) answer(out io.Writer, job *Job) error {
	w.start()
	result, err := w.evaluator.eval(*job)
	w.buffer = appendAnswer(w.buffer[:0], job, result, err)
	w.stop()
	_, err = out.Write(w.buffer)
	if cap(w.buffer) > keepBytes {
		w.buffer = nil
	}
	return err
}

// watch ends the process when a job is beyond a limit, or when nobody waits for it any more.
type watch struct {
	evaluator *evaluator
	buffer    []byte // for answers
	parent    int
	since     atomic.Int64 // when the job began, by ownTime; 0 between jobs
	looks     atomic.Bool  // a look is to come
}

func (w *watch) start() {
	w.since.Store(int64(ownTime()))
	if !w.looks.Swap(true) { // a timer for each job would wake a thread each time
		time.AfterFunc(watchInterval, w.look)
	}
}

func (w *watch) stop() { w.since.Store(0) }

// look runs in a goroutine of its own, every watchInterval while a job runs, and once after it.
func (w *watch) look() {
	since := w.since.Load()
	if since == 0 {
		w.looks.Store(false)
		if w.since.Load() == 0 || w.looks.Swap(true) { // no job has begun meanwhile, or it has a look of its own
			return
		}
		since = w.since.Load()
	}
	w.checkHeap()
	switch {
	case since > 0 && ownTime()-time.Duration(since) > MaxTime+watchGrace:
		os.Exit(exitTime + int(w.evaluator.running.Load()))
	case os.Getppid() != w.parent: // the end of in is seen between jobs only
		os.Exit(0)
	}
	time.AfterFunc(watchInterval, w.look)
}

// checkHeap ends the process if its heap is too large. The program itself calls it between its steps: on a busy machine the goroutine that
// looks may come late.
func (w *watch) checkHeap() {
	if heapBytes() > MaxHeapBytes {
		os.Exit(exitMemory + int(w.evaluator.running.Load()))
	}
}

// heapBytes returns the size of what is on the heap, garbage included, and of the stacks.
func heapBytes() uint64 {
	samples := [2]metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples[:])
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}
