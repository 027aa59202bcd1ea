package transform

import (
	"strings"
	"unicode/utf8"
)

// token is a word of a program, for messages: gojq says little of where a mistake is. Of a string there is a token for its first quotation
// mark, for what is within each \( ), and for the last.
type token struct {
	text   string
	offset int
}

// end returns the offset behind the token.
func (t token) end() int { return t.offset + len(t.text) }

// isField tells whether the token is a field, such as .name.
func (t token) isField() bool { return len(t.text) > 1 && t.text[0] == '.' && isNameByte(t.text[1]) }

// endsValue tells whether a value may end with the token, so that an operator must follow.
func (t token) endsValue() bool {
	if t.text == "" {
		return false
	}
	switch t.text {
	case "and", "or", "as", "if", "then", "elif", "else", "try", "catch", "reduce", "foreach", "def", "label", "import", "include", "$":
		return false
	}
	last := t.text[len(t.text)-1]
	return isNameByte(last) || strings.IndexByte(`)]}"?.`, last) >= 0
}

// operators are those of more than one byte, the longer ones first.
var operators = []string{"?//=", "?//", "//=", "==", "!=", "<=", ">=", "//", "|=", "+=", "-=", "*=", "/=", "%=", ".."}

// closers are what closes a bracket, a string, and what is within a string.
var closers = map[string]string{"(": ")", "[": "]", "{": "}", `"`: `"`, `\(`: ")"}

// tokenize returns the tokens of a program, and those of its brackets and strings that are not closed, the innermost last. A closing bracket
// that closes no bracket, or another one, ends it: it is the last token then.
func tokenize(source string) (tokens, open []token) {
	inString := false
	for i := 0; i < len(source); {
		if inString {
			i = skipString(source, i)
			if i >= len(source) {
				return tokens, open
			}
			t := token{`"`, i}
			if source[i] == '\\' {
				t.text = `\(`
				open = append(open, t)
			} else {
				open = open[:len(open)-1]
			}
			tokens, inString, i = append(tokens, t), false, t.end()
			continue
		}
		if strings.IndexByte(" \t\r\n", source[i]) >= 0 {
			i++
			continue
		}
		if source[i] == '#' {
			for i < len(source) && source[i] != '\n' && source[i] != '\r' {
				i++
			}
			continue
		}
		t := token{source[i : i+tokenLength(source[i:])], i}
		tokens, i = append(tokens, t), t.end()
		switch t.text {
		case `"`:
			inString = true
			fallthrough
		case "(", "[", "{":
			open = append(open, t)
		case ")", "]", "}":
			if len(open) == 0 || closers[open[len(open)-1].text] != t.text {
				return tokens, open
			}
			inString = open[len(open)-1].text == `\(`
			open = open[:len(open)-1]
		}
	}
	return tokens, open
}

// skipString returns the offset of the next \( or " in a string.
func skipString(source string, i int) int {
	for ; i < len(source); i++ {
		switch source[i] {
		case '"':
			return i
		case '\\':
			if i+1 < len(source) && source[i+1] == '(' {
				return i
			}
			i++
		}
	}
	return i
}

// tokenLength returns the length of the token that a text begins with.
func tokenLength(s string) int {
	name := func(i int) int {
		for i < len(s) && (isNameByte(s[i]) || strings.HasPrefix(s[i:], "::")) {
			if s[i] == ':' {
				i++
			}
			i++
		}
		return i
	}
	for _, operator := range operators {
		if strings.HasPrefix(s, operator) {
			return len(operator)
		}
	}
	switch c := s[0]; {
	case c == '.' && len(s) > 1 && isDigit(s[1]), isDigit(c):
		i := 1
		for i < len(s) && (isNameByte(s[i]) || s[i] == '.') {
			i++
		}
		return i
	case isNameByte(c):
		return name(0)
	case c == '.' || c == '$' || c == '@':
		return name(1)
	}
	_, size := utf8.DecodeRuneInString(s)
	return size
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameByte(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}
