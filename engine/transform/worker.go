package transform

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// startTimeout is how long a worker may take until it is ready. It is long enough for a machine that is short of memory.
const startTimeout = 10 * time.Second

// endTimeout is how long a worker may take to end that has nothing to do, or whose answers make no sense.
const endTimeout = time.Second

// worker is a process that runs jobs, as its parent sees it. One goroutine at a time uses it; kill may be called by any.
type worker struct {
	cmd    *exec.Cmd
	in     *os.File // jobs
	out    *os.File // answers
	reader *bufio.Reader
	buffer []byte
	// These are guarded by the pool's mutex.
	nice      int  // its priority, which cannot be raised again
	yields    bool // it has a processor only while nothing else wants it
	idleSince time.Time

	mu    sync.Mutex
	cause ending // why it was killed; "" if it was not

	ended chan struct{} // closed once the process has been waited for
}

// ending is why a worker has ended.
type ending string

// The reasons for the end of a worker, as the metric names them.
const (
	endedIdle      ending = "idle"      // nothing to do
	endedTime      ending = "time"      // a program took too long
	endedMemory    ending = "memory"    // a program needed too much memory
	endedCrash     ending = "crash"     // a program went too deep, or the system had no memory
	endedMoved     ending = "moved"     // a program gave way to others, and starts anew where programs may take long
	endedAbandoned ending = "abandoned" // nobody waited for the result any more
	endedStarved   ending = "starved"   // it got too little of a processor for too long
	endedLost      ending = "lost"      // by somebody else
)

// workerVariable is set in the environment of a worker.
const workerVariable = "HOOKBOLT_TRANSFORM_WORKER"

// startWorker starts a worker and waits until it is ready. The error is an ErrNoWorker.
func startWorker(command []string, nice int, waiters *sync.WaitGroup) (*worker, error) {
	if os.Getenv(workerVariable) != "" {
		return nil, fmt.Errorf("%w: a worker starts none: is %s a program that has the command %s?", ErrNoWorker, os.Args[0], Command)
	}
	w := &worker{ended: make(chan struct{})}
	if err := w.start(command); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoWorker, err)
	}
	waiters.Go(w.wait)
	w.lower(nice)
	timer := time.AfterFunc(startTimeout, func() { w.kill(endedTime) })
	version, err := w.reader.ReadByte()
	timer.Stop()
	switch {
	case err != nil:
		w.ending()
		return nil, fmt.Errorf("%w: it has ended at once (%s)", ErrNoWorker, w.cmd.ProcessState)
	case version != protocolVersion:
		w.close()
		return nil, fmt.Errorf("%w: the file of this program is that of another version: restart the server", ErrNoWorker)
	}
	return w, nil
}

// start starts the process. Of its own it has two pipes and nothing else: no environment, no other files.
func (w *worker) start(command []string) (err error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return err
	}
	defer childOut.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = []string{workerVariable + "=1", "GOTRACEBACK=none", "GOMAXPROCS=2"} // a thread for the program, one to watch it
	cmd.Stdin, cmd.Stdout = childIn, childOut
	detach(cmd)
	if err := start(cmd); err != nil {
		in.Close()
		out.Close()
		return err
	}
	w.cmd, w.in, w.out, w.reader = cmd, in, out, bufio.NewReaderSize(out, 16<<10)
	return nil
}

// thisProgram returns the command that starts this program as a worker.
func thisProgram() ([]string, error) {
	self := "/proc/self/exe" // runs this very program, also when its file was replaced or removed since
	if _, err := os.Stat(self); runtime.GOOS != "linux" || err != nil {
		if self, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoWorker, err)
		}
	}
	return []string{self, Command}, nil
}

// lower has the worker give way to others until its end. It is called by the goroutine that starts the worker, or with the pool's mutex held.
func (w *worker) lower(nice int) {
	if nice > w.nice {
		w.nice = nice
		setPriority(w.cmd.Process.Pid, nice)
	}
}

// yield has the worker run only while nothing else wants the processor, or as its priority is. It is called with the pool's mutex held.
func (w *worker) yield(yields bool) {
	if yields != w.yields {
		w.yields = yields
		setIdle(w.cmd.Process.Pid, yields)
	}
}

// wait waits for the end of the process, so that it leaves no zombie.
func (w *worker) wait() {
	w.cmd.Wait()
	w.in.Close()
	close(w.ended)
}

// kill ends the process for a reason, unless it was ended before.
func (w *worker) kill(why ending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause == "" {
		w.cause = why
		w.cmd.Process.Kill()
	}
}

// killed tells whether kill was called.
func (w *worker) killed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause != ""
}

// close has a worker end that has no job, and waits for it.
func (w *worker) close() *endedError {
	w.mu.Lock()
	if w.cause == "" {
		w.cause = endedIdle
	}
	w.mu.Unlock()
	w.in.Close()
	return w.ending()
}

// ending waits for the end of a worker that answers no more, and says why it has ended.
func (w *worker) ending() *endedError {
	timer := time.AfterFunc(endTimeout, func() { w.cmd.Process.Kill() })
	defer timer.Stop()
	<-w.ended
	w.out.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	code := w.cmd.ProcessState.ExitCode()
	switch {
	case w.cause != "":
		return &endedError{why: w.cause}
	case exitMemory <= code && code < exitMemory+programs:
		return &endedError{why: endedMemory, number: code - exitMemory + 1}
	case exitTime <= code && code < exitTime+programs:
		return &endedError{why: endedTime, number: code - exitTime + 1}
	case code >= exitCrash: // by itself; who ends a process from outside leaves a signal, or 1 on Windows
		return &endedError{why: endedCrash}
	}
	return &endedError{why: endedLost}
}

// endedError means that a worker has ended instead of answering.
type endedError struct {
	why ending
	// number is the number of the program that ran, from 1; 0 if that is not known.
	number int
	// shared means that other jobs had no answer either.
	shared bool
}

func (e *endedError) Error() string { return "the worker has ended: " + string(e.why) }

// program names the program that ran, or the one that did probably.
func (e *endedError) program(job *Job) string {
	switch {
	case e.number > 0:
		return job.list()[e.number-1].name
	case job.Transform != "":
		return transformProgram
	}
	return job.first()
}

// detail says what a program has done to its worker.
func (e *endedError) detail() string {
	switch e.why {
	case endedTime:
		return errTime.Error()
	case endedMemory:
		return fmt.Sprintf("it needs more than %d MiB of memory", MaxHeapBytes>>20)
	}
	return "it goes too deep into itself, or needs too much memory"
}

// used returns how much of a processor the worker has used; false if the system does not say it, or not any more.
func (w *worker) used() (time.Duration, bool) {
	select {
	case <-w.ended: // its number may be another process's
		return 0, false
	default:
		return cpuTime(w.cmd.Process.Pid)
	}
}
