// Package transform runs the jq programs of webhooks: filter, transform and url_values.
//
// No jq library bounds the memory of a program, and a regular expression or one huge string does not look at a context. So programs run in
// worker processes: this program, started with the command [Command]. A worker counts steps, time and heap, and ends itself above the limit;
// the parent kills what does not end. See [Pool] for how the jobs of many webhooks share the workers.
//
// A program sees the payload and nothing else: no environment, no files, no other input, and the time zone is UTC. [Eval] is what a worker
// does with a job. It runs in the calling process, so its caller must trust the program.
//
// The package knows nothing of webhooks, sessions or deliveries. It alone knows the jq library.
package transform

import (
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"
)

// The limits of a job.
const (
	MaxProgramBytes = 16 << 10 // of each program
	MaxResultBytes  = 1 << 20  // of a body
	MaxDepth        = 64       // of arrays and objects within each other, in a body
	MaxSteps        = 2_000_000
	MaxTime         = time.Second // of a processor; then a program is stopped. See killAfter for one that cannot be
	MaxHeapBytes    = 128 << 20

	MaxURLValues     = 32
	MaxURLValueBytes = 4 << 10 // names and values together
	// maxNameBytes is how long the name of a URL value may be in a message.
	maxNameBytes = 64
)

// Names of the programs, as the settings are called.
const (
	filterProgram    = "filter"
	transformProgram = "transform"
	urlProgram       = "url_values"
)

// Encoding says how the value that a transform gives becomes a body.
type Encoding uint8

const (
	// EncodingJSON writes any value as JSON, on one line.
	EncodingJSON Encoding = iota
	// EncodingForm writes an object as application/x-www-form-urlencoded. A list gives its name several times, null is left out.
	EncodingForm
	// EncodingText sends a string as it is.
	EncodingText
)

// EncodingOf returns the encoding of a content type: JSON for application/json and types that end in +json, Form for
// application/x-www-form-urlencoded, and Text for all others.
func EncodingOf(contentType string) Encoding {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		mediaType, _, _ = strings.Cut(contentType, ";")
		mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	}
	switch {
	case mediaType == "application/json", strings.HasSuffix(mediaType, "+json"):
		return EncodingJSON
	case mediaType == "application/x-www-form-urlencoded":
		return EncodingForm
	}
	return EncodingText
}

// Programs are the jq programs of a webhook. "" means none.
type Programs struct {
	// Filter decides whether anything is sent: not if its first output is false or null, or if it has none.
	Filter string
	// Transform makes the body: its first output. Without an output nothing is sent.
	Transform string
	// URLValues makes an object of texts, numbers and booleans for the URL, of the payload as it was before Transform.
	URLValues string
	// Encoding is for the output of Transform.
	Encoding Encoding
}

// Job is one payload with the programs to run on it.
type Job struct {
	Programs
	// Owner is whose job it is: the pool shares its workers fairly among owners.
	Owner uint32
	// Payload is JSON. It must not be changed while the job runs.
	Payload []byte
}

// Result is what the programs of a job gave.
type Result struct {
	// Filtered means that nothing is to be sent. The other fields but Steps are empty then.
	Filtered bool
	// Body is what to send. It is the payload itself where there is no transform.
	Body []byte
	// URLValues are the values for the URL, not yet percent-encoded; nil without a program for them.
	URLValues map[string]string
	// Steps is how many steps of the interpreter the programs took together, of MaxSteps.
	Steps int
}

// Error is a program that does not work, or not on this payload.
type Error struct {
	// Program is "filter", "transform" or "url_values".
	Program string
	// Line and Column are the place in the program, from 1, the column in characters. Both are 0 where no place is known.
	Line, Column int
	// Detail says what is wrong and, for common mistakes, what would be right. It may quote up to 40 characters of the payload, which are a
	// visitor's data, and up to 200 that the program itself passes to error: store it with the delivery and show it with it, but never log it.
	Detail string
}

// Error returns the place and the detail. Like Detail it must not be logged.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Program + ": " + e.Detail
	}
	return fmt.Sprintf("%s: line %d, column %d: %s", e.Program, e.Line, e.Column, e.Detail)
}

// ErrNoWorker is returned when no worker process could be started, or one got too little of a processor to run the program. It is the trouble
// of this machine, not the program's.
var ErrNoWorker = errors.New("there is no process that could run the program")

// ErrClosed is returned by [Pool.Run] after [Pool.Close].
var ErrClosed = errors.New("the pool of workers is closed")
