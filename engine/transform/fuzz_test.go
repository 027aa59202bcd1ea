package transform

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzEval: whatever the programs and the payload are, there is no panic, an error is an *Error with a place within its program, and a body
// is one of its encoding. Programs that take much are left out: this process has no limit of memory.
func FuzzEval(f *testing.F) {
	payload, err := os.ReadFile(samplePayload)
	if err != nil {
		f.Fatal(err)
	}
	mistakes, err := os.ReadFile(mistakesFile)
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(mistakes)) {
		if !strings.HasPrefix(line, "\t") {
			f.Add("true", strings.TrimSpace(line), "{id: .session_id}", uint8(0), string(payload))
		}
	}
	f.Add("", `{a: .l, b: .s}`, "", uint8(EncodingForm), `{"l":["ü",null,1e400,-0,true],"s":"\ud800"}`)
	f.Add("", `.s`, "", uint8(EncodingText), `{"s":"\u2028\u0000"}`)
	f.Add("", `[nan, infinite, -infinite, (. * 1000000)]`, "", uint8(0), `18446744073709551615`)
	f.Fuzz(func(t *testing.T, filter, transform, urlValues string, encoding uint8, payload string) {
		for _, program := range []string{filter, transform, urlValues} {
			for _, much := range []string{"range", "repeat", "recurse", "..", "def", "while", "until", "*", "combinations", "[", "reduce", "foreach", "walk", "input"} {
				if len(program) > 200 || strings.Count(program, much) > 2 || strings.Contains(program, much) && len(much) > 2 && much != "input" {
					return
				}
			}
		}
		job := Job{Programs: Programs{filter, transform, urlValues, Encoding(encoding % 3)}, Payload: []byte(payload)}
		r, err := Eval(job)
		if err != nil {
			failed, _ := errors.AsType[*Error](err)
			if failed == nil || failed.Detail == "" || !utf8.ValidString(failed.Detail) {
				t.Fatalf("%#v", err)
			}
			if lines := 1 + strings.Count(strings.ReplaceAll(job.source(failed.Program), "\r", "\n"), "\n"); failed.Line > lines {
				t.Errorf("line %d of %d", failed.Line, lines)
			}
			return
		}
		for name := range r.URLValues {
			if !urlName.MatchString(name) {
				t.Errorf("the URL value %q", name)
			}
		}
		if r.Filtered || transform == "" {
			return
		}
		switch job.Encoding {
		case EncodingJSON:
			if !json.Valid(r.Body) || !utf8.Valid(r.Body) {
				t.Errorf("no JSON: %q", r.Body)
			}
		case EncodingForm:
			if _, err := url.ParseQuery(string(r.Body)); err != nil {
				t.Errorf("no form: %q: %v", r.Body, err)
			}
		case EncodingText:
			if !utf8.Valid(r.Body) {
				t.Errorf("no text: %q", r.Body)
			}
		}
	})
}

// FuzzMessages: what a worker gets and gives is read without a panic, whatever it is.
func FuzzMessages(f *testing.F) {
	job := Job{Programs: Programs{"a", "b", "c", EncodingForm}, Payload: []byte("{}")}
	f.Add(append(appendJob(nil, &job)[4:], "{}"...))
	f.Add(appendAnswer(nil, &job, Result{Body: []byte("x"), URLValues: map[string]string{"a": "b"}, Steps: 300}, nil)[4:])
	f.Add(appendAnswer(nil, &job, Result{}, &Error{"filter", 1, 2, "x"})[4:])
	f.Fuzz(func(t *testing.T, message []byte) {
		if got, err := parseJob(message); err == nil {
			again, err := parseJob(append(appendJob(nil, &got)[4:], got.Payload...))
			if err != nil || again.Programs != got.Programs || string(again.Payload) != string(got.Payload) {
				t.Errorf("%v became %v, %v", got, again, err)
			}
		}
		parseAnswer(message, &job)
	})
}
