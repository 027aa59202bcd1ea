package ui

import (
	"fmt"
	"strings"

	"hookbolt/engine"
)

// sentView is what a webhook would send for a session, for the template part "sent".
type sentView struct {
	// Status says in a sentence what would become of the session; Class is the class of the sentence: ok, warn or bad.
	Status, Class string
	// Passes tells whether something would be sent. If not, all but Payload is "".
	Passes      bool
	Method, URL string
	ContentType string
	Headers     string
	// Body and Payload are indented for reading if they are JSON. If they are too long for the page, they have only their beginning.
	Body, Payload string
	Cut           bool
	// Shaped means that the body is not the payload.
	Shaped bool
}

// maxPreviewShown is how many bytes of a body or payload a preview shows. It is made again and again while somebody types.
const maxPreviewShown = 64 << 10

// viewSent prepares a preview for a page.
func viewSent(p *engine.Preview) *sentView {
	v := &sentView{Passes: p.Passes, Method: p.Method, URL: p.URL, ContentType: p.ContentType, Headers: strings.Join(p.Header, ", ")}
	var cutBody, cutPayload bool
	v.Payload, cutPayload = beginning(pretty(p.Payload))
	switch {
	case p.Error != nil:
		v.Class, v.Status = "bad", "Nothing would be sent: "+programFails(p.Error)
		return v
	case !p.Passes:
		v.Class, v.Status = "warn", fmt.Sprintf("Nothing would be sent: the %s gives nothing for this session.", p.StoppedBy)
		if p.StoppedBy == "filter" {
			v.Status = "Nothing would be sent: the filter does not let this session through."
		}
		return v
	}
	v.Class, v.Status = "ok", "This would be sent: "+byteSize(int64(len(p.Body)))
	if p.ContentType == "" {
		v.Status = "This would be sent: no body, but the URL"
	}
	if p.Steps > 0 {
		v.Status += fmt.Sprintf(", made in %s of %s steps", thousands(int64(p.Steps)), thousands(engine.MaxProgramSteps))
	}
	v.Status += "."
	v.Shaped = string(p.Body) != string(p.Payload)
	body := string(p.Body)
	if p.IsJSON() {
		body = pretty(p.Body)
	}
	v.Body, cutBody = beginning(body)
	v.Cut = cutBody || cutPayload
	return v
}

// programFails says which program fails, where and why.
func programFails(e *engine.InputError) string {
	return fmt.Sprintf("the %s fails%s: %s", e.Field, inLine(e), sentenceEnd(e.Detail))
}

// inLine says where in a program an error is; "" if that is not known.
func inLine(e *engine.InputError) string {
	if e.Line == 0 {
		return ""
	}
	return fmt.Sprintf(" in line %d, column %d", e.Line, e.Column)
}

func sentenceEnd(text string) string { return strings.TrimSuffix(text, ".") + "." }

// beginning cuts a text that is too long to be shown, at a line if there is one.
func beginning(text string) (shown string, cut bool) {
	if len(text) <= maxPreviewShown {
		return text, false
	}
	text = text[:maxPreviewShown]
	if end := strings.LastIndexByte(text, '\n'); end > 0 {
		return text[:end], true
	}
	return strings.ToValidUTF8(text, ""), true
}

// caretWidth is how much of a line is shown before and after an error.
const caretWidth = 36

// caret shows the line of a program in which an error is, with a mark below its column. Both count from 1; "" if there is no such line.
func caret(program string, line, column int) string {
	lines := strings.Split(strings.ReplaceAll(strings.ReplaceAll(program, "\r\n", "\n"), "\r", "\n"), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	text := []rune(strings.ReplaceAll(printable(lines[line-1]), "\t", " "))
	at := max(0, min(column-1, len(text)))
	before, after := "", ""
	if end := at + caretWidth; len(text) > end {
		text, after = text[:end], "…"
	}
	if start := at - caretWidth; start > 0 {
		text, before, at = text[start:], "…", at-start+1
	}
	number := fmt.Sprintf("%d | ", line)
	return number + before + string(text) + after + "\n" + strings.Repeat(" ", len(number)+at) + "^"
}
