package jsonread

import "bytes"

// maxDepth is how deep skipped values may nest, so that a client cannot exhaust the stack. The deepest valid input of hookbolt has
// four levels.
const maxDepth = 32

// Peek skips white space and returns the next byte without reading it; 0 at the end of the input, or once the reading has ended.
func (r *Reader) Peek() byte {
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

// More reports whether there is something else than white space to read.
func (r *Reader) More() bool {
	r.Peek()
	return r.syntax == nil && r.pos < len(r.data)
}

// Sequence reads all of the input: values, and lists of values, one after another. A single value, a list and NDJSON are sequences.
// A byte order mark before them is skipped.
// value reads one value; paths begin at it, wherever it is.
func (r *Reader) Sequence(value func()) {
	r.skipMark()
	for r.More() {
		if r.Peek() == '[' {
			r.elements(func(int) { value() })
		} else {
			value()
		}
	}
}

// Object reads an object. member reads the value of one key, and returns false for an unknown key, whose value is skipped then.
func (r *Reader) Object(member func(key []byte) bool) { r.object(member, func() {}) }

// object is Object with a function that is called after each member.
func (r *Reader) object(member func(key []byte) bool, after func()) {
	if r.Peek() != '{' {
		r.WrongType("an object")
		return
	}
	var room [16][]byte
	seen := room[:0]
	r.members(func(key []byte) {
		defer after()
		for _, k := range seen {
			if bytes.Equal(k, key) {
				r.Fail("the key stands twice in the same object")
			}
		}
		if member(key) {
			seen = append(seen, key) // unknown keys are refused anyway, so seen stays short
			return
		}
		if !r.anyKey {
			r.Fail("unknown field")
		}
		r.Skip()
	})
}

// members reads an object at its opening brace; value reads the value of one key.
func (r *Reader) members(value func(key []byte)) {
	r.pos++
	if r.Peek() == '}' {
		r.pos++
		return
	}
	for r.syntax == nil {
		if r.Peek() != '"' {
			r.unexpected("a key in double quotes")
			return
		}
		key := r.rawString()
		if r.Peek() != ':' {
			r.unexpected("a colon")
			return
		}
		r.pos++
		r.path = append(r.path, pathStep{key: key})
		value(key)
		r.path = r.path[:len(r.path)-1]
		switch r.Peek() {
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

// Array reads a list. element reads one value.
func (r *Reader) Array(element func(i int)) {
	if r.Peek() != '[' {
		r.WrongType("a list")
		return
	}
	r.elements(func(i int) {
		r.path = append(r.path, pathStep{index: i})
		element(i)
		r.path = r.path[:len(r.path)-1]
	})
}

// elements reads a list at its opening bracket; element reads one value.
func (r *Reader) elements(element func(i int)) {
	r.pos++
	if r.Peek() == ']' {
		r.pos++
		return
	}
	for i := 0; r.syntax == nil; i++ {
		element(i)
		switch r.Peek() {
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

// WrongType records that the next value is not of the wanted kind, such as "a string", and skips it.
func (r *Reader) WrongType(want string) {
	got := ""
	switch c := r.Peek(); {
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
	r.Skip()
	if r.syntax == nil {
		r.Fail("must be %s (got %s)", want, got)
	}
}

// Raw reads a value of any kind and returns its text, a slice of the input.
func (r *Reader) Raw() []byte {
	r.Peek()
	start := r.pos
	r.Skip()
	return r.data[start:r.pos]
}

// Skip reads a value of any kind and drops it.
func (r *Reader) Skip() { r.skipNested(0) }

func (r *Reader) skipNested(depth int) {
	if depth > maxDepth {
		r.malformed(r.pos, "nested deeper than %d levels", maxDepth)
		return
	}
	switch c := r.Peek(); {
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
		r.elements(func(int) { r.skipNested(depth + 1) })
	case c == '{':
		r.members(func([]byte) { r.skipNested(depth + 1) })
	default:
		r.unexpected("a value")
	}
}
