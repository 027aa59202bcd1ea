package transform

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// position returns the line and column of a byte of a program, from 1. CR, LF and CRLF end a line each.
func position(source string, offset int) (line, column int) {
	before := source[:max(0, min(offset, len(source)))]
	before = strings.ReplaceAll(strings.ReplaceAll(before, "\r\n", "\n"), "\r", "\n")
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]) + 1
}

// errorAt returns an error with its place.
func errorAt(name, source string, offset int, detail string) *Error {
	e := &Error{Program: name, Detail: detail}
	e.Line, e.Column = position(source, offset)
	return e
}

// parseError says where a program is no jq, and what would be.
func parseError(name, source string, err error) *Error {
	parsed, ok := errors.AsType[*gojq.ParseError](err)
	if !ok {
		return &Error{Program: name, Detail: shorten(err.Error(), maxMessageBytes)}
	}
	m := mistake{source: source, text: parsed.Token, offset: parsed.Offset - len(parsed.Token)}
	m.tokens, m.open = tokenize(source)
	for _, t := range m.tokens {
		if t.offset >= m.offset {
			break
		}
		m.before, m.previous = m.previous, t
	}
	switch text := err.Error(); {
	case strings.HasPrefix(text, "unterminated"):
		for i := len(m.open) - 1; i >= 0; i-- {
			if m.open[i].text == `"` {
				m.offset = m.open[i].offset
				break
			}
		}
		return errorAt(name, source, m.offset, `the string has no closing "`)
	case strings.HasPrefix(text, "invalid escape"):
		return errorAt(name, source, m.offset, fmt.Sprintf(`%s means nothing in a string: write \\ for a backslash, \" for a quotation mark, \n for a new line, \(.name) for a value`, parsed.Token))
	case strings.HasPrefix(text, "invalid token"):
		return errorAt(name, source, m.offset, fmt.Sprintf("%q is no number", parsed.Token))
	case strings.Contains(text, "EOF"):
		m.text, m.offset = "", len(strings.TrimRight(source, " \t\r\n"))
		return errorAt(name, source, m.offset, m.atEnd())
	}
	return errorAt(name, source, m.offset, "unexpected "+m.text+m.hint())
}

// mistake is a token at which a program is no jq any more.
type mistake struct {
	source           string
	text             string // the token; "" at the end
	offset           int
	tokens, open     []token
	before, previous token // the two tokens before it
}

// atEnd says what is missing at the end of a program.
func (m *mistake) atEnd() string {
	if n := len(m.open); n > 0 {
		line, column := position(m.source, m.open[n-1].offset)
		return fmt.Sprintf("the %s of line %d, column %d is not closed: a %s is missing", m.open[n-1].text, line, column, closers[m.open[n-1].text])
	}
	ifs, defs := 0, 0
	for _, t := range m.tokens {
		switch t.text {
		case "if":
			ifs++
		case "end":
			ifs--
		case "def":
			defs++
		case ";":
			defs--
		}
	}
	switch {
	case ifs > 0:
		return "the if has no end: write if … then … else … end"
	case defs > 0:
		return "the def has no end: write def name: …; with a ; at its end"
	case m.previous.text == "as" || strings.HasPrefix(m.previous.text, "$"):
		return "it ends too early: after as $name a | must follow"
	}
	return fmt.Sprintf("it ends too early: something must follow %s", m.previous.text)
}

// habits are tokens of other languages, and what jq has instead.
var habits = map[string]string{
	"&":  `jq writes "and"`,
	"!":  `jq negates with "| not"`,
	"'":  `strings stand in double quotation marks: "`,
	"`":  `strings stand in double quotation marks: "`,
	"“":  `use the plain quotation mark: "`,
	"”":  `use the plain quotation mark: "`,
	"„":  `use the plain quotation mark: "`,
	"‘":  `use the plain quotation mark: "`,
	"’":  `use the plain quotation mark: "`,
	"$":  `write "… \(.name) …" for a value in a string`,
	"…":  "it stands for something that was left out",
	"^":  "jq has pow(a; b) for powers",
	"\\": `a backslash stands in strings only`,
	";":  "it stands only between the arguments of a function and at the end of a def: use | to go on, or a comma for another value",
	"~":  "jq has test(\"…\") for regular expressions",
}

// hint says what may have been meant.
func (m *mistake) hint() string {
	adjacent := m.previous.end() == m.offset
	switch {
	case m.text == "=" && (m.previous.text == "==" || m.previous.text == "!=" || m.previous.text == "="):
		return ": jq compares with == and !="
	case m.text == "|" && m.previous.text == "|" && adjacent:
		return `: jq writes "or"`
	case m.text == "{" && m.previous.text == "{":
		return `: jq has no {{ }}; write .name for a field, and "… \(.name) …" for a value in a string`
	case m.text == ">" && (m.previous.text == "=" || m.previous.text == "-"):
		return ": jq has no functions of this kind; map(.name) works on each element"
	case m.text == "(" && m.previous.isField():
		return fmt.Sprintf(": a function is called behind a pipe: | %s", strings.TrimPrefix(m.previous.text, "."))
	case m.previous.text == "let" || m.previous.text == "const" || m.previous.text == "var":
		return ": jq names a value with as: .name as $x | …"
	case m.previous.text == "function":
		return ": jq defines a function with def: def f(x): …;"
	case m.previous.text == "as":
		return ": the name behind as begins with $"
	case m.previous.text == "?":
		return ": jq chooses with if … then … else … end"
	}
	if m.missesValue() {
		return ": a value is missing before it, or the " + m.previous.text + " is too much"
	}
	if closer, ok := m.wrongCloser(); ok {
		return closer
	}
	if habit, ok := habits[m.text]; ok {
		return ": " + habit
	}
	switch {
	case m.text == "," && m.previous.text == ",":
		return ": a value is missing between the commas"
	case m.previous.endsValue() && startsValue(m.text) && m.within("{"):
		return ": is a comma missing before it, or a colon?"
	case m.previous.endsValue() && startsValue(m.text):
		return ": is a comma or a | missing before it?"
	case m.previous.text == "":
		return ": the program cannot begin with it"
	}
	return " after " + m.previous.text
}

// missesValue tells whether a bracket is closed where a value has to stand, behind a comma or a colon.
func (m *mistake) missesValue() bool {
	opener := map[string]string{")": "(", "]": "[", "}": "{"}[m.text]
	return opener != "" && (m.previous.text == "," || m.previous.text == ":") && m.within(opener)
}

// wrongCloser says which bracket is open where another one is closed.
func (m *mistake) wrongCloser() (string, bool) {
	if m.text != ")" && m.text != "]" && m.text != "}" || len(m.tokens) == 0 || m.tokens[len(m.tokens)-1].offset != m.offset {
		return "", false
	}
	if len(m.open) == 0 {
		return ": there is no bracket that it could close", true
	}
	last := m.open[len(m.open)-1]
	line, column := position(m.source, last.offset)
	return fmt.Sprintf(": the %s of line %d, column %d is closed by %s", last.text, line, column, closers[last.text]), true
}

// within tells whether the innermost bracket that is open at the mistake is of a kind.
func (m *mistake) within(bracket string) bool {
	_, open := tokenize(m.source[:m.offset])
	return len(open) > 0 && open[len(open)-1].text == bracket
}

// startsValue tells whether a value may begin with a token.
func startsValue(text string) bool {
	return text != "" && (isNameByte(text[0]) || strings.IndexByte(`."$@[{(`, text[0]) >= 0)
}
