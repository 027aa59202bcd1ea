package jsonread

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

func (r *Reader) literal(word string) bool {
	if !bytes.HasPrefix(r.data[r.pos:], []byte(word)) {
		r.unexpected("a value")
		return false
	}
	r.pos += len(word)
	return true
}

// number reads a number token by the grammar of RFC 8259, section 6.
func (r *Reader) number() []byte {
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

// rawString reads a string at its opening quote. The result is a slice of the input if it has no escapes.
func (r *Reader) rawString() []byte {
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
			r.controlCharacter(c)
			return nil
		}
	}
	r.malformed(r.pos, "a string is not closed")
	return nil
}

// escapedString continues rawString at the first backslash of a string that began at start.
func (r *Reader) escapedString(start int) []byte {
	s := bytes.Clone(r.data[start:r.pos])
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; {
		case c == '"':
			r.pos++
			return s
		case c < 0x20:
			r.controlCharacter(c)
			return nil
		case c != '\\':
			s = append(s, c)
			r.pos++
		case r.pos+1 == len(r.data):
			r.malformed(r.pos, "a string is not closed")
			return nil
		default:
			s = r.escape(s)
			if r.syntax != nil {
				return nil
			}
		}
	}
	r.malformed(r.pos, "a string is not closed")
	return nil
}

func (r *Reader) controlCharacter(c byte) {
	r.malformed(r.pos, "a string must not hold the control character %#02x unescaped", c)
}

// escape reads an escape at its backslash, which another byte follows, and appends its character to s.
func (r *Reader) escape(s []byte) []byte {
	at := r.pos
	r.pos += 2
	switch c := r.data[at+1]; c {
	case '"', '\\', '/':
		return append(s, c)
	case 'b':
		return append(s, '\b')
	case 'f':
		return append(s, '\f')
	case 'n':
		return append(s, '\n')
	case 'r':
		return append(s, '\r')
	case 't':
		return append(s, '\t')
	case 'u':
		return utf8.AppendRune(s, r.unicodeEscape(at))
	default:
		r.malformed(at, `unknown escape \%c`, c)
		return nil
	}
}

// unicodeEscape reads the digits of the escape \u at offset at, and all of a second one if both are a surrogate pair. Half of a pair is
// U+FFFD, as in browsers and in encoding/json.
func (r *Reader) unicodeEscape(at int) rune {
	u, ok := r.hex4(at)
	if !ok || !utf16.IsSurrogate(u) {
		return u
	}
	if !bytes.HasPrefix(r.data[r.pos:], []byte(`\u`)) {
		return utf8.RuneError
	}
	next := r.pos
	r.pos += 2
	low, _ := r.hex4(at)
	pair := utf16.DecodeRune(u, low)
	if pair == utf8.RuneError {
		r.pos = next // the second escape is a character of its own, or the first half of a pair
	}
	return pair
}

// hex4 reads the four hex digits of an escape that began at offset at.
func (r *Reader) hex4(at int) (rune, bool) {
	if r.pos+4 <= len(r.data) {
		if u, err := strconv.ParseUint(string(r.data[r.pos:r.pos+4]), 16, 16); err == nil {
			r.pos += 4
			return rune(u), true
		}
	}
	r.malformed(at, `\u must be followed by four hex digits`)
	return 0, false
}

// WellFormed returns valid JSON with an escaped U+FFFD in place of each escaped half of a surrogate pair: what a Reader reads of it, for
// readers that refuse such halves. The result is the text itself if there are none.
func WellFormed(text []byte) []byte {
	if !bytes.Contains(text, []byte(`\ud`)) && !bytes.Contains(text, []byte(`\uD`)) {
		return text
	}
	formed := bytes.Clone(text)
	for i := 0; i < len(formed); i++ {
		if formed[i] != '\\' {
			continue
		}
		u := escapedUnit(formed[i:])
		switch {
		case !utf16.IsSurrogate(u):
			i++ // the second byte of an escape may be a backslash
		case utf16.DecodeRune(u, escapedUnit(formed[i+6:])) != utf8.RuneError:
			i += 11
		default:
			i += copy(formed[i:], `\ufffd`) - 1
		}
	}
	return formed
}

// escapedUnit returns the UTF-16 code unit that a text begins with as an escape, 0 if it does not.
func escapedUnit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	u, _ := strconv.ParseUint(string(text[2:6]), 16, 16)
	return rune(u)
}
