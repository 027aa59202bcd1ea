package engine

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep JSON may nest. The deepest valid input has four levels; what is skipped may have a few more.
const maxDepth = 32

// jsonReader reads JSON strictly, straight into the domain's types. encoding/json is of no use for input that must not lose
// data: it matches keys in any case, takes the last of two equal keys, and replaces invalid text silently.
//
// Two kinds of error are kept apart. Malformed JSON (syntax) ends the reading: every method becomes a no-op. A value that is
// well-formed but wrong (field) is noted, the first one only, and reading goes on, so that each bad event of a request can
// be named.
type jsonReader struct {
	data []byte
	pos  int
	// shared is data as a string, where the strings that are read may share its memory; else "".
	shared string

	path []pathStep // where the reader is, for error messages

	syntax *syntaxError
	field  *InputError // Index is filled in by the caller
}

// maxShared is how long a text may be of which one copy is made for all of its strings. Of a longer one, which is rare, each string gets
// a copy of its own: a second one of the whole would be memory that strangers can ask for.
const maxShared = 64 << 10

// newSharingReader makes a reader whose strings may share memory.
func newSharingReader(data []byte) jsonReader {
	r := jsonReader{data: data}
	if len(data) <= maxShared {
		r.shared = string(data)
	}
	return r
}

type pathStep struct {
	key   []byte // nil: an array index
	index int
}

type syntaxError struct {
	offset int
	detail string
}

// parseObject reads a body that is one object and nothing more. member reads the value of one key, and says false for a key that it
// does not know. The error is an InputErrors; what member has kept is of no use then.
func parseObject(body []byte, member func(r *jsonReader, key string) bool) error {
	r := jsonReader{data: body}
	if at := invalidUTF8(body); at >= 0 {
		r.malformed(at, "the text is not valid UTF-8")
	}
	r.object(func(key []byte) bool { return member(&r, string(key)) })
	if r.syntax == nil && (r.peek() != 0 || r.pos < len(r.data)) {
		r.unexpected("the end of the body after one object")
	}
	switch {
	case r.syntax != nil:
		return InputErrors{{Detail: "malformed JSON " + r.place(r.syntax.offset) + ": " + r.syntax.detail}}
	case r.field != nil:
		return InputErrors{*r.field}
	}
	return nil
}

// fail notes that the value at the present path is wrong; only the first such note is kept.
func (r *jsonReader) fail(format string, args ...any) {
	if r.field == nil {
		r.field = &InputError{Field: r.pathString(), Detail: fmt.Sprintf(format, args...)}
	}
}

// failAt is fail for a field of the object that is being read.
func (r *jsonReader) failAt(field, format string, args ...any) {
	r.path = append(r.path, pathStep{key: []byte(field)})
	r.fail(format, args...)
	r.path = r.path[:len(r.path)-1]
}

func (r *jsonReader) pathString() string {
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
		b = append(b, excerpt(s.key)...)
	}
	return string(b)
}

func (r *jsonReader) malformed(offset int, format string, args ...any) {
	if r.syntax == nil {
		r.syntax = &syntaxError{offset, fmt.Sprintf(format, args...)}
	}
}

// place says where an offset is, as a person counts: byte, line and column from 1.
func (r *jsonReader) place(offset int) string {
	before := r.data[:min(offset, len(r.data))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("at byte %d (line %d, column %d)", offset+1, line, column)
}

// peek skips white space and returns the next byte, 0 at the end or after a syntax error.
func (r *jsonReader) peek() byte {
	if r.syntax != nil {
		return 0
	}
	for ; r.pos < len(r.data); r.pos++ {
		switch r.data[r.pos] {
		case ' ', '\t', '\n', '\r':
		default:
			return r.data[r.pos]
		}
	}
	return 0
}

// unexpected notes the syntax error of finding something else than what was wanted.
func (r *jsonReader) unexpected(want string) {
	if r.pos >= len(r.data) {
		r.malformed(r.pos, "the body ends too early, %s expected", want)
		return
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	r.malformed(r.pos, "unexpected %q, %s expected", c, want)
}

// object reads an object; member reads the value of one key and says false for a key that it does not know.
func (r *jsonReader) object(member func(key []byte) bool) {
	if r.peek() != '{' {
		r.wrongType("an object")
		return
	}
	var room [16][]byte
	seen := room[:0]
	r.members(func(key []byte) {
		for _, k := range seen {
			if bytes.Equal(k, key) {
				r.fail("the key stands twice in the same object")
			}
		}
		if member(key) {
			seen = append(seen, key) // the unknown are refused anyway, so seen stays short
			return
		}
		r.fail("unknown field")
		r.skip()
	})
}

// members reads an object at its opening brace; value reads the value of one key.
func (r *jsonReader) members(value func(key []byte)) {
	r.pos++
	if r.peek() == '}' {
		r.pos++
		return
	}
	for r.syntax == nil {
		if r.peek() != '"' {
			r.unexpected("a key in double quotes")
			return
		}
		key := r.rawString()
		if r.peek() != ':' {
			r.unexpected("a colon")
			return
		}
		r.pos++
		r.path = append(r.path, pathStep{key: key})
		value(key)
		r.path = r.path[:len(r.path)-1]
		switch r.peek() {
		case ',':
			r.pos++
		case '}':
			r.pos++
			return
		default:
			r.unexpected("a comma or a closing brace")
		}
	}
}

// array reads an array; element reads one value.
func (r *jsonReader) array(element func(i int)) {
	if r.peek() != '[' {
		r.wrongType("a list")
		return
	}
	r.pos++
	if r.peek() == ']' {
		r.pos++
		return
	}
	for i := 0; r.syntax == nil; i++ {
		r.path = append(r.path, pathStep{index: i})
		element(i)
		r.path = r.path[:len(r.path)-1]
		switch r.peek() {
		case ',':
			r.pos++
		case ']':
			r.pos++
			return
		default:
			r.unexpected("a comma or a closing bracket")
		}
	}
}

// null reads a null, if there is one. A null means the same as leaving the field out.
func (r *jsonReader) null() bool {
	if r.peek() != 'n' {
		return false
	}
	return r.literal("null")
}

func (r *jsonReader) literal(word string) bool {
	if !bytes.HasPrefix(r.data[r.pos:], []byte(word)) {
		r.unexpected("a value")
		return false
	}
	r.pos += len(word)
	return true
}

// str reads a string.
func (r *jsonReader) str() string {
	if r.peek() != '"' {
		r.wrongType("a string")
		return ""
	}
	start := r.pos + 1
	s := r.rawString()
	if end := start + len(s); r.shared != "" && end+1 == r.pos { // it had no escapes
		return r.shared[start:end]
	}
	return string(s)
}

// boolean reads true or false.
func (r *jsonReader) boolean() bool {
	switch r.peek() {
	case 't':
		return r.literal("true")
	case 'f':
		r.literal("false")
	default:
		r.wrongType("true or false")
	}
	return false
}

// integer reads a 64-bit integer, written without fraction or exponent so that no reader can see another number in it.
func (r *jsonReader) integer() int64 {
	if c := r.peek(); c != '-' && (c < '0' || c > '9') {
		r.wrongType("an integer")
		return 0
	}
	token := r.number()
	if r.syntax != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(token), 10, 64)
	if err != nil {
		if bytes.ContainsAny(token, ".eE") {
			r.fail("must be an integer, written without fraction or exponent (got %s)", excerpt(token))
		} else {
			r.fail("must be a 64-bit integer, -9223372036854775808 to 9223372036854775807 (got %s)", excerpt(token))
		}
	}
	return n
}

// decimal reads a number.
func (r *jsonReader) decimal() float64 {
	if c := r.peek(); c != '-' && (c < '0' || c > '9') {
		r.wrongType("a number")
		return 0
	}
	token := r.number()
	if r.syntax != nil {
		return 0
	}
	n, err := strconv.ParseFloat(string(token), 64)
	if err != nil {
		r.fail("is too large a number (got %s)", excerpt(token))
	}
	return n
}

// time reads an RFC 3339 time.
func (r *jsonReader) time() time.Time {
	s := r.str()
	var t time.Time
	if err := t.UnmarshalText([]byte(s)); err != nil || !strictRFC3339(s) {
		r.fail("must be an RFC 3339 time, such as 2024-01-23T11:59:33Z (got %q)", excerpt([]byte(s)))
	}
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 { // by its zone; it could not be written down again
		r.fail("must lie in the years 0 to 9999 (got %q)", excerpt([]byte(s)))
	}
	return t
}

// strictRFC3339 refuses what the library takes beyond RFC 3339 (go.dev/issue/54580): an hour of one digit, a comma before the
// fraction, a zone of 24 hours or 60 minutes.
func strictRFC3339(s string) bool {
	if s[len("2006-01-02T15")] != ':' || s[len("2006-01-02T15:04:05")] == ',' {
		return false
	}
	zone := s[len(s)-len("07:00"):]
	return strings.HasSuffix(zone, "Z") || zone[:2] < "24" && zone[3:] < "60"
}

// wrongType notes that the next value is not what was wanted and skips it.
func (r *jsonReader) wrongType(want string) {
	got := ""
	switch c := r.peek(); {
	case c == '{':
		got = "an object"
	case c == '[':
		got = "a list"
	case c == '"':
		got = "a string"
	case c == 't' || c == 'f':
		got = "true or false"
	case c == 'n':
		got = "null"
	default:
		got = "a number"
	}
	r.skip()
	if r.syntax == nil {
		r.fail("must be %s (got %s)", want, got)
	}
}

// skip reads over one value of any kind.
func (r *jsonReader) skip() { r.skipNested(0) }

func (r *jsonReader) skipNested(depth int) {
	if depth > maxDepth {
		r.malformed(r.pos, "nested deeper than %d levels", maxDepth)
		return
	}
	switch c := r.peek(); {
	case r.syntax != nil:
	case c == '"':
		r.rawString()
	case c == 't':
		r.literal("true")
	case c == 'f':
		r.literal("false")
	case c == 'n':
		r.literal("null")
	case c == '-' || c >= '0' && c <= '9':
		r.number()
	case c == '[':
		r.array(func(int) { r.skipNested(depth + 1) })
	case c == '{':
		r.members(func([]byte) { r.skipNested(depth + 1) })
	default:
		r.unexpected("a value")
	}
}

// number reads a number token by the grammar of RFC 8259, section 6.
func (r *jsonReader) number() []byte {
	start := r.pos
	digits := func() bool {
		from := r.pos
		for r.pos < len(r.data) && r.data[r.pos] >= '0' && r.data[r.pos] <= '9' {
			r.pos++
		}
		return r.pos > from
	}
	at := func(set string) bool {
		return r.pos < len(r.data) && bytes.IndexByte([]byte(set), r.data[r.pos]) >= 0
	}
	if at("-") {
		r.pos++
	}
	leadingZero := at("0")
	first := r.pos
	if !digits() {
		r.unexpected("a digit")
		return nil
	}
	if leadingZero && r.pos > first+1 {
		r.malformed(first, "a number must not begin with 0")
		return nil
	}
	if at(".") {
		r.pos++
		if !digits() {
			r.unexpected("a digit")
			return nil
		}
	}
	if at("eE") {
		r.pos++
		if at("+-") {
			r.pos++
		}
		if !digits() {
			r.unexpected("a digit")
			return nil
		}
	}
	return r.data[start:r.pos]
}

// rawString reads a string at the opening quote. The result is a slice of the input where nothing was escaped.
func (r *jsonReader) rawString() []byte {
	r.pos++
	start := r.pos
	for ; r.pos < len(r.data); r.pos++ {
		switch c := r.data[r.pos]; {
		case c == '"':
			s := r.data[start:r.pos]
			r.pos++
			return s
		case c == '\\':
			return r.escapedString(start)
		case c < 0x20:
			r.malformed(r.pos, "a string must not hold the control character %#02x unescaped", c)
			return nil
		}
	}
	r.malformed(r.pos, "a string is not closed")
	return nil
}

// escapedString goes on at the first backslash of a string that began at start.
func (r *jsonReader) escapedString(start int) []byte {
	s := bytes.Clone(r.data[start:r.pos])
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		switch {
		case c == '"':
			r.pos++
			return s
		case c < 0x20:
			r.malformed(r.pos, "a string must not hold the control character %#02x unescaped", c)
			return nil
		case c != '\\':
			s = append(s, c)
			r.pos++
			continue
		}
		if r.pos+1 >= len(r.data) {
			break
		}
		at := r.pos
		r.pos += 2
		switch c := r.data[at+1]; c {
		case '"', '\\', '/':
			s = append(s, c)
		case 'b':
			s = append(s, '\b')
		case 'f':
			s = append(s, '\f')
		case 'n':
			s = append(s, '\n')
		case 'r':
			s = append(s, '\r')
		case 't':
			s = append(s, '\t')
		case 'u':
			u, ok := r.hex4(at)
			if ok && utf16.IsSurrogate(u) {
				low := rune(0)
				if bytes.HasPrefix(r.data[r.pos:], []byte(`\u`)) {
					r.pos += 2
					low, ok = r.hex4(at)
				}
				if u = utf16.DecodeRune(u, low); ok && u == utf8.RuneError {
					r.malformed(at, "half of a surrogate pair is no character")
				}
			}
			if r.syntax != nil {
				return nil
			}
			s = utf8.AppendRune(s, u)
		default:
			r.malformed(at, `unknown escape \%c`, c)
			return nil
		}
	}
	r.malformed(r.pos, "a string is not closed")
	return nil
}

// hex4 reads the four hex digits of an escape that began at offset at.
func (r *jsonReader) hex4(at int) (rune, bool) {
	if r.pos+4 <= len(r.data) {
		if u, err := strconv.ParseUint(string(r.data[r.pos:r.pos+4]), 16, 16); err == nil {
			r.pos += 4
			return rune(u), true
		}
	}
	r.malformed(at, `\u must be followed by four hex digits`)
	return 0, false
}

// Excerpt is a short piece of the caller's input for an error message.
func Excerpt(s string) string { return excerpt([]byte(s)) }

func excerpt(b []byte) string {
	const most = 40
	if len(b) <= most {
		return string(b)
	}
	b = b[:most]
	for len(b) > 0 && !utf8.Valid(b) {
		b = b[:len(b)-1]
	}
	return string(b) + "…"
}
