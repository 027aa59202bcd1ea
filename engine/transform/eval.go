package transform

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/itchyny/gojq"
)

// Eval runs a job in this process. The error is an *Error. It bounds the steps and the time between steps, but not the memory: programs
// that are not trusted belong into a [Pool].
func Eval(job Job) (Result, error) {
	return newEvaluator().eval(job)
}

// evaluator runs jobs, one at a time, and keeps their compiled programs.
type evaluator struct {
	compiled map[string]*gojq.Code
	running  atomic.Int32 // the number of the program that is compiled or runs, in the order of list
	// clock is what MaxTime is measured by, and check is called from time to time while a program counts steps.
	clock func() time.Duration
	check func()
}

// newEvaluator returns an evaluator that measures jobs by the clock.
func newEvaluator() *evaluator {
	return &evaluator{compiled: make(map[string]*gojq.Code), clock: sinceStart, check: func() {}}
}

// sinceStart is the time since the start of this process.
func sinceStart() time.Duration { return time.Since(processStart) }

var processStart = time.Now()

// maxCompiled is how many programs an evaluator keeps.
const maxCompiled = 64

// code compiles a program, or finds it compiled.
func (e *evaluator) code(name, source string) (*gojq.Code, error) {
	if code, ok := e.compiled[source]; ok {
		return code, nil
	}
	code, err := compile(name, source)
	if err != nil {
		return nil, err
	}
	if len(e.compiled) >= maxCompiled {
		e.forget()
	}
	e.compiled[source] = code
	return code, nil
}

// forget drops the compiled programs and with them the regular expressions that they have compiled.
func (e *evaluator) forget() { clear(e.compiled) }

func (e *evaluator) eval(job Job) (result Result, err error) {
	defer func() {
		if p := recover(); p != nil { // gojq's, such as on 0[]
			result, err = Result{}, &Error{Program: job.list()[e.running.Load()].name, Detail: "the interpreter cannot run this program (" + shorten(fmt.Sprint(p), 100) + ")"}
		}
	}()
	budget := newBudget(e.clock, e.check)
	defer func() {
		if err == nil {
			result.Steps = budget.used()
		}
	}()

	// Compile all before any runs, so that a mistake is found whatever the payload is.
	var code [programs]*gojq.Code
	for i, p := range job.list() {
		e.running.Store(int32(i))
		if p.source == "" {
			continue
		}
		if code[i], err = e.code(p.name, p.source); err != nil {
			return Result{}, err
		}
	}
	e.running.Store(0)
	payload, err := decode(job.Payload)
	if err != nil {
		return Result{}, &Error{Program: job.first(), Detail: "the payload is not valid JSON"}
	}
	r := run{payload: payload, budget: budget, job: &job}
	if code[0] != nil {
		v, err := r.first(filterProgram, code[0])
		if err != nil || v == nil || v == false || v == nothing {
			return Result{Filtered: err == nil}, err
		}
	}
	result.Body = job.Payload
	if code[1] != nil {
		e.running.Store(1)
		v, err := r.first(transformProgram, code[1])
		if err != nil || v == nothing {
			return Result{Filtered: err == nil}, err
		}
		if result.Body, err = encode(v, job.Encoding); err != nil {
			return Result{}, &Error{Program: transformProgram, Detail: err.Error()}
		}
	}
	if code[2] != nil {
		e.running.Store(2)
		v, err := r.first(urlProgram, code[2])
		if err != nil {
			return Result{}, err
		}
		if result.URLValues, err = urlValues(v); err != nil {
			return Result{}, &Error{Program: urlProgram, Detail: err.Error()}
		}
	}
	return result, nil
}

// program is one of a job's programs.
type program struct{ name, source string }

// programs is how many a job has at the most.
const programs = 3

// list returns the programs in the order in which they run.
func (p *Programs) list() [programs]program {
	return [programs]program{{filterProgram, p.Filter}, {transformProgram, p.Transform}, {urlProgram, p.URLValues}}
}

// source returns a program by its name.
func (p *Programs) source(name string) string {
	for _, program := range p.list() {
		if program.name == name {
			return program.source
		}
	}
	return ""
}

// first returns the name of the program that runs first.
func (p *Programs) first() string {
	for _, program := range p.list() {
		if program.source != "" {
			return program.name
		}
	}
	return filterProgram
}

// run is a job that runs.
type run struct {
	payload any
	budget  *budget
	job     *Job
}

// nothing is the output of a program that has none.
var nothing any = struct{}{}

// first returns the first output of a program.
func (r *run) first(name string, code *gojq.Code) (any, error) {
	v, ok := code.RunWithContext(r.budget, r.payload).Next()
	if !ok {
		return nothing, nil
	}
	err, failed := v.(error)
	if !failed {
		return v, nil
	}
	e := runtimeError(name, err)
	source := r.job.source(name)
	if tokens, _ := tokenize(source); halted(err) {
		e.Line, e.Column = find(source, tokens, "halt", "halt_error")
	} else if r.budget.reason == nil && r.budget.steps < MaxSteps/4 {
		if at, ok := locate(r.budget, source, r.payload); ok {
			e.Line, e.Column = position(source, at.offset)
			e.Detail += fieldHint(at)
		}
	}
	return nil, e
}

// budget is the context of a job: the interpreter asks for Done before each step, and this counts.
type budget struct {
	context.Context
	clock  func() time.Duration
	check  func()
	steps  int
	looked time.Time     // at the clock
	ends   time.Duration // by the clock
	ended  chan struct{} // nil until the budget is used up: the interpreter asks a nil channel at less cost
	reason error
}

var (
	errSteps = fmt.Errorf("it takes more than %d million steps: does it end?", MaxSteps/1_000_000)
	errTime  = fmt.Errorf("it takes more than %d second of a processor", MaxTime/time.Second)
)

// stepsPerLook is after how many steps the time is looked at.
const stepsPerLook = 256

func newBudget(clock func() time.Duration, check func()) *budget {
	return &budget{Context: context.Background(), clock: clock, check: check, looked: time.Now(), ends: clock() + MaxTime}
}

func (b *budget) used() int { return min(b.steps, MaxSteps) }

// Done counts a step. The channel is nil, and closed once the budget is used up.
func (b *budget) Done() <-chan struct{} {
	b.steps++
	switch {
	case b.reason != nil:
	case b.steps > MaxSteps:
		b.end(errSteps)
	case b.steps%stepsPerLook == 0 && time.Since(b.looked) >= watchInterval: // the other clock takes a call of the system
		b.looked = time.Now()
		b.check()
		if b.clock() >= b.ends {
			b.end(errTime)
		}
	}
	return b.ended
}

func (b *budget) end(why error) {
	b.reason, b.ended = why, make(chan struct{})
	close(b.ended)
}

// Err says what the program has too much of.
func (b *budget) Err() error { return b.reason }
