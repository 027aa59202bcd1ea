package ui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hookbolt/engine"
)

// timelineEvent is an event of a session, described in words.
type timelineEvent struct {
	// N is its place in the order of arrival. Later events do not change it.
	N  int
	At time.Time
	// Received is when hookbolt received it.
	Received time.Time
	// Since is the time since the session's start.
	Since time.Duration
	Type  string
	// Text says what the visitor did. It may contain the visitor's own text.
	Text string
	// JSON is the event as it was received.
	JSON string
	// Missing reports that the payload of the delivery whose timeline it is lacks the event, NotSent that it was counted as late: no later
	// payload of the session has it either.
	Missing, NotSent bool
}

// markMissing sets Missing and NotSent of the events of a delivery's timeline. deliveries are those of its session.
func markMissing(list []timelineEvent, d *engine.Delivery, deliveries []engine.Delivery) {
	if d.FrozenAt.IsZero() {
		return
	}
	told := d.BuiltFrom // how many events this payload or a later one has
	for i := range deliveries {
		if o := &deliveries[i]; o.WebhookID == d.WebhookID && o.Overtakes(d) {
			told = max(told, o.BuiltFrom)
		}
	}
	for i := range list {
		h := &list[i]
		h.Missing = d.Kind == engine.KindIncomplete && h.At.After(d.AsOf) || h.cameAfter(d)
		h.NotSent = h.Missing && d.LateEvents > 0 && h.N >= told
	}
}

// cameAfter reports whether the event came after the payload of a delivery of its session was built.
func (h *timelineEvent) cameAfter(d *engine.Delivery) bool {
	if d.BuiltFrom == 0 { // it was built before hookbolt stored from how many events
		return h.Received.After(d.FrozenAt)
	}
	return h.N >= d.BuiltFrom
}

// timelineEvents returns a session's events in the order of the fold: by time, then by arrival.
func timelineEvents(events []engine.Event, startedAt time.Time) []timelineEvent {
	list := make([]timelineEvent, len(events))
	for i := range events {
		ev := &events[i]
		list[i] = timelineEvent{N: i, At: ev.Time, Received: ev.ReceivedAt, Since: ev.Time.Sub(startedAt), Type: string(ev.Type), Text: sayEvent(ev), JSON: string(ev.JSON)}
	}
	slices.SortStableFunc(list, func(a, b timelineEvent) int { return a.At.Compare(b.At) })
	return list
}

// Offset writes the time since the session's start.
func (h timelineEvent) Offset() string { return offset(h.Since) }

// offset writes a time before or after the start of a timeline.
func offset(d time.Duration) string {
	if d < 0 {
		return "−" + roughly(-d)
	}
	return "+" + roughly(d)
}

// sayEvent describes the content of an event.
func sayEvent(ev *engine.Event) string {
	switch ev.Type {
	case engine.EventVote:
		answers := make([]string, len(ev.Answers))
		for i, a := range ev.Answers {
			answers[i] = titled(a.Answer, a.ID)
		}
		return titled(ev.Question, ev.QuestionID) + " → " + strings.Join(answers, ", ")
	case engine.EventUndo:
		if ev.AnswerID == nil {
			return fmt.Sprintf("all answers to question %d", ev.QuestionID)
		}
		return fmt.Sprintf("answer %d to question %d", *ev.AnswerID, ev.QuestionID)
	case engine.EventLead:
		return sayLead(ev.Lead)
	case engine.EventResultView:
		return titled(ev.Result.Title, ev.Result.ID)
	}
	return ""
}

// titled is a title with its id, or the id alone.
func titled(title *string, id int64) string {
	if title == nil || *title == "" {
		return "#" + strconv.FormatInt(id, 10)
	}
	return *title + " (#" + strconv.FormatInt(id, 10) + ")"
}

// sayLead joins what was filled in.
func sayLead(l *engine.Lead) string {
	var parts []string
	for _, s := range []*string{l.Name, l.Email, l.Phone, l.Comment, l.Addon} {
		if s != nil && *s != "" {
			parts = append(parts, *s)
		}
	}
	if l.TCChecked != nil && *l.TCChecked {
		parts = append(parts, "terms accepted")
	}
	return strings.Join(parts, ", ")
}

// group names the kinds of events that may be frequent in a session; "" for others. Those that a payload lacks are a group of their own, so
// that the others do not hide them.
func (h timelineEvent) group() string {
	name := ""
	switch engine.EventType(h.Type) {
	case engine.EventVote, engine.EventUndo:
		name = "votes"
	case engine.EventLead:
		name = "leads"
	default:
		return ""
	}
	if h.Missing {
		return "later " + name
	}
	return name
}

// ReceivedLater reports whether the event was received more than a second before or after its time.
func (h timelineEvent) ReceivedLater() bool { return h.Received.Sub(h.At).Abs() >= time.Second }
