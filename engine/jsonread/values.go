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

// AnyBool reads true or false in each form that means one of them only: 1 and 0, the strings "true", "false", "1" and "0", and "on" and "off".
// "on" is what FormData of a page has for a checked checkbox.
func (r *Reader) AnyBool() bool {
	text := ""
	switch c := r.Peek(); {
	case c == 't' || c == 'f':
		return r.Bool()
	case c == '"':
		text = r.Text()
	case c == '-' || c >= '0' && c <= '9':
		text = string(r.number())
	default:
		r.WrongType("true or false")
		return false
	}
	switch text {
	case "true", "1", "on":
		return true
	case "false", "0", "off":
	default:
		r.Fail("must be true or false, 1 or 0, on or off (got %q)", Excerpt(text))
	}
	return false
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

// Integer reads a 64-bit integer that is written as one: a number without fraction and exponent.
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
			r.Fail(notSixtyFourBits, Excerpt(string(token)))
		}
	}
	return n
}

// AnyInteger reads a 64-bit integer in each form that means one integer only: a number whose value is whole, such as 1e3 or 2.0, or a string
// as ParseInteger reads it. JavaScript needs the string: it has no exact number for an integer beyond 2^53.
func (r *Reader) AnyInteger() int64 { return r.anyInteger(false) }

// RoundedInteger is AnyInteger for a measured value, such as performance.now() of a page: a number with a fraction is rounded to the nearest
// integer, halves away from zero. A string may have any number of JSON.
func (r *Reader) RoundedInteger() int64 { return r.anyInteger(true) }

func (r *Reader) anyInteger(round bool) int64 {
	var token []byte
	switch c := r.Peek(); {
	case c == '"':
		text := r.Text()
		if round && isNumber(text) {
			token = []byte(text)
			break
		}
		n, err := ParseInteger(text)
		if err != nil {
			r.Fail("%v", err)
		}
		return n
	case c == '-' || c >= '0' && c <= '9':
		token = r.number()
	default:
		r.WrongType("an integer")
	}
	if token == nil {
		return 0
	}
	if n, err := strconv.ParseInt(string(token), 10, 64); err == nil {
		return n
	}
	n, whole, fits := nearestInteger(string(token))
	switch {
	case !fits:
		r.Fail(notSixtyFourBits, Excerpt(string(token)))
	case !whole && !round:
		r.Fail("must be a whole number (got %s)", Excerpt(string(token)))
	}
	return n
}

// isNumber reports whether a text is a number of JSON, and nothing else.
func isNumber(text string) bool {
	r := Reader{data: []byte(text)}
	r.number()
	return r.syntax == nil && r.pos == len(text)
}

const notSixtyFourBits = "must be a 64-bit integer, -9223372036854775808 to 9223372036854775807 (got %s)"

// ParseInteger reads a 64-bit integer from its decimal digits, with a minus before them if it is negative. Spaces, a plus and leading zeros
// are refused: such a text may be an id that is no number.
func ParseInteger(text string) (int64, error) {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || digits[0] == '0' && digits != "0" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("must be an integer, or its decimal digits as a string (got %q)", Excerpt(text))
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf(notSixtyFourBits, Excerpt(text))
	}
	return n, nil
}

// nearestInteger returns the integer nearest to the value of a JSON number, halves away from zero. whole means that the value is that integer.
// fits is false if it needs more than 64 bits. It goes by the digits: floating point would lose some of them.
func nearestInteger(number string) (n int64, whole, fits bool) {
	number, negative := strings.CutPrefix(number, "-")
	mantissa, exponent, _ := strings.Cut(strings.ReplaceAll(number, "E", "e"), "e")
	integer, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(integer+fraction, "0")
	point := len(digits) - len(fraction) // how many of the digits stand before the point; below zero for zeros behind it
	if digits = strings.TrimRight(digits, "0"); digits == "" {
		return 0, true, true
	}
	if exponent != "" {
		const far = 1 << 30 // more than a request has digits
		shift, _ := strconv.Atoi(exponent)
		point += min(max(shift, -far), far)
	}
	const most = len("9223372036854775808")
	switch {
	case point > most:
		return 0, false, false
	case point < 0:
		return 0, false, true
	}
	whole = len(digits) <= point
	padded := digits + strings.Repeat("0", max(0, point-len(digits)))
	u, _ := strconv.ParseUint("0"+padded[:point], 10, 64) // 19 digits always fit
	if !whole && digits[point] >= '5' {
		u++
	}
	switch {
	case negative && u <= 1<<63:
		return -int64(u), whole, true
	case !negative && u < 1<<63:
		return int64(u), whole, true
	}
	return 0, whole, false
}

// TextOrNumber reads a string, or a number as it is written.
func (r *Reader) TextOrNumber() string {
	if c := r.Peek(); c != '-' && (c < '0' || c > '9') {
		return r.Text()
	}
	return string(r.number())
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
//
// It reads all that RFC 3339, section 5.6, allows: t and z in lower case, a space in place of the T, a fraction of any length, of which the
// nanoseconds are kept, and a leap second. Second 60 is the next second, in any minute, since no table of leap seconds is complete.
func ParseTime(s string) (time.Time, error) {
	t, ok := parseRFC3339(s)
	if !ok {
		return time.Time{}, fmt.Errorf("must be an RFC 3339 time, such as 2024-01-23T11:59:33Z (got %q)", Excerpt(s))
	}
	if t.Year() < 0 || t.Year() > 9999 { // by its zone or a leap second; it could not be written as RFC 3339 again
		return time.Time{}, fmt.Errorf("must lie in the years 0 to 9999 (got %q)", Excerpt(s))
	}
	if t.IsZero() {
		t = t.Add(1)
	}
	return t, nil
}

// parseRFC3339 does not use package time, which reads less than RFC 3339 allows, and more (go.dev/issue/54580).
func parseRFC3339(s string) (t time.Time, ok bool) {
	const seconds = len("2006-01-02T15:04:05")
	if len(s) <= seconds || s[4] != '-' || s[7] != '-' || strings.IndexByte("Tt ", s[10]) < 0 || s[13] != ':' || s[16] != ':' {
		return t, false
	}
	ok = true
	field := func(digits string, least, most int) int {
		n := decimal(digits)
		ok = ok && least <= n && n <= most
		return n
	}
	year, month, day := field(s[:4], 0, 9999), field(s[5:7], 1, 12), field(s[8:10], 1, 31)
	hour, minute, second := field(s[11:13], 0, 23), field(s[14:16], 0, 59), field(s[17:19], 0, 60)
	ok = ok && day <= time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()

	nanos, rest := 0, s[seconds:]
	if rest[0] == '.' {
		zone := strings.TrimLeft(rest[1:], "0123456789")
		digits := rest[1 : len(rest)-len(zone)]
		ok = ok && digits != ""
		nanos = decimal((digits + "000000000")[:9])
		rest = zone
	}
	offset := time.Duration(0)
	if rest != "Z" && rest != "z" {
		if len(rest) != len("+07:00") || rest[0] != '+' && rest[0] != '-' || rest[3] != ':' {
			return t, false
		}
		offset = time.Duration(field(rest[1:3], 0, 23))*time.Hour + time.Duration(field(rest[4:], 0, 59))*time.Minute
		if rest[0] == '-' {
			offset = -offset
		}
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC).Add(-offset), ok
}

// decimal returns the number that digits are, -1 if there is none or another character among them. There are at most nine.
func decimal(digits string) int {
	if digits == "" {
		return -1
	}
	n := 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
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
