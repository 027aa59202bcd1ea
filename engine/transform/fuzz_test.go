package transform

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"reflect"
	"slices"
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
	f.Add(groupMessage(job.Programs, []byte("{}")))
	f.Add(groupMessage(job.Programs, []byte("{}"), nil, []byte(`{"a":1}`)))
	f.Add(appendAnswer(nil, &job, Result{Body: []byte("x"), URLValues: map[string]string{"a": "b"}, Steps: 300}, nil)[4:])
	f.Add(appendAnswer(nil, &job, Result{}, &Error{"filter", 1, 2, "x"})[4:])
	f.Fuzz(func(t *testing.T, message []byte) {
		if programs, payloads, err := parseGroup(message, &Programs{}, nil); err == nil && len(payloads) > 0 {
			again, read, err := parseGroup(groupMessage(programs, payloads...), &Programs{Filter: programs.Filter}, nil)
			if err != nil || again != programs || !slices.EqualFunc(payloads, read, bytes.Equal) {
				t.Errorf("%v with %q became %v with %q, %v", programs, payloads, again, read, err)
			}
		}
		parseAnswer(message, &job)
	})
}

// groupMessage is the message of jobs, without its length.
func groupMessage(programs Programs, payloads ...[]byte) []byte {
	var jobs []*Job
	for _, payload := range payloads {
		jobs = append(jobs, &Job{Programs: programs, Payload: payload})
	}
	b, payload := appendGroup(nil, jobs)
	return append(b, payload...)[4:]
}

// FuzzDecode: payloads are read as encoding/json reads them.
func FuzzDecode(f *testing.F) {
	payload, err := os.ReadFile(samplePayload)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(payload), hostilePayload, `[]`, ` [ 1 , -2.5e+7 , {"a" : [ ] , "a" : { } } , null,true,false ] `, `"\"\\\u00e9\ud83d\ude00\ud800"`, "\"\xff\"", `{"a":1}x`, `12345678901234567890`, ``} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var want any
		valid := d.Decode(&want) == nil
		if valid {
			_, err := d.Token()
			valid = errors.Is(err, io.EOF)
		}
		got, failed := decode([]byte(text))
		if (failed == nil) != valid || failed == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %#v, %v, by encoding/json %#v", text, got, failed, want)
		}
	})
}
