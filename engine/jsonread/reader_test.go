package jsonread_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"hookbolt/engine/jsonread"

	"github.com/google/uuid"
)

// sample has a field of each kind that a Reader reads.
type sample struct {
	Text    string          `json:"text"`
	Bool    bool            `json:"bool"`
	Integer int64           `json:"integer"`
	Decimal float64         `json:"decimal"`
	Time    time.Time       `json:"time"`
	UUID    uuid.UUID       `json:"uuid"`
	List    []int64         `json:"list"`
	Object  *sample         `json:"object"`
	Raw     json.RawMessage `json:"raw"`
}

func (s *sample) member(r *jsonread.Reader, key []byte) bool {
	name := string(key)
	if !slices.Contains([]string{"text", "bool", "integer", "decimal", "time", "uuid", "list", "object", "raw"}, name) {
		return false
	}
	if name != "raw" && r.Null() {
		return true
	}
	switch name {
	case "text":
		s.Text = r.Text()
	case "bool":
		s.Bool = r.Bool()
	case "integer":
		s.Integer = r.Integer()
	case "decimal":
		s.Decimal = r.Decimal()
	case "time":
		s.Time = r.Time()
	case "uuid":
		s.UUID = r.UUID()
	case "list":
		s.List = []int64{}
		r.Array(func(i int) {
			if i != len(s.List) {
				r.Fail("element %d has index %d", len(s.List), i)
			}
			s.List = append(s.List, r.Integer())
		})
	case "object":
		s.Object = new(sample)
		r.Object(func(key []byte) bool { return s.Object.member(r, key) })
	case "raw":
		s.Raw = r.Raw()
	}
	return true
}

func parse(body string) (sample, *jsonread.Error) {
	var s sample
	if errs := jsonread.ParseObject([]byte(body), s.member); len(errs) > 0 {
		return s, errs[0]
	}
	return s, nil
}

func TestParseObject(t *testing.T) {
	at := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return at.UTC()
	}
	for _, tt := range []struct {
		body string
		want sample
	}{
		{`{}`, sample{}},
		{"\r\n\t { } \n", sample{}},
		{`{"text":null,"bool":null,"integer":null,"list":null,"object":null}`, sample{}},
		{`{"text":"\"\\\/\b\f\n\r\t\u0000\u00e9\ud83e\udd8a\ufffd<&>é🦊"}`, sample{Text: "\"\\/\b\f\n\r\t\x00é🦊\ufffd<&>é🦊"}},
		{`{"t\u0065xt":"a","bool" : true}`, sample{Text: "a", Bool: true}},
		{`{"bool":false,"integer":-9223372036854775808}`, sample{Integer: -9223372036854775808}},
		{`{"integer":9223372036854775807,"decimal":-0.5e-1}`, sample{Integer: 9223372036854775807, Decimal: -0.05}},
		{`{"integer":-0,"decimal":10}`, sample{Decimal: 10}},
		{`{"list":[ ]}`, sample{List: []int64{}}},
		{`{"list":[1 , 2,3]}`, sample{List: []int64{1, 2, 3}}},
		{`{"object":{"object":{"integer":1},"text":""}}`, sample{Object: &sample{Object: &sample{Integer: 1}}}},
		{`{"uuid":"6CAAA000-2bd8-4b28-8b9b-bfe1fca94f39"}`, sample{UUID: uuid.MustParse("6caaa000-2bd8-4b28-8b9b-bfe1fca94f39")}},
		{`{"time":"2024-01-23T14:59:33.123456789+03:00"}`, sample{Time: at("2024-01-23T11:59:33.123456789Z")}},
		{`{"time":"2025-05-31T12:00:00.2412Z"}`, sample{Time: at("2025-05-31T12:00:00.2412Z")}}, // begins as a zone of 24 hours would
		{`{"time":"2025-05-31T12:00:00-23:59"}`, sample{Time: at("2025-06-01T11:59:00Z")}},
		{`{"raw": [{"y":[1,"z",null,true,false,-1.5e+3]}] }`,
			sample{Raw: json.RawMessage(`[{"y":[1,"z",null,true,false,-1.5e+3]}]`)}},
	} {
		got, err := parse(tt.body)
		if err != nil {
			t.Errorf("%s: %v", tt.body, err)
		} else if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s\n got %+v\nwant %+v", tt.body, got, tt.want)
		}
	}
}

func TestParseObjectRefuses(t *testing.T) {
	for _, tt := range []struct{ name, body, field, detail string }{
		// The structure.
		{"empty", "", "", "malformed JSON at byte 1 (line 1, column 1): the body ends too early"},
		{"white space", " \n ", "", "malformed JSON at byte 4 (line 2, column 2): the body ends too early"},
		{"no object", `[]`, "", "must be an object (got a list)"},
		{"null", `null`, "", "must be an object (got null)"},
		{"two objects", `{}{}`, "", "unexpected '{', the end of the body after one object expected"},
		{"NUL behind", "{}\x00", "", `unexpected '\x00'`},
		{"byte order mark", "\ufeff{}", "", "malformed JSON at byte 1"},
		{"key without quotes", `{text:"start"}`, "", "a key in double quotes expected"},
		{"single quotes", `{'text':'start'}`, "", "a key in double quotes expected"},
		{"comma at the end of an object", `{"text":"a",}`, "", "a key in double quotes expected"},
		{"comma at the end of a list", `{"list":[1,]}`, "", "unexpected ']'"},
		{"no comma in an object", `{"text":"a" "bool":true}`, "", "a comma or a closing brace expected"},
		{"no comma in a list", `{"list":[1 2]}`, "", "a comma or a closing bracket expected"},
		{"no colon", `{"text" "start"}`, "", "a colon expected"},
		{"no value", `{"text":}`, "", "a value expected"},
		{"open object", `{"text":"a"`, "", "ends too early"},
		{"open list", `{"list":[1`, "", "ends too early"},
		{"half a literal", `{"text":nul}`, "", "a value expected"},
		{"NaN", `{"integer":NaN}`, "", "a value expected"},
		{"comment", `{"text":"a"// more` + "\n}", "", "unexpected '/'"},
		{"the place by line and column", "{\"text\":\"a\",\n\"integer\": ü}", "", "at byte 25 (line 2, column 12): unexpected 'ü'"},
		{"deep lists", `{"x":` + strings.Repeat("[", 100_000), "", "nested deeper than 32 levels"},
		{"deep objects", strings.Repeat(`{"a":`, 100_000), "", "nested deeper than 32 levels"},
		{"deep list in a known field", `{"list":` + strings.Repeat("[", 100_000), "", "nested deeper than 32 levels"},

		// Text.
		{"invalid UTF-8", "{\"text\":\"start\xff\"}", "", "malformed JSON at byte 15 (line 1, column 15): the text is not valid UTF-8"},
		{"UTF-8 of a surrogate", "{\"text\":\"\xed\xa0\x80\"}", "", "not valid UTF-8"},
		{"overlong UTF-8", "{\"text\":\"\xc0\x80\"}", "", "not valid UTF-8"},
		{"high surrogate alone", `{"text":"\ud83e"}`, "", "half of a surrogate pair"},
		{"low surrogate alone", `{"text":"\udd8a x"}`, "", "half of a surrogate pair"},
		{"high surrogate before a letter", `{"text":"\ud83e\u0041"}`, "", "half of a surrogate pair"},
		{"high surrogate before half an escape", `{"text":"\ud83e\u00"}`, "", "four hex digits"},
		{"two high surrogates", `{"text":"\ud83e\ud83e"}`, "", "half of a surrogate pair"},
		{"surrogate in a key", `{"\udd8a":1}`, "", "half of a surrogate pair"},
		{"short escape", `{"text":"\u12"}`, "", "four hex digits"},
		{"escape with a sign", `{"text":"\u+123"}`, "", "four hex digits"},
		{"unknown escape", `{"text":"\x41"}`, "", `unknown escape \x`},
		{"line feed in a string", "{\"text\":\"a\nb\"}", "", "control character 0x0a"},
		{"tab after an escape", "{\"text\":\"\\n\tb\"}", "", "control character 0x09"},
		{"NUL in a string", "{\"text\":\"\x00\"}", "", "control character 0x00"},
		{"open string", `{"text":"start`, "", "at byte 15 (line 1, column 15): a string is not closed"},
		{"open string after an escape", `{"text":"\"`, "", "a string is not closed"},
		{"backslash at the end", `{"text":"\`, "", "at byte 10 (line 1, column 10): a string is not closed"},

		// Numbers.
		{"beyond 64 bits", `{"integer":9223372036854775808}`, "integer", "must be a 64-bit integer"},
		{"beyond 64 bits, negative", `{"integer":-9223372036854775809}`, "integer", "must be a 64-bit integer"},
		{"far beyond 64 bits", `{"integer":` + strings.Repeat("9", 500) + `}`, "integer", "must be a 64-bit integer"},
		{"beyond a float", `{"decimal":1e999}`, "decimal", "is too large a number (got 1e999)"},
		{"fraction", `{"integer":1.5}`, "integer", "without fraction or exponent (got 1.5)"},
		{"whole fraction", `{"integer":1.0}`, "integer", "without fraction"},
		{"exponent", `{"integer":1e3}`, "integer", "without fraction or exponent"},
		{"leading zero", `{"integer":012}`, "", "must not begin with 0"},
		{"plus", `{"integer":+1}`, "", "unexpected '+'"},
		{"only a sign", `{"integer":-}`, "", "a digit expected"},
		{"no digit after the point", `{"integer":1.}`, "", "a digit expected"},
		{"no digit in the exponent", `{"integer":1e+}`, "", "a digit expected"},
		{"hexadecimal", `{"integer":0x10}`, "", "unexpected 'x'"},

		// Keys.
		{"unknown field", `{"name":1}`, "name", "unknown field"},
		{"unknown field with null", `{"nme":null}`, "nme", "unknown field"},
		{"unknown field with a deep value", `{"x":[{"y":[1,"z",null,true,false,-1.5e+3]}]}`, "x", "unknown field"},
		{"another case", `{"text":"a","TEXT":"x"}`, "TEXT", "unknown field"},
		{"a long key", `{"` + strings.Repeat("ü", 100) + `":1}`, strings.Repeat("ü", 20) + "…", "unknown field"},
		{"the key twice", `{"text":"a","text":"a"}`, "text", "stands twice"},
		{"the key twice, escaped", `{"text":"a","te\u0078t":"b"}`, "text", "stands twice"},
		{"the key twice, with null", `{"text":null,"text":null}`, "text", "stands twice"},
		{"the key twice, nested", `{"object":{"text":"a","text":"b"}}`, "object.text", "stands twice"},
		{"nested unknown field", `{"object":{"object":{"x":1}}}`, "object.object.x", "unknown field"},
		{"the first of two faults", `{"integer":"1","x":2}`, "integer", "must be an integer"},

		// Kinds.
		{"text", `{"text":1}`, "text", "must be a string (got a number)"},
		{"bool", `{"bool":"true"}`, "bool", "must be true or false (got a string)"},
		{"integer", `{"integer":true}`, "integer", "must be an integer (got true or false)"},
		{"decimal", `{"decimal":"1"}`, "decimal", "must be a number (got a string)"},
		{"list", `{"list":{"a":1}}`, "list", "must be a list (got an object)"},
		{"element", `{"list":[1,null]}`, "list[1]", "must be an integer (got null)"},
		{"object", `{"object":[]}`, "object", "must be an object (got a list)"},

		// UUIDs.
		{"UUID as a number", `{"uuid":12}`, "uuid", "must be a string (got a number)"},
		{"UUID in braces", `{"uuid":"{22ffdf18-1035-4e56-baa2-8327e3af5242}"}`, "uuid", "UUID of 36 characters"},
		{"UUID as a URN", `{"uuid":"urn:uuid:22ffdf18-1035-4e56-baa2-8327e3af5242"}`, "uuid", "UUID of 36 characters"},
		{"UUID of 32 digits", `{"uuid":"22ffdf1810354e56baa28327e3af5242"}`, "uuid", "UUID of 36 characters"},
		{"UUID of other signs", `{"uuid":"22ffdf18-1035-4e56-baa2-8327e3af524g"}`, "uuid", "UUID of 36 characters"},
		{"UUID with hyphens elsewhere", `{"uuid":"22ffdf181-035-4e56-baa2-8327e3af5242"}`, "uuid", "UUID of 36 characters"},
		{"UUID with a space", `{"uuid":"22ffdf18-1035-4e56-baa2-8327e3af5242 "}`, "uuid", "UUID of 36 characters"},
		{"UUID of zeros", `{"uuid":"00000000-0000-0000-0000-000000000000"}`, "uuid", "UUID of 36 characters"},
		{"empty UUID", `{"uuid":""}`, "uuid", "UUID of 36 characters"},

		// Times.
		{"a date", `{"time":"2025-06-01"}`, "time", "must be an RFC 3339 time"},
		{"no time", `{"time":""}`, "time", "must be an RFC 3339 time"},
		{"no zone", `{"time":"2025-06-01T12:00:00"}`, "time", "must be an RFC 3339 time"},
		{"a space for the T", `{"time":"2025-06-01 12:00:00Z"}`, "time", "must be an RFC 3339 time"},
		{"no such day", `{"time":"2025-02-29T12:00:00Z"}`, "time", "must be an RFC 3339 time"},
		{"one digit", `{"time":"2025-06-01T9:00:00Z"}`, "time", "must be an RFC 3339 time"},
		{"a comma", `{"time":"2025-06-01T12:00:00,5Z"}`, "time", "must be an RFC 3339 time"},
		{"zone out of range", `{"time":"2025-06-01T12:00:00+25:00"}`, "time", "must be an RFC 3339 time"},
		{"zone of 24 hours", `{"time":"2025-05-31T12:00:00-24:00"}`, "time", "must be an RFC 3339 time"},
		{"zone of 60 minutes", `{"time":"2025-05-31T12:00:00-01:60"}`, "time", "must be an RFC 3339 time"},
		{"a year beyond four digits by its zone", `{"time":"9999-12-31T23:59:59-01:00"}`, "time", "must lie in the years 0 to 9999"},
		{"a Unix second", `{"time":1748779200}`, "time", "must be a string (got a number)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(tt.body)
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Field != tt.field || !strings.Contains(err.Detail, tt.detail) {
				t.Errorf("got %q, %q\nwant %q, …%s…", err.Field, err.Detail, tt.field, tt.detail)
			}
			if len(err.Detail) > 400 {
				t.Errorf("the detail repeats too much of the input: %d bytes", len(err.Detail))
			}
		})
	}
}

// TestTimes: the zero time stands for a time that was not given, so no time that was given may be it.
func TestTimes(t *testing.T) {
	for s, want := range map[string]time.Time{
		"2025-06-01T12:00:00+02:00":          time.Date(2025, 6, 1, 10, 0, 0, 0, time.UTC),
		"2025-06-01T12:00:00.123456789Z":     time.Date(2025, 6, 1, 12, 0, 0, 123456789, time.UTC),
		"0001-01-01T00:00:00Z":               time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		"0001-01-01T01:00:00+01:00":          time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		"0000-12-31T23:59:59.999999999Z":     time.Date(0, 12, 31, 23, 59, 59, 999999999, time.UTC),
		"0001-01-01T00:00:00.000000001Z":     time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		"0001-01-01T00:00:00.0000000001Z":    time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		"9999-12-31T23:59:59.999999999+00:0": {},
	} {
		got, err := jsonread.ParseTime(s)
		if !got.Equal(want) || got.IsZero() != (err != nil) {
			t.Errorf("%s: %v, %v; want %v", s, got, err, want)
		}
	}
}

// TestSequence reads integers, each with its offset, from whatever form a sequence may have.
func TestSequence(t *testing.T) {
	for _, tt := range []struct{ input, want string }{
		{"", ""},
		{" \n", ""},
		{"[]", ""},
		{"1", "1@0"},
		{"1\n2\r\n\r\n 3", "1@0 2@2 3@8"},
		{"[1, 2][][3]4", "1@1 2@4 3@9 4@11"},
		{`1["a",2]x`, `1@0 wrong: : must be an integer (got a string) 2@6 end: malformed JSON at byte 9 (line 1, column 9): unexpected 'x', a value expected`},
		{`[{"a":1},[2]]`, "wrong: : must be an integer (got an object) wrong: : must be an integer (got a list)"},
		{"1[2", "1@0 2@2 end: malformed JSON at byte 4 (line 1, column 4): the body ends too early, a comma or a closing bracket expected"},
		{"1\xff", "end: malformed JSON at byte 2 (line 1, column 2): the text is not valid UTF-8"},
		{"1 2 9 3", "1@0 2@2 9@4"}, // the test stops at 9
	} {
		r := jsonread.New([]byte(tt.input))
		var got []string
		r.Sequence(func() {
			r.Peek()
			at := r.Offset()
			n := r.Integer()
			if r.Ended() {
				return
			}
			if wrong := r.TakeError(); wrong != nil {
				got = append(got, fmt.Sprintf("wrong: %s: %s", wrong.Field, wrong.Detail))
				return
			}
			got = append(got, fmt.Sprintf("%d@%d", n, at))
			if n == 9 {
				r.Stop()
			}
		})
		if err := r.Malformed(); err != nil {
			got = append(got, "end: "+err.Error())
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%q\n got %s\nwant %s", tt.input, s, tt.want)
		}
	}
}

// TestParseObjectNamesAll: each wrong member is named once, by the first that is wrong with it; malformed JSON is the only error.
func TestParseObjectNamesAll(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{`{"text":1,"bool":true,"list":[1,"a",2,"b"],"Text":"a","text":"b","integer":1e3}`,
			"text: must be a string (got a number); list[1]: must be an integer (got a string); Text: unknown field; text: the key stands twice in the same object; " +
				"integer: must be an integer, written without fraction or exponent (got 1e3)"},
		{`{"text":1,"bool":2} x`, "malformed JSON at byte 21 (line 1, column 21): unexpected 'x', the end of the body after one object expected"},
		{`{"text":1,"bool":`, "malformed JSON at byte 18 (line 1, column 18): the body ends too early, a value expected"},
		{`7`, "must be an object (got a number)"},
	} {
		var s sample
		var got []string
		for _, err := range jsonread.ParseObject([]byte(tt.body), s.member) {
			got = append(got, err.Error())
		}
		if got := strings.Join(got, "; "); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.body, got, tt.want)
		}
	}
	body := "{" + strings.Repeat(`"x":0,`, 1000) + `"y":1}`
	if errs := jsonread.ParseObject([]byte(body), func(*jsonread.Reader, []byte) bool { return false }); len(errs) != 100 {
		t.Errorf("%d errors of 1001 unknown fields", len(errs))
	}
}

func TestFailAt(t *testing.T) {
	r := jsonread.New([]byte(`[{"a":[0,{}]}]`))
	r.Array(func(int) {
		r.Object(func([]byte) bool {
			r.Array(func(i int) {
				if i == 0 {
					r.Skip()
					return
				}
				r.Object(func([]byte) bool { return true })
				r.FailAt("b", "is required: %d", 1)
				r.Fail("is dropped: not the first")
			})
			return true
		})
	})
	if !r.Failed() {
		t.Fatal("nothing is recorded")
	}
	if err := r.TakeError(); err.Error() != "[0].a[1].b: is required: 1" || r.Failed() || r.TakeError() != nil {
		t.Errorf("got %v", err)
	}
}

func TestExcerpt(t *testing.T) {
	long := "a" + strings.Repeat("ü", 20)
	for _, tt := range []struct{ text, want string }{
		{"", ""}, {"short", "short"}, {strings.Repeat("x", 40), strings.Repeat("x", 40)}, {strings.Repeat("x", 41), strings.Repeat("x", 40) + "…"},
		{long, "a" + strings.Repeat("ü", 19) + "…"},
	} {
		if got := jsonread.Excerpt(tt.text); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

// FuzzParseObject: what is accepted is JSON of which encoding/json reads the same; an error is short and is text.
func FuzzParseObject(f *testing.F) {
	for _, body := range []string{
		"", "{}", "[]", "null", "\x00", "\ufeff{}", `{"text":"\ud83e\udd8a\u0000"}`, `{"text":"\ud800"}`, `{"text":"\`, `{"text":"a","text":"b"}`,
		`{"bool":true,"integer":-9223372036854775808,"decimal":-1.5e-7}`, `{"integer":1.0}`, `{"decimal":1e400}`, `{"list":[1,2,{}]}`,
		`{"time":"2024-01-23T14:59:33.5+03:00","uuid":"6CAAA000-2bd8-4b28-8b9b-bfe1fca94f39"}`, `{"object":{"object":{"text":null}},"raw":[{"a":[]}]}`,
		`{"x":[[[[]]]]}`, `{"Text":"a"}`, "{\"text\":\"\xff\"}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		given := bytes.Clone(body)
		var got, want sample
		errs := jsonread.ParseObject(body, got.member)
		if !bytes.Equal(body, given) {
			t.Fatal("the input was changed")
		}
		for _, err := range errs {
			if err.Detail == "" || len(err.Detail) > 400 || !utf8.ValidString(err.Field+err.Detail) {
				t.Fatalf("the error is %q, %q", err.Field, err.Detail)
			}
		}
		if len(errs) > 0 {
			return
		}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("accepted, but encoding/json says: %v", err)
		}
		utc(&want)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nencoding/json has %+v", got, want)
		}
	})
}

func utc(s *sample) {
	for ; s != nil; s = s.Object {
		s.Time = s.Time.UTC()
	}
}
