package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"hookbolt/engine/jsonread"

	"github.com/google/uuid"
)

// InputError says what is wrong with one piece of the caller's input.
type InputError struct {
	// Index is the place of the event within its request, from 0; always 0 where the input is a single object.
	Index int `json:"index"`
	// Field is the path of the field within it, such as "answers[2].answer_id"; "" means the object as a whole.
	Field string `json:"field"`
	// Detail says what was wrong and what would be right. It never repeats more than a few characters of the input.
	Detail string `json:"detail"`
	// Allow is the network that the webhook's allow_networks would have to name for the input to be taken. It is zero unless the input
	// was refused for its address.
	Allow netip.Prefix `json:"-"`
}

// InputErrors is the error of a call whose input was refused: nothing of it was stored. It is never empty.
type InputErrors []InputError

// maxInputErrors bounds the answer to a large body in which everything is wrong, and the work that is spent on it.
const maxInputErrors = 100

// Sorted returns the errors in the order of their events, no more of them than an answer should have.
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

// parseObject is jsonread.ParseObject with the error of all calls that take input. The error is an InputErrors.
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

// ValidJSON tells whether a text is one value of JSON by the rules for input, which are stricter than those of encoding/json.
func ValidJSON(text []byte) bool {
	r := jsonread.New(text)
	r.Skip()
	return r.Malformed() == nil && !r.More()
}

// Excerpt returns the beginning of a piece of the caller's input, for an error message.
func Excerpt(s string) string { return jsonread.Excerpt(s) }

// ParseTime reads an RFC 3339 time, as times in JSON are read. The result is in UTC, and never the zero time, which means "not given".
func ParseTime(s string) (time.Time, error) { return jsonread.ParseTime(s) }

// ParseUUID reads a UUID of any version in its 36-character form, as ids in JSON are read.
func ParseUUID(s string) (uuid.UUID, error) { return jsonread.ParseUUID(s) }
