package ui

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"hookbolt/engine"
)

// attemptView is an attempt as the page of its delivery shows it.
type attemptView struct {
	engine.Attempt
	// N counts from 1. Class is ok or bad. Outcome is a word or a status. Why explains a failed attempt.
	N                   int
	Class, Outcome, Why string
	RepeatedWhy         string // why the request was sent once more
	Phases              []phaseBar
	Method              string               // of the request; "" if nothing was sent
	Header              []engine.HeaderField // as sent
	Answer              string               // header and beginning of the body, made printable
	Next                string
}

// phaseBar is a phase of an attempt. From and Width are percentages of the attempt's duration.
type phaseBar struct {
	Name, Class string
	Took        time.Duration
	From, Width float64
}

func viewAttempt(d *engine.Delivery, a *engine.Attempt, n int) attemptView {
	v := attemptView{Attempt: *a, N: n, Class: "ok", Outcome: outcome(a.Status, a.Error), Phases: waterfall(a), Method: a.RequestMethod(), Header: a.RequestHeader(d),
		Answer: answerText(a), Next: nextWords[a.NextReason], RepeatedWhy: repeatWords[a.Repeated]}
	if !a.Delivered() {
		v.Class, v.Why = "bad", sentence(because(a))
	}
	return v
}

// answerText is the stored part of a response: its header, an empty line, its body.
func answerText(a *engine.Attempt) string {
	var b strings.Builder
	for _, f := range a.ResponseHeader {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
	}
	if b.Len() > 0 && len(a.Response) > 0 {
		b.WriteByte('\n')
	}
	b.Write(a.Response)
	return printable(b.String())
}

// sentence starts text with a capital and ends it with a full stop.
func sentence(words string) string {
	if words == "" {
		return ""
	}
	return strings.ToUpper(words[:1]) + strings.TrimSuffix(words[1:], ".") + "."
}

// errorWords describe the classes of errors.
var errorWords = map[engine.ErrorClass]string{
	engine.ErrorTimeout:        "the attempt timed out",
	engine.ErrorDNS:            "the host name was not found",
	engine.ErrorAddressRefused: "the address is not public and not allowed",
	engine.ErrorRefused:        "no connection to the endpoint",
	engine.ErrorReset:          "the connection ended too early",
	engine.ErrorTLS:            "the TLS handshake failed, or the certificate is invalid",
	engine.ErrorProtocol:       "the response is not HTTP",
	engine.ErrorTooLarge:       "the response header is too large",
	engine.ErrorOAuth:          "the token endpoint issued no token",
	engine.ErrorInternal:       "hookbolt could not build the payload or the request",
}

// because says why an attempt failed.
func because(a *engine.Attempt) string {
	if a.Error == engine.ErrorStatus {
		return a.ErrorDetail // "the endpoint answered 503 Service Unavailable"
	}
	words := errorWords[a.Error]
	if a.ErrorDetail == "" {
		return words
	}
	return words + ": " + printable(a.ErrorDetail)
}

// nextWords explain the time of the next attempt.
var nextWords = map[engine.NextReason]string{
	engine.NextBySchedule:   "by the retry schedule",
	engine.NextByRetryAfter: "as the token endpoint asked (Retry-After)",
	engine.NextByThrottle:   "when the endpoint takes load again",
	engine.NextByToken:      "at once, with a new OAuth token",
	engine.NextExhausted:    "The retry schedule has ended.",
	engine.NextCancelled:    "It was cancelled during the attempt.",
	engine.NextQueuedAgain:  "It was queued again by hand during the attempt.",
}

// repeatWords explain why a request was sent once more.
var repeatWords = map[engine.Repeat]string{
	engine.RepeatClosed:  "A reused connection was closed before the response began. The request was sent again at once, on a new one.",
	engine.RepeatRefused: "The peer had not processed the request (HTTP/2). It was sent again at once, on a new connection.",
	engine.RepeatHTTP1:   "The peer wants HTTP/1.1 (HTTP_1_1_REQUIRED). The request was sent again at once, over HTTP/1.1.",
	engine.RepeatLost:    "A reused connection was dead: it did not answer a ping (HTTP/2). The request was sent again at once, on a new one.",
}

// waterfall returns the phases of an attempt in their order.
func waterfall(a *engine.Attempt) []phaseBar {
	if a.Duration <= 0 {
		return nil
	}
	var bars []phaseBar
	at := time.Duration(0)
	add := func(name, class string, took time.Duration) {
		took = min(took, a.Duration-at)
		if took <= 0 {
			return
		}
		bars = append(bars, phaseBar{name, class, took, 100 * float64(at) / float64(a.Duration), 100 * float64(took) / float64(a.Duration)})
		at += took
	}
	add("OAuth token", "off", a.Phases.Token)
	add("DNS lookup", "info", a.Phases.DNS)
	add("connection", "warn", a.Phases.Connect)
	add("TLS", "off", a.Phases.TLS)
	if a.Phases.FirstByte == 0 {
		add("no response", "bad", a.Duration-at)
		return bars
	}
	add("waiting", "ok", a.Phases.FirstByte-at)
	add("response", "info", a.Duration-at)
	return bars
}

// printable replaces what cannot be shown in a response, or could control a terminal, by a mark.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\n' && c != '\t' || unicode.Is(unicode.Bidi_Control, c) {
			return '·'
		}
		return c
	}, strings.ToValidUTF8(strings.ReplaceAll(s, "\r\n", "\n"), "\uFFFD"))
}

// curlCommand returns a command for a POSIX shell that sends an attempt's request to a webhook's endpoint. target is its URL, with its values. placeholders reports whether it has placeholders
// for credentials. The payload goes through a pipe, because it may be longer than an argument can be.
func curlCommand(w *engine.Webhook, target string, fields []engine.HeaderField, payload []byte) (command string, placeholders bool) {
	var b strings.Builder
	if w.SendsBody() {
		fmt.Fprintf(&b, "printf %%s %s \\\n| ", shellQuote(string(payload)))
	}
	b.WriteString("curl -i -g ")
	if w.Method != "" && w.SendsBody() { // curl itself chooses POST with a body, and GET without
		fmt.Fprintf(&b, "-X %s ", w.Method)
	}
	b.WriteString(shellQuote(target))
	for _, f := range fields {
		value := f.Value
		if value == "…" {
			value, placeholders = "FILL-IN", true
		}
		fmt.Fprintf(&b, " \\\n  -H %s", shellQuote(f.Name+": "+value))
	}
	if w.SendsBody() {
		b.WriteString(" \\\n  --data-binary @-")
	}
	return b.String(), placeholders
}

// shellQuote quotes text for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
