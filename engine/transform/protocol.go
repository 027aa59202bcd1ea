package transform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// A worker reads groups of jobs on its standard input and writes an answer for each job, one after the other, on its standard output. It reads
// a group whole before it answers, so that neither waits for the other to read. A message is its
// length in four bytes, big-endian, and its fields; a field of variable length has its length, a uvarint, before it.
//
//	hello:  protocolVersion, one byte, when the worker is ready
//	group:  encoding, filter, transform, url_values, and the payload of each job
//	answer: answerResult, flags, steps, count of URL values, name and value of each, body (the rest)
//	        answerError, line, column, program, detail

// protocolVersion is written by a worker first. Where the file of the program was replaced by that of another version while the server runs,
// the worker may speak another protocol; this tells. It grows with each change of the messages.
const protocolVersion = 2

// The kinds of answers, and the flags of a result.
const (
	answerResult = iota
	answerError
)
const (
	flagFiltered  = 1 << iota
	flagSameBody  // the body is the payload, and left out
	flagURLValues // there are some, if only an empty object
)

// The longest messages. An answer that is longer is no worker's.
const (
	maxGroupMessage = 256 << 20
	maxAnswerBytes  = MaxResultBytes + 64<<10 // beside the body: URL values, or an error
)

// errProtocol means that the peer does not speak this protocol.
var errProtocol = errors.New("the message of a worker cannot be read")

// appendGroup writes the message of jobs that have the same programs. If it returns a payload, it is that of the last job, too large to be
// copied, and comes behind b.
func appendGroup(b []byte, jobs []*Job) (_, payload []byte) {
	b = append(b, 0, 0, 0, 0, byte(jobs[0].Encoding))
	for _, p := range jobs[0].list() {
		b = appendField(b, p.source)
	}
	for i, job := range jobs {
		b = binary.AppendUvarint(b, uint64(len(job.Payload)))
		if i == len(jobs)-1 && len(b)+len(job.Payload) > keepBytes {
			payload = job.Payload
			break
		}
		b = append(b, job.Payload...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4+len(payload)))
	return b, payload
}

// parseGroup reads the message of a group. last are the programs of the group before. It appends to payloads, which are parts of the message.
func parseGroup(message []byte, last *Programs, payloads [][]byte) (Programs, [][]byte, error) {
	if len(message) == 0 {
		return Programs{}, nil, errProtocol
	}
	f := fields{rest: message[1:]}
	p := Programs{Encoding: Encoding(message[0]), Filter: f.textLike(last.Filter), Transform: f.textLike(last.Transform), URLValues: f.textLike(last.URLValues)}
	for len(f.rest) > 0 && f.err == nil {
		payloads = append(payloads, f.bytes())
	}
	return p, payloads, f.err
}

// appendAnswer writes the answer to a job.
func appendAnswer(b []byte, job *Job, result Result, err error) []byte {
	b = append(b, 0, 0, 0, 0)
	if err != nil {
		failed, ok := errors.AsType[*Error](err)
		if !ok { // never: an evaluator has no others
			failed = &Error{Program: job.first(), Detail: err.Error()}
		}
		b = append(b, answerError)
		b = binary.AppendUvarint(b, uint64(failed.Line))
		b = binary.AppendUvarint(b, uint64(failed.Column))
		b = appendField(appendField(b, failed.Program), failed.Detail)
	} else {
		b = appendResult(b, job, result)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func appendResult(b []byte, job *Job, result Result) []byte {
	var flags byte
	same := len(result.Body) > 0 && len(job.Payload) > 0 && &result.Body[0] == &job.Payload[0]
	if result.Filtered {
		flags |= flagFiltered
	}
	if same {
		flags |= flagSameBody
	}
	if result.URLValues != nil {
		flags |= flagURLValues
	}
	b = append(b, answerResult, flags)
	b = binary.AppendUvarint(b, uint64(result.Steps))
	b = binary.AppendUvarint(b, uint64(len(result.URLValues)))
	for _, name := range slices.Sorted(maps.Keys(result.URLValues)) {
		b = appendField(appendField(b, name), result.URLValues[name])
	}
	if !same {
		b = append(b, result.Body...)
	}
	return b
}

// parseAnswer reads the answer to a job. It keeps the message as the body of the result. The error is an *Error or errProtocol.
func parseAnswer(message []byte, job *Job) (Result, error) {
	if len(message) == 0 {
		return Result{}, errProtocol
	}
	f := fields{rest: message[1:]}
	if message[0] == answerError {
		e := &Error{Line: int(f.number()), Column: int(f.number()), Program: f.text(), Detail: f.text()}
		if f.err != nil {
			return Result{}, f.err
		}
		return Result{}, e
	}
	if message[0] != answerResult || len(f.rest) == 0 {
		return Result{}, errProtocol
	}
	flags := f.rest[0]
	f.rest = f.rest[1:]
	r := Result{Filtered: flags&flagFiltered != 0, Steps: int(f.number())}
	if flags&flagURLValues != 0 {
		r.URLValues = make(map[string]string)
	}
	for n := f.number(); n > 0 && f.err == nil; n-- {
		if len(r.URLValues) == MaxURLValues || r.URLValues == nil {
			return Result{}, errProtocol
		}
		name := f.text()
		r.URLValues[name] = f.text()
	}
	switch {
	case flags&flagSameBody != 0:
		r.Body = job.Payload
	case !r.Filtered:
		r.Body = f.rest
	}
	if f.err != nil {
		return Result{}, f.err
	}
	return r, nil
}

func appendField(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// fields reads the fields of a message, one after the other. After an error it reads zeros.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) number() uint64 {
	n, size := binary.Uvarint(f.rest)
	if size <= 0 || f.err != nil {
		f.err = errProtocol
		return 0
	}
	f.rest = f.rest[size:]
	return n
}

func (f *fields) text() string { return string(f.bytes()) }

// textLike is text without a copy of its own where it is another one.
func (f *fields) textLike(other string) string {
	if b := f.bytes(); string(b) != other {
		return string(b)
	}
	return other
}

// bytes returns a field as a part of the message.
func (f *fields) bytes() []byte {
	n := f.number()
	if n > uint64(len(f.rest)) {
		f.err = errProtocol
		return nil
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

// readMessage reads a message of at most limit bytes into b if it fits, else into memory of its own.
func readMessage(r io.Reader, b []byte, limit int) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(length[:]))
	if n > limit {
		return nil, fmt.Errorf("%w: it has %d bytes", errProtocol, n)
	}
	if n > cap(b) {
		b = make([]byte, n)
	}
	b = b[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return b, nil
}
