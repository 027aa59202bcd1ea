package transform

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/itchyny/gojq"
)

const (
	// maxMessageBytes is the length of a message about a program, and of one that a program makes with error.
	maxMessageBytes = 200
	// maxQuoteBytes is how much of a value a message quotes. Two values are the most that one has.
	maxQuoteBytes = 20
)

// runtimeError says what has gone wrong with a payload.
func runtimeError(name string, err error) *Error {
	switch {
	case err == errSteps || err == errTime:
		return &Error{Program: name, Detail: err.Error()}
	}
	if halted(err) {
		return &Error{Program: name, Detail: `halt ends jq itself, which makes no sense here: use empty to send nothing, or error("why")`}
	}
	if own, ok := err.(gojq.ValueError); ok { // by error
		s, isString := own.Value().(string)
		if !isString {
			return &Error{Program: name, Detail: "error was called with " + quoted(own.Value())}
		}
		return &Error{Program: name, Detail: shorten(s, maxMessageBytes)}
	}
	return &Error{Program: name, Detail: plainWords(err.Error())}
}

// halted tells whether an error is that of halt or halt_error.
func halted(err error) bool {
	_, ok := errors.AsType[*gojq.HaltError](err)
	return ok
}

// quoted describes a value with a little of its content.
func quoted(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool, string, []any, map[string]any:
	default:
		v = shorten(number(v), maxQuoteBytes)
		return fmt.Sprintf("number (%s)", v)
	}
	return typed(gojq.TypeOf(v) + " (" + gojq.Preview(v) + ")")
}

// typed shortens the content of a value in a message of gojq: null, or a type and a preview in brackets.
func typed(s string) string {
	kind, preview, ok := strings.Cut(s, " (")
	if !ok {
		return shorten(s, maxQuoteBytes)
	}
	preview = strings.TrimSuffix(preview, ")")
	if len(preview) <= maxQuoteBytes {
		return s
	}
	return kind + " (" + shorten(preview, maxQuoteBytes) + ")"
}

// rewording is a message of gojq, and how hookbolt words it.
type rewording struct {
	pattern *regexp.Regexp
	words   func(m []string) string
}

var rewordings = []rewording{
	{regexp.MustCompile(`(?s)^cannot iterate over: (.*)$`), func(m []string) string {
		detail := fmt.Sprintf("[] needs an array or an object, but got %s", typed(m[1]))
		if m[1] == "null" {
			detail += ": write []? where it may be missing"
		}
		return detail
	}},
	{regexp.MustCompile(`(?s)expected an object but got: (array.*)$`), func(m []string) string {
		return fmt.Sprintf("a field is read of %s: write .[0] before it for one element, or .[] for each", typed(m[1]))
	}},
	{regexp.MustCompile(`(?s)expected an object but got: (.*)$`), func(m []string) string {
		return fmt.Sprintf("a field is read or set of %s, which is no object", typed(m[1]))
	}},
	{regexp.MustCompile(`(?s)expected an array but got: (.*)$`), func(m []string) string {
		return fmt.Sprintf("an element is read or set of %s, which is no array", typed(m[1]))
	}},
	{regexp.MustCompile(`(?s)^cannot add: (.*) and (.*)$`), func(m []string) string {
		hint := ""
		if strings.HasPrefix(m[1], "string") != strings.HasPrefix(m[2], "string") {
			hint = `: make it a string with tostring, or write "\(.a)\(.b)"`
		}
		return fmt.Sprintf("cannot add %s and %s%s", typed(m[1]), typed(m[2]), hint)
	}},
	{regexp.MustCompile(`(?s)^cannot (subtract|multiply|divide|modulo):? (.*) (?:and|by:) (.*)$`), func(m []string) string {
		if strings.HasSuffix(m[3], "number (0)") {
			return "cannot divide by 0"
		}
		return fmt.Sprintf("cannot %s %s and %s", m[1], typed(m[2]), typed(m[3]))
	}},
	{regexp.MustCompile(`(?s)^expected a string for object key but got: (.*)$`), func(m []string) string {
		return fmt.Sprintf("the name of a member must be a string, but is %s: use tostring", typed(m[1]))
	}},
	{regexp.MustCompile(`(?s)^strptime\(.*?\) cannot be applied to (".*?"): failed to parse`), func(m []string) string {
		return fmt.Sprintf("strptime cannot read %s in this format; fromdate reads the times of the payload", shorten(m[1], 2*maxQuoteBytes))
	}},
	{regexp.MustCompile(`(?s)^invalid regular expression .*: error parsing regexp: (.*?): `), func(m []string) string {
		return "the regular expression is wrong: " + m[1] + backslashes(m[1])
	}},
	{regexp.MustCompile(`(?s)^format not defined: (.*)$`), func(m []string) string {
		return unknownFormat(shorten(m[1], maxQuoteBytes), nil, 0)
	}},
	{regexp.MustCompile(`(?s)^invalid path (?:on iterating )?against: (.*)$`), func(m []string) string {
		return "only fields and indexes can be changed or deleted, not a value that was computed, such as " + typed(m[1])
	}},
	{regexp.MustCompile(`(?s)^(@?\w+)(?:\(.*\))? cannot be applied to: null$`), func(m []string) string {
		return fmt.Sprintf(`%s got null: give a default before it, as in (.name // "") | %s`, m[1], m[1])
	}},
	{regexp.MustCompile(`(?s)^(@?\w+)(?:\((.*)\))? cannot be applied to: (.*)$`), func(m []string) string {
		hint := ""
		if ofStrings[m[1]] && (strings.HasPrefix(m[3], "number") || strings.HasPrefix(m[3], "boolean")) {
			hint = ": make it a string with tostring"
		}
		if m[2] != "" {
			m[1] += "(" + shorten(m[2], maxQuoteBytes) + ")"
		}
		return fmt.Sprintf("%s cannot work on %s%s", m[1], typed(m[3]), hint)
	}},
	{regexp.MustCompile(`(?s)^(@?\w+)(?:\(.*\))? cannot be applied to (.*?): (.*)$`), func(m []string) string {
		return fmt.Sprintf("%s cannot work on %s: %s", m[1], shorten(m[2], maxQuoteBytes), shorten(m[3], 80))
	}},
}

// ofStrings are functions that work on strings only. match is what sub, gsub, scan and splits come to.
var ofStrings = map[string]bool{"match": true, "test": true, "split": true, "ascii_downcase": true, "ascii_upcase": true, "downcase": true, "upcase": true,
	"ltrimstr": true, "rtrimstr": true, "trim": true, "ltrim": true, "rtrim": true, "startswith": true, "endswith": true, "explode": true,
	"sha256": true, "sha1": true, "md5": true, "hmac_sha256": true}

// fieldHint explains the mistake of a field that fails and has the name of a function.
func fieldHint(at token) string {
	if !at.isField() || len(functionNames()[at.text[1:]]) == 0 {
		return ""
	}
	return fmt.Sprintf("; the function %s is called behind a pipe: | %s", at.text[1:], at.text[1:])
}

// backslashes explains the mistake that most regular expressions have.
func backslashes(why string) string {
	if strings.Contains(why, "escape") {
		return `; a backslash is written twice in a string: "\\d"`
	}
	return ""
}

// plainWords words a message of gojq for somebody who has to mend a program by it, with little of the payload's content.
func plainWords(text string) string {
	for _, r := range rewordings {
		if m := r.pattern.FindStringSubmatch(text); m != nil {
			return r.words(m)
		}
	}
	return shorten(text, 4*maxQuoteBytes)
}
