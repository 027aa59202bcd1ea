package transform

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// mistakesFile has a program on a line, \n for its ends of lines, and below it, indented, what hookbolt says to it.
const mistakesFile = "testdata/mistakes.txt"

// What is wrong, where, and what would be right, stands in the message; somebody who has read it can mend the program.
func TestMistakes(t *testing.T) {
	payload, err := os.ReadFile(samplePayload)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(mistakesFile)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for line := range strings.Lines(string(file)) {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		program := strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t").Replace(strings.TrimSuffix(line, "\n"))
		r, err := Eval(Job{Programs: Programs{Transform: program}, Payload: payload})
		said := "gives " + string(r.Body)
		if err != nil {
			said = strings.TrimPrefix(err.Error(), "transform: ")
		}
		if !utf8.ValidString(said) || strings.ContainsAny(said, "\n\t") || len(said) > 2*maxMessageBytes {
			t.Errorf("%s: the message is no line of text: %q", program, said)
		}
		got.WriteString(line + "\t" + said + "\n")
	}
	if *update {
		if err := os.WriteFile(mistakesFile, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got.String() != string(file) {
		t.Errorf("got\n%s\nRun with -update and look at the difference.", got.String())
	}
}

// A message quotes little of a visitor's data, whatever the program does with it.
func TestMessagesQuoteLittle(t *testing.T) {
	const secret = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"
	payload := []byte(`{"s":"` + secret + `","o":{"` + secret + `":"` + secret + `"},"l":["` + secret + `","` + secret + `"]}`)
	for _, program := range []string{`.s + 1`, `.s[]`, `.s.x`, `.l.x`, `.o[0]`, `.s - .s`, `.o * .s`, `.s | tonumber`, `.s | fromjson`, `.s | fromdate`,
		`.s | strptime("%Y")`, `.s as $s | .o | ltrimstr($s)`, `.o | test($__x)`, `.s | test("(" + .)`, `.o | has(1)`, `.s as $s | .l | .[$s] = $s`,
		`setpath([.s]; .s) | setpath([.s, .s]; .s)`, `.o | error`, `[.s] | implode`, `.s | ascii(.)`, `{(.l): 1}`, `.s | mktime`, `(.s | length) = 1`,
		`.s as $s | .o | delpaths([[$s, $s]])`, `.l | join({})`, `.s | splits(1)`, `.s | @csv`, `[.o] | @csv`, `.s | strftime(.)`, `.s as $s | $s | format($s)`,
		`.l | min_by(.x)`, `.s | ltrimstr(1) | .[.s]`, `.s | getpath(["a"])`, `.s as [$x] | $x`} {
		_, err := Eval(Job{Programs: Programs{Transform: program}, Payload: payload})
		failed, _ := errors.AsType[*Error](err)
		if failed == nil {
			t.Errorf("%s: no error", program)
			continue
		}
		quoted := 0
		for i := range secret {
			for n := len(secret) - i; n > 3; n-- {
				if strings.Contains(failed.Detail, secret[i:i+n]) {
					quoted = max(quoted, n*strings.Count(failed.Detail, secret[i:i+n]))
				}
			}
		}
		if quoted > 40 {
			t.Errorf("%s quotes %d characters: %s", program, quoted, failed.Detail)
		}
	}
}
