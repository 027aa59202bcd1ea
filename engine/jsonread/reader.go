// Package jsonread reads JSON from clients strictly, straight into the caller's types, and says where the input is wrong.
//
// encoding/json does not fit input that must not lose data: it matches keys in any case, takes the last of two equal keys, and
// replaces invalid bytes without an error. A Reader refuses unknown and duplicate keys, invalid UTF-8, numbers that do not fit, and
// every deviation from RFC 8259.
//
// It is lenient where input can mean one thing only, because a refused event is a lost lead. A byte order mark before the first value is
// skipped. An escaped half of a surrogate pair, which a page makes when it cuts a text within an emoji, becomes U+FFFD. Methods for the
// values of events are lenient about their form: see [Reader.AnyInteger], [Reader.RoundedInteger], [Reader.AnyBool] and [Reader.TextOrNumber].
//
// The caller drives the reading: it asks for the value that it expects at this point, as with ParseObject:
//
//	var size int64
//	errs := jsonread.ParseObject(body, func(r *jsonread.Reader, key []byte) bool {
//		switch string(key) {
//		case "size":
//			if size = r.Integer(); size < 1 {
//				r.Fail("must be positive (got %d)", size)
//			}
//		default:
//			return false // unknown: refused
//		}
//		return true
//	})
//
// There are two kinds of error. Malformed JSON ends the reading: all methods do nothing from then on. A value that is well-formed but
// wrong is recorded with its path, only the first one, and reading goes on behind it. So a caller that reads several values, as
// ParseObject does, can report each wrong one.
package jsonread

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Error says what is wrong with the input.
type Error struct {
	// Field is the path of the wrong value, such as "answers[2].answer_id"; "" means the value as a whole, or malformed JSON.
	Field string
	// Detail says what is wrong and what is expected. It quotes only a few characters of the input.
	Detail string
}

func (e *Error) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + ": " + e.Detail
}

// Reader reads one input from its beginning to its end. It must not be used by several goroutines at once.
type Reader struct {
	data []byte
	pos  int
	// shared is data as a string, for strings that may share its memory; "" if they must not.
	shared string

	path []pathStep // where the reader is, for error messages

	anyKey bool // see AllowUnknown

	syntax *syntaxError // ends the reading
	field  *Error       // the first wrong value since the last TakeError
}

type pathStep struct {
	key   []byte // nil: an array index
	index int
}

type syntaxError struct {
	offset int
	detail string
}

// stopped takes the place of a syntax error after Stop.
var stopped = &syntaxError{}

// maxShared is the longest input that is copied once for all of its strings. In a longer input, which is rare, each string is copied
// alone: a second copy of all of it would be memory that clients can ask for.
const maxShared = 64 << 10

// New returns a reader of data whose strings may share memory with each other: one that is kept keeps up to 64 KiB. Data must not
// change while it is read.
func New(data []byte) Reader {
	r := newReader(data)
	if len(data) <= maxShared {
		r.shared = string(data)
	}
	return r
}

// newReader returns a reader whose strings have memory of their own.
func newReader(data []byte) Reader {
	r := Reader{data: data}
	if at := invalidUTF8(data); at >= 0 {
		r.malformed(at, "the text is not valid UTF-8")
	}
	return r
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, -1 if there is none.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; ; {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
}

// ByteOrderMark is what some editors and shells write before UTF-8. RFC 8259, section 8.1, lets readers ignore it.
const ByteOrderMark = "\ufeff"

// skipMark skips a byte order mark at the beginning of the input.
func (r *Reader) skipMark() {
	if r.pos == 0 && bytes.HasPrefix(r.data, []byte(ByteOrderMark)) {
		r.pos = len(ByteOrderMark)
	}
}

// maxErrors bounds what ParseObject collects from a body in which everything is wrong.
const maxErrors = 100

// ParseObject reads a body that is a single object. member reads the value of one key, and returns false for an unknown key. The errors
// are one for each key whose value is wrong, in their order, at most 100; malformed JSON is a single one. If there are any, the caller
// must drop what member has read.
func ParseObject(body []byte, member func(r *Reader, key []byte) bool) []*Error {
	r := newReader(body)
	r.skipMark()
	var wrong []*Error
	r.object(func(key []byte) bool { return member(&r, key) }, func() {
		if r.Failed() && len(wrong) < maxErrors {
			wrong = append(wrong, r.TakeError())
		}
	})
	if r.More() {
		r.unexpected("the end of the body after one object")
	}
	if err := r.Malformed(); err != nil {
		return []*Error{err}
	}
	if err := r.TakeError(); err != nil && len(wrong) == 0 { // it is no object
		wrong = append(wrong, err)
	}
	return wrong
}

// Fail records that the value at the present path is wrong. Only the first record is kept until TakeError.
func (r *Reader) Fail(format string, args ...any) {
	if r.field == nil {
		r.field = &Error{Field: r.pathString(), Detail: fmt.Sprintf(format, args...)}
	}
}

// FailAt is Fail for a field of the object that is being read, such as one that is missing.
func (r *Reader) FailAt(field, format string, args ...any) {
	r.path = append(r.path, pathStep{key: []byte(field)})
	r.Fail(format, args...)
	r.path = r.path[:len(r.path)-1]
}

// Failed reports whether a wrong value is recorded.
func (r *Reader) Failed() bool { return r.field != nil }

// TakeError returns the recorded wrong value, nil if there is none, and forgets it.
func (r *Reader) TakeError() *Error {
	err := r.field
	r.field = nil
	return err
}

// Malformed returns the syntax error that has ended the reading, nil if there was none.
func (r *Reader) Malformed() *Error {
	if r.syntax == nil || r.syntax == stopped {
		return nil
	}
	return &Error{Detail: "malformed JSON " + r.place(r.syntax.offset) + ": " + r.syntax.detail}
}

// Stop ends the reading, as a syntax error does, but without an error.
func (r *Reader) Stop() {
	if r.syntax == nil {
		r.syntax = stopped
	}
}

// Ended reports whether a syntax error or Stop has ended the reading. What was read last is not complete then.
func (r *Reader) Ended() bool { return r.syntax != nil }

// Offset returns how many bytes have been read.
func (r *Reader) Offset() int { return r.pos }

// Rewind goes back to the Offset at which a value has begun that is in no object, to read it once more.
func (r *Reader) Rewind(offset int) {
	if r.syntax == nil {
		r.pos = offset
	}
}

// AllowUnknown says whether unknown keys are no errors from now on. Their values are skipped all the same.
func (r *Reader) AllowUnknown(allow bool) { r.anyKey = allow }

func (r *Reader) pathString() string {
	var b []byte
	for _, s := range r.path {
		if s.key == nil {
			b = append(b, '[')
			b = strconv.AppendInt(b, int64(s.index), 10)
			b = append(b, ']')
			continue
		}
		if len(b) > 0 {
			b = append(b, '.')
		}
		b = append(b, Excerpt(string(s.key))...)
	}
	return string(b)
}

func (r *Reader) malformed(offset int, format string, args ...any) {
	if r.syntax == nil {
		r.syntax = &syntaxError{offset, fmt.Sprintf(format, args...)}
	}
}

// place describes an offset as editors show it: byte, line and column from 1.
func (r *Reader) place(offset int) string {
	before := bytes.TrimPrefix(r.data[:min(offset, len(r.data))], []byte(ByteOrderMark))
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("at byte %d (line %d, column %d)", offset+1, line, column)
}

// unexpected records the syntax error that the next byte is not what is wanted.
func (r *Reader) unexpected(want string) {
	if r.pos >= len(r.data) {
		r.malformed(r.pos, "the body ends too early, %s expected", want)
		return
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	r.malformed(r.pos, "unexpected %q, %s expected", c, want)
}

// Excerpt returns the beginning of a piece of the input, at most 40 bytes, for an error message.
func Excerpt(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
