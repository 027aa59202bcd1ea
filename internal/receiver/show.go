package receiver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"hookbolt/engine/send"
	"hookbolt/internal/text"
)

const (
	// maxIndented is the depth of JSON up to which it is indented: the text grows with each level, and a payload has five.
	maxIndented = 20
	// maxShown is how much of any other body is printed, in bytes.
	maxShown = 4 << 10
)

const clock = "15:04:05.000"

// show prints a request, without control characters for the terminal.
func (rec *Receiver) show(r *http.Request, got Receipt, readErr error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  ", got.At.Format(clock))
	if rec.opts.Name != nil {
		fmt.Fprintf(&b, "%s  ", text.Printable(rec.opts.Name(got)))
	} else {
		fmt.Fprintf(&b, "%s %s  ", text.Printable(r.Method), text.Printable(r.URL.EscapedPath()))
	}
	if got.ID == "" {
		b.WriteString("no webhook-id  ")
	} else {
		b.WriteString(text.Printable(got.ID) + "  ")
		if kind := r.Header.Get(send.HeaderKind); kind != "" && rec.opts.Name == nil {
			b.WriteString(text.Printable(kind) + "  ")
		}
		fmt.Fprintf(&b, "attempt %d  ", got.Attempt)
	}
	switch {
	case got.Verdict == nil:
		b.WriteString("signature ok")
	case errors.Is(got.Verdict, ErrUnchecked):
		b.WriteString("signature not checked (start with -secret to check)")
	default:
		fmt.Fprintf(&b, "signature WRONG: %v", got.Verdict)
	}
	fmt.Fprintf(&b, "  answered %d", got.Status)
	if rec.opts.Delay > 0 {
		fmt.Fprintf(&b, " after %s", rec.opts.Delay)
	}
	b.WriteByte('\n')
	b.WriteString(pretty(got.Body))
	if readErr != nil {
		fmt.Fprintf(&b, "[the body ended early: %v]\n", readErr)
	}
	b.WriteByte('\n')
	io.WriteString(rec.out, b.String())
}

// pretty returns a body for people: JSON is indented, anything else is cut at maxShown.
func pretty(body []byte) string {
	if len(bytes.TrimSpace(body)) == 0 {
		return "[no body]\n"
	}
	var b bytes.Buffer
	if depth(body) <= maxIndented && json.Indent(&b, body, "", "  ") == nil {
		return text.Printable(b.String()) + "\n"
	}
	if len(body) > maxShown {
		return fmt.Sprintf("%s\n[and %d more bytes]\n", text.Printable(string(body[:maxShown])), len(body)-maxShown)
	}
	return text.Printable(string(body)) + "\n"
}

// depth returns how deep a body nests, if it is JSON.
func depth(body []byte) int {
	most, now, quoted := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case quoted:
		case c == '[' || c == '{':
			now++
			most = max(most, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return most
}
