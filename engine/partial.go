package engine

import (
	"slices"
	"strings"
	"time"

	"hookbolt/engine/jsonread"
)

// A partial request comes from a client that cannot send again, such as a page that ends. Of its events, those are stored that can be: a bad
// event does not refuse the others, and an optional field that cannot be read does not refuse its event. The event is stored as it was received.
// So what is left out is decided each time that it is read, and must not change: whoever teaches the reader a new form of a value changes
// the sessions that are stored.

// maxSkippedEvents bounds how many bad events of a partial request are skipped. An error costs more than an event, and a page sends fewer events.
const maxSkippedEvents = 1000

// partialEvents are the events of a partial request.
type partialEvents struct {
	// valid has the events to store.
	valid []Event
	// refused says what is wrong with the others, at most 100.
	refused InputErrors
	// leftOut says what is wrong with the fields that were left out of valid events, at most 100. fieldsLeftOut is how many there are.
	leftOut       InputErrors
	fieldsLeftOut int
	// seen is how many events were read, bad ones included.
	seen int
}

// parsePartialEvents is parseEvents for a partial request. The error is an InputErrors if the request cannot be read, or has more than
// maxSkippedEvents bad events. Of the result only seen is set then.
func parsePartialEvents(body []byte, now time.Time) (partialEvents, error) {
	p := eventParser{Reader: jsonread.New(body), body: body, now: now.UTC().Round(0), checkTimes: true, skipBad: true, leaveOut: true}
	p.run()
	if p.unreadable != nil {
		return partialEvents{seen: p.index}, p.unreadable
	}
	return partialEvents{valid: p.events, refused: p.errs, leftOut: p.leftOut, fieldsLeftOut: p.fieldsLeftOut, seen: p.index}, nil
}

// settleRefused takes in which events their sessions have refused: of these nothing was stored, so nothing was left out of them. If a session
// lacks what was left out, the reason for that is the better one.
func (e *partialEvents) settleRefused(bySessions InputErrors) {
	if len(e.leftOut) > 0 {
		for i := range bySessions {
			e.takeRefused(&bySessions[i])
		}
	}
	e.refused = append(e.refused, bySessions...)
}

func (e *partialEvents) takeRefused(bad *InputError) {
	before := len(e.leftOut)
	e.leftOut = slices.DeleteFunc(e.leftOut, func(field InputError) bool {
		if field.Index == bad.Index && field.Field == bad.Field {
			bad.Detail = field.Detail
		}
		return field.Index == bad.Index
	})
	e.fieldsLeftOut -= before - len(e.leftOut)
}

// readPartly reads an event once more that was wrong when it was read strictly, and leaves out what can be left out. Strict reading comes first
// since nearly all events are right, and since what belongs to an event depends on its type, which may be its last field. It returns why
// the event is refused all the same, nil if it is not.
func (p *eventParser) readPartly(start int, ev *Event, wrong *jsonread.Error) *jsonread.Error {
	if !slices.Contains(eventTypes, ev.Type) {
		return wrong
	}
	*ev = Event{Type: ev.Type, Index: ev.Index, ReceivedAt: ev.ReceivedAt, JSON: ev.JSON}
	leftOut, count := len(p.leftOut), p.fieldsLeftOut
	var f eventFields
	p.partly = true
	p.AllowUnknown(true)
	p.Rewind(start)
	p.Object(func(key []byte) bool { return p.member(ev, &f, key) })
	p.AllowUnknown(false)
	p.check(ev, &f)
	p.partly = false
	refused := p.TakeError()
	if refused != nil {
		if ev.Lead != nil && *ev.Lead == (Lead{}) && refused.Field == "lead" {
			refused = p.whyEmpty(p.leftOut[leftOut:], refused)
		}
		p.leftOut, p.fieldsLeftOut = p.leftOut[:leftOut], count
	}
	return refused
}

// whyEmpty returns what is wrong with the first field of a lead of which nothing is left, otherwise the error itself.
func (p *eventParser) whyEmpty(leftOut InputErrors, empty *jsonread.Error) *jsonread.Error {
	for _, field := range leftOut {
		if strings.HasPrefix(field.Field, "lead.") {
			return &jsonread.Error{Field: field.Field, Detail: field.Detail + "; nothing else is in the lead"}
		}
	}
	return empty
}

// skipsRest skips the next value if the event is refused already. So an error that unread finds is about the value that was just read.
func (p *eventParser) skipsRest() bool { return p.partly && p.skipIfFailed() }

func (p *eventParser) skipIfFailed() bool {
	if !p.Failed() {
		return false
	}
	p.Skip()
	return true
}

// unread leaves out an optional field whose value was just read and is wrong. It reports whether it did, so that the caller unsets the field.
func (p *eventParser) unread() bool { return p.partly && p.leaveOutFailed() }

func (p *eventParser) leaveOutFailed() bool {
	if !p.Failed() {
		return false
	}
	wrong := p.TakeError()
	if p.fieldsLeftOut++; len(p.leftOut) < maxInputErrors {
		p.leftOut = append(p.leftOut, InputError{Index: p.index, Field: wrong.Field, Detail: wrong.Detail})
	}
	return true
}

// read returns the value of an optional field that was just read; nil if it is left out.
func read[T any](p *eventParser, value T) *T {
	if p.unread() {
		return nil
	}
	return &value
}

// unknown returns false, for a field that no event has. If it can be left out, it is. A body may consist of such fields, so what is not reported
// costs no message.
func (p *eventParser) unknown() bool {
	switch {
	case !p.partly, p.Failed():
	case len(p.leftOut) == maxInputErrors:
		p.fieldsLeftOut++
	default:
		p.Fail("unknown field")
		p.unread()
	}
	return false
}

// misplaced leaves out a field that does not belong to the event's type, and skips its value.
func (p *eventParser) misplaced(of EventType, field typedField) bool {
	if field.types == nil || slices.Contains(field.types, of) {
		return false
	}
	p.Skip()
	p.Fail("does not belong to an event of type %s", of)
	return p.unread()
}

// separate leaves out what describes a single answer beside a list of answers, unless it names that answer: then nobody knows which is meant.
func (p *eventParser) separate(f *eventFields) {
	if !p.partly || p.Failed() || !f.list || f.answerID {
		return
	}
	for _, field := range []struct {
		name  string
		value **string
	}{{"answer", &f.answer.Answer}, {"parent", &f.answer.Parent}, {"addon", &f.answer.Addon}} {
		if *field.value != nil {
			p.FailAt(field.name, "belongs to a single answer, and must not stand beside answers")
			p.unread()
		}
	}
	f.short = false
}

// leftOutDetail is said of each field that was left out, behind what is wrong with it.
const leftOutDetail = "; the field was left out, and the event was stored"

// describe completes what is said of the fields that were left out.
func (e *partialEvents) describe() InputErrors {
	for i := range e.leftOut {
		e.leftOut[i].Detail += leftOutDetail
	}
	return e.leftOut
}
