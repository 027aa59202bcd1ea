package transform_test

import (
	"errors"
	"testing"

	"hookbolt/engine/transform"
)

func TestEval(t *testing.T) {
	const payload = `{"n":9007199254740993,"big":18446744073709551615,"zero":-0,"huge":1e400,"tenth":0.1,"s":"<&>\u2028","l":[1],"no":null}`
	for _, c := range []struct {
		name     string
		programs transform.Programs
		want     string // the body; "" if filtered
		wantErr  string
	}{
		{"no program", transform.Programs{}, payload, ""},
		{"filter true", transform.Programs{Filter: ".n > 1"}, payload, ""},
		{"filter false", transform.Programs{Filter: "false"}, "", ""},
		{"filter null", transform.Programs{Filter: ".no"}, "", ""},
		{"filter empty", transform.Programs{Filter: "empty"}, "", ""},
		{"filter zero passes", transform.Programs{Filter: "0"}, payload, ""},
		{"identity", transform.Programs{Transform: "."},
			`{"big":18446744073709551615,"huge":1e400,"l":[1],"n":9007199254740993,"no":null,"s":"<&>` + "\u2028" + `","tenth":0.1,"zero":-0}`, ""},
		{"null is a body", transform.Programs{Transform: "null"}, "null", ""},
		{"no output", transform.Programs{Transform: "select(false)"}, "", ""},
		{"hash", transform.Programs{Transform: `"abc" | [md5, sha1, sha256, hmac_sha256("k")]`},
			`["900150983cd24fb0d6963f7d28e17f72","a9993e364706816aba3e25717850c26c9cd0d89d","ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","342e519ce0ad6c03a36b98eeb3f1d130db4813b9df4d1160eda488d712dc78ee"]`, ""},
		{"form", transform.Programs{Transform: `{b: [1, null, "x y"], a: null, c: true}`, Encoding: transform.EncodingForm}, "b=1&b=x+y&c=true", ""},
		{"text", transform.Programs{Transform: `"a<b"`, Encoding: transform.EncodingText}, "a<b", ""},
		{"text wants a string", transform.Programs{Transform: `{}`, Encoding: transform.EncodingText}, "", "transform"},
		{"syntax", transform.Programs{Filter: ".a ||"}, "", "filter"},
		{"panic", transform.Programs{Filter: "0[]"}, "", "filter"},
		{"url null", transform.Programs{URLValues: "{id: null}"}, "", "url_values"},
		{"infinite", transform.Programs{Filter: "def f: f; f"}, "", "filter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := transform.Eval(transform.Job{Programs: c.programs, Payload: []byte(payload)})
			if failed, _ := errors.AsType[*transform.Error](err); failed == nil && (err != nil || c.wantErr != "") || failed != nil && failed.Program != c.wantErr {
				t.Fatalf("error %v, want one of %q", err, c.wantErr)
			}
			if string(got.Body) != c.want || got.Filtered != (c.want == "" && c.wantErr == "") {
				t.Errorf("got filtered %t, %s\nwant %s", got.Filtered, got.Body, c.want)
			}
		})
	}
}
