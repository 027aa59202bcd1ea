package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hookbolt/engine/jsonread"

	"github.com/google/uuid"
)

// InputError describes one error in the caller's input.
type InputError struct {
	// Index is the index of the event in the request, from 0; always 0 if the input is a single object.
	Index int `json:"index"`
	// Field is the path of the field in the event or object, such as "answers[2].answer_id"; "" means the object as a whole.
	Field string `json:"field"`
	// Line and Column are the place in the text of the field, a program; both count from 1, in characters. 0 means that there is no such place.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Detail says what is wrong and what is allowed. It quotes only a few characters of the input.
	Detail string `json:"detail"`
	// Allow is the network to add to the webhook's allow_networks so that the input is accepted. It is zero unless an address was refused.
	Allow netip.Prefix `json:"-"`
}

// InputErrors is the error of a call whose input was refused. Nothing of the input was stored. It is never empty.
type InputErrors []InputError

// maxInputErrors limits the errors of one request, so that a large body with many errors costs little and its response stays short.
const maxInputErrors = 100

// Sorted returns the errors in the order of their events, at most as many as a response should have.
func (e InputErrors) Sorted() InputErrors {
	slices.SortStableFunc(e, func(a, b InputError) int { return a.Index - b.Index })
	return e[:min(len(e), maxInputErrors)]
}

func (e InputErrors) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "event %d: ", e[0].Index)
	if e[0].Field != "" {
		b.WriteString(e[0].Field + ": ")
	}
	b.WriteString(e[0].Detail)
	if len(e) > 1 {
		fmt.Fprintf(&b, " (and %d more)", len(e)-1)
	}
	return b.String()
}

// parseObject is jsonread.ParseObject, but the error is an InputErrors, as in all calls with input.
func parseObject(body []byte, member func(r *jsonread.Reader, key []byte) bool) error {
	var bad InputErrors
	for _, err := range jsonread.ParseObject(body, member) {
		bad = append(bad, InputError{Field: err.Field, Detail: err.Detail})
	}
	if bad == nil {
		return nil
	}
	return bad
}

// ValidJSON reports whether a text is one JSON value that every reader accepts. The rules are those for input, which are stricter than those of
// encoding/json, but without a byte order mark and halves of surrogate pairs.
func ValidJSON(text []byte) bool {
	r := jsonread.New(text)
	r.Skip()
	return r.Malformed() == nil && !r.More() && bytes.Equal(jsonread.WellFormed(text), text)
}

// WellFormedJSON returns valid JSON with an escaped U+FFFD in place of each escaped half of a surrogate pair, as such halves are read. Many
// readers refuse a document with one. The result may be the text itself.
func WellFormedJSON(text []byte) []byte { return jsonread.WellFormed(text) }

// Excerpt returns the beginning of a part of the caller's input, for an error message.
func Excerpt(s string) string { return jsonread.Excerpt(s) }

// ParseTime reads an RFC 3339 time, as times in JSON are read. The result is in UTC, and never the zero time, which means "not given".
func ParseTime(s string) (time.Time, error) { return jsonread.ParseTime(s) }

// ParseInteger reads an integer from its decimal digits, as strings in events are read.
func ParseInteger(s string) (int64, error) { return jsonread.ParseInteger(s) }

// ReadInteger reads a JSON value that is an integer in any form in which events may have it.
func ReadInteger(value []byte) (n int64, ok bool) {
	r := jsonread.New(value)
	n = r.AnyInteger()
	return n, !r.Failed() && !r.Ended() && !r.More()
}

// ReadBool reads a JSON value that is true or false in any form in which events may have it.
func ReadBool(value []byte) (b, ok bool) {
	r := jsonread.New(value)
	b = r.AnyBool()
	return b, !r.Failed() && !r.Ended() && !r.More()
}

// ParseUUID reads a UUID of any version in its 36-character form, as ids in JSON are read.
func ParseUUID(s string) (uuid.UUID, error) { return jsonread.ParseUUID(s) }
