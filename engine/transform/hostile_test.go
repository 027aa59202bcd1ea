package transform

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hostile are programs that hang, eat memory, or ask for what they must not have. Each is to end as an error, if not stated otherwise.
var hostile = []struct {
	name, program string
	harmless      bool   // it may give a result
	detail        string // part of the message, if it matters
}{
	{name: "loop", program: `def f: f; f`, detail: "steps"},
	{name: "loop that grows", program: `def f: [f]; f`},
	{name: "mutual recursion", program: `def f: def g: f; g | .; f`},
	{name: "until", program: `0 | until(false; . + 1)`, detail: "steps"},
	{name: "range", program: `[range(1e12)]`},
	{name: "range of nothing", program: `first(range(1e12) | select(. < 0))`},
	{name: "limit", program: `[limit(1e9; repeat(1))]`},
	{name: "repeat", program: `last(repeat(1))`, detail: "steps"},
	{name: "recurse", program: `[recurse([.])]`},
	{name: "doubling a string", program: `reduce range(64) as $i ("x"; . + .)`},
	{name: "doubling by reference", program: `reduce range(64) as $i ([0]; [., .])`},
	{name: "doubling by reference, to a string", program: `reduce range(64) as $i ([0]; [., .]) | tojson`},
	{name: "a long string", program: `"^" * 78888880`},
	{name: "a long string of a long string", program: `("x" * 1000000) * 2000`},
	{name: "a large regular expression", program: `"a" | test("((a{1,100}){1,10}){1,10}" * 100)`, harmless: true},
	{name: "a slow regular expression", program: `("a" * 3000000) | test("(a?){500}(a?){500}b")`},
	{name: "gsub", program: `("a" * 1000000) | gsub("a"; "bb")`},
	{name: "split", program: `("a" * 50000000) / "" | length`},
	{name: "deep nesting", program: `reduce range(100000) as $i (null; [.])`, detail: "within each other"},
	{name: "deep nesting, compared", program: `reduce range(600000) as $i (null; [.]) | . == (. | map(.))`, harmless: true},
	{name: "deep nesting, to a string", program: `reduce range(600000) as $i (null; [.]) | tojson`},
	{name: "deep nesting from a string", program: `("[" * 10000000) | fromjson`, detail: "depth"},
	{name: "tojson of tojson", program: `reduce range(64) as $i ("\""; tojson)`},
	{name: "tojson and fromjson", program: `def f: tojson | fromjson | f; [range(1000)] | f`, detail: ""},
	{name: "a huge index", program: `.[1000000000] = 1`},
	{name: "a large index", program: `null | .[500000000] = 1`},
	{name: "a path to a large index", program: `null | setpath([500000000]; 1)`},
	{name: "getpath of large indexes", program: `[range(1e9)] | getpath([1e9])`},
	{name: "group_by", program: `[range(1000000) | {a: (. % 7), b: ("x" * 100)}] | group_by(.a) | map(length)`},
	{name: "combinations", program: `[range(9) | [range(10)]] | [combinations] | length`},
	{name: "a large number", program: `reduce range(64) as $i (9007199254740993; . * .)`},
	{name: "a number of many digits", program: `("9" * 50000000) | tonumber`, harmless: true},
	{name: "a year of many digits", program: `[1e300, 0, 0, 0, 0, 0, 0, 0] | mktime | todate`},
	{name: "errors", program: `def f: try error catch f; f`, detail: ""},
	{name: "errors that grow", program: `def f: try error([.]) catch f; "x" | f`},
	{name: "an error of much", program: `error("x" * 10000000)`},
	{name: "an error of depth", program: `error(reduce range(100000) as $i (null; [.]))`},
	{name: "walk", program: `reduce range(30) as $i (1; [., .]) | walk(.) | length`},
	{name: "tostream", program: `reduce range(30) as $i (1; [., .]) | [tostream] | length`},
	{name: "add", program: `[range(100000) | "x" * 1000] | add | length`},
	{name: "a program of many brackets", program: strings.Repeat("[", 8000) + strings.Repeat("]", 8000), detail: "within each other"},
	{name: "a program of many minuses", program: strings.Repeat("-", 16000) + "1", harmless: true},
	{name: "a program of many functions", program: strings.Repeat("def f(g): g|g; f(f(", 400)},
	{name: "functions of functions", program: `def a(f): f|f; def b(f): a(a(a(a(f)))); def c(f): b(b(b(b(f)))); c(c(c(.+1)))`},
	{name: "a panic of the interpreter", program: `0[]`},
	{name: "input", program: `input`, detail: "input"},
	{name: "inputs", program: `[inputs]`, detail: "input"},
	{name: "input_line_number", program: `input_line_number`},
	{name: "input_filename", program: `input_filename`},
	{name: "import", program: `import "a" as a; a::f`},
	{name: "import of data", program: `import "/etc/passwd" as $p; $p`},
	{name: "include", program: `include "a"; .`},
	{name: "modulemeta", program: `"a" | modulemeta`},
	{name: "get_search_list", program: `get_search_list`},
	{name: "the place", program: `$__loc__`},
	{name: "the environment", program: `[env, $ENV] | if . == [{}, {}] then error("nothing there") else . end`, detail: "nothing there"},
	{name: "debug", program: `debug | debug("x") | stderr | error("still here")`, detail: "still here"},
	{name: "halt", program: `halt`},
	{name: "halt_error", program: `"x" | halt_error(3)`},
}

// A program that means harm ends within 2.5 seconds of a processor, with an error that says why, and the parent does not pay for it.
func TestHostilePrograms(t *testing.T) {
	payload, err := os.ReadFile(samplePayload)
	if err != nil {
		t.Fatal(err)
	}
	pool := NewPool(Options{})
	defer pool.Close()
	before := heapInUse()
	var most uint64
	for i, c := range hostile {
		// Let a worker be ready: what a start takes on a busy machine is not the program's.
		if _, err := pool.Run(t.Context(), Job{Programs: Programs{Transform: "."}, Owner: 1000, Payload: payload}); err != nil {
			t.Fatal(err)
		}
		longest := watchLongest(pool)
		result, err := pool.Run(t.Context(), Job{Programs: Programs{Transform: c.program}, Owner: uint32(i), Payload: payload})
		took := longest()
		failed, _ := errors.AsType[*Error](err)
		t.Logf("%s: %s: %v, %d bytes", c.name, took.Round(time.Millisecond), err, len(result.Body))
		switch {
		case took > 2500*time.Millisecond:
			t.Errorf("%s took %s", c.name, took)
		case failed == nil && (err != nil || !c.harmless):
			t.Errorf("%s: got %.100s, %v", c.name, result.Body, err)
		case failed != nil && (len(failed.Detail) > 400 || !strings.Contains(failed.Detail, c.detail)):
			t.Errorf("%s: got %q", c.name, failed.Detail)
		}
		most = max(most, heapInUse())
	}
	if most > before+8<<20 {
		t.Errorf("the heap of the parent grew by %d bytes", most-before)
	}
}

// watchLongest looks at the jobs that run until the function that it returns is called, which returns the longest that one has taken.
func watchLongest(p *Pool) func() time.Duration {
	stop, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var most time.Duration
		for {
			p.mu.Lock()
			for at := range p.schedule.active {
				most = max(most, at.watch.took())
			}
			p.mu.Unlock()
			select {
			case <-tick.C:
			case <-stop:
				longest <- most
				return
			}
		}
	}()
	return func() time.Duration { close(stop); return <-longest }
}

// heapInUse returns the size of this process's heap, garbage included.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
