package jsonread_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
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
	Any     anyInteger      `json:"any"`
	Rounded roundedInteger  `json:"rounded"`
	Either  textOrNumber    `json:"either"`
	Flag    anyBool         `json:"flag"`
	Time    anyTime         `json:"time"`
	UUID    uuid.UUID       `json:"uuid"`
	List    []int64         `json:"list"`
	Object  *sample         `json:"object"`
	Raw     json.RawMessage `json:"raw"`
}

func (s *sample) member(r *jsonread.Reader, key []byte) bool {
	name := string(key)
	if !slices.Contains([]string{"text", "bool", "integer", "decimal", "any", "rounded", "either", "flag", "time", "uuid", "list", "object", "raw"}, name) {
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
	case "any":
		s.Any = anyInteger(r.AnyInteger())
	case "rounded":
		s.Rounded = roundedInteger(r.RoundedInteger())
	case "either":
		s.Either = textOrNumber(r.TextOrNumber())
	case "flag":
		s.Flag = anyBool(r.AnyBool())
	case "time":
		s.Time = anyTime{r.Time()}
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
	at := func(text string) anyTime {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return anyTime{at.UTC()}
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
		{"\ufeff{}", sample{}},
		{"\ufeff \n{\"text\":\"\ufeff\"}", sample{Text: "\ufeff"}}, // one within a text is text
		{`{"text":"\ud83e","either":"\udd8a x"}`, sample{Text: "\ufffd", Either: "\ufffd x"}},
		{`{"text":"a\ud83e\u0041\ud83e\n\udd8a\ud83e"}`, sample{Text: "a\ufffdA\ufffd\n\ufffd\ufffd"}},
		{`{"text":"\ud83e\ud83e\udd8a\udd8a"}`, sample{Text: "\ufffd🦊\ufffd"}}, // a whole pair between two halves
		{`{"any":"9007199254740993","rounded":"-9007199254740993"}`, sample{Any: 9007199254740993, Rounded: -9007199254740993}},
		{`{"any":"-9223372036854775808","rounded":"9223372036854775807"}`, sample{Any: -9223372036854775808, Rounded: 9223372036854775807}},
		{`{"any":"0","rounded":"-0"}`, sample{}},
		{`{"any":9007199254740993.000,"rounded":1e3}`, sample{Any: 9007199254740993, Rounded: 1000}},
		{`{"any":-9.223372036854775808E+18,"rounded":-9223372036854775808.0}`, sample{Any: -9223372036854775808, Rounded: -9223372036854775808}},
		{`{"any":1200e-2,"rounded":0.0000005e+7}`, sample{Any: 12, Rounded: 5}},
		{`{"any":0e999999999999999999999,"rounded":-0.00}`, sample{}},
		{`{"rounded":9499.999999999999}`, sample{Rounded: 9500}},
		{`{"rounded":12345.5}`, sample{Rounded: 12346}},
		{`{"rounded":-12345.5}`, sample{Rounded: -12346}},
		{`{"rounded":12345.49999999999999999999}`, sample{Rounded: 12345}}, // as a float64 it would be 12345.5
		{`{"rounded":9223372036854775807.4}`, sample{Rounded: 9223372036854775807}},
		{`{"rounded":0.5}`, sample{Rounded: 1}},
		{`{"rounded":0.05}`, sample{}},
		{`{"rounded":5e-999999999999999999999}`, sample{}},
		{`{"rounded":"12345.5"}`, sample{Rounded: 12346}},
		{`{"rounded":"-1.2e3"}`, sample{Rounded: -1200}},
		{`{"flag":true}`, sample{Flag: true}},
		{`{"flag":1}`, sample{Flag: true}},
		{`{"flag":"1"}`, sample{Flag: true}},
		{`{"flag":"true"}`, sample{Flag: true}},
		{`{"flag":"\u006fn"}`, sample{Flag: true}},
		{`{"flag":false}`, sample{}},
		{`{"flag":0}`, sample{}},
		{`{"flag":"0"}`, sample{}},
		{`{"flag":"false"}`, sample{}},
		{`{"flag":"off"}`, sample{}},
		{`{"either":"12"}`, sample{Either: "12"}},
		{`{"either": -12.50e+01 }`, sample{Either: "-12.50e+01"}},
		{`{"time":"2024-01-23t11:59:33z"}`, sample{Time: at("2024-01-23T11:59:33Z")}},
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
		{"a second byte order mark", "\ufeff\ufeff{}", "", "malformed JSON at byte 4 (line 1, column 1)"},
		{"byte order mark after a space", " \ufeff{}", "", "malformed JSON at byte 2"},
		{"a place after a byte order mark", "\ufeff{]", "", "malformed JSON at byte 5 (line 1, column 2): unexpected ']'"},
		{"byte order mark of UTF-16", "\xff\xfe{\x00}\x00", "", "malformed JSON at byte 1 (line 1, column 1): the text is not valid UTF-8"},
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
		{"high surrogate before half an escape", `{"text":"\ud83e\u00"}`, "", "four hex digits"},
		{"surrogate in a key", `{"\udd8a":1}`, "\ufffd", "unknown field"},
		{"surrogate in a known key", `{"text\ud83e":1}`, "text\ufffd", "unknown field"},
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

		{"any integer with a fraction", `{"any":1.5}`, "any", "must be a whole number (got 1.5)"},
		{"any integer with a small fraction", `{"any":1e-999999999999999999999}`, "any", "must be a whole number"},
		{"any integer beyond 64 bits", `{"any":9223372036854775808}`, "any", "must be a 64-bit integer"},
		{"any integer beyond 64 bits, by its exponent", `{"any":1e19}`, "any", "must be a 64-bit integer"},
		{"any integer far beyond 64 bits", `{"any":1e999999999999999999999}`, "any", "must be a 64-bit integer"},
		{"rounded beyond 64 bits", `{"rounded":9223372036854775807.5}`, "rounded", "must be a 64-bit integer"},
		{"rounded beyond 64 bits, negative", `{"rounded":-9223372036854775808.5}`, "rounded", "must be a 64-bit integer"},
		{"digits beyond 64 bits", `{"any":"9223372036854775808"}`, "any", "must be a 64-bit integer"},
		{"digits with a space", `{"any":"1 "}`, "any", `must be an integer, or its decimal digits as a string (got "1 ")`},
		{"digits with a plus", `{"any":"+1"}`, "any", "must be an integer"},
		{"digits with a leading zero", `{"any":"007"}`, "any", "must be an integer"},
		{"digits with a leading zero, negative", `{"any":"-07"}`, "any", "must be an integer"},
		{"digits with a fraction", `{"any":"1.0"}`, "any", "must be an integer"},
		{"a number with a unit", `{"rounded":"1.0s"}`, "rounded", "must be an integer"},
		{"a number with a space", `{"rounded":"1.5 "}`, "rounded", "must be an integer"},
		{"a number with a leading zero", `{"rounded":"01.5"}`, "rounded", "must be an integer"},
		{"a number beyond 64 bits, as a string", `{"rounded":"1e30"}`, "rounded", "must be a 64-bit integer"},
		{"a word for true", `{"flag":"yes"}`, "flag", `must be true or false, 1 or 0, on or off (got "yes")`},
		{"a number for true", `{"flag":1.0}`, "flag", `on or off (got "1.0")`},
		{"a list for true", `{"flag":[true]}`, "flag", "must be true or false (got a list)"},
		{"digits with an exponent", `{"any":"1e3"}`, "any", "must be an integer"},
		{"digits of another script", `{"any":"１２"}`, "any", "must be an integer"},
		{"no digits", `{"any":""}`, "any", "must be an integer"},
		{"a sign alone", `{"any":"-"}`, "any", "must be an integer"},
		{"any integer that is null", `{"list":[],"any":[null]}`, "any", "must be an integer (got a list)"},
		{"half a number", `{"either":1.}`, "", "a digit expected"},
		{"neither text nor number", `{"either":true}`, "either", "must be a string (got true or false)"},

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
		{"another letter for the T", `{"time":"2025-06-01_12:00:00Z"}`, "time", "must be an RFC 3339 time"},
		{"second 61", `{"time":"2016-12-31T23:59:61Z"}`, "time", "must be an RFC 3339 time"},
		{"a leap second beyond four digits of a year", `{"time":"9999-12-31T23:59:60Z"}`, "time", "must lie in the years 0 to 9999"},
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

		"2025-06-01t12:00:00z":                  time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC),
		"2025-06-01T12:00:00z":                  time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC),
		"2025-06-01 12:00:00.5+00:00":           time.Date(2025, 6, 1, 12, 0, 0, 500_000_000, time.UTC), // Python's str
		"2025-06-01T12:00:00-00:00":             time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC),           // an unknown zone
		"1990-12-31T23:59:60Z":                  time.Date(1991, 1, 1, 0, 0, 0, 0, time.UTC),
		"1990-12-31T15:59:60-08:00":             time.Date(1991, 1, 1, 0, 0, 0, 0, time.UTC),
		"2016-12-31T23:59:60.75Z":               time.Date(2017, 1, 1, 0, 0, 0, 750_000_000, time.UTC),
		"2017-01-01T05:29:60+05:30":             time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC),
		"2025-06-01T12:34:60Z":                  time.Date(2025, 6, 1, 12, 35, 0, 0, time.UTC),
		"1937-01-01T12:00:27.87+00:20":          time.Date(1937, 1, 1, 11, 40, 27, 870_000_000, time.UTC),
		"2025-06-01T12:00:00.1Z":                time.Date(2025, 6, 1, 12, 0, 0, 100_000_000, time.UTC),
		"2025-06-01T12:00:00.1234567899999999Z": time.Date(2025, 6, 1, 12, 0, 0, 123456789, time.UTC), // cut, not rounded
		"2024-02-29T00:00:00Z":                  time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		"0000-02-29T00:00:00Z":                  time.Date(0, 2, 29, 0, 0, 0, 0, time.UTC),
		"2025-06-01T12:00:00.Z":                 {},
		"2025-06-01T12:00:00.+00:00":            {},
		"2025-06-01T12:00:00.1":                 {},
		"2025-06-01T12:00:00Zz":                 {},
		"2025-06-01T12:00:00UTC":                {},
		"2025-06-01T12:00:00+0000":              {},
		"2025-06-01T12:00:00+00":                {},
		"2025-06-01T12:00:00 00:00":             {}, // a plus that was not escaped in a URL
		"2025-06-01T12:00:00+-1:00":             {},
		"2025-06-01T24:00:00Z":                  {},
		"2025-06-01T12:60:00Z":                  {},
		"2025-00-01T12:00:00Z":                  {},
		"2025-13-01T12:00:00Z":                  {},
		"2025-06-00T12:00:00Z":                  {},
		"2025-06-31T12:00:00Z":                  {},
		"2025-06-01T12:00:-1Z":                  {},
		"+025-06-01T12:00:00Z":                  {},
		"２025-06-01T12:00:00Z":                  {},
		"2025-06-01T12:00:00":                   {},
		"2025-06-01T12:00:00\u22120:00":         {},
		" 2025-06-01T12:00:00Z":                 {},
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
		{"\ufeff1\ufeff", "1@3 end: malformed JSON at byte 5 (line 1, column 2): unexpected '\\ufeff', a value expected"},
		{"\ufeff", ""},
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

func TestWellFormed(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{"a":"b"}`, `{"a":"b"}`},
		{`"\ud83e\udd8a"`, `"\ud83e\udd8a"`},
		{`"\ud83e"`, `"\ufffd"`},
		{`"\uDD8A\uD83E\uD83E\uDD8A\u00e9\ud83e"`, `"\ufffd\ufffd\uD83E\uDD8A\u00e9\ufffd"`},
		{`"\\ud83e\\\ud83e\n\ud83ex"`, `"\\ud83e\\\ufffd\n\ufffdx"`},
		{`{"\ud83e":"\ud83e\\"}`, `{"\ufffd":"\ufffd\\"}`},
	} {
		given := []byte(tt.text)
		if got := jsonread.WellFormed(given); string(got) != tt.want || string(given) != tt.text {
			t.Errorf("%s: got %s, want %s; the input is %s", tt.text, got, tt.want, given)
		}
	}
}

// FuzzParseObject: what is accepted is JSON of which encoding/json, and the types below, read the same; an error is short and is text.
func FuzzParseObject(f *testing.F) {
	for _, body := range []string{
		"", "{}", "[]", "null", "\x00", "\ufeff{}", `{"text":"\ud83e\udd8a\u0000"}`, `{"text":"\ud800"}`, `{"text":"\`, `{"text":"a","text":"b"}`,
		`{"bool":true,"integer":-9223372036854775808,"decimal":-1.5e-7}`, `{"integer":1.0}`, `{"decimal":1e400}`, `{"list":[1,2,{}]}`,
		`{"time":"2024-01-23T14:59:33.5+03:00","uuid":"6CAAA000-2bd8-4b28-8b9b-bfe1fca94f39"}`, `{"object":{"object":{"text":null}},"raw":[{"a":[]}]}`,
		`{"any":"9007199254740993","rounded":-12345.5,"either":1.50}`, `{"any":1e3,"rounded":5e-999999999999,"either":"\ud83e\ud83e\udd8a"}`,
		`{"time":"2016-12-31t23:59:60.0000000000z"}`, `{"time":"2016-12-31 15:59:60-08:00"}`,
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
		if err := json.Unmarshal(bytes.TrimPrefix(body, []byte(jsonread.ByteOrderMark)), &want); err != nil {
			t.Fatalf("accepted, but encoding/json says: %v", err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nencoding/json has %+v", got, want)
		}
		// Well-formed, it reads the same.
		var again sample
		formed := jsonread.WellFormed(body)
		if errs := jsonread.ParseObject(formed, again.member); len(errs) > 0 || len(formed) != len(body) {
			t.Fatalf("%s becomes %s: %v", body, formed, errs)
		}
		again.Raw, got.Raw = nil, nil
		for a, g := &again, &got; a.Object != nil; a, g = a.Object, g.Object {
			a.Object.Raw, g.Object.Raw = nil, nil
		}
		if !reflect.DeepEqual(again, got) || !bytes.Equal(jsonread.WellFormed(formed), formed) {
			t.Fatalf("%s becomes %s\ngot %+v\n was %+v", body, formed, again, got)
		}
	})
}

// What follows reads values a second time, in another way than a Reader does.

type anyInteger int64

func (n *anyInteger) UnmarshalJSON(value []byte) error {
	var text string
	if json.Unmarshal(value, &text) == nil && value[0] == '"' {
		parsed, err := strconv.ParseInt(text, 10, 64)
		if canonical := strconv.FormatInt(parsed, 10); err != nil || text != canonical && text != "-"+canonical {
			return fmt.Errorf("no integer: %s", value)
		}
		*n = anyInteger(parsed)
		return nil
	}
	exact, err := rational(value)
	if err != nil || !exact.IsInt() || !exact.Num().IsInt64() {
		return fmt.Errorf("no integer: %s, %v", value, err)
	}
	*n = anyInteger(exact.Num().Int64())
	return nil
}

type roundedInteger int64

func (n *roundedInteger) UnmarshalJSON(value []byte) error {
	if value[0] == '"' {
		var number json.Number
		if json.Unmarshal(value, &number) != nil || number == "" {
			return fmt.Errorf("no number: %s", value)
		}
		value = []byte(number)
	}
	exact, err := rational(value)
	if err != nil {
		return err
	}
	half := big.NewRat(int64(exact.Sign()), 2)
	exact.Add(exact, half)
	whole := new(big.Int).Quo(exact.Num(), exact.Denom()) // toward zero
	if !whole.IsInt64() {
		return fmt.Errorf("no integer: %s", value)
	}
	*n = roundedInteger(whole.Int64())
	return nil
}

type anyBool bool

func (b *anyBool) UnmarshalJSON(value []byte) error {
	var word any
	if err := json.Unmarshal(value, &word); err != nil {
		return err
	}
	is, ok := map[any]bool{true: true, 1.0: true, "true": true, "1": true, "on": true, false: false, 0.0: false, "false": false, "0": false, "off": false}[word]
	if !ok {
		return fmt.Errorf("neither true nor false: %s", value)
	}
	*b = anyBool(is)
	return nil
}

// rational returns the exact value of a number. An exponent that would take too much memory is cut: of what a Reader accepts, the value is zero
// then, or rounds to it.
func rational(value []byte) (*big.Rat, error) {
	mantissa, exponent, ok := strings.Cut(strings.ToLower(string(value)), "e")
	if shift, err := strconv.Atoi(exponent); ok && (err != nil || shift < -5000 || shift > 5000) {
		if strings.Trim(mantissa, "-0.") != "" && exponent[0] != '-' {
			return nil, fmt.Errorf("too large: %s", value)
		}
		return new(big.Rat), nil
	}
	exact, ok := new(big.Rat).SetString(string(value))
	if !ok {
		return nil, fmt.Errorf("no number: %s", value)
	}
	return exact, nil
}

type textOrNumber string

func (t *textOrNumber) UnmarshalJSON(value []byte) error {
	if value[0] == '"' {
		return json.Unmarshal(value, (*string)(t))
	}
	var number json.Number
	err := json.Unmarshal(value, &number)
	*t = textOrNumber(number)
	return err
}

type anyTime struct{ time.Time }

var timeForm = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d+))?(?:[Zz]|([+-]\d\d:[0-5]\d))$`)

func (t *anyTime) UnmarshalJSON(value []byte) error {
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return err
	}
	parts := timeForm.FindStringSubmatch(text)
	if parts == nil || parts[5] > "+23:59" && parts[5][0] == '+' || parts[5] > "-23:59" {
		return fmt.Errorf("no time: %q", text)
	}
	leap := time.Duration(0)
	if parts[3] == "60" {
		parts[3], leap = "59", time.Second
	}
	nanos := (parts[4] + strings.Repeat("0", 9))[:9]
	at, err := time.Parse(time.RFC3339, parts[1]+"T"+parts[2]+parts[3]+"."+nanos+cmp.Or(parts[5], "Z"))
	if t.Time = at.Add(leap).UTC(); t.IsZero() {
		t.Time = t.Add(1)
	}
	return err
}
