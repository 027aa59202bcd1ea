package jsonread

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Null reads null and returns true, if null is the next value. By convention it means the same as an absent field.
func (r *Reader) Null() bool {
	if r.Peek() != 'n' {
		return false
	}
	return r.literal("null")
}

// Text reads a string.
func (r *Reader) Text() string {
	if r.Peek() != '"' {
		r.WrongType("a string")
		return ""
	}
	start := r.pos + 1
	s := r.rawString()
	if end := start + len(s); r.shared != "" && end+1 == r.pos { // it had no escapes
		return r.shared[start:end]
	}
	return string(s)
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	switch r.Peek() {
	case 't':
		return r.literal("true")
	case 'f':
		r.literal("false")
	default:
		r.WrongType("true or false")
	}
	return false
}

// Integer reads a 64-bit integer. It must be written without fraction and exponent: other readers might read another number.
func (r *Reader) Integer() int64 {
	if c := r.Peek(); c != '-' && (c < '0' || c > '9') {
		r.WrongType("an integer")
		return 0
	}
	token := r.number()
	if r.syntax != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(token), 10, 64)
	if err != nil {
		if bytes.ContainsAny(token, ".eE") {
			r.Fail("must be an integer, written without fraction or exponent (got %s)", Excerpt(string(token)))
		} else {
			r.Fail("must be a 64-bit integer, -9223372036854775808 to 9223372036854775807 (got %s)", Excerpt(string(token)))
		}
	}
	return n
}

// Decimal reads a number.
func (r *Reader) Decimal() float64 {
	if c := r.Peek(); c != '-' && (c < '0' || c > '9') {
		r.WrongType("a number")
		return 0
	}
	token := r.number()
	if r.syntax != nil {
		return 0
	}
	n, err := strconv.ParseFloat(string(token), 64)
	if err != nil {
		r.Fail("is too large a number (got %s)", Excerpt(string(token)))
	}
	return n
}

// Time reads a time as ParseTime does.
func (r *Reader) Time() time.Time {
	t, err := ParseTime(r.Text())
	if err != nil {
		r.Fail("%v", err)
	}
	return t
}

// ParseTime reads an RFC 3339 time, and returns it in UTC. The result is never the zero time, which stands for a time that was not given:
// 0001-01-01T00:00:00Z, the zero time of Go and .NET, becomes the nanosecond after it.
func ParseTime(s string) (time.Time, error) {
	var t time.Time
	if err := t.UnmarshalText([]byte(s)); err != nil || !strictRFC3339(s) {
		return time.Time{}, fmt.Errorf("must be an RFC 3339 time, such as 2024-01-23T11:59:33Z (got %q)", Excerpt(s))
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 { // by its zone; it could not be written as RFC 3339 again
		return time.Time{}, fmt.Errorf("must lie in the years 0 to 9999 (got %q)", Excerpt(s))
	}
	if t.IsZero() {
		t = t.Add(1)
	}
	return t, nil
}

// strictRFC3339 refuses what package time accepts beyond RFC 3339 (go.dev/issue/54580): an hour of one digit, a comma before the
// fraction, a zone of 24 hours or 60 minutes.
func strictRFC3339(s string) bool {
	if s[len("2006-01-02T15")] != ':' || s[len("2006-01-02T15:04:05")] == ',' {
		return false
	}
	zone := s[len(s)-len("07:00"):]
	return strings.HasSuffix(zone, "Z") || zone[:2] < "24" && zone[3:] < "60"
}

// UUID reads a UUID as ParseUUID does.
func (r *Reader) UUID() uuid.UUID {
	id, err := ParseUUID(r.Text())
	if err != nil {
		r.Fail("%v", err)
	}
	return id
}

// ParseUUID reads a UUID of any version in its 36-character form. The nil UUID is refused.
func ParseUUID(s string) (uuid.UUID, error) {
	// uuid.Parse alone accepts braces, a URN and the form without hyphens, too.
	if len(s) == 36 {
		if id, err := uuid.Parse(s); err == nil && id != uuid.Nil {
			return id, nil
		}
	}
	return uuid.Nil, fmt.Errorf("must be a UUID of 36 characters, such as 22ffdf18-1035-4e56-baa2-8327e3af5242 (got %q)", Excerpt(s))
}
