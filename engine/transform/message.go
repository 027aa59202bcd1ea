package transform

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// parseError says where a program is no jq.
func parseError(name, source string, err error) error {
	parsed, ok := errors.AsType[*gojq.ParseError](err)
	if !ok {
		return &Error{Program: name, Detail: err.Error()}
	}
	e := &Error{Program: name, Detail: err.Error()}
	e.Line, e.Column = position(source, parsed.Offset-len(parsed.Token))
	return e
}

// compileError says what a program uses that is not there.
func compileError(name, source string, err error) error {
	return &Error{Program: name, Detail: err.Error()}
}

// runtimeError says what has gone wrong with a payload.
func runtimeError(name string, err error) error {
	return &Error{Program: name, Detail: shorten(err.Error(), 200)}
}

// position returns the line and column of a byte of a program, from 1. CR, LF and CRLF end a line each.
func position(source string, offset int) (line, column int) {
	before := source[:max(0, min(offset, len(source)))]
	before = strings.ReplaceAll(strings.ReplaceAll(before, "\r\n", "\n"), "\r", "\n")
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]) + 1
}
