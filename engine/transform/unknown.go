package transform

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/itchyny/gojq"
)

// refused are functions and variables of jq that hookbolt does not have, and why.
var refused = map[string]string{
	"input":             "there is one payload only, which is .",
	"inputs":            "there is one payload only, which is .",
	"input_filename":    "the payload comes from no file",
	"input_line_number": "the payload comes from no file",
	"$__loc__":          "the place in the program is not known while it runs",
	"$__prog_args":      "a program has no arguments",
	"getpath":           "write getpath([\"a\", \"b\"])",
	"@base32":           "use @base64",
	"@base32d":          "use @base64d",
}

// aliases are functions as other languages call them, and how jq does.
var aliases = map[string]string{
	"lower": "downcase", "lowercase": "downcase", "toLowerCase": "downcase", "tolower": "downcase", "toLower": "downcase",
	"upper": "upcase", "uppercase": "upcase", "toUpperCase": "upcase", "toupper": "upcase", "toUpper": "upcase",
	"len": "length", "size": "length", "count": "length", "str": "tostring", "string": "tostring", "toString": "tostring", "String": "tostring",
	"int": "tonumber", "float": "tonumber", "number": "tonumber", "Number": "tonumber", "parseInt": "tonumber", "parseFloat": "tonumber",
	"replace": `gsub("regex"; "text")`, "replaceAll": `gsub("regex"; "text")`, "regex": `test("regex")`, "matches": `test("regex")`,
	"includes": `contains("text")`, "find": "first(.[] | select(…))", "filter": "map(select(…))", "forEach": ".[]", "push": "+ [value]",
	"concat": "+", "substring": ".[from:to]", "substr": ".[from:to]", "slice": ".[from:to]", "default": "// value", "coalesce": "//",
	"ifelse": "if … then … else … end", "JSON": "tojson", "stringify": "tojson", "json": "tojson", "toJson": "tojson", "parse": "fromjson",
	"urlencode": "@uri", "encodeURIComponent": "@uri", "base64": "@base64", "b64encode": "@base64", "escape": "@html", "html": "@html",
	"None": "null", "nil": "null", "undefined": "null", "NULL": "null", "nul": "null", "Null": "null", "True": "true", "TRUE": "true", "False": "false",
	"FALSE": "false", "return": "nothing: what a program gives is its result", "date": "todate", "strip": "trim", "hash": "sha256", "hmac": "hmac_sha256(key)",
	"capitalize": "(.[:1] | upcase) + .[1:]", "title": "(.[:1] | upcase) + .[1:]", "round2": ". * 100 | round / 100", "exists": "!= null", "isEmpty": "length == 0",
}

// compileError says what a program uses that is not there.
func compileError(name, source string, err error) *Error {
	text := err.Error()
	tokens, _ := tokenize(source)
	for _, c := range []struct {
		prefix string
		detail func(unknown string, tokens []token, at int) string
	}{
		{"function not defined: ", unknownFunction},
		{"variable not defined: ", unknownVariable},
		{"format not defined: ", unknownFormat},
	} {
		unknown, ok := strings.CutPrefix(text, c.prefix)
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(unknown, "/")
		at := slices.IndexFunc(tokens, func(t token) bool { return t.text == word })
		e := &Error{Program: name, Detail: shorten(c.detail(unknown, tokens, at), maxMessageBytes)}
		if at >= 0 {
			e.Line, e.Column = position(source, tokens[at].offset)
		}
		return e
	}
	e := &Error{Program: name, Detail: shorten(text, maxMessageBytes)}
	switch {
	case strings.HasPrefix(text, "missing query"):
		return errorAt(name, source, len(strings.TrimRight(source, " \t\r\n")), "it has no value: write . for the payload as it is, or what is to be sent")
	case strings.HasPrefix(text, "input(s)/0"):
		e.Detail = "input and inputs are not available: " + refused["input"]
		e.Line, e.Column = find(source, tokens, "input", "inputs")
	case err == errNoModules:
		e.Line, e.Column = find(source, tokens, "import", "include")
	}
	return e
}

// find returns the place of the first token that is one of some words, or zeros.
func find(source string, tokens []token, words ...string) (line, column int) {
	for _, t := range tokens {
		if slices.Contains(words, t.text) {
			return position(source, t.offset)
		}
	}
	return 0, 0
}

func unknownVariable(unknown string, _ []token, _ int) string {
	if why, ok := refused[unknown]; ok {
		return unknown + " is not available: " + why
	}
	return fmt.Sprintf("the variable %s has no value: define it before with … as %s |", unknown, unknown)
}

func unknownFormat(unknown string, _ []token, _ int) string {
	if why, ok := refused[unknown]; ok {
		return unknown + " is not available: " + why
	}
	return "there is no format " + unknown + ", but @base64, @base64d, @csv, @html, @json, @sh, @text, @tsv, @uri and @urid"
}

// unknownFunction explains a function that is not there, given as name/arguments.
func unknownFunction(unknown string, tokens []token, at int) string {
	name, arguments, _ := strings.Cut(unknown, "/")
	if at > 1 && tokens[at-1].text == "-" && tokens[at-2].isField() && tokens[at-2].end() == tokens[at-1].offset {
		return fmt.Sprintf(`there is no function %s: a name with a dash is written .["%s-%s"]`, name, tokens[at-2].text[1:], name)
	}
	if why, ok := refused[name]; ok {
		return name + " is not available: " + why
	}
	functions := functionNames()
	if arities := functions[name]; len(arities) > 0 {
		return fmt.Sprintf("%s takes %s, separated by ;, but got %s", name, anyOf(arities), count(arguments))
	}
	if alias, ok := aliases[name]; ok {
		return fmt.Sprintf("there is no %s in jq, but %s", name, alias)
	}
	if similar := closest(name, functions); similar != "" {
		return fmt.Sprintf("there is no function %s: did you mean %s?", name, similar)
	}
	if arguments == "0" {
		return fmt.Sprintf(`there is no function %s: write .%s for a field, and "%s" for a text`, name, name, name)
	}
	return "there is no function " + name
}

// count returns a number of arguments in words.
func count(n string) string {
	if n == "1" {
		return "1 argument"
	}
	return n + " arguments"
}

// anyOf returns numbers of arguments in words, in order.
func anyOf(numbers []string) string {
	last := len(numbers) - 1
	if last == 0 {
		return count(numbers[0])
	}
	return strings.Join(numbers[:last], ", ") + " or " + numbers[last] + " arguments"
}

// functionNames returns all functions there are, with the numbers of arguments that they take.
var functionNames = sync.OnceValue(func() map[string][]string {
	functions := make(map[string][]string)
	query, err := gojq.Parse("builtins[]")
	if err != nil {
		return functions
	}
	code, err := gojq.Compile(query, options...)
	if err != nil {
		return functions
	}
	names := []string{"localtime/0", "strflocaltime/1", "keys_unsorted/0", "toarray/0", "debug/0", "debug/1", "stderr/0"} // the prelude's are not listed
	for iter := code.Run(nil); ; {
		v, ok := iter.Next()
		if !ok {
			break
		}
		if s, ok := v.(string); ok {
			names = append(names, s)
		}
	}
	slices.Sort(names)
	for _, s := range slices.Compact(names) {
		name, n, _ := strings.Cut(s, "/")
		functions[name] = append(functions[name], n)
	}
	return functions
})

// closest returns the function whose name differs by few letters; "" if none does.
func closest(name string, functions map[string][]string) string {
	best, least := "", 2+len(name)/4
	for _, candidate := range slices.Sorted(maps.Keys(functions)) {
		if d := distance(name, candidate); d < least && candidate[0] == name[0] && d < len(name)-1 {
			best, least = candidate, d
		}
	}
	return best
}

// distance returns the number of bytes to insert, remove or change to make one name of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
