package transform

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// What was reported of others does not happen here. Each case names the report.
func TestReports(t *testing.T) {
	pool := NewPool(Options{})
	defer pool.Close()
	for _, c := range []struct {
		report, program string
		want            string // the body; "" means an error
		detail          string
	}{
		{"itchyny/gojq#291: a panic", `0[]`, "", "[] needs an array"},
		{"itchyny/gojq#298: memory without bound", `[range(10000000)]`, "", ""},
		{"itchyny/gojq#298: memory without bound, before a deadline", `def f: [f]; f`, "", ""},
		{"itchyny/gojq#85: the process is killed", `reduce range(1; 6667) as $i ({p: [1]}; .p[$i] = ([.p[]] | add))`, "", ""},
		{"dop251/goja#645: one huge string", `"x" * (1024 * 1024 * 1024 * 1024)`, "", "too large"},
		{"n8n-io/n8n#7080: an endless loop ends the server", `def f: if 1 == 1 then f else . end; f`, "", "steps"},
		{"n8n-io/n8n#28222: a regular expression that backtracks", `("a" * 30 + "!") | test("^(a+)+$")`, "false", ""},
		{"n8n-io/n8n#28222: JSON that is deep", `("[" * 1000000) | fromjson`, "", "depth"},
		{"vectordotdev/vrl#243: a chain of negations overflows the stack", `.n | ` + strings.Repeat("-", 16001) + "(.)", "-1", ""},
		{"vectordotdev/vector#13616: a chain of nots", `.n` + strings.Repeat("|not", 1248), "true", ""},
		{"vectordotdev/vector#14336: a walk into what it makes", `def w: map_values({c: {d: true}} | w); {a: {b: true}} | w`, "", ""},
		{"vectordotdev/vector#17217: a function of strings on null ends the process", `.nope | downcase | gsub("a"; "b")`, "", "default"},
		{"evcc-io/evcc#33028: halt is no end", `halt`, "", "halt"},
		{"jqlang/jq#1117, jqlang/jq#2224: times with fractions", `"2016-03-17T17:06:59.764Z", "x" | fromdate`, "1458234419", ""},
		{"jqlang/jq#1117: whole seconds", `"2020-12-11T01:00:52.605001Z" | fromdate`, "1607648452", ""},
		{"prometheus/alertmanager#4215: a list without a trailing comma, with conditions", `[(if .n then 1 else empty end), (if .nope then 2 else empty end)]`, "[1]", ""},
		{"hasura/graphql-engine#7063: a quotation mark in a value", `{a: "\(.s)"}`, `{"a":"say \"hi\"\n"}`, ""},
	} {
		began := time.Now()
		r, err := pool.Run(t.Context(), Job{Programs: Programs{Transform: c.program}, Payload: []byte(`{"n":1,"s":"say \"hi\"\n"}`)})
		failed, _ := errors.AsType[*Error](err)
		if string(r.Body) != c.want || (failed != nil) != (c.want == "") || failed != nil && !strings.Contains(failed.Detail, c.detail) {
			t.Errorf("%s: got %.100s, %v", c.report, r.Body, err)
		}
		t.Logf("%s: %s, %v", c.report, time.Since(began).Round(time.Millisecond), err)
	}
}
